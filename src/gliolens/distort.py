"""Volumes that look otherwise at each look, by TorchIO: as published, lightly or heavily."""

from collections.abc import Callable
from functools import cache
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Distortion = Literal["none", "light", "heavy"]
"""`light`: scaled and turned, left and right swapped. `heavy`: bent too, and with the marks of a scanner: motion, a
spike in k-space, ghosts (Chatterjee et al. 2022)."""
SCALES: Final = (0.9, 1.2)
DEGREES: Final = 10.0
FLIPPED: Final = 0.25
BENT_MM: Final = 7.5
MOVED_MM: Final = 10.0
"""Largest displacement, and largest shift while the head moves: TorchIO's own."""


def distorted(
    volume: Float[Tensor, "c r a s"], how: Distortion, voxel_mm: float, rng: np.random.Generator
) -> Float[Tensor, "c r a s"]:
    """A volume as one look shows it.

    Args:
        volume: axes to the right, to the front and up; 0 where there is nothing.
        how: how much.
        voxel_mm: edge of a voxel.
        rng: of all draws; TorchIO draws from PyTorch's own, which is put back.
    """
    if how == "none":
        return volume
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        changed: Tensor = _change(how, voxel_mm)(volume)
    return changed


@cache
def _change(how: Distortion, voxel_mm: float) -> Callable[[Tensor], Tensor]:
    import torchio as tio  # takes two seconds to import, and only training needs it

    # of a bare tensor TorchIO takes a voxel for a millimetre

    steps: list[Any] = [
        tio.RandomAffine(scales=SCALES, degrees=DEGREES, default_pad_value=0),
        tio.RandomFlip(axes=0, flip_probability=FLIPPED),
    ]
    if how == "heavy":
        marks: list[Any] = [
            tio.RandomMotion(translation=MOVED_MM / voxel_mm),
            tio.RandomSpike(),
            tio.RandomGhosting(),
        ]
        steps += [
            tio.RandomElasticDeformation(max_displacement=BENT_MM / voxel_mm, p=0.5),
            tio.OneOf(marks, p=0.5),
        ]
    composed: Callable[[Tensor], Tensor] = tio.Compose(steps)
    return composed
