"""What a training step takes in memory, and an epoch in seconds: slices with shape against volumes."""

import shutil
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import shape_resnet
from gliolens.methods.shape_resnet import Config
from gliolens.nn.resnet import ShapeResNet
from gliolens.nn.training_memory import training_bytes
from gliolens.papers.zeng2024.networks import EPOCH_S, MEMORY_MB
from gliolens.radiomics.shape import FEATURES

EPOCHS = 8
"""Trained for the clock: so many that a checkpoint is written after every other one only."""


@dataclass
class _Clock:
    """Looks at the time after each epoch."""

    scores: list[float] = field(default_factory=list)

    def score(self, net: object, scaling: object) -> float:
        del net, scaling
        return time.perf_counter()


def step_mb(config: Config, batch: int | None = None) -> float:
    """Megabytes (1024^2) of a training step in 32 bits: weights, gradients, Adam, and what the way back needs.

    Args:
        config: the network and its sizes.
        batch: images of a step, where not those of `config`.
    """
    n = batch or config.batch
    with torch.device("meta"):
        net = ShapeResNet(len(config.series), 2, depth=config.depth, dims=config.dims, join=config.join)
        size = (config.pixels,) * 2 if config.dims == 2 else (config.planes, config.pixels, config.pixels)
        image = torch.empty(n, len(config.series), *size)
        return training_bytes(net, image, torch.empty(n, len(FEATURES))) / 2**20


def epoch_seconds(cases: Cases, config: Config, run: Run) -> float:
    """Seconds of an epoch over all of these patients: the median of all but the first."""
    clock, folder = _Clock(), run.folder / "clock"
    shutil.rmtree(folder, ignore_errors=True)
    shape_resnet.fit(cases, replace(config, epochs=EPOCHS), replace(run, folder=folder), clock)
    shutil.rmtree(folder)
    counts = np.unique(cases.classes(run.target), return_counts=True)[1]
    times = np.round(counts.max() / counts) if config.balance == "repeat" else np.ones(len(counts))
    volumes = int((counts * times).sum())  # of an epoch; a last step of fewer than a batch is not made
    whole = (
        volumes / (volumes - volumes % config.batch) if config.dims == 3 and volumes > config.batch else 1.0
    )
    return float(np.median(np.diff(clock.scores))) * whole


def costs(slices: Config, volumes: Config, cases: Cases, run: Run) -> list[dict[str, Any]]:
    """Memory at this run's sizes and at the paper's, and seconds: of slices with shape, of volumes, and the ratio."""
    paper = Config.preset("paper")
    as_published = replace(paper, dims=3, batch=4, join="none")
    seconds = [epoch_seconds(cases, config, run) for config in (slices, volumes)]
    rows: list[tuple[str, float, float]] = [
        ("memory of a training step, these sizes, MB", step_mb(slices), step_mb(volumes)),
        ("memory of a training step, the paper's sizes, MB", step_mb(paper), step_mb(as_published)),
        ("published: memory, MB", *MEMORY_MB),
        ("seconds an epoch, these sizes and patients", seconds[0], seconds[1]),
        ("published: seconds an epoch", *EPOCH_S),
    ]
    return [{"": what, "2-D + shape": a, "3-D": b, "2-D to 3-D": a / b} for what, a, b in rows]
