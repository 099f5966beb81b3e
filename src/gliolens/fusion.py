"""Two networks that outline a tumour, slice by slice and as a volume, and what joins them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import lightning as L  # noqa: N812
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from gliolens.errors import CohortError
from gliolens.io.store import read_json, write_json
from gliolens.labels import REGIONS
from gliolens.loader import Arrays
from gliolens.loop import finish, finished
from gliolens.nn.precision import has_bfloat16
from gliolens.nn.unet import UNet
from gliolens.progress import say
from gliolens.segmenter import tissue_weights
from gliolens.stats.segmentation import dice

AT_ONCE: Final = 16
"""Slices that go through a network together."""


class Weigher(nn.Module):
    """How much the 2-D network counts at each voxel, from what both answer there.

    Args:
        tissues: how many are told apart.
    """

    def __init__(self, tissues: int) -> None:
        super().__init__()
        self.mixed, self.weight = nn.Conv3d(2 * tissues, 8, 1), nn.Conv3d(8, 1, 1)
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)  # type: ignore[arg-type]

    def forward(self, flat: Float[Tensor, "b k d h w"], deep: Float[Tensor, "b k d h w"]) -> Tensor:
        """Weights (b, 1, d, h, w), 0 to 1."""
        return torch.sigmoid(self.weight(F.leaky_relu(self.mixed(torch.cat([flat, deep], dim=1)))))


@dataclass(frozen=True, eq=False)
class Fusion:
    """Two networks and how they are joined, `S = a p_2D + (1 - a) p_3D`.

    Attributes:
        flat: U-Net of slices.
        deep: U-Net of volumes.
        weight: a, one share for all voxels, or a network that gives one a voxel.
        every: the 2-D network sees every so many slices; between them its answers are the nearest ones' mean, each
            weighing by how near it is.
    """

    flat: UNet
    deep: UNet
    weight: float | Weigher
    every: int = 1

    @property
    def tissues(self) -> int:
        """How many are told apart."""
        return self.flat.head.out_channels

    @property
    def share(self) -> float | None:
        """a, where it is one number."""
        return None if isinstance(self.weight, Weigher) else self.weight

    def __call__(self, image: Float[np.ndarray, "c d h w"]) -> Float[np.ndarray, "k d h w"]:
        """Probabilities of tissues at each voxel; none outside the brain. A network without weight is not asked."""
        if self.weight == 1:
            return self.flat_of(image)
        return self.deep_of(image) if self.weight == 0 else self.joined(*self.branches(image))

    def branches(self, image: Float[np.ndarray, "c d h w"]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (k, d, h, w) of the 2-D and of the 3-D network."""
        return self.flat_of(image), self.deep_of(image)

    def flat_of(self, image: Float[np.ndarray, "c d h w"]) -> Float[np.ndarray, "k d h w"]:
        """Probabilities of the 2-D network, which is shown slices that hold brain."""
        heights = np.flatnonzero(image.any(axis=(0, 1, 2)))
        told = np.zeros((self.tissues, *image.shape[1:]), np.float32)
        if len(heights):
            shown = np.unique([*heights[:: self.every], heights[-1]])
            slices = torch.from_numpy(np.ascontiguousarray(image[..., shown].transpose(3, 0, 1, 2)))
            answers = softmax_of(self.flat, slices).numpy()
            told[..., heights] = _between(answers, shown, heights).transpose(1, 2, 3, 0)
        return _within(told, np.asarray(image.any(axis=0)))

    def deep_of(self, image: Float[np.ndarray, "c d h w"]) -> Float[np.ndarray, "k d h w"]:
        """Probabilities of the 3-D network."""
        return _within(
            softmax_of(self.deep, torch.from_numpy(image)[None])[0].numpy(), np.asarray(image.any(axis=0))
        )

    @torch.no_grad()
    def joined(self, flat: np.ndarray, deep: np.ndarray) -> np.ndarray:
        """Both branches as one."""
        a = self.weight
        if isinstance(a, Weigher):
            a = a(torch.from_numpy(flat)[None], torch.from_numpy(deep)[None])[0].numpy()
        return np.asarray(a * flat + (1 - a) * deep, np.float32)

    def state(self) -> dict[str, Tensor]:
        """All weights by name."""
        parts: dict[str, nn.Module] = {"flat": self.flat, "deep": self.deep}
        if isinstance(self.weight, Weigher):
            parts |= {"weight": self.weight}
        return prefixed(parts)

    @classmethod
    def made(
        cls, state: Mapping[str, Tensor], channels: int, tissues: int, widths_2d: Sequence[int],
        widths_3d: Sequence[int], share: float | None,
    ) -> "Fusion":  # fmt: skip
        """The fusion that `state` took apart."""
        flat, deep = UNet(channels, tissues, widths_2d, dims=2), UNet(channels, tissues, widths_3d)
        weigher = Weigher(tissues)
        for name, net in {
            "flat": flat,
            "deep": deep,
            **({"weight": weigher} if share is None else {}),
        }.items():
            net.load_state_dict(named(name, state))
        return cls(flat.eval(), deep.eval(), weigher if share is None else share)


