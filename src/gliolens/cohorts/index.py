"""`gliolens cohort index`: a folder of scans and a clinical table become one cohort table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gliolens.case import CaseRow
from gliolens.cohorts.clinical.table import Unread, join, read_clinical, rows_of
from gliolens.cohorts.layouts.registry import read_layout
from gliolens.errors import ConfigError
from gliolens.io.store import refuse_to_replace
from gliolens.io.tables import write_cohort
from gliolens.labels import SERIES, TARGETS
from gliolens.progress import Tick


@dataclass(frozen=True)
class Index:
    """What `index` wrote.

    Attributes:
        table: path of the cohort table.
        rows: its rows.
        layout: the layout that was found; empty where there were no scans.
        notes: what the user should be told.
        unread: cells of the clinical table that were left unknown, with the reason.
    """

    table: Path
    rows: tuple[CaseRow, ...]
    layout: str
    notes: tuple[str, ...]
    unread: tuple[Unread, ...]

    def to_text(self) -> str:
        """The counts, what was left unknown and why, and notes."""
        known = [_count(s, sum(s in row.files for row in self.rows)) for s in SERIES]
        known += [_count("mask", sum(row.mask is not None for row in self.rows))]
        labels = [self._classes(target) for target in TARGETS]
        labels += [_count("age", sum(r.age is not None for r in self.rows))]
        labels += [_count("survival", sum(r.os_days is not None for r in self.rows))]
        head = f"{self.table}: {len(self.rows)} cases of {len({r.patient for r in self.rows})} patients"
        lines = [head, f"  layout: {self.layout or 'none, a clinical table alone'}"]
        lines += [f"  files:  {', '.join(filter(None, known)) or 'none'}"]
        lines += [f"  labels: {', '.join(filter(None, labels)) or 'none'}"]
        lines += [f"  note:   {note}" for note in self.notes]
        if self.unread:
            lines += [f"  left unknown: {len(self.unread)} cells"]
            lines += [f"    {u.row}: {u.column} = {u.value!r}: {u.reason}" for u in self.unread]
        return "\n".join(lines)

    def _classes(self, target: str) -> str:
        counts = Counter(row.targets.get(target) for row in self.rows)
        told = [f"{counts[c]} {c}" for c in TARGETS[target] if counts[c]]
        return f"{target} ({', '.join([*told, f'{counts[None]} unknown'])})" if told else ""


def _count(name: str, n: int) -> str:
    return f"{n} {name}" if n else ""


def index(
    source: Path | None,
    out: Path,
    *,
    labels: Path | None = None,
    layout: str | None = None,
    pattern: str | None = None,
    series_order: Sequence[str] = (),
    mask_scheme: str | None = None,
    label_scheme: str | None = None,
    hgg: Sequence[str] = (),
    tick: Tick | None = None,
) -> Index:
    """Write a cohort table.

    Args:
        source: folder of scans or manifest; None where only a clinical table is to be normalised.
        out: the table to write.
        labels: clinical table.
        layout, pattern, series_order, mask_scheme: see `layouts.read_layout`.
        label_scheme: which of several grade columns to take.
        hgg: WHO grades that count as HGG, the others as LGG: `grade` is then filled where only `who_grade` is
            known. Sources differ on grade 3, so nothing is filled where this is not given.
        tick: progress.

    Raises:
        ConfigError: a WHO grade that is none, neither scans nor a clinical table, or the table is there already.
        CohortError: a layout or table that cannot be read.
        CaseError: two files for one series.
    """
    refuse_to_replace(out)
    if wrong := sorted(set(hgg) - set(TARGETS["who_grade"])):
        raise ConfigError(
            f"WHO grade {', '.join(wrong)} is none; there are {', '.join(TARGETS['who_grade'])}"
        )
    clinical = None if labels is None else read_clinical(labels, label_scheme=label_scheme)
    if source is None:
        if clinical is None:
            raise ConfigError(
                "nothing to index: name a folder of scans, a clinical table with --labels, or both"
            )
        rows, notes, name = rows_of(clinical), clinical.notes, ""
    else:
        found = read_layout(
            source,
            layout=layout,
            pattern=pattern,
            series_order=series_order,
            mask_scheme=mask_scheme,
            progress=tick,
        )
        rows, notes, name = found.rows, found.notes, found.layout
        if clinical is not None:
            rows, told = join(rows, clinical)
            notes = (*notes, *clinical.notes, *told)
    if hgg:
        rows, notes = tuple(_graded(row, hgg) for row in rows), (*notes, _grades_told(hgg))
    write_cohort(out, rows)
    return Index(out, rows, name, tuple(notes), clinical.unread if clinical else ())


def _grades_told(hgg: Sequence[str]) -> str:
    lower = [g for g in TARGETS["who_grade"] if g not in hgg]
    return f"grade filled as asked: LGG is WHO grade {', '.join(lower)}, HGG {', '.join(hgg)}"


def _graded(row: CaseRow, hgg: Sequence[str]) -> CaseRow:
    if "grade" in row.targets or "who_grade" not in row.targets:
        return row
    grade = "HGG" if row.targets["who_grade"] in hgg else "LGG"
    return replace(row, targets={**row.targets, "grade": grade})
