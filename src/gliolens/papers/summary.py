"""`gliolens reproduce all`: every paper on one cohort, and what each is known for on one page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from gliolens.about import software
from gliolens.cohorts.phantom.ceiling import read_truth
from gliolens.errors import ConfigError, GlioLensError
from gliolens.io.store import file_hash, write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.method import find_method
from gliolens.papers.headline import Found, Headline
from gliolens.papers.kept import Reproduced, check_folder
from gliolens.progress import say
from gliolens.registry import PAPERS
from gliolens.report.paper_page import Section, write_paper_report
from gliolens.stats.intervals import Interval

TITLES: Final[Mapping[str, str]] = {
    "chatterjee2022": "Chatterjee et al. 2022",
    "farahani2025": "Farahani et al. 2025",
    "janardhan2025": "Janardhan and Thomas 2025",
    "li2025": "Li and McMillan 2025",
    "zeng2024": "Zeng et al. 2024",
}
_COLUMNS: Final[Mapping[str, str]] = {
    "here": "as published, here", "soundly": "soundly, here", "age": "age alone, here",
}  # fmt: skip
_SIMULATED: Final = "The cohort is simulated: no score of it tells how a method does on patients."
_ABOUT: Final = (
    "Published scores are of the papers' own patients; all others are of this cohort's, with 95 % intervals over "
    "patients. A score without an interval was chosen on the patients it is of, as the paper did."
)


def reproduce(
    cohort: Path, out: Path, *, target: str = "grade", scale: str = "paper", seed: int = 0,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Reproduced:  # fmt: skip
    """Reproduce every paper, one after the other, each in its own folder; a stopped run goes on where it was.

    A paper that the cohort does not allow is passed over, and the page says why.

    Args:
        cohort: the cohort table.
        out: `report.html`, `results.json`, `results.csv`, and a folder a paper.
        target: what to tell.
        scale: `paper`, or `demo` for minutes a paper on two cores.
        seed: of every random choice.
        settings: of single papers as PAPER.NAME; `offline` of all that might fetch something.

    Returns:
        Table `headlines`; among the failures are papers that could not be run.

    Raises:
        CohortError: the table cannot be read.
        ConfigError: a setting names no paper, or the folder holds a run of other settings.
    """
    read_cohort(cohort)
    each = _settings_of_each(settings)
    check_folder(
        out, {"cohort": file_hash(cohort), "target": target, "scale": scale, "seed": seed, "papers": each}
    )
    found: dict[str, Sequence[Headline]] = {}
    failures: dict[str, str] = {}
    for paper in PAPERS:
        say(f"paper: {paper}")
        module: Any = import_module(PAPERS[paper])
        given = {"target": target, "scale": scale, "seed": seed, "settings": each[paper]}
        try:
            done = module.reproduce(cohort, out / paper, **given)
            found[paper] = module.headlines(out / paper)
            failures |= {f"{paper}: {case}": why for case, why in done.failures.items()}
        except GlioLensError as error:
            say(f"{paper}: not run: {error}")
            failures[paper] = str(error)
    rows = [_row(paper, one) for paper, lines in found.items() for one in lines]
    not_run = {paper: failures[paper] for paper in PAPERS if paper not in found}
    told = {"target": target, "scale": scale, "seed": seed, "cohort": cohort.name}
    _write(out, found, not_run, {**told, "simulated": read_truth(cohort, (), target) is not None})
    return Reproduced(out, {"headlines": rows}, failures)


def _settings_of_each(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings by paper, of `PAPER.NAME`; and whether nothing may be fetched, for those that could."""
    each: dict[str, dict[str, Any]] = {paper: {} for paper in PAPERS}
    for name, value in settings.items():
        paper, _, setting = name.partition(".")
        if paper in each and setting:
            each[paper][setting] = value
        elif name != "offline":
            raise ConfigError(
                f"{name}: a setting of one paper; expected PAPER.NAME, such as li2025.encoder; papers are "
                f"{', '.join(PAPERS)}"
            )
    if settings.get("offline"):
        for paper in filter(fetches, PAPERS):
            each[paper]["offline"] = True
    return each


