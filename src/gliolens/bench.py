"""`gliolens bench`: methods over the folds of one split, in one table with every control."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS, ceiling_note, read_truth
from gliolens.cohorts.shuffle import mark_shuffled, shuffled_note
from gliolens.cohorts.splits import Split, kfold, write_split
from gliolens.errors import ConfigError
from gliolens.fidelity import nearest, write_fidelity
from gliolens.io.store import file_hash, write_json
from gliolens.io.tables import read_cohort
from gliolens.labels import TARGET_TITLES
from gliolens.loader import Cases
from gliolens.method import Run, changed, find_method
from gliolens.outline_scores import write_outlines
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
from gliolens.stats.classification import SCORE_TITLES
from gliolens.train import Outcome, division_of, write_results
from gliolens.usable import Usable, common_series, some_without_tumour, usable_cases


def bench(
    cohort: Path,
    out: Path,
    *,
    target: str,
    methods: Sequence[str] = ("shape-resnet",),
    series: Sequence[str] = (),
    preset: str = "sound",
    scale: str = "paper",
    folds: int = 5,
    split: Path | None = None,
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    healthy: bool = False,
) -> Outcome:
    """Cross-validate methods and every control under one split, and score all answers together.

    Each fold of each method is kept as it ends; a stopped bench goes on when called again with the same settings.

    Args:
        cohort: the cohort table.
        out: `results.csv`, `metrics.json`, `predictions.csv`, `splits.json`, `bench.html`, `figures/`, and a folder a
            method and fold.
        target: what to tell, from `labels.TARGETS`.
        methods: names from `registry.METHODS`; or NAME=METHOD, for one method with several settings.
        series: series that every case must have and that every method sees; those that all cases share where empty.
        preset: `sound` or `paper`.
        scale: `paper`, or `demo` for minutes on two cores.
        folds, split: of a patient-grouped stratified split, or a stored split instead.
        seed: of every random choice.
        settings: of methods by their name here, in place of those of the preset; `series` may be fewer.
        healthy: whether the healthy count too, and cases without a tumour mask: for methods that look at none.

    Raises:
        CohortError, ConfigError: too few usable cases, or the folder holds another bench; a setting is not one of the
            method's, or two methods have the same name.
    """
    rows = read_cohort(cohort)
    healthy = healthy and some_without_tumour(rows, target)
    series = tuple(series) or common_series(rows, target, need_mask=not healthy)
    entrants = (*_entrants(methods, preset, scale, series, settings), *controls(healthy=healthy))
    asked = {
        "target": target, "series": series, "preset": preset, "scale": scale, "seed": seed, "cohort": file_hash(cohort),
        "folds": folds if split is None else None, "split": None if split is None else file_hash(split),
        "methods": {e.name: asdict(e.config) for e in entrants}, "healthy": healthy or None,
    }  # fmt: skip
    check_settings(out / "bench.json", asked)
    found = _usable(rows, target, series, entrants, out / "cache", healthy=healthy)
    usable, truth = found.cases.rows, read_truth(cohort, found.cases.rows, target)
    division = division_of(split, rows, found.cases, target) or kfold(usable, target, folds=folds, seed=seed)
    write_split(out / "splits.json", division)
    run = Run(target, found.classes, out, out / "cache", seed)
    answers = _compete_over_folds(entrants, found, division, run, rows)
    answers, table = score_beside_ceilings(answers, truth, target, found.classes, seed=seed, healthy=healthy)
    write_results(out, answers, table := mark_shuffled(table, cohort, target), found.failures)
    _write_settings(out, entrants, asked, found.left_out)
    _write_page(out, entrants, table, asked, found.left_out, found.cases.only(set(answers["case"])))
    drawn = write_outlines(out, _drawn(out, entrants, division), usable, seed=seed)
    return Outcome(out, table, found.failures, drawn)


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
    taken = {"cache", "figures", *CEILINGS, *(c.folder for c in controls())}
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in taken:
        raise ConfigError(
            f"{name!r} cannot name a row and its folder; expected letters, digits, - and _, and none of "
            f"{', '.join(sorted(taken))}"
        )
    return name, method if named else name


def _usable(
    rows: Sequence[CaseRow], target: str, series: Sequence[str], entrants: Sequence[Entrant], cache: Path, *,
    healthy: bool,
) -> Usable:  # fmt: skip
    return usable_cases(
        rows, target=target, series=series, entrants=entrants, cache=cache, need_mask=not healthy,
        learning=not healthy, tick=Counter("checking cases"),
    )  # fmt: skip


def _compete_over_folds(
    entrants: Sequence[Entrant], found: Usable, split: Split, run: Run, rows: Sequence[CaseRow]
) -> pd.DataFrame:
    cases, answers = found.cases, []
    others = [found.others_beside(split, k, rows) for k in range(len(split.folds))]
    for entrant in entrants:
        for k, fold in enumerate(split.folds):
            say(f"{entrant.name}: fold {k + 1} of {len(split.folds)}")
            folder = run.folder / entrant.folder / f"fold-{k + 1}"
            mine = replace(run, folder=folder, others=() if entrant.is_control else others[k])
            answer = compete(entrant, cases.only(fold.train), cases.only(fold.test), mine)
            answers.append(answer.assign(fold=k + 1))
    return pd.concat(answers, ignore_index=True)


def _drawn(out: Path, entrants: Sequence[Entrant], division: Split) -> list[Path]:
    """Scores of the outlines of every entrant and fold, where it draws any."""
    return [out / e.folder / f"fold-{k + 1}" / OUTLINES for e in entrants for k in range(len(division.folds))]


def _write_settings(
    out: Path, entrants: Sequence[Entrant], asked: Mapping[str, Any], left_out: Mapping[str, str]
) -> None:
    for entrant in entrants:
        write_fidelity(out / entrant.folder, entrant.method, entrant.config)
    rows = {e.name: e.method for e in entrants}
    write_json(
        out / "bench.json", {"settings": asked, "rows": rows, "left_out": left_out, "software": software()}
    )


def _told(entrant: Entrant) -> str:
    """What a name that the user gave stands for."""
    _, _, otherwise = nearest(find_method(entrant.method).Config, entrant.config)
    changes = ", ".join(f"{name} {both['run']}" for name, both in otherwise.items() if name != "series")
    return f"{entrant.name}: {entrant.method}" + (f" with {changes}" if changes else "")


def _write_page(
    out: Path,
    entrants: Sequence[Entrant],
    table: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    left_out: Mapping[str, str],
    cases: Cases,
) -> None:
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
    notes += [_told(e) for e in entrants if e.name != e.method and not e.is_control]
    told = {
        **settings,
        "folds": settings["folds"] or "those of the split",
        "series": ", ".join(settings["series"]),
        "split": settings["split"] or "made here",
    }
    provenance = {k: str(v) for k, v in {**told, **software()}.items() if k != "methods"}
    write_bench_report(
        out / "bench.html",
        f"{TARGET_TITLES[settings['target']]}: methods beside controls"
        + ", LABELS SHUFFLED" * bool(shuffled),
        [_shown(row) for row in table],
        read_curves(out / "figures"),
        provenance,
        notes,
    )


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    head = {
        "Method": row["method"], "n": row["n"], "is_control": row["control"], "is_ceiling": row["ceiling"],
    }  # fmt: skip
    return head | {SCORE_TITLES[name]: row[name] for name in SCORES}
