"""A network of cubes over a whole case: outlined window by window, then asked about a cube around the tumour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gliolens.case import Grid
from gliolens.crops import NO_PLACE, crop_around, middle_of
from gliolens.loader import Arrays
from gliolens.nn.multitask import MultiTaskNet, Told
from gliolens.nn.precision import has_bfloat16
from gliolens.types import Affine
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

    def map_of(self, values: Tensor, shift: float) -> tuple[np.ndarray, Affine]:
        """A map (1, 1, e, f, g) of half the cube's voxels along each axis, and where it lies.

        Args:
            values: the map.
            shift: how many of the cube's voxels its own lie behind the even ones.
        """
        step = np.diag([2.0, 2.0, 2.0, 1.0])
        step[:3, 3] = shift
        return values[0, 0].float().numpy(), self.cube.affine @ step


@torch.inference_mode()
def look(net: MultiTaskNet, ready: Arrays, edge: int, overlap: float) -> Seen:
    """Outline a brain, and look at the cube around the tumour that was found: one pass where one cube holds the brain.

    Where no tumour is found, the cube lies in the middle of the brain.

    Args:
        net: the network, in evaluation mode.
        ready: `image`, `there` and `affine`, as of `crops.brain_volume`.
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
    brain = (image != 0).any(dim=0).numpy()
    tissues = over_windows(
        lambda window: shares(asked(net, window, there)), image, brain, edge, overlap
    ).numpy()
    middle = middle_of((tissues[0] < 0.5).astype(np.uint8))
    where = crop_around(np.array(size) // 2 if middle[0] == NO_PLACE else middle, size, edge)
    near = image[(slice(None), *where)]
    first = [p.start - s.start for s, p in zip(where, placed(near.shape[1:], edge), strict=True)]
    return Seen(tissues, grid, asked(net, filled_up(near, edge)[None], there), _cube(grid, first, edge))


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
