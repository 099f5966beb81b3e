"""Scores within parts of the patients: who is in which, and what is scored."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from gliolens.case import CaseRow
from gliolens.subgroups import subgroup_rows

CLASSES = ("wildtype", "mutant")


@pytest.fixture
def cohort():
    rng = np.random.default_rng(3)
    rows = [
        CaseRow(
            f"c{i}", f"c{i}", age=None if i == 0 else float(rng.uniform(20, 80)), sex="MF"[i % 2],
            site="AB"[i % 3 == 0],
            targets={"idh": CLASSES[int(rng.random() < 0.5)], "grade": ("LGG", "HGG")[int(rng.random() < 0.5)]},
        )
        for i in range(80)
    ]  # fmt: skip
    p = rng.random(80)
    answers = pd.DataFrame({
        "method": "a", "control": False, "case": [r.case for r in rows], "patient": [r.patient for r in rows],
        "truth": [r.targets["idh"] for r in rows], "decision": np.where(p > 0.5, "mutant", "wildtype"),
        "p_wildtype": 1 - p, "p_mutant": p, "prior_wildtype": 0.5, "prior_mutant": 0.5,
    })  # fmt: skip
    return rows, answers.sample(frac=1, random_state=0)


def test_each_part_is_scored_as_scikit_learn_scores_it(cohort):
    rows, answers = cohort
    found = {(r["by"], r["part"]): r for r in subgroup_rows(answers, rows, "idh", CLASSES)}
    parts = {
        ("age", "under 40"): lambda r: r.age is not None and r.age < 40,
        ("age", "40 to 59"): lambda r: r.age is not None and 40 <= r.age < 60,
        ("age", "60 and over"): lambda r: r.age is not None and r.age >= 60,
        ("sex", "F"): lambda r: r.sex == "F",
        ("site", "A"): lambda r: r.site == "A",
        ("Grade", "HGG"): lambda r: r.targets["grade"] == "HGG",
    }
    for place, rule in parts.items():
        inside = answers[answers["case"].isin([r.case for r in rows if rule(r)])]
        row = found[place]
        assert row["n"] == len(inside)
        assert row["mutant"] == (inside["truth"] == "mutant").sum()
        assert row["auc"].value == pytest.approx(
            roc_auc_score(inside["truth"] == "mutant", inside["p_mutant"])
        )
    assert found["age", "not known"]["n"] == 1
    assert math.isnan(found["age", "not known"]["auc"].value)


def test_parts_of_one_kind_hold_everybody_once(cohort):
    rows, answers = cohort
    found = pd.DataFrame(subgroup_rows(answers, rows, "idh", CLASSES))
    assert set(found.groupby("by")["n"].sum()) == {80}


def test_the_target_itself_and_what_all_share_make_no_parts(cohort):
    rows, answers = cohort
    one = [CaseRow(r.case, r.patient, age=50.0, sex="M", site="A", targets=r.targets) for r in rows]
    assert {r["by"] for r in subgroup_rows(answers, one, "idh", CLASSES)} == {"Grade"}
    told = answers.rename(columns=lambda c: c.replace("wildtype", "LGG").replace("mutant", "HGG"))
    told = told.assign(truth=[{r.case: r for r in rows}[c].targets["grade"] for c in told["case"]],
                       decision=np.where(told["p_HGG"] > 0.5, "HGG", "LGG"))  # fmt: skip
    assert subgroup_rows(told, one, "grade", ("LGG", "HGG")) == []
