"""From a folder of scans to `CaseRow`s: the registry of layouts, and how one is told from its files."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gliolens.case import CaseRow
from gliolens.cohorts.layouts import manifests, releases
from gliolens.cohorts.layouts.folders import (
    BRAIN_MASK,
    MASK,
    Cases,
    Survey,
    kind_of,
    shared_start,
    some,
    stem,
    survey,
)
from gliolens.cohorts.layouts.masks import settle_schemes
from gliolens.cohorts.layouts.patterns import EXAMPLES, read_pattern
from gliolens.errors import CaseError, CohortError, ConfigError
from gliolens.labels import MASK_SCHEMES, SERIES

Reader = Callable[[Survey], list[CaseRow]]

LAYOUTS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        "nnunet": manifests.nnunet,
        "msd": manifests.msd,
        "upenn-gbm": releases.upenn_gbm,
        "ucsf-pdgm": releases.ucsf_pdgm,
        "brats2023": releases.brats2023,
        "ixi": releases.ixi,
        "bids": releases.bids,
        "brats2020": releases.brats2020,
        "gandlf": manifests.gandlf,
        "monai": manifests.monai,
    }
)
"""Readers by name, the most specific first, which is the order they are tried in. Empty: the layout does not fit."""


@dataclass(frozen=True)
class Indexed:
    """What was found in a folder.

    Attributes:
        layout: name from `LAYOUTS`, or `pattern`.
        rows: the cases, sorted by id.
        notes: what the user should be told.
    """

    layout: str
    rows: tuple[CaseRow, ...]
    notes: tuple[str, ...]


def read_layout(
    folder: Path,
    *,
    layout: str | None = None,
    pattern: str | None = None,
    series_order: Sequence[str] = (),
    mask_scheme: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Indexed:
    """Index a folder of scans.

    Args:
        folder: the folder; or a MONAI datalist, a GaNDLF table or a `dataset.json`.
        layout: name from `LAYOUTS`; None tries them, the most specific first.
        pattern: the layout in one line, such as `{case}/{case}_{series}.nii.gz`, instead of a named one.
        series_order: series of each channel, for lists whose file names do not tell.
        mask_scheme: scheme of all masks; None tells it from the layout, or from the values of all masks together.
        progress: called with the masks read so far and their number.

    Returns:
        The cases. A missing series is absent from a row's files; checking for it is the next step's.

    Raises:
        ConfigError: an option is unknown, or layout and pattern are both given.
        CohortError: no layout fits, or a list cannot be read.
        CaseError: two files for one series of one case; names both.
    """
    _check_options(layout, pattern, series_order, mask_scheme)
    if not folder.exists():
        raise CohortError(f"{folder}: no such folder")
    seen = survey(folder.parent if folder.name == "dataset.json" else folder, series_order)
    name, rows = _read(seen, layout, pattern)
    notes = [*seen.notes, *_left_alone(seen, rows)]
    if mask_scheme:
        return Indexed(
            name, tuple(replace(r, mask_scheme=mask_scheme) if r.mask else r for r in rows), tuple(notes)
        )
    rows, told = settle_schemes(rows, name, progress)
    return Indexed(name, tuple(rows), (*notes, *told))


def read_case_folder(folder: Path) -> tuple[CaseRow, tuple[str, ...]]:
    """Read one case whose files lie flat in one folder; its id is the folder's name.

    Masks are optional here: where two files could be the one, none is taken and a note says so.

    Returns:
        The case, and what the user should be told.

    Raises:
        CaseError: no such folder, no series in it, or two files for one series; names both.
    """
    case = Path(os.path.abspath(folder)).name
    if not folder.is_dir():
        raise _no_series(case, folder, "no such folder")
    scans = [s for s in survey(folder).scans if "/" not in s]
    kinds = _kinds(scans, case)
    cases, notes = Cases(), []
    for kind in (MASK, BRAIN_MASK):
        several = [scan for scan, k in kinds.items() if k == kind]
        if len(several) > 1:
            title = "tumour mask" if kind == MASK else "brain mask"
            notes.append(f"{len(several)} files could be the {title} ({', '.join(several)}): none is taken")
            kinds = {scan: k for scan, k in kinds.items() if k != kind}
    for scan, told in kinds.items():
        cases.add(case, told, folder / scan)
        if told in SERIES and releases.told_by_number(scan):
            notes.append(
                f"{scan} is read as {told} by nnU-Net's BraTS order; name the files by series if not"
            )
    rows = cases.rows()
    if not rows:
        raise _no_series(
            case, folder, f"{len(scans)} NIfTI files: {some(scans)}" if scans else "no NIfTI file"
        )
    return rows[0], tuple(notes)


def _check_options(
    layout: str | None, pattern: str | None, series_order: Sequence[str], mask_scheme: str | None
) -> None:
    if layout is not None and layout not in (*LAYOUTS, "pattern"):
        raise ConfigError(f"--layout {layout!r} is unknown; known are {', '.join(LAYOUTS)}")
    if pattern is not None and layout not in (None, "pattern"):
        raise ConfigError("--layout and --pattern exclude each other; give one")
    if layout == "pattern" and pattern is None:
        raise ConfigError(f"--layout pattern needs --pattern, e.g. {EXAMPLES}")
    wrong = [s for s in series_order if s not in SERIES]
    if wrong or len(set(series_order)) < len(series_order):
        raise ConfigError(
            f"--series-order {' '.join(series_order)}: expected each of {', '.join(SERIES)} once at most"
        )
    if mask_scheme is not None and mask_scheme not in MASK_SCHEMES:
        raise ConfigError(f"--mask-scheme {mask_scheme!r} is unknown; known are {', '.join(MASK_SCHEMES)}")


def _read(seen: Survey, layout: str | None, pattern: str | None) -> tuple[str, list[CaseRow]]:
    if pattern is not None:
        if rows := read_pattern(seen, pattern):
            return "pattern", rows
        raise CohortError(_nothing(seen, f"the pattern {pattern!r} fits none of them"))
    for name in [layout] if layout else LAYOUTS:
        if rows := LAYOUTS[name](seen):
            return name, rows
    raise CohortError(_nothing(seen, f"they do not lie as {layout}" if layout else "no known layout fits"))


def _nothing(seen: Survey, why: str) -> str:
    found = f"{len(seen.scans)} NIfTI files ({some(seen.scans)})" if seen.scans else "no NIfTI files"
    return (
        f"{seen.manifest or seen.root}: {found}; {why}. Known layouts: {', '.join(LAYOUTS)}. Describe any other in "
        f"one line, relative to the folder: --pattern {EXAMPLES}"
    )


def _left_alone(seen: Survey, rows: Sequence[CaseRow]) -> list[str]:
    taken = {
        re.sub(r"#\d+$", "", os.path.relpath(file, seen.root)).replace(os.sep, "/")
        for row in rows
        for file in (*row.files.values(), row.mask, row.brain_mask)
        if file is not None
    }
    rest = [scan for scan in seen.scans if scan not in taken]
    return [f"{len(rest)} NIfTI files were left alone: {some(rest)}"] if rest else []


def _kinds(scans: Sequence[str], case: str) -> dict[str, str]:
    """What each file holds, told without the case's id, which may itself hold words such as T1 or tumour."""
    parts = [re.split(r"(?<=[_\-. ])", stem(scan)) for scan in scans]
    start = "".join(shared_start(parts)) if len(scans) > 1 else ""
    named = {scan: kind_of(stem(scan).removeprefix(start).removeprefix(case)) for scan in scans}
    kinds = {scan: kind or kind_of(stem(scan)) for scan, kind in named.items()}
    plain = {kind for scan, kind in kinds.items() if not _is_biased(scan)}
    return {scan: kind for scan, kind in kinds.items() if kind and not (_is_biased(scan) and kind in plain)}


def _is_biased(scan: str) -> bool:
    """Whether a file is UCSF-PDGM's `_bias` twin of a series."""
    return stem(scan).lower().endswith("_bias")


def _no_series(case: str, folder: Path, found: str) -> CaseError:
    return CaseError(
        case,
        file=folder,
        found=found,
        expected="NIfTI files of one case, flat in one folder, whose names tell the series (T1, T1ce, T2, FLAIR)",
        fix="name them with --t1, --t1ce, --t2, --flair; a folder of many cases goes through gliolens cohort index",
    )
