"""Whether a probability means what it says: the reliability table and the expected calibration error."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gliolens.errors import ConfigError


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
