"""The tumour's outline drawn by a network: what it sees, what it answers, and how its weights are kept.

The network sees every series on a grid of 2 mm, and beside each series whether it is there at all. It tells four
regions of every voxel: whole tumour, core, enhancing tumour, brain. `Outliner.outline` brings the answer back to
the case's own grid.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor

from gliolens.case import Case, Grid, Volume
from gliolens.errors import CaseError, ModelError
from gliolens.foreground import foreground_of
from gliolens.io.store import content_hash, file_hash, read_json, whole_file, write_json
from gliolens.labels import ENHANCING, NECROTIC, OEDEMA, REGIONS, SERIES
from gliolens.nn.precision import has_bfloat16
from gliolens.nn.unet import UNet
from gliolens.ops.geometry import bounding_box, crop, with_spacing
from gliolens.ops.zoom import zoom
from gliolens.types import Image, Labels, Mask

BUILT_IN: Final = Path(__file__).parent / "weights" / "outline"
"""Where the weights of the package lie."""
OUTPUTS: Final = (*REGIONS, "brain")
"""What the network tells of each voxel, in the order of its channels: whole, core, enhancing, brain."""
VERSION: Final = 1
"""Raised whenever the same weights would draw otherwise."""

_FORMAT = "gliolens-outline"
_CLIP = 5.0  # standard deviations
_TRAINED_IN = (80, 96, 80)  # voxels; zeros at the edges tell a network where it is


@dataclass(frozen=True, eq=False)
class Outline:
    """A tumour as a network draws it, on the case's grid.

    Attributes:
        labels: 0 background, 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing.
        probabilities: of `whole`, `core` and `enhancing`, 0 to 1.
        brain: the brain as the network sees it.
        missing: series the network was trained with and the case lacks.
    """

    labels: Labels
    probabilities: Mapping[str, Image]
    brain: Mask
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Outliner:
    """A trained network with its card; `read_outliner` makes one.

    Attributes:
        net: from `(B, 8, D, H, W)` to the logits of `OUTPUTS`.
        card: how it was trained, what it needs, and how well it did.
    """

    net: UNet
    card: Mapping[str, Any]

    @property
    def precision(self) -> str:
        """What it computes in, and on what: machines that differ in it draw slightly other outlines."""
        kind = "bfloat16" if has_bfloat16() else "float32"
        return f"{kind} on {next(self.net.parameters()).device.type}"

    def outline(self, case: Case) -> Outline:
        """Draw the tumour of a case; any grid, any scale of intensities, any series that are there.

        Raises:
            CaseError: the case has no series, no foreground, or a series without contrast.
        """
        seen = foreground_of(case)
        if not seen.any():
            raise _refusal(
                case, "no voxel that holds tissue" if case.brain is None else "an empty brain mask"
            )
        box = bounding_box(seen)
        near = crop(Volume(seen, case.grid.affine), box)
        grid = with_spacing(near.grid, (self.card["spacing_mm"],) * 3)
        image = network_input(*_on_grid(case, near, box, grid), self.card["series"])
        answer = _probabilities(self.net, image, self.card["flips"])
        brain = zoom(_solid(answer[-1]).astype(np.float32), grid, near.grid) >= 0.5
        within = brain & near.voxels
        nearby = [np.where(within, zoom(p, grid, near.grid), np.float32(0)) for p in answer[:-1]]
        drawn = draw(
            dict(zip(REGIONS, nearby, strict=True)),
            within,
            self.card["thresholds"],
            least_voxels=self.card["least_ml"] / case.grid.voxel_ml,
        )
        return Outline(
            labels=_whole(drawn, box, case.grid),
            probabilities={n: _whole(p, box, case.grid) for n, p in zip(REGIONS, nearby, strict=True)},
            brain=_whole(within, box, case.grid),
            missing=tuple(s for s in SERIES if s in self.card["series"] and s not in case.series),
        )


# --- what the network sees -------------------------------------------------------------------------------------


def network_input(
    series: Mapping[str, Float[Tensor, "*batch d h w"]],
    foreground: Bool[Tensor, "*batch d h w"],
    order: Sequence[str],
) -> Float[Tensor, "*batch channels d h w"]:
    """Make what the network sees of series on its own grid, in training as in use.

    Args:
        series: by name; those that are missing are left out. Values outside the foreground do not matter.
        foreground: voxels that hold tissue.
        order: the series in the network's order.

    Returns:
        First each series with mean 0 and standard deviation 1 over the foreground, clipped to -5 to 5, 0 outside
        it (all over where the series is missing or has no contrast); then, for each series, 1 in every voxel where
        it is there and 0 where it is missing.
    """
    inside = foreground.to(next(iter(series.values())).dtype)
    count = inside.sum(dim=(-3, -2, -1), keepdim=True).clamp_min(1)
    images, there = [], []
    for name in order:
        given = name in series
        images.append(_standard(series[name], inside, count) if given else torch.zeros_like(inside))
        there.append(torch.full_like(inside, float(given)))
    return torch.stack([*images, *there], dim=-4)


def _standard(image: Tensor, inside: Tensor, count: Tensor) -> Tensor:
    axes = (-3, -2, -1)
    centred = (image - (image * inside).sum(dim=axes, keepdim=True) / count) * inside
    spread = (centred.square().sum(dim=axes, keepdim=True) / count).sqrt()
    return (centred / spread.clamp_min(torch.finfo(image.dtype).tiny)).clamp(-_CLIP, _CLIP)


def _on_grid(
    case: Case, near: Volume, box: tuple[slice, slice, slice], grid: Grid
) -> tuple[dict[str, Tensor], Tensor]:
    """The series and the foreground on the network's grid; averages are over tissue only."""
    share = zoom(near.voxels.astype(np.float32), near.grid, grid)
    inside, series = share >= 0.5, {}
    for name, image in case.series.items():
        part = np.where(near.voxels, image[box], np.float32(0))
        level = part.sum(dtype=np.float64) / np.count_nonzero(near.voxels)
        centred = np.where(near.voxels, part - np.float32(level), np.float32(0))
        if not centred.any():
            raise _refusal(case, f"{name} without contrast in the foreground")
        mean = zoom(centred, near.grid, grid) / np.maximum(share, np.float32(1e-6))
        series[name] = torch.from_numpy(np.where(inside, mean, np.float32(0)))
    return series, torch.from_numpy(inside)


