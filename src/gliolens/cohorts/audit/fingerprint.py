"""What is kept of a case to know its patient again: brightness beside its surroundings, on a coarse grid.

Three things are taken off that a release may change. The unit: brightness is replaced by its rank. What varies slowly
(the coil, its correction, the skull's weight among the ranks): each voxel is told beside its surroundings, as a local
z-score. The edge, which depends on the mask: only what lies well inside the brain or head is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Int8
from scipy import ndimage

from gliolens.case import Case, Grid, Volume
from gliolens.foreground import foreground_of
from gliolens.ops.geometry import bounding_box, resample
from gliolens.types import Image, Mask

VOXEL_MM: Final = 4.5
SHAPE: Final = (42, 54, 42)
"""Voxels of the grid, which holds a head of 189 x 243 x 189 mm."""
SURROUNDINGS_MM: Final = 9.0
"""Standard deviation of the Gaussian that says what is local; with 14 mm, on voxels of 6 mm, brains of two patients
were alike to .85, with this to .75."""
EDGE_MM: Final = 12.0
"""What lies less deep in the mask is left out: the masks of two releases differ there."""
FEWEST: Final = 950
"""Voxels of the grid, 87 ml, below which a case has too little to be known by."""
_STEP: Final = 3.0 / 127  # what one unit of int8 stands for: z-scores are cut at 3


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """One case on the coarse grid, about 95 kB a series.

    Attributes:
        case: its id.
        stored: for each series the local z-score (42, 54, 42), 127 for 3; 0 outside.
        inside: where there is something to compare (42, 54, 42).
    """

    case: str
    stored: Mapping[str, Int8[np.ndarray, "d h w"]]
    inside: Bool[np.ndarray, "d h w"]

    def fields(self, series: tuple[str, ...]) -> Float32[np.ndarray, "s d h w"]:
        """Local z-scores of these series."""
        return np.stack([self.stored[name].astype(np.float32) * np.float32(_STEP) for name in series])


def fingerprint(case: Case) -> Fingerprint | None:
    """Make a case's fingerprint; None where the scans hold too little brain, or no contrast."""
    mask = foreground_of(case)
    if not mask.any():
        return None
    grid = _grid_around(mask, case.grid)
    weight = _read(mask.astype(np.float32), case.grid, grid)
    within = weight > 0.5
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(within, 1)))[1:-1, 1:-1, 1:-1]
    inside = depth * VOXEL_MM > EDGE_MM
    if np.count_nonzero(inside) < FEWEST:
        return None
    stored = {}
    for name, image in case.series.items():
        read = _read(_ranks(image, mask), case.grid, grid)
        local = _local_zscore(read / np.maximum(weight, 0.5), within)
        if not local[inside].any():
            return None
        stored[name] = np.where(inside, np.round(np.clip(local, -3, 3) / _STEP), 0).astype(np.int8)
    return Fingerprint(case.id, stored, inside)


def _grid_around(mask: Mask, grid: Grid) -> Grid:
    """The coarse grid, centred on the mask's bounding box, along the world's axes."""
    middle = [(s.start + s.stop - 1) / 2 for s in bounding_box(mask)]
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = (grid.affine @ [*middle, 1.0])[:3] - VOXEL_MM * (np.array(SHAPE) - 1) / 2
    return Grid(SHAPE, affine)


def _read(image: Image, grid: Grid, coarse: Grid) -> Float32[np.ndarray, "d h w"]:
    """An image at the coarse grid, blurred first by half a coarse voxel so that fine detail leaves no pattern."""
    widths = [VOXEL_MM / (2 * mm) if mm < VOXEL_MM else 0.0 for mm in grid.spacing]
    return np.asarray(resample(Volume(ndimage.gaussian_filter(image, widths), grid.affine), coarse))


def _ranks(image: Image, mask: Mask) -> Image:
    """Share of the masked voxels that are darker, ties halved, less a half; 0 outside the mask."""
    _, place, counts = np.unique(image[mask], return_inverse=True, return_counts=True)
    share = (np.cumsum(counts) - counts / 2) / place.size - 0.5
    ranks = np.zeros(image.shape, np.float32)
    ranks[mask] = share[place]
    return ranks


def _local_zscore(image: Image, within: Mask) -> Image:
    """Each voxel less the mean of its surroundings within the mask, over their standard deviation."""
    weight = within.astype(np.float32)
    total = np.maximum(_slow(weight), 1e-3)
    difference = weight * (image - _slow(image * weight) / total)
    spread = np.sqrt(_slow(difference**2) / total)
    return np.asarray(difference / np.maximum(spread, 0.02))


def _slow(image: Image) -> Image:
    return np.asarray(ndimage.gaussian_filter(image, SURROUNDINGS_MM / VOXEL_MM, mode="constant"))
