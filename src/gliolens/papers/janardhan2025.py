"""Janardhan and Thomas (arXiv 2502.18775): fused 2-D and 3-D segmentation and the ResNet behind it, on any cohort.

The paper gives one row of scores. Here, on one division of patients (three parts to learn from, one to choose on, one
to test): each network alone and fused, the share a from 0 to 1, focal loss against cross-entropy, Dice against
cross-entropy on the classifier, a weight learnt for each voxel, the rule "read the class off the fused outline", and
slices divided at random instead of patients, which shows what such a leak is worth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.splits import holdout, write_split
from gliolens.io.store import write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.loader import Arrays
from gliolens.method import changed
from gliolens.methods.segmentation_fusion import Config, ready
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant, common_series, usable_cases
from gliolens.report.paper_page import Section, write_paper_report
from gliolens.report.sweep import sweep_figure
from gliolens.segmenter import (
    SHARES,
    TISSUES,
    Fusion,
    best_share,
    learn_segmenter,
    learn_weight,
    region_dice,
    shares_scored,
)
from gliolens.slice_namer import SCORES, learn_slice_namer, named_by_mask, slice_scores, slice_tissues
from gliolens.stats.intervals import Interval, bootstrap

METHOD: Final = "segmentation-fusion"
PUBLISHED: Final[Mapping[str, float]] = MappingProxyType(
    {"accuracy": 99.25, "precision": 99.30, "recall": 99.10, "f1": 99.19, "specificity": 99.76, "iou": 84.49}
)
"""Per cent, of BraTS 2018 to 2020."""
LOSSES: Final = ("focal", "cross-entropy")


@dataclass(frozen=True, eq=False)
class Reproduced:
    """What a reproduction came to.

    Attributes:
        folder: where everything lies.
        results: every table, as rows by name.
        failures: cases that were refused, with the reason.
    """

    folder: Path
    results: Mapping[str, Sequence[Mapping[str, Any]]]
    failures: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Sides:
    """Patients to learn from, to choose on, and to test."""

    learn: Sequence[Arrays]
    choose: Sequence[Arrays]
    test: Sequence[Arrays]


def reproduce(
    cohort: Path, out: Path, *, target: str = "grade", scale: str = "paper", seed: int = 0,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Reproduced:  # fmt: skip
    """Every experiment on one division of patients.

    Args:
        cohort: the cohort table.
        out: `report.html`, `results.json`, `sweep.csv`, `shares.png`, and the networks, so that a stopped run goes on.
        target: by which the division is stratified; nothing is told of it.
        scale: `paper`, or `demo` for minutes on two cores.
        seed: of every random choice.
        settings: of the method, in place of those of the `paper` preset.

    Raises:
        CohortError: too few usable cases.
    """
    rows = read_cohort(cohort)
    asked: Config = changed(Config.preset("paper").scaled(scale), settings)
    config = replace(asked, series=common_series(rows, target))
    found = usable_cases(
        rows, target=target, series=config.series, entrants=(Entrant(METHOD, METHOD, config),), cache=out / "cache",
        tick=Counter("reading cases"),
    )  # fmt: skip
    prepared = ready(found.cases, config, out / "cache")
    tissues = 2 if any(bool(a["binary"]) for a in prepared) else len(TISSUES)
    sides = _sides(found.cases.rows, prepared, target, seed, out)
    parts = _Parts(sides, tissues, config, seed, out)
    results = {
        "outlines": outlines(parts),
        "shares": shares(parts),
        "losses": losses(parts),
        "slices": slices(parts),
        "leak": leak(parts),
        "lost": [_lost(prepared)],
    }
    _write(out, results, config, sides)
    return Reproduced(out, results, found.failures)


def _sides(rows: Sequence[CaseRow], prepared: Sequence[Arrays], target: str, seed: int, out: Path) -> Sides:
    """A fifth of the patients to test, a fifth to choose on."""
    division = holdout(rows, target, test=0.2, seed=seed)
    write_split(out / "splits.json", division)
    test = set(division.folds[0].test)
    rest = [row for row in rows if row.case not in test]
    choose = set(holdout(rest, target, test=0.25, seed=seed).folds[0].test)
    of = {row.case: arrays for row, arrays in zip(rows, prepared, strict=True)}
    learn = [a for case, a in of.items() if case not in test | choose]
    return Sides(learn, [of[c] for c in of if c in choose], [of[c] for c in of if c in test])


@dataclass(frozen=True, eq=False)
class _Parts:
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
            flip=config.flip, seed=self.seed,
        )  # fmt: skip
        flat = net(2, widths=config.widths_2d, epochs=config.epochs_2d, folder=self.out / f"2d-{loss}")
        deep = net(3, widths=config.widths_3d, epochs=config.epochs_3d, folder=self.out / f"3d-{loss}")
        return Fusion(flat, deep, share)

    def chosen(self) -> float:
        """The share of most Dice on the patients to choose on."""
        return best_share(self.fusion(), self.sides.choose, self.out / "share.json")

    def learnt(self) -> Fusion:
        """A weight for each voxel, learnt on the patients to choose on."""
        fusion = self.fusion()
        return replace(fusion, weight=learn_weight(fusion, self.sides.choose, self.out / "weight", self.seed))

    @property
    def least_pixels(self) -> float:
        return self.config.least_mm2 / self.config.voxel_mm**2


# --- outlines --------------------------------------------------------------------------------------------------


def outlines(parts: _Parts) -> list[dict[str, Any]]:
    """Dice and IoU on the test patients: each network alone, and every way to join them."""
    chosen = parts.chosen()
    ways = {
        "2-D only": parts.fusion(share=1.0),
        "3-D only": parts.fusion(share=0.0),
        "fused, a = 0.6": parts.fusion(share=0.6),
        f"fused, a = {chosen:.1f}, chosen on others": parts.fusion(share=chosen),
        "fused, a weight a voxel": parts.learnt(),
    }
    out = []
    for name, fusion in ways.items():
        per_case = pd.DataFrame([region_dice(_truth(a, parts), fusion(_image(a))) for a in parts.sides.test])
        row: dict[str, Any] = {"outline": name}
        for region in per_case:
            values = per_case[region].dropna().to_numpy(float)
            row[f"Dice, {region}"] = _mean(values, parts.seed)
            row[f"IoU, {region}"] = _mean(values / (2 - values), parts.seed)
        out.append(row)
    return out


def _image(arrays: Arrays) -> np.ndarray:
    return np.asarray(arrays["image"], np.float32)


def _truth(arrays: Arrays, parts: _Parts) -> np.ndarray:
    return np.asarray(np.minimum(arrays["labels"], parts.tissues - 1))


def _mean(values: np.ndarray, seed: int) -> Interval:
    names = [str(i) for i in range(len(values))]
    return bootstrap(lambda rows: float(values[rows].mean()), names, np.zeros(len(values), int), seed=seed)


def shares(parts: _Parts) -> list[dict[str, Any]]:
    """Mean Dice over regions for each share of the 2-D network, on the patients to choose on and to test."""
    fusion = parts.fusion()
    sides = {"to choose on": parts.sides.choose, "to test": parts.sides.test}
    scores = {name: [shares_scored(fusion, a) for a in side] for name, side in sides.items()}
    return [
        {"a": a, **{name: float(np.nanmean([s[a] for s in found])) for name, found in scores.items()}}
        for a in SHARES
    ]


def losses(parts: _Parts) -> list[dict[str, Any]]:
    """Dice of the smallest region under focal loss and cross-entropy."""
    out = []
    for loss in LOSSES:
        for name, share in (("2-D only", 1.0), ("3-D only", 0.0), ("fused, a = 0.6", 0.6)):
            fusion = parts.fusion(loss, share)
            found = [region_dice(_truth(a, parts), fusion(_image(a))) for a in parts.sides.test]
            region = list(found[0])[-1]
            values = np.array([f[region] for f in found])
            out.append(
                {
                    "loss": loss,
                    "outline": name,
                    f"Dice, {region}": _mean(values[~np.isnan(values)], parts.seed),
                }
            )
    return out


# --- slices ----------------------------------------------------------------------------------------------------

Names = Callable[[Arrays], np.ndarray]
"""From a patient to the tissue of each slice of the cube."""


def slices(parts: _Parts) -> list[dict[str, Any]]:
    """Scores of naming the test patients' slices: the ResNet under both losses, and two rules without any."""
    fusion = parts.fusion()
    ways: dict[str, Names] = {
        f"ResNet, {loss} loss": _named_by_resnet(parts, fusion, parts.sides.learn, loss, f"slices-{loss}")
        for loss in ("dice", "cross-entropy")
    }
    ways["read off the fused outline"] = lambda a: named_by_mask(
        fusion(_image(a)).argmax(axis=0), parts.tissues, parts.least_pixels
    )
    ways["always: no tumour"] = lambda a: np.zeros(_image(a).shape[3], int)
    return [{"slices named by": name, **_scored(parts, parts.sides.test, way)} for name, way in ways.items()]


