"""The 62 M network of mts-unet on this machine: a whole case against MONAI's sliding window, and a training step.

python benchmarks/mts_unet.py step
python benchmarks/mts_unet.py whole WORK [--steps 300] [--more 120 120]

`step`   peak memory and seconds of a training step: batch 2, 96 voxels an edge, gradient checkpointing; each in its own
         process.
`whole`  outlines a simulated case of 240 x 240 x 155 voxels of 1 mm in two ways, in one run: MONAI's sliding window as
         its tutorials run it (float32, windows of 96, overlap .5, the whole volume, one network call a window) and
         `whole_case.look`. An untrained network tells noise, of which two ways cannot agree, and so does one that has
         learnt for minutes: of two ways to run a network the one that is sure can be compared. So it learns from nine
         other simulated cases, and then the measured one by heart. Kept in WORK: a second call only measures.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from monai.networks.nets.swin_unetr import SwinUNETR
from safetensors.torch import load_file, save_file

from gliolens.case import Case, Grid
from gliolens.cohorts.phantom.cohort import simulate_case
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.crops import brain_volume, crop_around
from gliolens.io.store import whole_file
from gliolens.labels import SERIES
from gliolens.methods.mts_unet import Config, _learning, _network
from gliolens.nn.precision import has_bfloat16
from gliolens.preprocess import brain_of, normalised
from gliolens.progress import say
from gliolens.segmenter import TISSUES, tissue_shares
from gliolens.stats.segmentation import dice
from gliolens.tasks import Task
from gliolens.whole_case import look
from gliolens.windows import filled_up

PAPER = Config.preset("paper")
TASKS = [Task(t, ("a", "b"), (0.5, 0.5)) for t in PAPER.tasks]
HEAD = (240, 240, 155)
CASES, SEED = 10, 7
LEARNING = replace(PAPER, lean=False)  # with one cube a step memory is no matter


def memory_mb():
    """The peak of this process; a child's own, which `ru_maxrss` is not."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def step(precision):
    """Three steps at the paper's size."""
    torch.manual_seed(0)
    net = _network(PAPER, len(TISSUES), TASKS)
    task = _learning(net, TASKS, PAPER, 10)
    optimiser = task.configure_optimizers()["optimizer"]
    edge, b, took = PAPER.edge, PAPER.batch, []
    batch = [torch.randn(b, 4, edge, edge, edge), torch.ones(b, 4, dtype=torch.bool),
             torch.randint(0, 4, (b, 1, edge, edge, edge)), torch.ones(b, dtype=torch.bool),
             torch.zeros(b, len(TASKS), dtype=torch.long)]  # fmt: skip
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = task.training_step(batch, 0)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        took.append(time.perf_counter() - start)
    print(f"| {precision} | {memory_mb():,.0f} | {np.median(took):.1f} |", flush=True)


def steps():
    print("| precision | peak memory, MB | seconds a step |\n|---|---|---|", flush=True)
    for precision in ["float32", *(["bfloat16"] if has_bfloat16() else [])]:
        subprocess.run([sys.executable, __file__, "step", "--precision", precision], check=True)


# --- a whole case ----------------------------------------------------------------------------------------------


