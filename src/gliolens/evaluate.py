"""`gliolens evaluate`: score a trained run, and its controls, on patients it has never seen."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gliolens.case import CaseRow
from gliolens.errors import CohortError, LeakError
from gliolens.io.store import read_json
from gliolens.io.tables import read_cohort
from gliolens.method import Run, find_method
from gliolens.progress import Counter
from gliolens.protocol import Entrant, answer_rows, controls, score, usable_cases
from gliolens.train import Outcome, read_run, write_results


def evaluate(run: Path, cohort: Path, out: Path | None = None) -> Outcome:
    """Score a run on a cohort.

    Of the cohort it was trained on, the patients held out are scored. In another cohort all are, and a patient
    (by name or alias) of the training set is refused.

    Args:
        run: folder of a finished run.
        cohort: a cohort table with the same target.
        out: where results are written; `RUN/evaluation-COHORT` where not given.

    Raises:
        LeakError: a patient of the cohort was trained on.
        CohortError: no finished run, or too few usable cases.
    """
    about = read_run(run)
    settings = about["settings"]
    target, classes = settings["target"], tuple(about["classes"])
    rows = _unseen(read_cohort(cohort), run, about["train_patients"], about["train_aliases"])
    out = out or run / f"evaluation-{cohort.stem}"
    found = usable_cases(
        rows, target=target, series=about["series"], cache=run / "cache", tick=Counter("checking cases")
    )
    entrants = (Entrant(settings["method"], settings["method"], None), *controls())
    answers = []
    for entrant in entrants if settings["method"] != "controls" else controls():
        folder = run / "controls" / entrant.folder if entrant.is_control else run / "model"
        model = find_method(entrant.method).load(folder)
        predictions = [model.predict(case) for case in found.cases]
        setting = Run(target, classes, out, run / "cache")
        answers.append(answer_rows(entrant, predictions, found.cases.rows, about["train_labels"], setting))
    table = score(pd.concat(answers, ignore_index=True), classes)
    write_results(out, pd.concat(answers, ignore_index=True), table, found.failures)
    return Outcome(out, table, found.failures)


def _unseen(rows: Sequence[CaseRow], run: Path, patients: list[str], aliases: list[str]) -> Sequence[CaseRow]:
    """Test cases of the run's own split where they are these; else all, none of which may have been trained on."""
    held_out = set(read_json(run / "splits.json")["folds"][0]["test"])
    if held_out <= {row.case for row in rows}:
        rows = [row for row in rows if row.case in held_out]
    seen = {*patients, *aliases}
    leaks = [row.case for row in rows if {row.patient, row.case, *row.aliases} & seen]
    if leaks:
        raise LeakError(
            f"{len(leaks)} cases belong to patients the run was trained on: {', '.join(leaks[:10])}; "
            "take them out of the cohort table"
        )
    if not rows:
        raise CohortError("no cases to evaluate")
    return rows
