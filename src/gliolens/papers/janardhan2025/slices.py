"""How well slices are named, and what a leak is worth."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gliolens.fusion import Fusion, region_dice
from gliolens.loader import Arrays
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


def _scored(parts: Parts, patients: Sequence[Arrays], way: Names) -> dict[str, Any]:
    """`SCORES` over slices that hold brain; the interval of the accuracy is over patients."""
    truth, told = [], []
    for arrays in patients:
        brain = np.any(arrays["image"], axis=(0, 1, 2))
        truth.append(named_by_mask(truth_of(arrays, parts), parts.tissues, parts.least_pixels)[brain])
        told.append(way(arrays)[brain])
    right = np.array([[(t == q).sum(), len(t)] for t, q in zip(truth, told, strict=True)])
    names = [str(i) for i in range(len(right))]
    accuracy = bootstrap(
        lambda rows: float(right[rows, 0].sum() / right[rows, 1].sum()), names, np.zeros(len(right), int),
        seed=parts.seed,
    )  # fmt: skip
    return {**slice_scores(np.concatenate(truth), np.concatenate(told), parts.tissues), "accuracy": accuracy}


# --- what a leak is worth --------------------------------------------------------------------------------------


def leak(parts: Parts) -> list[dict[str, Any]]:
    """The 2-D network and the ResNet, with patients on one side each, and with slices of all patients on both sides.

    A 3-D network cannot be asked: a volume has no slices to divide.
    """
    by_patient = parts.fusion(share=1.0)
    way = _named_by_resnet(parts, by_patient, parts.sides.learn, "cross-entropy", "slices-2d-by-patient")
    rows = [{"divided by": "patient", **_of_outline(parts, by_patient, parts.sides.test),
             **_scored(parts, parts.sides.test, way)}]  # fmt: skip
    everyone = [*parts.sides.learn, *parts.sides.test]
    divided = [divided_at_random(a, parts, i) for i, a in enumerate(everyone)]
    learn, test = [a for a, _ in divided], [b for _, b in divided]
    config = parts.config
    flat = learn_segmenter(
        learn, parts.tissues, 2, widths=config.widths_2d, loss="focal", epochs=config.epochs_2d, slices=config.slices,
        rate=config.rate, flip=config.flip, folder=parts.out / "2d-by-slice", seed=parts.seed,
    )  # fmt: skip
    by_slice = Fusion(flat, by_patient.deep, 1.0)
    way = _named_by_resnet(parts, by_slice, learn, "cross-entropy", "slices-2d-by-slice")
    scored = {**_of_outline(parts, by_slice, test), **_scored(parts, test, way)}
    return [*rows, {"divided by": "slice: a leak", **scored}]


def _of_outline(parts: Parts, fusion: Fusion, patients: Sequence[Arrays]) -> dict[str, Any]:
    values = np.array([region_dice(truth_of(a, parts), fusion(image_of(a)))["whole"] for a in patients])
    return {"Dice, whole": mean_of(values[~np.isnan(values)], parts.seed)}


def divided_at_random(arrays: Arrays, parts: Parts, number: int) -> tuple[Arrays, Arrays]:
    """A patient's slices divided: a share as large as that of the test patients on one side, the others emptied."""
    share = len(parts.sides.test) / (len(parts.sides.test) + len(parts.sides.learn))
    image, labels = np.asarray(arrays["image"]), np.asarray(arrays["labels"])
    aside = np.random.default_rng([parts.seed, number]).random(image.shape[3]) < share
    learn, test = (
        {"image": image * keep, "labels": labels * np.asarray(keep, np.uint8)} for keep in (~aside, aside)
    )
    return learn, test
