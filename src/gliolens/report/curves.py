"""ROC curves of every entrant, calibration and decision curves of methods, as pictures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from gliolens.cohorts.phantom.ceiling import CEILINGS
from gliolens.io.store import whole_file
from gliolens.stats.calibration import calibration_line, net_benefit
from gliolens.stats.intervals import Interval, patient_weights

CAPTIONS = {
    "roc.png": "ROC curves over the pooled answers of all folds; controls are dashed. Bands, of up to three methods: "
    "at each specificity, 95 % of 500 bootstrap draws of patients within each class.",
    "calibration.png": "Predicted probability against observed share, in bins of equal size. Slope 1 and intercept 0 "
    "are right; a slope below 1 means too sure. Wald's intervals.",
    "decision.png": "Decision curve: what it is worth to act on who has the threshold's probability or more, where one "
    "acted on wrongly costs threshold / (1 - threshold) of one rightly. A method helps where it lies above both grey "
    "lines.",
}
THRESHOLDS: Final = np.linspace(0.05, 0.95, 91)
"""Of the decision curve."""
BANDS: Final = 3
"""Methods up to which each curve has its band; more bands than that hide one another."""
MANY: Final = 6
"""Names above which a legend stands beside the curves, and not over them."""
DRAWS: Final = 500
"""Of patients, for the band of a ROC curve."""


def write_curves(folder: Path, answers: pd.DataFrame) -> None:
    """Draw the pictures of `CAPTIONS` of a two-class question; nothing where there are more classes."""
    classes = [c.removeprefix("p_") for c in map(str, answers) if c.startswith("p_")]
    if len(classes) != 2:
        return
    _save(folder / "roc.png", _roc(answers, classes))
    methods = answers[~answers["control"] & ~answers["method"].isin(CEILINGS)]
    _save(folder / "calibration.png", _calibration(methods, classes[1]))
    _save(folder / "decision.png", _decision(methods, classes[1]))


def read_curves(folder: Path) -> list[tuple[str, bytes]]:
    """Captions and pictures there are."""
    return [
        (text, (folder / name).read_bytes()) for name, text in CAPTIONS.items() if (folder / name).is_file()
    ]


def _save(path: Path, figure: Figure) -> None:
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=130)


def _figure(xlabel: str, ylabel: str) -> tuple[Figure, mpl.axes.Axes]:
    figure = Figure(figsize=(6.2, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.8", lw=1)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _roc(answers: pd.DataFrame, classes: list[str]) -> Figure:
    figure, axes = _figure("1 - specificity", "Sensitivity")
    few = answers.loc[~answers["control"] & ~answers["method"].isin(CEILINGS), "method"].nunique() <= BANDS
    for name, mine in answers.groupby("method", sort=False):
        odds = mine[f"p_{classes[1]}"] / mine[f"prior_{classes[1]}"]
        rank = odds / (odds + mine[f"p_{classes[0]}"] / mine[f"prior_{classes[0]}"])
        truth = mine["truth"] == classes[1]
        if truth.nunique() < 2:
            continue
        x, y, _ = roc_curve(truth, rank)
        style = ":" if name in CEILINGS else "--" if mine["control"].iloc[0] else "-"
        label = f"{name} ({roc_auc_score(truth, rank):.2f})"
        (line,) = axes.plot(x, y, label=label, lw=2.4 if style == "-" else 1.2, ls=style)
        if style == "-" and few:
            grid, low, high = roc_band(truth.to_numpy(), rank.to_numpy(), list(mine["patient"]))
            axes.fill_between(grid, low, high, color=line.get_color(), alpha=0.15, lw=0)
    axes.set_title(f"positive class: {classes[1]}", fontsize=10)
    _name(figure, axes, "lower right")
    return figure


def roc_band(
    truth: np.ndarray, score: np.ndarray, patients: Sequence[str], *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """95 % of the sensitivities of `DRAWS` bootstrap draws at each 1 - specificity; a band a point, not of the curve.

    Args:
        truth: whether each case is positive (n,).
        score: higher speaks for that (n,).
        patients: of each case; all cases of one are drawn together.
        seed: of the draws.

    Returns:
        1 - specificity, and the bounds there, each (101,).
    """
    grid, order = np.linspace(0, 1, 101), np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=np.nan))  # of each score: ties are one step
    drawn = []
    for block in patient_weights(patients, truth, resamples=DRAWS, seed=seed):
        told = [np.cumsum(block[:, order] * (truth[order] == c), axis=1)[:, last] for c in (0, 1)]
        x, y = (np.pad(n / n[:, -1:], ((0, 0), (1, 0))) for n in told)
        drawn += [np.interp(grid, *curve) for curve in zip(x, y, strict=True)]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return grid, low, high


def _calibration(methods: pd.DataFrame, positive: str) -> Figure:
    figure, axes = _figure(f"predicted probability of {positive}", f"observed share of {positive}")
    for name, mine in methods.groupby("method", sort=False):
        order = np.argsort(mine[f"p_{positive}"].to_numpy(), kind="stable")
        bins = np.array_split(order, min(5, len(order)))
        x = [mine[f"p_{positive}"].to_numpy()[b].mean() for b in bins]
        y = [(mine["truth"].to_numpy()[b] == positive).mean() for b in bins]
        line = calibration_line(mine["truth"] == positive, mine[f"p_{positive}"])
        axes.plot(x, y, "o-", label=f"{name}\nslope {_said(line.slope)}\nintercept {_said(line.intercept)}")
    _name(figure, axes, "best", lines=3)
    return figure


def _name(figure: Figure, axes: mpl.axes.Axes, where: Literal["best", "lower right"], lines: int = 1) -> None:
    """Name the curves, beside them where there are many; nothing where there are none, as of one class alone."""
    names = axes.get_legend_handles_labels()[1]
    if lines * len(names) > MANY:
        figure.set_figwidth(figure.get_figwidth() + 2.4)
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    elif names:
        axes.legend(frameon=False, fontsize=8, loc=where)


def _said(interval: Interval) -> str:
    if math.isnan(interval.value):
        return f"not known: {interval.reason}"
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _decision(methods: pd.DataFrame, positive: str) -> Figure:
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    highest = 0.0
    for name, mine in methods.groupby("method", sort=False):
        worth = net_benefit(mine["truth"] == positive, mine[f"p_{positive}"], THRESHOLDS)
        if not axes.lines:
            axes.plot(THRESHOLDS, worth["all"], color="0.6", lw=1, label="everybody")
            axes.axhline(0, color="0.6", lw=1, ls="--", label="nobody")
        axes.plot(THRESHOLDS, worth["model"], label=str(name))
        highest = max(highest, float((mine["truth"] == positive).mean()))
    axes.set(xlabel=f"threshold of the probability of {positive}", ylabel="net benefit", xlim=(0, 1))
    axes.set_ylim(-0.25 * highest - 0.02, 1.1 * highest + 0.02)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
    return figure
