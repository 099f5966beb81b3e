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
from gliolens.cohorts.phantom.ceiling import read_truth
from gliolens.cohorts.splits import patients
from gliolens.io.store import file_hash, read_json, write_json
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.labels import HEALTHY, TARGETS
from gliolens.progress import say

MARK: Final = "shuffled.json"
"""Beside a cohort table whose labels are shuffled."""
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
    """Write `folder/cohort.csv`, the cohort with its labels shuffled (see `shuffle_labels`), and `shuffled.json`.

    It is a table like any other: a method that reads labels from a table of its own is caught when it is given this
    one. What is beside it tells every later reader that its labels mean nothing, and whether the cohort is simulated,
    whose truth lies beside the table that was shuffled. Returns its path.
    """
    table, rows = folder / "cohort.csv", read_cohort(cohort)
    simulated = read_truth(cohort, rows, target) is not None
    mark = {
        "about": SHUFFLED,
        "target": target,
        "seed": seed,
        "cohort": file_hash(cohort),
        "simulated": simulated,
    }
    write_json(folder / MARK, mark)
    write_cohort(table, shuffle_labels(rows, target, seed=seed, healthy=healthy))
    return table


def shuffled_mark(cohort: Path, target: str) -> dict[str, Any] | None:
    """`shuffled.json` beside a cohort table whose labels of this target are shuffled; None where they are its own."""
    mark = cohort.parent / MARK
    told = read_json(mark) if mark.is_file() else {}
    return told if told.get("target") == target else None


def mark_shuffled(table: Sequence[Mapping[str, Any]], cohort: Path, target: str) -> list[dict[str, Any]]:
    """A table of scores, each row marked `labels: shuffled` where the cohort's labels were, which is said too."""
    if shuffled_mark(cohort, target) is None:
        return [dict(row) for row in table]
    marked = [{**row, "labels": "shuffled"} for row in table]
    say(shuffled_note(marked))
    return marked


def shuffled_note(table: Sequence[Mapping[str, Any]]) -> str:
    """What a table of scores on shuffled labels means, and whose intervals lie above one half: who looks at labels.

    Empty where the labels are the cohort's own.
    """
    if not any("labels" in row for row in table):
        return ""
    above = [f"{row['method']} {row['auc'].value:.2f}" for row in table if row["auc"].low > 0.5]
    found = f"Above it here: {', '.join(above)}." if above else "None does here."
    further = " Run it with other seeds: one that stays above it sees test labels." if above else ""
    return f"{SHUFFLED} {found}{further}"
