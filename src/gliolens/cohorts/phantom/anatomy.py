"""The brain of a simulated patient: the MNI152 average, moved, bent, folded and aged.

The average of 152 brains (Fonov 2011, doi 10.1016/j.neuroimage.2010.07.033) comes inside nilearn: nothing is
downloaded. It is blurred where brains differ, in the cortex. There a band of noise is added to a field that falls
from white matter through grey matter to fluid, and cut at two levels: level sets are nested, so the cortex stays a
ribbon, with other folds in every patient.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gliolens.case import Grid
from gliolens.cohorts.phantom.chance import Chance

CENTRE_MM: Final = np.array([0.0, -17.0, 6.0])
FIELD_OF_VIEW_MM: Final = np.array([160.0, 192.0, 160.0])
COARSE_MM: Final = 4.0
_VENTRICLES_MM: Final = ((-36.0, -58.0, -4.0), (36.0, 32.0, 30.0))
"""Corners of a box around the lateral ventricles of the template."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Brains of a batch, without tumour.

    Attributes:
        where: place in the template of each voxel (b, 3, D, H, W), millimetres.
        tissues: shares of fluid, grey and white matter (b, 3, D, H, W), which sum to 1.
        depth: how far below the brain's surface (b, 1, D, H, W), millimetres; negative outside.
        beside: how far from the lateral ventricles (b, 1, D, H, W), millimetres; negative within.
        age: years (b, 1, 1, 1, 1).
    """

    where: Tensor
    tissues: Tensor
    depth: Tensor
    beside: Tensor
    age: Tensor


def head_grid(spacing: float) -> Grid:
    """A grid that holds every simulated brain; its edges divide by 2 and by `coarse_step`, so that coarse grids fit."""
    step = 2 * coarse_step(spacing)
    d, h, w = (int(n) for n in step * np.ceil(FIELD_OF_VIEW_MM / spacing / step))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = CENTRE_MM - spacing * (np.array([d, h, w]) - 1) / 2
    return Grid((d, h, w), affine)


def coarse_step(spacing: float) -> int:
    """How many voxels along an edge make one of the coarse grid that tumours grow on."""
    return round(COARSE_MM / spacing) or 1


@lru_cache(maxsize=2)
def _template(resolution_mm: int) -> tuple[Tensor, np.ndarray]:
    """Maps (7, D, H, W) and their affine: grey, white, depth, distance from the ventricles and its gradient."""
    from nilearn import datasets  # takes two seconds, which `gliolens --help` should not

    names = ("load_mni152_gm_template", "load_mni152_wm_template", "load_mni152_brain_mask")
    images = [getattr(datasets, name)(resolution=resolution_mm) for name in names]
    grey, white, brain = (np.clip(np.asarray(image.dataobj, np.float32), 0.0, 1.0) for image in images)
    affine = np.asarray(images[0].affine, np.float64)
    depth = _signed_distance(brain > 0.5, resolution_mm)
    beside = -_signed_distance(_ventricles(1.0 - grey - white, depth, affine), resolution_mm)
    smooth = ndimage.gaussian_filter(beside, 4.0 / resolution_mm)
    away = np.stack(np.gradient(smooth))
    away /= np.linalg.norm(away, axis=0) + 1e-3
    maps = np.stack([grey, white, depth, beside, *away]).astype(np.float32)
    return torch.from_numpy(maps), affine


def _ventricles(fluid: np.ndarray, depth: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The lateral and third ventricles: the piece of deep fluid that has most of it in their box."""
    parts, _ = ndimage.label((fluid > 0.5) & (depth > 14.0))
    low, high = (np.linalg.solve(affine, [*corner, 1.0])[:3].astype(int) for corner in _VENTRICLES_MM)
    inside = parts[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    counts = np.bincount(inside.ravel(), minlength=2)
    counts[0] = 0
    if not counts.any():
        raise RuntimeError(
            f"the template of nilearn has no deep fluid within {_VENTRICLES_MM}: is it another template?"
        )
    return np.asarray(parts == counts.argmax())


def _signed_distance(mask: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Millimetres to the border of a mask, positive inside, up to 60."""
    inside, outside = (ndimage.distance_transform_edt(m) for m in (mask, ~mask))
    return np.asarray(np.clip((inside - outside) * voxel_mm, -60.0, 60.0))


def place_heads(chance: Chance, age: Float[Tensor, "b 1 1 1 1"]) -> Float[Tensor, "b 3 d h w"]:
    """Where in the template, in millimetres, each voxel of each head lies: turned, scaled, bent, mirrored, aged."""
    grid = chance.grid
    b = len(chance.generators)
    turn = torch.linalg.matrix_exp(_cross(chance.normal(3) * torch.tensor([0.09, 0.05, 0.05]).to(age)))
    zoom = 1.0 / (
        chance.uniform(0.86, 0.97, 3) * chance.uniform(0.97, 1.03, 1)
    )  # MNI152 is larger than most heads
    zoom[:, 0] *= 1.0 - 2.0 * chance.happens(0.5)
    offset = _offset(grid).to(age)
    matrix = turn * zoom[:, None, :]
    where = torch.einsum("bij,jdhw->bidhw", matrix, offset)
    where = where + (torch.tensor(CENTRE_MM).to(age) + 4.0 * chance.normal(3)).reshape(b, 3, 1, 1, 1)
    where = where + 3.0 * chance.field(55.0, 3) + 1.8 * chance.field(22.0, 3)
    wide = (-1.0 + 0.09 * (age - 40.0) + 2.5 * chance.normal(1, 1, 1, 1)).clamp(-2.0, 8.0)
    maps = sample_template(
        F.avg_pool3d(where, 2), grid.spacing[0], slice(3, 7)
    )  # smooth, so half the grid will do
    aside = maps[:, 1:] * torch.exp(-maps[:, :1].clamp(min=0.0) / 14.0)
    return where - wide * F.interpolate(aside, size=grid.shape, mode="trilinear", align_corners=False)


def _cross(v: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """The matrix of the cross product with each vector."""
    x, y, z = v.unbind(1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=1).reshape(-1, 3, 3)


def _offset(grid: Grid) -> Tensor:
    """Millimetres from the grid's centre (3, D, H, W)."""
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sample_template(
    where: Float[Tensor, "b 3 d h w"], spacing: float, which: slice
) -> Float[Tensor, "b c d h w"]:
    """Some of the template's maps at places in it."""
    maps, affine = _template(max(1, min(2, int(spacing))))
    to_index = torch.from_numpy(np.linalg.inv(affine)[:3]).to(where)
    index = torch.einsum("ij,bjdhw->bidhw", to_index[:, :3], where) + to_index[:, 3].reshape(1, 3, 1, 1, 1)
    shape = torch.tensor(maps.shape[1:]).to(where).reshape(1, 3, 1, 1, 1)
    unit = (2.0 * index / (shape - 1) - 1.0).flip(1).movedim(1, -1)
    maps = maps[which].to(where)[None].expand(len(where), -1, -1, -1, -1)
    return F.grid_sample(maps, unit, padding_mode="border", align_corners=True)


def make_anatomy(
    where: Float[Tensor, "b 3 d h w"],
    folds: Float[Tensor, "b 2 d h w"],
    age: Float[Tensor, "b 1 1 1 1"],
    spacing: float,
) -> Anatomy:
    """Tissues at places in the template.

    Args:
        where: as `place_heads` gives it, pushed aside where a tumour grows.
        folds: smooth noise that folds the cortex, of about 5 and 9 millimetres.
        age: years; sulci widen with age.
        spacing: edge of a voxel in millimetres.
    """
    maps = sample_template(where, spacing, slice(0, 4))
    grey, white, depth, beside = maps[:, 0:1], maps[:, 1:2], maps[:, 2:3], maps[:, 3:4]
    fluid = (1.0 - grey - white).clamp(0.0, 1.0)
    shares = torch.cat([fluid, grey, white], dim=1) ** 2
    plain = shares / shares.sum(dim=1, keepdim=True)
    unsure = 1.0 - torch.cat([fluid, grey, white], dim=1).amax(dim=1, keepdim=True) ** 2
    level = white - 1.2 * fluid + unsure * (0.3 * folds[:, 0:1] + 0.3 * folds[:, 1:2])
    wide = 0.08 + 0.004 * (age - 40.0)
    folded_white = torch.sigmoid((level - 0.42) / 0.07)
    folded_fluid = torch.sigmoid((wide - 0.45 - level) / 0.07)
    folded = torch.cat([folded_fluid, 1.0 - folded_white - folded_fluid, folded_white], dim=1).clamp(min=0.0)
    deep = torch.sigmoid((depth - 27.0) / 3.0) * torch.sigmoid((30.0 - beside) / 4.0)
    tissues = deep * plain + (1.0 - deep) * folded
    return Anatomy(where, tissues / tissues.sum(dim=1, keepdim=True), depth, beside, age)
