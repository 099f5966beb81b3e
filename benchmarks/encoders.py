"""What encoders tell of real patients: IDH and grade of TCGA-LGG, by the built-in encoder and two controls.

python benchmarks/encoders.py ../shared/data/tcga_lgg OUT [--encoders built-in random histogram]

Each is a bench of its own (`sound`, five folds), so every encoder stands beside the same controls on the same folds.
"""

import argparse
from pathlib import Path

from gliolens.bench import bench
from gliolens.cli import main as gliolens


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoders", nargs="+", default=["built-in", "random", "histogram"])
    parser.add_argument("--targets", nargs="+", default=["idh", "who_grade"])
    args = parser.parse_args()
    cohort = args.out / "cohort.csv"
    if not cohort.is_file():
        gliolens(
            [
                "cohort",
                "index",
                str(args.data),
                "--labels",
                str(args.data / "clinical.csv"),
                "-o",
                str(cohort),
            ]
        )
    for target in args.targets:
        print(f"\n| {target} | n | AUC (95 %) |\n|---|---|---|")
        for k, name in enumerate(args.encoders):
            done = bench(
                cohort, args.out / target / name.replace(":", "-"), target=target, methods=("volume-embedding",),
                series=("t1", "t1ce", "flair"), settings={"volume-embedding": {"encoder": name}},
            )  # fmt: skip
            for row in done.table:
                mine = row["method"] == "volume-embedding"
                if mine or (k == 0 and row["control"]):
                    auc = row["auc"]
                    title = f"**{name}**" if mine else f"*{row['method']}*"
                    print(
                        f"| {title} | {row['n']} | {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f}) |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