def _named_by_resnet(parts: _Parts, fusion: Fusion, learn: Sequence[Arrays], loss: str, stage: str) -> Names:
    config = parts.config
    namer = learn_slice_namer(
        fusion, learn, depth=config.depth, sees=config.namer_sees, loss=loss, epochs=config.epochs_slices,
        slices=config.slices, rate=config.rate, flip=config.flip, least_pixels=parts.least_pixels,
        folder=parts.out / stage, seed=parts.seed,
    )  # fmt: skip
    return lambda a: np.asarray(slice_tissues(namer, _image(a), fusion(_image(a))).argmax(axis=1))


def _scored(parts: _Parts, patients: Sequence[Arrays], way: Names) -> dict[str, Any]:
    """`SCORES` over slices that hold brain; the interval of the accuracy is over patients."""
    truth, told = [], []
    for arrays in patients:
        brain = np.any(arrays["image"], axis=(0, 1, 2))
        truth.append(named_by_mask(_truth(arrays, parts), parts.tissues, parts.least_pixels)[brain])
        told.append(way(arrays)[brain])
    right = np.array([[(t == q).sum(), len(t)] for t, q in zip(truth, told, strict=True)])
    names = [str(i) for i in range(len(right))]
    accuracy = bootstrap(
        lambda rows: float(right[rows, 0].sum() / right[rows, 1].sum()), names, np.zeros(len(right), int),
        seed=parts.seed,
    )  # fmt: skip
    return {**slice_scores(np.concatenate(truth), np.concatenate(told), parts.tissues), "accuracy": accuracy}


