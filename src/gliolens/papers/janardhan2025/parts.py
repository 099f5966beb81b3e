"""What the experiments on one division of patients are made of: every network is trained once and kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from gliolens.case import CaseRow
from gliolens.fusion import Fusion, best_share, learn_weight
from gliolens.loader import Arrays
from gliolens.methods.segmentation_fusion import Config
from gliolens.segmenter import learn_segmenter
from gliolens.stats.intervals import Interval, bootstrap


@dataclass(frozen=True, eq=False)
class Sides:
    """Cases to learn from, to choose on, and to test, as the method reads them; and the rows of those to test."""

    learn: Sequence[Arrays]
    choose: Sequence[Arrays]
    test: Sequence[Arrays]
    test_rows: Sequence[CaseRow]


@dataclass(frozen=True, eq=False)
class Parts:
    """What the experiments are made of; every network is trained once and kept."""

    sides: Sides
    tissues: int
    config: Config
    seed: int
    out: Path

    def fusion(self, loss: str = "focal", share: float = 0.6) -> Fusion:
        """Both networks trained with a loss."""
        config = self.config
        net = partial(
            learn_segmenter, self.sides.learn, self.tissues, loss=loss, slices=config.slices, rate=config.rate,
            flip=config.flip, vary=config.vary, seed=self.seed,
        )  # fmt: skip
        flat = net(2, widths=config.widths_2d, epochs=config.epochs_2d, folder=self.out / f"2d-{loss}")
        deep = net(3, widths=config.widths_3d, epochs=config.epochs_3d, folder=self.out / f"3d-{loss}")
        return Fusion(flat, deep, share)

    def chosen(self) -> float:
        """The share of most Dice on the cases to choose on."""
        return best_share(self.fusion(), self.sides.choose, self.out / "share.json")

    def learnt(self) -> Fusion:
        """A weight for each voxel, learnt on the cases to choose on."""
        fusion = self.fusion()
        return replace(fusion, weight=learn_weight(fusion, self.sides.choose, self.out / "weight", self.seed))

    @property
    def least_pixels(self) -> float:
        """Area from which a tissue can name its slice."""
        return self.config.least_mm2 / self.config.voxel_mm**2


def image_of(arrays: Arrays) -> np.ndarray:
    """Series of a case (C, E, E, S), float32."""
    return np.asarray(arrays["image"], np.float32)


def truth_of(arrays: Arrays, parts: Parts) -> np.ndarray:
    """Labels of a case (E, E, S), as far as they are told apart."""
    return np.asarray(np.minimum(arrays["labels"], parts.tissues - 1))


def mean_of(values: np.ndarray, parts: Parts) -> Interval:
    """Mean over the cases to test (n,), with its interval over their patients; those that are NaN do not count."""
    there = ~np.isnan(values)
    if not there.any():
        return Interval(np.nan, np.nan, np.nan, "no case to test holds it, and none was drawn")
    patients = [row.patient for row, known in zip(parts.sides.test_rows, there, strict=True) if known]
    known = values[there]
    return bootstrap(
        lambda rows: float(known[rows].mean()), patients, np.zeros(len(known), int), seed=parts.seed
    )
