"""`gliolens evaluate`: score a trained run, and its controls, on patients it has never seen."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gliolens.case import CaseRow
from gliolens.cohorts.identity import names, same_spelling
from gliolens.cohorts.phantom.ceiling import read_truth
from gliolens.cohorts.splits import patients
from gliolens.errors import LeakError
from gliolens.external import write_evaluation
from gliolens.io.store import file_hash, read_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.loader import Cases
from gliolens.method import Run, changed, find_method
from gliolens.outline_scores import write_outlines
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant, answer_rows, controls, entrant_of, score_beside_ceilings
from gliolens.stats.priors import at_prevalence, shares_of
from gliolens.strangeness import Familiar, p_values, strangers_told
from gliolens.tasks import check_schemes
from gliolens.train import Outcome, model_folder, read_run, write_results
from gliolens.usable import usable_cases


def evaluate(
    run: Path, cohort: Path, out: Path | None = None, prevalence: Mapping[str, float] | None = None
) -> Outcome:
    """Score a run on a cohort.

    Of the cohort it was trained on, the patients held out are scored. In another cohort all are, and a patient
    (by name or alias) of the training set is refused.

    Args:
        run: folder of a finished run.
        cohort: a cohort table with the same target.
        out: where results are written; `RUN/evaluation-COHORT-HASH` where not given.
        prevalence: share of each class where the cohort comes from, known from elsewhere and not from its labels: put
            into all probabilities in place of the training share; decisions and ranks stay.

    Raises:
        ConfigError: the prevalences are not of the run's classes, or no shares.
        LeakError: a patient of the cohort was trained on.
        ModelError: no finished run.
        CohortError: no usable case, or WHO grades of another edition than the run's.
    """
    about = read_run(run)
    settings = about["settings"]
    target, classes, healthy = settings["target"], tuple(about["classes"]), bool(settings.get("healthy"))
    local = None if prevalence is None else shares_of(prevalence, classes)
    rows, same = _unseen(cohort, run, about)
    where = "" if local is None else "-at-" + "-".join(f"{share:g}" for share in local)
    out = out or run / f"evaluation-{cohort.stem}-{file_hash(cohort)[:8]}{where}"
    method = find_method(settings["method"])
    entrants = (
        entrant_of(settings["method"], changed(method.Config.preset("sound"), settings["config"])),
        *controls(healthy=healthy),
    )
    cache = out / "cache"
    found = usable_cases(
        rows, target=target, series=about["series"], entrants=entrants, cache=cache, classes=classes,
        learning=False, need_mask=not healthy, tick=Counter("checking cases"),
    )  # fmt: skip
    check_schemes(found.cases.rows, target, about["label_schemes"])
    truth = read_truth(cohort, found.cases.rows, target)
    setting = Run(target, classes, out, cache)
    files = [out / "outlines" / f"{entrant.folder}.csv" for entrant in entrants]
    asked = zip(entrants, files, strict=True)
    told = pd.concat(
        [_answers(entrant, run, found.cases, setting, file) for entrant, file in asked], ignore_index=True
    )
    told = told if local is None else _at_prevalence(told, classes, local)
    whole, table = score_beside_ceilings(told, truth, target, classes, healthy=healthy)
    write_results(out, whole, table, found.failures)
    shares = None if local is None else dict(zip(classes, local.tolist(), strict=True))
    write_evaluation(out, cohort, same_cohort=same, prevalence=shares)
    if familiar := Familiar.load(run):
        strange = p_values(familiar, found.cases, cache, Counter("measuring how scans look"))
        write_text(out / "strangers.csv", strange.to_csv(index=False))
        say(strangers_told(strange))
    drawn = write_outlines(out, files, found.cases.rows, seed=0)
    return Outcome(out, table, found.failures, drawn)


def _answers(entrant: Entrant, run: Path, cases: Cases, setting: Run, outlines: Path) -> pd.DataFrame:
    """What an entrant of a finished run answers."""
    method = find_method(entrant.method)
    model = method.load(model_folder(run, entrant))
    made = method.ready(cases.unlabelled(), entrant.config, setting.cache)
    return answer_rows(entrant, model, cases, made, setting, outlines)


def _at_prevalence(answers: pd.DataFrame, classes: Sequence[str], local: np.ndarray) -> pd.DataFrame:
    """Answers whose probabilities hold the local class shares, which stand in `prior_CLASS` then."""
    p, prior = ([f"{kind}_{c}" for c in classes] for kind in ("p", "prior"))
    shifted = at_prevalence(answers[p].to_numpy(float), answers[prior].to_numpy(float), local)
    return answers.assign(**dict(zip(p, shifted.T, strict=True)), **dict(zip(prior, local, strict=True)))


def _unseen(cohort: Path, run: Path, about: Mapping[str, Any]) -> tuple[Sequence[CaseRow], bool]:
    """Of the very table it was trained on, the cases held out; of another, all, none of which may be trained on.

    With them whether any was held out of the run, as in a table made of the one it was trained on.
    """
    rows, held_out = read_cohort(cohort), set(read_json(run / "splits.json")["folds"][0]["test"])
    if file_hash(cohort) == about["settings"]["cohort"]:
        say(f"the cohort {run} was trained on: the {len(held_out)} cases held out are scored")
        return [row for row in rows if row.case in held_out], True
    told = (about["train_cases"], about["train_patients"], about["train_aliases"])
    seen, who = set(map(same_spelling, chain(*told))), patients(rows)
    people = {who[row.case] for row in rows if names(row) & seen}
    if leaks := [row.case for row in rows if who[row.case] in people]:
        raise LeakError(
            f"{len(leaks)} cases are of patients who bear a name the run was trained on: {', '.join(leaks[:10])}; "
            "take them out of the cohort table or, if they are other people, give them other names"
        )
    known = set(map(same_spelling, held_out))
    same = any(names(row) & known for row in rows)
    which = "a table with cases held out of" if same else "another cohort than was learnt from by"
    say(f"{which} {run}: all {len(rows)} cases are scored")
    return rows, same
