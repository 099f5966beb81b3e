"""The protocol: no table without its controls, no chance level but a half, nothing computed twice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gliolens import protocol
from gliolens.case import CaseRow, Prediction
from gliolens.errors import CohortError
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods.controls import KINDS
from gliolens.protocol import (
    Entrant,
    answer_rows,
    common_series,
    compete,
    plain_scores,
    score,
    settings_match,
)

CLASSES = ("wildtype", "mutant")


def rows(truth):
    return tuple(CaseRow(f"{i:03}", f"patient {i}", targets={"idh": CLASSES[t]}) for i, t in enumerate(truth))


def answers(name, truth, p, *, control, prior=0.5, fold=1):
    return pd.DataFrame(
        {
            "method": name,
            "control": control,
            "fold": fold,
            "case": [f"{fold}-{i}" for i in range(len(truth))],
            "patient": [f"{fold}-{i}" for i in range(len(truth))],
            "truth": [CLASSES[t] for t in truth],
            "decision": [CLASSES[int(q > prior)] for q in p],
            "p_wildtype": 1 - np.asarray(p),
            "p_mutant": p,
            "prior_wildtype": 1 - prior,
            "prior_mutant": prior,
        }
    )


def with_controls(table):
    rng = np.random.default_rng(0)
    truth = (table["truth"] == "mutant").astype(int).tolist()
    made = [answers(title, truth, rng.random(len(truth)), control=True) for title in KINDS.values()]
    return pd.concat([table, *made], ignore_index=True)


def test_a_table_that_lacks_a_control_cannot_be_made():
    truth = [0, 1] * 10
    whole = with_controls(answers("mine", truth, np.linspace(0, 1, 20), control=False))
    assert len(score(whole, CLASSES)) == 1 + len(KINDS)
    for title in KINDS.values():
        with pytest.raises(CohortError, match=title):
            score(whole[whole["method"] != title], CLASSES)


def test_a_method_that_knows_only_the_training_share_scores_a_half_over_folds():
    """With k folds a fold with more positives has a lower training share: pooled raw, that reads as AUC 0."""
    fold = [
        answers("share", truth, np.full(len(truth), prior), control=False, prior=prior, fold=k)
        for k, (truth, prior) in enumerate(
            [([1, 1, 1, 0, 0], 0.2), ([1, 0, 0, 0, 0], 0.4), ([0, 1, 1, 0, 0], 0.3)]
        )
    ]
    table = with_controls(pd.concat(fold, ignore_index=True))
    assert score(table, CLASSES)[0]["auc"].value == pytest.approx(0.5)


def test_scores_stand_in_the_order_of_entry_and_as_plain_numbers():
    truth = [0, 1] * 10
    table = score(with_controls(answers("mine", truth, np.linspace(0.1, 0.9, 20), control=False)), CLASSES)
    plain = plain_scores(table)
    assert [row["method"] for row in plain] == ["mine", *KINDS.values()]
    assert plain[0]["auc_low"] <= plain[0]["auc"] <= plain[0]["auc_high"]
    assert plain[0]["n"] == 20


@dataclass(frozen=True)
class Fixed:
    """A model that gives every case the share of the first class."""

    def predict(self, case):
        return Prediction(case.case, "fixed", {"idh": {"wildtype": 0.8, "mutant": 0.2}}, {"idh": "wildtype"})


def test_answers_stand_beside_truth_and_training_shares(tmp_path):
    some = rows([0, 1])
    run = Run("idh", CLASSES, tmp_path, tmp_path)
    trained = ("wildtype", "wildtype", "wildtype", "mutant")
    table = answer_rows(Entrant("x", "x", None), [Fixed().predict(r) for r in some], some, trained, run)
    assert table["truth"].tolist() == ["wildtype", "mutant"]
    assert table["p_mutant"].tolist() == [0.2, 0.2]
    assert table["prior_mutant"].tolist() == [0.25, 0.25]


def test_a_fold_that_was_answered_is_not_fitted_again(tmp_path, monkeypatch):
    fitted = []

    class Module:
        @staticmethod
        def fit(cases, config, run):
            fitted.append(len(cases))
            return Fixed()

    monkeypatch.setattr(protocol, "find_method", lambda name: Module)
    monkeypatch.setattr(Cases, "__getitem__", lambda self, i: self.rows[i])
    cases = Cases(rows([0, 1, 0, 1, 0, 1]))
    run = Run("idh", CLASSES, tmp_path / "fold-1", tmp_path)
    sides = cases.only(["000", "001", "002", "003"]), cases.only(["004", "005"])
    first = compete(Entrant("x", "x", None), *sides, run)
    again = compete(Entrant("x", "x", None), *sides, run)
    assert fitted == [4]
    assert again["case"].tolist() == ["004", "005"]  # ids of digits stay text
    pd.testing.assert_frame_equal(first, again, check_dtype=False)


def test_the_series_of_all_cases():
    files = {"t1": Path("a"), "flair": Path("b"), "t2": Path("c")}
    some = [CaseRow("1", "1", files=files), CaseRow("2", "2", files={"flair": Path("b"), "t1": Path("d")})]
    assert common_series(some) == ("t1", "flair")


def test_a_folder_with_other_settings_is_refused(tmp_path):
    path = tmp_path / "run.json"
    assert settings_match(path, {"seed": 0, "series": ("t1", "t2")}) is False
    assert settings_match(path, {"seed": 0, "series": ("t1", "t2")}) is True
    with pytest.raises(CohortError, match="another seed"):
        settings_match(path, {"seed": 1, "series": ("t1", "t2")})
