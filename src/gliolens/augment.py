"""Slices that look otherwise each time: each draws its numbers first, and they are applied second."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Amounts:
    """By how much slices are changed.

    Attributes:
        flip: share of slices that are flipped.
        shift: largest cyclic shift, in pixels.
        rotate: largest rotation, in degrees.
        noise: share of salt-and-pepper pixels.
        zoom: largest change of scale.
    """

    flip: float
    shift: int
    rotate: float
    noise: float
    zoom: float


def augment(
    image: Float[Tensor, "b c *d p p"],
    amounts: Amounts,
    magnified: Float[Tensor, " b"],
    moved: Float[Tensor, " b"],
) -> Float[Tensor, "b c *d p p"]:
    """Flip, turn, zoom, move, shift and salt slices, or volumes: then alike in all their planes.

    Args:
        image: slices, or volumes whose planes are axial.
        amounts: of each change.
        magnified: by how much each is magnified beside `zoom`; 1 for not at all.
        moved: by how much each is moved at most, in units of half a frame.
    """
    if image.ndim == 5:
        return augment(image.flatten(1, 2), amounts, magnified, moved).reshape(image.shape)
    n, device = len(image), image.device
    angle = (torch.rand(n, device=device) * 2 - 1) * amounts.rotate * torch.pi / 180
    mirror = torch.where(torch.rand(n, device=device) < amounts.flip, -1.0, 1.0)
    scale = (1 + (torch.rand(n, device=device) * 2 - 1) * amounts.zoom) * magnified
    move = (torch.rand(n, 2, device=device) * 2 - 1) * moved[:, None]
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([torch.stack([mirror * cos, -sin], 1), torch.stack([mirror * sin, cos], 1)], 1)
    grid = F.affine_grid(
        torch.cat([theta, (move / scale[:, None])[:, :, None]], 2), list(image.shape), align_corners=False
    )
    image = F.grid_sample(image, grid.to(image.dtype), align_corners=False)
    steps = torch.randint(-amounts.shift, amounts.shift + 1, (n, 2)).tolist()
    image = torch.stack([x.roll((dx, dy), (1, 2)) for x, (dx, dy) in zip(image, steps, strict=True)])
    return _salted(image, amounts.noise)


def _salted(image: Float[Tensor, "b c p p"], share: float) -> Float[Tensor, "b c p p"]:
    """Some pixels at the least value of their slice, as many at its largest."""
    salt = torch.rand_like(image[:, :1])
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    image = torch.where(salt < share / 2, low, image)
    return torch.where(salt > 1 - share / 2, high, image)
