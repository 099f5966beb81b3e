"""A network of cubes over a whole case: outlined window by window, then asked about a cube around the tumour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gliolens.case import Grid
from gliolens.crops import NO_PLACE, crop_around, middle_of
from gliolens.cube import grid_of
from gliolens.loader import Arrays
from gliolens.nn.multitask import MultiTaskNet, Told
from gliolens.nn.precision import has_bfloat16
from gliolens.types import Affine, Labels, Mask
from gliolens.windows import filled_up, over_windows, placed


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network tells of one case.

    Attributes:
        tissues: probabilities (k, D, H, W) over the brain's box.
        grid: of that box.
        told: what it tells of the cube.
        cube: the cube's grid.
    """

    tissues: np.ndarray
    grid: Grid
    told: Told
    cube: Grid

    def map_of(self, values: Tensor, *, blocks: bool) -> tuple[np.ndarray, Affine]:
        """A coarser map (1, 1, e, f, g) of the cube, and where it lies.

        Args:
            values: the map.
            blocks: whether each place of it stands for a block of voxels, and lies in its middle; else it lies on the
                first voxel of what would be its block, as where a centred convolution takes steps.
        """
        each = self.cube.shape[0] / values.shape[2]
        step = np.diag([each, each, each, 1.0])
        step[:3, 3] = (each - 1) / 2 if blocks else 0.0
        return values[0, 0].float().cpu().numpy(), self.cube.affine @ step


LEAST_BRAIN: Final = 0.25
"""Share of a window that must be brain: one of air and a little brain changes an outline hardly, and costs as much."""


@torch.inference_mode()
def look(net: MultiTaskNet, ready: Arrays, edge: int, overlap: float) -> Seen:
    """Outline a brain, and look at the cube around the tumour that was found: one pass where one cube holds the brain.

    Windows lie where they would lie over the whole image, of which the brain's box is a part: a network tells other
    things of a voxel at the rim of a window than in its middle. Where no tumour is found, the cube lies in the middle
    of the brain.

    Args:
        net: in evaluation mode.
        ready: `image`, `there`, `affine` and `grid`, as of `crops.brain_volume`.
        edge: of a cube, in voxels.
        overlap: share of the edge by which windows overlap.
    """
    image = torch.from_numpy(np.asarray(ready["image"], np.float32))
    there = torch.tensor(ready["there"].tolist())[None]
    d, h, w = size = image.shape[1:]
    grid = Grid((d, h, w), np.asarray(ready["affine"], np.float64))
    if max(size) <= edge:
        told = asked(net, filled_up(image, edge)[None], there)
        within = placed(size, edge)
        tissues = shares(told)[(slice(None), *within)].numpy()
        return Seen(tissues, grid, told, _cube(grid, [s.start for s in within], edge))
    tissues = _outlined(net, image, cut_off(grid, grid_of(ready["grid"])), edge, overlap).numpy()
    middle = middle_of(_largest(tissues[1:].sum(axis=0) > 0.5))
    where = crop_around(np.array(size) // 2 if middle[0] == NO_PLACE else middle, size, edge)
    near = image[(slice(None), *where)]
    first = [p.start - s.start for s, p in zip(where, placed(near.shape[1:], edge), strict=True)]
    return Seen(tissues, grid, asked(net, filled_up(near, edge)[None], there), _cube(grid, first, edge))


def _outlined(net: MultiTaskNet, image: Tensor, beyond: np.ndarray, edge: int, overlap: float) -> Tensor:
    """Probability of each tissue (k, d, h, w) in the brain's box, by windows over the whole image."""
    amounts = beyond[::-1].ravel().tolist()  # PyTorch asks for the last axis first
    whole = F.pad(image, amounts)
    device = next(net.parameters()).device

    def told(window: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16()):
            tissues, _ = net.backbone(window.to(device))
        return torch.softmax(tissues[0].float(), dim=0).cpu()

    drawn = over_windows(told, whole, (whole != 0).any(dim=0).numpy(), edge, overlap, LEAST_BRAIN)
    return F.pad(drawn, [-n for n in amounts])


def cut_off(box: Grid, case: Grid) -> np.ndarray:
    """How many voxels of the box's size the case's image has before and after it, along each axis (3, 2).

    Below 0 where the box reaches beyond the image: windows must begin with it, since a network that merges voxels in
    blocks tells other things of an image that is moved by one.
    """
    to_box = np.linalg.inv(box.affine) @ case.affine
    size = np.diagonal(to_box)[:3]
    first = to_box[:3, 3] - (size - 1) / 2
    last = first + size * case.shape - box.shape
    return np.asarray(np.round(np.stack([-first, last], axis=1)), int)


def _largest(tumour: Mask) -> Labels:
    """The largest piece of what was drawn: a speck elsewhere must not move the cube off the tumour."""
    pieces, count = ndimage.label(tumour)
    largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if count else tumour
    return np.asarray(largest, np.uint8)


def asked(net: MultiTaskNet, image: Tensor, there: Tensor) -> Told:
    """What the network tells of images (b, c, e, e, e), in bfloat16 where the processor has it."""
    device = next(net.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16()):
        told: Told = net(image.to(device), there.to(device))
    return told


def shares(told: Told) -> Tensor:
    """Probability of each tissue of the first image (k, e, e, e)."""
    return torch.softmax(told.tissues[0].float(), dim=0).cpu()


def _cube(grid: Grid, first: Sequence[int], edge: int) -> Grid:
    """A cube of an edge in which the image's first voxel lies at `first`."""
    affine = grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array(first, float)
    return Grid((edge, edge, edge), affine)
