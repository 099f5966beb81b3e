"""How often the audit calls a site that tells the label: simulated cohorts with the confounding turned up, and off.

The bar: called in at least 19 of 20 cohorts where it is up, in at most 1 of 20 where it is off. Writes
`docs/tables/confounding.md`.

    python benchmarks/confounding.py            # tables alone: seconds
    python benchmarks/confounding.py --scans 2  # two cohorts each with scans too: about 8 CPU minutes
"""

import argparse
import tempfile
from pathlib import Path

from gliolens.case import CaseRow
from gliolens.cohorts.audit.giveaways import label_follows_site, site_from_scans
from gliolens.cohorts.audit.look import looks_at
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.cohorts.splits import patients
from gliolens.io.store import write_text
from gliolens.io.tables import read_cohort
from gliolens.labels import TARGETS
from gliolens.progress import Counter

TABLE = Path(__file__).parents[1] / "docs" / "tables" / "confounding.md"
COHORTS = 20
SIZES = (60, 90, 120)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
WITH_SCANS = 60


def rows_of(n: int, seed: int, level: float) -> tuple[CaseRow, ...]:
    """A cohort table without scans."""
    cohort = draw_cohort(n, seed, PhantomConfig(site_confounding=level))
    return tuple(CaseRow(t.case, t.case, site=t.site, age=t.age, targets=t.targets) for t in cohort)


def called(rows: tuple[CaseRow, ...]) -> bool:
    """Whether the audit, asked of all targets as a user asks it, calls grade confounded with the site."""
    found = label_follows_site(rows, patients(rows), tuple(TARGETS))
    return any(f.name == "site and grade" and f.severity == "serious" for f in found)


def any_called(rows: tuple[CaseRow, ...]) -> bool:
    """Whether the audit calls any target so."""
    return any(f.severity == "serious" for f in label_follows_site(rows, patients(rows), tuple(TARGETS)))


def by_table() -> list[str]:
    lines = [
        "| confounding | " + " | ".join(f"{n} patients" for n in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for level in LEVELS:
        test = any_called if level == 0 else called
        calls = [sum(test(rows_of(n, 1000 + k, level)) for k in range(COHORTS)) for n in SIZES]
        name = {0.0: "0 (off), any target", 1.0: "1 (site tells grade)"}.get(level, f"{level:g}")
        lines.append(f"| {name} | " + " | ".join(f"{c} of {COHORTS}" for c in calls) + " |")
    return lines


def by_scans(cohorts: int) -> list[str]:
    lines = ["| confounding | seed | site told from the scans | called |", "|---|---|---|---|"]
    for level in (0.75, 0.0):
        for seed in range(1000, 1000 + cohorts):
            with tempfile.TemporaryDirectory() as folder:
                config = PhantomConfig(spacing_mm=4.0, site_confounding=level)
                made = write_phantom(
                    Path(folder), WITH_SCANS, seed=seed, config=config, progress=Counter("scans")
                )
                rows = read_cohort(made)
                appearances = {look.case: look.appearance for look in looks_at(rows, deep=True, jobs=1)}
            group = patients(rows)
            follows = label_follows_site(rows, group, tuple(TARGETS))
            told, *both = site_from_scans(rows, appearances, group, follows)
            words = ", ".join(f.name.removeprefix("site, scans and ") for f in both) or "nothing"
            numbers = told.text.split("five folds: ")[1].split(";")[0]
            lines.append(f"| {level:g} | {seed} | {numbers} | {words} |")
    return lines


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--scans", type=int, default=0, help="cohorts with scans, of each kind")
    cohorts = asked.parse_args().scans
    lines = by_table() + (["", *by_scans(cohorts)] if cohorts else [])
    print("\n".join(lines))
    write_text(TABLE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
