"""Whether the scores a paper prints can have come from one test set: the confusion matrices that fit them.

Of two classes with known numbers of patients there are finitely many confusion matrices. A row of a table fits those
that give every printed score when rounded; where none does, perhaps a column is mislabelled, which is tried too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from gliolens.errors import ConfigError

SCORES: Final = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "apca", "f1", "auc")
"""Scores that can be checked, each 0 to 1. `apca` is the mean of the two classes' accuracies."""


@dataclass(frozen=True, order=True)
class Confusion:
    """Two classes as they are and as they were told: counts of cases."""

    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int

    def scores(self) -> dict[str, float]:
        """Every score but the AUC; those that divide by nothing are left out."""
        tp, fn, fp, tn = self.true_positive, self.false_negative, self.false_positive, self.true_negative
        parts = {
            "accuracy": (tp + tn, tp + fn + fp + tn), "sensitivity": (tp, tp + fn), "specificity": (tn, fp + tn),
            "ppv": (tp, tp + fp), "npv": (tn, fn + tn), "f1": (2 * tp, 2 * tp + fp + fn),
        }  # fmt: skip
        out = {name: above / below for name, (above, below) in parts.items() if below}
        return out | {"apca": (out["sensitivity"] + out["specificity"]) / 2}

    def auc(self) -> tuple[float, float]:
        """The least and the largest area that a ROC curve through this point can have."""
        found = self.scores()
        sensitivity, specificity = found["sensitivity"], found["specificity"]
        return sensitivity * specificity, 1 - (1 - sensitivity) * (1 - specificity)


@dataclass(frozen=True)
class Reading:
    """One way to read a row of a table.

    Attributes:
        name: what was done to the row.
        count: how many confusion matrices give it.
        fits: the first `MOST` of them.
    """

    name: str
    count: int
    fits: tuple[Confusion, ...]


MOST: Final = 1000
AS_PRINTED: Final = "as printed"
_OTHER_F1: Final = "f1 of the other class"
_SWAPS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({
    AS_PRINTED: MappingProxyType({}),
    "sensitivity and specificity are PPV and NPV": MappingProxyType({
        "sensitivity": "ppv", "specificity": "npv", "ppv": "sensitivity", "npv": "specificity",
    }),
    "sensitivity and specificity are exchanged: the other class is the positive one": MappingProxyType({
        "sensitivity": "specificity", "specificity": "sensitivity", "ppv": "npv", "npv": "ppv", "f1": _OTHER_F1,
    }),
    "sensitivity and specificity are NPV and PPV": MappingProxyType({
        "sensitivity": "npv", "specificity": "ppv", "ppv": "specificity", "npv": "sensitivity", "f1": _OTHER_F1,
    }),
})  # fmt: skip
OTHER_AUC: Final = "the AUC is of other scores (single slices, another run)"


def readings(positive: int, negative: int, printed: Mapping[str, str]) -> tuple[Reading, ...]:
    """The ways to read a row of scores that some confusion matrix gives.

    Args:
        positive: cases of the positive class.
        negative: cases of the other class.
        printed: scores by name (`SCORES`) as they stand in the paper, 0 to 1: `"0.9706"`. The digits say how far they
            were rounded.

    Returns:
        The first reading that fits: as printed; else each exchange of columns; else each without the AUC. Several where
        several exchanges fit. Nothing where none does.

    Raises:
        ConfigError: a class without cases, a score that is not known, or a number that is no score.
    """
    _check(positive, negative, printed)
    without = {name: value for name, value in printed.items() if name != "auc"}
    rows = [(printed, "")] + ([(without, OTHER_AUC)] if "auc" in printed and without else [])
    for row, remark in rows:
        for tried in ({AS_PRINTED: _SWAPS[AS_PRINTED]}, {k: v for k, v in _SWAPS.items() if v}):
            found = [
                Reading(_named(name, remark), *_fitting(positive, negative, _renamed(row, swap)))
                for name, swap in tried.items()
            ]
            if fitting := tuple(reading for reading in found if reading.fits):
                return fitting
    return ()


