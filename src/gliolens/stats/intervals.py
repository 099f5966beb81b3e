"""Values with their intervals: the AUC by DeLong, and any statistic by a bootstrap over patients.

A value that does not vary in the sample (an AUC of 1, no error at all) has an estimated variance of zero, and
would get an interval of no width. It gets `unvaried` instead: bounds from the number of independent patients.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gliolens.errors import ConfigError

_BLOCK = 256  # resamples held in memory at a time
_LOST_SHARE = 0.05  # of resamples without a value, above which the interval says so


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its interval.

    Attributes:
        value: the estimate on all cases.
        low: lower bound.
        high: upper bound.
        reason: why something is NaN, or how an unusual bound came about; empty otherwise.

    Raises:
        ConfigError: something is NaN without a reason, or the value lies outside its bounds.
    """

    value: float
    low: float
    high: float
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.reason and any(math.isnan(x) for x in (self.value, self.low, self.high)):
            raise ConfigError(f"{self}: NaN needs a reason")
        if self.low > self.value or self.value > self.high:
            raise ConfigError(f"{self}: the value lies outside its bounds")


class Difference(NamedTuple):
    """A difference of two AUCs with its interval, and the two-sided p-value of no difference."""

    interval: Interval
    p_value: float


def unknown(reason: str, value: float = math.nan) -> Interval:
    """Build an interval without bounds, and without a value unless one is given."""
    return Interval(value, math.nan, math.nan, reason)


def unvaried(
    value: float, patients: int, *, lowest: float = 0.0, highest: float = 1.0, level: float = 0.95
) -> Interval:
    """Bound the mean of a quantity that was the same in every one of `patients` independent draws.

    If one draw gives the value with probability q, all do with q^n; so q is at least
    t = ((1 - level) / 2)^(1 / n) (Clopper & Pearson 1934, doi 10.1093/biomet/26.4.404), and what the other
    draws would give lies between `lowest` and `highest`. For an AUC of 1 the draws are disjoint pairs of one
    positive and one negative patient, as many as the smaller class has. Never too narrow, often wide: eight
    pairs give an AUC of 1 the bounds 0.63 and 1.
    """
    tail = ((1 - level) / 2) ** (1 / patients)
    low, high = value * tail + (1 - tail) * lowest, value * tail + (1 - tail) * highest
    reason = f"no variation in the sample; exact bounds from {patients} independent draws"
    return Interval(value, min(low, value), max(high, value), reason)


def over_folds(found: Interval, folds: int, *, lowest: float = 0.0, highest: float = 1.0) -> Interval:
    """Widen the interval of a score over answers pooled from folds: models of any two folds share most patients.

    Each patient tested in one fold was learnt from in all others, so errors of the folds go together, and the usual
    interval, which takes the cases for independent, is too narrow: with five folds and no signal it holds the truth 78
    to 87 times in 100 (`benchmarks/coverage.py`). The variance is multiplied by 1 + (k - 1) / k: two folds' scores are
    taken to be correlated by 1 / k, the share of patients that one tests (Nadeau & Bengio 2003,
    doi 10.1023/A:1024068626366, whose share this is). No estimate of the correlation from the folds alone is unbiased
    (Bengio & Grandvalet 2004, jmlr v5), hence a constant. The interval is stretched on the logit scale; a bound at an
    end of the scale, and an interval whose value is there, stays.

    Args:
        found: of answers pooled from all folds, each patient tested once.
        folds: how many; with one, nothing is pooled and nothing changes.
        lowest, highest: ends of the score's scale.
    """
    if folds < 2 or not lowest < found.value < highest or math.isnan(found.low):
        return found
    stretch = stretch_of(folds)
    middle = _logit((found.value - lowest) / (highest - lowest))

    def stretched(bound: float) -> float:
        share = (bound - lowest) / (highest - lowest)
        if not 0 < share < 1:
            return bound
        return lowest + (highest - lowest) * _expit(middle + stretch * (_logit(share) - middle))

    low, high = stretched(found.low), stretched(found.high)
    return Interval(found.value, min(low, found.value), max(high, found.value), found.reason)


def stretch_of(folds: int) -> float:
    """How many times as wide, on the logit scale, an interval over pooled folds is; see `over_folds`."""
    return math.sqrt(1 + (folds - 1) / folds)


# --- DeLong -------------------------------------------------------------------------------------------------


