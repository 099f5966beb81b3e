"""Tables on disk: any clinical CSV as text, and the cohort table (one row a case)."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

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

OLDEST: Final = 130
"""Years; no patient is older."""

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+")


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV with every cell as text, so that an id such as 007 stays as it is.

    Lines without any text are left out; a column without a name is `Unnamed: K`, K counted from 0.

    Raises:
        CohortError: the file cannot be read as a table, two columns share a name, or a line has more or fewer
            cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return _table(stream.read(), path)
    except UnicodeDecodeError as error:
        raise CohortError(f"{path}: not UTF-8 text ({error}); save it as CSV UTF-8") from error
    except OSError as error:
        raise CohortError(f"{path}: cannot be read as a table ({error})") from error


def _table(text: str, path: Path) -> pd.DataFrame:
    header = text.split("\n", 1)[0]
    if path.suffix != ".tsv" and ";" in header and "," not in header:
        raise CohortError(
            f"{path}: cells are separated by semicolons, expected commas; in a spreadsheet, save it as CSV UTF-8 with "
            "commas between cells and points in numbers"
        )
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True
    )
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise CohortError(f"{path}: line {reader.line_num}: cannot be read as a table ({error})") from error
    if not lines:
        raise CohortError(f"{path}: an empty file, expected a table with a header")
    names = [cell.strip() or f"Unnamed: {i}" for i, cell in enumerate(lines[0][1])]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise CohortError(f"{path}: columns that stand in it twice: {', '.join(twice)}; rename or remove one")
    for line, cells in lines[1:]:
        if len(cells) != len(names):
            raise CohortError(
                f"{path}: line {line} has {len(cells)} cells, the header {len(names)}; "
                "put a cell that holds a comma in double quotes, and keep empty cells"
            )
    return pd.DataFrame([cells for _, cells in lines[1:]], columns=names, dtype=str)


def read_cohort(path: Path) -> tuple[CaseRow, ...]:
    """Read a cohort table.

    Raises:
        CohortError: a column or value is not known, or a case stands in it twice; names the rows.
    """
    return _rows(read_text_table(path), path.resolve().parent, path)


def _rows(table: pd.DataFrame, folder: Path, path: Path) -> tuple[CaseRow, ...]:
    if "case" not in table:
        raise CohortError(
            f"{path}: no column 'case' but {', '.join(table.columns[:20])}; write the table with: "
            f"gliolens cohort index DIR -o {path}"
        )
    unknown = [c for c in table if c not in COLUMNS]
    if unknown:
        raise CohortError(f"{path}: unknown columns {unknown}; known are {', '.join(COLUMNS)}")
    cases = [case.strip() for case in table["case"]]
    if "" in cases:
        raise CohortError(f"{path}: row {cases.index('') + 1} below the header has no case; give it a name")
    twice = [case for case, n in Counter(cases).items() if n > 1]
    if twice:
        raise CohortError(f"{path}: cases that stand in it twice: {', '.join(twice[:10])}")
    cells = (dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False))
    return tuple(_row(row, folder, path) for row in cells)


def write_cohort(path: Path, rows: Sequence[CaseRow]) -> None:
    """Write a cohort table, whole or not at all; paths become relative to it.

    Raises:
        CohortError: a row would not be read back as it is, such as an id that ends in a blank; names what.
    """
    folder = path.absolute().parent
    cells = [_cells(row, folder) for row in rows]
    for given in cells:
        if not given["case"].strip() or any("\r" in cell for cell in given.values()):
            raise CohortError(f"{path}: a row with no case, or with a carriage return in a cell: {given}")
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(cells)
    _check_survives(rows, _rows(_table(text.getvalue(), path), folder.resolve(), path), path)
    write_text(path, text.getvalue())


def _check_survives(rows: Sequence[CaseRow], read: Sequence[CaseRow], path: Path) -> None:
    for given, back in zip(map(_located, rows), map(_located, read), strict=True):
        for name in (f.name for f in fields(CaseRow)):
            if getattr(given, name) != getattr(back, name):
                raise CohortError(
                    f"{path}: case {given.case!r}: {name} {getattr(given, name)!r} would be read back as "
                    f"{getattr(back, name)!r}; an id may not begin or end with a blank nor be empty, an alias "
                    "may not hold ';', and names must be those of gliolens.labels"
                )


def _located(row: CaseRow) -> CaseRow:
    def real(file: Path | None) -> Path | None:
        return None if file is None else Path(os.path.realpath(file))

    files = {name: Path(os.path.realpath(file)) for name, file in row.files.items()}
    return replace(row, files=files, mask=real(row.mask), brain_mask=real(row.brain_mask))


def _relative(file: Path, folder: Path) -> str:
    """The path from a table's folder; symbolic links on the way to both are followed only where they must be."""
    near = os.path.relpath(file.absolute(), folder)
    if near.split(os.sep)[0] == os.pardir:
        near = os.path.relpath(file.parent.resolve() / file.name, folder.resolve())
    return Path(near).as_posix()


def _row(cells: dict[str, str], folder: Path, table: Path) -> CaseRow:
    case = cells["case"].strip()

    def known(name: str) -> str | None:
        return cells.get(name, "").strip() or None

    def file(name: str) -> Path | None:
        value = cells.get(name, "")
        return folder / value if value.strip() else None

    def number(name: str, unit: str, highest: float) -> float | None:
        if (value := known(name)) is None:
            return None
        if not _NUMBER.fullmatch(value) or float(value) > highest:
            raise CohortError(
                f"{table}: case {case!r}: {name} is {value!r}, expected {unit} from 0 to {highest:g}, or empty"
            )
        return float(value)

    def one_of(name: str, allowed: Sequence[str]) -> str | None:
        if (value := known(name)) is not None and value not in allowed:
            raise CohortError(
                f"{table}: case {case!r}: {name} is {value!r}, expected one of {', '.join(allowed)} or empty"
            )
        return value

    event = one_of("os_event", ("0", "1"))
    targets = {t: one_of(t, classes) for t, classes in TARGETS.items()}
    return CaseRow(
        case=case,
        patient=known("patient") or case,
        aliases=tuple(a.strip() for a in cells.get("aliases", "").split(";") if a.strip()),
        site=known("site"),
        files={s: f for s in SERIES if (f := file(s))},
        mask=file("mask"),
        mask_scheme=one_of("mask_scheme", tuple(MASK_SCHEMES)),
        brain_mask=file("brain_mask"),
        age=number("age", "years", OLDEST),
        sex=one_of("sex", ("M", "F")),
        targets={t: c for t, c in targets.items() if c},
        label_scheme=one_of("label_scheme", LABEL_SCHEMES),
        os_days=number("os_days", "days", 50_000),
        os_event=None if event is None else event == "1",
    )


def _cells(row: CaseRow, folder: Path) -> dict[str, str]:
    def relative(file: Path | None) -> str:
        return "" if file is None else _relative(file, folder)

    def plain(value: float | None) -> str:
        if value is None:
            return ""
        short = f"{value:.10g}"
        return short if float(short) == value else repr(float(value))

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
