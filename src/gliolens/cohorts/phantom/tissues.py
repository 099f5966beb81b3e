"""What each voxel of a simulated head holds: healthy tissue, what is bright in the healthy, and the tumour."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from gliolens.cohorts.phantom.anatomy import Anatomy
from gliolens.cohorts.phantom.chance import Chance
from gliolens.cohorts.phantom.growth import Tumour
from gliolens.cohorts.phantom.traits import Findings

TISSUES: Final = (
    "fluid", "grey", "white", "deep grey", "pallidum", "white matter change", "choroid plexus", "vessel", "dura",
    "fat", "muscle", "bone", "oedema", "solid", "enhancing", "necrosis", "fresh blood", "old blood", "calcium", "air",
)  # fmt: skip
"""Tissues a voxel can hold, in the order of the channels."""
_AT: Final = {name: i for i, name in enumerate(TISSUES)}
_DEEP_GREY_MM: Final = (
    ((12.0, 12.0, 9.0), (7.0, 13.0, 10.0)),  # caudate head
    ((26.0, 2.0, 1.0), (7.0, 17.0, 10.0)),  # putamen
    ((11.0, -18.0, 8.0), (9.0, 14.0, 9.0)),  # thalamus
)
_PALLIDUM_MM: Final = ((19.0, -4.0, -1.0), (5.0, 8.0, 6.0))
_ATRIUM_MM: Final = (25.0, -40.0, 14.0)
_EYE_MM: Final = (33.0, 58.0, -36.0)


def compose(
    anatomy: Anatomy,
    tumour: Tumour | None,
    findings: Sequence[Findings | None],
    skull: Tensor,
    chance: Chance,
) -> Float[Tensor, "b k d h w"]:
    """Shares of every tissue of `TISSUES`, which sum to 1.

    Args:
        anatomy: the brains.
        tumour: the tumours; None where the batch is healthy.
        findings: of each case.
        skull: 1 for a head with skull, 0 for a brain that was stripped (b, 1, 1, 1, 1).
        chance: random numbers.
    """
    shares = torch.zeros(len(skull), len(TISSUES), *chance.grid.shape, device=skull.device)
    shares[:, :3] = anatomy.tissues
    folded = anatomy.where.clone()
    folded[:, 0:1].abs_()  # left and right alike
    for middle, radii in _DEEP_GREY_MM:
        _turn(shares, "grey", "deep grey", _ball(folded, middle, radii))
    inner = _ball(folded, *_PALLIDUM_MM)
    _turn(shares, "grey", "pallidum", inner)
    _turn(shares, "white", "pallidum", 0.6 * inner)
    _age(shares, anatomy, chance)
    _light_up(shares, anatomy, folded, chance)
    _clothe(shares, anatomy, folded, skull, chance)
    if tumour is not None:
        _paint_tumour(shares, tumour, findings, chance)
    return shares


def _ball(at: Tensor, middle: tuple[float, float, float], radii: tuple[float, float, float]) -> Tensor:
    """1 inside an ellipsoid, 0 outside, with a soft border (b, 1, D, H, W)."""
    m, r = (torch.tensor(v).to(at).reshape(1, 3, 1, 1, 1) for v in (middle, radii))
    return torch.sigmoid((1.0 - (((at - m) / r) ** 2).sum(dim=1, keepdim=True)) * 5.0)


def _turn(shares: Tensor, old: str, new: str, part: Tensor) -> None:
    """A part (b, 1, D, H, W) of what is one tissue is another."""
    moved = shares[:, _AT[old]] * part[:, 0]
    shares[:, _AT[old]] -= moved
    shares[:, _AT[new]] += moved


def _paint(shares: Tensor, *layers: tuple[str, Tensor]) -> None:
    """Parts (b, 1, D, H, W) of every voxel are these tissues, whatever they were; each layer lies over those before."""
    through, seen = torch.ones_like(layers[0][1]), []
    for name, part in reversed(layers):
        seen.append((name, through * part))
        through = through * (1.0 - part)
    shares *= through  # once for all layers: it touches every tissue of every voxel
    for name, part in seen:
        shares[:, _AT[name]] += part[:, 0]


def _age(shares: Tensor, anatomy: Anatomy, chance: Chance) -> None:
    """Caps and bands along the ventricles, and spots in deep white matter, which grow with age."""
    old = ((anatomy.age - 35.0) / 40.0).clamp(0.05, 1.3)
    wide = 1.0 + 9.0 * old * chance.uniform(0.0, 1.0, 1, 1, 1, 1) ** 2.5
    noise = chance.field(7.0, 2)
    rim = torch.sigmoid((wide * (1.0 + 0.45 * noise[:, 0:1]) - anatomy.beside) / 1.2)
    spots = torch.sigmoid((noise[:, 1:2] - (3.4 - 1.5 * old * chance.uniform(0.0, 1.0, 1, 1, 1, 1))) / 0.2)
    # White matter that has been pushed and folded is not spared, but the brainstem and cerebellum mostly are.
    above = torch.sigmoid((anatomy.where[:, 2:3] + 8.0) / 4.0)
    strength = chance.uniform(0.35, 1.0, 1, 1, 1, 1)
    _turn(shares, "white", "white matter change", (rim + spots).clamp(0.0, 1.0) * above * strength)


def _light_up(shares: Tensor, anatomy: Anatomy, folded: Tensor, chance: Chance) -> None:
    """Choroid plexus, vessels in the sulci and the venous sinuses: bright with contrast medium in everyone."""
    x, y, z = folded.unbind(1)
    noise = chance.field(4.5, 3)
    near = _ball(folded, _ATRIUM_MM, (10.0, 13.0, 13.0)) + 0.5 * _ball(
        folded, (9.0, -8.0, 18.0), (8.0, 20.0, 5.0)
    )
    tuft = torch.sigmoid((noise[:, 0:1] + 1.2 * near - 1.0) / 0.2) * (near > 0.1)
    _turn(shares, "fluid", "choroid plexus", tuft * torch.sigmoid(-anatomy.beside))
    size = chance.uniform(0.01, 0.05, 1, 1, 1, 1)
    tubes = torch.exp(-(noise[:, 1:2] ** 2 + noise[:, 2:3] ** 2) / size)
    _turn(shares, "fluid", "vessel", tubes)
    _turn(shares, "grey", "vessel", 0.35 * tubes)
    width = chance.uniform(1.5, 4.0, 1, 1, 1)
    rough = noise[:, 0]
    depth = anatomy.depth[:, 0]
    shell = torch.sigmoid((5.0 + 1.5 * rough - depth.abs()) / 0.8)
    sagittal = torch.sigmoid((width + rough - x) / 0.6) * shell * ((z > 5.0) | (y < -60.0))
    across = torch.sigmoid((4.0 + rough - (z + 14.0 + 0.15 * y + 12.0).abs()) / 0.8) * shell * (y < -50.0)
    falx = 0.5 * torch.sigmoid((0.8 + 0.4 * rough - x) / 0.4) * (z > 20.0) * chance.happens(0.5, 1, 1, 1)
    sinus = (sagittal + across + falx).clamp(0.0, 1.0)[:, None]
    _turn(shares, "fluid", "vessel", sinus)
    _turn(shares, "grey", "vessel", 0.5 * sinus)


def _clothe(shares: Tensor, anatomy: Anatomy, folded: Tensor, skull: Tensor, chance: Chance) -> None:
    """Outside the brain: dura, bone with marrow, muscle, fat and eyes; air beyond."""
    depth = anatomy.depth
    noise = chance.field(10.0, 2)
    low = torch.sigmoid(-(folded[:, 2:3] + 30.0) / 4.0)
    bone_mm = chance.uniform(4.0, 8.0, 1, 1, 1, 1) * (1 + 0.25 * noise[:, 0:1])
    scalp_mm = chance.uniform(3.0, 8.0, 1, 1, 1, 1) + 22.0 * low
    out = -depth
    marrow = torch.exp(-(((out - 2.5 - bone_mm / 2) / (0.2 * bone_mm)) ** 2))
    beyond = torch.sigmoid((out - 2.5 - bone_mm) / 0.7)
    sinus = (
        torch.sigmoid((noise[:, 0:1] + noise[:, 1:2] - 1.6) / 0.2)
        * low
        * torch.sigmoid((folded[:, 1:2] - 20.0) / 4)
    )
    _paint(
        shares,
        ("fluid", torch.sigmoid(out / 0.5)),
        ("dura", torch.sigmoid((out - 1.0) / 0.5)),
        ("bone", torch.sigmoid((out - 2.5) / 0.6)),
        ("fat", 0.7 * marrow * torch.sigmoid((out - 2.5) / 0.6)),
        ("fat", beyond),
        ("muscle", beyond * torch.sigmoid((noise[:, 1:2] + 1.5 * low - 0.6) / 0.3)),
        ("fluid", _ball(folded, _EYE_MM, (13.0, 13.0, 13.0)) * (out > 1.0)),
        ("air", torch.sigmoid((out - 2.5 - bone_mm - scalp_mm) / 0.6)),
        ("air", sinus * (out > 3.0) * skull),
    )


def _paint_tumour(
    shares: Tensor, tumour: Tumour, findings: Sequence[Findings | None], chance: Chance
) -> None:
    def share(*names: str) -> Tensor:
        numbers = [[float(bool(f and getattr(f, n))) for n in names] for f in findings]
        return torch.tensor(numbers).to(shares).prod(dim=1).reshape(-1, 1, 1, 1, 1)

    noise = chance.field(6.0, 3)
    thin = chance.uniform(0.4, 1.0, 1, 1, 1, 1)
    dense = thin + (1.05 - thin) * tumour.density + 0.10 * noise[:, 0:1]
    cysts = torch.sigmoid((noise[:, 2:3] - 0.7) / 0.15) * share("cystic")
    bleeds = torch.sigmoid((noise[:, 0:1] - 1.1) / 0.2) * share("bleeding") * tumour.core
    fresh = chance.happens(0.6, 1, 1, 1, 1)
    specks = torch.sigmoid((noise[:, 1:2] - 1.2) / 0.15) * share("calcified") * tumour.core
    _paint(
        shares,
        ("oedema", tumour.swelling * dense.clamp(0.4, 1.0)),
        ("solid", tumour.core * (0.93 + 0.1 * noise[:, 1:2]).clamp(0.6, 1.0)),
        ("necrosis", tumour.necrosis),
        ("necrosis", cysts * tumour.core * (1.0 - tumour.enhancing)),
        ("enhancing", tumour.enhancing),
        ("fresh blood", 0.8 * bleeds * fresh),
        ("old blood", 0.8 * bleeds * (1.0 - fresh)),
        ("calcium", 0.85 * specks),
    )
