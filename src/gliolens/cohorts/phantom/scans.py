"""From drawn patients to their scans, in batches, on a CPU or a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gliolens.case import Grid
from gliolens.cohorts.phantom.anatomy import Anatomy, coarse_step, make_anatomy, place_heads
from gliolens.cohorts.phantom.chance import Chance
from gliolens.cohorts.phantom.growth import Tumour, grow, paint
from gliolens.cohorts.phantom.scanner import cover, scan, strip
from gliolens.cohorts.phantom.signal import draw_signals
from gliolens.cohorts.phantom.tissues import TISSUES, compose
from gliolens.cohorts.phantom.traits import Findings, PhantomTraits
from gliolens.labels import ENHANCING, NECROTIC, OEDEMA, SERIES

_HEAD, _TUMOUR, _TISSUES, _SIGNAL, _SCAN, _SITE = range(10, 16)  # a stream of random numbers for each purpose
_NO_TUMOUR: Final = Findings(
    volume_ml=4.0, core_share=0.5, enhancement="none", necrosis=0.0, front_mm=2.0, lobe="frontal", cortical=False,
    mismatch=False, calcified=False, cystic=False, bleeding=False, foci=1,
)  # fmt: skip
"""Grown in the healthy of a batch and thrown away, so that a batch stays one array."""


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans of a batch.

    Attributes:
        series: intensities (b, 4, D, H, W) in the order of `labels.SERIES`, 0 where blanked.
        labels: tumour labels (b, D, H, W), uint8, inside what is kept.
        brain: true brain (b, D, H, W), bool.
        kept: what the skull strip kept, or all that is not air (b, D, H, W), bool.
    """

    series: Tensor
    labels: Tensor
    brain: Tensor
    kept: Tensor


def make_scans(
    patients: Sequence[PhantomTraits],
    grid: Grid,
    *,
    skull: Sequence[bool] | None = None,
    strange: Sequence[float] | None = None,
    device: str | torch.device = "cpu",
) -> Scans:
    """Make the four scans of each patient; a patient's scans do not depend on the batch.

    Args:
        patients: whose.
        grid: where, as `anatomy.head_grid` gives it.
        skull: for each, whether the skull is left on; stripped where not given.
        strange: for each, how much the brightness of tissues departs from what the signal equations give, as a
            multiple of what is usual (`signal.draw_signals`); 1 where not given.
        device: where to compute.
    """
    place = torch.device(device)
    chance = {stream: Chance([(*p.seed, stream) for p in patients], grid, place) for stream in range(10, 15)}
    site = Chance([(_SITE, *p.site.encode()) for p in patients], grid, place)
    with_skull = _column(skull or [False] * len(patients), place)
    findings = [p.findings for p in patients]
    anatomy, tumour = _bodies(
        findings, _column([p.age for p in patients], place), chance[_HEAD], chance[_TUMOUR]
    )
    shares = compose(anatomy, tumour, findings, with_skull, chance[_TISSUES])
    unlike = _column(strange or [1.0] * len(patients), place)[..., 0, 0]
    signals = draw_signals(findings, chance[_SIGNAL], site, unlike)
    signal = torch.einsum("bsk,bkdhw->bsdhw", signals, shares)
    rough = 1.0 + 2.0 * (tumour.core if tumour else 0.0)  # tumours are less even than brain
    signal = signal * (1.0 + 0.025 * rough * chance[_SCAN].field(2.5 * grid.spacing[0], 1))
    signal = signal * (
        1.0 + 0.05 * (1.0 - shares[:, :1]) * chance[_SCAN].field(20.0, len(SERIES))
    )  # from gyrus to gyrus
    kept = _kept(shares, anatomy.depth, with_skull, chance[_SCAN])
    series = scan(signal, kept, with_skull, chance[_SCAN], site)
    return Scans(series, _labels(tumour, kept), anatomy.depth[:, 0] > 0, kept[:, 0] > 0)


def _column(numbers: Sequence[float], place: torch.device) -> Tensor:
    return torch.tensor([float(n) for n in numbers], device=place).reshape(-1, 1, 1, 1, 1)


def _bodies(
    findings: Sequence[Findings | None], age: Tensor, head: Chance, growth: Chance
) -> tuple[Anatomy, Tumour | None]:
    """Brains, pushed aside by the tumours in them."""
    grid = head.grid
    where, folds = place_heads(head, age), torch.cat([head.field(4.0, 1), head.field(8.0, 1)], dim=1)
    if not any(findings):
        return make_anatomy(where, folds, age, grid.spacing[0]), None
    step, all_findings = coarse_step(grid.spacing[0]), [f or _NO_TUMOUR for f in findings]
    coarse = make_anatomy(F.avg_pool3d(where, step), F.avg_pool3d(folds, step), age, grid.spacing[0])
    grown = grow(coarse, all_findings, growth)
    present = _column([f is not None for f in findings], age.device)
    push = F.interpolate(grown.push, size=grid.shape, mode="trilinear", align_corners=False) * present
    anatomy = make_anatomy(where - push * _mirrored(where), folds, age, grid.spacing[0])
    tumour = paint(grown, anatomy, all_findings, growth)
    shares = ("swelling", "core", "necrosis", "enhancing")
    return anatomy, replace(tumour, **{name: getattr(tumour, name) * present for name in shares})


def _mirrored(where: Tensor) -> Tensor:
    """For each case the sign of the template's axes in it (b, 3, 1, 1, 1): heads may be mirrored left to right."""
    right = torch.sign(where[:, 0, -1].mean(dim=(1, 2)) - where[:, 0, 0].mean(dim=(1, 2)))
    return torch.stack([right, torch.ones_like(right), torch.ones_like(right)], dim=1).reshape(-1, 3, 1, 1, 1)


def _kept(shares: Tensor, depth: Tensor, skull: Tensor, chance: Chance) -> Tensor:
    air = shares[:, TISSUES.index("air")][:, None]
    return cover(torch.where(skull > 0, (air < 0.5).float(), strip(depth, chance)), chance)


def _labels(tumour: Tumour | None, kept: Tensor) -> Tensor:
    labels = torch.zeros(kept[:, 0].shape, dtype=torch.uint8, device=kept.device)
    if tumour is None:
        return labels
    inside = kept[:, 0] > 0
    labels[(tumour.swelling[:, 0] > 0.5) & inside] = OEDEMA
    labels[(tumour.core[:, 0] > 0.5) & inside] = NECROTIC
    labels[(tumour.enhancing[:, 0] > 0.5) & inside] = ENHANCING
    return labels
