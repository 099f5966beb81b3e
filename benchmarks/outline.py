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

from gliolens.cohorts.layouts.registry import read_case_folder
from gliolens.labels import REGION_TITLES, SERIES
from gliolens.loader import read_case
from gliolens.outline import BUILT_IN, read_outliner, write_outliner
from gliolens.progress import Counter
from gliolens.stats.doubt import doubts
from gliolens.stats.segmentation import dice_by_region

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
    print_doubt(check)
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


def print_doubt(check):
    own, real = (np.array([row[k] for row in check]) for k in ("own", "real"))
    both = np.isfinite(own) & np.isfinite(real)
    agree = np.corrcoef(own[both], real[both])[0, 1]
    print(
        f"\nOf the whole tumour the network itself expected a Dice of {own[both].mean():.2f} on average, where the "
        f"true one was {real[both].mean():.2f} ({both.sum()} cases; correlation {agree:.2f})."
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
