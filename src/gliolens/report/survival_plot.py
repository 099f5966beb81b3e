"""Kaplan-Meier curves with the numbers at risk below them."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gliolens.stats.survival import Curve, LogRank, at_risk

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
"""Of Okabe and Ito, for all kinds of colour vision."""
TICKS, STEP = 7, 50.0
"""How many days are marked, in multiples of which."""


def survival_figure(curves: Sequence[Curve], test: LogRank | None, days: Mapping[str, np.ndarray]) -> bytes:
    """Draw the curves with their 95 % bands, the log-rank test, and how many were at risk.

    Args:
        curves: one a group.
        test: shown above the curves, where there is one.
        days: survival or censoring times of each group, for the numbers at risk.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(7, 4.2 + 0.28 * len(curves)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[12, 1 + len(curves)])
    last = max(float(d.max()) for d in days.values())
    ticks = np.arange(TICKS) * STEP * max(1, math.ceil(last / (TICKS - 1) / STEP))
    for curve, colour in zip(curves, COLOURS, strict=False):
        label = f"{curve.name}: {curve.n} patients, {curve.events} deaths"
        above.step(curve.days, curve.alive, where="post", color=colour, label=label)
        above.fill_between(curve.days, curve.low, curve.high, step="post", color=colour, alpha=0.15, lw=0)
    above.set(ylim=(0, 1.02), ylabel="share alive", xticks=ticks, xlim=(0, ticks[-1]))
    above.legend(frameon=False, fontsize=9)
    above.spines[["top", "right"]].set_visible(False)
    if test is not None:
        p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.4f}"
        above.set_title(f"log-rank: chi-squared {test.chi_squared:.1f}, {p}", fontsize=10, loc="left")
    _write_at_risk(below, curves, days, ticks)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def _write_at_risk(
    axes: Axes, curves: Sequence[Curve], days: Mapping[str, np.ndarray], ticks: np.ndarray
) -> None:
    axes.set(ylim=(len(curves) - 0.3, -0.9), yticks=range(len(curves)), xlabel="days")
    axes.set_yticklabels([c.name for c in curves])
    axes.text(0, -0.75, "at risk", fontsize=9, color="0.4", va="center")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", pad=16)
    for line, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        for day, n in zip(ticks, at_risk(days[curve.name], ticks.tolist()), strict=True):
            axes.text(day, line, str(n), ha="center", va="center", fontsize=9, color=colour)
