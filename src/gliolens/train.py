"""`gliolens train`: fit a method on one side of a split, with every control beside it, and score the other side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import read_truth
from gliolens.cohorts.shuffle import mark_shuffled, shuffled_mark
from gliolens.cohorts.splits import Split, holdout, read_split, write_split
from gliolens.errors import CohortError, ModelError
from gliolens.fidelity import write_fidelity
from gliolens.further import Further, further_targets, predictions_of, score_further, write_further
from gliolens.io.store import file_hash, read_json, write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.loader import Cases
from gliolens.method import Run, find_method
from gliolens.outline_scores import write_outlines
from gliolens.progress import Counter, say
from gliolens.protocol import (
    OUTLINES,
    Entrant,
    check_settings,
    compete,
    controls,
    entrant_of,
    metrics_of,
    plain_scores,
    score_beside_ceilings,
)
from gliolens.report.curves import write_curves
from gliolens.strangeness import FILE, Familiar
from gliolens.usable import Usable, some_without_tumour, usable_cases, used_cases


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        folder: the run folder.
        table: one row an entrant, scores as `Interval`s; see `protocol.score`.
        failures: cases that were refused, with the reason.
        outlines: mean scores of outlines, where the method draws them; see `outline_scores.summary`.
        further: tables like `table` of the targets that the method tells beside the one asked for.
    """

    folder: Path
    table: Sequence[Mapping[str, Any]]
    failures: Mapping[str, str]
    outlines: Sequence[Mapping[str, Any]] = ()
    further: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def train(
    method: str,
    cohort: Path,
    out: Path,
    *,
    target: str,
    config: Any,
    split: Path | None = None,
    seed: int = 0,
    healthy: bool = False,
) -> Outcome:
    """Train a method and its controls on the first fold of a split, and score them on the patients held out.

    A stopped training goes on from its last checkpoint when it is called again with the same settings.

    Args:
        method: name from `method.METHODS`.
        cohort: the cohort table.
        out: the run folder: `run.json`, `fidelity.json`, `splits.json`, `model/`, `controls/`, `predictions.csv`,
            `metrics.json`, `figures/`, `familiar.json`.
        target: what to tell, from `labels.TARGETS`.
        config: the method's settings.
        split: a stored split; a quarter of the patients is held out where not given.
        seed: of every random choice.
        healthy: whether the healthy count too, and cases without a tumour mask: for methods that look at none.

    Raises:
        CohortError: too few usable cases, or the folder holds another run.
    """
    rows = read_cohort(cohort)
    healthy = healthy and some_without_tumour(rows, target)
    settings = {
        "method": method, "target": target, "seed": seed, "config": asdict(config), "cohort": file_hash(cohort),
        "split": None if split is None else file_hash(split), "healthy": healthy or None,
    }  # fmt: skip
    check_settings(out / "run.json", settings)
    entrants = (entrant_of(method, config), *controls(healthy=healthy))
    cache = out / "cache"
    found = usable_cases(
        rows, target=target, series=config.series, entrants=entrants, cache=cache, need_mask=not healthy,
        learning=not healthy, tick=Counter("checking cases"),
    )  # fmt: skip
    truth = read_truth(cohort, found.cases.rows, target)
    division = division_of(split, rows, found.cases, target) or holdout(found.cases.rows, target, seed=seed)
    write_split(out / "splits.json", division)
    fold = division.folds[0]
    run = Run(target, found.classes, out, cache, seed, found.others_beside(division, 0, rows))
    answers = _compete_once(entrants, found.cases, division, run)
    answers, table = score_beside_ceilings(answers, truth, target, found.classes, seed=seed, healthy=healthy)
    table = mark_shuffled(table, cohort, target)
    sides = found.cases.only(fold.train), found.cases.only(fold.test)
    further = _further(entrants[0], sides, run, cohort)
    _keep_looks(out, sides[0], cache)
    describe_run(out, settings, cohort, sides[0], found, run.others)
    write_fidelity(out, method, config)
    write_results(out, answers, table, found.failures)
    files = [out / "training" / e.folder / OUTLINES for e in entrants]
    outlines = write_outlines(out, files, found.cases.rows, seed=seed)
    return Outcome(out, table, found.failures, outlines, {t: f.table for t, f in further.items()})


def _keep_looks(out: Path, trained: Cases, cache: Path) -> None:
    """Keep what the training patients look like, so that a stranger is known."""
    (out / FILE).unlink(missing_ok=True)
    try:
        Familiar.of(trained, cache, Counter("measuring how scans look")).save(out)
    except CohortError as error:
        say(f"strangers will not be known: {error}")


