"""Which cases of a cohort a run can use, and why not the others."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from gliolens.case import CaseRow
from gliolens.cohorts.splits import Split, patients, united
from gliolens.errors import CaseError, CohortError, ConfigError, ExcludedError
from gliolens.labels import HEALTHY, SERIES, TARGETS
from gliolens.loader import Cases, select
from gliolens.method import find_method, learns_from, measures_tumours
from gliolens.progress import Tick, say
from gliolens.protocol import Entrant
from gliolens.tasks import check_schemes


@dataclass(frozen=True)
class Usable:
    """A cohort divided by what can be used for a target.

    Attributes:
        cases: those that can; rows of one patient bear one name (`cohorts.splits.united`).
        classes: the target's classes that occur, in order; the last is the positive one of two.
        left_out: why each other case cannot (its label, series or mask is not there).
        failures: what was wrong with cases that should have been usable.
        others: cases that cannot be used for the target, and that an entrant can learn something else from.
    """

    cases: Cases
    classes: tuple[str, ...]
    left_out: Mapping[str, str]
    failures: Mapping[str, str]
    others: tuple[CaseRow, ...] = ()

    def others_beside(self, split: Split, fold: int, rows: Sequence[CaseRow]) -> tuple[CaseRow, ...]:
        """Those of `others` that are of no patient who is tested, and, where sites are left out, of no site that is.

        Args:
            split: how the usable cases are divided.
            fold: which of its folds.
            rows: the whole cohort: any of its rows may tell by its aliases that two names are one patient.
        """
        who, test = patients(rows), set(split.folds[fold].test)
        tested = {who[case] for case in test}
        sites = {row.site for row in self.cases.rows if row.case in test} | {None}
        away = split.kind == "leave_one_site_out"
        return tuple(
            row for row in self.others if who[row.case] not in tested and not (away and row.site in sites)
        )


def used_cases(cases: Cases, target: str) -> dict[str, tuple[str, str]]:
    """Patient and class of each case, as `run.json` and `bench.json` keep them."""
    return {row.case: (row.patient, row.targets[target]) for row in cases.rows}


MANY: Final = 1000
"""Numbers from which an array is what a method sees of scans, and not some measures that two patients may share."""


def usable_cases(
    rows: Sequence[CaseRow],
    *,
    target: str,
    series: Sequence[str],
    entrants: Sequence[Entrant],
    cache: Path,
    classes: Sequence[str] = (),
    learning: bool = True,
    need_mask: bool = True,
    tick: Tick | None = None,
) -> Usable:
    """Find the cases that every entrant can use; say on stderr what is left out and why.

    What entrants make of a case is kept in `cache`, so each case is decoded once a method here, and never again.

    Args:
        rows: the cohort.
        target: its class must be known.
        series: every case must have them.
        entrants: who must be able to use a case.
        cache: see `Method.ready`.
        classes: classes that a trained run can tell apart; all that occur where empty.
        learning: whether `others` are looked for.
        need_mask: whether every case must have a tumour mask; without, the healthy count too.
        tick: progress.

    Raises:
        ConfigError: no mask is needed here, but by an entrant.
        CohortError: fewer than two classes of the target remain (one is enough where `classes` are given), grades of
            two schemes would be pooled, or two patients have the same scans.
    """
    if not need_mask:
        _check_learns_without(entrants)
    rows = united(rows)
    chosen, left_out = select(rows, target=target, series=series, need_mask=need_mask)
    for row in chosen:
        if classes and row.targets[target] not in classes:
            left_out[row.case] = f"{target} {row.targets[target]}, which the run was not trained to tell"
    cases = Cases(tuple(r for r in chosen if r.case not in left_out), tuple(series), need_mask)
    seen, failures = _read_all(cases, entrants, cache, left_out, tick)
    cases = cases.only(seen)
    _say_left_out(left_out, failures)
    check_schemes(cases.rows, target)
    rest = [row for row in rows if row.case not in {*seen, *failures}]
    others = _others(rest, cases, entrants, cache, seen) if learning else ()
    _check_distinct((*cases.rows, *others), rows, seen)
    present = set(cases.classes(target))
    if len(present) < (1 if classes else 2):
        raise _too_few(cases, present, target, left_out, of=len(rows), needed=1 if classes else 2)
    return Usable(
        cases, tuple(classes) or tuple(c for c in TARGETS[target] if c in present), left_out, failures, others
    )


def some_without_tumour(rows: Sequence[CaseRow], target: str) -> bool:
    """Whether, of those whose target is known, some are healthy or lack a mask: not all tumours can be measured."""
    asked = [row for row in rows if target in row.targets]
    return any(row.mask is None or row.targets.get("grade") == HEALTHY for row in asked)


def _check_learns_without(entrants: Sequence[Entrant]) -> None:
    asking = [e.name for e in entrants if not e.is_control and measures_tumours(find_method(e.method))]
    if asking:
        raise ConfigError(
            f"{', '.join(asking)}: needs the mask of every tumour, and the healthy have none; leave --healthy out"
        )


def _too_few(
    cases: Cases, present: set[str], target: str, left_out: Mapping[str, str], *, of: int, needed: int
) -> CohortError:
    """What to say where too few classes remain; and what to do where only series are missing."""
    wanted = {f"no {s}" for s in cases.series}
    only_series = any(set(reason.split(", ")) <= wanted for reason in left_out.values())
    hint = "; name series that are there with --series" if only_series and needed > 1 else ""
    return CohortError(
        f"{target}: {len(cases)} of {of} cases can be used and hold {len(present)} of its classes "
        f"({', '.join(sorted(present)) or 'none'}); {needed} needed. Left out: {_reasons(left_out)}{hint}"
    )


def _others(
    rows: Sequence[CaseRow],
    cases: Cases,
    entrants: Sequence[Entrant],
    cache: Path,
    seen: dict[str, dict[str, str]],
) -> tuple[CaseRow, ...]:
    """Cases beyond the usable ones that an entrant learns from and can read; `seen` gathers their scans."""
    out = []
    learners = [e for e in entrants if not e.is_control]
    for row in rows:
        asked = [e for e in learners if learns_from(find_method(e.method), e.config, row)]
        if not asked:
            continue
        try:
            seen[row.case] = _read(replace(cases, rows=(row,)), asked, cache)
        except CaseError as error:
            say(f"not learnt from either: {error}")
            continue
        out.append(row)
    if out:
        say(f"{len(out)} of the cases left out teach something else: an outline, or another target")
    return tuple(out)


def _read_all(
    cases: Cases, entrants: Sequence[Entrant], cache: Path, left_out: dict[str, str], tick: Tick | None
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """What `_read` makes of each case that can be read, and why others cannot; rules leave cases out."""
    seen, failures = {}, {}
    for i, row in enumerate(cases.rows):
        try:
            seen[row.case] = _read(cases.only([row.case]), entrants, cache)
        except ExcludedError as error:
            left_out[row.case] = f"excluded: not {error.expected}"
        except CaseError as error:
            failures[row.case] = str(error)
        if tick:
            tick(i + 1, len(cases))
    return seen, failures


def _read(case: Cases, entrants: Sequence[Entrant], cache: Path) -> dict[str, str]:
    """Let every entrant make of a case what it needs: for each a text that is the same for the same scans."""
    seen = {}
    for entrant in {e.method if e.is_control else e.name: e for e in entrants}.values():
        (made,) = find_method(entrant.method).ready(case.unlabelled(), entrant.config, cache)
        if not entrant.is_control:
            largest = max(made.values(), key=lambda array: array.size)
            if largest.size >= MANY:
                seen[entrant.name] = hashlib.sha256(np.ascontiguousarray(largest).tobytes()).hexdigest()
    return seen


def _check_distinct(
    used: Sequence[CaseRow], rows: Sequence[CaseRow], seen: Mapping[str, Mapping[str, str]]
) -> None:
    """Releases of one collection rename its patients: their scans tell who they are."""
    who = patients(rows)
    owners: dict[tuple[str, str], dict[str, str]] = {}
    for row in used:
        for scans in seen[row.case].items():
            owners.setdefault(scans, {}).setdefault(who[row.case], row.case)
    shared = sorted({" and ".join(cases.values()) for cases in owners.values() if len(cases) > 1})
    if shared:
        raise CohortError(
            f"{len(shared)} patients stand in the table twice, by their scans: {'; '.join(shared[:5])}; a split could "
            "put one on both sides: drop one of the two, or name one in the other's column aliases"
        )


def _say_left_out(left_out: Mapping[str, str], failures: Mapping[str, str]) -> None:
    if left_out:
        say(f"{len(left_out)} cases left out: {_reasons(left_out)}")
    for error in failures.values():
        say(f"refused: {error}")


def _reasons(left_out: Mapping[str, str]) -> str:
    counts = pd.Series(list(left_out.values()), dtype=str).value_counts()
    return "; ".join(f"{n} {reason}" for reason, n in counts.items()) or "none"


def common_series(rows: Sequence[CaseRow], target: str, *, need_mask: bool = True) -> tuple[str, ...]:
    """The series that every case with a mask, where one is needed, and a known target has.

    Raises:
        CohortError: there is none.
    """
    asked, _ = select(rows, target=target, series=(), need_mask=need_mask)
    common = tuple(s for s in SERIES if all(s in row.files for row in asked))
    if not asked or not common:
        raise CohortError(
            f"no series is there for all {len(asked)} cases with a mask and a known {target}; name some with --series, "
            "and the cases without them are left out"
        )
    return common
