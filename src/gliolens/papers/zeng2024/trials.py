"""Each network of the paper trained once on the same patients, and scored on the same others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from gliolens.inner import Watched
from gliolens.io.store import read_json, write_json, write_text
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import shape_resnet
from gliolens.papers.zeng2024.networks import Network
from gliolens.progress import say
from gliolens.protocol import Entrant, answer_rows, auc_of, read_answers
from gliolens.slices import each_slice
from gliolens.stats.classification import class_scores
from gliolens.stats.intervals import Interval, bootstrap, unknown
from gliolens.stats.published import Confusion

METHOD: Final = "shape-resnet"


@dataclass(frozen=True, eq=False)
class Trial:
    """What a network answered to the test patients.

    Attributes:
        network: which.
        answers: one row a case; see `protocol.answer_rows`.
        slice_auc: AUC over single slices instead of cases.
        epochs: AUC over the test cases after each epoch.
        folder: of its model.
    """

    network: Network
    answers: pd.DataFrame
    slice_auc: float
    epochs: Sequence[float]
    folder: Path

    def model(self) -> shape_resnet.Model:
        """The trained model."""
        return shape_resnet.load(self.folder / "model")

    def confusion(self) -> Confusion:
        """Decisions over the test cases; the second class is positive."""
        truth, told = (self.answers[column] == self._positive for column in ("truth", "decision"))
        return Confusion(*(int(n) for n in (
            (truth & told).sum(), (truth & ~told).sum(), (~truth & told).sum(), (~truth & ~told).sum(),
        )))  # fmt: skip

    def positive(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each case is of the positive class (n,), and its probability (n,)."""
        truth = np.array(self.answers["truth"] == self._positive)
        return truth, self.answers[f"p_{self._positive}"].to_numpy(float)

    @property
    def _positive(self) -> str:
        return [c for c in map(str, self.answers) if c.startswith("p_")][-1].removeprefix("p_")

    def scores(self, seed: int) -> dict[str, Any]:
        """A row of a table: the paper's scores with intervals, PPV and NPV, and the two AUCs it may have meant."""
        truth, p = self.positive()
        decided = np.array(self.answers["decision"] == self._positive).astype(int)
        patients = list(self.answers["patient"])
        q, y = np.stack([1 - p, p], axis=1), truth.astype(int)
        found = class_scores(y, q, decided, patients, seed=seed)
        return {
            "network": self.network.name, "AUC": auc_of(y, q, decided, patients, seed),
            "published AUC": self.network.published,
            "Acc": found["accuracy"], "APCA": found["balanced_accuracy"], "SEN": found["sensitivity"],
            "SPE": found["specificity"], "PPV": _predictive(truth, decided == 1, patients, seed),
            "NPV": _predictive(~truth, decided == 0, patients, seed),
            "AUC, slices": self.slice_auc, "AUC, best epoch": max(self.epochs),
        }  # fmt: skip


def _predictive(is_so: np.ndarray, told: np.ndarray, patients: Sequence[str], seed: int) -> Interval:
    """Share of those told to be of a class (n,) who are."""
    if not told.any():
        return unknown("no case was told to be of this class")
    return bootstrap(
        lambda rows: float(is_so[rows][told[rows]].mean()) if told[rows].any() else np.nan,
        patients,
        is_so,
        seed=seed,
    )


def try_network(network: Network, train: Cases, test: Cases, run: Run) -> Trial:
    """Train a network, or read what an earlier call kept of it.

    Args:
        network: which.
        train: patients to learn from.
        test: patients to score; the AUC after each epoch is theirs too, and nothing is chosen by it.
        run: `networks/NAME` in its folder keeps model, answers and scores.
    """
    folder = run.folder / "networks" / network.folder
    answered, kept = folder / "answers.csv", folder / "epochs.json"
    if not kept.is_file():
        say(f"network: {network.name}")
        _train(network, train, test, run, folder)
    told = read_json(kept)
    return Trial(network, read_answers(answered), told["slice_auc"], told["auc"], folder)


def _train(network: Network, train: Cases, test: Cases, run: Run, folder: Path) -> None:
    config, truth = network.config, np.array([run.classes.index(c) for c in test.classes(run.target)])
    made = shape_resnet.ready(test, config, run.cache)
    watched = Watched(made, truth, auc)
    mine = Run(run.target, run.classes, folder, run.cache, run.seed)
    model: Any = shape_resnet.fit(train, config, mine, watched)
    model.save(folder / "model")
    entrant = Entrant(network.name, METHOD, config)
    write_text(folder / "answers.csv", answer_rows(entrant, model, test, made, mine).to_csv(index=False))
    shapes = model.scaling(np.stack([a["shape"] for a in made]))
    each = [each_slice(model.net, a["slices"], z) for a, z in zip(made, shapes, strict=True)]
    slice_auc = auc(np.concatenate(each), np.repeat(truth, [len(q) for q in each]))
    write_json(folder / "epochs.json", {"auc": watched.scores, "slice_auc": slice_auc})


def auc(q: np.ndarray, truth: np.ndarray) -> float:
    """AUC of the second of two classes from probabilities (n, 2)."""
    return float(roc_auc_score(truth, q[:, 1]))
