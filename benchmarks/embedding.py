"""How fast slices become vectors, and 45 configurations are fitted: ratios in one run.

python benchmarks/embedding.py ../shared/data/case_hgg_brats2023 [--cohort cohort.csv]

The plain loop shows the encoder one slice at a time in float32, empty slices included; `embedding` leaves empty slices
out and shows several at once in the processor's fastest precision. Aim: three times as many slices a second, for an
encoder of ResNet-50's size; 45 configurations of 55 patients fitted and scored in less than 60 s. With a cohort of more
than ten cases: how much more memory all of them need than ten do, beside the size of their vectors.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision

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
PATIENTS, DIM, SLICES = 55, 1024, 25


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


def memory(cohort):
    """Peak memory after ten cases and after all, and the size of the vectors, in MB."""
    rows, encoder = read_cohort(cohort), find_encoder("built-in")
    with tempfile.TemporaryDirectory() as cache:
        embed(Cases(rows[:10], SERIES, need_mask=False), encoder, Path(cache))
        ten = peak_mb()
        vectors = embed(Cases(rows, SERIES, need_mask=False), encoder, Path(cache))
        return len(rows), ten, peak_mb(), sum(a.nbytes for e in vectors for a in e.values()) / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=Path)
    parser.add_argument("--cohort", type=Path)
    args = parser.parse_args()
    if args.cohort:
        n, ten, every, vectors = memory(args.cohort)
        print(
            f"memory: 10 cases {ten:.0f} MB, {n} cases {every:.0f} MB; all vectors {vectors:.0f} MB, on disk"
        )
    case, encoder = read_case(read_case_folder(args.case)[0]), resnet50()
    ours(encoder, case)  # the first pass chooses its algorithms
    (n, plain), (m, fast) = plain_loop(encoder, case), ours(encoder, case)
    print(f"plain loop: {n} slices, {n / plain:.1f} a second; a volume in {plain:.1f} s")
    print(f"embedding:  {m} slices of {FRAME_MM} mm, {m / fast:.1f} a second; a volume in {fast:.1f} s")
    print(f"ratio: {m / fast / (n / plain):.1f} in slices a second, {plain / fast:.1f} in volumes")
    rng = np.random.default_rng(0)
    truth = np.arange(PATIENTS) % 2
    embedded = [{s: rng.normal(size=(SLICES, DIM)).astype(np.float32) for s in SERIES} for _ in truth]
    for hidden, name in ((200, "MLP of 200"), (0, "logistic regression")):
        config = Config(hidden=hidden, standardise=False, balanced=False)
        done = table1(embedded, truth, (list(range(41)), list(range(41, PATIENTS))), config, 0)
        print(f"45 configurations of {PATIENTS} patients, {name}: {done.seconds:.0f} s")


if __name__ == "__main__":
    main()
