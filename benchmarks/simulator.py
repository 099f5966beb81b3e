"""How long a simulated case of 2 mm takes on one core. Aim: 0.5 s. Run it on an idle machine.

python benchmarks/simulator.py [CASES]
"""

import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time

import torch

from gliolens.cohorts.phantom.cohort import simulate_case
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort


def main():
    torch.set_num_threads(1)
    cases, config = int(sys.argv[1]) if len(sys.argv) > 1 else 20, PhantomConfig(spacing_mm=2.0)
    times = []
    for patient in draw_cohort(cases + 1, 0, config):
        start = time.perf_counter()
        simulate_case(patient, config)
        times.append(time.perf_counter() - start)
    times = sorted(times[1:])  # the first one reads the template
    print(f"{statistics.median(times):.2f} s a case (median of {cases}; {times[0]:.2f} to {times[-1]:.2f})")


if __name__ == "__main__":
    main()
