"""The reproduction of Zeng et al. 2024."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError
from gliolens.io.nifti import read_volume
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.methods import shape_resnet
from gliolens.methods.shape_resnet import Config
from gliolens.papers.zeng2024 import cost, maps
from gliolens.papers.zeng2024.cost import step_mb
from gliolens.papers.zeng2024.networks import ALL, FAIR, MAIN, TABLES, networks, rows_of
from gliolens.papers.zeng2024.reproduction import headlines, reproduce
from gliolens.papers.zeng2024.trials import Trial

QUICK = {"epochs": 1, "slices": 2, "pixels": 36, "pixel_mm": 5.5, "planes": 33}
PAPER = Config.preset("paper")


def of_table(table):
    return {n.name: n for n in rows_of(table, networks(PAPER))}


def test_every_row_of_the_papers_tables_is_there_with_its_published_auc():
    published = {t: [n.published for n in of_table(t).values()] for t in ("1A", "1B", "2", "3")}
    assert published["1A"] == [0.6451, 0.9120, 0.9178, 0.9079, 0.9565]
    assert published["1B"] == [0.8284, 0.9317, 0.9499, 0.9227, 0.9684]
    assert published["2"] == [0.6631, 0.8250, 0.7321, 0.7336, 0.6626]
    assert sorted(published["3"]) == [0.9480, 0.9492, 0.9582, 0.9628, 0.9638, 0.9684]
    names = [n.name for n in networks(PAPER)]
    assert len(set(names)) == len(names)
    assert len({n.folder for n in networks(PAPER)}) == len(names)


def test_each_row_differs_from_the_papers_best_in_what_its_name_says():
    best = of_table("1B")[MAIN].config
    assert best == PAPER
    assert of_table("1A")[f"2-D, {ALL}"].config == replace(best, join="none")
    assert of_table("2")[f"3-D, {ALL}"].config == replace(best, join="none", dims=3, batch=4)
    assert of_table("2")["3-D, FLAIR"].config.series == ("flair",)
    without = {name: n.config for name, n in of_table("3").items()}
    assert without["2-D + shape, no flip"] == replace(best, flip=0.0)
    assert without["2-D + shape, no rotation"] == replace(best, rotate=0.0)
    assert without["2-D + shape, no cyclic shift"] == replace(best, shift=0)
    assert without["2-D + shape, no duplication"] == replace(best, balance="none")


def test_a_cohort_of_three_series_is_not_given_the_numbers_of_four():
    three = {n.name: n.published for n in networks(replace(PAPER, series=("t1", "t1ce", "flair")))}
    assert three["2-D, T1"] == 0.6451
    assert three[MAIN] is None
    assert three["2-D + shape, no flip"] is None
    assert "2-D, T2" not in three
    one = {n.name: n.published for n in networks(replace(PAPER, series=("flair",)))}
    assert one[MAIN] == 0.9227
    assert len(one) == 3 + 5 + 3
    assert {n.published for n in networks(PAPER, "idh")} == {None}


def test_a_step_in_three_dimensions_needs_many_times_the_memory():
    """Weights, gradients and two moments of 23,539,912 numbers are 359 MB; activations come on top."""
    slices = step_mb(PAPER)
    assert pytest.approx(359.2, abs=0.1) == 4 * 4 * 23_539_912 / 2**20
    assert 359 + 4 * 16 * 4 * 160 * 160 / 2**20 < slices < 1965
    one, two, four = (step_mb(replace(PAPER, dims=3, join="none"), b) for b in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=1e-3)
    assert slices / four < 0.087


answered = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=4, max_size=20).filter(
    lambda told: 2 <= sum(t for t, _ in told) <= len(told) - 2
)


@given(answered)
def test_a_rows_scores_follow_from_its_confusion_matrix(told):
    truth, p = (np.array(x) for x in zip(*told, strict=True))
    answers = pd.DataFrame({
        "truth": np.where(truth, "HGG", "LGG"), "decision": np.where(p > 0.5, "HGG", "LGG"), "p_LGG": 1 - p, "p_HGG": p,
        "patient": [f"p{i}" for i in range(len(p))],
    })  # fmt: skip
    trial = Trial(networks(PAPER)[0], answers, 0.5, [0.4, 0.6], Path())
    one, row = trial.confusion(), trial.scores(0)
    assert one.true_positive + one.false_negative == truth.sum()
    assert one.false_positive + one.true_negative == (~truth).sum()
    for name, mine in (("SEN", "sensitivity"), ("SPE", "specificity"), ("Acc", "accuracy"), ("APCA", "apca")):
        assert row[name].value == pytest.approx(one.scores()[mine])
    assert row["AUC"].value == pytest.approx(roc_auc_score(truth, p))
    assert row["AUC, best epoch"] == 0.6


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Twelve patients with two series: every table has rows for each alone and for both."""
    folder = tmp_path_factory.mktemp("p")
    rows = read_cohort(write_phantom(folder, 12, seed=2, config=PhantomConfig(spacing_mm=6.0)))
    two = [replace(row, files={s: row.files[s] for s in ("t1", "flair")}) for row in rows]
    write_cohort(folder / "two.csv", two)
    return folder / "two.csv"


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    """Stopped while its third network was trained, and gone on with."""
    out, fit, calls = tmp_path_factory.mktemp("out"), shape_resnet.fit, iter(range(100))

    def stop(*given):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return fit(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape_resnet, "fit", stop)
        patch.setattr(
            cost, "EPOCHS", 3
        )  # and one network of shuffled weights: enough to see that each is measured
        patch.setattr(maps, "SHUFFLES", 1)
        with pytest.raises(KeyboardInterrupt):
            reproduce(cohort, out, scale="demo", settings=QUICK)
    first = {file: file.stat().st_mtime_ns for file in out.glob("networks/*/answers.csv")}
    assert len(first) == 2
    done = reproduce(cohort, out, scale="demo", settings=QUICK)
    assert all(file.stat().st_mtime_ns == when for file, when in first.items())
    return done