def head(case):
    """The case in a volume of 240 x 240 x 155, as BraTS has them."""
    first = [(n - m) // 2 for n, m in zip(HEAD, case.grid.shape, strict=True)]
    cut = [slice(max(0, -f), max(0, -f) + n) for f, n in zip(first, HEAD, strict=True)]
    place = [slice(max(0, f), max(0, f) + m) for f, m in zip(first, case.grid.shape, strict=True)]

    def padded(array):
        out = np.zeros(HEAD, array.dtype)
        seen = array[tuple(cut)]
        out[tuple(slice(p.start, p.start + n) for p, n in zip(place, seen.shape, strict=True))] = seen
        return out

    affine = case.grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array(first, float)
    brain = padded(brain_of(case))
    return Case(case.id, Grid(HEAD, affine), {s: padded(x) for s, x in case.series.items()}, Grid(HEAD, affine),
                tumour=padded(case.tumour), brain=brain)  # fmt: skip


def trained(work, cases, steps):
    """The network after some steps on all cases but the last: cubes of 64, half around the tumour, half anywhere."""
    net, file = _network(LEARNING, len(TISSUES), TASKS), work / f"network-{steps}.safetensors"
    if file.is_file():
        net.load_state_dict(load_file(file))
        return net
    made = [brain_volume(case, SERIES, 1.0) for case in cases[:-1]]
    net.backbone.expect(tissue_shares(made, len(TISSUES)))
    looks = Looks([(m["image"].astype(np.float32), m["labels"]) for m in made], 64)
    return learnt(net, looks, steps, 4e-4, file)


def by_heart(work, net, case, steps, more):
    """The same after rounds of steps on the case measured: the windows that MONAI looks at, half with tumour."""
    file = work / f"network-{'-'.join(map(str, [steps, *more]))}.safetensors"
    if file.is_file():
        net.load_state_dict(load_file(file))
        return net.eval()
    net = by_heart(work, net, case, steps, more[:-1]) if more[:-1] else net
    images, rng = normalised(case, brain_of(case)), np.random.default_rng(SEED)
    image = torch.from_numpy(np.stack([images[s] for s in SERIES]))
    seen = dense_patch_slices(HEAD, (PAPER.edge,) * 3, (PAPER.edge // 2,) * 3)
    held = [w for w in seen if (case.tumour[w] > 0).sum() > 1000]

    def look_at(i):
        pool = seen if i % 2 else held
        where = pool[rng.integers(len(pool))]
        return image[(slice(None), *where)][None], torch.from_numpy(case.tumour[where].astype(np.int64))[
            None, None
        ]

    return learnt(net, look_at, more[-1], 2e-4, file)


class Looks:
    """Cubes of cases, left and right swapped at random: even ones around the tumour, odd ones anywhere."""

    def __init__(self, cases, edge):
        self.cases, self.edge, self.rng = cases, edge, np.random.default_rng(SEED)

    def __call__(self, i):
        image, labels = self.cases[i % len(self.cases)]
        size = np.array(labels.shape)
        middle = self.rng.integers(0, size)
        if i % 2 == 0:
            middle = self.rng.choice(np.argwhere(labels > 0)) + self.rng.integers(-8, 9, 3)
        where = crop_around(middle, size, self.edge)
        cube = filled_up(torch.from_numpy(np.ascontiguousarray(image[(slice(None), *where)])), self.edge)
        known = filled_up(torch.from_numpy(labels[where].astype(np.int64))[None], self.edge)
        if self.rng.random() < 0.5:
            cube, known = cube.flip(1), known.flip(1)
        return cube[None], known[None]


def learnt(net, looks, steps, rate, file):
    """The network after some steps of the outline's loss, kept in a file."""
    task = _learning(net.train(), TASKS, replace(PAPER, task_weight=0.0), steps)
    optimiser = torch.optim.AdamW(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    there, known, classes = (
        torch.ones(1, 4, dtype=torch.bool),
        torch.ones(1, dtype=torch.bool),
        torch.zeros(1, 3),
    )
    start = time.perf_counter()
    for i in range(steps):
        image, labels = looks(i)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            loss = task.training_step([image, there, labels, known, classes.long()], 0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if i % 10 == 9:
            say(f"step {i + 1}, loss {loss.item():.2f}, {time.perf_counter() - start:.0f} s")
    with whole_file(file) as unfinished:
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, unfinished)
    return net.eval()


def whole(work, steps, more):
    work.mkdir(parents=True, exist_ok=True)
    config = PhantomConfig(spacing_mm=1.0)
    cases = [simulate_case(p, config) for p in draw_cohort(CASES, SEED, config)]
    case = head(cases[-1])
    net = by_heart(work, trained(work, cases, steps), case, steps, more)
    start = time.perf_counter()
    made = brain_volume(case, SERIES, 1.0)
    read = time.perf_counter() - start
    mine, took = {}, {}
    for overlap in (0.25, 0.5):
        start = time.perf_counter()
        mine[overlap] = look(net, made, PAPER.edge, overlap)
        took[overlap] = time.perf_counter() - start
    theirs, tutorial = by_tutorial(net, case)
    shape = "x".join(map(str, mine[0.5].tissues.shape[1:]))
    print(f"brain's box {shape}; preparing it {read:.1f} s, not counted in any")
    print("| way | seconds | times as fast |\n|---|---|---|")
    print(f"| MONAI's sliding window, overlap .5 | {tutorial:.1f} | 1 |")
    for overlap, seconds in took.items():
        print(f"| whole_case.look, overlap {overlap} | {seconds:.1f} | {tutorial / seconds:.1f} |")
    for overlap, seen in mine.items():
        print(f"\noverlap {overlap}")
        compare(case, seen, theirs)


def by_tutorial(net, case):
    brain = brain_of(case)
    image = torch.from_numpy(np.stack([normalised(case, brain)[s] for s in SERIES]))[None]
    theirs = SwinUNETR(len(SERIES), len(TISSUES), feature_size=PAPER.feature_size)
    theirs.load_state_dict(net.backbone.net.state_dict())
    theirs.eval()
    start = time.perf_counter()
    with torch.inference_mode():
        logits = sliding_window_inference(image, PAPER.edge, 1, theirs, overlap=0.5)
        took = time.perf_counter() - start
    return logits[0].argmax(dim=0).numpy(), took


def compare(case, mine, theirs):
    """Dice between the two outlines, on the case's own grid, and of each with the truth."""
    origin = np.linalg.inv(case.grid.affine) @ mine.grid.affine[:, 3]
    first = np.round(origin[:3]).astype(int)
    assert np.allclose(first, origin[:3], atol=1e-3), "the brain's box lies between the voxels"
    drawn = np.zeros(HEAD, int)
    size = mine.tissues.shape[1:]
    low = [max(0, -f) for f in first]
    high = [min(n, h - f) for n, h, f in zip(size, HEAD, first, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    place = tuple(slice(f + a, f + b) for f, a, b in zip(first, low, high, strict=True))
    drawn[place] = mine.tissues.argmax(axis=0)[inside]
    theirs = np.where(brain_of(case), theirs, 0)
    drawn = np.where(brain_of(case), drawn, 0)
    print("| region | Dice between the two | ours, of the truth | MONAI's, of the truth |\n|---|---|---|---|")
    for name, labels in {"whole tumour": (1, 2, 3), "core": (1, 3), "enhancing": (3,)}.items():
        a, b, t = (np.isin(x, labels) for x in (drawn, theirs, case.tumour))
        print(f"| {name} | {dice(a, b):.4f} | {dice(a, t):.2f} | {dice(b, t):.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["step", "whole"])
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--more", type=int, nargs="+", default=[120, 120])
    parser.add_argument("--precision", choices=["float32", "bfloat16"])
    asked = parser.parse_args()
    if asked.what == "whole":
        whole(asked.work, asked.steps, asked.more)
    elif asked.precision:
        step(asked.precision)
    else:
        steps()