def _further(entrant: Entrant, sides: tuple[Cases, Cases], run: Run, cohort: Path) -> dict[str, Further]:
    """Scores of what the method tells beside the target, where it does."""
    method = find_method(entrant.method)
    model = method.load(model_folder(run.folder, entrant))
    if not further_targets(model):
        return {}
    told = predictions_of(model, sides[1], method.ready(sides[1].unlabelled(), entrant.config, run.cache))
    truths = {t: read_truth(cohort, sides[1].rows, t) for t in further_targets(model)}
    found = score_further(entrant, model, told, *sides, run, truths)
    write_further(run, found)
    return found


def division_of(split: Path | None, rows: Sequence[CaseRow], cases: Cases, target: str) -> Split | None:
    """Read a stored split and say which usable cases it does not know; None where none was given.

    Raises:
        CohortError: it was made for another target.
    """
    if split is None:
        return None
    division = read_split(split, rows)
    if division.target != target:
        raise CohortError(
            f"{split} is stratified by {division.target}, not {target}; make one with gliolens cohort split"
        )
    known = {case for fold in division.folds for case in (*fold.train, *fold.test)}
    unknown = [row.case for row in cases.rows if row.case not in known]
    if unknown:
        say(f"{len(unknown)} usable cases are in no fold of {split} and are left out")
    return division


def _compete_once(entrants: Sequence[Entrant], cases: Cases, split: Split, run: Run) -> pd.DataFrame:
    fold = split.folds[0]
    sides = cases.only(fold.train), cases.only(fold.test)
    answers = []
    for entrant in entrants:
        folder = run.folder / "training" / entrant.folder
        mine = replace(run, folder=folder, others=() if entrant.is_control else run.others)
        answers.append(compete(entrant, *sides, mine, keep_model=model_folder(run.folder, entrant)))
    return pd.concat(answers, ignore_index=True)


def model_folder(run: Path, entrant: Entrant) -> Path:
    """Where a run keeps the fitted model of an entrant."""
    return run / "controls" / entrant.folder if entrant.is_control else run / "model"


def describe_run(
    folder: Path,
    settings: Mapping[str, Any],
    cohort: Path,
    trained: Cases,
    found: Usable,
    others: Sequence[CaseRow],
) -> None:
    """Write `run.json`: settings, what was trained on, what was left out and why, and with which software.

    `others` are cases without the target from which something else was learnt: they count as trained on.
    """
    seen, target = [*trained.rows, *others], settings["target"]
    write_json(
        folder / "run.json",
        {
            "settings": settings,
            "classes": found.classes,
            "cohort": cohort.name,
            "series": trained.series,
            "train_cases": [row.case for row in seen],
            "train_patients": sorted({row.patient for row in seen}),
            "train_aliases": sorted({a for row in seen for a in row.aliases}),
            "train_labels": list(trained.classes(target)),
            "label_schemes": sorted({row.label_scheme for row in trained.rows if row.label_scheme}),
            "shuffled": shuffled_mark(cohort, target),
            "cases": used_cases(found.cases, target),
            "others": [[row.case for row in others]],
            "left_out": found.left_out,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "software": software(),
        },
    )


def write_results(
    folder: Path, answers: pd.DataFrame, table: Sequence[Mapping[str, Any]], failures: Mapping[str, str]
) -> None:
    """Write `predictions.csv`, `metrics.json`, `results.csv`, `figures/` and, where cases failed, `failures.json`."""
    write_text(folder / "predictions.csv", answers.to_csv(index=False))
    write_json(folder / "metrics.json", metrics_of(table))
    write_text(folder / "results.csv", pd.DataFrame(plain_scores(table)).to_csv(index=False))
    write_curves(folder / "figures", answers)
    (folder / "failures.json").unlink(missing_ok=True)  # of an earlier call
    if failures:
        write_json(folder / "failures.json", failures)
        say(f"{len(failures)} cases were refused: see {folder / 'failures.json'}")


def read_run(folder: Path) -> dict[str, Any]:
    """Read `run.json` of a finished run.

    Raises:
        ModelError: the folder holds no finished run.
    """
    run = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    if "train_cases" not in run:
        raise ModelError(
            f"{folder}: no finished run here; make one with: gliolens train METHOD cohort.csv -o RUN"
        )
    return run
