"""What shape-resnet costs at the paper's sizes: memory, seconds an epoch against 3-D, and how fast it is fed.

python benchmarks/shape_resnet.py FOLDER [--patients 4] > docs/tables/shape_resnet_cost.md

Simulates patients of 1 mm into FOLDER where they are not there. Memory: the peak of a training step, each network in a
process of its own; the 3-D one with 1 and 2 volumes, and 4 as the line through them says. Seconds: an epoch over the
same patients, one network after the other. Feeding: reading from the cache, cutting and augmenting, against what the
network takes, on all cores each.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import lightning as L  # noqa: N812
import numpy as np
import torch
from monai.networks.nets import resnet50
from torch.utils.data import DataLoader

from gliolens.cli import main as gliolens
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods.shape_resnet import Config, _network, _Task, augmented, ready
from gliolens.nn.precision import has_bfloat16
from gliolens.nn.training_memory import training_bytes
from gliolens.papers.zeng2024 import cost
from gliolens.papers.zeng2024.cost import epoch_seconds, step_mb
from gliolens.slices import PatientSlices, as_seen

PAPER = Config.preset("paper")
VOLUME = replace(PAPER, dims=3, join="none", batch=4)
PRECISIONS = {"32-true": "float32", "bf16-mixed": "bfloat16"}
STEPS = 12


def batch_of(config, batch):
    size = (config.pixels,) * 2 if config.dims == 2 else (config.planes, config.pixels, config.pixels)
    image = torch.randn(batch, len(SERIES), *size)
    return [image, torch.randn(batch, 14), torch.arange(batch) % 2]


class Alone(_Task):
    """The network without what feeds it."""

    def training_step(self, batch, _):
        image, shape, truth = batch
        return torch.nn.functional.cross_entropy(self.net(as_seen(image), shape).float(), truth)


def steps(config, batch, count, precision):
    """Seconds a step, after the first."""
    task = Alone(_network(config, 2), np.ones(2), 0, config)
    marks = []
    task.on_train_batch_end = lambda *_: marks.append(time.perf_counter())
    trainer = L.Trainer(max_steps=count, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                        enable_model_summary=False, precision=precision, accelerator="cpu")  # fmt: skip
    trainer.fit(task, DataLoader([batch_of(config, batch)] * count, batch_size=None))
    return float(np.median(np.diff(marks))) if count > 1 else float("nan")


def peak_of(dims, batch, precision):
    config = PAPER if dims == 2 else VOLUME
    steps(config, batch, 2, precision)
    told = Path("/proc/self/status").read_text()  # not ru_maxrss: that begins at the parent's peak
    print(int(re.search(r"VmHWM:\s+(\d+)", told)[1]) / 1024)


def peak_mb(dims, batch, precision):
    words = [sys.executable, __file__, ".", "--peak", str(dims), str(batch), precision]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def otherwise(stride, batch):
    """Megabytes of a step of the 3-D network with another first layer."""
    with torch.device("meta"):
        net = resnet50(spatial_dims=3, n_input_channels=len(SERIES), num_classes=14, conv1_t_stride=stride)
        return (
            training_bytes(net, torch.empty(batch, len(SERIES), VOLUME.planes, VOLUME.pixels, VOLUME.pixels))
            / 2**20
        )


def memory():
    print(
        "| a training step, MB | 2-D + shape, 16 slices | 3-D, 1 volume | 2 volumes | 4 volumes | 2-D to 3-D |"
    )
    print("|---|---|---|---|---|---|")
    counted = [step_mb(VOLUME, b) for b in (1, 2, 4)]
    row("counted tensor by tensor, float32", step_mb(PAPER), *counted)
    for name, stride in (("halves the plane", (1, 2, 2)), ("halves every axis", 2)):
        volumes = (otherwise(stride, b) for b in (1, 2, 4))
        row(f"the same, had 3-D a first layer that {name}", step_mb(PAPER), *volumes)
    for precision in ["32-true", "bf16-mixed"] if has_bfloat16() else ["32-true"]:
        slices = peak_mb(2, PAPER.batch, precision)
        one, two = (peak_mb(3, b, precision) for b in (1, 2))
        row(f"peak of the process, {PRECISIONS[precision]}", slices, one, two, two + 2 * (two - one))
    print(
        "| published | 1,965 | | | 22,658 | 0.087 |\n\nOf the peaks, 4 volumes are extrapolated from 1 and 2.\n"
    )


def row(name, slices, one, two, four):
    print(f"| {name} | {slices:,.0f} | {one:,.0f} | {two:,.0f} | {four:,.0f} | {slices / four:.3f} |")


def seconds(cases, folder):
    shutil.rmtree(folder / "clock", ignore_errors=True)
    run = Run("grade", ("LGG", "HGG"), folder / "run", folder / "cache", 0)
    volume, cost.EPOCHS = replace(VOLUME, batch=2), 3  # a checkpoint is little beside an epoch of these sizes
    slices, volumes = (epoch_seconds(cases, config, run) for config in (PAPER, volume))
    count = sum(len(a["slices"]) for a in ready(cases, PAPER, folder / "cache"))
    over = f"an epoch over {len(cases)} simulated patients"
    print(f"| {over} | 2-D + shape ({count} slices) | 3-D, 2 volumes a step | ratio |")
    print("|---|---|---|---|")
    print(f"| seconds | {slices:.1f} | {volumes:.1f} | {slices / volumes:.2f} |")
    print("| published | 250 | 330 | 0.76 |\n")


def feeding(cases, folder):
    shutil.rmtree(folder / "fresh", ignore_errors=True)
    start = time.perf_counter()
    made = ready(cases, PAPER, folder / "fresh")
    decode = time.perf_counter() - start
    slices = PatientSlices(made, np.zeros((len(made), 14)), np.arange(len(made)) % 2)
    start, fed = time.perf_counter(), 0
    for image, _, truth in DataLoader(slices, PAPER.batch, shuffle=True, drop_last=True):
        fed += len(augmented(image, truth == 0, PAPER))
    feed = fed / (time.perf_counter() - start)
    precision = "bf16-mixed" if has_bfloat16() else "32-true"
    taken = PAPER.batch / steps(PAPER, PAPER.batch, STEPS, precision)
    once = len(slices) / decode
    both = 1 / (1 / feed + 1 / (PAPER.epochs * once))
    print("| slices a second | |\n|---|---|")
    print(f"| read from NIfTI and cut, once for all epochs | {once:,.0f} |")
    print(f"| read from the cache and augmented | {feed:,.0f} |")
    print(f"| both, over {PAPER.epochs} epochs | {both:,.0f} |")
    print(f"| taken by the network, {PAPER.batch} a step, {PRECISIONS[precision]} | {taken:,.1f} |")
    print(f"\nFed at {both / taken:.1f} times what is taken.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--only", choices=("memory", "seconds", "feeding"))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        peak_of(int(args.peak[0]), int(args.peak[1]), args.peak[2])
        return
    table = args.folder / "cohort.csv"
    if args.only != "memory" and not table.is_file():
        words = [
            "cohort",
            "phantom",
            "-n",
            str(args.patients),
            "-o",
            str(args.folder),
            "--spacing-mm",
            "1",
            "--seed",
            "5",
        ]
        with redirect_stdout(sys.stderr):
            assert gliolens(words) == 0
    if args.only in (None, "memory"):
        memory()
    if args.only in (None, "seconds"):
        seconds(Cases(read_cohort(table), SERIES), args.folder)
    if args.only in (None, "feeding"):
        feeding(Cases(read_cohort(table), SERIES), args.folder)


if __name__ == "__main__":
    main()
