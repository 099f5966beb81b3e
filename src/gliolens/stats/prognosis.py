"""How well a number tells who lives longer: concordance, integrated Brier score, and cuts no tested patient moves."""

import math
import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from gliolens.errors import ConfigError
from gliolens.stats.intervals import (
    Interval,
    patient_weights,
    percentile_interval,
    unknown,
    unvaried,
    varies,
)
from gliolens.stats.survival import DEATHS

HORIZON: Final = 0.9
"""Share of the times that lie before the last day at which predicted survival is scored: few are in sight later."""
_MEDIAN: Final = "median"


# --- groups -----------------------------------------------------------------------------------------------------


def training_cuts(
    risk: Float[np.ndarray, " n"],
    trained: Sequence[Int[np.ndarray, "_"]],
    cut: str | float = _MEDIAN,
) -> list[float]:
    """From which risk on a tested patient counts as high, a fold each.

    The median is that of the answers about the fold's training patients. A fold's own model has learnt from these, so
    what it says of them is no guide to new patients; taken are the answers that the other folds' models gave about
    them when they were held out. Those models did learn from the patients tested here, but from their classes and not
    from their survival; all that reaches the groups is a single number, the middle of a distribution.

    Args:
        risk: of each patient, answered while held out.
        trained: rows of the training patients of each fold.
        cut: `median`, or a risk fixed beforehand.

    Raises:
        ConfigError: no such cut, or a fold without a training patient that was answered.
    """
    if cut != _MEDIAN:
        return [_fixed(cut)] * len(trained)
    if not all(len(rows) for rows in trained):
        raise ConfigError(
            "a fold has no training patient whose answer and survival are known, so no median; give a cut fixed "
            "beforehand, such as 0.5, or a bench of more folds"
        )
    return [float(np.median(risk[rows])) for rows in trained]


def _fixed(cut: str | float) -> float:
    try:
        value = float(cut)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ConfigError(f"cut is {cut!r}; expected median, or a probability between 0 and 1")
    return value


# --- concordance ------------------------------------------------------------------------------------------------