def _refusal(case: Case, found: str) -> CaseError:
    return CaseError(
        case.id,
        found=found,
        expected="images with contrast where there is tissue",
        fix="look at the files; export them again, leave an empty series out, or correct the brain mask",
    )


# --- what the network answers ----------------------------------------------------------------------------------


@torch.inference_mode()
def _probabilities(net: UNet, image: Tensor, axes: Sequence[int]) -> list[Image]:
    """Probability of each output, `(D, H, W)`: the mean over every set of flipped axes."""
    flips = [tuple(a + 2 for a in f) for n in range(len(axes) + 1) for f in combinations(axes, n)]
    device = next(net.parameters()).device
    size = image.shape[1:]
    room = _room(size, 2 ** len(net.down))
    start = [(r - n) // 2 for r, n in zip(room, size, strict=True)]
    ends = zip(reversed(room), reversed(size), reversed(start), strict=True)
    padding = [v for r, n, low in ends for v in (low, r - n - low)]
    given = torch.nn.functional.pad(image, padding)[None]
    there = len(image) // 2  # the channels from here on say whether a series is there: in the air around too
    given[0, there:] = image[there:, :1, :1, :1]
    given = given.to(device)
    total = torch.zeros(())
    for flip in flips:
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16()):
            logits = net(given.flip(flip)).flip(flip)
        total = total + torch.sigmoid(logits[0].float()).cpu() / len(flips)
    d, h, w = (slice(low, low + n) for low, n in zip(start, size, strict=True))
    return list(total[:, d, h, w].numpy())


