"""What R3D, R(2+1)D and MC3 cost a case, side by side: parameters, multiply-adds, seconds and memory.

python benchmarks/spatio_spatial.py [--voxels 80 96 80]

Of one volume of one series at the paper's size (2 mm): answering, and a training step at batch 1, in bfloat16 where the
processor has it. Each network in a process of its own, three times in turn; medians. Ratios are to MC3, of which the
paper says that it is the cheapest.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from gliolens.methods.spatio_spatial import Config, _network, _Task
from gliolens.nn.precision import has_bfloat16
from gliolens.papers.chatterjee2022.networks import NAMES

TURNS = 3


def memory_mb():
    status = Path(
        "/proc/self/status"
    ).read_text()  # the peak of this process, which `ru_maxrss` of a child is not
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def measured(kind, voxels, what):
    config = Config.preset("paper")
    net = _network(Config(**{**vars(config), "network": kind}), 3)
    volume = torch.rand(1, 1, voxels[2], voxels[0], voxels[1])
    told = {"parameters": sum(p.numel() for p in net.parameters())}
    step = answer(net, volume) if what == "answer" else learn(net, volume, config)
    step()
    took = []
    for _ in range(3):
        start = time.perf_counter()
        step()
        took.append(time.perf_counter() - start)
    told |= {"seconds": float(np.median(took)), "memory": memory_mb()}
    with FlopCounterMode(display=False) as counter, torch.inference_mode():  # last: it is no part of the peak
        net.eval()(volume)
    return told | {"multiply-adds": counter.get_total_flops() / 2}


def answer(net, volume):
    def once():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            net.eval()(volume)

    return once


def learn(net, volume, config):
    task = _Task(net.train(), np.ones(3), config, steps=10)
    optimiser = task.configure_optimizers()

    def once():
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            loss = task.training_step([volume, torch.tensor([1])], 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return once


def one(kind, what, voxels):
    words = [sys.executable, __file__, "--one", kind, "--what", what, "--voxels", *map(str, voxels)]
    return json.loads(
        subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )


def table(voxels):
    runs = {(k, w): [] for k in NAMES for w in ("answer", "step")}
    for _ in range(TURNS):
        for kind, what in runs:
            runs[kind, what].append(one(kind, what, voxels))
    median = {key: {n: float(np.median([r[n] for r in told])) for n in told[0]} for key, told in runs.items()}
    print(
        "| network | parameters | multiply-adds, 10^9 | answering, s (x MC3) | peak, MB "
        "| a step, s (x MC3) | peak, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind, name in NAMES.items():
        a, s = median[kind, "answer"], median[kind, "step"]
        ratios = [m["seconds"] / median["mc3", w]["seconds"] for m, w in ((a, "answer"), (s, "step"))]
        size = f"{a['parameters']:,.0f} | {a['multiply-adds'] / 1e9:.1f}"
        cost = [
            f"{m['seconds']:.2f} ({r:.2f}) | {m['memory']:,.0f}" for m, r in zip((a, s), ratios, strict=True)
        ]
        print(f"| {name} | {size} | {cost[0]} | {cost[1]} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voxels", type=int, nargs=3, default=[80, 96, 80])
    parser.add_argument("--one", choices=list(NAMES))
    parser.add_argument("--what", choices=["answer", "step"])
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.one, asked.voxels, asked.what)))
    else:
        table(asked.voxels)
