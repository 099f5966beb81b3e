"""Several questions about one patient: which there are, what is known of each, and what the answers owe one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gliolens.case import CaseRow
from gliolens.errors import CohortError
from gliolens.labels import TARGETS
from gliolens.progress import say

UNKNOWN: Final = -1
"""Stands for a class that is not known."""
GRADES: Final = {"grade", "who_grade"}
"""Two ways to ask for the same thing."""


@dataclass(frozen=True)
class Task:
    """One question.

    Attributes:
        target: name from `labels.TARGETS`.
        classes: those told apart, in order.
        shares: of the classes among the patients learnt from, summing to 1.
    """

    target: str
    classes: tuple[str, ...]
    shares: tuple[float, ...]

    def truth(self, row: CaseRow) -> int:
        """Place of a case's class, or `UNKNOWN`; a class that is none of the task's is unknown too."""
        told = row.targets.get(self.target)
        return self.classes.index(told) if told in self.classes else UNKNOWN


def task_of(target: str, rows: Sequence[CaseRow], classes: Sequence[str] = ()) -> Task | None:
    """A question as patients can teach it: its classes that occur; None where fewer than two do.

    Args:
        target: name from `labels.TARGETS`.
        rows: the patients to learn from; the healthy are no case of a tumour's class.
        classes: the classes, where they are settled.

    Raises:
        CohortError: WHO grades of two editions would be pooled.
    """
    check_schemes(rows, target)
    known = [row.targets[target] for row in rows if target in row.targets]
    told = tuple(classes) or tuple(c for c in TARGETS[target] if c in known and c != "healthy")
    counts = np.array([known.count(c) for c in told], float)
    if len(told) < 2 or not counts.all():
        return None
    return Task(target, told, tuple((counts / counts.sum()).tolist()))


def tasks_of(
    target: str, classes: Sequence[str], asked: Sequence[str], rows: Sequence[CaseRow]
) -> tuple[Task, ...]:
    """The questions a run learns: its target first, then others that its patients can teach.

    Args:
        target: the run's.
        classes: of the target.
        asked: what is to be told; of two kinds of grade only the target.
        rows: all that is learnt from.
    """
    others = [t for t in asked if t != target and not {t, target} <= GRADES]
    found = [task_of(target, rows, classes), *(task_of(t, rows) for t in others)]
    if untold := [t for t, task in zip(others, found[1:], strict=True) if task is None]:
        say(f"{', '.join(untold)}: fewer than two classes among the patients learnt from; not told")
    return tuple(task for task in found if task is not None)


def check_schemes(rows: Sequence[CaseRow], target: str, learnt: Sequence[str] = ()) -> None:
    """Raise CohortError where WHO grades of two editions would be pooled, or those of one scored by another.

    Args:
        rows: cases.
        target: what is told of them.
        learnt: schemes of the cases that a model was taught with.
    """
    found = {*learnt, *(row.label_scheme for row in rows if target in row.targets)}
    schemes = sorted({"who2016", "who2021"} & found)
    if target == "who_grade" and len(schemes) > 1:
        raise CohortError(
            f"WHO grades of {' and '.join(schemes)} are never pooled, nor one scored by the other: the same tumour can "
            "have another grade; index the cohort again with --label-scheme, or make a table of each"
        )


def task_loss(
    logits: Float[Tensor, "b k"], truth: Int64[Tensor, " b"], weights: Float[Tensor, " k"]
) -> Tensor | None:
    """Mean over the cases whose class is known of their weighted cross-entropy; None where that is none of them.

    No gradient comes from a case whose class is unknown, and none at all for a head that no case of a batch teaches.

    Args:
        logits: of each case.
        truth: place of its class, or `UNKNOWN`.
        weights: of the classes.
    """
    known = truth != UNKNOWN
    if not known.any():
        return None
    # PyTorch's mean would divide by the weights of this batch: in a batch of one or two they would cancel
    losses = F.cross_entropy(
        logits.float(), truth, weight=weights.to(logits.device), ignore_index=UNKNOWN, reduction="sum"
    )
    return losses / known.sum()


def class_weights(task: Task, *, balanced: bool) -> Tensor:
    """Weights of classes in the loss, with mean 1 over cases: one over the root of their share, or ones.

    One over the share itself would make every class count the same; in steps of two cases a rare class then throws the
    whole network about (docs/log.md).
    """
    shares = torch.tensor(task.shares)
    weights = shares**-0.5 if balanced else torch.ones_like(shares)
    return weights / (weights * shares).sum()


def posteriors(task: Task, q: np.ndarray, *, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """What a network that was trained with `class_weights` answers (k,): with the class shares, and without them.

    Its answer q is proportional to P(k | x) w_k (Saerens et al. 2002, doi 10.1162/089976602753284446): divided by the
    weights it holds the shares of the training patients, divided by the shares too it is that of classes equally many.
    """
    with_shares = q / class_weights(task, balanced=balanced).numpy().astype(np.float64)
    without = with_shares / np.array(task.shares)
    return with_shares / with_shares.sum(), without / without.sum()


def coherent(p: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Probabilities that can be true together under WHO 2021: a 1p/19q codeletion comes with an IDH mutation.

    With m and c the probabilities of mutation and of codeletion by themselves, the joint answer is that of two
    independent ones given that wildtype with codeletion does not occur (WHO 2021, doi 10.1093/neuonc/noab106):

        P(mutant) = m / Z,   P(codeleted) = m c / Z,   Z = 1 - (1 - m) c

    Probabilities of other targets, and those of a case where only one of the two is told, stay as they are. Where both
    say for certain what cannot be (m = 0, c = 1), the IDH status is believed.
    """
    out = {target: dict(classes) for target, classes in p.items()}
    if (
        not {"idh", "codel_1p19q"} <= set(p)
        or "mutant" not in p["idh"]
        or "codeleted" not in p["codel_1p19q"]
    ):
        return out
    m, c = p["idh"]["mutant"], p["codel_1p19q"]["codeleted"]
    rest = 1 - (1 - m) * c
    mutant, codeleted = (m / rest, m * c / rest) if rest > 0 else (0.0, 0.0)
    out["idh"] = {"wildtype": 1 - mutant, "mutant": mutant}
    out["codel_1p19q"] = {"intact": 1 - codeleted, "codeleted": codeleted}
    return out
