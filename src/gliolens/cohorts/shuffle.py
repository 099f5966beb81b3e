"""A cohort whose labels are dealt out anew: no honest method can score better than chance on it.

The permuted-labels control shuffles the training labels of a control; it cannot unmask a method that looks at test
labels. Here the labels of the whole cohort are shuffled before anything else sees it, so that nothing about a patient
tells his label but the label itself: a method that scores above chance has looked at it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from gliolens.case import CaseRow
from gliolens.cohorts.splits import patients
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.labels import HEALTHY, TARGETS

SHUFFLED: Final = (
    "LABELS ARE SHUFFLED: no score here says anything about the cohort. The truth of every AUC is 0.5; an honest "
    "method's interval lies wholly above that once in forty times."
)


def shuffle_labels(
    rows: Sequence[CaseRow], target: str, *, seed: int, healthy: bool = False
) -> tuple[CaseRow, ...]:
    """Deal the classes of a target out anew among the patients who have one; all exams of a patient get the same.

    Args:
        rows: the cohort.
        target: whose classes are dealt; all else stays.
        seed: of the dealing; the order of the rows does not matter.
        healthy: whether the healthy take part; else they stay what they are.

    Returns:
        The rows in their order. Of a patient with exams of several classes the last in the vocabulary's order is dealt.
    """
    who, classes = patients(rows), dict[str, str]()
    for row in rows:
        label = row.targets.get(target)
        if label is not None and (healthy or row.targets.get("grade") != HEALTHY):
            name = who[row.case]
            classes[name] = max(classes.get(name, label), label, key=TARGETS[target].index)
    names = sorted(classes)
    dealt = dict(
        zip(names, np.random.default_rng(seed).permutation([classes[n] for n in names]), strict=True)
    )
    return tuple(
        replace(row, targets={**row.targets, target: str(dealt[who[row.case]])})
        if target in row.targets and who[row.case] in dealt
        else row
        for row in rows
    )


def write_shuffled(cohort: Path, folder: Path, target: str, *, seed: int, healthy: bool = False) -> Path:
    """Write `folder/cohort.csv`, the cohort with its labels shuffled; see `shuffle_labels`.

    It is a table like any other: a method that reads labels from a table of its own is caught when it is given this
    one. Returns its path.
    """
    table = folder / "cohort.csv"
    write_cohort(table, shuffle_labels(read_cohort(cohort), target, seed=seed, healthy=healthy))
    return table


def shuffled_note(table: Sequence[Mapping[str, Any]]) -> str:
    """What a table of scores on shuffled labels means, and whose intervals lie above one half: who looks at labels."""
    above = [f"{row['method']} {row['auc'].value:.2f}" for row in table if row["auc"].low > 0.5]
    found = f"Above it here: {', '.join(above)}." if above else "None does here."
    further = " Run it with other seeds: one that stays above it sees test labels." if above else ""
    return f"{SHUFFLED} {found}{further}"
