"""What a scanner makes of a simulated head: slices, blur, coils, motion, noise, units; and the skull strip."""

import torch
from jaxtyping import Float
from torch import Tensor

from gliolens.cohorts.phantom.chance import Chance, along_axes


def strip(depth: Float[Tensor, "b 1 d h w"], chance: Chance) -> Float[Tensor, "b 1 d h w"]:
    """A brain mask (1 or 0) as skull strips leave it: a little too wide or too narrow, with remnants here and there.

    Args:
        depth: millimetres below the brain's surface, negative outside.
        chance: random numbers.
    """
    off = chance.uniform(-2.5, 2.5, 1, 1, 1, 1) * chance.uniform(0.0, 1.0, 1, 1, 1, 1)
    noise = chance.field(14.0, 3)
    left = chance.uniform(2.0, 12.0, 1, 1, 1, 1) * torch.sigmoid((noise[:, 1:2] - 2.2) / 0.1)
    bitten = chance.uniform(3.0, 12.0, 1, 1, 1, 1) * torch.sigmoid((noise[:, 2:3] - 2.2) / 0.1)
    wrong = left * chance.happens(0.5, 1, 1, 1, 1) - bitten * chance.happens(0.25, 1, 1, 1, 1)
    return (depth + off + 0.8 * noise[:, 0:1] + wrong > 0.0).float()


def cover(kept: Float[Tensor, "b 1 d h w"], chance: Chance) -> Float[Tensor, "b 1 d h w"]:
    """What the slices cover: in one head of ten they end too early, below or above."""
    n, spacing = chance.grid.shape[2], chance.grid.spacing[2]
    height = torch.arange(n, device=kept.device) * spacing
    short = chance.happens(0.1, 1, 1, 1, 1)
    low, high = (short * chance.uniform(0.0, mm, 1, 1, 1, 1) for mm in (60.0, 25.0))
    return kept * ((height >= low) & (height <= n * spacing - high)).float()


def scan(
    signal: Float[Tensor, "b s d h w"],
    kept: Float[Tensor, "b 1 d h w"],
    skull: Float[Tensor, "b 1 1 1 1"],
    chance: Chance,
    site: Chance,
) -> Float[Tensor, "b s d h w"]:
    """Scans of what a perfect scanner would see, in units of their own; zero outside `kept` unless the skull is on.

    Args:
        signal: the perfect scans.
        kept: 1 where there is tissue, or what the skull strip kept of it.
        skull: 1 where the skull is left on: then nothing is blanked.
        chance: what differs between visits.
        site: what the hospital's scanner fixes: slices, sharpness, coils, noise.
    """
    b, s = signal.shape[:2]
    image = along_axes(signal, _slices(b, s, chance, site))
    coils = site.uniform(0.0, 0.28, s, 1, 1, 1) * site.uniform(0.0, 1.0, s, 1, 1, 1)
    image = image * torch.exp(coils * (chance.field(75.0, s) + 0.6 * chance.field(40.0, 1)))
    image = _move(image, chance)
    covered = kept.amax(dim=(2, 3), keepdim=True)
    level = (image * kept).sum(dim=(2, 3, 4), keepdim=True) / kept.sum(dim=(2, 3, 4), keepdim=True)
    noise = level * site.uniform(0.004, 0.045, s, 1, 1, 1)
    real, other = image + noise * chance.white(s), noise * chance.white(s)
    image = torch.sqrt(real**2 + other**2)
    units = site.uniform(300.0, 1500.0, s, 1, 1, 1) * torch.exp(0.15 * chance.normal(s, 1, 1, 1))
    return torch.clamp(torch.round(units * image), 1.0, 32767.0) * torch.maximum(kept, skull * covered)


def _slices(b: int, s: int, chance: Chance, site: Chance) -> list[Float[Tensor, "b s n n"]]:
    """For each axis the matrix that blurs, shifts, and cuts into thick slices read between by lines."""
    blur = site.uniform(0.4, 1.0, s)
    shift = 0.35 * chance.normal(3, s)
    alike = site.happens(0.2, 1)  # in one hospital of five all series have axial slices of one thickness
    thick = site.uniform(3.0, 6.5, s) * site.happens(0.3, s)
    thick = alike * site.uniform(3.0, 6.5, 1) + (1.0 - alike) * thick
    axial = torch.maximum(site.happens(0.7, s), alike)
    cut = torch.where(axial > 0, 2, site.happens(0.5, s).long())
    matrices = []
    for k, (n, spacing) in enumerate(zip(chance.grid.shape, chance.grid.spacing, strict=True)):
        along = torch.arange(n, device=chance.device) * spacing
        width = torch.where(cut == k, thick, torch.zeros_like(thick))
        matrices.append(_profile(along, blur, shift[:, k], width))
    return matrices


def _profile(along: Tensor, blur: Tensor, shift: Tensor, thick: Tensor) -> Float[Tensor, "b s n n"]:
    """Rows: where the image is read; columns: the voxels that count there, in shares that sum to 1."""

    def weights(at: Tensor, sd: Tensor) -> Tensor:
        w = torch.exp(-0.5 * ((at[..., None] - along) / sd[..., None, None]) ** 2) + 1e-12
        return w / w.sum(dim=-1, keepdim=True)

    here = along + shift[..., None]
    thin = weights(here, blur)
    step = thick.clamp(min=1.0)
    places = along[0] + step[..., None] * torch.arange(len(along), device=along.device) + shift[..., None]
    slabs = weights(places, torch.sqrt(blur**2 + (0.3 * step) ** 2))
    between = (1.0 - (along[:, None] - places[..., None, :]).abs() / step[..., None, None]).clamp(
        min=0.0
    ) + 1e-9
    read = torch.matmul(between / between.sum(dim=-1, keepdim=True), slabs)
    return torch.where((thick > 0)[..., None, None], read, thin)


def _move(image: Float[Tensor, "b s d h w"], chance: Chance) -> Float[Tensor, "b s d h w"]:
    """Ghosts of a head that moved: a faint copy, shifted along the phase axis, in one series of eight."""
    b, s = image.shape[:2]
    faint = chance.uniform(0.02, 0.10, s, 1, 1, 1) * chance.happens(0.12, s, 1, 1, 1)
    along, by = chance.happens(0.5, 1), chance.uniform(0.15, 0.5, 1)
    if not faint.any():
        return image
    n, m = image.shape[2], image.shape[3]
    ghosts = torch.stack(
        [image[i].roll(int(by[i] * n), 1) if along[i] else image[i].roll(int(by[i] * m), 2) for i in range(b)]
    )
    return (1.0 - faint) * image + faint * ghosts
