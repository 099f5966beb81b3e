"""Tables 2 to 5: F1 of each class and over all, by network, with what was published beside it; confusion matrices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gliolens.papers.chatterjee2022.networks import CLASSES, ORIGINAL, RETOLD
from gliolens.stats.intervals import Interval, bootstrap, over_folds

Row = dict[str, Any]


def confusion(answers: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Cases (k, k): rows are true classes, columns decided ones."""
    truth, decided = ([list(classes).index(c) for c in answers[name]] for name in ("truth", "decision"))
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, decided), 1)
    return counts


def by_class(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, specificity and F1 of each class (k,) from a confusion matrix; NaN where not defined."""
    hits, true, called, n = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": hits / called,
            "recall": hits / true,
            "specificity": (n - true - called + hits) / (n - true),
            "F1": 2 * hits / (true + called),
        }


def overall(counts: np.ndarray) -> tuple[float, float]:
    """Macro F1, and F1 weighted by the cases of each class."""
    f1, true = by_class(counts)["F1"], counts.sum(axis=1)
    return float(f1.mean()), float((f1 * true).sum() / true.sum())


def f1_table(answers: Mapping[str, Sequence[pd.DataFrame]], classes: Sequence[str], seed: int) -> list[Row]:
    """F1 of each network: mean and standard deviation over folds, the macro F1 with its interval, and the published.

    Args:
        answers: of each network, one table a fold.
        classes: those told apart.
        seed: of the bootstrap over patients; one who is tested in several folds is drawn with all of them.
    """
    rows = []
    for name, folds in answers.items():
        each = [confusion(fold, classes) for fold in folds]
        f1 = np.stack([by_class(counts)["F1"] for counts in each])
        macro, weighted = (np.array(v) for v in zip(*map(overall, each), strict=True))
        accuracy = np.array([counts.trace() / counts.sum() for counts in each])
        row: Row = {"network": name, **{c: spread(f1[:, i]) for i, c in enumerate(classes)}}
        row |= {"macro": spread(macro), "weighted": spread(weighted), "accuracy": spread(accuracy)}
        row["macro, all folds"] = macro_interval(folds, classes, seed)
        if tuple(classes) == CLASSES:
            row |= {"paper": " ".join(ORIGINAL.get(name, ())), "retelling": " ".join(RETOLD.get(name, ()))}
        rows.append(row)
    return rows


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation over folds, as the paper prints them."""
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}" if len(values) > 1 else f"{values.mean():.2f}"


def macro_interval(folds: Sequence[pd.DataFrame], classes: Sequence[str], seed: int) -> Interval:
    """Macro F1 over the tests of all folds, over patients, widened for what folds share."""
    answers = pd.concat(folds, ignore_index=True)

    def macro(rows: np.ndarray) -> float:
        return overall(confusion(answers.iloc[rows], classes))[0]

    patients, truth = list(answers["patient"]), answers["truth"].to_numpy()
    return over_folds(bootstrap(macro, patients, truth, seed=seed, resamples=500), len(folds))


def heat_table(answers: Mapping[str, Sequence[pd.DataFrame]], classes: Sequence[str]) -> list[Row]:
    """Figure 7: precision, recall, specificity and F1 of each class by network, over the tests of all folds."""
    rows = []
    for name, folds in answers.items():
        scores = by_class(
            sum((confusion(fold, classes) for fold in folds), np.zeros((len(classes),) * 2, int))
        )
        told = {
            f"{score}, {c}": float(v)
            for score, values in scores.items()
            for c, v in zip(classes, values, strict=True)
        }
        rows.append({"network": name, **told})
    return rows