def delong(truth: ArrayLike, score: ArrayLike, *, level: float = 0.95) -> Interval:
    """Area under the ROC curve with its interval, for one case a patient (else use `bootstrap`).

    The variance is that of DeLong et al. 1988 (doi 10.2307/2531595), from midranks (Sun & Xu 2014,
    doi 10.1109/LSP.2014.2337313). The interval is normal on the logit scale, so it stays between 0 and 1 and
    is skew near them. Where the variance is zero (AUC 0 or 1, or one score for all) see `unvaried`. With few
    cases it is somewhat narrow: 10 against 100 with an AUC of 0.92 are covered 89 times in 100, not 95.

    Args:
        truth: 0 or 1 a case, shape (n,).
        score: higher speaks for 1, shape (n,), any unit; ties count half.
        level: coverage, between 0 and 1.

    Raises:
        ConfigError: lengths differ, truth is not 0 or 1, a score is NaN, or the level is not a share.
    """
    z = _quantile(level)
    positive, (scores,) = _two_classes(truth, score)
    if reason := _absent(positive):
        return unknown(reason)
    wins = _wins(positive, scores)
    auc = float(wins[0].mean()) / wins[1].size
    if _constant(wins):
        return unvaried(auc, min(map(len, wins)), level=level)
    if reason := _too_few(wins):
        return unknown(reason, auc)
    logit, reach = _logit(auc), z * _standard_error(wins) / (auc * (1 - auc))
    return Interval(auc, _expit(logit - reach), _expit(logit + reach))


def delong_difference(
    truth: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, *, level: float = 0.95
) -> Difference:
    """AUC of a less AUC of b on the same cases, one case a patient (DeLong et al. 1988, doi 10.2307/2531595).

    The interval is normal, cut at -1 and 1; p is two-sided. Where the difference has no variance (both scores
    order the cases alike, say) bounds are those of `unvaried`, and p is the level at which they reach zero.

    Raises:
        ConfigError: as `delong`.
    """
    z = _quantile(level)
    positive, (a, b) = _two_classes(truth, score_a, score_b)
    if reason := _absent(positive):
        return Difference(unknown(reason), math.nan)
    ahead, behind = _wins(positive, a), _wins(positive, b)
    gain = (ahead[0] - behind[0], ahead[1] - behind[1])
    value, fewer = float(gain[0].mean()) / gain[1].size, min(map(len, gain))
    if _constant(gain):
        p = min(1.0, 2 * (1 + abs(value)) ** -fewer)
        return Difference(unvaried(value, fewer, lowest=-1.0, level=level), p)
    if reason := _too_few(gain):
        return Difference(unknown(reason, value), math.nan)
    error = _standard_error(gain)
    p = math.erfc(abs(value) / error / math.sqrt(2))
    return Difference(Interval(value, max(-1.0, value - z * error), min(1.0, value + z * error)), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979, jstor 4615733): no more than one in twenty families errs at .05.

    Args:
        p_values: of all comparisons of one family; NaN where one could not be made, which does not count.

    Returns:
        Corrected ones in the same order, 0 to 1; NaN stays NaN.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    out, least = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        out[i] = least
    return out


_Wins = tuple[np.ndarray, np.ndarray]
"""A number for each positive and for each negative case, in pairs won: halves, so comparisons are exact."""


def _wins(positive: np.ndarray, score: np.ndarray) -> _Wins:
    """Pairs ordered rightly, ties half: negatives below each positive, positives above each negative."""
    rank = _midranks(score)
    below = rank[positive] - _midranks(score[positive])
    above = positive.sum() - (rank[~positive] - _midranks(score[~positive]))
    return below, above


def _midranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def _standard_error(wins: _Wins) -> float:
    positives, negatives = len(wins[0]), len(wins[1])
    of_positives = wins[0].var(ddof=1) / negatives**2 / positives
    of_negatives = wins[1].var(ddof=1) / positives**2 / negatives
    return math.sqrt(of_positives + of_negatives)


def _constant(wins: _Wins) -> bool:
    return all(bool((w == w[0]).all()) for w in wins)


def _too_few(wins: _Wins) -> str:
    fewer = min(map(len, wins))
    return "" if fewer > 1 else "one case in the smaller class: its variance cannot be estimated"


def _absent(positive: np.ndarray) -> str:
    missing = [str(c) for c in (0, 1) if not (positive == c).any()]
    return f"no case of class {' and '.join(missing)}" if missing else ""


