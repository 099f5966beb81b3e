"""How well a trained outline matches real cases: prints the table that docs/outline.md shows.

python benchmarks/outline.py ../shared/data [--outline FOLDER] [--write] > docs/tables/outline.md

With --write the scores also go into the card of the weights, from where every report shows them.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from gliolens.case import CaseRow, Grid, Volume
from gliolens.cohorts.layouts.registry import read_case_folder
from gliolens.cohorts.phantom.cohort import simulate_case
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.labels import REGION_TITLES, SERIES
from gliolens.loader import read_case
from gliolens.ops.geometry import resample, with_spacing
from gliolens.outline import BUILT_IN, read_outliner, write_outliner
from gliolens.progress import Counter
from gliolens.stats.doubt import doubts
from gliolens.stats.segmentation import dice_by_region

SIMULATED = 40
SINGLE = {"case_hgg_brats2023": "brats2023", "case_lgg_sri24": "brats2020"}


def rows(data):
    """Name of the cohort and the row of each case."""
    for name, scheme in SINGLE.items():
        row, _ = read_case_folder(data / name)
        yield name, replace(row, mask_scheme=scheme)
    for folder in sorted(f for f in (data / "tcga_lgg").iterdir() if f.is_dir()):
        row, _ = read_case_folder(folder)
        yield "tcga_lgg", replace(row, mask_scheme="binary")


def draw(outliner, row, series=SERIES):
    """Dice by region, and the Dice the network expects of itself, of a case of which only some series are shown."""
    case = read_case(row, need_mask=True)
    shown = {name: image for name, image in case.series.items() if name in series}
    drawn = outliner.outline(replace(case, tumour=None, series=shown))
    own = doubts(drawn.labels, drawn.probabilities, case.grid.voxel_ml)["whole"].own_dice
    return dice_by_region(case.tumour, drawn.labels, scheme=case.mask_scheme), own


def summary(cohort, region, values):
    """Mean, and the middle 95 % of the means of 2000 resamples of patients."""
    values = np.array(values)
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975)) if len(values) > 1 else (np.nan, np.nan)
    return {
        "cohort": cohort, "region": region, "n": len(values), "dice": float(values.mean()),
        "median": float(np.median(values)), "low": float(low), "high": float(high),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--outline", type=Path, default=BUILT_IN)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    outliner, found, check = read_outliner(args.outline), {}, []
    todo, tick = list(rows(args.data)), Counter("outlining")
    for i, (cohort, row) in enumerate(todo, start=1):
        scores, own = draw(outliner, row)
        check.append({"case": row.case, "own": own, "real": scores["whole"]})
        print(row.case, {k: round(v, 3) for k, v in scores.items()}, f"own {own:.2f}", file=sys.stderr)
        for region, value in scores.items():
            if np.isfinite(value):
                found.setdefault((cohort, region), []).append(value)
        tick(i, len(todo))
    table = [summary(*key, values) for key, values in found.items()]
    print_table(table)
    print_without(outliner, todo[: len(SINGLE)])
    print_grids(outliner, todo[: len(SINGLE)])
    print_doubt(check)
    print_simulated(outliner, args.data)
    if args.write:
        known = [{k: v if v == v else None for k, v in row.items()} for row in (*table, *check)]
        more = {"scores": known[: len(table)], "doubt_check": known[len(table) :]}
        write_outliner(args.outline, outliner.net.cpu(), {**outliner.card, **more})


def print_table(table):
    print("| cases | region | n | mean Dice (95 %) | median |\n|---|---|---|---|---|")
    for row in table:
        interval = f" ({row['low']:.2f} to {row['high']:.2f})" if row["n"] > 1 else ""
        print(
            f"| `{row['cohort']}` | {REGION_TITLES[row['region']].lower()} | {row['n']} "
            f"| {row['dice']:.2f}{interval} | {row['median']:.2f} |"
        )


def print_without(outliner, cases):
    """Dice of the same cases with series left out."""
    print("\nWith series left out (whole, core, enhancing):\n")
    print("| series shown | " + " | ".join(f"`{cohort}`" for cohort, _ in cases) + " |")
    print("|---|" + "---|" * len(cases))
    for shown in (SERIES, *(tuple(s for s in SERIES if s != gone) for gone in SERIES), ("flair",), ("t2",)):
        cells = [", ".join(f"{v:.2f}" for v in draw(outliner, row, shown)[0].values()) for _, row in cases]
        print(f"| {', '.join(shown)} | " + " | ".join(cells) + " |")


def print_grids(outliner, cases):
    """Dice of the same cases read on other grids, where their reference is read too."""
    print("\nOn other grids (whole, core, enhancing):\n")
    print("| grid | " + " | ".join(f"`{cohort}`" for cohort, _ in cases) + " |")
    print("|---|" + "---|" * len(cases))
    grids = {
        "its own": lambda grid: grid,
        "voxels of 3 mm": lambda grid: with_spacing(grid, (3.0, 3.0, 3.0)),
        "axial slices of 5 mm": lambda grid: with_spacing(grid, (1.0, 1.0, 5.0)),
        "turned by 25 degrees about each axis": turned,
    }
    for title, other in grids.items():
        cells = []
        for _, row in cases:
            case = on_grid(read_case(row, need_mask=True), other)
            drawn = outliner.outline(nothing_known(case)).labels
            scores = dice_by_region(case.tumour, drawn, scheme=case.mask_scheme)
            cells.append(", ".join(f"{v:.2f}" for v in scores.values()))
        print(f"| {title} | " + " | ".join(cells) + " |")


def turned(grid):
    """The grid turned in the world about its middle."""
    turn = Rotation.from_euler("xyz", (25, 25, 25), degrees=True).as_matrix()
    middle = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    affine = np.eye(4)
    affine[:3, :3] = turn @ grid.affine[:3, :3]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    return Grid(grid.shape, affine)


def on_grid(case, other):
    """The case read on another grid: series between voxels, labels from the nearest one."""
    grid = other(case.grid)
    if grid is case.grid:
        return case
    series = {
        s: resample(Volume(v, case.grid.affine), grid).astype(np.float32) for s, v in case.series.items()
    }
    tumour = resample(Volume(case.tumour, case.grid.affine), grid, order=0)
    return replace(case, grid=grid, source=grid, series=series, tumour=tumour, brain=None)


def print_doubt(check):
    own, real = (np.array([row[k] for row in check]) for k in ("own", "real"))
    both = np.isfinite(own) & np.isfinite(real)
    agree = np.corrcoef(own[both], real[both])[0, 1]
    print(
        f"\nOf the whole tumour the network itself expected a Dice of {own[both].mean():.2f} on average, where the "
        f"true one was {real[both].mean():.2f} ({both.sum()} cases; correlation {agree:.2f})."
    )


def print_simulated(outliner, data):
    """Dice on simulated patients, and what is drawn where there is no tumour."""
    ill, well = (
        [simulate_case(p, config) for p in draw_cohort(SIMULATED, 1, config)]
        for config in (PhantomConfig(), PhantomConfig(healthy=1.0))
    )
    scores = [
        dice_by_region(c.tumour, outliner.outline(nothing_known(c)).labels, scheme=c.mask_scheme) for c in ill
    ]
    told = [f"{r} {np.nanmean([s[r] for s in scores]):.2f}" for r in scores[0]]
    print(f"\nOf {SIMULATED} simulated patients who were not trained on, mean Dice: {', '.join(told)}.")
    drawn = [volume(outliner, c) for c in well]
    false = [ml for ml in drawn if ml > 0]
    print(
        f"Of {SIMULATED} simulated heads without tumour, {len(false)} were given one"
        + (f" (median {np.median(false):.1f} ml)." if false else ".")
    )
    image = next((data / "t1_raw_adult").glob("*.nii.gz"))
    head = read_case(CaseRow("t1_raw_adult", "t1_raw_adult", files={"t1": image}))
    print(
        f"In `t1_raw_adult`, a healthy head in its skull of which only T1 is known: {volume(outliner, head):.1f} ml."
    )


def volume(outliner, case):
    """Millilitres of tumour drawn."""
    return np.count_nonzero(outliner.outline(nothing_known(case)).labels) * case.grid.voxel_ml


def nothing_known(case):
    """The case without its tumour mask, and without the brain mask, as a user has it."""
    return replace(case, tumour=None, brain=None)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