# --- what a leak is worth --------------------------------------------------------------------------------------


def leak(parts: _Parts) -> list[dict[str, Any]]:
    """The 2-D network and the ResNet, with patients on one side each, and with slices of all patients on both sides.

    A 3-D network cannot be asked: a volume has no slices to divide.
    """
    by_patient = parts.fusion(share=1.0)
    way = _named_by_resnet(parts, by_patient, parts.sides.learn, "cross-entropy", "slices-2d-by-patient")
    rows = [{"divided by": "patient", **_of_outline(parts, by_patient, parts.sides.test),
             **_scored(parts, parts.sides.test, way)}]  # fmt: skip
    everyone = [*parts.sides.learn, *parts.sides.test]
    divided = [_at_random(a, parts, i) for i, a in enumerate(everyone)]
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


def _of_outline(parts: _Parts, fusion: Fusion, patients: Sequence[Arrays]) -> dict[str, Any]:
    values = np.array([region_dice(_truth(a, parts), fusion(_image(a)))["whole"] for a in patients])
    return {"Dice, whole": _mean(values[~np.isnan(values)], parts.seed)}


def _at_random(arrays: Arrays, parts: _Parts, number: int) -> tuple[Arrays, Arrays]:
    """A patient's slices divided: a share as large as that of the test patients on one side, the others emptied."""
    share = len(parts.sides.test) / (len(parts.sides.test) + len(parts.sides.learn))
    image, labels = np.asarray(arrays["image"]), np.asarray(arrays["labels"])
    aside = np.random.default_rng([parts.seed, number]).random(image.shape[3]) < share
    learn, test = (
        {"image": image * keep, "labels": labels * np.asarray(keep, np.uint8)} for keep in (~aside, aside)
    )
    return learn, test


