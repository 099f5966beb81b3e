"""The reproduction of Janardhan and Thomas."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from gliolens.case import CaseRow
from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError
from gliolens.io.nifti import read_volume, write_volume
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.methods.segmentation_fusion import Config
from gliolens.papers.janardhan2025.parts import Parts, Sides
from gliolens.papers.janardhan2025.reproduction import PUBLISHED, reproduce
from gliolens.papers.janardhan2025.slices import Part
from gliolens.report.sweep import sweep_figure
from gliolens.slice_namer import slice_scores

QUICK = {
    "edge": 32, "voxel_mm": 6.0, "widths_2d": (8, 16), "widths_3d": (8, 16), "epochs_2d": 4, "epochs_3d": 4,
    "epochs_slices": 2, "slices": 6, "rate": 5e-3,
}  # fmt: skip


@given(st.integers(0, 2**32 - 1))
def test_scores_of_slices_against_scikit_learn(seed):
    """Means over the tissues that occur: specificity is the recall of what each tissue is not."""
    rng = np.random.default_rng(seed)
    truth, told = rng.integers(0, rng.integers(2, 5), 60), rng.integers(0, 4, 60)
    found, occur = slice_scores(truth, told), np.unique(truth)
    assert found["recall"] == pytest.approx(np.mean([np.mean(told[truth == k] == k) for k in occur]))
    if len(occur) > 1:
        each = [recall_score(truth != k, told != k) for k in occur]
        assert found["specificity"] == pytest.approx(np.mean(each))


def test_all_right_is_one_everywhere_and_one_tissue_alone_has_no_specificity():
    truth = np.array([0, 0, 1, 2, 3])
    assert slice_scores(truth, truth) == dict.fromkeys(
        ("accuracy", "precision", "recall", "f1", "specificity"), 1
    )
    nothing = slice_scores(truth, np.zeros(5, int))
    assert nothing["accuracy"] == pytest.approx(0.4)
    assert nothing["recall"] == pytest.approx(0.25)
    assert nothing["specificity"] == pytest.approx(
        0.75
    )  # of three tissues all others are spared, of none nobody


def test_slices_divided_at_random_are_on_one_side_each():
    rng = np.random.default_rng(0)
    arrays = {"image": rng.random((2, 8, 8, 40)) + 0.1, "labels": np.ones((8, 8, 40), np.uint8)}
    parts = Parts(Sides([arrays] * 3, [], [arrays], [CaseRow("a", "a")]), 4, Config(), 0, Path())
    learn, test = (Part(arrays, parts, 0, test=test) for test in (False, True))
    sides = [np.any(a["image"], axis=(0, 1, 2)) for a in (learn, test)]
    assert (sides[0] ^ sides[1]).all()
    assert 2 < sides[1].sum() < 20
    for side, a in zip(sides, (learn, test), strict=True):
        assert (np.any(a["labels"], axis=(0, 1)) == side).all()


def test_the_sweep_is_a_picture():
    rows = [{"a": a, "u": a, "v": 1 - a} for a in (0.0, 0.5, 1.0)]
    assert sweep_figure(rows, "a", {"first": "u", "second": "v"}, 0.6, "a", "Dice").startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("p"), 16, seed=2, config=PhantomConfig(spacing_mm=6.0))


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    return reproduce(cohort, tmp_path_factory.mktemp("out"), scale="demo", settings=QUICK)


def test_every_experiment_has_its_table(done):
    told = json.loads((done.folder / "results.json").read_text())
    assert sum(told["cases"].values()) == 16
    assert told["published"] == PUBLISHED
    names = list(dict.fromkeys(row["outline"] for row in told["outlines"]))
    assert names[:3] == ["2-D only", "3-D only", "fused, a = 0.6"]
    assert [row["region"] for row in told["outlines"][:3]] == ["whole", "core", "enhancing"]
    assert len(told["outlines"]) == 3 * len(names)
    sweep = pd.read_csv(done.folder / "sweep.csv")
    assert sweep["a"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert {(row["loss"], row["outline"]) for row in told["losses"]} >= {
        ("focal", "2-D only"),
        ("cross-entropy", "3-D only"),
    }
    assert [row["slices named by"] for row in told["slices"]] == [
        "ResNet, dice loss", "ResNet, cross-entropy loss", "read off the fused outline", "always: no tumour",
    ]  # fmt: skip
    assert [row["divided by"] for row in told["leak"]] == ["patient", "slice: a leak"]


def test_ends_of_the_sweep_are_the_networks_alone(done):
    """The same mean Dice as in the table of speed, which asks one network only."""
    speeds = {row["setting"]: row for row in done.results["speed"]}
    for place, name in ((0, "3-D only"), (10, "2-D only")):
        assert done.results["shares"][place]["to test"] == pytest.approx(
            speeds[name]["Dice, test"].value, abs=1e-3
        )


def test_the_fastest_setting_was_chosen_on_others(done):
    reading, *rows = done.results["speed"]
    assert reading["seconds"] > 0
    marked = [row for row in rows if row[""]]
    assert len(marked) == 1
    good = [row for row in rows if row["Dice, others"] >= max(r["Dice, others"] for r in rows) - 0.0105]
    assert marked[0]["seconds"] <= min(row["seconds"] for row in good) + 1e-3


def test_networks_of_another_seed_are_not_taken(done, cohort):
    """Else patients that they learnt from would be tested."""
    with pytest.raises(ConfigError, match="another seed"):
        reproduce(cohort, done.folder, scale="demo", settings=QUICK, seed=1)


def test_settings_that_are_tried_are_refused(cohort, tmp_path):
    with pytest.raises(ConfigError, match="loss, share"):
        reproduce(cohort, tmp_path, scale="demo", settings={**QUICK, "share": 0.5, "loss": "focal"})


def test_masks_of_the_whole_tumour_alone_are_enough(cohort, tmp_path):
    rows = [replace(row, mask_scheme="binary", mask=binary(row, tmp_path)) for row in read_cohort(cohort)]
    write_cohort(tmp_path / "cohort.csv", rows)
    told = reproduce(tmp_path / "cohort.csv", tmp_path / "out", scale="demo", settings=QUICK).results
    assert {row["region"] for row in told["outlines"]} == {"whole"}
    assert {*told["losses"][0]} == {"loss", "outline", "n", "Dice, whole"}


def binary(row, folder):
    mask = read_volume(row.mask, row.case).volume
    file = folder / f"{row.case}-mask.nii.gz"
    write_volume(file, replace(mask, voxels=(mask.voxels > 0).astype(np.uint8)), mask.grid)
    return file


def test_the_page_shows_all_tables(done):
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    for title in ("Outlines", "The share of the 2-D network", "Slices", "What a leak is worth", "99.25 %"):
        assert title in page


def test_a_second_run_trains_nothing(done, cohort, monkeypatch):
    monkeypatch.setattr("gliolens.segmenter.train", None)
    monkeypatch.setattr("gliolens.slice_namer.train", None)
    again = reproduce(cohort, done.folder, scale="demo", settings=QUICK)
    assert again.results["shares"] == done.results["shares"]


def test_settings_of_another_paper_are_refused(cohort, tmp_path, capsys):
    words = ["reproduce", "janardhan2025", str(cohort), "-o", str(tmp_path), "--encoder", "random"]
    assert main(words) == 2
    assert "encoder" in capsys.readouterr().err
