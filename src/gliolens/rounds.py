"""Several targets and seeds: a bench for each, and one table of all of them.

OUT/TARGET/seed-SEED/    each bench, as `bench.bench` writes it
OUT/results.csv          all their rows, with `target` and `seed`
OUT/bench.html           each method's AUC by target, over the seeds
"""

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from gliolens.about import software
from gliolens.bench import bench
from gliolens.io.store import write_text
from gliolens.labels import TARGET_TITLES
from gliolens.progress import say
from gliolens.report.page import write_bench_report
from gliolens.train import Outcome


def bench_rounds(
    cohort: Path, out: Path, *, targets: Sequence[str], seeds: Sequence[int], **settings: Any
) -> dict[tuple[str, int], Outcome]:
    """Bench every target with every seed; what was decoded is shared.

    Args:
        cohort: the cohort table.
        out: a folder for all; what is done there is taken.
        targets: what to tell, from `labels.TARGETS`.
        seeds: of the folds and of every other random choice.
        settings: further ones of `bench.bench`, the same for all.

    Raises:
        As `bench.bench`: what one of them raises ends all; the others' results are kept.
    """
    done: dict[tuple[str, int], Outcome] = {}
    for target, seed in product(targets, seeds):
        say(f"{TARGET_TITLES[target]}, seed {seed}")
        folder = out / target / f"seed-{seed}"
        done[target, seed] = bench(cohort, folder, target=target, seed=seed, cache=out / "cache", **settings)
    tables = [
        pd.read_csv(found.folder / "results.csv").assign(target=target, seed=seed)
        for (target, seed), found in done.items()
    ]
    results = pd.concat(tables, ignore_index=True)
    write_text(out / "results.csv", results.to_csv(index=False))
    same_folds = bool(settings.get("split") or settings.get("sites"))
    _write_page(out, results, done, "on the same folds" if same_folds else "each with folds of its own")
    return done


def over_seeds(results: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a method: of each target its AUC, the mean over seeds and, of several, the least and the most.

    Args:
        results: rows of `results.csv` with `target` and `seed`.
    """
    rows: dict[str, dict[str, Any]] = {}
    for (target, name), mine in results.groupby(["target", "method"], sort=False):
        first = mine.iloc[0]
        head = {"Method": name, "is_control": bool(first["control"]), "is_ceiling": bool(first["ceiling"])}
        auc = mine["auc"]
        told = f"{auc.mean():.3f}" + (f" ({auc.min():.3f} to {auc.max():.3f})" if len(auc) > 1 else "")
        rows.setdefault(str(name), head)[f"AUC, {TARGET_TITLES[str(target)]}"] = told
    return list(rows.values())


def _write_page(out: Path, results: pd.DataFrame, done: dict[tuple[str, int], Outcome], folds: str) -> None:
    seeds = results["seed"].nunique()
    notes = [
        f"The mean over {seeds} seeds, {folds}, and the least and the most: how far chance moves a "
        "score. Seeds share their patients: this is no interval." if seeds > 1 else "One seed.",
        *(
            f"{TARGET_TITLES[target]}, seed {seed}: {os.path.relpath(found.folder / 'bench.html', out)}"
            for (target, seed), found in done.items()
        ),
    ]  # fmt: skip
    write_bench_report(
        out / "bench.html", "Methods beside controls", over_seeds(results), [], software(), notes
    )
