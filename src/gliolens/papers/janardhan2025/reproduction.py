"""Janardhan and Thomas (arXiv 2502.18775): fused 2-D and 3-D segmentation and the ResNet behind it, on any cohort.

The paper gives one row of scores. Here, on one division of patients (three parts to learn from, one to choose on, one
to test): each network alone and fused, the share a from 0 to 1, focal loss against cross-entropy, Dice against
cross-entropy on the classifier, a weight learnt for each voxel, the rule "read the class off the fused outline", and
slices divided at random instead of patients, which shows what such a leak is worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.splits import holdout, write_split
from gliolens.errors import ConfigError
from gliolens.io.store import file_hash, read_json, whole_file, write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.loader import Arrays, fingerprint
from gliolens.method import changed
from gliolens.methods.segmentation_fusion import VERSION, Config, ready
from gliolens.outline_scores import TITLES
from gliolens.papers.headline import Headline, interval_of, row_of
from gliolens.papers.janardhan2025.outlines import losses, outlines, shares, speed
from gliolens.papers.janardhan2025.parts import Parts, Sides
from gliolens.papers.janardhan2025.slices import leak, slices
from gliolens.papers.kept import Reproduced, check_folder
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant
from gliolens.report.paper_page import Section, write_paper_report
from gliolens.report.sweep import sweep_figure
from gliolens.segmenter import tissues_of
from gliolens.slice_namer import SCORES
from gliolens.stats.intervals import Interval
from gliolens.usable import common_series, usable_cases

METHOD: Final = "segmentation-fusion"
PUBLISHED: Final[Mapping[str, float]] = MappingProxyType(
    {"accuracy": 99.25, "precision": 99.30, "recall": 99.10, "f1": 99.19, "specificity": 99.76, "iou": 84.49}
)
"""Per cent, of BraTS 2018 to 2020."""
TRIED: Final = frozenset({"series", "loss", "weight", "share", "start", "namer_loss"})
"""Settings that the experiments vary, or that hold for all of them."""


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
        ConfigError: the folder holds a reproduction with other settings, or a setting is one that is tried out here.
    """
    rows = read_cohort(cohort)
    if tried := sorted(TRIED & set(settings)):
        raise ConfigError(
            f"{', '.join(tried)}: every one of these is tried here, or none can be set; leave them out"
        )
    asked: Config = changed(Config.preset("paper").scaled(scale), settings)
    config = replace(asked, series=common_series(rows, target))
    check_folder(
        out, {"cohort": file_hash(cohort), "target": target, "seed": seed, "settings": asdict(config)}
    )
    found = usable_cases(
        rows, target=target, series=config.series, entrants=(Entrant(METHOD, METHOD, config),), cache=out / "cache",
        tick=Counter("reading cases"),
    )  # fmt: skip
    prepared = ready(found.cases, config, out / "cache")
    check_folder(out, {"cases": {row.case: fingerprint(row) for row in found.cases.rows}, "version": VERSION})
    tissues = len(tissues_of(prepared))
    sides = _sides(found.cases.rows, prepared, target, seed, out)
    parts = Parts(sides, tissues, config, seed, out)
    results = {
        "outlines": outlines(parts),
        "shares": shares(parts),
        "losses": losses(parts),
        "slices": slices(parts),
        "leak": leak(parts),
        "speed": speed(parts),
        "lost": [_lost(prepared)],
    }
    _write(out, results, config, sides)
    return Reproduced(out, results, found.failures)


def headlines(folder: Path) -> list[Headline]:
    """Accuracy of naming slices and IoU of the outline, from a finished folder."""
    told = read_json(folder / "results.json")
    by_slice, by_patient = (interval_of(row["accuracy"]) for row in reversed(told["leak"]))
    whole = [row for row in told["outlines"] if row["region"] == "whole"]
    fixed, chosen = (next(row for row in whole if row["outline"].startswith(f"fused, a = {start}") and
                          ("chosen" in row["outline"]) == bool(not start)) for start in ("0.6", ""))  # fmt: skip
    always = row_of(told["slices"], "slices named by", "always: no tumour")["accuracy"]
    return [
        Headline(
            "accuracy, tissue of a slice", PUBLISHED["accuracy"] / 100, by_slice, by_patient,
            "\N{EM DASH}, age names no slice",
            "as published, divided by slice, so that neighbours of a slice tested were learnt from (the paper does not "
            "say how it divided); soundly, divided by patient. The same slices are asked.",
            more=f"Who names every slice 'no tumour' is right in {always['value']:.2f} of them.",
        ),
        Headline(
            "IoU, whole tumour", PUBLISHED["iou"] / 100, interval_of(fixed["iou"]), interval_of(chosen["iou"]),
            "\N{EM DASH}, age outlines nothing",
            "as published, 2-D and 3-D fused with the paper's share of 0.6; soundly, with a share chosen on patients "
            "that are neither learnt from nor tested. Both divided by patient.",
        ),
    ]  # fmt: skip


