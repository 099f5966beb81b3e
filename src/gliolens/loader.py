"""From a row of the cohort table to a `Case`: the edge where all series must share one grid."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gliolens.case import Case, CaseRow, Grid
from gliolens.errors import CaseError, CohortError
from gliolens.io.content import address
from gliolens.io.nifti import Stored, read_labels, read_mask, read_volume
from gliolens.io.store import content_hash, whole_folder
from gliolens.progress import Tick
from gliolens.types import Labels, Mask

GRID_TOLERANCE_MM = 0.05
"""Series whose corner voxels lie further apart than this are on different grids."""


Arrays = Mapping[str, np.ndarray]
"""What a method makes of a case once and reads many times, by name."""


class Kept(Mapping[str, np.ndarray]):
    """Arrays of one case in a folder, mapped into memory while they are looked at.

    Nothing stays open or in memory, so that a cohort of thousands needs no more than one of ten.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> np.ndarray:
        file = self.folder / f"{name}.npy"
        if not file.is_file():
            raise KeyError(name)
        return np.asanyarray(np.load(file, mmap_mode="r"))

    def __iter__(self) -> Iterator[str]:
        return (file.stem for file in sorted(self.folder.glob("*.npy")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Cases:
    """Cases that are read from disk when they are asked for, so that memory does not grow with the cohort.

    Attributes:
        rows: where each case lies and what is known of it.
        series: names of the series each case must have; all there are, where empty.
        need_mask: whether each case must have tumour labels.
    """

    rows: tuple[CaseRow, ...]
    series: tuple[str, ...] = ()
    need_mask: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Case:
        return read_case(self.rows[index], self.series, need_mask=self.need_mask)

    def __iter__(self) -> Iterator[Case]:
        return (self[i] for i in range(len(self)))

    def only(self, cases: Collection[str]) -> "Cases":
        """The cases of these ids, in this order of rows."""
        wanted = set(cases)
        return replace(self, rows=tuple(row for row in self.rows if row.case in wanted))

    def unlabelled(self) -> "Cases":
        """The same cases without a word of what is to be told of them: class, survival."""
        return replace(self, rows=tuple(map(unlabelled, self.rows)))

    def classes(self, target: str) -> tuple[str, ...]:
        """Class of each case.

        Raises:
            KeyError: a case's class is unknown; choose cases with `select` first.
        """
        return tuple(row.targets[target] for row in self.rows)

    def sites(self) -> list[str]:
        """Site of each case.

        Raises:
            CohortError: the site of a case is not known.
        """
        if nowhere := [row.case for row in self.rows if row.site is None]:
            raise CohortError(
                f"to harmonise, every site must be known: {len(nowhere)} cases have none ({', '.join(nowhere[:5])}); "
                "fill in the column site, or leave harmonise off"
            )
        return [str(row.site) for row in self.rows]

    def prepared(
        self, prepare: Callable[[Case], Arrays], recipe: str, cache: Path, tick: Tick | None = None
    ) -> list[Arrays]:
        """Decode each case once and keep what `prepare` makes of it.

        What is kept serves every fold, so `prepare` sees no label.

        Args:
            prepare: from a case to named arrays.
            recipe: names `prepare` and all its settings; another recipe is another entry.
            cache: folder of `.npy` files, mapped into memory rather than read.
            tick: progress.

        Returns:
            Arrays of each case, in order.
        """
        folders = [cache / content_hash([recipe, self.series, fingerprint(row)])[:24] for row in self.rows]
        new, blind = [i for i, folder in enumerate(folders) if not folder.is_dir()], self.unlabelled()
        for done, i in enumerate(new, 1):
            with whole_folder(folders[i], keep=True) as unfinished:
                for name, array in prepare(blind[i]).items():
                    np.save(unfinished / f"{name}.npy", array)
            if tick:
                tick(done, len(new))
        return [Kept(folder) for folder in folders]


def unlabelled(row: CaseRow) -> CaseRow:
    """A row without a word of what is to be told of the case: class, survival."""
    return replace(row, targets={}, os_days=None, os_event=None)


def select(
    rows: Sequence[CaseRow], *, target: str | None, series: Sequence[str], need_mask: bool = True
) -> tuple[tuple[CaseRow, ...], dict[str, str]]:
    """Divide a cohort into cases that can be used and cases that cannot, with the reason.

    Returns:
        Usable rows, and for each other case why it is left out.
    """
    left_out = {}
    for row in rows:
        missing = [f"no {s}" for s in series if s not in row.files]
        if need_mask and row.targets.get("grade") == "healthy":
            missing.append("healthy: no tumour to measure")
        if target is not None and target not in row.targets:
            missing.append(f"{target} unknown")
        if need_mask and row.mask is None:
            missing.append("no tumour mask")
        if missing:
            left_out[row.case] = ", ".join(missing)
    return tuple(row for row in rows if row.case not in left_out), left_out


def fingerprint(row: CaseRow) -> list[str]:
    """What tells whether a case's files are still the same: their paths, sizes and times of change."""
    files = [*row.files.items(), ("mask", row.mask), ("brain", row.brain_mask)]
    seen = [row.mask_scheme or ""]
    for name, file in files:
        if file is not None and (stored := address(file)[0]).is_file():
            state = stored.stat()
            seen.append(f"{name} {file.resolve()} {state.st_size} {state.st_mtime_ns}")
    return seen


def read_case(row: CaseRow, series: Sequence[str] = (), *, need_mask: bool = False) -> Case:
    """Read a case's files and check that they belong together.

    Args:
        row: where the case lies.
        series: names of the series that must be there and are read; all there are, where empty.
        need_mask: whether the tumour labels must be there.

    Returns:
        The case on its first series' grid, turned to RAS+.

    Raises:
        CaseError: a series or the mask is missing, a file is refused, or grids differ.
    """
    _check_present(row, series, need_mask)
    names = tuple(series) or tuple(row.files)
    stored = {name: read_volume(row.files[name], row.case) for name in names}
    first = stored[names[0]]
    for name in names[1:]:
        _check_grid(row, name, row.files[name], stored[name].volume.grid, names[0], first.volume.grid)
    tumour, scheme = _tumour(row, names[0], first)
    return Case(
        id=row.case,
        patient=row.patient,
        grid=first.volume.grid,
        source=first.source,
        series={name: s.volume.voxels for name, s in stored.items()},
        tumour=tumour,
        mask_scheme=scheme or "gliolens",
        brain=_brain(row, names[0], first),
        targets=row.targets,
        label_scheme=row.label_scheme,
        site=row.site,
        covariates={k: v for k, v in (("age", row.age), ("sex", row.sex)) if v is not None},
        history=(f"read {', '.join(names)}", *([f"mask read as {scheme}"] if scheme else [])),
    )


def _tumour(row: CaseRow, name: str, first: Stored) -> tuple[Labels | None, str | None]:
    if row.mask is None:
        return None, None
    labels, scheme = read_labels(row.mask, row.case, row.mask_scheme)
    _check_grid(row, "mask", row.mask, labels.volume.grid, name, first.volume.grid)
    return labels.volume.voxels, scheme


def _brain(row: CaseRow, name: str, first: Stored) -> Mask | None:
    if row.brain_mask is None:
        return None
    brain = read_mask(row.brain_mask, row.case).volume
    _check_grid(row, "brain mask", row.brain_mask, brain.grid, name, first.volume.grid)
    return brain.voxels


def _check_present(row: CaseRow, series: Sequence[str], need_mask: bool) -> None:
    missing = [s for s in series if s not in row.files]
    if missing or not row.files:
        raise CaseError(
            row.case,
            found=f"series {', '.join(row.files) or 'none'}",
            expected=f"{', '.join(missing)} too" if missing else "at least one series",
            fix="add the file, name it with --t1, --t1ce, --t2 or --flair, or ask for fewer with --series",
        )
    if need_mask and row.mask is None:
        raise CaseError(
            row.case,
            found="no tumour mask",
            expected="tumour labels on the grid of the series",
            fix="name the mask with --mask FILE or in the cohort table's column mask",
        )


def _check_grid(row: CaseRow, name: str, file: Path, grid: Grid, first_name: str, first: Grid) -> None:
    if grid.matches(first, GRID_TOLERANCE_MM):
        return
    if grid.shape != first.shape:
        found = f"{name} of shape {grid.shape}, {first_name} of shape {first.shape} (turned to RAS+)"
    else:
        apart = grid.distance(first)
        found = f"{name} and {first_name} on different grids: corners lie up to {apart:.2f} mm apart"
    raise CaseError(
        row.case,
        file=file,
        found=found,
        expected="all series and masks of a case on one grid",
        fix="register and resample them to one series first, e.g. with SimpleITK's or ANTs' registration",
    )
