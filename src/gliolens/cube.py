"""A case in a cube of fixed size, all series between 0 and 1: what networks that segment see, and the way back.

The cube's axes are the case's own, so that nothing is turned: larger voxels are averages, smaller ones are read
linearly.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from gliolens.case import Case, Grid
from gliolens.labels import OEDEMA
from gliolens.ops.geometry import bounding_box
from gliolens.ops.zoom import zoom
from gliolens.preprocess import rescaled
from gliolens.types import Labels, Mask

Centre = Literal["image", "brain"]


def cube_grid(
    grid: Grid, brain: Mask, centre: Centre, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> Grid:
    """A cube around the middle of the image, or of the brain's box.

    Args:
        grid: the case's grid.
        brain: the brain.
        centre: of what.
        shape: voxels along each axis.
        spacing: of voxels along each axis, in mm.
    """
    box = bounding_box(brain)
    ends = (
        np.array([[0, n] for n in grid.shape])
        if centre == "image"
        else np.array([[s.start, s.stop] for s in box])
    )
    middle = grid.affine @ [*((ends.sum(axis=1) - 1) / 2), 1.0]
    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:3, :3] / np.array(grid.spacing) * np.array(spacing)
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def images_in(
    case: Case, series: tuple[str, ...], brain: Mask, cube: Grid, percentiles: tuple[float, float]
) -> Float[np.ndarray, "c d h w"]:
    """Series in a cube, min-max normalised over the brain and 0 outside it.

    Args:
        case: the case.
        series: which, in this order.
        brain: where intensities count.
        cube: where to read them.
        percentiles: of the brain's intensities, which become 0 and 1; 0 and 100 are minimum and maximum.

    Raises:
        CaseError: a series has no contrast.
    """
    return np.stack([zoom(rescaled(case, s, brain, percentiles), case.grid, cube) for s in series])


def labels_in(labels: Labels, grid: Grid, cube: Grid) -> UInt8[np.ndarray, "e f g"]:
    """Labels in a cube: of each voxel that of which it holds most."""
    found = np.unique(labels)
    shares = np.stack([zoom((labels == k).astype(np.float32), grid, cube) for k in found])
    inside = shares.sum(axis=0) > 0
    return np.where(inside, found[shares.argmax(axis=0)], 0).astype(np.uint8)


def lost_voxels(tumour: Mask, grid: Grid, cube: Grid) -> int:
    """How many voxels of a tumour, on its own grid, lie outside a cube."""
    within = zoom(np.ones(cube.shape, np.float32), cube, grid) > 0
    return int(np.count_nonzero(tumour & ~within))


def drawn_labels(probabilities: Float[np.ndarray, "k d h w"], cube: Grid, grid: Grid) -> Labels:
    """The likeliest tissue of each voxel of the case's own grid; where only tumour is told, it counts as oedema."""
    on_grid = from_cube(probabilities[1:], cube, grid)
    none = 1.0 - on_grid.sum(axis=0)
    drawn = np.where(on_grid.max(axis=0) > none, 1 + on_grid.argmax(axis=0), 0).astype(np.uint8)
    return np.where(drawn > 0, np.uint8(OEDEMA), np.uint8(0)) if len(probabilities) == 2 else drawn


def from_cube(values: Float[np.ndarray, "k d h w"], cube: Grid, grid: Grid) -> Float[np.ndarray, "k D H W"]:
    """Values of a cube on the case's own grid; 0 beyond the cube."""
    return np.stack([zoom(np.ascontiguousarray(v, np.float32), cube, grid) for v in values])


def stored_grid(grid: Grid) -> Float[np.ndarray, "5 4"]:
    """A grid as one array: affine, and below it the shape."""
    return np.vstack([grid.affine, [*grid.shape, 0]])


def grid_of(stored: np.ndarray) -> Grid:
    """The grid that `stored_grid` made an array of."""
    d, h, w = (int(n) for n in stored[4, :3])
    return Grid((d, h, w), np.asarray(stored[:4], np.float64))
