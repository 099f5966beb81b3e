"""A network over an image larger than what it sees at once: few windows, evenly placed, only where there is brain."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from monai.data.utils import compute_importance_map
from torch import Tensor

Window = tuple[slice, slice, slice]


def starts(size: int, edge: int, overlap: float) -> list[int]:
    """First voxels of the fewest windows that cover an axis and overlap by a share of their edge or more, evenly.

    >>> starts(240, 96, 0.25), starts(96, 96, 0.25), starts(97, 96, 0.25)
    ([0, 72, 144], [0], [0, 1])
    """
    if size <= edge:
        return [0]
    step = max(1.0, edge * (1 - overlap))
    count = 1 + int(np.ceil((size - edge) / step - 1e-9))
    return [int(first) for first in np.linspace(0, size - edge, count).round()]


def windows(brain: np.ndarray, edge: int, overlap: float) -> list[Window]:
    """Windows over an image, at the same places along each axis; those without brain are left out.

    Args:
        brain: where there is something to see `(d, h, w)`; each axis as long as a window, or longer.
        edge: of a window, in voxels.
        overlap: share of the edge that neighbours share at least, 0 to below 1.
    """
    axes = [starts(n, edge, overlap) for n in brain.shape]
    every = [tuple(slice(a, a + edge) for a in corner) for corner in product(*axes)]
    return [(d, h, w) for d, h, w in every if brain[d, h, w].any()]


def over_windows(
    net: Callable[[Float[Tensor, "1 c e e e"]], Float[Tensor, "k e e e"]],
    image: Float[Tensor, "c d h w"],
    brain: np.ndarray,
    edge: int,
    overlap: float,
) -> Float[Tensor, "k d h w"]:
    """What a network tells of each voxel: the mean over the windows that hold it, their middles weighing most.

    Args:
        net: from one window to numbers at each of its voxels.
        image: the whole; an axis shorter than a window is filled up with zeros.
        brain: where there is something to see `(d, h, w)`; 0 is told where no window looks.
        edge: of a window, in voxels.
        overlap: share of the edge that neighbours share at least.
    """
    size = image.shape[1:]
    image, brain = filled_up(image, edge), filled_up(torch.from_numpy(brain)[None], edge)[0].numpy()
    weight = compute_importance_map((edge,) * 3, mode="gaussian", sigma_scale=0.125)
    total: Tensor | None = None
    seen = torch.zeros(image.shape[1:])
    for where in windows(brain, edge, overlap):
        told = net(image[(slice(None), *where)][None]) * weight
        total = torch.zeros(len(told), *image.shape[1:]) if total is None else total
        total[(slice(None), *where)] += told
        seen[where] += weight
    if total is None:
        raise ValueError("no window holds any brain")
    return (total / seen.clamp_min(1e-8))[(slice(None), *placed(size, edge))]


def placed(size: Sequence[int], edge: int) -> Window:
    """Where an image lies in one that was filled up to windows of an edge: in the middle."""
    first = [max(0, edge - n) // 2 for n in size]
    d, h, w = (slice(a, a + n) for a, n in zip(first, size, strict=True))
    return d, h, w


def filled_up(image: Tensor, edge: int) -> Tensor:
    """An image `(c, d, h, w)` in the middle of zeros where an axis is shorter than a window."""
    size = image.shape[1:]
    if min(size) >= edge:
        return image
    out = torch.zeros(len(image), *(max(edge, n) for n in size), dtype=image.dtype)
    out[(slice(None), *placed(size, edge))] = image
    return out
