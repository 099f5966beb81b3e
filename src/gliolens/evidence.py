"""What stands beside the scores of a bench: differences to every control, parts of the patients, how sure to be.

Each is a table, as CSV in the bench's folder and as a section of its page.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS
from gliolens.io.store import write_text
from gliolens.nested import COVERAGE, INNER, calibration_rows, coverage_rows
from gliolens.protocol import folds_in
from gliolens.report.forest import forest
from gliolens.report.paper_page import Section, png_of, table_section
from gliolens.stats.differences import auc_difference, over_folds
from gliolens.stats.intervals import Interval, holm
from gliolens.subgroups import subgroup_rows

Row = dict[str, Any]


def write_evidence(
    out: Path,
    answers: pd.DataFrame,
    calibrated: pd.DataFrame | None,
    table: Sequence[Mapping[str, Any]],
    rows: Sequence[CaseRow],
    target: str,
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> list[Section]:
    """Write `differences.csv`, `subgroups.csv`; of calibrated answers `calibration.csv`, `coverage.csv`, and them.

    Args:
        out: the bench's folder.
        answers: of every entrant, as `protocol.answer_rows` has them.
        calibrated: the same by `nested.Calibration`; None where that was not asked for.
        table: their scores, by `protocol.score`.
        rows: of the cohort.
        target: what was told.
        classes: of it.
        seed: of the intervals.

    Returns:
        Sections of the page.
    """
    told = answers[~answers["method"].isin(CEILINGS)]
    apart = differences(told, classes, seed)
    parts = subgroup_rows(told, rows, target, classes, seed=seed)
    write_rows(out / "differences.csv", apart)
    write_rows(out / "subgroups.csv", parts)
    sections = [*_forest(apart), *_parts(parts, best_control(table))]
    if calibrated is not None:
        sure = calibration_rows(
            told[told["method"].isin(set(calibrated["method"]))], calibrated, classes, seed
        )
        covered = coverage_rows(calibrated)
        write_rows(out / "calibration.csv", sure)
        write_rows(out / "coverage.csv", covered)
        write_text(out / "calibrated.csv", calibrated.to_csv(index=False))
        sections += _calibration(sure, covered)
    return sections


def differences(answers: pd.DataFrame, classes: Sequence[str], seed: int) -> list[Row]:
    """AUC of each method less that of each control, on the same cases, widened for what folds share.

    p-values of all rows are one family (Holm).
    """
    asked = {name: mine.set_index("case") for name, mine in answers.groupby("method", sort=False)}
    methods = [n for n, mine in asked.items() if not mine["control"].iloc[0]]
    rows: list[Row] = []
    for name, other in product(methods, [n for n in asked if n not in methods]):
        mine = asked[name]
        theirs = asked[other].loc[mine.index]
        truth = [classes.index(c) for c in mine["truth"]]
        plain = auc_difference(
            truth, _even(mine, classes), _even(theirs, classes), list(mine["patient"]), seed=seed
        )
        found = over_folds(plain, folds_in(mine))
        rows.append({"method": name, "less": other, "difference": found.interval, "p": found.p_value})
    known = [row for row in rows if not np.isnan(row["p"])]
    corrected = dict(zip(map(id, known), holm([row["p"] for row in known]), strict=True))
    return [{**row, "p, Holm": corrected.get(id(row), np.nan)} for row in rows]


def _even(mine: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Probabilities without the class shares that a model put in, as `protocol.score` ranks by."""
    q = mine[[f"p_{c}" for c in classes]].to_numpy(float) / mine[[f"prior_{c}" for c in classes]].to_numpy(
        float
    )
    return np.asarray(q / q.sum(axis=1, keepdims=True))


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV; an interval takes columns `NAME`, `NAME_low`, `NAME_high` and, where it has one, `NAME_reason`."""
    write_text(file, pd.DataFrame([dict(_flat(row)) for row in rows]).to_csv(index=False))


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if not isinstance(value, Interval):
            yield name, value
            continue
        yield from ((name, value.value), (f"{name}_low", value.low), (f"{name}_high", value.high))
        if value.reason:
            yield f"{name}_reason", value.reason


# --- sections of the page --------------------------------------------------------------------------------------


def _forest(apart: Sequence[Row]) -> list[Section]:
    if not apart:
        return []
    caption = "AUC of a method less that of a control, on the same patients: right of the line the method is better."
    note = (
        "Paired on the same cases, widened for what folds share; p-values of all rows are one family (Holm)."
    )
    plain = table_section("Beside each control", apart, note)
    return [
        Section(
            plain.title, plain.notes, plain.columns, plain.rows, figures=[(caption, png_of(forest(apart)))]
        )
    ]


def _parts(parts: Sequence[Row], best: str) -> list[Section]:
    """AUC within parts: a row a part; a column a method, and one for the control that scores best."""
    names = list(dict.fromkeys(r["method"] for r in parts if not r["control"] or r["method"] == best))
    wide: dict[str, Row] = {}
    for row in parts:
        cells = wide.setdefault(f"{row['by']}: {row['part']}", {"n": row["n"]})
        cells[row["method"]] = _short(row["auc"])
    notes = (
        "AUC; parts overlap, are small, and are not corrected for their number: hints, not findings.",
        f"Of the controls the one with the highest AUC over all, {best}; the others are in subgroups.csv, with what "
        "keeps an interval from being known.",
    )
    filled = [[part, *(cells.get(c, "") for c in ("n", *names))] for part, cells in wide.items()]
    return [Section("Within parts of the patients", notes, ["", "n", *names], filled)] if filled else []


def _short(auc: Interval) -> object:
    """An AUC without the reason why its interval, or it, is not known."""
    if np.isnan(auc.value):
        return "\N{EN DASH}"
    return f"{auc.value:.2f}" if np.isnan(auc.low) else auc


def best_control(table: Sequence[Mapping[str, Any]]) -> str:
    """Name of the control with the highest AUC in a table of `protocol.score`."""
    known = [row for row in table if row["control"] and not np.isnan(row["auc"].value)]
    return str(max(known, key=lambda row: row["auc"].value)["method"]) if known else ""


def _calibration(sure: Sequence[Row], covered: Sequence[Row]) -> list[Section]:
    learnt = (
        f"A temperature and sets of classes were learnt from {INNER} inner folds of each fold's training patients; "
        "nothing of the tested patients entered."
    )
    sets = (
        f"A set holds each class that cannot be ruled out; it is to hold the true one in {COVERAGE:.0%} of "
        "the cases of every class. Answered: its set holds one class; else the method abstains."
    )
    methods = {row["method"] for row in sure if not row["control"]}
    shown = [{k: v for k, v in row.items() if k != "control"} for row in sure]
    mine = [row for row in covered if row["method"] in methods]
    note = "Wilson's intervals; those of the controls are in coverage.csv."
    held = [table_section("Do the sets hold the true class?", mine, note)] if mine else []
    return [table_section("How sure to be", shown, learnt, sets), *held]