def _room(size: Sequence[int], edge: int) -> list[int]:
    """Voxels of the image the network is given: the head in the middle of as much air as in training, or more."""
    return [max(n + -n % edge, least + -least % edge) for n, least in zip(size, _TRAINED_IN, strict=True)]


def _solid(brain: Image) -> Mask:
    """The brain: the largest piece of what is more likely brain than not, without holes."""
    pieces, n = ndimage.label(brain > 0.5)
    if n == 0:
        return np.zeros(brain.shape, bool)
    return np.asarray(ndimage.binary_fill_holes(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()))


def draw(
    probabilities: Mapping[str, Image],
    within: Mask,
    thresholds: Mapping[str, float],
    least_voxels: float = 0.0,
) -> Labels:
    """Make labels of probabilities.

    Args:
        probabilities: of `whole`, `core` and `enhancing`, each `(D, H, W)`, 0 to 1.
        within: where tumour may lie.
        thresholds: least probability of each region.
        least_voxels: pieces of the whole tumour smaller than this are left out.

    Returns:
        Labels: enhancing tumour lies in the core and the core in the whole tumour, as the regions nest.
    """
    whole = (probabilities["whole"] >= thresholds["whole"]) & within
    pieces, _ = ndimage.label(whole, structure=np.ones((3, 3, 3)))
    large = np.bincount(pieces.ravel()) >= least_voxels
    large[0] = False
    whole = large[pieces]
    core = whole & (probabilities["core"] >= thresholds["core"])
    enhancing = core & (probabilities["enhancing"] >= thresholds["enhancing"])
    labels: Labels = np.where(whole, np.uint8(OEDEMA), np.uint8(0))
    labels[core] = NECROTIC
    labels[enhancing] = ENHANCING
    return labels


def _whole(part: Any, box: tuple[slice, slice, slice], grid: Grid) -> Any:
    """An array in the box of a grid, 0 around it."""
    out = np.zeros(grid.shape, part.dtype)
    out[box] = part
    return out


# --- how weights are kept --------------------------------------------------------------------------------------


def write_outliner(folder: Path, net: UNet, card: Mapping[str, Any]) -> None:
    """Write `weights.safetensors` (float16) and `card.json` with the hashes of both.

    Args:
        folder: where to; made where it is not there.
        net: the trained network.
        card: `widths`, `series`, `spacing_mm`, `thresholds`, `least_ml`, `flips`, `trained_on`, and what else is
            known: `steps`, `hours`, `device`, `seed`, `finished`, `scores` on real cases (rows of `cohort`,
            `region`, `n`, `dice`, `low`, `high`), `scores_note`, a sentence below them on the page, and
            `doubt_check`, the Dice the network expected of itself beside the real one (rows of `case`, `own`, `real`).

    Raises:
        ModelError: the card lacks what the network needs to be used, or holds what cannot be shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_card(folder / "card.json", card, "correct the card that is given to write_outliner")
    weights = folder / "weights.safetensors"
    with whole_file(weights) as unfinished:
        save_file({k: v.detach().half().cpu().contiguous() for k, v in net.state_dict().items()}, unfinished)
    kept = {k: v for k, v in card.items() if k != "sha256_card"}
    kept |= {"format": _FORMAT, "version": VERSION, "sha256": file_hash(weights)}
    write_json(folder / "card.json", kept | {"sha256_card": content_hash(kept)})


def read_outliner(folder: Path | None = None) -> Outliner:
    """Read a trained network; the built-in one where no folder is named.

    Raises:
        ModelError: there is none, a hash is wrong, or the card and the weights do not fit.
    """
    place = folder or BUILT_IN
    card, weights = read_card(place), place / "weights.safetensors"
    if not weights.is_file() or file_hash(weights) != card["sha256"]:
        raise ModelError(
            f"{weights}: found {'other' if weights.is_file() else 'no'} weights than the card's sha256 "
            f"{str(card['sha256'])[:16]}; {_mend(folder)}"
        )
    net = UNet(inputs=2 * len(card["series"]), outputs=len(OUTPUTS), widths=card["widths"])
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"{weights}: does not fit the card beside it ({error}); {_mend(folder)}") from error
    net.eval().requires_grad_(False)
    return Outliner(net.to("cuda" if torch.cuda.is_available() else "cpu"), card)


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of an outline network and check that nobody changed it.

    Raises:
        ModelError: there is none, it is of another kind or version, incomplete, or changed after it was written.
    """
    file = folder / "card.json"
    named = None if folder == BUILT_IN else folder
    if not file.is_file():
        raise ModelError(f"{folder}: no trained outline network here (card.json); {_mend(named)}")
    card = read_json(file)
    kind = (card.get("format"), card.get("version"))
    if kind != (_FORMAT, VERSION):
        raise ModelError(f"{file}: found {kind}, expected {(_FORMAT, VERSION)}; {_mend(named)}")
    written = {k: v for k, v in card.items() if k != "sha256_card"}
    if card.get("sha256_card") != content_hash(written):
        raise ModelError(f"{file}: was changed after it was written; {_mend(named)}")
    _check_card(file, card, _mend(named))
    return card


