"""How much memory volume embeddings take with 10 and with many patients: each size in a process of its own.

python benchmarks/memory.py FOLDER --patients 1000

Simulates the patients into FOLDER where they are not there, encodes their four series, then fits and scores 45
configurations and the attention from the kept vectors. Aim: many patients take what ten take, beside their vectors.
"""

import argparse
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from embedding import configurations

from gliolens.cli import main as gliolens
from gliolens.embedding import embed
from gliolens.encoders.catalogue import find_encoder
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases
from gliolens.methods.volume_embedding import Config, learn
from gliolens.readers import Choice


def simulate(n, folder):
    words = ["cohort", "phantom", "-n", str(n), "-o", str(folder), "--spacing-mm", "3", "--seed", "5"]
    with redirect_stdout(sys.stderr):
        if gliolens(words):
            raise SystemExit("no patients could be simulated")


def peak_mb():
    told = Path("/proc/self/status").read_text()  # not ru_maxrss: that begins at the parent's peak
    return int(re.search(r"VmHWM:\s+(\d+)", told)[1]) / 1024


def measure(n, folder):
    rows = read_cohort(folder / "cohort.csv")[:n]
    embedded = embed(Cases(rows, SERIES, need_mask=False), find_encoder("built-in"), folder / f"cache-{n}")
    encoding = peak_mb()
    size = sum(array.nbytes for e in embedded for array in e.values()) / 2**20
    configurations(embedded, widths=(0,))
    truth = np.arange(n) % 2
    learn(embedded, truth, Choice("attention", SERIES), Config(), 0, folder / f"attention-{n}")
    print(f"{n} patients: {encoding:.0f} MB encoding, {peak_mb():.0f} MB in all; their vectors {size:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measure(args.only, args.folder)
        return
    if not (args.folder / "cohort.csv").is_file():
        simulate(args.patients, args.folder)
    for n in (10, args.patients):
        subprocess.run([sys.executable, __file__, str(args.folder), "--only", str(n)], check=True)


if __name__ == "__main__":
    main()