def _two_classes(truth: ArrayLike, *scores: ArrayLike) -> tuple[np.ndarray, list[np.ndarray]]:
    given, columns = np.asarray(truth), [np.asarray(s, float) for s in scores]
    if given.ndim != 1 or any(c.shape != given.shape for c in columns):
        shapes = [c.shape for c in (given, *columns)]
        raise ConfigError(f"truth and scores are one number a case each; found shapes {shapes}")
    if not np.isin(given, (0, 1)).all():
        raise ConfigError(f"truth is 0 or 1 a case; found {np.unique(given)[:10].tolist()}")
    if any(np.isnan(c).any() for c in columns):
        raise ConfigError("a score is NaN; leave such cases out and say so, or give them a score")
    return given == 1, columns


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


# --- bootstrap over patients --------------------------------------------------------------------------------


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    patients: Sequence[str],
    strata: Sequence[object] | np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic, over patients drawn with replacement within their stratum.

    All exams of a patient are drawn together (cluster bootstrap: Field & Welsh 2007,
    doi 10.1111/j.1467-9868.2007.00593.x; percentiles: Efron & Tibshirani 1993). The interval is widened where
    it would leave the value out. A statistic that never varies gets NaN bounds, not an interval of no width.

    Args:
        statistic: number from the row numbers of the exams drawn, shape (m,), repeats included; NaN where
            it is undefined.
        patients: patient of each exam, shape (n,).
        strata: class of each exam, shape (n,); a patient's stratum is the commonest of its exams.
        resamples: how many draws.
        seed: of the draws.
        level: coverage, between 0 and 1.

    Raises:
        ConfigError: lengths differ, there are no resamples, or the level is not a share.
    """
    _quantile(level)
    draws = patient_weights(patients, strata, resamples=resamples, seed=seed)
    rows = np.arange(len(patients))
    value = float(statistic(rows)) if rows.size else math.nan
    if not math.isfinite(value):
        return unknown("the statistic is not defined on these cases" if rows.size else "no cases")
    samples = [statistic(np.repeat(rows, times)) for block in draws for times in block]
    return percentile_interval(value, np.array(samples, float), level=level)


def patient_weights(
    patients: Sequence[str], strata: Sequence[object] | np.ndarray, *, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Draw patients with replacement within strata; yield how often each exam is drawn.

    Returns:
        Blocks of shape (some resamples, n), together `resamples` rows. See `bootstrap` for the arguments.

    Raises:
        ConfigError: lengths differ or there are no resamples.
    """
    if len(patients) != len(strata):
        raise ConfigError(f"{len(patients)} patients but {len(strata)} strata; expected one of each an exam")
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}; expected 1 or more")
    names, patient = np.unique(np.asarray(patients, str), return_inverse=True)
    kinds, stratum = np.unique(np.asarray(strata), return_inverse=True)
    exams = np.zeros((names.size, kinds.size), int)
    np.add.at(exams, (patient, stratum), 1)
    home = exams.argmax(axis=1) if kinds.size else np.zeros(0, int)
    groups = [np.flatnonzero(home == k) for k in np.unique(home)]
    return _draw(groups, patient, resamples, np.random.default_rng(seed))


def _draw(
    groups: list[np.ndarray], patient: np.ndarray, resamples: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    for start in range(0, resamples, _BLOCK):
        rows = min(_BLOCK, resamples - start)
        times = np.zeros((rows, sum(g.size for g in groups)), int)
        for members in groups:
            even = np.full(members.size, 1 / members.size)
            times[:, members] = random.multinomial(members.size, even, size=rows)
        yield times[:, patient]


def percentile_interval(value: float, samples: np.ndarray, *, level: float = 0.95) -> Interval:
    """Percentiles of resampled values (m,), widened to hold the value.

    Resamples without a finite value are left out, and the reason counts them where they are more than 5 %.
    """
    known = samples[np.isfinite(samples)]
    lost = samples.size - known.size
    if known.size == 0:
        return unknown("no resample gave a value", value)
    if not varies(known):
        return unknown("every resample gave the same value: the interval cannot be estimated", value)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    note = f"{lost} of {samples.size} resamples gave no value and were left out"
    reason = note if lost > _LOST_SHARE * samples.size else ""
    return Interval(value, min(float(low), value), max(float(high), value), reason)


def varies(samples: np.ndarray) -> bool:
    """Whether resampled values differ by more than rounding."""
    known = samples[np.isfinite(samples)]
    return bool(known.size and np.ptp(known) > 1e-12 * np.abs(known).max())
