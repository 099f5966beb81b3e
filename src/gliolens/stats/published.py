"""Whether the scores a paper prints can have come from one test set: the confusion matrices that fit them.

Of two classes with known numbers of patients there are finitely many confusion matrices. A row of a table fits those
that give every printed score when rounded; where none does, perhaps a column is mislabelled, which is tried too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Final

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
        fits: the confusion matrices that give it.
    """

    name: str
    fits: tuple[Confusion, ...]


AS_PRINTED: Final = "as printed"
_SWAPS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({
    AS_PRINTED: MappingProxyType({}),
    "sensitivity and specificity are PPV and NPV": MappingProxyType({
        "sensitivity": "ppv", "specificity": "npv", "ppv": "sensitivity", "npv": "specificity",
    }),
    "sensitivity and specificity are exchanged: the other class is the positive one": MappingProxyType({
        "sensitivity": "specificity", "specificity": "sensitivity", "ppv": "npv", "npv": "ppv",
    }),
    "sensitivity and specificity are NPV and PPV": MappingProxyType({
        "sensitivity": "npv", "specificity": "ppv", "ppv": "specificity", "npv": "sensitivity",
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
        for tried in ({AS_PRINTED: _SWAPS[AS_PRINTED]}, _SWAPS):
            found = [Reading(_named(name, remark), _fitting(positive, negative, _renamed(row, swap)))
                     for name, swap in tried.items()]  # fmt: skip
            if fitting := tuple(reading for reading in found if reading.fits):
                return fitting
    return ()


def _named(exchange: str, remark: str) -> str:
    if not remark:
        return exchange
    return remark if exchange == AS_PRINTED else f"{exchange}; {remark}"


def _renamed(row: Mapping[str, str], swap: Mapping[str, str]) -> dict[str, str]:
    return {swap.get(name, name): value for name, value in row.items()}


def _fitting(positive: int, negative: int, row: Mapping[str, str]) -> tuple[Confusion, ...]:
    bounds = {name: _rounded(value) for name, value in row.items()}
    return tuple(one for one in _matrices(positive, negative) if _fits(one, bounds))


def _matrices(positive: int, negative: int) -> Iterator[Confusion]:
    for tp, tn in product(range(positive + 1), range(negative + 1)):
        yield Confusion(tp, positive - tp, negative - tn, tn)


def _fits(one: Confusion, bounds: Mapping[str, tuple[float, float]]) -> bool:
    found = one.scores()
    for name, (low, high) in bounds.items():
        least, most = one.auc() if name == "auc" else (found.get(name, -1.0), found.get(name, -1.0))
        if most < low or least > high:
            return False
    return True


_OPEN: Final = 1e-9


def _rounded(value: str) -> tuple[float, float]:
    """What can have become a printed number: papers cut digits off, and round what was rounded before."""
    number, unit = float(value), 10.0 ** -len(value.partition(".")[2])
    return number - unit + _OPEN, number + unit - _OPEN


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
        if not _is_share(value):
            raise ConfigError(
                f"{name} is {value!r}; expected a share such as 0.9706 (divide per cent by 100)"
            )


def _is_share(value: str) -> bool:
    try:
        return 0.0 <= float(value) <= 1.0
    except ValueError:
        return False


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
