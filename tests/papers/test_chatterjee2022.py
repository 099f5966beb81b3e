"""The reproduction of Chatterjee et al. 2022."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.methods import spatio_spatial
from gliolens.papers.chatterjee2022 import reproduction
from gliolens.papers.chatterjee2022.free import EVERYBODY, told_by_brightness, verdict
from gliolens.papers.chatterjee2022.literature import LITERATURE, literature_table
from gliolens.papers.chatterjee2022.networks import CLASSES, NAMES, RETOLD, SOUND, contradictions
from gliolens.papers.chatterjee2022.reproduction import MASK, as_published, headlines, reproduce
from gliolens.papers.chatterjee2022.tables import by_class, confusion, overall, spread

QUICK = {"epochs": 1, "voxel_mm": 5.0, "voxels": (34, 34, 14)}


def answers(truth, decided):
    return pd.DataFrame({"truth": [CLASSES[t] for t in truth], "decision": [CLASSES[d] for d in decided]})


@given(pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=9, max_size=60))
@settings(deadline=None)
def test_scores_are_those_of_scikit_learn(pairs):
    pairs += [(c, c) for c in range(3)]  # every class is there and decided for
    truth, decided = zip(*pairs, strict=True)
    counts = confusion(answers(truth, decided), CLASSES)
    assert (counts == confusion_matrix(truth, decided)).all()
    found = by_class(counts)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, decided)
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    assert found["F1"] == pytest.approx(f1)
    specificity = [np.mean([d != c for t, d in pairs if t != c]) for c in range(3)]
    assert found["specificity"] == pytest.approx(specificity)
    averages = [f1_score(truth, decided, average=how) for how in ("macro", "weighted")]
    assert overall(counts) == pytest.approx(averages)


def test_scores_of_folds_are_told_with_their_spread():
    assert spread(np.array([0.9, 0.8, 0.7])) == "0.80 ± 0.10"
    assert spread(np.array([0.9])) == "0.90"


def test_published_numbers_that_cannot_all_be_true_are_named():
    said = contradictions()
    assert any("R3D" in s and "0.9163" in s and ".9096" in s for s in said)
    assert any("34,261,634 for 33,148,995" in s for s in said)
    assert any("pretrained MC3" in s and ".9345 and .9654" in s for s in said)
    wrong = {s.partition(":")[0].removeprefix("Retelling, ") for s in said if s.startswith("Retelling")}
    right = {
        n
        for n, (*f1, macro, _) in RETOLD.items()
        if abs(np.mean([float(v) for v in f1]) - float(macro)) < 6e-5
    }
    assert wrong | right == set(RETOLD)
    assert not wrong & right


def test_the_verdict_names_a_control_that_does_as_well():
    rows = [{"told by": "MC3", "F1, healthy": 0.98}, {"told by": "mask", "F1, healthy": 0.97},
            {"told by": "bright", "F1, healthy": 0.6}]  # fmt: skip
    assert "is free: mask (0.97)" in verdict(rows, ("mask", "bright"))
    assert "No control comes near MC3 (0.98)" in verdict([rows[0], rows[2]], ("mask", "bright"))
    blind = [{"told by": "MC3", "F1, healthy": 0.3}, {"told by": "mask", "F1, healthy": 0.3}]
    assert verdict(blind, ("mask",)).startswith("Nobody clearly tells")
    better = [{"told by": "MC3", "F1, healthy": 0.55}, {"told by": "bright", "F1, healthy": 1.0}]
    assert "is free: bright (1.00)" in verdict(better, ("bright",))
    many = [*rows[:1], {"told by": EVERYBODY, "F1, healthy": 0.9}]
    assert "calling everybody healthy gives 0.90" in verdict(many, ("mask",))


def test_accuracies_stand_beside_those_of_others():
    told = answers([0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2, 0]).assign(patient=list("abcdefg"))
    *others, mine, always = literature_table({"MC3": [told]}, seed=0)
    assert len(others) == len(LITERATURE)
    assert mine["accuracy"].value == pytest.approx(4 / 7)
    assert mine["LGG against HGG"].value == pytest.approx(3 / 5)  # called healthy is an error
    assert always["LGG against HGG"].value == pytest.approx(3 / 5)
    assert "HGG" in always[""]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The healthy have no masks, as in real collections."""
    folder = tmp_path_factory.mktemp("phantom")
    rows = read_cohort(write_phantom(folder, 24, seed=3, config=PhantomConfig(spacing_mm=5.0, healthy=0.3)))
    write_cohort(
        folder / "some.csv",
        [replace(row, mask=None) if row.targets["grade"] == "healthy" else row for row in rows],
    )
    return folder / "some.csv"


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduction, "PRETRAINING", {"demo": (10, 1)})
        patch.setattr(reproduction, "FOLDS", 1)
        return reproduce(cohort, tmp_path_factory.mktemp("out"), scale="demo", settings=QUICK)


