"""Outlines of the TCGA-LGG patients held out, five folds, beside the built-in network's.

python benchmarks/tcga_outlines.py ../shared/data/tcga_lgg WORK > docs/tables/tcga_outlines.md

Runs the very command a user would; a bench that lies in WORK already is read, not run again.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

SERIES = ("t1", "t1ce", "flair")
SETTINGS = (
    "segmentation-fusion.slice_mm=4.5", "segmentation-fusion.epochs_2d=16", "segmentation-fusion.epochs_3d=16",
    "segmentation-fusion.weight=fixed", "segmentation-fusion.share=0.5",
)  # fmt: skip
"""Flat voxels for slices of 5 mm; fewer passes than the preset's; all patients teach both networks."""
SCORES = {"dice": "Dice", "iou": "IoU", "hd95_mm": "HD95, mm", "lesionwise_dice": "lesion-wise Dice"}


def run(*words):
    subprocess.run(["gliolens", *words], check=True, stdout=subprocess.DEVNULL)


def command(table, folder):
    return [
        "bench", str(table), "--target", "idh", "--methods", "segmentation-fusion", "--series", *SERIES,
        "--set", *SETTINGS, "-o", str(folder),
    ]  # fmt: skip


def cell(row, score):
    digits = 0 if score == "hd95_mm" else 2
    return f"{row[score]:.{digits}f} ({row[score + '_low']:.{digits}f} to {row[score + '_high']:.{digits}f})"


def by_fold(folder):
    """Mean Dice of each fold, and over all but the first, on which the settings were found."""
    table = pd.read_csv(folder / "outlines.csv").pivot_table(index="case", columns="method", values="dice")
    folds = [fold["test"] for fold in json.loads((folder / "splits.json").read_text())["folds"]]
    lines = []
    for method, dice in table.items():
        rest = dice[[c for fold in folds[1:] for c in fold]]
        each = ", ".join(f"{dice[fold].mean():.2f}" for fold in folds)
        lines.append(f"{method}: Dice by fold {each}; without the first {rest.mean():.2f} (n = {len(rest)}).")
    better = (table["segmentation-fusion"] > table["built-in outline"]).sum()
    return "\n".join([*lines, f"segmentation-fusion is better in {better} of {len(table)}."])


def main(data, out):
    out.mkdir(parents=True, exist_ok=True)
    table, folder, took = out / "cohort.csv", out / "outlines", out / "outlines.minutes"
    if not table.is_file():
        run("cohort", "index", str(data), "--labels", str(data / "clinical.csv"), "-o", str(table))
    if not (folder / "outlines.json").is_file():
        started = time.monotonic()
        run(*command(table, folder))
        took.write_text(f"{(time.monotonic() - started) / 60:.0f}\n")
    print("```text\ngliolens " + " ".join(command("cohort.csv", "outlines")) + "\n```\n")
    print(
        "| outline of the whole tumour | n | " + " | ".join(SCORES.values()) + " |\n|---|---|---|---|---|---|"
    )
    for row in json.loads((folder / "outlines.json").read_text())["means"]:
        print(f"| {row['method']} | {row['n']} | " + " | ".join(cell(row, s) for s in SCORES) + " |")
    print("\n" + by_fold(folder))
    print("\nIts answers to IDH, beside the controls:\n\n| | AUC |\n|---|---|")
    for row in json.loads((folder / "metrics.json").read_text())["scores"]:
        name = f"*{row['method']}*" if row["control"] else f"**{row['method']}**"
        print(f"| {name} | {cell(row, 'auc')} |")
    minutes = (
        f"{took.read_text().strip()} minutes on 2 cores" if took.is_file() else "stopped and gone on with"
    )
    print(f"\n{minutes}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
