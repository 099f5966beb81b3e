"""How far a score can be trusted, in words and as a track on the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gliolens.stats.intervals import Interval

_AUC_SCALE = (0.2, 1.0)  # ends of the drawn scale


@dataclass(frozen=True)
class Score:
    """One row of how far to trust an answer: an AUC with its interval, of the answer or of a control."""

    name: str
    auc: Interval
    is_control: bool = False


def verdict(scores: Sequence[Score]) -> tuple[str, str]:
    """How far an answer's score can be trusted: `good`, `weak` or `unknown`, and a sentence.

    Chance is an AUC of 0.5. Intervals are compared by whether they overlap, which is no formal test and errs
    towards doubt.
    """
    runs = [s.auc for s in scores if not s.is_control and not math.isnan(s.auc.value)]
    controls = [s for s in scores if s.is_control and not math.isnan(s.auc.value)]
    if not runs:
        return (
            "unknown",
            "No score on patients held out is known for this answer: how far to trust it is not known.",
        )
    run = max(runs, key=lambda auc: auc.value)
    if math.isnan(run.low):
        return "unknown", "This answer's AUC has no interval: it cannot be told from chance (0.50)."
    if run.low <= 0.5:
        return "weak", "Not shown to be better than chance: the interval reaches an AUC of 0.50."
    if not controls:
        return "unknown", "Better than chance (AUC 0.50), but no control stands beside it."
    best = max(controls, key=lambda s: s.auc.value)
    if best.auc.value >= run.value:
        return "weak", f"Better than chance, but no better than the control “{best.name}”."
    if not best.auc.high < run.low:
        return (
            "weak",
            f"Better than chance; not clearly better than the control “{best.name}” (intervals overlap).",
        )
    return "good", "Better than chance and than every control: the intervals do not overlap."


def on_scale(auc: float) -> float:
    """Where an AUC lies on the drawn scale, in per cent of its width."""
    low, high = _AUC_SCALE
    return 100 * (min(max(auc, low), high) - low) / (high - low)


def track(auc: Interval) -> tuple[float, float, float] | None:
    """Left end, width and middle of an interval on the drawn scale, in per cent; None where it is unknown."""
    if math.isnan(auc.value):
        return None
    low, high = (auc.value, auc.value) if math.isnan(auc.low) else (auc.low, auc.high)
    return on_scale(low), on_scale(high) - on_scale(low), on_scale(auc.value)
