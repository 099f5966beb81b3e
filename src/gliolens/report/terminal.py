"""Tables of scores on stdout."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gliolens.cohorts.phantom.ceiling import ceiling_note
from gliolens.labels import REGION_TITLES
from gliolens.outline_scores import TITLES
from gliolens.protocol import SCORES
from gliolens.stats.classification import SCORE_TITLES
from gliolens.stats.intervals import Interval


def print_scores(table: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of scores on stdout, each with its 95 % interval."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "n", *(SCORE_TITLES[s] for s in SCORES)):
        shown.add_column(title, no_wrap=True)
    kinds = [
        "controls:" if row["control"] else "best that can be:" if row["ceiling"] else "" for row in table
    ]
    for i, (kind, row) in enumerate(zip(kinds, table, strict=True)):
        if kind and (i == 0 or kinds[i - 1] != kind):
            shown.add_row(kind, style="dim")
        cells = [_cell(row[s]) for s in SCORES]
        shown.add_row(("  " if kind else "") + str(row["method"]), str(row["n"]), *cells)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(shown)
    if note := ceiling_note(table):
        console.print(note, style="dim", highlight=False)


def _cell(score: Interval, digits: int = 2) -> str:
    if math.isnan(score.value):
        return f"not known: {score.reason}"
    bounds = (
        "bounds not known" if math.isnan(score.low) else f"{score.low:.{digits}f} to {score.high:.{digits}f}"
    )
    return f"{score.value:.{digits}f} ({bounds})"


def print_outlines(means: Sequence[Mapping[str, Any]]) -> None:
    """Print the means on stdout, each with its 95 % interval."""
    shown = Table("", "outline of", "n", *TITLES.values(), box=None, pad_edge=False, header_style="bold")
    for row in means:
        digits = {s: 0 if s == "hd95_mm" else 2 for s in TITLES}
        cells = [_cell(row[s], d) for s, d in digits.items()]
        shown.add_row(str(row["method"]), REGION_TITLES[row["region"]].lower(), str(row["n"]), *cells)
    Console(width=180).print(shown)
