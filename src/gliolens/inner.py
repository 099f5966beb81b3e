"""What is chosen on an inner fold of the training patients: how long to train."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import nn

from gliolens.cohorts.splits import holdout
from gliolens.io.store import read_json, write_json
from gliolens.loader import Arrays, Cases
from gliolens.loop import forget
from gliolens.method import Run
from gliolens.slices import mean_over_slices
from gliolens.stats.scaling import Scaling


def balanced_log_loss(q: np.ndarray, truth: np.ndarray) -> float:
    """Log loss of probabilities (n, k) for classes (n,), every class that occurs weighing the same."""
    right = np.log(np.clip(q[np.arange(len(q)), truth], 1e-6, 1))
    return -float(np.mean([right[truth == k].mean() for k in np.unique(truth)]))


@runtime_checkable
class Watching(Protocol):
    """Looks at a network after each epoch of its training."""

    @property
    def scores(self) -> list[float]:
        """What was found, one an epoch."""
        ...

    def score(self, net: nn.Module, scaling: Scaling) -> float:
        """Look at a network of slices and of shape features that `scaling` puts on its scale."""
        ...


@dataclass(frozen=True)
class Watched:
    """Patients who are scored after each epoch of a training and from whom nothing is learnt.

    Attributes:
        prepared: `slices` and `shape` of each.
        truth: their classes (n,), 0 to k - 1.
        measure: of their probabilities (n, k) and classes; log loss where not given.
        scores: what was measured, one an epoch.
    """

    prepared: Sequence[Arrays]
    truth: np.ndarray
    measure: Callable[[np.ndarray, np.ndarray], float] = balanced_log_loss
    scores: list[float] = field(default_factory=list)

    def score(self, net: nn.Module, scaling: Scaling) -> float:
        """Score a network of slices and of shape features that `scaling` puts on its scale."""
        shapes = scaling(np.stack([a["shape"] for a in self.prepared]))
        q = [mean_over_slices(net, a["slices"], z) for a, z in zip(self.prepared, shapes, strict=True)]
        return self.measure(np.stack(q), self.truth)


def choose_epochs(
    cases: Cases,
    prepared: Sequence[Arrays],
    run: Run,
    train: Callable[[Cases, Sequence[Arrays], Run, Watching], Any],
) -> int:
    """Train on three quarters of the training patients, and take the epoch that serves the others best.

    Args:
        cases: the training patients.
        prepared: what the method sees of them.
        run: `epochs.json` in its folder keeps the choice.
        train: trains on some of them, and scores the others after each epoch.

    Returns:
        How many epochs, from 1.

    Raises:
        CohortError: too few patients of a class for an inner fold.
    """
    chosen = run.folder / "epochs.json"
    if chosen.is_file():
        return int(read_json(chosen)["epochs"])
    fold = holdout(cases.rows, run.target, test=0.25, seed=run.seed).folds[0]
    sides = {
        side: [a for a, row in zip(prepared, cases.rows, strict=True) if row.case in set(ids)]
        for side, ids in (("train", fold.train), ("test", fold.test))
    }
    truth = [run.classes.index(c) for c in cases.only(fold.test).classes(run.target)]
    watched = Watched(sides["test"], np.array(truth))
    inner = replace(run, folder=run.folder / "inner")
    train(cases.only(fold.train), sides["train"], inner, watched)
    epochs = int(np.argmin(watched.scores)) + 1
    write_json(chosen, {"epochs": epochs, "inner_log_loss": watched.scores, "inner_cases": list(fold.test)})
    forget(inner.folder)
    return epochs
