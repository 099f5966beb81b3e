"""`gliolens bench`: methods over the folds of one split, in one table with every control.

Beside the scores stand differences to each control, parts of the patients and, where asked for, how sure the answers
may be (`nested`) and what another cohort says (`external`).
"""

import re
import shutil
from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS, Truth, ceiling_note, read_truth
from gliolens.cohorts.shuffle import mark_shuffled, shuffled_mark, shuffled_note, write_shuffled
from gliolens.cohorts.splits import Split, kfold, leave_one_site_out, write_split
from gliolens.errors import CohortError, ConfigError
from gliolens.evidence import write_evidence, write_rows
from gliolens.external import answers_elsewhere, check_strangers, drop_rows, write_evaluation
from gliolens.fidelity import nearest, write_fidelity
from gliolens.io.store import file_hash, write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.labels import REGION_TITLES, TARGET_TITLES
from gliolens.loader import Cases
from gliolens.method import Run, changed, find_method
from gliolens.nested import Calibration, inner_answers
from gliolens.outline_scores import ABOUT, TITLES, write_outlines
from gliolens.progress import Counter, say
from gliolens.protocol import (
    OUTLINES,
    SCORES,
    Entrant,
    check_settings,
    compete,
    controls,
    score_beside_ceilings,
)
from gliolens.report.curves import read_curves
from gliolens.report.page import write_bench_report
from gliolens.report.paper_page import Section, table_section
from gliolens.report.words import in_words
from gliolens.stats.classification import SCORE_TITLES
from gliolens.strangeness import Familiar, p_values, strangers_told
from gliolens.tasks import check_schemes
from gliolens.train import Outcome, division_of, write_results
from gliolens.usable import Usable, common_series, some_without_tumour, usable_cases, used_cases


def bench(
    cohort: Path, out: Path, *, target: str, methods: Sequence[str] = ("shape-resnet",), series: Sequence[str] = (),
    preset: str = "sound", scale: str = "paper", folds: int = 5, split: Path | None = None, sites: bool = False,
    seed: int = 0, settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}), healthy: bool = False,
    calibrate: bool = False, external: Path | None = None, shuffle: bool = False, cache: Path | None = None,
) -> Outcome:  # fmt: skip
    """Cross-validate methods and every control under one split, and score all answers together.

    Each fold of each method is kept as it ends; a stopped bench goes on when called again, and one with other methods,
    or other settings of some, makes those again that changed.

    Args:
        cohort: the cohort table.
        out: `results.csv`, `metrics.json`, `predictions.csv`, `splits.json`, `bench.html`, `figures/`, the tables of
            `evidence.write_evidence`, and a folder a method and fold.
        target: what to tell, from `labels.TARGETS`.
        methods: names from `registry.METHODS`; or NAME=METHOD, for one method with several settings.
        series: series that every case must have and that every method sees; those that all cases share where empty.
        preset: `sound` or `paper`.
        scale: `paper`, or `demo` for minutes on two cores.
        folds, split, sites: of a patient-grouped stratified split; or a stored split; or each site left out in turn.
        seed: of every random choice.
        settings: of methods by their name here, in place of those of the preset; `series` may be fewer.
        healthy: whether the healthy count too, and cases without a tumour mask: for methods that look at none.
        calibrate: whether inner folds teach how sure answers may be; four times the trainings.
        external: another cohort's table, whose cases are answered too, in `elsewhere/`.
        shuffle: whether the labels are dealt out anew first, among all patients: who still tells them has seen them.
        cache: where what was decoded is kept; in `out` where not given.

    Raises:
        CohortError, ConfigError: too few usable cases, or the folder holds another bench; a setting is not one of the
            method's, or two methods have the same name.
        LeakError: a patient is in both cohorts.
    """
    if shuffle:
        cohort = write_shuffled(cohort, out / "shuffled", target, seed=seed, healthy=healthy)
    rows = read_cohort(cohort)
    healthy = healthy and some_without_tumour(rows, target)
    series = tuple(series) or common_series(rows, target, need_mask=not healthy)
    entrants = (*_entrants(methods, preset, scale, series, settings), *controls(healthy=healthy))
    asked = _asked(
        cohort, target=target, series=series, preset=preset, scale=scale, seed=seed, healthy=healthy or None,
        folds=None if split or sites else folds, split=split and file_hash(split), sites=sites or None,
    )  # fmt: skip
    check_settings(out / "bench.json", asked)
    asked["methods"] = {e.name: asdict(e.config) for e in entrants}
    cache = cache or out / "cache"
    found = usable_cases(
        rows, target=target, series=series, entrants=entrants, cache=cache, need_mask=not healthy,
        learning=not healthy, tick=Counter("checking cases"),
    )  # fmt: skip
    truth = read_truth(cohort, found.cases.rows, target)
    field = _Field(
        cohort, rows, entrants, found, Run(target, found.classes, out, cache, seed), truth, healthy
    )
    there = _elsewhere(external, field) if external else None
    division = _division(field, split, folds=folds, sites=sites)
    return _hold(field, division, asked, there, calibrate=calibrate)