def _between(answers: np.ndarray, shown: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Answers (n, ...) for slices that were shown, read linearly at all heights from the first shown to the last."""
    below = np.searchsorted(shown, heights, side="right") - 1
    above = np.minimum(below + 1, len(shown) - 1)
    near = (heights - shown[below]) / np.maximum(shown[above] - shown[below], 1)
    return np.asarray(
        answers[below] + near[:, None, None, None] * (answers[above] - answers[below]), np.float32
    )


def prefixed(nets: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weights of several networks, each name led by that of its network and a dot."""
    return {f"{name}.{k}": v.contiguous() for name, net in nets.items() for k, v in net.state_dict().items()}


def named(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one network among those of several; what `prefixed` put together."""
    return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}


def _within(probabilities: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Probabilities (k, d, h, w), all of them `none` outside the brain."""
    outside = np.zeros((len(probabilities), 1, 1, 1), np.float32)
    outside[0] = 1.0
    return np.where(brain, probabilities, outside)


@torch.inference_mode()
def softmax_of(net: nn.Module, images: Tensor) -> Tensor:
    """Softmax of a network's answers, a few images at a time."""
    device = next(net.parameters()).device
    out = []
    for part in images.split(AT_ONCE):
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16()):
            logits = net(part.to(device))
        out.append(torch.softmax(logits.float(), dim=1).cpu())
    return torch.cat(out)


# --- how they are joined ---------------------------------------------------------------------------------------

SHARES: Final = tuple(round(0.1 * i, 1) for i in range(11))


def best_share(fusion: Fusion, aside: Sequence[Arrays], file: Path) -> float:
    """The share of the 2-D network, 0 to 1 in tenths, of most Dice on patients that neither network has seen.

    Args:
        fusion: the networks.
        aside: the patients.
        file: where the Dice of every share is kept.

    Raises:
        CohortError: no patient has tumour in the cube.
    """
    if not file.is_file():
        scores = [shares_scored(fusion, arrays) for arrays in aside]
        told = {str(a): _mean_known([s[a] for s in scores], len(aside)) for a in SHARES}
        write_json(file, {"patients": len(aside), "mean_dice": told})
    found = read_json(file)["mean_dice"]
    best = max(found, key=lambda a: found[a])
    say(f"share of the 2-D network: {best}")
    return float(best)


def _mean_known(scores: Sequence[float], patients: int) -> float:
    known = [s for s in scores if not np.isnan(s)]
    if not known:
        raise CohortError(
            f"none of the {patients} patients to choose on has tumour in the cube; set weight to fixed"
        )
    return float(np.mean(known))


def shares_scored(fusion: Fusion, arrays: Arrays) -> dict[float, float]:
    """Mean Dice over regions of one patient, for each of `SHARES`."""
    flat, deep = fusion.branches(np.asarray(arrays["image"], np.float32))
    truth = np.minimum(arrays["labels"], fusion.tissues - 1)
    return {
        a: float(np.nanmean([*region_dice(truth, replace(fusion, weight=a).joined(flat, deep)).values(), np.nan]))
        if truth.any() else np.nan
        for a in SHARES
    }  # fmt: skip


def region_dice(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Dice of regions between labels and the likeliest tissues; of the whole tumour alone where two are told apart."""
    drawn = probabilities.argmax(axis=0)
    known = {"whole": (1,)} if len(probabilities) == 2 else REGIONS
    return {name: dice(np.isin(truth, ks), np.isin(drawn, ks)) for name, ks in known.items()}


def learn_weight(
    fusion: Fusion, aside: Sequence[Arrays], folder: Path, seed: int, epochs: int = 30
) -> Weigher:
    """Train the weight of each voxel on patients that neither network has seen, or read it where this is done."""
    L.seed_everything(seed, verbose=False)
    weigher = Weigher(fusion.tissues)
    if finished(folder, weigher):
        return weigher
    optimiser = torch.optim.AdamW(weigher.parameters(), 1e-2)
    kept = _branches_of(fusion, aside, folder / "seen")
    weights = tissue_weights(aside, fusion.tissues)
    for _ in range(epochs):
        for arrays, file in zip(aside, kept, strict=True):
            flat, deep = torch.from_numpy(np.load(file))[:, None].float()
            truth = torch.from_numpy(np.minimum(arrays["labels"], fusion.tissues - 1).astype(np.int64))[None]
            a = weigher(flat, deep)
            joined = (a * flat + (1 - a) * deep).clamp_min(1e-6)
            loss = F.nll_loss(joined.log(), truth, weight=weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    finish(folder, weigher)
    shutil.rmtree(folder / "seen")
    return weigher


def _branches_of(fusion: Fusion, patients: Sequence[Arrays], folder: Path) -> list[Path]:
    """What both networks answer to every patient, in 16 bits and files (2, k, E, E, E): too much for memory."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}.npy" for i in range(len(patients))]
    for arrays, file in zip(patients, files, strict=True):
        np.save(file, np.stack(fusion.branches(np.asarray(arrays["image"], np.float32))).astype(np.float16))
    return files
