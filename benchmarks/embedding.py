"""How fast slices become vectors, how much memory that takes, how long 45 configurations take: in one run.

python benchmarks/embedding.py ../shared/data

The plain loop shows the encoder one slice at a time in float32, empty slices included; `embedding` leaves empty slices
out and shows several at once in the processor's fastest precision. Aim: three times as many slices a second, for an
encoder of ResNet-50's size; 45 configurations of 55 real patients, from kept vectors, fitted and scored in less than
60 s; no more memory for all patients than for ten, beside their vectors.
"""

import argparse
import resource
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
from gliolens.embedding import FRAME_MM, embed, encode, pictures_of
from gliolens.encoders.catalogue import find_encoder
from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases, read_case
from gliolens.methods.volume_embedding import Config
from gliolens.papers.li2025 import table1

PIXELS = 224


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
    (n, plain), (m, fast) = plain_loop(encoder, case), ours(encoder, case)
    print(f"plain loop: {n} slices, {n / plain:.1f} a second; a volume in {plain:.1f} s")
    print(f"embedding:  {m} slices of {FRAME_MM} mm, {m / fast:.1f} a second; a volume in {fast:.1f} s")
    print(f"ratio: {m / fast / (n / plain):.1f} in slices a second, {plain / fast:.1f} in volumes")


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


def configurations(embedded):
    truth = np.arange(len(embedded)) % 2  # how long it takes does not depend on who is what
    sides = (list(range(len(truth) * 3 // 4)), list(range(len(truth) * 3 // 4, len(truth))))
    for hidden, name in ((200, "MLP of 200"), (0, "logistic regression")):
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
        configurations(memory(tuple(rows), Path(folder)))


if __name__ == "__main__":
    main()