@dataclass(frozen=True)
class _Field:
    """Who competes on what: the cohort's table and rows, entrants, usable cases, the run, and a simulated truth."""

    cohort: Path
    rows: Sequence[CaseRow]
    entrants: Sequence[Entrant]
    found: Usable
    run: Run
    truth: Truth | None
    healthy: bool


def _division(field: _Field, split: Path | None, *, folds: int, sites: bool) -> Split:
    target, usable = field.run.target, field.found.cases
    if stored := division_of(split, field.rows, usable, target):
        return _tested_once(stored)
    if sites:
        return leave_one_site_out(usable.rows, target)
    return kfold(usable.rows, target, folds=folds, seed=field.run.seed)


def _tested_once(split: Split) -> Split:
    times = Counts(case for fold in split.folds for case in fold.test)
    if twice := [case for case, n in times.items() if n > 1]:
        raise CohortError(
            f"the split tests {len(twice)} cases more than once ({', '.join(twice[:5])}), and a bench counts each case "
            "once; make one with `gliolens cohort split --repeats 1`, or leave --split out and give several --seed"
        )
    return split


def _hold(
    field: _Field, division: Split, asked: Mapping[str, Any], there: "_Elsewhere | None", *, calibrate: bool
) -> Outcome:
    """Let all compete over the folds, and write answers, scores, what stands beside them, and the page."""
    found, run, out = field.found, field.run, field.run.folder
    write_split(out / "splits.json", division)
    answers, sure = _compete_over_folds(field, division, calibrate=calibrate)
    answers, table = score_beside_ceilings(
        answers, field.truth, run.target, run.classes, seed=run.seed, healthy=field.healthy
    )
    table = mark_shuffled(table, field.cohort, run.target)
    _clear(out)
    write_results(out, answers, table, found.failures)
    sections = write_evidence(out, answers, sure, table, field.rows, run.target, run.classes, seed=run.seed)
    if there:
        sections += _answer_elsewhere(there, field, table)
    drawn = write_outlines(out, _drawn(out, field.entrants, division), found.cases.rows, seed=run.seed)
    sections += _outlines(drawn)
    _write_settings(field, asked, division)
    _write_page(field, table, asked, found.cases.only(set(answers["case"])), sections)
    return Outcome(out, table, found.failures, drawn)


def _clear(out: Path) -> None:
    """Remove what an earlier bench in this folder told and this one may not: of other methods, or another cohort."""
    for name in ("drop", "calibration", "coverage", "calibrated", "outlines"):
        (out / f"{name}.csv").unlink(missing_ok=True)
    (out / "outlines.json").unlink(missing_ok=True)
    shutil.rmtree(out / "elsewhere", ignore_errors=True)


def _asked(cohort: Path, **settings: Any) -> dict[str, Any]:
    """What must be the same for a bench to go on in a folder."""
    return {**settings, "cohort": file_hash(cohort)}


def _entrants(
    methods: Sequence[str],
    preset: str,
    scale: str,
    series: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Entrant]:
    named = [_named(words) for words in methods]
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{', '.join(twice)}: asked for twice; give each a name, as plain=shape-resnet")
    if unasked := sorted(set(settings) - set(names)):
        raise ConfigError(f"settings for {', '.join(unasked)}, which is not among {', '.join(names)}")
    chosen = []
    for name, method in named:
        if method != "controls":  # every control is always there
            plain: Any = find_method(method).Config.preset(preset).scaled(scale)
            config = changed(plain, {"series": tuple(series), **settings.get(name, {})})
            if unseen := sorted(set(config.series) - set(series)):
                raise ConfigError(f"{name} asks for {', '.join(unseen)}, of series {', '.join(series)}")
            chosen.append(Entrant(name, method, config))
    return chosen