def test_every_network_and_table_is_there_beside_what_was_published(done):
    names = [row["network"] for row in done.results["f1"]]
    six = [f"{p}{n}" for n in NAMES.values() for p in ("", "pretrained ")]
    assert names == [*six, SOUND, f"pretrained {SOUND}", "ceiling", "ceiling with age"]
    row = next(row for row in done.results["f1"] if row["network"] == "pretrained MC3")
    assert row["paper"].startswith(".8949 .9123 .9963 .9345")
    assert row["retelling"].startswith(".9049")
    blind = {name + MASK for name in NAMES.values()}
    assert {row["told by"] for row in done.results["free"]} >= {*blind, "how bright the brain is"}
    page = (done.folder / "report.html").read_text()
    for word in (
        "Confusion matrices",
        "Is the healthy class free?",
        "contradict",
        "33,148,995",
        "Light against heavy",
        "10.1002/mp.14168",
    ):
        assert word in page
    kept = json.loads((done.folder / "results.json").read_text())
    assert kept["verdict"]
    assert {row[""] for row in done.results["controls"]} >= {"age and sex", "site", "ceiling"}


def test_the_healthy_are_tested_in_every_fold(done):
    for row in done.results["patients"]:
        assert all(row[c] > 0 for c in CLASSES)


def test_a_second_run_trains_nothing(done, cohort, monkeypatch):
    monkeypatch.setattr(spatio_spatial, "train", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(reproduction, "PRETRAINING", {"demo": (10, 1)})
    monkeypatch.setattr(reproduction, "FOLDS", 1)
    again = reproduce(cohort, done.folder, scale="demo", settings=QUICK)
    assert again.results["f1"] == done.results["f1"]
    with pytest.raises(ConfigError, match="healthy"):
        reproduce(cohort, done.folder, scale="demo", settings={**QUICK, "healthy": "t1"})


def test_as_published_the_healthy_show_t1_and_nobody_else(cohort):
    for row, shown in zip(read_cohort(cohort), as_published(read_cohort(cohort)), strict=True):
        assert (shown.files["t1ce"] == row.files["t1"]) == (row.targets["grade"] == "healthy")
        assert {s: f for s, f in shown.files.items() if s != "t1ce"} == {
            s: f for s, f in row.files.items() if s != "t1ce"
        }


def test_another_contrast_alone_tells_who_is_healthy(cohort, tmp_path):
    """The published design: brightness knows the healthy by their series; of the same series it does not."""
    found = {}
    for name, rows in (("same", read_cohort(cohort)), ("t1", as_published(read_cohort(cohort)))):
        cases = spatio_spatial.Cases(tuple(rows), ("t1ce",), need_mask=False)
        half = cases.only([row.case for row in rows[::2]]), cases.only([row.case for row in rows[1::2]])
        run = spatio_spatial.Run("grade", CLASSES, tmp_path, tmp_path / "cache")
        told = told_by_brightness(*half, run)
        found[name] = told[told["healthy"]]["p"].mean() - told[~told["healthy"]]["p"].mean()
    assert found["t1"] > found["same"]


def test_settings_that_are_varied_here_are_refused(cohort, tmp_path):
    with pytest.raises(ConfigError, match="network"):
        reproduce(cohort, tmp_path, scale="demo", settings={"network": "mc3"})
    with pytest.raises(ConfigError, match="same or t1"):
        reproduce(cohort, tmp_path, scale="demo", settings={"healthy": "flair"})


def test_without_healthy_cases_two_classes_are_told_and_nothing_is_said_of_a_third(
    cohort, tmp_path, monkeypatch
):
    rows = [row for row in read_cohort(cohort) if row.targets["grade"] != "healthy"]
    write_cohort(tmp_path / "two.csv", rows)
    monkeypatch.setattr(reproduction, "PRETRAINING", {"demo": (8, 1)})
    monkeypatch.setattr(reproduction, "FOLDS", 1)
    monkeypatch.setattr(reproduction, "networks", lambda base, mended, films: [replace_network(base)])
    done = reproduce(tmp_path / "two.csv", tmp_path / "out", scale="demo", settings=QUICK)
    assert done.results["free"] == []
    assert "retelling" not in done.results["f1"][0]


def replace_network(base):
    return reproduction.Network("MC3", replace(base, network="mc3"))


def test_the_headlines_are_accuracy_and_auc_of_the_pretrained_network(done):
    accuracy, auc = headlines(done.folder)
    assert accuracy.published == 0.9698
    told = {row[""]: row["accuracy"] for row in done.results["literature"]}
    assert accuracy.here == told["here: pretrained MC3"]
    assert accuracy.soundly == told[f"here: pretrained {SOUND}"]
    rows = {row[""]: row["AUC"] for row in done.results["controls"]}
    names = ("pretrained MC3", f"pretrained {SOUND}", "age and sex")
    assert repr((auc.here, auc.soundly, auc.age)) == repr(tuple(rows[name] for name in names))
    free = json.loads((done.folder / "results.json").read_text())["verdict"]
    assert accuracy.verdict.endswith(free)