def _named(exchange: str, remark: str) -> str:
    if not remark:
        return exchange
    return remark if exchange == AS_PRINTED else f"{exchange}; {remark}"


def _renamed(row: Mapping[str, str], swap: Mapping[str, str]) -> dict[str, str]:
    return {swap.get(name, name): value for name, value in row.items()}


def _fitting(positive: int, negative: int, row: Mapping[str, str]) -> tuple[int, tuple[Confusion, ...]]:
    """How many confusion matrices give a row, and the first of them: one true positive after another."""
    bounds, tn = {name: _rounded(value) for name, value in row.items()}, np.arange(negative + 1)
    count, fits = 0, list[Confusion]()
    for tp in range(positive + 1):
        fitting = np.flatnonzero(_fits(tp, positive - tp, negative - tn, tn, bounds))
        count += len(fitting)
        fits += [Confusion(tp, positive - tp, negative - int(k), int(k)) for k in fitting[: MOST - len(fits)]]
    return count, tuple(fits)


def _fits(
    tp: int, fn: int, fp: np.ndarray, tn: np.ndarray, bounds: Mapping[str, tuple[float, float]]
) -> np.ndarray:
    sensitivity, specificity = tp / (tp + fn), tn / (fp + tn)
    with np.errstate(invalid="ignore", divide="ignore"):  # a share of nothing is NaN, and fits nothing
        found = {
            "accuracy": (tp + tn) / (tp + fn + fp + tn), "sensitivity": sensitivity, "specificity": specificity,
            "ppv": np.divide(tp, tp + fp), "npv": np.divide(tn, fn + tn), "apca": (sensitivity + specificity) / 2,
            "f1": np.divide(2 * tp, 2 * tp + fp + fn), _OTHER_F1: np.divide(2 * tn, 2 * tn + fp + fn),
        }  # fmt: skip
        area = {"auc": (sensitivity * specificity, 1 - (1 - sensitivity) * (1 - specificity))}
        good = np.ones(tn.shape, bool)
        for name, (low, high) in bounds.items():
            least, most = area.get(name) or (found[name], found[name])
            good &= (np.asarray(most) >= low) & (np.asarray(least) <= high)
    return good


_PRINTED: Final = re.compile(r"[01]?\.[0-9]{1,12}")


def _rounded(value: str) -> tuple[float, float]:
    """What can have become a printed number: papers cut digits off, and round what was rounded before."""
    number, unit = float(value), 10.0 ** -len(value.partition(".")[2])
    return number - 0.999 * unit - 1e-12, number + 0.999 * unit + 1e-12


def _check(positive: int, negative: int, printed: Mapping[str, str]) -> None:
    if min(positive, negative) < 1:
        raise ConfigError(f"{positive} and {negative} cases; expected at least one of each class")
    if unknown := sorted(set(printed) - set(SCORES)):
        raise ConfigError(
            f"{', '.join(unknown)}: no score that can be checked; there are {', '.join(SCORES)}"
        )
    if not printed:
        raise ConfigError(f"no score to check; give some of {', '.join(SCORES)}")
    for name, value in printed.items():
        if not _PRINTED.fullmatch(value) or float(value) > 1:
            raise ConfigError(
                f"{name} is {value!r}; expected a share with the digits that are printed, such as 0.9706 or 1.000 "
                "(divide per cent by 100)"
            )


def mean_fits(values: Sequence[str], printed: str, weights: Sequence[int] | None = None) -> bool:
    """Whether a printed overall score can be the mean of printed scores of classes, weighted by their cases if given.

    Args:
        values: of the classes.
        printed: the overall score.
        weights: cases of the classes; each class counts the same where not given.
    """
    shares = [1.0] * len(values) if weights is None else list(weights)
    bounds = [_rounded(value) for value in values]
    low, high = (sum(w * b[i] for w, b in zip(shares, bounds, strict=True)) / sum(shares) for i in (0, 1))
    least, most = _rounded(printed)
    return low <= most and high >= least
