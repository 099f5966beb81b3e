"""Video networks that know simulated tumours: what to start from where no films can be had.

The network learns to tell of simulated volumes what the simulator grew: how large, how much of it core and necrosis,
how sharp its front, how it enhances. The weights are kept as torchvision keeps its own (without a head), so that they
are taken over in the same way. Three series stand for the three colours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from lightning import LightningModule, seed_everything
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.literature import ENHANCEMENTS
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.io.store import whole_file
from gliolens.io.tables import read_cohort
from gliolens.loader import Arrays, Cases
from gliolens.loop import forget, train
from gliolens.nn.video import COLOURS, Kind, VideoNet
from gliolens.progress import Counter, say
from gliolens.segmenter import Draw

SHOWN: Final = ("t1ce", "t2", "flair")
"""Series in the place of red, green and blue."""
NUMBERS: Final = ("volume_ml", "core_share", "necrosis", "front_mm")
RATE: Final = 1e-3
BATCH: Final = 8
"""Patients a step: enough for statistics of a batch, which films were learnt with too."""


def findings_of(truth: pd.DataFrame) -> np.ndarray:
    """What is told of each tumour (n, 9), with mean 0 and standard deviation 1: `NUMBERS`, and one for each kind of
    enhancement."""
    numbers = truth[list(NUMBERS)].to_numpy(float)
    numbers[:, 0] = np.log(numbers[:, 0])
    kinds = np.stack([(truth["enhancement"] == kind).to_numpy(float) for kind in ENHANCEMENTS], axis=1)
    told = np.concatenate([numbers, kinds], axis=1)
    spread = told.std(axis=0)
    return np.asarray((told - told.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


class _Film(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, volumes: Sequence[Arrays], told: np.ndarray) -> None:
        self.volumes, self.told = volumes, torch.from_numpy(told.astype(np.float32))

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        patient = number % len(self)
        volume = torch.from_numpy(self.volumes[patient]["volume"].astype(np.float32)).movedim(
            3, 1
        )  # axial in time
        mean, sd = (torch.tensor(c)[:, None, None, None] for c in COLOURS)
        return (volume - mean) / sd, self.told[patient]  # as films are shown


class _Task(LightningModule):
    def __init__(self, net: VideoNet) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last_3d)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        volume, told = batch
        return F.mse_loss(self.net(volume.contiguous(memory_format=torch.channels_last_3d)).float(), told)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), RATE)


def simulated(folder: Path, patients: int, spacing_mm: float, seed: int) -> tuple[Cases, np.ndarray]:
    """Simulated patients, written once, and their findings (n, 9)."""
    table = folder / "cohort.csv"
    if not table.is_file():
        say(f"simulating {patients} patients to learn from")
        table = write_phantom(
            folder,
            patients,
            seed=seed,
            config=PhantomConfig(spacing_mm=spacing_mm),
            progress=Counter("simulating"),
        )
    truth = pd.read_csv(folder / "truth.csv", dtype={"case": str})
    rows = read_cohort(table)
    return Cases(rows, SHOWN), findings_of(truth.set_index("case").loc[[row.case for row in rows]])


def pretrain(
    kind: Kind, volumes: Sequence[Arrays], told: np.ndarray, file: Path, *, epochs: int, seed: int
) -> Path:
    """Learn findings from volumes, and keep the network without its head.

    Args:
        kind: which network.
        volumes: `volume` (3, R, A, S) of each patient, as `methods.spatio_spatial.prepare` makes them.
        told: findings of each (n, m).
        file: where the weights are kept; what lies there already is taken.
        epochs: passes over the patients.
        seed: of all draws.
    """
    if file.is_file():
        return file
    seed_everything(seed, verbose=False)
    net = VideoNet(len(SHOWN), told.shape[1], kind=kind, dropout=0.0)
    batches: DataLoader[Any] = DataLoader(
        _Film(volumes, told), BATCH, sampler=Draw(len(volumes), seed), drop_last=True
    )
    label = f"{kind} on {len(volumes)} simulated patients, epochs"
    train(_Task(net), batches, epochs=epochs, folder=file.parent / kind, label=label, seed=seed)
    forget(file.parent / kind)
    kept = {k: v.contiguous() for k, v in net.net.state_dict().items() if not k.startswith("fc.")}
    with whole_file(file) as unfinished:
        save_file(kept, unfinished)
    return file
