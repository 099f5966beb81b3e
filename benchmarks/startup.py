"""How long the commands take that should feel instant. Aim: 0.4 s.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = (["--help"], ["info", "--json"], ["train", "--help"], ["cohort", "check", "--help"])
REPEATS = 5


def seconds(arguments: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    program = str(Path(sys.executable).with_name("gliolens"))
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


for command in COMMANDS:
    times = [seconds(command) for _ in range(REPEATS)]
    print(f"{statistics.median(times):.2f} s  gliolens {' '.join(command)}  (median of {REPEATS})")
