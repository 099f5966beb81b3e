"""Whether patients whom a method calls at risk die sooner, each judged by what was learnt from others.

Survival has no part in who is at high risk (`prognosis.training_cuts`), so under a method that knows nothing the
log-rank test errs once in twenty times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from gliolens.errors import ConfigError
from gliolens.progress import say
from gliolens.stats.intervals import Interval, unknown
from gliolens.stats.prognosis import (
    concordance,
    horizon,
    integrated_brier,
    predicted_survival,
    training_cuts,
)
from gliolens.stats.survival import Curve, Hazard, LogRank, cox, kaplan_meier, log_rank

BASELINE: Final = "age and sex"
"""The control that the C-index of every other row is compared with."""
GROUPS: Final = ("low", "high")
DAYS: Final = 60
"""How many days predicted survival is scored at, evenly up to the horizon."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Patients whose survival is known and about whom every method was asked.

    Attributes:
        target: what the methods told.
        cases, fold: of each patient (n,), folds from 0.
        days, died: what came (n,).
        trained: rows of the training patients of each fold.
        risks: of each patient (n,), by method, in the order of the bench.
        controls: which methods are controls.
        left_out: why each other case is not counted.
    """

    target: str
    cases: Sequence[str]
    fold: np.ndarray
    days: np.ndarray
    died: np.ndarray
    trained: Sequence[np.ndarray]
    risks: Mapping[str, np.ndarray]
    controls: frozenset[str]
    left_out: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Judged:
    """One method.

    Attributes:
        method: its name in the bench.
        control: whether it is one.
        cuts: of each fold.
        high: who is at high risk (n,).
        curves: Kaplan-Meier of low and high, where anybody is there.
        test: whether they differ; None where all are in one group or nobody died.
        hazard: of high against low; None where it cannot be told.
        concordance: the C-index.
        gained: less that of `BASELINE`.
        brier: integrated Brier score of Cox's model of this risk, fitted to the training patients of each fold.
    """

    method: str
    control: bool
    cuts: Sequence[float]
    high: np.ndarray
    curves: Sequence[Curve]
    test: LogRank | None
    hazard: Hazard | None
    concordance: Interval
    gained: Interval
    brier: Interval


@dataclass(frozen=True, eq=False)
class RiskGroups:
    """All methods on the same patients; `nobody_told` is the integrated Brier score of one curve for everybody."""

    asked: Asked
    judged: Sequence[Judged]
    nobody_told: Interval
    horizon_days: float


def judge(asked: Asked, *, cut: str | float = "median", seed: int = 0) -> RiskGroups:
    """Judge every method; see `Judged`."""
    methods = list(asked.risks)
    base = [asked.risks[BASELINE]] if BASELINE in methods else []
    alone, gained = concordance(asked.days, asked.died, [*asked.risks.values(), *base], seed=seed)
    if not base:
        gained = [unknown(f"the bench has no control {BASELINE}")] * len(methods)
    at = np.linspace(0, horizon(asked.days, asked.died), DAYS)
    judged = [_judge(asked, m, cut, alone[i], gained[i], at, seed) for i, m in enumerate(methods)]
    return RiskGroups(asked, judged, _nobody_told(asked, at, seed), float(at[-1]))


def _judge(
    asked: Asked, method: str, cut: str | float, alone: Interval, gained: Interval, at: np.ndarray, seed: int
) -> Judged:
    risk = asked.risks[method]
    cuts = training_cuts(risk, asked.trained, cut)
    high = risk >= np.array(cuts)[asked.fold]
    curves = [
        kaplan_meier(name, asked.days[mine], asked.died[mine])
        for name, mine in zip(GROUPS, (~high, high), strict=True)
        if mine.any()
    ]
    test = log_rank(asked.days, asked.died, [GROUPS[h] for h in high.astype(int)]) if len(curves) == 2 and (
        asked.died.any()
    ) else None  # fmt: skip
    return Judged(
        method, method in asked.controls, cuts, high, curves, test, _hazard(asked, method, high), alone,
        gained, _brier(asked, method, at, seed),
    )  # fmt: skip


def _hazard(asked: Asked, method: str, high: np.ndarray) -> Hazard | None:
    try:
        return cox(asked.days, asked.died, pd.DataFrame({"high": high.astype(float)}))[0]
    except ConfigError as error:
        say(f"{method}: no hazard ratio of high against low: {error}")
        return None


def _brier(asked: Asked, method: str, at: np.ndarray, seed: int) -> Interval:
    """Of survival that Cox's model predicts from the risk's log odds, learnt from training patients alone."""
    odds = _log_odds(asked.risks[method])
    alive = np.zeros((len(odds), len(at)))
    for k, rows in enumerate(asked.trained):
        mine = np.flatnonzero(asked.fold == k)
        if not mine.size:
            continue
        try:
            alive[mine] = predicted_survival(asked.days[rows], asked.died[rows], odds[rows], odds[mine], at)
        except ConfigError as error:
            return unknown(f"fold {k + 1}: {error}")
    return _scored(asked, alive, at, seed)


def _scored(asked: Asked, alive: np.ndarray, at: np.ndarray, seed: int) -> Interval:
    try:
        return integrated_brier(asked.days, asked.died, alive, at, seed=seed)
    except ConfigError as error:
        return unknown(str(error))


def _log_odds(risk: np.ndarray) -> np.ndarray:
    clipped = np.clip(risk, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _nobody_told(asked: Asked, at: np.ndarray, seed: int) -> Interval:
    """Of the training patients' Kaplan-Meier curve, one for everybody in a fold."""
    alive = np.zeros((len(asked.cases), len(at)))
    for k, rows in enumerate(asked.trained):
        if len(rows):
            curve = kaplan_meier("training", asked.days[rows], asked.died[rows])
            alive[asked.fold == k] = curve.alive[np.searchsorted(curve.days, at, side="right") - 1]
        elif (asked.fold == k).any():
            return unknown(f"fold {k + 1} has no training patient whose survival is known")
    return _scored(asked, alive, at, seed)
