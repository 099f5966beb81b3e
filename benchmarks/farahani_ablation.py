"""What TAFE, CMD and the composition add to mts-unet: full and ablated networks, trained on the same patients.

python benchmarks/farahani_ablation.py COHORT WORK [--target idh] [--scale demo] [--epochs 8] [--networks NAME ...]

The networks are those of `gliolens reproduce farahani2025`, whose rows are named; that command trains them one after
the other, with single tasks, sites and baselines. Here each takes one core, two at once: on two cores that is a third
faster. Prints the ablation and the differences on the same patients, p after Holm over all rows.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from gliolens.cohorts.splits import holdout
from gliolens.io.store import file_hash
from gliolens.io.tables import read_cohort
from gliolens.method import Run
from gliolens.methods.mts_unet import identity
from gliolens.papers.farahani2025.networks import FULL, SOUND, networks
from gliolens.papers.farahani2025.reproduction import TEST_SHARE, _config, _sides, _tasks
from gliolens.papers.farahani2025.tables import ablation, compared
from gliolens.papers.farahani2025.trials import METHOD, try_network
from gliolens.papers.kept import check_folder
from gliolens.protocol import Entrant
from gliolens.report.words import in_words
from gliolens.stats.intervals import Interval
from gliolens.usable import common_series, usable_cases

NAMES = ("full, sound", "no TAFE, sound", "no CMD, sound", "composition alone, sound", "no composition, sound", "full",
         "no TAFE", "no CMD", "neither")  # fmt: skip
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}


class Trials:
    """The division, and what each network told of those tested."""

    def __init__(self, asked):
        rows = read_cohort(asked.cohort)
        config = _config(asked.scale, {"epochs": asked.epochs}, common_series(rows, asked.target))
        told = {"cohort": file_hash(asked.cohort), "target": asked.target, "seed": asked.seed}
        check_folder(asked.work, {**told, "settings": asdict(config), "version": identity(config)})
        found = usable_cases(rows, target=asked.target, series=config.series, cache=asked.work / "cache",
                             entrants=[Entrant(METHOD, METHOD, config)])  # fmt: skip
        division = holdout(found.cases.rows, asked.target, test=TEST_SHARE, seed=asked.seed)
        self.sides = _sides(division, 0, found)
        self.tasks = _tasks(config, asked.target, *self.sides)
        self.run = Run(asked.target, found.classes, asked.work, asked.work / "cache", asked.seed,
                       found.others_beside(division, 0, rows))  # fmt: skip
        wanted = {FULL, SOUND, *asked.networks}
        self.every = [n for n in networks(config, tuple(t.target for t in self.tasks)) if n.name in wanted]
        self.every = [
            n for n in self.every if any(m.group == n.group and m.name in asked.networks for m in self.every)
        ]

    def of(self, network):
        return try_network(network, *self.sides, self.run, self.tasks)


def show(table):
    table = pd.DataFrame(table)
    print("| " + " | ".join(table.columns) + " |\n" + "|---" * len(table.columns) + "|")
    for row in table.to_dict("records"):
        print("| " + " | ".join(shown(c, v) for c, v in row.items()) + " |")
    print()


def shown(column, value):
    if isinstance(value, Interval):
        return in_words(value)
    return f"{value:.3f}" if isinstance(value, float) and column.startswith("p") else str(value)


def together(names, at_once):
    """Some networks at once, each a process of its own."""
    waiting, busy = list(names), []
    while waiting or busy:
        while waiting and len(busy) < at_once:
            one = [sys.executable, *sys.argv, "--one", waiting.pop(0)]
            busy.append(subprocess.Popen(one, env=os.environ | ONE_CORE))
        time.sleep(1)
        if any(child.poll() for child in busy):
            for child in busy:
                child.terminate()
            sys.exit("a network failed")
        busy = [child for child in busy if child.poll() is None]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--target", default="idh")
    parser.add_argument("--scale", default="demo")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--networks", nargs="+", default=list(NAMES))
    parser.add_argument("--one", help="train this one only")
    asked = parser.parse_args()
    if asked.one:
        trials = Trials(asked)
        trials.of(next(n for n in trials.every if n.name == asked.one))
    else:
        trials = Trials(asked)
        together([n.name for n in trials.every], asked.at_once)
        told = {n.name: trials.of(n) for n in trials.every}
        none = {t.target: pd.DataFrame({"method": []}) for t in trials.tasks}
        print(f"{len(trials.sides[0])} patients to learn from, {len(trials.sides[1])} to test\n")
        show(ablation(trials.every, told, trials.tasks, asked.seed))
        show(compared(trials.every, told, none, trials.tasks))
