"""Methods and controls on the 55 TCGA-LGG patients, five folds: prints the tables that docs/results.md shows.

python benchmarks/tcga_lgg.py ../shared/data/tcga_lgg WORK > docs/tables/tcga_lgg.md

Runs the very commands a user would; a bench that lies in WORK already is read, not run again.
"""

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from gliolens.stats.intervals import delong_difference

SERIES = "t1,t1ce,flair"
TARGETS = {
    "idh": "IDH status",
    "who_grade": "WHO grade",
    "codel_1p19q": "1p/19q status",
}
METHODS = (
    "--methods", "with-shape=shape-resnet", "image-alone=shape-resnet", "--set", "image-alone.join=none",
)  # fmt: skip
SCORES = {
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score",
}


def run(*words):
    started = time.monotonic()
    subprocess.run(["gliolens", *words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def cell(row, score):
    return f"{row[score]:.2f} ({row[score + '_low']:.2f} to {row[score + '_high']:.2f})"


def section(target, title, folder, minutes):
    scores = json.loads((folder / "metrics.json").read_text())["scores"]
    answers = pd.read_csv(folder / "predictions.csv")
    mine = answers[answers["method"] == scores[0]["method"]]
    shares = ", ".join(f"{c}: {n}" for c, n in mine["truth"].value_counts().sort_index().items())
    lines = [
        f"### {title}\n",
        "```text",
        f"gliolens bench cohort.csv --target {target} --series {SERIES} {' '.join(METHODS)} -o {folder.name}",
        "```\n",
        f"{len(mine)} patients ({shares}); {minutes:.1f} minutes on 2 cores.\n",
        "| | " + " | ".join(SCORES.values()) + " |",
        "|---|" + "---|" * len(SCORES),
    ]
    for row in scores:
        name = f"*{row['method']}*" if row["control"] else f"**{row['method']}**"
        lines.append(f"| {name} | " + " | ".join(cell(row, s) for s in SCORES) + " |")
    return "\n".join([*lines, "", difference(answers)])


def difference(answers):
    """AUC with shape less that of the image alone, on the same patients."""
    classes = sorted(c for c in answers if c.startswith("p_"))
    if len(classes) != 2:
        return "Of three classes the AUC is the mean over each against the rest; the difference has no test of its own."
    positive, negative = classes
    ranks = {}
    for name in ("with-shape", "image-alone"):
        mine = answers[answers["method"] == name].set_index("case").sort_index()
        odds = {p: mine[p] / mine[p.replace("p_", "prior_", 1)] for p in (positive, negative)}
        ranks[name] = odds[positive] / (odds[positive] + odds[negative])
    truth = (mine["truth"] == positive.removeprefix("p_")).to_numpy()
    found = delong_difference(truth, *ranks.values())
    one = found.interval
    told = f"AUC {one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f}), DeLong p = {found.p_value:.2f}"
    return f"With shape less image alone, on the same patients: {told}."


def main(data, out):
    out.mkdir(parents=True, exist_ok=True)
    table = out / "cohort.csv"
    if not table.is_file():
        run("cohort", "index", str(data), "--labels", str(data / "clinical.csv"), "-o", str(table))
    for target, title in TARGETS.items():
        folder, took = out / target, out / f"{target}.minutes"
        if not (folder / "metrics.json").is_file():
            words = ("--target", target, "--series", SERIES, *METHODS, "-o", str(folder))
            seconds = run("bench", str(table), *words)
            took.write_text(f"{seconds / 60:.1f}\n")
        print(section(target, title, folder, float(took.read_text())), end="\n\n")
    print(f"GlioLens {version('gliolens')}, PyTorch {version('torch')}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
