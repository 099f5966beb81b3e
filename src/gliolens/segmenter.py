"""Networks that outline a tumour slice by slice and as a volume, and what joins them.

A segmenter learns from cubes (`cube`): `image` (C, E, E, E), `labels` (E, E, E). What a stage has learnt is kept in a
folder of its own, so that a stopped training goes on with the stage it was at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import lightning as L  # noqa: N812
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset, Sampler

from gliolens.io.store import read_json, write_json
from gliolens.labels import REGIONS
from gliolens.loader import Arrays
from gliolens.loop import finish, finished, train
from gliolens.nn.precision import has_bfloat16
from gliolens.nn.unet import UNet
from gliolens.progress import say
from gliolens.stats.segmentation import dice

TISSUES: Final = ("none", "necrotic core", "oedema", "enhancing tumour")
"""What is told of a voxel and of a slice, as labels 0 to 3; where masks tell the whole tumour only, none and tumour."""
AT_ONCE: Final = 16
GAMMA: Final = 2.0
"""Of the focal loss (Lin et al. 2017, doi 10.1109/ICCV.2017.324)."""
Loss = Callable[[Tensor, Tensor], Tensor]


# --- what is joined --------------------------------------------------------------------------------------------


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


# --- the U-Nets ------------------------------------------------------------------------------------------------


class Draw(Sampler[int]):
    """All patients once an epoch in random order, each as a number that no other epoch has: so it draws anew.

    Args:
        patients: how many.
        seed: of the order.
    """

    def __init__(self, patients: int, seed: int) -> None:
        self.patients, self.seed, self.epoch = patients, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.patients

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.patients)
        return iter((self.epoch * self.patients + order).tolist())


class Cubes(Dataset[tuple[Tensor, Tensor]]):
    """Patients as volumes (1, C, E, E, E), or as some of their slices (n, C, E, E), with labels of one channel.

    Args:
        prepared: `image` and `labels` of each patient.
        tissues: how many are told apart; with two, all tumour is one.
        slices: how many, half of them with tumour; 0 for the volume.
        flip: whether left and right are swapped at random.
        seed: of the draws.
    """

    def __init__(self, prepared: Sequence[Arrays], tissues: int, slices: int, flip: bool, seed: int) -> None:
        self.prepared, self.tissues, self.slices, self.flip, self.seed = prepared, tissues, slices, flip, seed

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, number])
        arrays = self.prepared[number % len(self.prepared)]
        labels = np.minimum(arrays["labels"], self.tissues - 1)
        heights = _heights(arrays["image"], labels, self.slices, rng) if self.slices else slice(None)
        image = torch.from_numpy(np.asarray(arrays["image"][..., heights], np.float32))
        truth = torch.from_numpy(labels[..., heights].astype(np.int64))[None]
        if self.flip and rng.random() < 0.5:
            image, truth = image.flip(1), truth.flip(1)
        if self.slices:
            return image.permute(3, 0, 1, 2), truth.permute(3, 0, 1, 2)
        return image[None], truth[None]


def _heights(image: np.ndarray, labels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n slices that hold brain, half of them with tumour where there is any."""
    brain = np.flatnonzero(image.any(axis=(0, 1, 2)))
    ill = np.flatnonzero(labels.any(axis=(0, 1)))
    with_tumour = rng.choice(ill if len(ill) else brain, n // 2)
    return np.concatenate([with_tumour, rng.choice(brain, n - n // 2)])


def learn_segmenter(
    prepared: Sequence[Arrays], tissues: int, dims: Literal[2, 3], *, widths: Sequence[int], loss: str, epochs: int,
    slices: int, rate: float, flip: bool, folder: Path, seed: int,
) -> UNet:  # fmt: skip
    """Train a U-Net of slices or volumes on patients' cubes, or read it where this stage is done.

    Args:
        prepared: `image` and `labels` of each patient.
        tissues: how many are told apart, none among them.
        dims: 2 or 3.
        widths: of the network.
        loss: `focal`, `cross-entropy` or `dice+focal`; rare tissues weigh more, by one over the root of their share.
        epochs: passes over the patients.
        slices: of a patient and epoch; volumes are whole.
        rate: highest learning rate.
        flip: whether left and right are swapped at random.
        folder: of this stage.
        seed: of first weights and draws.
    """
    L.seed_everything(seed + dims, verbose=False)
    net = UNet(len(prepared[0]["image"]), tissues, widths, dims=dims)
    if finished(folder, net):
        return net
    cubes = Cubes(prepared, tissues, slices if dims == 2 else 0, flip, seed + dims)
    task = Task(net, _loss(loss, tissue_weights(prepared, tissues)), rate, epochs * len(prepared))
    batches = DataLoader(cubes, batch_size=None, sampler=Draw(len(prepared), seed + dims))
    label = f"{dims}-D network on {len(prepared)} patients, epochs"
    train(task, batches, epochs=epochs, folder=folder, label=label, seed=seed)
    finish(folder, net)
    return net


class Task(L.LightningModule):
    """A network, its loss, and AdamW with one cycle of its rate."""

    def __init__(self, net: nn.Module, loss: Loss, rate: float, steps: int) -> None:
        super().__init__()
        self.net, self.loss, self.rate, self.steps = net, loss, rate, steps

    def training_step(self, batch: Sequence[Tensor], _: int) -> Tensor:
        """The loss of a batch."""
        image, truth = batch
        return self.loss(self.net(image).float(), truth)

    def configure_optimizers(self) -> Any:
        """AdamW, its rate rising for a tenth of the steps and then falling."""
        optimiser = torch.optim.AdamW(self.parameters(), self.rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.rate, total_steps=self.steps, pct_start=0.1
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def tissue_weights(prepared: Sequence[Arrays], tissues: int) -> Tensor:
    """Of tissues in the loss: one over the root of their share, with mean 1; 1 for one that no patient has."""
    counts = np.sum(
        [np.bincount(np.minimum(a["labels"], tissues - 1).ravel(), minlength=tissues) for a in prepared], 0
    )
    there = counts > 0
    weights = np.ones(tissues)
    weights[there] = 1.0 / np.sqrt(counts[there])
    weights[there] /= weights[there].mean()
    return torch.tensor(weights, dtype=torch.float32)


def _loss(name: str, weights: Tensor) -> Loss:
    from monai.losses.dice import DiceLoss  # takes a second to import, and few runs need them
    from monai.losses.focal_loss import FocalLoss

    focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=GAMMA, weight=weights)
    overlap = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    losses: dict[str, Loss] = {
        "focal": focal,
        "cross-entropy": lambda z, y: F.cross_entropy(z, y[:, 0], weight=weights.to(z.device)),
        "dice+focal": lambda z, y: overlap(z, y) + focal(z, y),
    }
    return losses[name]


# --- how they are joined ---------------------------------------------------------------------------------------

SHARES: Final = tuple(round(0.1 * i, 1) for i in range(11))


def best_share(fusion: Fusion, aside: Sequence[Arrays], file: Path) -> float:
    """The share of the 2-D network, 0 to 1 in tenths, of most Dice on patients that neither network has seen.

    Args:
        fusion: the networks.
        aside: the patients.
        file: where the Dice of every share is kept.
    """
    if not file.is_file():
        scores = [shares_scored(fusion, arrays) for arrays in aside]
        told = {str(a): float(np.nanmean([s[a] for s in scores])) for a in SHARES}
        write_json(file, {"patients": len(aside), "mean_dice": told})
    found = read_json(file)["mean_dice"]
    best = max(found, key=lambda a: found[a])
    say(f"share of the 2-D network: {best}")
    return float(best)


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
    pairs = [
        (*(torch.from_numpy(p)[None] for p in fusion.branches(np.asarray(a["image"], np.float32))),
         torch.from_numpy(np.minimum(a["labels"], fusion.tissues - 1).astype(np.int64))[None])
        for a in aside
    ]  # fmt: skip
    weights = tissue_weights(aside, fusion.tissues)
    for _ in range(epochs):
        for flat, deep, truth in pairs:
            a = weigher(flat, deep)
            joined = (a * flat + (1 - a) * deep).clamp_min(1e-6)
            loss = F.nll_loss(joined.log(), truth, weight=weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    finish(folder, weigher)
    return weigher