def _sides(rows: Sequence[CaseRow], prepared: Sequence[Arrays], target: str, seed: int, out: Path) -> Sides:
    """A fifth of the patients to test, a fifth to choose on."""
    division = holdout(rows, target, test=0.2, seed=seed)
    write_split(out / "splits.json", division)
    test = set(division.folds[0].test)
    rest = [row for row in rows if row.case not in test]
    choose = set(holdout(rest, target, test=0.25, seed=seed).folds[0].test)
    of = {row.case: arrays for row, arrays in zip(rows, prepared, strict=True)}
    learn = [a for case, a in of.items() if case not in test | choose]
    write_json(out / "chosen-on.json", {"cases": sorted(choose)})
    test_rows = [row for row in rows if row.case in test]
    return Sides(learn, [of[c] for c in of if c in choose], [of[r.case] for r in test_rows], test_rows)


def _lost(prepared: Sequence[Arrays]) -> dict[str, Any]:
    lost = np.array([int(a["lost"]) for a in prepared])
    return {"cases": len(lost), "lose some": int((lost > 0).sum()), "voxels lost, most": int(lost.max())}


# --- what is written -------------------------------------------------------------------------------------------


def _write(
    out: Path, results: Mapping[str, Sequence[Mapping[str, Any]]], config: Config, sides: Sides
) -> None:
    write_text(out / "sweep.csv", pd.DataFrame(results["shares"]).to_csv(index=False))
    plain = {name: [{k: _plain(v) for k, v in row.items()} for row in rows] for name, rows in results.items()}
    counts = {"learn": len(sides.learn), "choose": len(sides.choose), "test": len(sides.test)}
    write_json(out / "results.json", {"cases": counts, "published": dict(PUBLISHED), **plain})
    figure = sweep_figure(
        results["shares"], "a", {"cases to choose on": "to choose on", "cases to test": "to test"}, 0.6,
        "a: share of the 2-D network (0: 3-D only, 1: 2-D only)", "mean Dice",
    )  # fmt: skip
    with whole_file(out / "shares.png") as unfinished:
        unfinished.write_bytes(figure)
    told = {
        "series": ", ".join(config.series),
        "cube": "{} x {} x {} voxels of {} x {} x {} mm".format(*config.cube[0], *config.cube[1]),
        **software(),
    }
    write_paper_report(
        out / "report.html", "Janardhan and Thomas: fused segmentation, reproduced", _sections(results, counts, figure),
        {k: str(v) for k, v in told.items()},
    )  # fmt: skip
    say(f"{counts['learn']} cases learnt from, {counts['choose']} to choose on, {counts['test']} to test")


def _plain(value: Any) -> Any:
    return (
        {"value": value.value, "low": value.low, "high": value.high} if isinstance(value, Interval) else value
    )


def _sections(
    results: Mapping[str, Sequence[Mapping[str, Any]]], counts: Mapping[str, int], figure: bytes
) -> list[Section]:
    published = {"slices named by": "published (BraTS 2018 to 2020, divided by slice or patient is not said)"}
    published |= {s: f"{PUBLISHED[s]} %" for s in SCORES}
    cases = (
        f"{counts['learn']} cases to learn from, {counts['choose']} to choose on, {counts['test']} to test. "
        "Outlines are scored on each case's own grid. Intervals: 95 % over patients."
    )
    lost = results["lost"][0]
    crop = (
        f"The cube loses tumour of {lost['lose some']} of {lost['cases']} cases, at most {lost['voxels lost, most']} "
        "voxels of one."
    )
    return [
        _section("Outlines", results["outlines"], cases, f"Published IoU: {PUBLISHED['iou']} %.", crop),
        Section("The share of the 2-D network", figures=[("Mean Dice over regions; a = 0.6 is the paper's.", figure)]),
        _section("Focal loss against cross-entropy, smallest region", results["losses"]),
        _section(
            "Slices", [published, *results["slices"]],
            "Tissues of slices that hold brain. All but accuracy are plain means over the tissues that occur.",
        ),
        _section(
            "Seconds a case", results["speed"],
            "Medians over the cases to test, on this machine. Every setting needs the reading. Dice is the mean over "
            "regions, in the cube.",
        ),
        _section(
            "What a leak is worth", results["leak"],
            "The 2-D network and the ResNet after it, asked about the same slices after as many steps. Divided by "
            "slice, neighbours of a test slice were learnt from.",
        ),
    ]  # fmt: skip


def _section(title: str, rows: Sequence[Mapping[str, Any]], *notes: str) -> Section:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    named = [TITLES.get(column, column) for column in columns]
    return Section(title, notes, named, [[row.get(c, "") for c in columns] for row in rows])
