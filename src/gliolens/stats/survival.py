"""How long patients live: Kaplan-Meier curves, the log-rank test and Cox's model, by lifelines.

A patient who was alive when last seen is censored there; nobody's survival is guessed.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from gliolens.errors import ConfigError
from gliolens.stats.intervals import Interval

NOT_REACHED = "fewer than half have died"
OPEN = "the upper bound is not reached"


@dataclass(frozen=True, eq=False)
class Curve:
    """A Kaplan-Meier curve (Kaplan and Meier 1958, doi 10.1080/01621459.1958.10501452).

    Attributes:
        name: of the group.
        n: patients.
        events: deaths that were seen.
        median_days: by when half had died, with its 95 % interval; a bound is infinite where it is not reached, and
            the value NaN where the median itself is not.
        days: on which someone died or was last seen (k,), from 0.
        alive: share alive from each of these days on (k,), with bounds `low` and `high` (Greenwood, log-log).
    """

    name: str
    n: int
    events: int
    median_days: Interval
    days: Float[np.ndarray, " k"]
    alive: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]


@dataclass(frozen=True)
class LogRank:
    """Whether the groups' survival differs: chi-squared, its degrees of freedom, and p."""

    chi_squared: float
    degrees: int
    p: float


@dataclass(frozen=True)
class Hazard:
    """By how much a covariate multiplies the hazard of death.

    Attributes:
        name: of the covariate.
        ratio: with its 95 % interval.
        p: of no difference.
        proportional_p: of a ratio that is the same at all times, by Schoenfeld's residuals against the ranks of time
            (Grambsch and Therneau 1994, doi 10.1093/biomet/81.3.515). Where it is small, one ratio does not tell all.
    """

    name: str
    ratio: Interval
    p: float
    proportional_p: float


def kaplan_meier(name: str, days: Float[np.ndarray, " n"], died: Bool[np.ndarray, " n"]) -> Curve:
    """The curve of one group.

    Args:
        name: of the group.
        days: to death, or to when a patient was last seen.
        died: whether death was seen.

    Raises:
        ConfigError: no patient, or days below 0.
    """
    _check(days, died)
    from lifelines import KaplanMeierFitter  # takes a second to import, and few callers need it

    with np.errstate():  # lifelines silences NumPy for the whole process
        fit = KaplanMeierFitter().fit(days, died)
    bounds = fit.confidence_interval_survival_function_
    alive = fit.survival_function_.iloc[:, 0]
    low, high = bounds.iloc[:, 0], bounds.iloc[:, 1]
    median = Interval(math.nan, math.nan, math.nan, NOT_REACHED)
    if math.isfinite(value := _half(alive)):
        latest = _half(high[alive > 0])  # where nobody is left the band is not defined
        median = Interval(value, _half(low), latest, "" if math.isfinite(latest) else OPEN)
    arrays = (np.asarray(s, float) for s in (alive.index, alive, low, high))
    return Curve(name, len(days), int(died.sum()), median, *arrays)


def _half(curve: "pd.Series[float]") -> float:
    """The first day on which no more than half are alive."""
    below = curve.index[curve <= 0.5 + 1e-9]  # an exact half is rounded either way
    return float(below[0]) if len(below) else math.inf


def at_risk(days: Float[np.ndarray, " n"], at: Sequence[float]) -> list[int]:
    """How many patients were alive and in sight just before each day."""
    return [int((days >= day).sum()) for day in at]


def log_rank(days: Float[np.ndarray, " n"], died: Bool[np.ndarray, " n"], groups: Sequence[str]) -> LogRank:
    """Compare the survival of two or more groups (Mantel 1966).

    Raises:
        ConfigError: fewer than two groups, no death, or days below 0.
    """
    _check(days, died)
    if len(set(groups)) < 2:
        raise ConfigError(f"one group only: {', '.join(set(groups))}; expected two or more to compare")
    if not died.any():
        raise ConfigError("nobody died: there is nothing to compare")
    from lifelines.statistics import multivariate_logrank_test

    found = multivariate_logrank_test(days, np.asarray(groups), died)
    return LogRank(float(found.test_statistic), len(set(groups)) - 1, float(found.p_value))


def cox(
    days: Float[np.ndarray, " n"], died: Bool[np.ndarray, " n"], covariates: pd.DataFrame
) -> list[Hazard]:
    """Cox's model of proportional hazards (Cox 1972, doi 10.1111/j.2517-6161.1972.tb00899.x), ties by Efron.

    Args:
        days: to death, or to when a patient was last seen.
        died: whether death was seen.
        covariates: a column of numbers each, no cell empty.

    Raises:
        ConfigError: a cell is empty, fewer than `DEATHS` deaths a covariate, one covariate follows from the others, or
            one tells death from life so well that no finite ratio fits.
    """
    _check(days, died)
    _check_covariates(died, covariates.astype(float))
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning
    from lifelines.statistics import proportional_hazard_test

    table = covariates.astype(float).assign(days_=days, died_=died)
    try:
        with np.errstate(), warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            fitted = CoxPHFitter().fit(table, "days_", "died_")
            check = proportional_hazard_test(fitted, table, time_transform="rank")
    except (ConvergenceError, ConvergenceWarning, np.linalg.LinAlgError) as error:
        raise ConfigError(f"no finite hazard ratio fits: {str(error).splitlines()[0]}") from error
    summary, constant = fitted.summary, dict(zip(check.name, np.ravel(check.p_value), strict=True))
    if not np.isfinite(summary[_COLUMNS].to_numpy(float)).all():
        raise ConfigError("no finite hazard ratio fits; leave the covariate out that tells death from life")
    return [_hazard(name, row, float(constant[name])) for name, row in summary.iterrows()]


DEATHS = 5
"""Least for each covariate: with fewer, ratios are far off more often than not (Vittinghoff and McCulloch 2007)."""
_COLUMNS = ["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]


def _check_covariates(died: np.ndarray, table: pd.DataFrame) -> None:
    if table.isna().any(axis=None):
        raise ConfigError(f"covariates {', '.join(table.columns[table.isna().any()])} have empty cells")
    if died.sum() < DEATHS * table.shape[1]:
        raise ConfigError(
            f"{died.sum()} deaths for {table.shape[1]} covariates; {DEATHS} for each are needed"
        )
    if np.linalg.matrix_rank(table - table.mean()) < table.shape[1]:
        raise ConfigError(
            f"of {', '.join(table.columns)} one is constant or follows from the others; leave it out"
        )


def _hazard(name: Any, row: "pd.Series[float]", proportional_p: float) -> Hazard:
    ratio, low, high, p = (float(row[column]) for column in _COLUMNS)
    return Hazard(str(name), Interval(ratio, low, high), p, proportional_p)


def _check(days: np.ndarray, died: np.ndarray) -> None:
    if len(days) == 0 or len(days) != len(died):
        raise ConfigError(f"{len(days)} survival times and {len(died)} events; expected one each, and some")
    if not (np.isfinite(days).all() and (days >= 0).all()):
        raise ConfigError("a survival time is unknown or below 0; leave the patient out or correct it")