def test_nobody_stands_on_both_sides(done):
    (fold,) = json.loads((done.folder / "splits.json").read_text())["folds"]
    assert not set(fold["train"]) & set(fold["test"])
    for file in done.folder.glob("networks/*/answers.csv"):
        assert set(pd.read_csv(file)["case"]) == set(fold["test"])


def test_every_table_and_figure_is_there(done):
    told = json.loads((done.folder / "results.json").read_text())
    assert [len(told[t]) for t in TABLES] == [3, 3, 3, 6, 4]
    assert sum(row["patients"] for row in told["patients"]) == 12
    assert {row[""] for row in told["controls"]} >= {
        "age and sex",
        "site",
        "tumour volume",
        "permuted labels",
    }
    for row in told["1B"]:
        assert row["AUC"]["low"] <= row["AUC"]["value"] <= row["AUC"]["high"]
        assert {"PPV", "NPV", "SEN", "SPE", "Acc", "APCA"} <= set(row)
    fixed, gated = told["share"]
    assert fixed["least"] == fixed["most"] == 0.5
    assert 0 < gated["least"] <= gated["most"] < 1
    assert 0 < gated["shape's share of the logit"]["value"] < 1
    for row in told["maps"]:
        assert 0 <= row["heat in the tumour"]["value"] <= 1
        assert -1 <= row["likeness to maps of shuffled weights"]["value"] <= 1
    assert all(0 < row["tumour, of the frame"]["value"] < 0.5 for row in told["maps"])
    page = (done.folder / "report.html").read_text()
    for heading in (*TABLES.values(), "Figure 3", "Figure 4", "Figure 5", "Figure 6", "Controls", "0.6451"):
        assert heading in page
    assert page.count("data:image/png") == 4
    assert "research use only" in page


def test_heatmaps_lie_on_the_scans_grid(done, cohort):
    files = sorted((done.folder / "heatmaps").iterdir())
    assert len(files) == 8  # two classes, two networks, two ways
    scan = read_volume(read_cohort(cohort)[0].files["t1"], "case").volume.grid
    heat = read_volume(files[0], "case").volume
    assert heat.grid.matches(scan)
    assert 0 < heat.voxels.max() <= 1.0001


def test_a_second_run_trains_nothing_and_another_seed_is_refused(done, cohort, monkeypatch):
    was = json.loads((done.folder / "results.json").read_text())
    monkeypatch.setattr(shape_resnet, "fit", lambda *_: pytest.fail("a network was trained"))
    reproduce(cohort, done.folder, scale="demo", settings=QUICK)
    assert json.loads((done.folder / "results.json").read_text()) == was
    with pytest.raises(ConfigError, match="seed"):
        reproduce(cohort, done.folder, scale="demo", seed=1, settings=QUICK)


def test_settings_that_are_varied_and_three_classes_are_refused(cohort, tmp_path):
    with pytest.raises(ConfigError, match="join"):
        reproduce(cohort, tmp_path, settings={"join": "gated"})
    with pytest.raises(ConfigError, match="--hgg 3 4"):
        reproduce(cohort, tmp_path, target="who_grade", scale="demo", settings=QUICK)
    graded = [
        replace(row, targets={**row.targets, "who_grade": str(2 + i % 3)}, label_scheme="who2021")
        for i, row in enumerate(read_cohort(cohort))
    ]
    write_cohort(tmp_path / "cohort.csv", graded)
    with pytest.raises(ConfigError, match="the paper tells two"):
        reproduce(tmp_path / "cohort.csv", tmp_path / "b", target="who_grade", scale="demo", settings=QUICK)


def test_an_unknown_paper_names_those_there_are(cohort, tmp_path, capsys):
    assert main(["reproduce", "zeng2023", str(cohort), "-o", str(tmp_path)]) == 2
    assert "zeng2024" in capsys.readouterr().err


def test_the_headline_is_the_papers_network_as_published_and_soundly(done):
    """As published: the best epoch on the patients tested; soundly: the last, and no class told by its size."""
    (line,) = headlines(done.folder)
    rows = {row["network"]: row for table in ("1B", "ours") for row in done.results[table]}
    assert line.here == rows[MAIN]["AUC, best epoch"]
    age = next(row["AUC"] for row in done.results["controls"] if row[""] == "age and sex")
    assert repr((line.soundly, line.age)) == repr((rows[FAIR]["AUC"], age))  # NaN bounds are equal too
    assert line.published is None  # of two series; the paper has four
