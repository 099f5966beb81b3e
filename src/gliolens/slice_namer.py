"""A network that names the tissue a slice holds most of, from what segmenters answer there."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import lightning as L  # noqa: N812
import numpy as np
import torch
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from gliolens.fusion import Fusion, named, prefixed, softmax_of
from gliolens.loader import Arrays
from gliolens.loop import finish, finished, train
from gliolens.nn.resnet import slice_resnet
from gliolens.segmenter import Draw, Loss, Task

Sees = Literal["probabilities", "masked"]
LAYER: Final = "layer3"
"""Whose activations explain an answer: a slice of 96 pixels has maps of 6 x 6 there."""


@dataclass(frozen=True, eq=False)
class SliceNamer:
    """A ResNet that tells which tissue a slice holds most of.

    Attributes:
        net: from slices to logits of tissues.
        sees: `probabilities` of tumour tissues, or the scans `masked` by the probability of tumour.
    """

    net: nn.Module
    sees: Sees

    def sees_of(self, image: np.ndarray, fused: np.ndarray) -> Tensor:
        """Slices (E, channels, E, E) of a cube, as the network sees them."""
        seen = fused[1:] if self.sees == "probabilities" else image * (1.0 - fused[:1])
        return torch.from_numpy(np.ascontiguousarray(seen.transpose(3, 0, 1, 2), np.float32))

    def state(self) -> dict[str, Tensor]:
        """All weights by name."""
        return prefixed({"slices": self.net})

    @classmethod
    def made(
        cls, state: Mapping[str, Tensor], channels: int, tissues: int, depth: Literal[18, 50],
        sees: Sees,
    ) -> "SliceNamer":  # fmt: skip
        """The network that `state` took apart."""
        net = slice_resnet(tissues - 1 if sees == "probabilities" else channels, tissues, depth)
        net.load_state_dict(named("slices", state))
        return cls(net.eval(), sees)


def slice_tissues(namer: SliceNamer, image: np.ndarray, fused: np.ndarray) -> np.ndarray:
    """Probabilities (E, tissues) of each slice of a cube; `none` where it holds no brain."""
    told = softmax_of(namer.net, namer.sees_of(image, fused)).numpy()
    empty = ~np.any(image, axis=(0, 1, 2))
    told[empty] = np.eye(told.shape[1], dtype=np.float32)[0]
    return told


def named_by_mask(labels: np.ndarray, tissues: int, least_pixels: float) -> np.ndarray:
    """Tissue of each slice (E,): the largest of at least so many pixels, else none."""
    areas = np.stack([(labels == k).sum(axis=(0, 1)) for k in range(1, tissues)])
    return np.where(areas.max(axis=0) >= least_pixels, 1 + areas.argmax(axis=0), 0)


class Slices(Dataset[tuple[Tensor, Tensor]]):
    """Some slices of each patient as the network sees them, with the tissue each holds most of.

    Args:
        seen: of each patient, slices (S, channels, E, E).
        truth: of each patient, tissues (S,).
        count: how many slices of a patient.
        flip: whether left and right are swapped at random.
        seed: of the draws.
    """

    def __init__(
        self, seen: Sequence[np.ndarray], truth: Sequence[np.ndarray], count: int, flip: bool, seed: int
    ) -> None:
        self.seen, self.truth, self.count, self.flip, self.seed = seen, truth, count, flip, seed

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, number])
        i = number % len(self.seen)
        chosen = rng.choice(len(self.seen[i]), self.count)
        image = torch.from_numpy(self.seen[i][chosen].astype(np.float32))
        if self.flip and rng.random() < 0.5:
            image = image.flip(2)
        return image, torch.from_numpy(self.truth[i][chosen].astype(np.int64))


def learn_slice_namer(
    fusion: Fusion, prepared: Sequence[Arrays], *, depth: Literal[18, 50], sees: Sees, loss: str, epochs: int,
    slices: int, rate: float, flip: bool, least_pixels: float, folder: Path, seed: int,
) -> SliceNamer:  # fmt: skip
    """Train a ResNet on slices of the fused outline, or read it where this stage is done.

    Args:
        fusion: what outlines the tumour.
        prepared: `image` and `labels` of each patient.
        depth: of the ResNet.
        sees: what it sees.
        loss: `dice` over a batch of slices, or `cross-entropy` in which every tissue weighs the same.
        epochs: passes over the patients.
        slices: of a patient and epoch, at random among those that hold brain.
        rate: highest learning rate.
        flip: whether left and right are swapped at random.
        least_pixels: area from which a tissue can name its slice.
        folder: of this stage.
        seed: of first weights and draws.
    """
    L.seed_everything(seed, verbose=False)
    tissues, channels = fusion.tissues, len(prepared[0]["image"])
    net = slice_resnet(tissues - 1 if sees == "probabilities" else channels, tissues, depth)
    namer = SliceNamer(net, sees)
    if finished(folder, net):
        return namer
    seen, truth = _slices_of(fusion, namer, prepared, least_pixels, folder / "seen")
    counts = np.bincount(np.concatenate(truth), minlength=tissues)
    task = Task(net, _loss(loss, counts), rate, epochs * len(prepared))
    drawn = Slices(seen, truth, slices, flip, seed)
    batches = DataLoader(drawn, batch_size=None, sampler=Draw(len(prepared), seed))
    train(task, batches, epochs=epochs, folder=folder, label="naming slices, epochs", seed=seed)
    finish(folder, net)
    shutil.rmtree(folder / "seen")
    return namer


def _slices_of(
    fusion: Fusion, namer: SliceNamer, prepared: Sequence[Arrays], least_pixels: float, folder: Path
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the network sees of every patient's slices with brain, in 16 bits, and their tissues.

    Slices lie in files of `folder`, mapped into memory: those of a large cohort would not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen, truth = [], []
    for i, arrays in enumerate(prepared):
        image = np.asarray(arrays["image"], np.float32)
        brain = np.any(image, axis=(0, 1, 2))
        labels = np.minimum(arrays["labels"], fusion.tissues - 1)
        np.save(
            file := folder / f"{i}.npy", namer.sees_of(image, fusion(image)).numpy()[brain].astype(np.float16)
        )
        seen.append(np.load(file, mmap_mode="r"))
        truth.append(named_by_mask(labels, fusion.tissues, least_pixels)[brain])
    return seen, truth


def _loss(name: str, counts: np.ndarray) -> Loss:
    weights = torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)
    if name == "cross-entropy":
        return lambda z, y: F.cross_entropy(z, y, weight=weights.to(z.device))
    return soft_dice


def soft_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """One less the mean over classes of the soft Dice of a batch: logits (n, k), classes (n,)."""
    q, y = torch.softmax(logits, dim=1), F.one_hot(truth, logits.shape[1]).float()
    overlap = (2 * (q * y).sum(dim=0) + 1e-5) / (q.sum(dim=0) + y.sum(dim=0) + 1e-5)
    return 1 - overlap.mean()


SCORES: Final = ("accuracy", "precision", "recall", "f1", "specificity")
"""Of named slices."""


def slice_scores(truth: np.ndarray, told: np.ndarray) -> dict[str, float]:
    """`SCORES` of named slices; all but accuracy are plain means over the tissues that occur.

    Args:
        truth: tissues (n,).
        told: tissues (n,).
    """
    occur = np.unique(truth)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, told, labels=occur, average="macro", zero_division=0
    )
    spared = [np.mean(told[truth != k] != k) for k in occur if (truth != k).any()]
    specificity = np.mean(spared) if spared else np.nan
    numbers = (accuracy_score(truth, told), precision, recall, f1, specificity)
    return dict(zip(SCORES, map(float, numbers), strict=True))
