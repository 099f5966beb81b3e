"""Another cohort: methods fitted to all usable patients of one cohort answer those of the other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from gliolens.case import CaseRow
from gliolens.cohorts.identity import names
from gliolens.cohorts.splits import patients
from gliolens.errors import LeakError
from gliolens.io.content import address
from gliolens.io.store import file_hash, write_json
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant, compete
from gliolens.stats.calibration import calibration_line
from gliolens.stats.differences import independent_difference

NAMED: Final = 5
"""Cases that an error names."""


def check_strangers(here: Sequence[CaseRow], there: Sequence[CaseRow]) -> None:
    """Refuse a cohort of which a patient is in this one too: by a name or alias, or by a scan that is the same file.

    Names agree where they differ in case, separators or leading zeros alone. Of a patient who is met, all rows are.
    Files are compared where their sizes are equal. What was stored anew is not found so:
    `gliolens cohort check --deep --against` looks at the images.

    Raises:
        LeakError: names such cases.
    """
    ours, same, who = set().union(*map(names, here)), _same_files(here, there), patients(there)
    people = {who[row.case] for row in there if names(row) & ours or same & set(_scans(row))}
    if known := [row.case for row in there if who[row.case] in people]:
        raise LeakError(
            f"{len(known)} cases of the other cohort are of patients of this one, by name or by their scans: "
            f"{', '.join(known[:NAMED])}; take them out of one of the two tables"
        )


def _same_files(here: Sequence[CaseRow], there: Sequence[CaseRow]) -> set[Path]:
    """Scans there of which one here has every byte; each is read once, where both sides have a file of its size."""
    ours, theirs = ({file for row in rows for file in _scans(row)} for rows in (here, there))
    sizes = {file: file.stat().st_size for file in ours | theirs}
    shared = {sizes[file] for file in ours} & {sizes[file] for file in theirs}
    asked = sorted(file for file in sizes if sizes[file] in shared)
    tick = Counter("comparing scans of both cohorts")
    hashes = {}
    for done, file in enumerate(asked, 1):
        hashes[file] = file_hash(file)
        tick(done, len(asked))
    known = {hashes[file] for file in ours if file in hashes}
    return {file for file in theirs if hashes.get(file) in known}


def _scans(row: CaseRow) -> list[Path]:
    return [file for path in row.files.values() if (file := address(path)[0]).is_file()]


def answers_elsewhere(entrants: Sequence[Entrant], here: Cases, there: Cases, run: Run) -> pd.DataFrame:
    """What each entrant, fitted to every case here, answers of every case there; see `protocol.answer_rows`.

    Args:
        entrants: methods and controls.
        here: all usable cases of the cohort that is learnt from.
        there: those of the other.
        run: its folder holds a folder for each entrant, and there `elsewhere`.
    """
    answers = []
    for entrant in entrants:
        say(f"{entrant.name}: on the other cohort")
        others = () if entrant.is_control else run.others
        mine = replace(run, folder=run.folder / entrant.folder / "elsewhere", others=others)
        answers.append(compete(entrant, here, there, mine))
    return pd.concat(answers, ignore_index=True)


def write_evaluation(
    folder: Path, cohort: Path, *, same_cohort: bool, prevalence: Mapping[str, float] | None = None
) -> None:
    """Write `evaluation.json`: of which cohort table the scores in a folder are.

    Args:
        folder: of the scores.
        cohort: the table.
        same_cohort: whether its patients are those held out of the cohort that was learnt from.
        prevalence: class shares that were put into all probabilities; None where none were.
    """
    told = {"cohort": cohort.name, "sha256": file_hash(cohort)}
    write_json(folder / "evaluation.json", {**told, "same_cohort": same_cohort, "prevalence": prevalence})


def drop_rows(
    inside: Sequence[Mapping[str, Any]],
    outside: Sequence[Mapping[str, Any]],
    answers: pd.DataFrame,
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Scores of each entrant inside its cohort, and what is lost outside.

    Args:
        inside, outside: tables of `protocol.score`, by cross-validation here, and there.
        answers: of the other cohort.
        classes: of the target.

    Returns:
        A row an entrant: its AUC here and there, the `drop` with its interval, Brier score and ECE there and, of two
        classes, slope and intercept of calibration there.
    """
    there = {row["method"]: row for row in outside}
    rows = []
    for row in inside:
        if (other := there.get(row["method"])) is None:
            continue
        told: dict[str, Any] = {
            "method": row["method"], "control": row["control"], "n here": row["n"], "n there": other["n"],
            "AUC here": row["auc"], "AUC there": other["auc"], "drop": independent_difference(row["auc"], other["auc"]),
            "Brier here": row["brier"], "Brier there": other["brier"], "ECE there": other["ece"],
        }  # fmt: skip
        if len(classes) == 2:
            mine = answers[answers["method"] == row["method"]]
            line = calibration_line(mine["truth"] == classes[1], mine[f"p_{classes[1]}"])
            told |= {"slope there": line.slope, "intercept there": line.intercept}
        rows.append(told)
    return rows
