"""How sure answers may be: learnt from inner folds, and from nothing of those who are tested."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from gliolens import nested
from gliolens.case import CaseRow
from gliolens.errors import CohortError
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods.controls import Config
from gliolens.nested import INNER, Calibration, calibration_rows, coverage_rows, inner_answers, share
from gliolens.protocol import Entrant

CLASSES = ("wildtype", "mutant")
AGE = Entrant("age and sex", "controls", Config(kind="age-sex"), is_control=True)


def patients(n, exams=1):
    rng = np.random.default_rng(0)
    return tuple(
        CaseRow(
            f"c{i}-{e}", f"p{i}", age=float(60 - 20 * (i % 2) + rng.normal(0, 8)), sex="MF"[i % 3 == 0],
            targets={"idh": CLASSES[i % 2]},
        )
        for i in range(n)
        for e in range(exams)
    )  # fmt: skip


def told(n, sharpness, seed=0):
    """Answers whose probabilities are those of the truth, raised to a power."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1.5, 1.5, n)
    truth = np.where(rng.random(n) < p, "mutant", "wildtype")
    q = np.column_stack([1 - p, p]) ** sharpness
    q /= q.sum(axis=1, keepdims=True)
    return pd.DataFrame({
        "method": "a", "control": False, "case": [f"c{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)],
        "site": np.where(np.arange(n) % 3 == 0, "A", "B"), "truth": truth,
        "decision": np.array(CLASSES)[q.argmax(axis=1)], "p_wildtype": q[:, 0], "p_mutant": q[:, 1],
        "prior_wildtype": 0.5, "prior_mutant": 0.5,
    })  # fmt: skip


def test_everybody_is_answered_once_by_a_model_that_has_not_learnt_from_him(tmp_path, monkeypatch):
    sides, compete = [], nested.compete

    def seen(entrant, train, test, run):
        sides.append(({r.patient for r in train.rows}, {r.patient for r in test.rows}, run.others))
        return compete(entrant, train, test, run)

    monkeypatch.setattr(nested, "compete", seen)
    train = Cases(patients(24, exams=2), (), need_mask=False)
    run = Run("idh", CLASSES, tmp_path / "fold-1", tmp_path / "cache", others=(CaseRow("x", "x"),))
    answers = inner_answers(AGE, train, run)
    assert sorted(answers["case"]) == sorted(row.case for row in train.rows)
    assert len(sides) == INNER
    for learnt, tested, others in sides:
        assert not learnt & tested
        assert learnt | tested == {row.patient for row in train.rows}
        assert others == ()
    assert sorted(f.name for f in tmp_path.iterdir()) == [f"fold-1-inner-{k}" for k in (1, 2, 3)]


def test_too_few_patients_of_a_class_are_said(tmp_path):
    train = Cases(patients(4), (), need_mask=False)
    run = Run("idh", CLASSES, tmp_path / "fold-1", tmp_path / "cache")
    with pytest.raises(CohortError, match="leave --calibrate out"):
        inner_answers(AGE, train, run)


def test_the_temperature_of_answers_too_sure_is_found():
    learnt = Calibration.learn(told(4000, sharpness=3.0), CLASSES)
    assert learnt.temperature.value == pytest.approx(3.0, rel=0.1)
    new = told(4000, sharpness=3.0, seed=1)
    row = calibration_rows(new, learnt(new), CLASSES, seed=0)[0]
    assert row["Brier, calibrated"].high < row["Brier"].low
    assert row["ECE, calibrated"].value < 0.03 < row["ECE"].low


def test_sets_hold_the_true_class_of_every_class_as_often_as_they_should():
    """The mean over many draws: 60 calibration cases, 9 in 10 asked for."""
    covered = {c: [] for c in CLASSES}
    for seed in range(60):
        learnt = Calibration.learn(told(60, 2.0, seed=2 * seed), CLASSES)
        after = learnt(told(200, 2.0, seed=2 * seed + 1))
        rows = {r["of"]: r["coverage"].value for r in coverage_rows(after)}
        for c in CLASSES:
            covered[c].append(rows[f"class {c}"])
    for values in covered.values():
        assert 0.885 < np.mean(values) < 0.945


def test_labels_of_the_tested_change_nothing_that_is_told_of_them():
    learnt = Calibration.learn(told(50, 2.0), CLASSES)
    asked = told(30, 2.0, seed=1)
    turned = asked.assign(truth=asked["truth"].map({"wildtype": "mutant", "mutant": "wildtype"}))
    columns = ["p_wildtype", "p_mutant", "set", "temperature"]
    pd.testing.assert_frame_equal(learnt(asked)[columns], learnt(turned)[columns])


def test_coverage_counts_by_hand():
    after = told(4, 1.0).assign(
        truth=["wildtype", "mutant", "mutant", "wildtype"], site=["A", "A", "", "B"],
        set=["wildtype", "wildtype mutant", "", "mutant"],
    )  # fmt: skip
    found = {
        row["of"]: (row["n"], row["coverage"].value, row["mean size of a set"])
        for row in coverage_rows(after)
    }
    assert found == {
        "all": (4, 0.5, 1.0), "class wildtype": (2, 0.5, 1.0), "class mutant": (2, 0.5, 1.0), "site A": (2, 1.0, 1.5),
        "site B": (1, 0.0, 1.0),
    }  # fmt: skip
    row = calibration_rows(after, after.assign(temperature=1.0), CLASSES, seed=0)[0]
    assert row["answered"].value == 0.5
    assert row["right where answered"].value == 0.5


def test_wilsons_interval_as_published():
    """Newcombe 1998 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I: 81 of 263."""
    so, patients = pd.Series(np.arange(263) < 81), pd.Series(np.arange(263).astype(str))
    found = share(so, patients)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share(so[:0], patients[:0]).reason == "no case"


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 3))
@settings(deadline=None)
def test_wilsons_interval_is_scipys_of_as_many_patients_however_many_exams(part, rest, exams):
    so = np.repeat(np.arange(part + rest) < part, exams)
    found = share(pd.Series(so), pd.Series(np.repeat(np.arange(part + rest), exams).astype(str)))
    wanted = binomtest(part, part + rest).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
