"""How well slices are named, and what a leak is worth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gliolens.fusion import Fusion, region_dice
from gliolens.loader import Arrays
from gliolens.methods.segmentation_fusion import Config
from gliolens.papers.janardhan2025.parts import Parts, image_of, mean_of, truth_of
from gliolens.segmenter import learn_segmenter
from gliolens.slice_namer import learn_slice_namer, named_by_mask, slice_scores, slice_tissues
from gliolens.stats.intervals import bootstrap

Names = Callable[[Arrays], np.ndarray]
"""From a patient to the tissue of each slice of the cube."""


def slices(parts: Parts) -> list[dict[str, Any]]:
    """Scores of naming the test patients' slices: the ResNet under both losses, and two rules without any."""
    fusion = parts.fusion()
    ways: dict[str, Names] = {
        f"ResNet, {loss} loss": _named_by_resnet(parts, fusion, parts.sides.learn, loss, f"slices-{loss}")
        for loss in ("dice", "cross-entropy")
    }
    ways["read off the fused outline"] = lambda a: named_by_mask(
        fusion(image_of(a)).argmax(axis=0), parts.tissues, parts.least_pixels
    )
    ways["always: no tumour"] = lambda a: np.zeros(image_of(a).shape[3], int)
    return [{"slices named by": name, **_scored(parts, parts.sides.test, way)} for name, way in ways.items()]


def _named_by_resnet(parts: Parts, fusion: Fusion, learn: Sequence[Arrays], loss: str, stage: str) -> Names:
    config = parts.config
    namer = learn_slice_namer(
        fusion, learn, depth=config.depth, sees=config.namer_sees, loss=loss, epochs=config.epochs_slices,
        slices=config.slices, rate=config.rate, flip=config.flip, least_pixels=parts.least_pixels,
        folder=parts.out / stage, seed=parts.seed,
    )  # fmt: skip
    return lambda a: np.asarray(slice_tissues(namer, image_of(a), fusion(image_of(a))).argmax(axis=1))


def _scored(parts: Parts, cases: Sequence[Arrays], way: Names) -> dict[str, Any]:
    """`SCORES` over slices of the test cases that hold brain; the interval of the accuracy is over patients."""
    truth, told = [], []
    for arrays in cases:
        brain = np.any(arrays["image"], axis=(0, 1, 2))
        truth.append(named_by_mask(truth_of(arrays, parts), parts.tissues, parts.least_pixels)[brain])
        told.append(way(arrays)[brain])
    right = np.array([[(t == q).sum(), len(t)] for t, q in zip(truth, told, strict=True)])
    accuracy = bootstrap(
        lambda rows: float(right[rows, 0].sum() / right[rows, 1].sum()), [r.patient for r in parts.sides.test_rows],
        np.zeros(len(right), int), seed=parts.seed,
    )  # fmt: skip
    return {**slice_scores(np.concatenate(truth), np.concatenate(told)), "accuracy": accuracy}


# --- what a leak is worth --------------------------------------------------------------------------------------


def leak(parts: Parts) -> list[dict[str, Any]]:
    """The 2-D network and the ResNet, asked about the test cases without and with other slices of theirs in training.

    The same slices are asked and as many steps are taken either way. A 3-D network cannot be asked: a volume has no
    slices to divide.
    """
    everyone = [*parts.sides.learn, *parts.sides.test]
    test = [Part(a, parts, i, test=True) for i, a in enumerate(everyone)][len(parts.sides.learn) :]
    by_patient = parts.fusion(share=1.0)
    way = _named_by_resnet(parts, by_patient, parts.sides.learn, "cross-entropy", "slices-2d-by-patient")
    rows = [{"divided by": "patient", **_of_outline(parts, by_patient, test), **_scored(parts, test, way)}]
    fewer = replace(parts, config=_fewer_passes(parts.config, len(parts.sides.learn) / len(everyone)))
    learn = [Part(a, parts, i, test=False) for i, a in enumerate(everyone)]
    config = fewer.config
    flat = learn_segmenter(
        learn, parts.tissues, 2, widths=config.widths_2d, loss="focal", epochs=config.epochs_2d, slices=config.slices,
        rate=config.rate, flip=config.flip, vary=config.vary, folder=parts.out / "2d-by-slice", seed=parts.seed,
    )  # fmt: skip
    by_slice = replace(by_patient, flat=flat)
    way = _named_by_resnet(fewer, by_slice, learn, "cross-entropy", "slices-2d-by-slice")
    scored = {**_of_outline(parts, by_slice, test), **_scored(parts, test, way)}
    return [*rows, {"divided by": "slice: a leak", **scored}]


def _fewer_passes(config: Config, share: float) -> Config:
    """Passes over more cases, so that the steps stay as many."""
    return replace(
        config, epochs_2d=max(1, round(share * config.epochs_2d)),
        epochs_slices=max(1, round(share * config.epochs_slices)),
    )  # fmt: skip


def _of_outline(parts: Parts, fusion: Fusion, cases: Sequence[Arrays]) -> dict[str, Any]:
    values = np.array([region_dice(truth_of(a, parts), fusion(image_of(a)))["whole"] for a in cases])
    return {"Dice, whole": mean_of(values, parts)}


class Part(Mapping[str, np.ndarray]):
    """A case of which some slices, drawn at random, are left and the others are empty.

    Args:
        arrays: the whole case.
        parts: of the experiments; says how large a share is set aside to test.
        number: of the case; decides which slices.
        test: the slices set aside, or the others.
    """

    def __init__(self, arrays: Arrays, parts: Parts, number: int, *, test: bool) -> None:
        share = len(parts.sides.test) / (len(parts.sides.test) + len(parts.sides.learn))
        drawn = np.random.default_rng([parts.seed, number]).random(arrays["image"].shape[3])
        self.arrays, self.kept = arrays, np.asarray((drawn < share) == test)

    def __getitem__(self, name: str) -> np.ndarray:
        array = np.asarray(self.arrays[name])
        return array * self.kept.astype(array.dtype) if name in ("image", "labels") else array

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)
