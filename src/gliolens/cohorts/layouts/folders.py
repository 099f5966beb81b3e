"""What readers of layouts share: the scans in a folder, what a file name says, cases filled file by file."""

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gliolens.case import CaseRow
from gliolens.cohorts.identity import patient_of, site_of
from gliolens.errors import CaseError
from gliolens.labels import SERIES, is_brain_mask, is_tumour_mask, series_in

MASK, BRAIN_MASK = "mask", "brain_mask"
_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Survey:
    """A folder as a reader sees it.

    Attributes:
        root: the folder.
        scans: NIfTI files below it, relative to it with forward slashes, sorted.
        manifest: the JSON or CSV file that the user named instead of a folder.
        series_order: the user's word on which channel is which series.
        notes: what the user should be told; readers add to it.
    """

    root: Path
    scans: tuple[str, ...]
    manifest: Path | None = None
    series_order: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def survey(folder: Path, series_order: Sequence[str] = ()) -> Survey:
    """List the scans below a folder; hidden files and the `._` files of macOS are passed over."""
    if folder.is_file():
        return Survey(folder.parent, (), folder, tuple(series_order))
    scans: list[str] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        # A link back to a parent would make the walk endless.
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [f for f in folders if not f.startswith(".")]
        here = Path(place).relative_to(folder)
        scans += [(here / f).as_posix() for f in files if _SUFFIX.search(f) and not f.startswith(".")]
    return Survey(folder, tuple(sorted(scans)), None, tuple(series_order))


def stem(name: str) -> str:
    """File name without folder and `.nii` or `.nii.gz`."""
    return _SUFFIX.sub("", name.rsplit("/", 1)[-1])


def some(names: Sequence[str]) -> str:
    """Name the first few of many."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def shared_start(words: Sequence[Sequence[str]]) -> list[str]:
    """The words that all of several lists of words begin with."""
    same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    return [column[0] for column in same]


def kind_of(words: str) -> str | None:
    """A series, `mask`, `brain_mask` or None, by the words of a file's name without the case's id."""
    if is_brain_mask(words):
        return BRAIN_MASK
    return MASK if is_tumour_mask(words) else series_in(words)


@dataclass
class _Draft:
    patient: str | None = None
    site: str | None = None
    grade: str | None = None
    mask_scheme: str | None = None
    files: dict[str, Path] = field(default_factory=dict)


class Cases:
    """Cases that fill up file by file."""

    def __init__(self) -> None:
        self._drafts: dict[str, _Draft] = {}

    def add(
        self,
        case: str,
        kind: str,
        file: Path,
        *,
        patient: str | None = None,
        site: str | None = None,
        grade: str | None = None,
        mask_scheme: str | None = None,
    ) -> None:
        """Give a case one file and what its place on disk says of the case.

        Raises:
            CaseError: the case has another file of this kind, or another patient, site or grade.
        """
        draft = self._drafts.setdefault(case, _Draft())
        if draft.files.setdefault(kind, file) != file:
            raise two_files(case, kind, draft.files[kind], file)
        told = {"patient": patient, "site": site, "grade": grade, "mask_scheme": mask_scheme}
        for name, value in told.items():
            before = getattr(draft, name)
            if value is not None and before not in (None, value):
                raise CaseError(
                    case,
                    file=file,
                    found=f"{name} {value}, but {before} for the case's other files",
                    expected=f"one {name} a case",
                    fix="give the cases ids of their own, e.g. with --pattern",
                )
            setattr(draft, name, before if value is None else value)

    def rows(self) -> list[CaseRow]:
        """The cases that have at least one series, sorted by id."""
        return [
            _row(case, draft)
            for case, draft in sorted(self._drafts.items())
            if any(s in draft.files for s in SERIES)
        ]


def two_files(case: str, kind: str, first: Path, second: Path) -> CaseError:
    """The refusal of a second file for one series of one case."""
    return CaseError(
        case,
        file=second,
        found=f"two files for {kind}: {first} and {second}",
        expected=f"one file for {kind}",
        fix="move one of the two out of the folder, or say which files count with --pattern",
    )


def _row(case: str, draft: _Draft) -> CaseRow:
    patient = draft.patient or patient_of(case)
    return CaseRow(
        case=case,
        patient=patient,
        files={s: draft.files[s] for s in SERIES if s in draft.files},
        mask=draft.files.get(MASK),
        mask_scheme=draft.mask_scheme,
        brain_mask=draft.files.get(BRAIN_MASK),
        site=draft.site or site_of(case) or site_of(patient),
        targets={"grade": draft.grade} if draft.grade else {},
        label_scheme="brats_lgg_hgg" if draft.grade else None,
    )
