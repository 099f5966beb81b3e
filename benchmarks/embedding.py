"""How fast slices become vectors, and how long 45 configurations of them take: in one run.

python benchmarks/embedding.py ../shared/data

The plain loop shows the encoder one slice at a time in float32, empty slices included; `embedding` leaves empty slices
out and shows several at once in the processor's fastest precision. Aims: three times as many slices of a volume dealt
with a second, for an encoder of ResNet-50's size; 45 configurations of 55 real patients, from kept vectors, fitted and
scored in less than 60 s. How much faster this processor multiplies in bfloat16 is printed too: precision alone can
gain no more than that.
"""

import argparse
import statistics
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
    print(f"embedding: the same volume in {fast:.1f} s, {n / fast:.1f} a second; {m} slices of it hold brain")
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


def encoded(rows, cache):
    """Vectors of patients, from the encoder in the package."""
    start = time.perf_counter()
    out = embed(Cases(rows, SERIES, need_mask=False), find_encoder("built-in"), cache)
    print(f"built-in encoder: {(time.perf_counter() - start) / len(rows):.2f} s a patient of four series")
    return out


def configurations(embedded, widths=(200, 0)):
    truth = np.arange(len(embedded)) % 2  # how long it takes does not depend on who is what
    sides = (list(range(len(truth) * 3 // 4)), list(range(len(truth) * 3 // 4, len(truth))))
    for hidden in widths:
        name = f"MLP of {hidden}" if hidden else "logistic regression"
        done = table1(embedded, truth, sides, Config(hidden=hidden, standardise=hidden == 0), 0)
        print(f"{len(done.rows)} configurations of {len(truth)} patients, {name}: {done.seconds:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    case = read_case(read_case_folder(args.data / "case_hgg_brats2023")[0])
    speed(case, resnet50())
    with tempfile.TemporaryDirectory() as folder:
        rows = real_patients(args.data / "tcga_lgg", Path(folder))
        configurations(encoded(tuple(rows), Path(folder)))


if __name__ == "__main__":
    main()
