"""Networks that outline a tumour slice by slice, and as a volume.

A segmenter learns from cubes (`cube`): `image` (C, E, E, S), `labels` (E, E, S). What a stage has learnt is kept in a
folder of its own, so that a stopped training goes on with the stage it was at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import lightning as L  # noqa: N812
import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset, Sampler

from gliolens.errors import ConfigError
from gliolens.loader import Arrays
from gliolens.loop import finish, finished, one_cycle, train
from gliolens.nn.unet import UNet
from gliolens.outline import read_outliner
from gliolens.progress import say

TISSUES: Final = ("none", "necrotic core", "oedema", "enhancing tumour")
"""What is told of a voxel and of a slice, as labels 0 to 3."""
TUMOUR_ONLY: Final = ("none", "tumour")
"""The same where masks tell the whole tumour only, as labels 0 and 1."""
GAMMA: Final = 2.0
"""Of the focal loss (Lin et al. 2017, doi 10.1109/ICCV.2017.324)."""
Loss = Callable[[Tensor, Tensor], Tensor]


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
        # a generator: Lightning asks for the iterator before it says which epoch a training goes on with
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.patients)
        yield from (self.epoch * self.patients + order).tolist()


class Cubes(Dataset[tuple[Tensor, Tensor]]):
    """Patients as volumes (1, C, E, E, S), or as some of their slices (n, C, E, E), with labels of one channel.

    Args:
        prepared: `image` and `labels` of each patient.
        tissues: how many are told apart; with two, all tumour is one.
        slices: how many, half of them with tumour; 0 for the volume.
        flip: whether left and right are swapped at random.
        vary: whether patients look otherwise each time; see `varied`.
        seed: of the draws.
    """

    def __init__(
        self, prepared: Sequence[Arrays], tissues: int, slices: int, flip: bool, vary: bool, seed: int
    ) -> None:
        self.prepared, self.tissues, self.slices, self.seed = prepared, tissues, slices, seed
        self.flip, self.vary = flip, vary

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
            image, truth = image.permute(3, 0, 1, 2), truth.permute(3, 0, 1, 2)
        else:
            image, truth = image[None], truth[None]
        return varied(image, truth, rng) if self.vary else (image, truth)


TURN: Final = 0.26
"""Radians: 15 degrees either way, in the plane of the slices."""
SCALE: Final = 0.18
"""The logarithm of the largest change in size."""
MOVE: Final = 0.06
"""Of half the edge, along each axis."""


def varied(
    image: Float[Tensor, "n c *space"], truth: Int64[Tensor, "n 1 *space"], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The same heads turned, larger or smaller, elsewhere; each series through a curve of its own, with noise.

    Args:
        image: slices or a volume, 0 to 1, 0 outside the brain.
        truth: labels.
        rng: of the draws.
    """
    image, truth = turned(image, truth, rng)
    dims = image.ndim - 2
    one = (1, image.shape[1], *[1] * dims)
    curve, gain, shift = (
        torch.from_numpy(rng.normal(0.0, spread, one)).float() for spread in (0.3, 0.15, 0.06)
    )
    noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32)) * rng.uniform(0.0, 0.04)
    shown = image.clamp_min(0.0) ** curve.exp() * gain.exp() + shift + noise
    return torch.where(image.any(dim=1, keepdim=True), shown.clamp(0.01, 1.3), 0.0), truth


