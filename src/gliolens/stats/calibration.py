"""Whether a probability means what it says, and what acting on it is worth."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from gliolens.errors import ConfigError
from gliolens.stats.intervals import Interval, unknown


@dataclass(frozen=True)
class ReliabilityBin:
    """One row of a reliability table.

    Attributes:
        low: lower edge, held by the bin.
        high: upper edge, held by the next bin (by this one where it is 1).
        n: cases in the bin.
        mean_probability: of these cases; NaN where n is 0.
        share: of these cases that are positive; NaN where n is 0.
    """

    low: float
    high: float
    n: int
    mean_probability: float
    share: float


def reliability(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Compare probability and share of positives in bins of equal width from 0 to 1.

    Args:
        truth: 0 or 1 a case, shape (n,).
        probability: of class 1, shape (n,), 0 to 1.
        bins: how many.

    Raises:
        ConfigError: lengths differ, there is no case or no bin, or values are out of range.
    """
    positive, p = _checked(truth, probability, bins)
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    return tuple(
        _bin(positive[where == k], p[where == k], float(edges[k]), float(edges[k + 1])) for k in range(bins)
    )


def calibration_error(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean |share - mean probability| of the bins, each weighted by its cases.

    Of the probability of class 1, not of the confidence in the decision (Naeini et al. 2015,
    doi 10.1609/aaai.v29i1.9602). 0 is best, 1 worst; a small sample raises it. Arguments and errors as
    `reliability`.
    """
    table = [b for b in reliability(truth, probability, bins) if b.n]
    return sum(b.n * abs(b.share - b.mean_probability) for b in table) / sum(b.n for b in table)


def _bin(positive: np.ndarray, p: np.ndarray, low: float, high: float) -> ReliabilityBin:
    if not p.size:
        return ReliabilityBin(low, high, 0, math.nan, math.nan)
    return ReliabilityBin(low, high, p.size, float(p.mean()), float(positive.mean()))


def _checked(truth: ArrayLike, probability: ArrayLike, bins: int) -> tuple[np.ndarray, np.ndarray]:
    given, p = np.asarray(truth), np.asarray(probability, float)
    if given.ndim != 1 or given.shape != p.shape or not p.size:
        raise ConfigError(
            f"truth and probability are one number a case; found shapes {given.shape}, {p.shape}"
        )
    if bins < 1:
        raise ConfigError(f"bins is {bins}; expected 1 or more")
    if not np.isin(given, (0, 1)).all() or not ((p >= 0) & (p <= 1)).all():
        raise ConfigError("truth is 0 or 1 and probability between 0 and 1; found other values")
    return given == 1, p


@dataclass(frozen=True)
class CalibrationLine:
    """How log odds would have to be turned to fit what came: `logit P(y) = intercept + slope * logit p`.

    Attributes:
        intercept: 0 where the mean of the probabilities is right, of a slope held at 1 (calibration in the large).
        slope: 1 where they are as extreme as they should be; below 1 they are too extreme.
    """

    intercept: Interval
    slope: Interval


def calibration_line(truth: ArrayLike, probability: ArrayLike) -> CalibrationLine:
    """Calibration intercept and slope with Wald's intervals (Cox 1958, doi 10.1093/biomet/45.3-4.562).

    Args:
        truth: 0 or 1 a case, shape (n,); each case of a patient of its own.
        probability: of class 1, shape (n,), 0 to 1; taken as at least 1e-6 from either end.

    Returns:
        Intervals; without a value, and with the reason, where there is one class only or the probabilities part both
        classes, so that no finite slope fits best.

    Raises:
        ConfigError: lengths differ, there is no case, or values are out of range.
    """
    positive, p = _checked(truth, probability, 1)
    log_odds = logit(np.clip(p, 1e-6, 1 - 1e-6))
    if positive.all() or not positive.any():
        return CalibrationLine(*[unknown("one class only")] * 2)
    intercept = _newton(positive, np.ones((p.size, 1)), log_odds)
    slope: Interval = unknown("the probabilities are all alike")
    if np.ptp(log_odds) > 0:
        apart = log_odds[positive].min() >= log_odds[~positive].max()
        turned = log_odds[positive].max() <= log_odds[~positive].min()
        slope = (
            unknown("the probabilities part both classes: no finite slope fits best")
            if apart or turned
            else _newton(positive, np.column_stack([np.ones(p.size), log_odds]), np.zeros(p.size))
        )
    return CalibrationLine(intercept, slope)


def _newton(positive: np.ndarray, x: np.ndarray, offset: np.ndarray) -> Interval:
    """The last coefficient of an unpenalised logistic regression, with Wald's interval."""
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        q = expit(x @ beta + offset)
        curvature = x.T @ (x * (q * (1 - q))[:, None])
        step = np.linalg.solve(curvature, x.T @ (positive - q))
        beta = beta + step / max(1.0, np.abs(step).max() / 5)  # no leap beyond what probabilities can tell
        if np.abs(step).max() < 1e-10:
            break
    error = 1.959964 * float(np.sqrt(np.linalg.inv(curvature)[-1, -1]))
    value = float(beta[-1])
    return Interval(value, value - error, value + error)


def net_benefit(truth: ArrayLike, probability: ArrayLike, thresholds: ArrayLike) -> dict[str, np.ndarray]:
    """Decision curve (Vickers & Elkin 2006, doi 10.1177/0272989X06295361): what acting on a probability is worth.

        benefit(t) = TP / n - FP / n * t / (1 - t)

    Args:
        truth: 0 or 1 a case, shape (n,).
        probability: of class 1, shape (n,); who has t or more is acted on.
        thresholds: t, above 0 and below 1.

    Returns:
        `model`, and `all`: where everybody is acted on; nobody has 0.

    Raises:
        ConfigError: lengths differ, there is no case, or values are out of range.
    """
    positive, p = _checked(truth, probability, 1)
    t = np.asarray(thresholds, float)
    if not ((t > 0) & (t < 1)).all():
        raise ConfigError("thresholds lie above 0 and below 1; found others")
    cost = t / (1 - t)
    acted = p[:, None] >= t
    model = (acted & positive[:, None]).mean(axis=0) - (acted & ~positive[:, None]).mean(axis=0) * cost
    return {"model": model, "all": positive.mean() - (~positive).mean() * cost}
