"""Where voxels are: regions of interest, crops and resampling between grids. Pure functions on arrays."""

import numpy as np
from scipy import ndimage

from gliolens.case import Grid, Volume
from gliolens.types import Affine, Mask, Voxels

Box = tuple[slice, slice, slice]
"""A block of voxels, one slice an axis."""


def bounding_box(mask: Mask, margin: int = 0) -> Box:
    """The smallest box around a mask, widened by `margin` voxels where the array allows.

    Raises:
        ValueError: the mask is empty.
    """
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found or found[0] is None:
        raise ValueError("an empty mask has no bounding box")
    d, h, w = (
        slice(max(s.start - margin, 0), min(s.stop + margin, n))
        for s, n in zip(found[0], mask.shape, strict=True)
    )
    return d, h, w


def crop(volume: Volume, box: Box) -> Volume:
    """Cut a box out of a volume; every voxel keeps its world position.

    Raises:
        ValueError: the box is empty or skips voxels.
    """
    spans = [range(n)[s] for s, n in zip(box, volume.voxels.shape, strict=True)]
    if any(span.step != 1 or not span for span in spans):
        raise ValueError(
            f"found a box {box} of a volume of shape {volume.voxels.shape}, expected whole blocks"
        )
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [span.start for span in spans]
    return Volume(volume.voxels[box], affine)


def resample(volume: Volume, grid: Grid, order: int = 1, outside: float = 0.0) -> Voxels:
    """Read a volume at the voxels of another grid.

    Between the centre of an outermost voxel and its face the voxel's own value holds, as in ITK, so that a
    volume does not fade at its border.

    Args:
        volume: what to read.
        grid: where to read it.
        order: 0 nearest (labels), 1 linear (images).
        outside: value where `grid` reaches beyond the volume's faces.

    Returns:
        Voxels of `grid.shape`, of the volume's dtype.
    """
    to_index = np.linalg.inv(volume.affine) @ grid.affine
    read: Voxels = ndimage.affine_transform(
        volume.voxels, to_index[:3, :3], to_index[:3, 3], grid.shape, order=order, mode="nearest"
    )
    read[_beyond(to_index, grid.shape, volume.voxels.shape)] = outside
    return read


def _beyond(to_index: Affine, shape: tuple[int, ...], read_from: tuple[int, ...]) -> Mask:
    """Voxels of a grid of `shape` whose centres lie outside the faces of the array they are read from."""
    d, h, w = np.ogrid[: shape[0], : shape[1], : shape[2]]
    beyond = np.zeros(shape, dtype=bool)
    for (a, b, c, start), n in zip(to_index[:3], read_from, strict=True):
        index = a * d + b * h + (c * w + start)
        beyond |= (index < -0.5 - 1e-6) | (index > n - 0.5 + 1e-6)
    return beyond


def with_spacing(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """The same field of view at another voxel size (millimetres).

    Its centre stays; its outer faces move by no more than a quarter of a new voxel, or make room for one voxel.

    Raises:
        ValueError: a voxel size is not above zero and finite.
    """
    if not all(0 < size < np.inf for size in spacing):
        raise ValueError(f"found voxel sizes {spacing}, expected three above zero, in millimetres")
    old = np.array(grid.spacing)
    shape = np.maximum(np.round(np.array(grid.shape) * old / spacing), 1).astype(int)
    scale = np.array(spacing) / old
    affine: Affine = grid.affine @ np.diag([*scale, 1.0])
    centre = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
