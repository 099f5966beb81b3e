"""How well methods tell a target within parts of the patients: by age, sex, site and grade."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS
from gliolens.labels import TARGET_TITLES
from gliolens.protocol import auc_of, folds_in
from gliolens.stats.intervals import over_folds

BANDS: Final = (("under 40", 0.0, 40.0), ("40 to 59", 40.0, 60.0), ("60 and over", 60.0, float("inf")))
"""Ages in years, each from the second to below the third."""
GRADES: Final = ("grade", "who_grade")


def subgroup_rows(
    answers: pd.DataFrame, rows: Sequence[CaseRow], target: str, classes: Sequence[str], *, seed: int = 0
) -> list[dict[str, Any]]:
    """The AUC of each method and control within each part of the patients.

    Args:
        answers: of every entrant, as `protocol.answer_rows` has them.
        rows: of the cohort, which know age, sex, site and grade.
        target: what was told; parts by its own classes are left out.
        classes: of the target.
        seed: of the intervals.

    Returns:
        One row a part and method: `by`, `part`, `method`, `control`, `n`, the number of each class, and `auc`; not
        known where a class has no case there.
    """
    known = {row.case: row for row in rows}
    out: list[dict[str, Any]] = []
    for name, mine in answers[~answers["method"].isin(CEILINGS)].groupby("method", sort=False):
        for by, parts in _parts([known[c] for c in mine["case"]], target).items():
            for part, inside in parts:
                out.append({"by": by, "part": part} | _row(str(name), mine[inside], classes, seed))
    order = {(by, part): n for n, (by, part) in enumerate(dict.fromkeys((r["by"], r["part"]) for r in out))}
    return sorted(out, key=lambda r: order[r["by"], r["part"]])


def _row(name: str, mine: pd.DataFrame, classes: Sequence[str], seed: int) -> dict[str, Any]:
    truth = np.array([classes.index(c) for c in mine["truth"]])
    decided = np.array([classes.index(c) for c in mine["decision"]])
    q = mine[[f"p_{c}" for c in classes]].to_numpy(float) / mine[[f"prior_{c}" for c in classes]].to_numpy(
        float
    )
    counts = {c: int((truth == k).sum()) for k, c in enumerate(classes)}
    auc = auc_of(truth, q / q.sum(axis=1, keepdims=True), decided, list(mine["patient"]), seed)
    auc = over_folds(auc, folds_in(mine))
    return {"method": name, "control": bool(mine["control"].iloc[0]), "n": len(mine), **counts, "auc": auc}


def _parts(rows: Sequence[CaseRow], target: str) -> Mapping[str, list[tuple[str, np.ndarray]]]:
    """Which cases (n,) are in each part; parts that hold nobody, or everybody, are left out."""
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    for by, part, inside in _every(rows, target):
        if inside.any() and not inside.all():
            found.setdefault(by, []).append((part, inside))
    return found


def _every(rows: Sequence[CaseRow], target: str) -> Iterator[tuple[str, str, np.ndarray]]:
    ages = np.array([np.nan if row.age is None else row.age for row in rows], float)
    for part, low, high in BANDS:
        yield "age", part, (ages >= low) & (ages < high)
    yield "age", "not known", np.isnan(ages)
    words = {"sex": [row.sex for row in rows], "site": [row.site for row in rows]}
    words |= {TARGET_TITLES[g]: [row.targets.get(g) for row in rows] for g in GRADES if g != target}
    for by, values in words.items():
        for value in sorted({v for v in values if v}):
            yield by, value, np.array([v == value for v in values])
        yield by, "not known", np.array([not v for v in values])
