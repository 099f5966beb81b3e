"""The protocol: no table without its controls, no chance level but a half, nothing computed twice."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from gliolens import protocol
from gliolens.case import CaseRow, Prediction
from gliolens.errors import CohortError, ConfigError
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods.controls import KINDS
from gliolens.protocol import (
    Entrant,
    answer_rows,
    check_settings,
    compete,
    entrant_of,
    plain_scores,
    read_answers,
    score,
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

    prior: tuple[float, ...] = (0.75, 0.25)
    target: str = "idh"

    def answer(self, row, ready):
        return Prediction(row.case, "fixed", {"idh": {"wildtype": 0.8, "mutant": 0.2}}, {"idh": "wildtype"})

    def predict(self, case):
        raise AssertionError("a case that was decoded already is decoded again")

    def explain(self, case):
        return {}

    def save(self, folder):
        folder.mkdir()


@dataclass(frozen=True)
class Nothing:
    """Settings of a method without settings."""


@pytest.fixture
def method(monkeypatch):
    """A method that counts how often it is fitted."""

    class Module:
        VERSION = 1
        fitted: ClassVar[list[int]] = []

        @staticmethod
        def fit(cases, config, run):
            Module.fitted.append(len(cases))
            return Fixed()

        @staticmethod
        def ready(cases, config, cache, tick=None):
            return [{}] * len(cases)

    Module.fitted.clear()
    monkeypatch.setattr(protocol, "find_method", lambda name: Module)
    return Module


ENTRANT = Entrant("x", "x", Nothing())


def test_answers_stand_beside_truth_and_the_shares_the_model_put_in(tmp_path):
    run = Run("idh", CLASSES, tmp_path, tmp_path)
    table = answer_rows(ENTRANT, Fixed(), Cases(rows([0, 1])), [{}, {}], run)
    assert table["truth"].tolist() == ["wildtype", "mutant"]
    assert table["p_mutant"].tolist() == [0.2, 0.2]
    assert table["prior_mutant"].tolist() == [0.25, 0.25]


def sides(truth=(0, 1, 0, 1, 0, 1)):
    cases = Cases(rows(list(truth)))
    return cases.only(["000", "001", "002", "003"]), cases.only(["004", "005"])


def test_a_fold_that_was_answered_is_not_fitted_again(tmp_path, method):
    run = Run("idh", CLASSES, tmp_path / "fold-1", tmp_path)
    first = compete(ENTRANT, *sides(), run)
    again = compete(ENTRANT, *sides(), run)
    assert method.fitted == [4]
    assert again["case"].tolist() == ["004", "005"]  # ids of digits stay text
    pd.testing.assert_frame_equal(first, again)


def test_a_fold_whose_cases_changed_is_done_again(tmp_path, method, capsys):
    run = Run("idh", CLASSES, tmp_path / "fold-1", tmp_path)
    train, test = sides()
    compete(ENTRANT, train, test, run)
    (run.folder / "epochs.json").write_text("{}")
    fewer = train.only(["000", "001", "002"])
    compete(ENTRANT, fewer, test, run)
    assert method.fitted == [4, 3]
    assert not (run.folder / "epochs.json").exists()
    assert "made again" in capsys.readouterr().err
    older = Cases(tuple(replace(row, age=50.0) for row in fewer.rows))
    compete(ENTRANT, older, test, run)
    method.VERSION = 2
    compete(ENTRANT, older, test, run)
    assert method.fitted == [4, 3, 3, 3]


def test_answers_that_look_like_numbers_are_read_back_as_words(tmp_path, method):
    """WHO grades are 2, 3 and 4."""
    path = tmp_path / "predictions.csv"
    table = pd.DataFrame({"case": ["007"], "patient": ["7"], "site": [""], "truth": ["2"], "decision": ["3"],
                          "method": ["x"], "p_2": [1 / 3]})  # fmt: skip
    table.to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_answers(path), table)


def test_a_training_side_without_a_class_is_refused(tmp_path, method):
    with pytest.raises(CohortError, match="no training case is mutant"):
        compete(ENTRANT, *sides((0, 0, 0, 0, 0, 1)), Run("idh", CLASSES, tmp_path / "f", tmp_path))


def test_a_split_cannot_be_guessed_from_shares_that_a_model_never_put_in():
    """Noise, from a model that puts no shares in, over sites of very different make."""
    rng = np.random.default_rng(0)
    folds = []
    for k, positives in enumerate((5, 25, 45)):
        truth = [1] * positives + [0] * (50 - positives)
        folds.append(answers("noise", truth, rng.uniform(0.3, 0.7, 50), control=False, prior=0.5, fold=k))
    found = score(with_controls(pd.concat(folds, ignore_index=True)), CLASSES)[0]["auc"]
    assert 0.35 < found.value < 0.65  # divided by the training shares it would be 0.84


def test_the_controls_as_a_method_keeps_its_own_title():
    from gliolens.methods.controls import Config

    assert entrant_of("controls", Config(kind="site")).name == "controls: site"
    assert entrant_of("controls", Config(kind="site")).folder == "controls-site"


def test_a_folder_with_other_settings_is_refused(tmp_path):
    path = tmp_path / "run.json"
    check_settings(path, {"seed": 0, "series": ("t1", "t2")})
    assert not path.exists()  # a start that fails must not stand in the way of its own correction
    path.write_text('{"settings": {"seed": 0, "series": ["t1", "t2"]}}')
    check_settings(path, {"seed": 0, "series": ("t1", "t2")})
    with pytest.raises(ConfigError, match="another seed"):
        check_settings(path, {"seed": 1, "series": ("t1", "t2")})
