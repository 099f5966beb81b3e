"""The reproduction of Janardhan and Thomas."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.methods.segmentation_fusion import Config
from gliolens.papers.janardhan2025.parts import Parts, Sides
from gliolens.papers.janardhan2025.reproduction import PUBLISHED, reproduce
from gliolens.papers.janardhan2025.slices import divided_at_random
from gliolens.report.sweep import sweep_figure
from gliolens.slice_namer import slice_scores

QUICK = {
    "edge": 32, "voxel_mm": 6.0, "widths_2d": (8, 16), "widths_3d": (8, 16), "epochs_2d": 4, "epochs_3d": 4,
    "epochs_slices": 2, "slices": 6, "rate": 5e-3,
}  # fmt: skip


@given(st.integers(0, 2**32 - 1))
def test_scores_of_slices_against_scikit_learn(seed):
    """Weighted recall is accuracy; weighted specificity is the recall of what each tissue is not."""
    rng = np.random.default_rng(seed)
    truth, told = rng.integers(0, 4, (2, 60))
    found = slice_scores(truth, told, 4)
    assert found["recall"] == pytest.approx(found["accuracy"])
    each = [recall_score(truth != k, told != k) for k in range(4)]
    assert found["specificity"] == pytest.approx(np.average(each, weights=np.bincount(truth, minlength=4)))


def test_all_right_is_one_everywhere_and_one_tissue_alone_has_no_specificity():
    truth = np.array([0, 0, 1, 2, 3])
    assert slice_scores(truth, truth, 4) == dict.fromkeys(
        ("accuracy", "precision", "recall", "f1", "specificity"), 1
    )
    nothing = slice_scores(truth, np.zeros(5, int), 4)
    assert nothing["accuracy"] == pytest.approx(0.4)
    assert nothing["specificity"] == pytest.approx(
        0.6
    )  # of three tissues all others are spared, of none nobody


def test_slices_divided_at_random_are_on_one_side_each():
    rng = np.random.default_rng(0)
    arrays = {"image": rng.random((2, 8, 8, 40)) + 0.1, "labels": np.ones((8, 8, 40), np.uint8)}
    parts = Parts(Sides([arrays] * 3, [], [arrays]), 4, Config(), 0, Path())
    learn, test = divided_at_random(arrays, parts, 0)
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
    assert told["patients"]["learn"] + told["patients"]["choose"] + told["patients"]["test"] == 16
    assert told["published"] == PUBLISHED
    assert [row["outline"] for row in told["outlines"]][:3] == ["2-D only", "3-D only", "fused, a = 0.6"]
    assert len(told["outlines"]) == 5
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
    """Mean Dice over regions: where every region is there in every test patient, the two tables say the same."""
    for place, name in ((0, "3-D only"), (10, "2-D only")):
        row = next(r for r in done.results["outlines"] if r["outline"] == name)
        regions = [v.value for k, v in row.items() if k.startswith("Dice")]
        assert done.results["shares"][place]["to test"] == pytest.approx(np.mean(regions), abs=0.1)


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
