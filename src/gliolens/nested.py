"""How sure answers may be, learnt from inner folds of the training patients.

For each fold of a split its training patients are divided again, and each is answered by a model that has not learnt
from him. From these answers come a temperature and class-conditional conformal sets; both are used on the answers to
the tested patients, of whom nothing enters. Where a set holds several classes, or none, the method abstains.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Final, Self

import numpy as np
import pandas as pd

from gliolens.cohorts.splits import kfold
from gliolens.errors import CohortError
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.progress import say
from gliolens.protocol import Entrant, compete, scores_of
from gliolens.stats.conformal import ConformalSets
from gliolens.stats.intervals import Interval, unknown
from gliolens.stats.temperature import Temperature

INNER: Final = 3
"""Inner folds."""
COVERAGE: Final = 0.9
"""How often a set is to hold the true class, of every class."""


@dataclass(frozen=True)
class Calibration:
    """What is learnt from answers to patients from whom a method has not learnt.

    Attributes:
        classes: of the target.
        temperature: of probabilities.
        sets: of classes that cannot be ruled out, from probabilities at that temperature.
    """

    classes: tuple[str, ...]
    temperature: Temperature
    sets: ConformalSets

    @classmethod
    def learn(cls, answers: pd.DataFrame, classes: Sequence[str], coverage: float = COVERAGE) -> Self:
        """Learn from answers as `protocol.answer_rows` has them.

        The bounds of the sets come from the same answers as the temperature, one number: what that costs is measured
        by the coverage on tested patients.
        """
        truth, p = _numbers(answers, classes)
        temperature = Temperature.learn(truth, p)
        return cls(tuple(classes), temperature, ConformalSets.learn(truth, temperature(p), coverage))

    def __call__(self, answers: pd.DataFrame) -> pd.DataFrame:
        """The answers with `p_CLASS` at the temperature, `temperature`, and `set`: its classes, a space between."""
        _, p = _numbers(answers, self.classes)
        told = self.temperature(p)
        held = [" ".join(np.array(self.classes)[row]) for row in self.sets(told)]
        columns = {f"p_{c}": told[:, k] for k, c in enumerate(self.classes)}
        return answers.assign(**columns, temperature=self.temperature.value, set=held)


def inner_answers(entrant: Entrant, train: Cases, run: Run) -> pd.DataFrame:
    """Answers to every training patient by a model fitted to the others of `INNER` inner folds.

    Folders `FOLD-inner-1` and so on beside the run's keep them. What a method could learn from cases outside the
    split is left out here.

    Raises:
        CohortError: a class has fewer training patients than there are inner folds.
    """
    try:
        division = kfold(train.rows, run.target, folds=INNER, seed=run.seed)
    except CohortError as error:
        raise CohortError(
            f"{entrant.name}: too few training patients for {INNER} inner folds ({error}); leave --calibrate out"
        ) from error
    answers = []
    for k, fold in enumerate(division.folds):
        say(f"{entrant.name}: inner fold {k + 1} of {INNER}")
        mine = replace(run, folder=run.folder.with_name(f"{run.folder.name}-inner-{k + 1}"), others=())
        answers.append(compete(entrant, train.only(fold.train), train.only(fold.test), mine))
    return pd.concat(answers, ignore_index=True)


def _numbers(answers: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    truth = np.array([classes.index(c) for c in answers["truth"]])
    return truth, answers[[f"p_{c}" for c in classes]].to_numpy(dtype=float)


# --- what it is worth ------------------------------------------------------------------------------------------


def calibration_rows(
    before: pd.DataFrame, after: pd.DataFrame, classes: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Of each method: its temperatures, Brier score and ECE before and after, and what its sets say.

    Args:
        before: answers as they were given.
        after: the same answers by `Calibration`.
        classes: of the target.
        seed: of the intervals.
    """
    rows = []
    for name, told in after.groupby("method", sort=False):
        plain = before[before["method"] == name]
        old, new = (_scores(answers, classes, seed) for answers in (plain, told))
        heat = told["temperature"]
        answered = told["set"].isin(list(classes))
        alone = told[answered]
        rows.append({
            "method": name, "control": bool(told["control"].iloc[0]), "temperature, least": heat.min(),
            "temperature, most": heat.max(), "Brier": old["brier"], "Brier, calibrated": new["brier"],
            "ECE": old["ece"], "ECE, calibrated": new["ece"], "answered": share(answered, told["patient"]),
            "right where answered": share(alone["set"] == alone["truth"], alone["patient"]),
        })  # fmt: skip
    return rows


def coverage_rows(after: pd.DataFrame) -> list[dict[str, Any]]:
    """How often the sets hold the true class: of each method, of everybody, of each class and of each site."""
    sets = [str(told).split() for told in after["set"]]
    held = [truth in told for truth, told in zip(after["truth"], sets, strict=True)]
    marked = after.assign(held=held, size=[len(told) for told in sets], everybody="all")
    rows = []
    for name, mine in marked.groupby("method", sort=False):
        for kind, column in (("", "everybody"), ("class", "truth"), ("site", "site")):
            for value, group in mine.groupby(column, sort=False):
                if value:
                    rows.append({
                        "method": name, "of": " ".join((kind, str(value))).strip(), "n": len(group),
                        "coverage": share(group["held"], group["patient"]),
                        "mean size of a set": float(group["size"].mean()),
                    })  # fmt: skip
    return rows


def share(so: pd.Series, patients: pd.Series) -> Interval:
    """A share of cases with Wilson's 95 % interval (1927, doi 10.1080/01621459.1927.10502953).

    Its n is the number of patients: cases of one are taken to go together, so the interval is never too narrow.

    Args:
        so: whether it is so, of each case (n,).
        patients: of each case (n,).
    """
    n, value = patients.nunique(), float(so.mean())
    if not n:
        return unknown("no case")
    z = NormalDist().inv_cdf(0.975)
    middle = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return Interval(value, min(max(0.0, middle - reach), value), max(min(1.0, middle + reach), value))


def _scores(answers: pd.DataFrame, classes: Sequence[str], seed: int) -> Mapping[str, Interval]:
    return scores_of(answers, classes, seed, folds=answers["fold"].nunique() if "fold" in answers else 1)
