"""The tumour of a simulated patient: reaction and diffusion, and what follows from the density of its cells.

Cells grow and wander (Fisher-Kolmogorov; Swanson et al. 2000, doi 10.1046/j.1365-2184.2000.00177.x):

    du/dt = div(D grad u) + rho u (1 - u),        front_mm = sqrt(D / rho) in white matter,

with less mobility in grey matter and none in fluid, on a coarse grid, from one or several seeds. The core is the
part of highest density, oedema what seeps from it through white matter; each has the volume that was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gliolens.cohorts.phantom.anatomy import Anatomy, coarse_step
from gliolens.cohorts.phantom.chance import Chance
from gliolens.cohorts.phantom.traits import Findings

GREY_MOBILITY: Final = 0.15
"""Mobility in grey matter as a share of that in white: Swanson 2000 has a fifth or less."""
STEPS: Final = 220
LOBES_MM: Final = {
    "frontal": (28.0, 30.0, 24.0),
    "temporal": (46.0, -18.0, -12.0),
    "parietal": (34.0, -46.0, 40.0),
    "occipital": (26.0, -78.0, 12.0),
    "insula": (38.0, 4.0, 4.0),
    "deep": (16.0, -12.0, 8.0),
}
"""Middle of each lobe in the template, right side."""
_LOBE_REACH_MM: Final = 13.0


@dataclass(frozen=True, eq=False)
class Tumour:
    """Shares of voxels (b, 1, D, H, W), 0 to 1, each painted over the one before.

    Attributes:
        swelling: oedema or tumour.
        core: tumour core.
        necrosis: dead or fluid core.
        enhancing: core that takes up contrast medium.
        density: how dense the swelling is, 1 at the core and falling outwards.
    """

    swelling: Tensor
    core: Tensor
    necrosis: Tensor
    enhancing: Tensor
    density: Tensor


@dataclass(frozen=True, eq=False)
class Growth:
    """Fields (b, 1, d, h, w) on the coarse grid: `core` and `seeping` rise inwards; `push` (b, 3, d, h, w) in mm."""

    core: Tensor
    seeping: Tensor
    push: Tensor


def grow(anatomy: Anatomy, findings: Sequence[Findings], chance: Chance) -> Growth:
    """Grow the tumours of a batch from seeds in their lobes until each core has its volume.

    Args:
        anatomy: the brains on the coarse grid.
        findings: what the tumours are like.
        chance: random numbers, on the fine grid.
    """
    step = coarse_step(chance.grid.spacing[0])
    edge = step * chance.grid.spacing[0]
    tissues, depth, where = anatomy.tissues, anatomy.depth, anatomy.where
    white, grey = tissues[:, 2:], tissues[:, 1:2]
    inside = (depth > 1.0).float()
    rough = torch.exp(0.8 * F.avg_pool3d(chance.field(13.0, 1), step)).clamp(0.25, 3.0)
    mobility = (white + GREY_MOBILITY * grey) * inside * rough
    room = ((white + grey) * inside).clamp(0.0, 1.0)
    seeds = _seeds(findings, where, white, grey, depth, chance)
    volumes = _row([f.volume_ml * f.core_share for f in findings], white) * 1000.0 / edge**3
    front = _row([max(f.front_mm, 1.6) for f in findings], white)
    cells = _react(seeds, mobility * (front / edge) ** 2, room, volumes)
    core = _blur(cells, 1)
    seeping = _seep(_top(core + 0.02 * cells, volumes), (white + 0.2 * grey) * inside * rough)
    mass = _blur(_top(core, volumes), 3)
    radius = (3.0 * volumes * edge**3 / (4.0 * torch.pi)) ** (1.0 / 3.0)
    slope = -torch.cat([_slope(mass, axis) for axis in (2, 3, 4)], dim=1)
    steepest = slope.norm(dim=1, keepdim=True).amax(dim=(2, 3, 4), keepdim=True) + 1e-6
    push = slope / steepest * radius * chance.uniform(0.0, 0.6, 1, 1, 1, 1)
    return Growth(core, seeping, push)


def _row(numbers: Sequence[float], like: Tensor) -> Float[Tensor, "b 1 1 1 1"]:
    return torch.tensor(numbers, dtype=torch.float32).to(like).reshape(-1, 1, 1, 1, 1)


def _seeds(
    findings: Sequence[Findings], where: Tensor, white: Tensor, grey: Tensor, depth: Tensor, chance: Chance
) -> Float[Tensor, "b 1 d h w"]:
    """One seed a focus: the first anywhere in its lobe, others near it or elsewhere in white matter."""
    side = 1.0 - 2.0 * chance.happens(0.5, 1, 1, 1, 1)
    middle = torch.tensor([LOBES_MM[f.lobe] for f in findings]).to(where).reshape(-1, 3, 1, 1, 1)
    middle = middle * torch.cat([side, torch.ones_like(side), torch.ones_like(side)], dim=1)
    far = ((where - middle) ** 2).sum(dim=1, keepdim=True) / _LOBE_REACH_MM**2
    cortical = _row([float(f.cortical) for f in findings], where)
    tissue = cortical * grey * torch.exp(-(((depth - 7.0) / 4.0) ** 2)) + (1 - cortical) * white**2
    tissue = tissue * (depth > 3.0)
    seeds = torch.zeros_like(white)
    lot = chance.uniform(1e-6, 1.0, *white.shape[1:])  # the race of exponentials draws one voxel by weight
    first = _winner(tissue * torch.exp(-far / 2.0), lot)
    reach = chance.uniform(15.0, 60.0)
    for i, finding in enumerate(findings):
        seeds[i].view(-1)[first[i]] = 1.0
        at = where[i].reshape(3, -1)
        near = ((at - at[:, first[i]][:, None]) ** 2).sum(dim=0)
        weight = white[i].reshape(-1) ** 2 * torch.exp(-near / (2 * reach[i] ** 2)) * (near > 14.0**2)
        for k in range(1, finding.foci):
            race = -torch.log(lot[i].reshape(-1).roll(101 * k)) / weight.clamp(min=1e-9)
            seeds[i].view(-1)[race.argmin()] = 1.0
    return seeds


def _winner(weight: Float[Tensor, "b 1 d h w"], lot: Tensor) -> Tensor:
    return (-torch.log(lot) / weight.clamp(min=1e-12)).flatten(1).argmin(dim=1)


def _react(seeds: Tensor, mobility: Tensor, room: Tensor, volumes: Tensor) -> Tensor:
    """Cells after as many steps as the volume above one half takes; `mobility` in voxels squared a unit of time."""
    dt = (0.16 / mobility.amax(dim=(1, 2, 3, 4), keepdim=True)).clamp(max=0.4)
    faces = [_face(mobility, axis) * dt for axis in (2, 3, 4)]
    cells = _blur(seeds, 1) * 8.0 * room
    for i in range(STEPS):
        growing = (((cells > 0.5).sum(dim=(1, 2, 3, 4), keepdim=True)) < volumes).float()
        if i % 10 == 0 and not growing.any():
            break
        change = dt * cells * (room - cells)
        for axis, face in zip((2, 3, 4), faces, strict=True):
            _flow(change, cells, face, axis)
        cells = cells + growing * change
    return cells


def _face(mobility: Tensor, axis: int) -> Tensor:
    """Mobility between neighbours: the harmonic mean, so that nothing crosses fluid."""
    n = mobility.shape[axis]
    a, b = mobility.narrow(axis, 0, n - 1), mobility.narrow(axis, 1, n - 1)
    return 2.0 * a * b / (a + b + 1e-9)


def _flow(change: Tensor, cells: Tensor, face: Tensor, axis: int) -> None:
    """Add what flows through the faces across an axis: what one voxel gains its neighbour loses."""
    n = cells.shape[axis]
    flow = face * (cells.narrow(axis, 1, n - 1) - cells.narrow(axis, 0, n - 1))
    change.narrow(axis, 0, n - 1).add_(flow)
    change.narrow(axis, 1, n - 1).sub_(flow)


def _seep(core: Tensor, mobility: Tensor, steps: int = 60) -> Tensor:
    """Fluid that seeps from the core: 1 in it, and falling the farther it had to go."""
    faces = [_face(mobility, axis) for axis in (2, 3, 4)]
    fluid, wet = core.clone(), 0.16 / mobility.amax(dim=(1, 2, 3, 4), keepdim=True)
    for _ in range(steps):
        change = torch.zeros_like(fluid)
        for axis, face in zip((2, 3, 4), faces, strict=True):
            _flow(change, fluid, face * wet, axis)
        fluid = torch.maximum(fluid + change, core)
    return torch.log(fluid.clamp(min=1e-8))


def _top(field: Tensor, voxels: Tensor) -> Tensor:
    """1 in as many voxels as asked for, those of the highest values."""
    return (field >= _level(field, voxels)).float()


def _level(field: Tensor, voxels: Tensor) -> Float[Tensor, "b 1 1 1 1"]:
    """The value that as many voxels reach, each case its own number."""
    flat = field.flatten(1)
    most = int(min(float(voxels.max()), flat.shape[1] - 1)) + 1
    ranked = flat.topk(most, dim=1).values
    place = voxels.reshape(-1, 1).long().clamp(0, most - 1)
    return ranked.gather(1, place).reshape(-1, 1, 1, 1, 1)


def _blur(field: Tensor, times: int) -> Tensor:
    for _ in range(times):
        field = F.avg_pool3d(field, 3, stride=1, padding=1)
    return field


def _slope(field: Tensor, axis: int) -> Tensor:
    return (field.roll(-1, axis) - field.roll(1, axis)) / 2.0


def paint(grown: Growth, anatomy: Anatomy, findings: Sequence[Findings], chance: Chance) -> Tumour:
    """What the tumours are made of on the fine grid: volumes and shares as drawn, borders rough with noise."""
    size, spacing = chance.grid.shape, chance.grid.spacing[0]
    core, middle, seeping = (
        F.interpolate(x, size=size, mode="trilinear", align_corners=False)
        for x in (grown.core, _blur(grown.core, 2), grown.seeping)
    )
    noise = torch.cat([chance.field(s, 1) for s in (14.0, 7.0, 4.0)], dim=1)
    fine = torch.cat([chance.field(s, 1) for s in (9.0, 5.0, 3.0)], dim=1)
    voxels = _row([f.volume_ml for f in findings], core) * 1000.0 / spacing**3
    border = _row([f.front_mm for f in findings], core)
    inside = torch.sigmoid(anatomy.depth - 0.5)
    solid = 1.0 - anatomy.tissues[:, 0:1] * torch.sigmoid(
        (8.0 - anatomy.beside) / 2.0
    )  # ventricles stay clear
    field = (
        core.clamp(min=1e-6).log()
        + 2.5 * middle
        + 0.8 * noise[:, 0:1]
        + 0.45 * noise[:, 1:2]
        + 0.15 * noise[:, 2:]
    )
    share = _row([f.core_share for f in findings], core)
    core_ = _ramp(field + 4.0 * (solid * inside - 1.0), voxels * share, 0.6 * border + 0.5) * solid * inside
    wet = anatomy.tissues[:, 2:] + 0.35 * anatomy.tissues[:, 1:2]
    far = chance.uniform(
        0.45, 1.0, 1, 1, 1, 1
    )  # some oedema is a rim, some runs along the tracts to another lobe
    uneven = 0.3 * noise[:, 0:1] + 0.2 * noise[:, 1:2] + 0.12 * noise[:, 2:]
    uneven = uneven + chance.uniform(0.1, 0.8, 1, 1, 1, 1) * chance.field(32.0, 1)
    reach = (
        -far * torch.sqrt((-seeping).clamp(min=0.0)) + 0.9 * wet * inside + uneven
    )  # the root is like a distance
    reach = torch.where(core_ > 0.5, reach.amax(dim=(2, 3, 4), keepdim=True), reach)
    oedema = _ramp(reach, voxels, 2.0) * inside * (1.0 - anatomy.tissues[:, 0:1])
    hollow = F.interpolate(_blur(F.avg_pool3d(core_, 2), 2), size=size, mode="trilinear", align_corners=False)
    hollow = hollow + 0.09 * fine[:, 0:1] + 0.05 * fine[:, 1:2]
    necrotic = _row([f.necrosis for f in findings], core)
    necrosis = core_ * _ramp(hollow + 4.0 * (core_ - 1.0), voxels * share * necrotic, 1.2) * (necrotic > 0)
    enhancing = core_ * (1.0 - necrosis) * _perfused(findings, fine, chance)
    density = torch.exp((seeping * 0.25).clamp(max=0.0))
    return Tumour(torch.maximum(oedema, core_), core_, necrosis, enhancing, density)


def _ramp(field: Tensor, voxels: Tensor, width_voxels: Tensor | float) -> Tensor:
    """A soft mask of as many voxels as asked for: those of the highest values."""
    level = _level(field, voxels)
    near = torch.exp(-(((field - level) / 0.15) ** 2))
    slopes = [_slope(field, axis).square_() for axis in (2, 3, 4)]
    steep = (
        (near * torch.sqrt(slopes[0] + slopes[1] + slopes[2] + 1e-12)).sum(dim=(1, 2, 3, 4), keepdim=True)
    ) / (near.sum(dim=(1, 2, 3, 4), keepdim=True) + 1e-6)
    return (0.5 + (field - level) / (steep * width_voxels + 1e-6)).clamp(0.0, 1.0)


_PERFUSED: Final = {"none": 0.0, "faint": 0.25, "patchy": 0.5, "solid": 0.92, "ring": 0.95}
"""Share of the living core that takes up contrast medium."""


def _perfused(findings: Sequence[Findings], fine: Tensor, chance: Chance) -> Tensor:
    share = _row([_PERFUSED[f.enhancement] for f in findings], fine)
    share = (share + share * (1 - share) * 1.2 * chance.uniform(-1.0, 1.0, 1, 1, 1, 1)).clamp(0.0, 0.995)
    level = torch.special.ndtri(1.0 - share.clamp(min=1e-4))
    patches = (0.8 * fine[:, 0:1] + 0.6 * fine[:, 1:2] - level) / 0.25
    return torch.sigmoid(patches) * (share > 0)
