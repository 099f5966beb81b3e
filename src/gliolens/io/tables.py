"""Tables on disk: any clinical CSV as text, and the cohort table (one row a case)."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gliolens.case import CaseRow
from gliolens.errors import CohortError
from gliolens.io.store import write_text
from gliolens.labels import LABEL_SCHEMES, MASK_SCHEMES, SERIES, TARGETS

COLUMNS = (
    "case", "patient", "aliases", "site", *SERIES, "mask", "mask_scheme", "brain_mask", "age", "sex", *TARGETS,
    "label_scheme", "os_days", "os_event",
)  # fmt: skip
"""Columns of a cohort table. Paths are relative to the table; empty means unknown; aliases are joined by `;`."""


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV with every cell as text, so that an id such as 007 stays as it is.

    Raises:
        CohortError: the file cannot be read as a table.
    """
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep="\t" if path.suffix == ".tsv" else ","
        )
    except (OSError, ValueError) as error:
        raise CohortError(f"{path}: cannot be read as a table ({error})") from error
    return table.rename(columns=str.strip)


def read_cohort(path: Path) -> tuple[CaseRow, ...]:
    """Read a cohort table.

    Raises:
        CohortError: a column or value is not known, or a case stands in it twice; names the rows.
    """
    table = read_text_table(path)
    if "case" not in table:
        raise CohortError(f"{path}: no column 'case'; write the table with: gliolens cohort index DIR -o {path}")
    unknown = [c for c in table if c not in COLUMNS]
    if unknown:
        raise CohortError(f"{path}: unknown columns {unknown}; known are {', '.join(COLUMNS)}")
    twice = [case for case, n in Counter(table["case"]).items() if n > 1]
    if twice:
        raise CohortError(f"{path}: cases that stand in it twice: {', '.join(twice[:10])}")
    folder = path.resolve().parent
    return tuple(_row(dict(values), folder, path) for values in table.to_dict("records"))


def write_cohort(path: Path, rows: Sequence[CaseRow]) -> None:
    """Write a cohort table, whole or not at all; paths become relative to it."""
    folder = path.resolve().parent
    table = pd.DataFrame([_cells(row, folder) for row in rows], columns=list(COLUMNS))
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _row(cells: dict[str, str], folder: Path, table: Path) -> CaseRow:
    def known(name: str) -> str | None:
        return cells.get(name, "").strip() or None

    def file(name: str) -> Path | None:
        return folder / value if (value := known(name)) else None

    def number(name: str) -> float | None:
        try:
            return float(value) if (value := known(name)) else None
        except ValueError:
            raise CohortError(f"{table}: case {cells['case']!r}: {name} is {value!r}, expected a number") from None

    def one_of(name: str, allowed: Sequence[str]) -> str | None:
        if (value := known(name)) is not None and value not in allowed:
            raise CohortError(
                f"{table}: case {cells['case']!r}: {name} is {value!r}, expected one of {', '.join(allowed)} or empty"
            )
        return value

    event = one_of("os_event", ("0", "1"))
    targets = {t: one_of(t, classes) for t, classes in TARGETS.items()}
    return CaseRow(
        case=cells["case"],
        patient=known("patient") or cells["case"],
        aliases=tuple(a.strip() for a in cells.get("aliases", "").split(";") if a.strip()),
        site=known("site"),
        files={s: f for s in SERIES if (f := file(s))},
        mask=file("mask"),
        mask_scheme=one_of("mask_scheme", tuple(MASK_SCHEMES)),
        brain_mask=file("brain_mask"),
        age=number("age"),
        sex=one_of("sex", ("M", "F")),
        targets={t: c for t, c in targets.items() if c},
        label_scheme=one_of("label_scheme", LABEL_SCHEMES),
        os_days=number("os_days"),
        os_event=None if event is None else event == "1",
    )


def _cells(row: CaseRow, folder: Path) -> dict[str, str]:
    def relative(file: Path | None) -> str:
        return "" if file is None else Path(os.path.relpath(file.absolute(), folder)).as_posix()

    def plain(value: float | None) -> str:
        return "" if value is None else f"{value:.10g}"

    return {
        "case": row.case,
        "patient": row.patient,
        "aliases": ";".join(row.aliases),
        "site": row.site or "",
        **{s: relative(row.files.get(s)) for s in SERIES},
        "mask": relative(row.mask),
        "mask_scheme": row.mask_scheme or "",
        "brain_mask": relative(row.brain_mask),
        "age": plain(row.age),
        "sex": row.sex or "",
        **{t: row.targets.get(t, "") for t in TARGETS},
        "label_scheme": row.label_scheme or "",
        "os_days": plain(row.os_days),
        "os_event": "" if row.os_event is None else str(int(row.os_event)),
    }
