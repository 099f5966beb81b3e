"""A forest plot: differences with their intervals, one under another."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure


def forest(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw differences: `method` less `less`, `difference` with its interval, and `p, Holm` beside it.

    A row whose difference is not known keeps its place, and says so.
    """
    figure = Figure(figsize=(7.4, 0.9 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.7", lw=1)
    for place, row in enumerate(rows):
        found = row["difference"]
        if math.isnan(found.value):
            axes.text(0, place, " not known", va="center", fontsize=8, color="0.4")
            continue
        axes.plot(found.value, place, "s", color="#0072B2", ms=5)
        if not math.isnan(found.low):
            axes.plot([found.low, found.high], [place, place], color="#0072B2", lw=1.4)
    axes.set_yticks(range(len(rows)), [f"{row['method']} less {row['less']}" for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("difference of AUC")
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(rows)), [_p(row["p, Holm"]) for row in rows], fontsize=8)
    right.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)
    right.spines["right"].set_visible(False)
    return figure


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "p < .001" if value < 0.001 else f"p {value:.3f}".replace("0.", ".")
