"""The cases a user names on the command line: folders, tables, single files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gliolens.case import CaseRow
from gliolens.cohorts.layouts.registry import read_case_folder
from gliolens.errors import ConfigError
from gliolens.io.tables import OLDEST, read_cohort
from gliolens.labels import SERIES
from gliolens.progress import say


def named_rows(
    paths: Sequence[Path],
    files: Mapping[str, Path | None],
    mask_scheme: str | None,
    name: str | None,
    age: float | None = None,
) -> tuple[CaseRow, ...]:
    """Cases from folders (one case each), cohort tables, or single files.

    Args:
        paths: folders and tables.
        files: files the user named: series, `mask`, `brain_mask`; they go before what a folder holds.
        mask_scheme: what the numbers in the masks mean, from `labels.MASK_SCHEMES`.
        name: the id of a single case.
        age: the patient's age in years, of a single case.

    Raises:
        ConfigError: nothing to read, files or an age named beside several cases, or no age of a person.
    """
    given = {kind: file for kind, file in files.items() if file is not None}
    rows = [row for path in paths for row in _rows_in(path)]
    if not rows and given:
        case = name or next(iter(given.values())).resolve().parent.name
        rows = [CaseRow(case, case)]
    if not rows:
        raise ConfigError("no case: name a folder, a cohort table, or files with --t1, --t1ce, --t2, --flair")
    if len(rows) > 1 and (given or name or age is not None):
        raise ConfigError(
            f"{len(rows)} cases, but files, an id or an age for one; call predict once for each"
        )
    if age is not None and not 0 <= age <= OLDEST:
        raise ConfigError(f"--age is {age:g}; expected years, 0 to {OLDEST}")
    series = {kind: file for kind, file in given.items() if kind in SERIES}
    masks: dict[str, Any] = {kind: file for kind, file in given.items() if kind not in SERIES}
    if name:
        masks |= {"case": name, "patient": name}
    if age is not None:
        masks |= {"age": age}
    return tuple(
        replace(row, files={**row.files, **series}, mask_scheme=mask_scheme or row.mask_scheme, **masks)
        for row in rows
    )


def _rows_in(path: Path) -> Sequence[CaseRow]:
    if path.is_file() and path.suffix == ".csv":
        return read_cohort(path)
    row, notes = read_case_folder(path)
    for note in notes:
        say(f"{row.case}: {note}")
    return [row]
