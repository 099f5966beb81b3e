"""A network over an image larger than what it sees at once: windows evenly placed, where there is enough brain."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Window = tuple[slice, slice, slice]


def starts(size: int, edge: int, overlap: float) -> list[int]:
    """First voxels of windows along an axis: in steps, the last moved back to where the axis ends, as MONAI has them.

    >>> starts(240, 96, 0.25), starts(155, 96, 0.5), starts(96, 96, 0.25), starts(97, 96, 0.25)
    ([0, 72, 144], [0, 48, 59], [0], [0, 1])
    """
    step = max(1, int(edge * (1 - overlap)))
    count = 1 + max(0, -(-(size - edge) // step))
    return [max(0, min(i * step, size - edge)) for i in range(count)]


def windows(brain: np.ndarray, edge: int, overlap: float, least: float = 0.0) -> list[Window]:
    """Windows over an image, at the same places along each axis; those that hold hardly any brain are left out.

    Args:
        brain: where there is something to see `(d, h, w)`; each axis as long as a window, or longer.
        edge: of a window, in voxels.
        overlap: share of the edge that neighbours share at least, 0 to below 1.
        least: share of a window that must be brain; one that holds less is kept where it alone holds some.
    """
    axes = [starts(n, edge, overlap) for n in brain.shape]
    every: list[Window] = [
        (slice(a, a + edge), slice(b, b + edge), slice(c, c + edge)) for a, b, c in product(*axes)
    ]
    share, unseen, kept = {i: float(brain[w].mean()) for i, w in enumerate(every)}, brain.copy(), []
    for i in sorted(share, key=lambda i: -share[i]):
        if share[i] > 0 and (share[i] >= least or unseen[every[i]].any()):
            kept.append(i)
            unseen[every[i]] = False
    return [every[i] for i in sorted(kept)]


def over_windows(
    net: Callable[[Float[Tensor, "1 c e e e"]], Float[Tensor, "k e e e"]],
    image: Float[Tensor, "c d h w"],
    brain: np.ndarray,
    edge: int,
    overlap: float,
    least: float = 0.0,
) -> Float[Tensor, "k d h w"]:
    """What a network tells of each voxel: the mean over the windows that hold it.

    Args:
        net: from one window to numbers at each of its voxels.
        image: the whole; an axis shorter than a window is filled up with zeros.
        brain: where there is something to see `(d, h, w)`; 0 is told where no window looks.
        edge: of a window, in voxels.
        overlap: share of the edge that neighbours share at least.
        least: share of a window that must be brain; see `windows`.
    """
    size = image.shape[1:]
    image, brain = filled_up(image, edge), filled_up(torch.from_numpy(brain)[None], edge)[0].numpy()
    total: Tensor | None = None
    seen = torch.zeros(image.shape[1:])
    for where in windows(brain, edge, overlap, least):
        told = net(image[(slice(None), *where)][None])
        total = torch.zeros(len(told), *image.shape[1:]) if total is None else total
        total[(slice(None), *where)] += told
        seen[where] += 1
    if total is None:
        raise ValueError("no window holds any brain")
    return (total / seen.clamp_min(1))[(slice(None), *placed(size, edge))]


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
