"""Video networks that know simulated tumours: what to start from where no films can be had.

The network learns to tell of simulated volumes, at each place of its last two blocks, what share of it is which tissue,
what the built-in outline's network learnt from the same simulator, more coarsely. The weights are kept as torchvision
keeps its own (without a head), so that they are taken over in the same way. Three series stand for the three colours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning import LightningModule, seed_everything
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from gliolens.case import Case
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.cube import cube_grid
from gliolens.io.store import whole_file
from gliolens.io.tables import read_cohort
from gliolens.loader import Arrays, Cases
from gliolens.loop import forget, one_cycle, train
from gliolens.nn.video import COLOURS, Kind, VideoNet
from gliolens.ops.zoom import zoom
from gliolens.preprocess import brain_of, tumour_of
from gliolens.progress import Counter, say
from gliolens.segmenter import TISSUES, Draw

SHOWN: Final = ("t1ce", "t2", "flair")
"""Series in the place of red, green and blue."""
RATE: Final = 1e-3
BATCH: Final = 4
"""Patients a step: enough for statistics of a batch, which films were learnt with too."""
DEEP: Final = (256, 512)
"""Channels of the last two blocks."""


def tissues_in(case: Case, voxels: tuple[int, int, int], voxel_mm: float) -> dict[str, np.ndarray]:
    """Share of each tissue of a tumour in each voxel of the box around the brain: `tissues` (3, R, A, S) float16."""
    tumour_of(case)  # an error where there is none
    assert case.tumour is not None
    box = cube_grid(case.grid, brain_of(case), "brain", voxels, (voxel_mm,) * 3)
    shares = [zoom((case.tumour == k).astype(np.float32), case.grid, box) for k in range(1, len(TISSUES))]
    return {"tissues": np.stack(shares).astype(np.float16)}


class _Film(Dataset[tuple[Tensor, Tensor]]):
    """Volumes with their tissues, axial planes as time; left and right swapped at random."""

    def __init__(self, volumes: Sequence[Arrays], tissues: Sequence[Arrays], seed: int) -> None:
        self.volumes, self.tissues, self.seed = volumes, tissues, seed

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        patient = number % len(self)
        sides = self.volumes[patient]["volume"], self.tissues[patient]["tissues"]
        volume, tissues = (torch.from_numpy(a.astype(np.float32)).movedim(3, 1) for a in sides)
        mean, sd = (torch.tensor(c)[:, None, None, None] for c in COLOURS)
        volume = (volume - mean) / sd  # as films are shown
        if np.random.default_rng([self.seed, number]).random() < 0.5:
            volume, tissues = volume.flip(2), tissues.flip(2)
        return volume, tissues


class Outliner(LightningModule):
    """A video network with a head on each of its last two blocks that tells the share of each tissue at each place.

    Args:
        net: what learns.
        steps: of the whole training.
    """

    def __init__(self, net: VideoNet, steps: int) -> None:
        super().__init__()
        self.net, self.steps = net.to(memory_format=torch.channels_last_3d), steps
        self.heads = nn.ModuleList([nn.Conv3d(n, len(TISSUES), 1) for n in DEEP])

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Cross-entropy of shares, over places and both heads."""
        volume, tissues = batch
        stages = self.net.stages(volume.contiguous(memory_format=torch.channels_last_3d))[-len(DEEP) :]
        losses = [
            shares_loss(head(stage).float(), tissues) for head, stage in zip(self.heads, stages, strict=True)
        ]
        return torch.stack(losses).sum()

    def configure_optimizers(self) -> Any:
        """AdamW, in one cycle."""
        return one_cycle([(self.parameters(), RATE)], self.steps)


def shares_loss(logits: Tensor, tissues: Tensor) -> Tensor:
    """Cross-entropy between what is told of places (b, k, e, f, g) and the shares of tissues 1 to k - 1 in them.

    Args:
        logits: of each place.
        tissues: shares in each voxel (b, k - 1, t, h, w); the rest is no tumour.
    """
    d, h, w = logits.shape[2:]
    shares = F.adaptive_avg_pool3d(tissues, (d, h, w))
    shares = torch.cat([(1 - shares.sum(dim=1, keepdim=True)).clamp_min(0), shares], dim=1)
    return -(shares * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def simulated(folder: Path, patients: int, spacing_mm: float, seed: int) -> Cases:
    """Simulated patients, written once."""
    table = folder / "cohort.csv"
    if not table.is_file():
        say(f"simulating {patients} patients to learn from")
        config = PhantomConfig(spacing_mm=spacing_mm)
        table = write_phantom(folder, patients, seed=seed, config=config, progress=Counter("simulating"))
    return Cases(read_cohort(table), SHOWN)


def pretrain(
    kind: Kind, volumes: Sequence[Arrays], tissues: Sequence[Arrays], file: Path, *, epochs: int, seed: int
) -> Path:
    """Learn tissues from volumes, and keep the network without its heads.

    Args:
        kind: which network.
        volumes: `volume` (3, R, A, S) of each patient, as `methods.spatio_spatial.prepare` makes them.
        tissues: of each; see `tissues_in`.
        file: where the weights are kept; what lies there already is taken.
        epochs: passes over the patients.
        seed: of all draws.
    """
    if file.is_file():
        return file
    seed_everything(seed, verbose=False)
    films = _Film(volumes, tissues, seed)
    batches = DataLoader(films, BATCH, sampler=Draw(len(films), seed), drop_last=True)
    net = VideoNet(len(SHOWN), 1, kind=kind, dropout=0.0)
    net.net.fc.requires_grad_(False)  # no part of it
    label = f"{kind} on {len(films)} simulated patients, epochs"
    task = Outliner(net, epochs * len(batches))
    train(task, batches, epochs=epochs, folder=file.parent / kind, label=label, seed=seed)
    forget(file.parent / kind)
    kept = {k: v.contiguous() for k, v in net.net.state_dict().items() if not k.startswith("fc.")}
    with whole_file(file) as unfinished:
        save_file(kept, unfinished)
    return file
