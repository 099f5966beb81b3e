"""Finer and coarser grids along the same axes: averages on the way down, linear on the way up."""

import numpy as np
from jaxtyping import Float32

from gliolens.case import Grid
from gliolens.types import Affine, Image


def zoom(image: Image, grid: Grid, to: Grid) -> Float32[np.ndarray, "d h w"]:
    """Read an image at a grid whose axes point the same way.

    Along each axis, a larger voxel is the average of what it covers; a smaller one is read linearly, and what lies
    between the centre of an outermost voxel and its face has that voxel's value.

    Args:
        image: `(D, H, W)` on `grid`.
        grid: where the image lies.
        to: where to read it.

    Returns:
        Image on `to`; 0 beyond the faces of `grid`.

    Raises:
        ValueError: the image is not on `grid`, or the axes point elsewhere.
    """
    if image.shape != grid.shape:
        raise ValueError(f"found an image of shape {image.shape}, expected that of its grid, {grid.shape}")
    to_index: Affine = np.linalg.inv(grid.affine) @ to.affine
    steps = np.diag(to_index)[:3]
    if np.abs(to_index[:3, :3] - np.diag(steps)).max() > 1e-4 * steps.min():
        raise ValueError("the grids' axes do not point the same way: resample instead")
    out = image
    for axis in range(3):
        weights = _weights(image.shape[axis], to.shape[axis], float(steps[axis]), float(to_index[axis, 3]))
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out, dtype=np.float32)


def _weights(n: int, m: int, step: float, start: float) -> np.ndarray:
    """What each of n old voxels gives to each of m new ones, `(m, n)`; rows sum to 1, or to 0 where outside."""
    centre = start + step * np.arange(m)[:, None]
    old = np.arange(n)[None, :]
    if step > 1:
        low, high = np.maximum(centre - step / 2, old - 0.5), np.minimum(centre + step / 2, old + 0.5)
        weights = np.maximum(high - low, 0.0)
    else:
        weights = np.maximum(1 - np.abs(np.clip(centre, 0, n - 1) - old), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    beyond = (centre < -0.5 - 1e-6) | (centre > n - 0.5 + 1e-6)
    return np.where(beyond | (total < 1e-9), 0.0, weights / np.maximum(total, 1e-9)).astype(np.float32)