def turned(
    image: Float[Tensor, "n c *space"], truth: Int64[Tensor, "n 1 *space"], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The same heads turned, larger or smaller, elsewhere; what comes in from outside is 0."""
    where = F.affine_grid(
        _drawn_pose(image.ndim - 2, rng).expand(len(image), -1, -1), list(image.shape), align_corners=False
    )
    image = F.grid_sample(image, where, align_corners=False)
    truth = F.grid_sample(truth.float(), where, mode="nearest", align_corners=False).long()
    return image, truth


def _drawn_pose(dims: int, rng: np.random.Generator) -> Tensor:
    """A matrix (1, dims, dims + 1) for `affine_grid`, whose axes come last one first."""
    turn, size = rng.uniform(-TURN, TURN), np.exp(rng.uniform(-SCALE, SCALE))
    pose = np.eye(dims, dims + 1)
    pose[-2:, dims - 2 : dims] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    pose[:, :dims] *= size
    pose[:, dims] = rng.uniform(-MOVE, MOVE, dims)
    return torch.from_numpy(pose).float()[None]


def _heights(image: np.ndarray, labels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n slices that hold brain, half of them with tumour where there is any."""
    brain = np.flatnonzero(image.any(axis=(0, 1, 2)))
    ill = np.flatnonzero(labels.any(axis=(0, 1)))
    with_tumour = rng.choice(ill if len(ill) else brain, n // 2)
    return np.concatenate([with_tumour, rng.choice(brain, n - n // 2)])


def learn_segmenter(
    prepared: Sequence[Arrays], tissues: int, dims: Literal[2, 3], *, widths: Sequence[int], loss: str, epochs: int,
    slices: int, rate: float, flip: bool, vary: bool, folder: Path, seed: int,
    first: Mapping[str, Tensor] = MappingProxyType({}),
) -> UNet:  # fmt: skip
    """Train a U-Net of slices or volumes on patients' cubes, or read it where this stage is done.

    Args:
        prepared: `image` and `labels` of each patient.
        tissues: how many are told apart, none among them.
        dims: 2 or 3.
        widths: of the network.
        loss: `focal` or `cross-entropy`, in which rare tissues weigh more, by one over the root of their share; or
            `dice+cross-entropy`, in which all voxels weigh the same and tissues that are drawn too large cost.
        epochs: passes over the patients.
        slices: of a patient and epoch; volumes are whole.
        rate: highest learning rate.
        flip: whether left and right are swapped at random.
        vary: whether patients look otherwise each time; see `varied`.
        folder: of this stage.
        seed: of first weights and draws.
        first: weights to start from, by name, in place of random ones.
    """
    L.seed_everything(seed + dims, verbose=False)
    net = UNet(len(prepared[0]["image"]), tissues, widths, dims=dims)
    if finished(folder, net):
        return net
    net.load_state_dict(first, strict=False)
    cubes = Cubes(prepared, tissues, slices if dims == 2 else 0, flip, vary, seed + dims)
    task = Task(net, loss_of(loss, tissue_weights(prepared, tissues)), rate, epochs * len(prepared))
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
        """See `loop.one_cycle`."""
        return one_cycle([(self.parameters(), self.rate)], self.steps)


def tissue_shares(prepared: Sequence[Arrays], tissues: int) -> Tensor:
    """Of all voxels of patients with a mask; with no patient, tissues have equal shares."""
    counts = np.ones(tissues)
    for arrays in prepared:
        counts += np.bincount(np.minimum(arrays["labels"], tissues - 1).ravel(), minlength=tissues)
    return torch.tensor(counts / counts.sum(), dtype=torch.float32)


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


def loss_of(name: str, weights: Tensor) -> Loss:
    """A loss of logits (b, k, ...) and tissues (b, 1, ...), by the name that the settings give it."""
    from monai.losses.dice import DiceLoss  # takes a second to import, and few runs need them
    from monai.losses.focal_loss import FocalLoss

    focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=GAMMA, weight=weights)
    overlap = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    losses: dict[str, Loss] = {
        "focal": focal,
        "cross-entropy": lambda z, y: F.cross_entropy(z, y[:, 0], weight=weights.to(z.device)),
        "dice+cross-entropy": lambda z, y: overlap(z, y) + F.cross_entropy(z, y[:, 0]),
    }
    return losses[name]


def built_in_weights(series: Sequence[str], widths: Sequence[int]) -> dict[str, Tensor]:
    """Weights of the package's outline network for a network of the same widths that sees these series alone.

    It has learnt from simulated patients, and saw beside each series whether it was there; here all are. What it
    answered were other questions, so the last layer is left out.

    Raises:
        ConfigError: the network's widths are others.
    """
    built_in = read_outliner()
    if list(widths) != built_in.card["widths"]:
        raise ConfigError(
            f"widths_3d is {tuple(widths)}; the built-in network has {tuple(built_in.card['widths'])}: take these, or "
            "set start to random"
        )
    state = {k: v.cpu() for k, v in built_in.net.state_dict().items() if not k.startswith("head.")}
    known = [built_in.card["series"].index(s) for s in series]
    return state | {"stem.0.weight": state["stem.0.weight"][:, known]}


def tissues_of(prepared: Sequence[Arrays]) -> tuple[str, ...]:
    """What all masks can tell."""
    binary = sum(bool(a["binary"]) for a in prepared)
    if binary:
        say(f"{binary} of {len(prepared)} masks tell the whole tumour only: so will the outlines")
    return TUMOUR_ONLY if binary else TISSUES


def say_lost(prepared: Sequence[Arrays]) -> None:
    """Say how much tumour the cube cuts off."""
    lost = [int(a["lost"]) for a in prepared if a["lost"] > 0]
    if lost:
        say(
            f"the cube loses tumour of {len(lost)} of {len(prepared)} patients, at most {max(lost)} voxels of one"
        )