def concordance(
    days: Float[np.ndarray, " n"],
    died: Bool[np.ndarray, " n"],
    risks: Sequence[Float[np.ndarray, " n"]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[list[Interval], list[Interval]]:
    """Share of pairs in which who has the higher risk dies first, ties half (C-index; Harrell et al. 1996, doi
    10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4).

    A pair counts where it is known who died first: the earlier of the two has died, or both times are alike and one of
    the two has died then.

    Args:
        days: to death, or to when a patient was last seen; a row a patient.
        died: whether death was seen.
        risks: one or more for the same patients, high for who is expected to die first.
        resamples: draws of patients with replacement, by whether they died.
        seed: of the draws.

    Returns:
        The C-index of each, and that of each less that of the last, on the same draws; 95 % bootstrap intervals.

    Raises:
        ConfigError: lengths differ, or a risk is not finite.
    """
    if any(r.shape != days.shape or not np.isfinite(r).all() for r in risks) or died.shape != days.shape:
        raise ConfigError("days, deaths and risks are one finite number a patient each; found others")
    first = died[:, None] & ((days[:, None] < days) | ((days[:, None] == days) & ~died))
    if not first.any():
        return [unknown("no pair of which it is known who died first")] * len(risks), [
            unknown("no pair of which it is known who died first")
        ] * len(risks)
    won = [first * ((r[:, None] > r) + 0.5 * (r[:, None] == r)) for r in risks]
    values = np.array([w.sum() / first.sum() for w in won])
    draws = []
    for block in patient_weights([str(i) for i in range(len(days))], died, resamples=resamples, seed=seed):
        times = block.astype(float)
        pairs = ((times @ first) * times).sum(axis=1)
        held = np.array([((times @ w) * times).sum(axis=1) for w in won])
        draws.append(np.divide(held, pairs, out=np.full_like(held, np.nan), where=pairs > 0))
    drawn, n = np.concatenate(draws, axis=1), int(died.sum())
    alone = [_bounded(v, d, n) for v, d in zip(values, drawn, strict=True)]
    gained = [_bounded(v - values[-1], d - drawn[-1], n, -1.0) for v, d in zip(values, drawn, strict=True)]
    return alone, gained


def _bounded(value: float, drawn: np.ndarray, n: int, lowest: float = 0.0) -> Interval:
    value = float(value)
    return percentile_interval(value, drawn) if varies(drawn) else unvaried(value, n, lowest=lowest)


# --- predicted survival -----------------------------------------------------------------------------------------


def horizon(days: Float[np.ndarray, " n"], died: Bool[np.ndarray, " n"]) -> float:
    """The last day at which predicted survival is scored: see `HORIZON`, and a day on which somebody is in sight.

    Where follow-up was cut at one day for all, nobody is in sight on it: then the last day before, 0 if there is none.
    """
    end, (lost, chance) = float(np.quantile(days, HORIZON)), in_sight(days, died)
    blind = lost[chance == 0].min(initial=math.inf)
    return end if end < blind else float(days[days < blind].max(initial=0.0))


def predicted_survival(
    days: Float[np.ndarray, " n"],
    died: Bool[np.ndarray, " n"],
    risk: Float[np.ndarray, " n"],
    asked: Float[np.ndarray, " m"],
    at: Float[np.ndarray, " t"],
) -> Float[np.ndarray, "m t"]:
    """Chance of others to be alive on each day, by Cox's model of one risk fitted to training patients.

    Args:
        days, died, risk: of the training patients.
        asked: risks of others, in any unit as long as it is the same.
        at: days.

    Raises:
        ConfigError: too few deaths, or no finite ratio fits.
    """
    if died.sum() < DEATHS or np.ptp(risk) == 0:
        raise ConfigError(f"{int(died.sum())} deaths among training patients, or all of one risk")
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    middle, spread = risk.mean(), risk.std()
    table = pd.DataFrame({"risk": (risk - middle) / spread, "days": days, "died": died})
    try:
        with np.errstate(), warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            fitted = CoxPHFitter().fit(table, "days", "died")
    except (ConvergenceError, ConvergenceWarning, np.linalg.LinAlgError) as error:
        raise ConfigError(f"no finite hazard ratio fits: {str(error).splitlines()[0]}") from error
    with np.errstate():
        found = fitted.predict_survival_function(pd.DataFrame({"risk": (asked - middle) / spread}), times=at)
    return np.asarray(found.to_numpy(float).T)


def in_sight(
    days: Float[np.ndarray, " n"], died: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Chance of not being censored up to and with each day on which someone was, by Kaplan-Meier of the censoring.

    Who dies on the day on which another is last seen dies first.

    Returns:
        The days on which someone was censored, sorted, and the chance from each of them on.
    """
    at = np.unique(days[~died])
    left = np.array([(days >= t).sum() - (died & (days == t)).sum() for t in at], float)
    lost = np.array([(~died & (days == t)).sum() for t in at], float)
    return at, np.cumprod(1 - lost / left)


def _weight(censoring: tuple[np.ndarray, np.ndarray], at: np.ndarray, *, before: bool) -> np.ndarray:
    """1 over the chance of being in sight at each day, or just before it; infinite where there is none."""
    days, chance = censoring
    place = np.searchsorted(days, at, side="left" if before else "right")
    seen = np.append(1.0, chance)[place]
    return np.asarray(np.divide(1.0, seen, out=np.full(seen.shape, np.inf), where=seen > 0))


def brier_parts(
    days: Float[np.ndarray, " n"],
    died: Bool[np.ndarray, " n"],
    alive: Float[np.ndarray, "n t"],
    at: Float[np.ndarray, " t"],
) -> Float[np.ndarray, "n t"]:
    """What each patient adds to the Brier score of each day: their mean is the score (Graf et al. 1999, doi
    10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5).

        S_i(t)^2 / G(T_i-) where i has died by t,  (1 - S_i(t))^2 / G(t) where i lives on,  0 where i was lost before

    Args:
        days, died: what came.
        alive: predicted chance of being alive on each day.
        at: days, ascending.

    Raises:
        ConfigError: nobody was in sight on one of these days.
    """
    censoring = in_sight(days, died)
    gone = died[:, None] & (days[:, None] <= at)
    lives = days[:, None] > at
    if not np.isfinite(later := _weight(censoring, at, before=False)).all():
        raise ConfigError(
            f"nobody was in sight on day {at[~np.isfinite(later)][0]:.0f}; score earlier days only"
        )
    # Who died had been in sight until then, so the weight is finite wherever it counts.
    of_dead = np.where(died, _weight(censoring, days, before=True), 0.0)
    return np.asarray(gone * alive**2 * of_dead[:, None] + lives * (1 - alive) ** 2 * later)


def integrated_brier(
    days: Float[np.ndarray, " n"],
    died: Bool[np.ndarray, " n"],
    alive: Float[np.ndarray, "n t"],
    at: Float[np.ndarray, " t"],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of the Brier score over the days, trapezoid by trapezoid; 0 is best, 1/4 what a coin reaches.

    The 95 % interval is a bootstrap over patients, by whether they died; the chance of being in sight is not drawn
    anew. Arguments as `brier_parts`.

    Raises:
        ConfigError: the days cover no time, or nobody was in sight on one of them.
    """
    if at[-1] <= at[0]:
        raise ConfigError("no day before the last on which somebody was in sight, so nothing to score")
    parts = brier_parts(days, died, alive, at)
    each = np.trapezoid(parts, at, axis=1) / (at[-1] - at[0])
    names = [str(i) for i in range(len(days))]
    blocks = patient_weights(names, died, resamples=resamples, seed=seed)
    drawn = np.concatenate([block @ each / block.sum(axis=1) for block in blocks])
    value = float(each.mean())
    return _bounded(value, drawn, len(days)) if math.isfinite(value) else unknown("no score")
