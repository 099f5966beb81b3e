"""Li and McMillan, Leveraging Volume Embeddings for Glioma Classification: its Table 1 and Figure 1, on any cohort.

The paper fits 45 configurations (three poolings, 15 sets of four series) on 276 patients, scores them on 93 others, and
reports the best of each size. That is repeated here; then the same choice is made honestly, on inner folds of training
patients, and the difference is what choosing on the test set was worth.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from gliolens.bench import bench
from gliolens.cohorts.splits import Fold, holdout, write_split
from gliolens.embedding import POOLINGS, Pooling
from gliolens.io.store import write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.loader import Arrays, Cases, select
from gliolens.methods.volume_embedding import Choice, Config, choices, learn, ready
from gliolens.progress import Counter, say
from gliolens.protocol import common_series

TEST_SHARE: Final = 93 / 369
PUBLISHED: Final[Mapping[Pooling, Mapping[tuple[str, ...], float]]] = {
    "mean": {("t1ce",): 91.4, ("t1ce", "flair"): 92.5, ("t1ce", "t2", "flair"): 93.6, ("t1", "t1ce", "t2", "flair"): 91.4},
    "max": {("t1ce",): 93.6, ("t1ce", "flair"): 96.8, ("t1ce", "t2", "flair"): 94.6, ("t1", "t1ce", "t2", "flair"): 92.5},
    "median": {("t1ce",): 91.4, ("t1ce", "flair"): 92.5, ("t1ce", "t2", "flair"): 92.5, ("t1", "t1ce", "t2", "flair"): 92.5},
}  # fmt: skip
"""Accuracy in per cent of the best set of each size, Table 1; series in GlioLens's order."""
SCORES: Final = ("accuracy", "precision", "recall", "f1")
"""Precision, recall and F1 are means over classes weighted by their patients: in the paper recall equals accuracy in
every row, which no other mean does."""


@dataclass(frozen=True, eq=False)
class Table1:
    """Every configuration on one split.

    Attributes:
        rows: a row a configuration: `pooling`, `series`, `size`, each of `SCORES`.
        right: which test patients each configuration got right (configurations, n), bool.
        seconds: to fit and score all of them.
    """

    rows: pd.DataFrame
    right: np.ndarray
    seconds: float


def table1(
    embedded: Sequence[Arrays], truth: np.ndarray, sides: tuple[list[int], list[int]], config: Config, seed: int
) -> Table1:
    """Fit every configuration to the first side and score it on the second.

    Args:
        embedded: vectors of all patients.
        truth: their classes (n,), 0 to k - 1.
        sides: places of the training and of the test patients.
        config: the classifier; `series` are those to choose from.
        seed: of the classifier.
    """
    train, test = sides
    tried, start = choices(config.series), time.perf_counter()

    def decide(choice: Choice) -> np.ndarray:
        reader = learn([embedded[i] for i in train], truth[train], choice, config, seed, Path())
        return np.asarray(reader([embedded[i] for i in test]).argmax(axis=1))

    decided = Parallel(n_jobs=-1)(delayed(decide)(choice) for choice in tried)
    rows = [
        {"pooling": c.pooling, "series": " + ".join(c.series), "size": len(c.series), **_scores(truth[test], d)}
        for c, d in zip(tried, decided, strict=True)
    ]
    right = np.stack([d == truth[test] for d in decided])
    return Table1(pd.DataFrame(rows), right, time.perf_counter() - start)


def _scores(truth: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    precision, recall, f1, _ = precision_recall_fscore_support(truth, decided, average="weighted", zero_division=0)
    numbers = (accuracy_score(truth, decided), precision, recall, f1)
    return dict(zip(SCORES, map(float, numbers), strict=True))


def best_of_each_size(rows: pd.DataFrame) -> pd.DataFrame:
    """For each pooling and number of series the set of most accuracy; of equals the first."""
    return rows.loc[rows.groupby(["pooling", "size"], sort=False)["accuracy"].idxmax()]


def optimism(right: np.ndarray, *, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """What choosing the best of many on the patients it is scored on is worth, and the middle 95 % of it.

    Test patients are drawn with replacement; the best configuration on those drawn is scored on those left out
    (Efron 1983, doi 10.1080/01621459.1983.10477973). The mean difference of its two accuracies is the optimism.

    Args:
        right: which patients (n,) each configuration got right, `(configurations, n)`.
        draws: how many.
        seed: of the draws.
    """
    rng, n = np.random.default_rng(seed), right.shape[1]
    gaps = []
    for _ in range(draws):
        drawn = rng.integers(0, n, n)
        out = np.setdiff1d(np.arange(n), drawn)
        if out.size:
            inside = right[:, drawn].mean(axis=1)
            gaps.append(inside.max() - right[inside.argmax()][out].mean())
    low, high = np.quantile(gaps, (0.025, 0.975))
    return float(np.mean(gaps)), float(low), float(high)
