"""How far apart two AUCs are: on the same cases, and on cases of two cohorts."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfc, erfcinv

from gliolens.errors import ConfigError
from gliolens.stats import intervals
from gliolens.stats.classification import weighted_auc
from gliolens.stats.intervals import (
    Difference,
    Interval,
    delong_difference,
    patient_weights,
    percentile_interval,
    unknown,
)


def auc_difference(
    truth: ArrayLike,
    p: np.ndarray,
    other: np.ndarray,
    patients: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """AUC of `p` less that of `other` on the same cases.

    DeLong's where there are two classes and one case a patient; else a bootstrap over patients of the mean AUC over
    classes, with p from the share of resamples beyond zero (Efron & Tibshirani 1993, section 15.4), of those that have
    a value; at least 2 / (1 + their number).

    Args:
        truth: class of each case, 0 to k - 1, shape (n,).
        p, other: probabilities (n, k).
        patients: of each case.
        resamples: draws of patients.
        seed: of the draws.

    Raises:
        ConfigError: lengths differ.
    """
    given = np.asarray(truth, int)
    if not given.shape[0] == p.shape[0] == other.shape[0] == len(patients):
        raise ConfigError(
            f"{given.size} classes, {p.shape[0]} and {other.shape[0]} rows, {len(patients)} patients; expected as many"
        )
    if p.shape[1] == 2 and len(set(patients)) == len(patients):
        return delong_difference(given, p[:, 1], other[:, 1])
    one = np.ones((1, given.size))
    value = float((weighted_auc(one, given, p) - weighted_auc(one, given, other))[0])
    if math.isnan(value):
        return Difference(unknown("a class has no case"), math.nan)
    blocks = patient_weights(patients, given, resamples=resamples, seed=seed)
    drawn = np.concatenate([weighted_auc(w, given, p) - weighted_auc(w, given, other) for w in blocks])
    beyond, known = min((drawn <= 0).sum(), (drawn >= 0).sum()), np.isfinite(drawn).sum()
    return Difference(percentile_interval(value, drawn), min(1.0, 2 * (beyond + 1) / (known + 1)))


def over_folds(found: Difference, folds: int) -> Difference:
    """A difference of answers pooled from so many folds: wider, and less sure, as `intervals.over_folds` says why."""
    if folds < 2 or math.isnan(found.p_value):
        return found
    interval = intervals.over_folds(found.interval, folds, lowest=-1.0)
    return Difference(interval, float(erfc(erfcinv(found.p_value) / intervals.stretch_of(folds))))


def independent_difference(first: Interval, second: Interval) -> Interval:
    """The first value less the second, of other patients, with an interval from those of both.

        low = d - sqrt((a - low_a)^2 + (high_b - b)^2),   high = d + sqrt((high_a - a)^2 + (b - low_b)^2)

    (Zou & Donner 2008, doi 10.1002/sim.3095): it keeps the skew of both, and is asymmetric where they are.
    """
    value = first.value - second.value
    if math.isnan(value):
        return unknown(first.reason or second.reason)
    bounds = (first.low, first.high, second.low, second.high)
    if any(map(math.isnan, bounds)):
        return unknown(first.reason or second.reason, value)
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, low, high)
