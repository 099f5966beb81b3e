"""How fast slices become vectors, how much memory that takes, how long 45 configurations take: in one run.

python benchmarks/embedding.py ../shared/data

The plain loop shows the encoder one slice at a time in float32, empty slices included; `embedding` leaves empty slices
out and shows several at once in the processor's fastest precision. Aim: three times as many slices of a volume dealt
with a second, for an encoder of ResNet-50's size; 45 configurations of 55 real patients, from kept vectors, fitted and
scored in less than 60 s; no more memory for all patients than for ten, beside their vectors. How much faster this
processor multiplies in bfloat16 is printed too: no encoder can gain more than that by precision alone.

With --patients N instead: the memory that N simulated patients take, each size in a process of its own.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchvision

from gliolens.cli import main as gliolens
from gliolens.cohorts.layouts.registry import read_case_folder
from gliolens.embedding import embed, encode, pictures_of
from gliolens.encoders.catalogue import find_encoder
from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases, read_case
from gliolens.methods.volume_embedding import Config
from gliolens.papers.li2025 import table1

PIXELS = 224
ROUNDS = 3


def resnet50():
    net = torchvision.models.resnet50()
    net.fc = torch.nn.Identity()
    card = EncoderCard(
        "resnet50", 2048, PIXELS, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "none", "random"
    )
    return Encoder(card, net.eval().requires_grad_(False))


@torch.inference_mode()
def plain_loop(encoder, case):
    """Slices a second, every slice of the volume, one by one."""
    image = torch.from_numpy(case.series["flair"])
    slices = image.permute(2, 0, 1)
    start = time.perf_counter()
    for one in slices:
        sized = torch.nn.functional.interpolate(
            one[None, None], (PIXELS, PIXELS), mode="bicubic", antialias=True
        )
        encoder.net(sized.expand(-1, 3, -1, -1))
    return len(slices), time.perf_counter() - start


def ours(encoder, case):
    """The same volume: slices that hold brain, several at once."""
    pictures, _ = pictures_of(case, ("flair",))
    start = time.perf_counter()
    encode(encoder, pictures["flair"])
    return len(pictures["flair"]), time.perf_counter() - start


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def real_patients(data, folder):
    """The patients of TCGA-LGG; FLAIR stands for the T2 they lack, so that there are 45 configurations."""
    usable = [row for row in index(data, folder) if {"t1", "t1ce", "flair"} <= set(row.files)]
    return [replace(row, files={**row.files, "t2": row.files["flair"]}) for row in usable]


def index(data, folder):
    table = folder / "cohort.csv"
    words = ["cohort", "index", str(data), "--labels", str(data / "clinical.csv"), "-o", str(table)]
    with redirect_stdout(sys.stderr):
        failed = gliolens(words)
    if failed:
        raise SystemExit(f"{data} could not be indexed")
    return read_cohort(table)


def speed(case, encoder):
    ours(encoder, case)  # the first pass chooses its algorithms
    took = [(plain_loop(encoder, case), ours(encoder, case)) for _ in range(ROUNDS)]
    n, m = took[0][0][0], took[0][1][0]
    plain, fast = (statistics.median(t[i][1] for t in took) for i in (0, 1))
    print(f"plain loop: {n} slices in {plain:.1f} s, {n / plain:.1f} a second")
    print(
        f"embedding:  the same volume in {fast:.1f} s, {n / fast:.1f} a second; {m} of its slices hold brain"
    )
    print(f"ratio: {plain / fast:.1f}; counting only slices that hold brain: {m / fast / (n / plain):.1f}")
    print(f"multiplying matrices, bfloat16 against float32: {multiplying():.1f}")


def multiplying():
    """How many times as fast as in float32 this processor multiplies matrices in bfloat16."""
    took = {}
    for kind in (torch.float32, torch.bfloat16):
        a = torch.rand(2048, 2048).to(kind)
        a @ a
        start = time.perf_counter()
        for _ in range(20):
            a @ a
        took[kind] = time.perf_counter() - start
    return took[torch.float32] / took[torch.bfloat16]


def memory(rows, cache):
    """Vectors of all patients; prints the peak of memory after ten and after all."""
    encoder = find_encoder("built-in")
    embed(Cases(rows[:10], SERIES, need_mask=False), encoder, cache)
    ten = peak_mb()
    start = time.perf_counter()
    embedded = embed(Cases(rows, SERIES, need_mask=False), encoder, cache)
    took, size = time.perf_counter() - start, sum(a.nbytes for e in embedded for a in e.values()) / 2**20
    print(
        f"memory: {ten:.0f} MB after 10 patients, {peak_mb():.0f} MB after {len(rows)}; their vectors {size:.0f} MB"
    )
    print(f"built-in encoder: {took / (len(rows) - 10):.2f} s a patient of four series")
    return embedded


def configurations(embedded, widths=(200, 0)):
    truth = np.arange(len(embedded)) % 2  # how long it takes does not depend on who is what
    sides = (list(range(len(truth) * 3 // 4)), list(range(len(truth) * 3 // 4, len(truth))))
    for hidden in widths:
        name = f"MLP of {hidden}" if hidden else "logistic regression"
        done = table1(embedded, truth, sides, Config(hidden=hidden, standardise=hidden == 0), 0)
        print(f"{len(done.rows)} configurations of {len(truth)} patients, {name}: {done.seconds:.0f} s")


def many(n, folder):
    """Memory of encoding 10 and then n simulated patients, of reading what is kept, and of 45 configurations of it."""
    words = ["cohort", "phantom", "-n", str(n), "-o", str(folder), "--spacing-mm", "3", "--seed", "5"]
    with redirect_stdout(sys.stderr):
        if gliolens(words):
            raise SystemExit("no patients could be simulated")
    for size in (10, n):
        subprocess.run([sys.executable, __file__, str(folder), "--only", str(size)], check=True)


def only(folder, n):
    """One of the sizes of `many`, in this process."""
    rows = read_cohort(folder / "cohort.csv")[:n]
    embedded = embed(Cases(rows, SERIES, need_mask=False), find_encoder("built-in"), folder / "cache")
    encoded = peak_mb()
    size = sum(a.nbytes for e in embedded for a in e.values()) / 2**20
    configurations(embedded, widths=(0,))
    print(
        f"{n} patients: {encoded:.0f} MB encoding, {peak_mb():.0f} MB in all; their vectors {size:.0f} MB",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "data", type=Path, help="the shared data; with --patients, where simulated patients are put"
    )
    parser.add_argument("--patients", type=int, help="memory with as many simulated patients")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        return only(args.data, args.only)
    if args.patients:
        return many(args.patients, args.data)
    case = read_case(read_case_folder(args.data / "case_hgg_brats2023")[0])
    speed(case, resnet50())
    with tempfile.TemporaryDirectory() as folder:
        rows = real_patients(args.data / "tcga_lgg", Path(folder))
        configurations(memory(tuple(rows), Path(folder)))


if __name__ == "__main__":
    main()
