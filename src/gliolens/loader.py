"""From a row of the cohort table to a `Case`: the edge where all series must share one grid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gliolens.case import Case, CaseRow, Grid
from gliolens.errors import CaseError
from gliolens.io.nifti import Stored, read_labels, read_volume
from gliolens.types import Labels, Mask

GRID_TOLERANCE_MM = 0.05
"""Series whose corner voxels lie further apart than this are on different grids."""


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
    brain = read_volume(row.brain_mask, row.case).volume
    _check_grid(row, "brain mask", row.brain_mask, brain.grid, name, first.volume.grid)
    return np.asarray(brain.voxels > 0)


def _check_present(row: CaseRow, series: Sequence[str], need_mask: bool) -> None:
    missing = [s for s in series if s not in row.files]
    if missing or not row.files:
        raise CaseError(
            row.case,
            found=f"series {', '.join(row.files) or 'none'}",
            expected=f"{', '.join(missing) or 'at least one series'} too",
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
        apart = float(np.abs(grid.corners() - first.corners()).max())
        found = f"{name} and {first_name} on different grids: corners lie up to {apart:.2f} mm apart"
    raise CaseError(
        row.case,
        file=file,
        found=found,
        expected="all series and masks of a case on one grid",
        fix="register and resample them to one series first, e.g. with SimpleITK's or ANTs' registration",
    )
