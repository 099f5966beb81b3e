"""What frozen encoders tell, each beside the same controls on the same folds.

python benchmarks/encoders.py ../shared/data/tcga_lgg OUT > docs/tables/encoders.md

IDH and WHO grade of TCGA-LGG; the grade of simulated patients, beside their ceilings too. Volume embeddings under
`sound`, five folds by patient. What was encoded lies in OUT, so a second run takes it from there.
"""

import argparse
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


def scores(cohort, out, target, series, encoders):
    """Rows of every encoder, then of the controls and ceilings, which are the same for all."""
    tables = {
        name: bench(
            cohort, out / f"{cohort.stem}-{target}" / name.replace(":", "-"), target=target,
            methods=("volume-embedding",), series=series, settings={"volume-embedding": {"encoder": name}},
        ).table
        for name in encoders
    }  # fmt: skip
    mine = [{**row, "method": f"**{name}**"} for name, table in tables.items() for row in table[:1]]
    return mine + [{**row, "method": f"*{row['method']}*"} for row in tables[encoders[0]][1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoders", nargs="+", default=["built-in", "random", "histogram"])
    args = parser.parse_args()
    for cohort, title, target, series in cohorts(args.data, args.out):
        rows = scores(cohort, args.out, target, series, args.encoders)
        print(f"{title} ({rows[0]['n']} patients):\n\n| | AUC (95 %) | balanced accuracy |\n|---|---|---|")
        for row in rows:
            auc, balanced = row["auc"], row["balanced_accuracy"]
            told = " | ".join(f"{x.value:.2f} ({x.low:.2f} to {x.high:.2f})" for x in (auc, balanced))
            print(f"| {row['method']} | {told} |", flush=True)
        print()


if __name__ == "__main__":
    main()
