"""The paper's figures: ROC curves with bands, confusion matrices, heatmaps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from gliolens.papers.zeng2024.trials import Trial
from gliolens.report.curves import roc_band
from gliolens.report.paper_page import png_of
from gliolens.stats.intervals import delong


def roc_figure(panels: Mapping[str, Sequence[Trial]], *, seed: int = 0) -> bytes:
    """Figure 3: a panel a table, a curve a network, with the middle 95 % of curves of patients drawn anew: a PNG."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 4.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for ax, (title, trials) in zip(axes, panels.items(), strict=False):
        ax.plot([0, 1], [0, 1], color="0.8", lw=1)
        for trial in trials:
            truth, p = trial.positive()
            x, y, _ = roc_curve(truth, p)
            name = trial.network.name.partition(", ")[2]
            (line,) = ax.plot(x, y, lw=1.6, label=f"{name} ({delong(truth, p).value:.2f})")
            grid, low, high = roc_band(truth, p, list(trial.answers["patient"]), seed=seed)
            ax.fill_between(grid, low, high, color=line.get_color(), alpha=0.10, lw=0)
        ax.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
            xlabel="1 - specificity",
            ylabel="sensitivity",
        )
        ax.set_title(title, fontsize=10, loc="left")
        ax.legend(frameon=False, fontsize=8, loc="lower right")
        ax.spines[["top", "right"]].set_visible(False)
    return png_of(figure, 100)


def confusion_figure(trials: Sequence[Trial], classes: Sequence[str]) -> bytes:
    """Figure 4: how many patients of each class were told to be of which, a panel a network: a PNG."""
    columns = min(5, len(trials))
    lines = -(-len(trials) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.7 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, trial in zip(axes, trials, strict=False):
        one = trial.confusion()
        counts = np.array([[one.true_negative, one.false_positive], [one.false_negative, one.true_positive]])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(2, 2):
            colour = "white" if shares[i, j] > 0.6 else "black"
            ax.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=13, color=colour)
        ax.set_xticks([0, 1], classes)
        ax.set_yticks([0, 1], classes)
        ax.set(xlabel="told", ylabel="true")
        ax.set_title(trial.network.name, fontsize=8)
    for ax in axes[len(trials) :]:
        ax.set_axis_off()
    return png_of(figure, 100)


def heat_figure(pictures: Sequence[Mapping[str, Any]]) -> bytes:
    """Figure 5: a line a class and network, with the slice that was seen and the maps over it: a PNG.

    Args:
        pictures: what `maps.shown` gives.
    """
    kinds = list(dict.fromkeys(kind for one in pictures for kind in one["maps"]))
    figure = Figure(figsize=(2.9 * (1 + len(kinds)), 3.0 * len(pictures)), layout="constrained")
    axes = figure.subplots(len(pictures), 1 + len(kinds), squeeze=False)
    for line, one in zip(axes, pictures, strict=True):
        line[0].set_ylabel(one["label"], fontsize=9)
        for ax, kind in zip(line, ["slice", *kinds], strict=True):
            ax.imshow(one["image"].T, cmap="gray", origin="lower")
            if kind in one["maps"]:
                heat = one["maps"][kind].T
                ax.imshow(
                    np.ma.masked_less(heat, 0.05), cmap="inferno", vmin=0, vmax=1, alpha=0.75, origin="lower"
                )
            ax.contour(one["tumour"].T, [0.5], colors="white", linewidths=0.8)
            ax.set_xticks([]), ax.set_yticks([])
    for ax, kind in zip(axes[0], ["slice", *kinds], strict=True):
        ax.set_title(kind, fontsize=10)
    return png_of(figure, 100)