def _named(words: str) -> tuple[str, str]:
    """Name and method of `METHOD` or `NAME=METHOD`."""
    name, named, method = words.partition("=")
    taken = {"cache", "figures", "elsewhere", "shuffled", *CEILINGS, *(c.folder for c in controls())}
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in taken:
        raise ConfigError(
            f"{name!r} cannot name a row and its folder; expected letters, digits, - and _, and none of "
            f"{', '.join(sorted(taken))}"
        )
    return name, method if named else name


def _compete_over_folds(
    field: _Field, split: Split, *, calibrate: bool
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Answers to the tested patients of every fold; and the same calibrated, where that is asked for."""
    cases, run, answers, sure = field.found.cases, field.run, [], []
    others = [field.found.others_beside(split, k, field.rows) for k in range(len(split.folds))]
    for entrant in field.entrants:
        for k, fold in enumerate(split.folds):
            say(f"{entrant.name}: fold {k + 1} of {len(split.folds)}")
            folder = run.folder / entrant.folder / f"fold-{k + 1}"
            mine = replace(run, folder=folder, others=() if entrant.is_control else others[k])
            train = cases.only(fold.train)
            answers.append(compete(entrant, train, cases.only(fold.test), mine).assign(fold=k + 1))
            if calibrate:
                learnt = Calibration.learn(inner_answers(entrant, train, mine), run.classes)
                sure.append(learnt(answers[-1]))
    return pd.concat(answers, ignore_index=True), pd.concat(sure, ignore_index=True) if sure else None


@dataclass(frozen=True)
class _Elsewhere:
    """Another cohort: its table, and which of its cases can be asked about."""

    cohort: Path
    found: Usable


def _elsewhere(cohort: Path, field: _Field) -> _Elsewhere:
    """Read another cohort and check it, before anything is trained."""
    rows, here = read_cohort(cohort), field.found
    check_strangers(field.rows, rows)
    found = usable_cases(
        rows, target=field.run.target, series=here.cases.series, entrants=field.entrants, cache=field.run.cache,
        classes=here.classes, need_mask=not field.healthy, learning=False,
        tick=Counter("checking cases of the other cohort"),
    )  # fmt: skip
    check_schemes([*here.cases.rows, *found.cases.rows], field.run.target)
    return _Elsewhere(cohort, found)


def _answer_elsewhere(there: _Elsewhere, field: _Field, inside: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Let every entrant, fitted to all usable cases, answer another cohort; write and show what that costs."""
    here, run, cases = field.found, field.run, there.found.cases
    answers = answers_elsewhere(field.entrants, here.cases, cases, replace(run, others=here.others))
    truth = read_truth(there.cohort, cases.rows, run.target)
    answers, table = score_beside_ceilings(
        answers, truth, run.target, run.classes, seed=run.seed, healthy=field.healthy
    )
    write_results(run.folder / "elsewhere", answers, table, there.found.failures)
    write_evaluation(run.folder / "elsewhere", there.cohort, same_cohort=False)
    drop = drop_rows(inside, table, answers, run.classes)
    write_rows(run.folder / "drop.csv", drop)
    shown = [{k: v for k, v in row.items() if k != "control"} for row in drop]
    counts = ", ".join(f"{cases.classes(run.target).count(c)} {c}" for c in run.classes)
    notes = (
        f"{len(cases)} cases of {there.cohort.name} ({counts}). Every entrant was fitted to all usable cases here.",
        "Drop: AUC here less there. The patients are others: the interval is of independent differences "
        "(Zou and Donner 2008).",
    )
    return [table_section("On another cohort", shown, *notes, _strangers(there, field))]


def _strangers(there: _Elsewhere, field: _Field) -> str:
    """Write which cases of the other cohort look unlike those here, and say how many."""
    here, cache = field.found.cases, field.run.cache
    try:
        familiar = Familiar.of(here, cache, Counter("measuring how scans look"))
    except CohortError as error:
        return f"Which of them look unlike those here is not known: {error}."
    found = p_values(familiar, there.found.cases, cache, Counter("measuring how scans look"))
    write_text(field.run.folder / "elsewhere" / "strangers.csv", found.to_csv(index=False))
    return f"{strangers_told(found)}; of patients like those here one in twenty would."


def _outlines(means: Sequence[Mapping[str, Any]]) -> list[Section]:
    """How well outlines match the masks, where a method draws any."""
    rows = [
        {"method": m["method"], "outline of": REGION_TITLES[m["region"]].lower(), "n": m["n"]}
        | {title: in_words(m[score], 0 if score == "hd95_mm" else 2) for score, title in TITLES.items()}
        for m in means
    ]
    return [table_section("Outlines", rows, ABOUT)] if rows else []


def _drawn(out: Path, entrants: Sequence[Entrant], division: Split) -> list[Path]:
    """Scores of the outlines of every entrant and fold, where it draws any."""
    return [out / e.folder / f"fold-{k + 1}" / OUTLINES for e in entrants for k in range(len(division.folds))]


def _write_settings(field: _Field, asked: Mapping[str, Any], division: Split) -> None:
    """Write `bench.json`: settings, which method each row is, who was used or left out and why, with which software."""
    out, found, target = field.run.folder, field.found, field.run.target
    others = [found.others_beside(division, k, field.rows) for k in range(len(division.folds))]
    for entrant in field.entrants:
        write_fidelity(out / entrant.folder, entrant.method, entrant.config)
    write_json(
        out / "bench.json",
        {
            "settings": asked,
            "rows": {e.name: e.method for e in field.entrants},
            "cohort": field.cohort.name,
            "label_schemes": sorted({row.label_scheme for row in found.cases.rows if row.label_scheme}),
            "shuffled": shuffled_mark(field.cohort, target),
            "cases": used_cases(found.cases, target),
            "others": [[row.case for row in rows] for rows in others],
            "left_out": found.left_out,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "software": software(),
        },
    )


def _told(entrant: Entrant) -> str:
    """What a name that the user gave stands for."""
    _, _, otherwise = nearest(find_method(entrant.method).Config, entrant.config)
    changes = ", ".join(f"{name} {both['run']}" for name, both in otherwise.items() if name != "series")
    return f"{entrant.name}: {entrant.method}" + (f" with {changes}" if changes else "")


def _write_page(
    field: _Field,
    table: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    cases: Cases,
    sections: Sequence[Section],
) -> None:
    out, left_out = field.run.folder, field.found.left_out
    shares = pd.Series(cases.classes(settings["target"])).value_counts()
    notes = [
        f"{len(cases)} cases: " + ", ".join(f"{n} {c}" for c, n in shares.items()),
        f"{len(left_out)} cases left out (label, series or mask not there)",
        "Intervals: 95 % over answers pooled from all folds; DeLong for the AUC (bootstrap where a patient has several "
        "cases or there are more than two classes), 2,000 bootstrap draws of patients within each class for the rest; "
        "all widened, since models of two folds share patients (Nadeau and Bengio 2003).",
    ]
    if shuffled := shuffled_note(table):
        notes.insert(0, shuffled)
    if note := ceiling_note(table):
        notes.append(note)
    notes += [_told(e) for e in field.entrants if e.name != e.method and not e.is_control]
    told = {
        **settings,
        "folds": settings["folds"] or ("a site each" if settings["sites"] else "those of the split"),
        "series": ", ".join(settings["series"]),
        "split": settings["split"] or "made here",
    }
    provenance = {k: str(v) for k, v in {**told, **software()}.items() if k != "methods" and v is not None}
    write_bench_report(
        out / "bench.html",
        f"{TARGET_TITLES[settings['target']]}: methods beside controls"
        + ", LABELS SHUFFLED" * bool(shuffled),
        [_shown(row) for row in table],
        read_curves(out / "figures"),
        provenance,
        notes,
        sections,
    )


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    head = {
        "Method": row["method"], "n": row["n"], "is_control": row["control"], "is_ceiling": row["ceiling"],
    }  # fmt: skip
    return head | {SCORE_TITLES[name]: row[name] for name in SCORES}
