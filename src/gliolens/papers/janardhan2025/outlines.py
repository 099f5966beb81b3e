"""How well each network outlines alone, and every way to join them; losses, shares and seconds."""

import time
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.fusion import SHARES, Fusion, region_dice, shares_scored
from gliolens.papers.janardhan2025.parts import Parts, image_of, mean_of, truth_of

LOSSES: Final = ("focal", "cross-entropy")
MAY_LOSE: Final = 0.01
"""Dice that the fastest setting may lose."""


def outlines(parts: Parts) -> list[dict[str, Any]]:
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
        per_case = pd.DataFrame(
            [region_dice(truth_of(a, parts), fusion(image_of(a))) for a in parts.sides.test]
        )
        row: dict[str, Any] = {"outline": name}
        for region in per_case:
            values = per_case[region].dropna().to_numpy(float)
            row[f"Dice, {region}"] = mean_of(values, parts.seed)
            row[f"IoU, {region}"] = mean_of(values / (2 - values), parts.seed)
        out.append(row)
    return out


def shares(parts: Parts) -> list[dict[str, Any]]:
    """Mean Dice over regions for each share of the 2-D network, on the patients to choose on and to test."""
    fusion = parts.fusion()
    sides = {"to choose on": parts.sides.choose, "to test": parts.sides.test}
    scores = {name: [shares_scored(fusion, a) for a in side] for name, side in sides.items()}
    return [
        {"a": a, **{name: float(np.nanmean([s[a] for s in found])) for name, found in scores.items()}}
        for a in SHARES
    ]


def losses(parts: Parts) -> list[dict[str, Any]]:
    """Dice of the smallest region under focal loss and cross-entropy."""
    out = []
    for loss in LOSSES:
        for name, share in (("2-D only", 1.0), ("3-D only", 0.0), ("fused, a = 0.6", 0.6)):
            fusion = parts.fusion(loss, share)
            found = [region_dice(truth_of(a, parts), fusion(image_of(a))) for a in parts.sides.test]
            region = list(found[0])[-1]
            values = np.array([f[region] for f in found])
            out.append(
                {
                    "loss": loss,
                    "outline": name,
                    f"Dice, {region}": mean_of(values[~np.isnan(values)], parts.seed),
                }
            )
    return out


def speed(parts: Parts) -> list[dict[str, Any]]:
    """Seconds a patient and mean Dice over regions, of settings from slow to fast; the fastest that loses little.

    Seconds are medians over the test patients, of the networks alone, on this machine.
    """
    fused = parts.fusion(share=parts.chosen())
    flat, deep = replace(fused, weight=1.0), replace(fused, weight=0.0)
    ways = {
        "fused": fused, "fused, every second slice": replace(fused, every=2), "2-D only": flat,
        "2-D only, every second slice": replace(flat, every=2),
        "2-D only, every fourth slice": replace(flat, every=4), "3-D only": deep,
    }  # fmt: skip
    rows: list[dict[str, Any]] = [{"setting": name, **_timed(parts, way)} for name, way in ways.items()]
    least = max(row["mean Dice"].value for row in rows) - MAY_LOSE
    best = min(
        (row for row in rows if row["mean Dice"].value >= least), key=lambda row: float(row["seconds"])
    )
    return [
        {**row, "": f"the fastest that loses no more than {MAY_LOSE}" if row is best else ""} for row in rows
    ]


def _timed(parts: Parts, fusion: Fusion) -> dict[str, Any]:
    fusion(image_of(parts.sides.test[0]))  # the first call prepares kernels
    seconds, scores = [], []
    for arrays in parts.sides.test:
        image, start = image_of(arrays), time.perf_counter()
        drawn = fusion(image)
        seconds.append(time.perf_counter() - start)
        scores.append(np.nanmean([*region_dice(truth_of(arrays, parts), drawn).values()]))
    return {
        "seconds": round(float(np.median(seconds)), 3),
        "mean Dice": mean_of(np.array(scores), parts.seed),
    }
