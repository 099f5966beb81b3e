"""Memory and seconds of a training step of segmentation-fusion at the paper's size, each network in its own process.

python benchmarks/segmentation_fusion.py

One patient: 32 slices of 128 x 128 for the 2-D U-Net, the whole cube of 128 for the 3-D one, 32 slices for the ResNet.
"""

import argparse
import resource
import subprocess
import sys
import time

import lightning as L  # noqa: N812
import torch
from torch.nn import functional as F  # noqa: N812

from gliolens.labels import SERIES
from gliolens.methods.segmentation_fusion import Config
from gliolens.nn.precision import has_bfloat16
from gliolens.nn.resnet import slice_resnet
from gliolens.nn.unet import UNet
from gliolens.segmenter import TISSUES, Task, loss_of

NETWORKS = ("2-D U-Net", "3-D U-Net", "ResNet-50")
STEPS = 3


def batch_and_task(network, config):
    edge, n = config.edge, config.slices
    weights, channels, tissues = torch.ones(len(TISSUES)), len(SERIES), len(TISSUES)
    if network == "ResNet-50":
        net = slice_resnet(tissues - 1, tissues, config.depth)
        return (torch.rand(n, 3, edge, edge), torch.randint(0, 4, (n,))), Task(net, F.cross_entropy, 1e-3, 9)
    dims = int(network[0])
    shape = (n, channels, edge, edge) if dims == 2 else (1, channels, edge, edge, edge)
    net = UNet(channels, tissues, config.widths_2d if dims == 2 else config.widths_3d, dims=dims)
    truth = torch.randint(0, tissues, (shape[0], 1, *shape[2:]))
    return (torch.rand(shape), truth), Task(net, loss_of(config.loss, weights), config.rate, 9)


def step(network):
    batch, task = batch_and_task(network, Config.preset("paper"))
    trainer = L.Trainer(
        max_steps=STEPS, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, precision="bf16-mixed" if has_bfloat16() else "32-true", accelerator="cpu",
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(task, torch.utils.data.DataLoader([batch] * STEPS, batch_size=None))
    seconds = (time.perf_counter() - start) / STEPS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{network}: {peak:.1f} GB at most, {seconds:.1f} s a step")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NETWORKS)
    args = parser.parse_args()
    if args.only:
        step(args.only)
        return
    for network in NETWORKS:
        subprocess.run([sys.executable, __file__, "--only", network], check=True)


if __name__ == "__main__":
    main()
