"""ROC curves and calibration of every entrant, as pictures."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from gliolens.cohorts.phantom.ceiling import CEILINGS
from gliolens.io.store import whole_file

CAPTIONS = {
    "roc.png": "ROC curves over the pooled answers of all folds; controls are dashed.",
    "calibration.png": "Predicted probability against observed share, in bins of equal size.",
}


def write_curves(folder: Path, answers: pd.DataFrame) -> None:
    """Draw `roc.png` and `calibration.png` of a two-class question; nothing where there are more classes."""
    classes = [c.removeprefix("p_") for c in map(str, answers) if c.startswith("p_")]
    if len(classes) != 2:
        return
    _save(folder / "roc.png", _roc(answers, classes))
    _save(folder / "calibration.png", _calibration(answers, classes[1]))


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
    for name, mine in answers.groupby("method", sort=False):
        odds = mine[f"p_{classes[1]}"] / mine[f"prior_{classes[1]}"]
        rank = odds / (odds + mine[f"p_{classes[0]}"] / mine[f"prior_{classes[0]}"])
        truth = mine["truth"] == classes[1]
        if truth.nunique() < 2:
            continue
        x, y, _ = roc_curve(truth, rank)
        style = ":" if name in CEILINGS else "--" if mine["control"].iloc[0] else "-"
        label = f"{name} ({roc_auc_score(truth, rank):.2f})"
        axes.plot(x, y, label=label, lw=2.4 if style == "-" else 1.2, ls=style)
    axes.set_title(f"positive class: {classes[1]}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _calibration(answers: pd.DataFrame, positive: str) -> Figure:
    figure, axes = _figure(f"predicted probability of {positive}", f"observed share of {positive}")
    methods = answers[~answers["control"] & ~answers["method"].isin(CEILINGS)]
    for name, mine in methods.groupby("method", sort=False):
        order = np.argsort(mine[f"p_{positive}"].to_numpy(), kind="stable")
        bins = np.array_split(order, min(5, len(order)))
        x = [mine[f"p_{positive}"].to_numpy()[b].mean() for b in bins]
        y = [(mine["truth"].to_numpy()[b] == positive).mean() for b in bins]
        axes.plot(x, y, "o-", label=str(name))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
    return figure