def _lost(prepared: Sequence[Arrays]) -> dict[str, Any]:
    lost = np.array([float(a["lost_ml"]) for a in prepared])
    return {"patients": len(lost), "lose some": int((lost > 0).sum()), "ml lost, most": float(lost.max())}


# --- what is written -------------------------------------------------------------------------------------------


def _write(
    out: Path, results: Mapping[str, Sequence[Mapping[str, Any]]], config: Config, sides: Sides
) -> None:
    write_text(out / "sweep.csv", pd.DataFrame(results["shares"]).to_csv(index=False))
    plain = {name: [{k: _plain(v) for k, v in row.items()} for row in rows] for name, rows in results.items()}
    counts = {"learn": len(sides.learn), "choose": len(sides.choose), "test": len(sides.test)}
    write_json(out / "results.json", {"patients": counts, "published": dict(PUBLISHED), **plain})
    figure = sweep_figure(
        results["shares"], "a", {"patients to choose on": "to choose on", "patients to test": "to test"}, 0.6,
        "a: share of the 2-D network (0: 3-D only, 1: 2-D only)", "mean Dice",
    )  # fmt: skip
    (out / "shares.png").write_bytes(figure)
    told = {
        "series": ", ".join(config.series),
        "cube": f"{config.edge} voxels of {config.voxel_mm} mm",
        **software(),
    }
    write_paper_report(
        out / "report.html", "Janardhan and Thomas: fused segmentation, reproduced", _sections(results, counts, figure),
        {k: str(v) for k, v in told.items()},
    )  # fmt: skip
    say(f"{counts['learn']} patients learnt from, {counts['choose']} to choose on, {counts['test']} to test")


def _plain(value: Any) -> Any:
    return (
        {"value": value.value, "low": value.low, "high": value.high} if isinstance(value, Interval) else value
    )


def _sections(
    results: Mapping[str, Sequence[Mapping[str, Any]]], counts: Mapping[str, int], figure: bytes
) -> list[Section]:
    published = {"slices named by": "published (BraTS 2018 to 2020, divided by slice or patient is not said)"}
    published |= {s: f"{PUBLISHED[s]} %" for s in SCORES}
    patients = (
        f"{counts['learn']} patients to learn from, {counts['choose']} to choose on, {counts['test']} to test. "
        "Intervals: 95 % over patients."
    )
    lost = results["lost"][0]
    crop = (
        f"The cube loses tumour of {lost['lose some']} of {lost['patients']} patients, at most "
        f"{lost['ml lost, most']:.1f} ml."
    )
    return [
        _section("Outlines", results["outlines"], patients, f"Published IoU: {PUBLISHED['iou']} %.", crop),
        Section("The share of the 2-D network", figures=[("Mean Dice over regions; a = 0.6 is the paper's.", figure)]),
        _section("Focal loss against cross-entropy, smallest region", results["losses"]),
        _section(
            "Slices", [published, *results["slices"]],
            "Tissues of slices that hold brain. All but accuracy are weighted by the slices of a tissue.",
        ),
        _section(
            "What a leak is worth", results["leak"],
            "The 2-D network and the ResNet after it. Divided by slice, neighbours of a test slice were learnt from.",
        ),
    ]  # fmt: skip


def _section(title: str, rows: Sequence[Mapping[str, Any]], *notes: str) -> Section:
    columns = list(rows[-1])
    return Section(title, notes, columns, [[row.get(c, "") for c in columns] for row in rows])