def fetches(paper: str) -> bool:
    """Whether there is anything that a paper's method might fetch, and so a setting `offline`."""
    method: str = import_module(PAPERS[paper]).METHOD
    return any(field.name == "offline" for field in fields(find_method(method).Config))  # type: ignore[arg-type]


def _row(paper: str, one: Headline) -> dict[str, Any]:
    return {"paper": paper, **{f.name: getattr(one, f.name) for f in fields(one)}, "verdict": one.verdict}


# --- what is written -------------------------------------------------------------------------------------------


def _write(
    out: Path, found: Mapping[str, Sequence[Headline]], not_run: Mapping[str, str], told: Mapping[str, Any]
) -> None:
    rows = [_row(paper, one) for paper, lines in found.items() for one in lines]
    plain = [{k: asdict(v) if isinstance(v, Interval) else v for k, v in row.items()} for row in rows]
    write_json(out / "results.json", {**told, "headlines": plain, "not_run": not_run, "software": software()})
    table = [
        *map(_flat, rows),
        *({"paper": paper, "verdict": f"not run: {why}"} for paper, why in not_run.items()),
    ]
    write_text(out / "results.csv", pd.DataFrame(table).to_csv(index=False))
    sections = [
        _table_section(found, not_run, [_ABOUT, *([_SIMULATED] if told["simulated"] else [])]),
        Section("Verdicts", [f"{TITLES[row['paper']]}, {row['what']}: {row['verdict']}" for row in rows]),
        Section("What was mended", [f"{TITLES[row['paper']]}, {row['what']}: {row['how']}" for row in rows]),
    ]
    if lacking := [line for row in rows for line in _lacking(row)]:
        sections.insert(2, Section("What the table does not know, and why", lacking))
    provenance = {k: str(v) for k, v in {**told, **software()}.items()}
    write_paper_report(out / "report.html", "Five papers on one cohort", sections, provenance)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as CSV holds it: `here`, `here_low`, `here_high`; why where there is no number."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Interval):
            out |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            out[name] = value
    return out


def _lacking(row: Mapping[str, Any]) -> Iterator[str]:
    """Why a score or its interval is not there, where it is not."""
    for name, column in _COLUMNS.items():
        value = row[name]
        why = value.reason if isinstance(value, Interval) and math.isnan(value.low) else ""
        if isinstance(value, str):
            why = value.removeprefix("\N{EM DASH}, ")
        if why:
            yield f"{TITLES[row['paper']]}, {row['what']}, {column}: {why}."


def _table_section(
    found: Mapping[str, Sequence[Headline]], not_run: Mapping[str, str], notes: list[str]
) -> Section:
    rows: list[list[object]] = []
    for paper in PAPERS:
        for one in found.get(paper, ()):
            published = "\N{EM DASH}" if one.published is None else f"{one.published:.4g}"
            scores = [_shown(getattr(one, name)) for name in _COLUMNS]
            rows.append([f"{TITLES[paper]}: {one.what}", published, *scores])
        if paper in not_run:
            rows.append(
                [f"{TITLES[paper]}: not run, {not_run[paper]}", *["\N{EM DASH}"] * (1 + len(_COLUMNS))]
            )
    return Section("Headlines", notes, ["", "published", *_COLUMNS.values()], rows)


def _shown(value: Found) -> object:
    """What a cell says; why something is not known stands below the table, which is wide enough."""
    score = value.value if isinstance(value, Interval) else value
    if isinstance(score, str) or math.isnan(score):
        return "\N{EM DASH}"
    if isinstance(value, Interval):
        return f"{score:.2f}, no interval" if math.isnan(value.low) else value
    return f"{score:.2f}"