def _mend(folder: Path | None) -> str:
    if folder is None:
        return "make the built-in weights with `make weights`, or name others with --outline FOLDER"
    return "name another folder with --outline, or none to use the built-in weights"


def _number(value: Any, low: float = 0.0, high: float = math.inf, kind: type[float] = float) -> bool:
    known = isinstance(value, kind) or type(value) is int
    return known and not isinstance(value, bool) and bool(low <= value <= high)


def _share(value: Any) -> bool:
    return value is None or _number(value, 0, 1)


_NEEDED: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = MappingProxyType({
    "widths": ("channels of each level", lambda v: bool(v) and all(_number(w, 1, kind=int) for w in v)),
    "series": ("a permutation of t1, t1ce, t2, flair", lambda v: sorted(v) == sorted(SERIES)),
    "spacing_mm": ("millimetres, above 0", lambda v: _number(v) and v > 0),
    "thresholds": ("whole, core and enhancing, each between 0 and 1",
                   lambda v: v.keys() == REGIONS.keys() and all(0 < t < 1 for t in v.values())),
    "least_ml": ("millilitres, 0 or more", _number),
    "flips": ("axes of (D, H, W) over whose flips the answer is averaged",
              lambda v: set(v) <= {0, 1, 2} and len(set(v)) == len(v)),
    "trained_on": ("words", lambda v: isinstance(v, str)),
})  # fmt: skip
_OPTIONAL: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = MappingProxyType({
    "hours": ("hours, 0 or more", _number),
    "steps": ("a whole number, 0 or more", lambda v: _number(v, kind=int)),
    "scores": ("rows of cohort, region (whole, core or enhancing), n and dice", lambda v: all(
        isinstance(r["cohort"], str) and r["region"] in REGIONS and _number(r["n"], 1, kind=int)
        and all(map(_share, (r["dice"], r.get("low"), r.get("high")))) for r in v)),
    "scores_note": ("words", lambda v: isinstance(v, str)),
    "doubt_check": ("rows of case, own and real",
                    lambda v: all(r["case"] and _share(r["own"]) and _share(r["real"]) for r in v)),
})  # fmt: skip


def _check_card(file: Path, card: Mapping[str, Any], mend: str) -> None:
    missing = [f"{name} ({words})" for name, (words, _) in _NEEDED.items() if name not in card]
    if missing:
        raise ModelError(f"{file}: the card lacks {', '.join(missing)}; {mend}")
    given = {**_NEEDED, **{name: check for name, check in _OPTIONAL.items() if card.get(name) is not None}}
    wrong = [f"{n} {card[n]}, not {words}" for n, (words, fits) in given.items() if not _fits(fits, card[n])]
    if wrong:
        raise ModelError(f"{file}: found {'; '.join(wrong)}; {mend}")


def _fits(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return check(value)
    except (AttributeError, KeyError, TypeError):  # of another type, or a row that lacks something
        return False
