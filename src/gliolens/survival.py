"""`gliolens survival`: how long the patients of each class live."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.splits import patients
from gliolens.errors import CohortError, ConfigError
from gliolens.io.store import file_hash, whole_file, write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.labels import TARGET_TITLES, TARGETS
from gliolens.progress import say
from gliolens.report.survival_plot import survival_figure
from gliolens.stats.survival import Curve, Hazard, LogRank, cox, kaplan_meier, log_rank
from gliolens.tasks import check_schemes


@dataclass(frozen=True, eq=False)
class Survival:
    """How long patients live, by class.

    Attributes:
        curves: Kaplan-Meier of each class.
        test: whether they differ; None where one class has all patients.
        hazards: of Cox's model with class, age and sex; empty where it cannot be fitted, which is said.
        cox_n, cox_deaths: patients in it, whose age and sex are known, and deaths among them.
        reference: the class that the others' hazards are multiples of.
        left_out: why each other case is not counted.
    """

    curves: Sequence[Curve]
    test: LogRank | None
    hazards: Sequence[Hazard]
    cox_n: int
    cox_deaths: int
    reference: str
    left_out: Mapping[str, str]


def survival(cohort: Path, out: Path, *, by: str) -> Survival:
    """Draw and compare the survival of classes; each patient counts once, by the first of his cases.

    Args:
        cohort: the cohort table, or a table of patients without scans.
        out: `kaplan-meier.png`, `survival.csv` (the curves) and `survival.json`.
        by: target whose classes are compared.

    Raises:
        CohortError: no patient whose class and survival are known, or WHO grades of two editions.
    """
    rows, left_out = counted(read_cohort(cohort), lambda row: by in row.targets, f"{by} unknown")
    if not rows:
        raise CohortError(f"{cohort}: no case has {by}, os_days and os_event; fill in these columns")
    check_schemes(rows, by)
    days = np.array([row.os_days for row in rows], float)
    died = np.array([row.os_event for row in rows], bool)
    classes = [row.targets[by] for row in rows]
    present = [c for c in TARGETS[by] if c in classes]
    curves = [kaplan_meier(c, days[mine], died[mine]) for c in present for mine in [np.array(classes) == c]]
    test = log_rank(days, died, classes) if len(present) > 1 and died.any() else None
    known = np.array([row.age is not None and row.sex is not None for row in rows])
    some = [row for row, there in zip(rows, known, strict=True) if there]
    classes_known = [c for c in present if any(row.targets[by] == c for row in some)]
    hazards = _hazards(some, days[known], died[known], by, classes_known)
    if left_out:
        reasons = pd.Series(list(left_out.values())).value_counts()
        say(f"{len(left_out)} cases left out: " + "; ".join(f"{n} {why}" for why, n in reasons.items()))
    found = Survival(
        curves,
        test,
        hazards,
        int(known.sum()),
        int(died[known].sum()),
        (classes_known or present)[0],
        left_out,
    )
    _write(
        out,
        found,
        cohort,
        by,
        survival_figure(curves, test, {c: days[np.array(classes) == c] for c in present}),
    )
    return found


def counted(
    rows: Sequence[CaseRow], asked: Callable[[CaseRow], bool], without: str
) -> tuple[list[CaseRow], dict[str, str]]:
    """One case a patient, whose survival is known, and why each other is left out.

    Args:
        rows: the cohort.
        asked: what else must be true of a case.
        without: why a case of which it is not is left out.
    """
    who, seen, kept = patients(rows), set[str](), []
    left_out: dict[str, str] = {}
    for row in rows:
        lacks = [name for name, there in (
            (without, asked(row)), ("os_days unknown", row.os_days is not None),
            ("os_event unknown", row.os_event is not None),
        ) if not there]  # fmt: skip
        if lacks:
            left_out[row.case] = ", ".join(lacks)
        elif who[row.case] in seen:
            left_out[row.case] = "another case of the same patient"
        else:
            seen.add(who[row.case])
            kept.append(row)
    return kept, left_out


def _hazards(
    rows: Sequence[CaseRow], days: np.ndarray, died: np.ndarray, by: str, present: Sequence[str]
) -> list[Hazard]:
    """Cox's model; age in tens of years, classes against the first. Nothing, and why, where it cannot be fitted."""
    columns = {f"{by} {c}": [float(row.targets[by] == c) for row in rows] for c in present[1:]}
    columns |= {"age, ten years": [float(row.age or 0.0) / 10 for row in rows]}
    columns |= {"sex M": [float(row.sex == "M") for row in rows]}
    table = pd.DataFrame(columns)
    varied = table.loc[:, table.nunique() > 1]
    if varied.empty:
        say("Cox's model was not fitted: too few patients with age and sex")
        return []
    try:
        return cox(days, died, varied)
    except ConfigError as error:
        say(f"Cox's model was not fitted: {error}")
        return []


def _write(out: Path, found: Survival, cohort: Path, by: str, figure: bytes) -> None:
    with whole_file(out / "kaplan-meier.png") as unfinished:
        unfinished.write_bytes(figure)
    falls = [
        pd.DataFrame({"group": c.name, "days": c.days, "alive": c.alive, "low": c.low, "high": c.high})
        for c in found.curves
    ]
    write_text(out / "survival.csv", pd.concat(falls, ignore_index=True).to_csv(index=False))
    groups = [
        {"group": c.name, "n": c.n, "events": c.events, "median_days": asdict(c.median_days)}
        for c in found.curves
    ]
    write_json(out / "survival.json", {
        "by": by, "title": TARGET_TITLES[by], "cohort": file_hash(cohort), "groups": groups,
        "log_rank": None if found.test is None else asdict(found.test),
        "cox": {"n": found.cox_n, "deaths": found.cox_deaths, "reference": found.reference,
                "hazards": [asdict(h) for h in found.hazards]},
        "left_out": found.left_out, "software": software(),
    })  # fmt: skip
