"""Chatterjee et al. 2022 (spatio-spatial networks): six networks, three folds of 7 to 3, on any cohort.

The healthy show T1 in the place of T1 with contrast, as published, where the cohort has no other way or is asked to
(`--set matched=False`); else everybody shows the same series, and the report says what the third class was worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import read_truth
from gliolens.cohorts.splits import holdout, write_split
from gliolens.errors import CohortError, ConfigError
from gliolens.io.store import file_hash, write_json
from gliolens.io.tables import read_cohort
from gliolens.labels import TARGETS
from gliolens.loader import Cases, fingerprint, select
from gliolens.method import Run, changed
from gliolens.methods.spatio_spatial import Config
from gliolens.papers.chatterjee2022.free import HEALTHY, told_by_brightness
from gliolens.papers.chatterjee2022.networks import Network
from gliolens.papers.kept import check_folder
from gliolens.progress import say
from gliolens.protocol import Entrant, compete

METHOD: Final = "spatio-spatial"
FOLDS: Final = 3
TEST_SHARE: Final = 0.3


def folds_of(cases: Cases, target: str, seed: int, out: Path) -> list[tuple[Cases, Cases]]:
    """Three divisions of 7 to 3 by patient, each drawn anew."""
    sides = []
    for k in range(FOLDS):
        division = holdout(cases.rows, target, test=TEST_SHARE, seed=seed + k)
        write_split(out / f"splits-{k + 1}.json", division)
        sides.append((cases.only(division.folds[0].train), cases.only(division.folds[0].test)))
    return sides


def as_published(rows: Sequence[CaseRow]) -> tuple[CaseRow, ...]:
    """The healthy show T1 in the place of T1 with contrast: the leak of the published design."""
    return tuple(
        replace(row, files={**row.files, "t1ce": row.files["t1"]})
        if row.targets.get("grade") == HEALTHY and "t1" in row.files
        else row
        for row in rows
    )


def answers_of(network: Network, sides: Sequence[tuple[Cases, Cases]], run: Run) -> list[pd.DataFrame]:
    """A network's answers, one table a fold."""
    say(f"network: {network.name}")
    entrant = Entrant(network.name, METHOD, network.config)
    return [
        compete(entrant, train, test, replace(run, folder=run.folder / "networks" / network.folder / f"fold-{k + 1}"))
        for k, (train, test) in enumerate(sides)
    ]
