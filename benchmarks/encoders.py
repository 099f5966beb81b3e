"""What frozen encoders tell, each beside the same controls on the same folds.

python benchmarks/encoders.py ../shared/data/tcga_lgg OUT > docs/tables/encoders.md

IDH and WHO grade of TCGA-LGG; the grade of simulated patients, beside their ceilings too. Volume embeddings under
`sound`, five folds by patient. With few patients the folds they fall into decide as much as the encoder does, so the
whole is done again with other folds, and the spread of the AUC is printed below each table. What was encoded and
answered lies in OUT, so a second run takes it from there.
"""

import argparse
import os
import shutil
import statistics
import sys
from contextlib import redirect_stdout
from pathlib import Path

from gliolens.bench import bench
from gliolens.cli import main as gliolens

SIMULATED = 100


def words(*given):
    with redirect_stdout(sys.stderr):
        failed = gliolens([str(word) for word in given])
    if failed:
        raise SystemExit(f"failed: {given}")


def cohorts(data, out):
    """Table, title, target and series of each question."""
    real, simulated = out / "tcga.csv", out / "simulated"
    if not real.is_file():
        words("cohort", "index", data, "--labels", data / "clinical.csv", "-o", real)
    if not (simulated / "cohort.csv").is_file():
        words("cohort", "phantom", "-n", SIMULATED, "-o", simulated, "--spacing-mm", 3, "--seed", 11)
    three, four = ("t1", "t1ce", "flair"), ("t1", "t1ce", "t2", "flair")
    yield real, "TCGA-LGG, IDH", "idh", three
    yield real, "TCGA-LGG, WHO grade 2, 3 or 4", "who_grade", three
    yield simulated / "cohort.csv", "Simulated cohort, LGG or HGG", "grade", four


def table(cohort, out, target, series, encoder, seed=0):
    """Scores of one encoder, with the controls and ceilings."""
    first = out / f"{cohort.stem}-{target}" / encoder.replace(":", "-")
    folder = first / f"seed-{seed}" if seed else first
    if seed and not (folder / "cache").is_dir():
        shutil.copytree(first / "cache", folder / "cache", copy_function=os.link)
    return bench(
        cohort, folder, target=target, methods=("volume-embedding",),
        series=series, seed=seed, settings={"volume-embedding": {"encoder": encoder}},
    ).table  # fmt: skip


def over_splits(cohort, out, target, series, encoders, seeds):
    """How the AUC of each encoder spreads over other folds, and how often the first is above each of the others."""
    auc = {
        e: [table(cohort, out, target, series, e, seed)[0]["auc"].value for seed in range(seeds)]
        for e in encoders
    }
    told = [f"{e} {statistics.mean(a):.2f} ({min(a):.2f} to {max(a):.2f})" for e, a in auc.items()]
    first, *others = encoders
    above = [f"{o} {sum(a > b for a, b in zip(auc[first], auc[o], strict=True))}" for o in others]
    return (
        f"AUC over {seeds} divisions into folds, mean and range: {', '.join(told)}. Times that {first} is above: "
        f"{', '.join(above)}."
    )


def scores(cohort, out, target, series, encoders):
    """Rows of every encoder, then of the controls and ceilings, which are the same for all."""
    tables = {name: table(cohort, out, target, series, name) for name in encoders}
    mine = [{**row, "method": f"**{name}**"} for name, table in tables.items() for row in table[:1]]
    return mine + [{**row, "method": f"*{row['method']}*"} for row in tables[encoders[0]][1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoders", nargs="+", default=["built-in", "random", "histogram"])
    parser.add_argument("--seeds", type=int, default=5, help="divisions into folds")
    args = parser.parse_args()
    for cohort, title, target, series in cohorts(args.data, args.out):
        rows = scores(cohort, args.out, target, series, args.encoders)
        print(f"{title} ({rows[0]['n']} patients):\n\n| | AUC (95 %) | balanced accuracy |\n|---|---|---|")
        for row in rows:
            auc, balanced = row["auc"], row["balanced_accuracy"]
            told = " | ".join(f"{x.value:.2f} ({x.low:.2f} to {x.high:.2f})" for x in (auc, balanced))
            print(f"| {row['method']} | {told} |", flush=True)
        print(
            "\n" + over_splits(cohort, args.out, target, series, args.encoders, args.seeds) + "\n", flush=True
        )


if __name__ == "__main__":
    main()
