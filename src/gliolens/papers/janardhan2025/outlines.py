"""How well each network outlines alone, and every way to join them; losses, shares and seconds."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.case import Grid, Volume
from gliolens.cube import drawn_labels, grid_of
from gliolens.fusion import SHARES, Fusion, region_dice, shares_scored
from gliolens.loader import Arrays, read_case
from gliolens.methods.segmentation_fusion import prepare
from gliolens.outline_scores import outline_rows, summary
from gliolens.papers.janardhan2025.parts import Parts, image_of, mean_of, truth_of
from gliolens.stats.segmentation import SEGMENTATION_SCORES

LOSSES: Final = ("focal", "cross-entropy")
MAY_LOSE: Final = 0.01
"""Dice that the fastest setting may lose."""


def outlines(parts: Parts) -> list[dict[str, Any]]:
    """Scores of outlines of the test cases on their own grids: each network alone, and every way to join them.

    What a cube loses counts as missed.
    """
    chosen = parts.chosen()
    ways = {
        "2-D only": parts.fusion(share=1.0),
        "3-D only": parts.fusion(share=0.0),
        "fused, a = 0.6": parts.fusion(share=0.6),
        f"fused, a = {chosen:.1f}, chosen on others": parts.fusion(share=chosen),
        "fused, a weight a voxel": parts.learnt(),
    }
    rows = [row for name, fusion in ways.items() for row in _on_own_grids(name, fusion, parts)]
    means = summary(pd.DataFrame(rows), seed=parts.seed)
    named = [{"outline": row["method"], **row} for row in means]
    return [{k: row[k] for k in ("outline", "region", "n", *SEGMENTATION_SCORES)} for row in named]


def _on_own_grids(name: str, fusion: Fusion, parts: Parts) -> list[dict[str, Any]]:
    scheme, out = "binary" if parts.tissues == 2 else "gliolens", []
    for row, arrays in zip(parts.sides.test_rows, parts.sides.test, strict=True):
        image, grid = image_of(arrays), grid_of(arrays["grid"])
        drawn = drawn_labels(fusion(image), Grid(image.shape[1:], np.asarray(arrays["affine"])), grid)
        out += outline_rows(name, row, Volume(drawn, grid.affine), drawn_scheme=scheme)
    return out


def shares(parts: Parts) -> list[dict[str, Any]]:
    """Mean Dice over regions for each share of the 2-D network, on the cases to choose on and to test."""
    fusion = parts.fusion()
    sides = {"to choose on": parts.sides.choose, "to test": parts.sides.test}
    scores = {name: pd.DataFrame([shares_scored(fusion, a) for a in side]) for name, side in sides.items()}
    return [{"a": a, **{name: float(found[a].mean()) for name, found in scores.items()}} for a in SHARES]


def losses(parts: Parts) -> list[dict[str, Any]]:
    """Dice of the smallest region under focal loss and cross-entropy, in the cube."""
    out = []
    for loss in LOSSES:
        for name, share in (("2-D only", 1.0), ("3-D only", 0.0), ("fused, a = 0.6", 0.6)):
            found = _region_dice(parts, parts.fusion(loss, share), parts.sides.test)
            region = found.columns[-1]
            values = found[region].to_numpy(float)
            row = {"loss": loss, "outline": name, "n": int((~np.isnan(values)).sum())}
            out.append({**row, f"Dice, {region}": mean_of(values, parts)})
    return out


def _region_dice(parts: Parts, fusion: Fusion, cases: Sequence[Arrays]) -> pd.DataFrame:
    """Dice in the cube, a row a case and a column a region."""
    return pd.DataFrame([region_dice(truth_of(a, parts), fusion(image_of(a))) for a in cases])


def speed(parts: Parts) -> list[dict[str, Any]]:
    """Seconds a case and mean Dice over regions of some settings; the fastest that loses little, chosen on others.

    Seconds are medians over the test cases on this machine: of reading a case and preparing it, which all settings
    need, and of the networks alone.
    """
    fused = parts.fusion(share=0.6)
    flat, deep = replace(fused, weight=1.0), replace(fused, weight=0.0)
    ways = {
        "fused, a = 0.6": fused, "fused, a = 0.6, every second slice": replace(fused, every=2), "2-D only": flat,
        "2-D only, every second slice": replace(flat, every=2),
        "2-D only, every fourth slice": replace(flat, every=4), "3-D only": deep,
    }  # fmt: skip
    seconds = {name: _seconds(parts, way) for name, way in ways.items()}
    aside = {name: _mean_dice(parts, way, parts.sides.choose).mean() for name, way in ways.items()}
    good = [name for name in ways if aside[name] >= max(aside.values()) - MAY_LOSE]
    best = min(good, key=lambda name: seconds[name])
    rows: list[dict[str, Any]] = [{"setting": "reading and preparing", "seconds": _reading(parts)}]
    for name, way in ways.items():
        test = mean_of(_mean_dice(parts, way, parts.sides.test).to_numpy(float), parts)
        told = {"setting": name, "seconds": round(seconds[name], 3), "Dice, others": round(aside[name], 3)}
        mark = f"fastest that loses no more than {MAY_LOSE} on others" if name == best else ""
        rows.append({**told, "Dice, test": test, "": mark})
    return rows


def _mean_dice(parts: Parts, fusion: Fusion, cases: Sequence[Arrays]) -> "pd.Series[float]":
    """Of each case, over the regions it holds or was given."""
    return _region_dice(parts, fusion, cases).mean(axis=1)


def _seconds(parts: Parts, fusion: Fusion) -> float:
    fusion(image_of(parts.sides.test[0]))  # the first call prepares kernels
    took = []
    for arrays in parts.sides.test:
        image, start = image_of(arrays), time.perf_counter()
        fusion(image)
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def _reading(parts: Parts) -> float:
    took = []
    for row in parts.sides.test_rows:
        start = time.perf_counter()
        prepare(read_case(row, parts.config.series), parts.config)
        took.append(time.perf_counter() - start)
    return round(float(np.median(took)), 3)
