"""From a clinical table to what is known of each case, and to the rows of the scans. Never guesses: it lists.

The scheme of grades: LGG and HGG are BraTS' own division and never derived from a WHO grade. Where a table has both,
both are kept, and `label_scheme` names the scheme of the WHO grade for every graded row of the table; the target
`grade` always means BraTS' division, whatever stands there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from gliolens.case import CaseRow
from gliolens.cohorts.clinical.columns import Columns, understand
from gliolens.cohorts.clinical.spellings import READERS, Told, Unclear, is_unknown
from gliolens.cohorts.identity import UCSF_SAME_PATIENT, patient_of, same_spelling, site_of
from gliolens.cohorts.layouts.folders import some
from gliolens.errors import CohortError, ConfigError
from gliolens.io.tables import read_text_table
from gliolens.labels import LABEL_SCHEMES, TARGETS

_WHO = ("who2016", "who2021")


@dataclass(frozen=True)
class Unread:
    """A cell that is left unknown: its row's id, its column, what stands there, and why it could not be read."""

    row: str
    column: str
    value: str
    reason: str


@dataclass(frozen=True)
class Clinical:
    """What a clinical table tells.

    Attributes:
        rows: by id, each a `CaseRow` without files.
        unread: cells left unknown. Empty cells are unknown and not listed.
        notes: what the user should be told.
    """

    rows: Mapping[str, CaseRow]
    unread: tuple[Unread, ...]
    notes: tuple[str, ...]


def read_clinical(path: Path, *, label_scheme: str | None = None) -> Clinical:
    """Read a clinical table of UCSF-PDGM, UPENN-GBM, BraTS, TCGA, BIDS or one's own.

    Args:
        path: CSV, or TSV with the suffix `.tsv`.
        label_scheme: scheme the grades follow; None reads it off the table. Where the table has WHO grades of two
            editions, those of 2021 are taken unless this says who2016. `brats_lgg_hgg` keeps LGG and HGG alone.

    Raises:
        ConfigError: the scheme is unknown.
        CohortError: the table cannot be read, has no ids, its grades follow another scheme, or rows of one id
            disagree.
    """
    if label_scheme is not None and label_scheme not in LABEL_SCHEMES:
        raise ConfigError(f"--label-scheme {label_scheme!r} is unknown; known are {', '.join(LABEL_SCHEMES)}")
    table = read_text_table(path)
    columns = understand(table, path, label_scheme)
    told: dict[str, Told] = {}
    aliases: dict[str, list[str]] = {}
    unread: list[Unread] = []
    for number, values in enumerate(table.to_dict("records"), start=2):
        cells = {str(header): str(cell) for header, cell in values.items()}
        case = cells[columns.case].strip()
        if is_unknown(case):
            unread.append(
                Unread(f"line {number}", columns.case, cells[columns.case], "no id: the row is left out")
            )
            continue
        row = _read_row(case, cells, columns, unread)
        _check_agreement(path, case, told.setdefault(case, row), row)
        told[case] = {**told[case], **row}
        aliases.setdefault(case, []).extend(_aliases(cells, columns))
    scheme = _table_scheme(told, columns, label_scheme)
    rows = {case: _case_row(case, row, aliases[case], scheme) for case, row in told.items()}
    return Clinical(rows, tuple(unread), (*columns.notes, *_same_patients(rows)))


def rows_of(clinical: Clinical) -> tuple[CaseRow, ...]:
    """A table alone as a cohort without scans."""
    return tuple(clinical.rows.values())


def join(rows: Sequence[CaseRow], clinical: Clinical) -> tuple[tuple[CaseRow, ...], tuple[str, ...]]:
    """Give each case of a folder what the table tells of it.

    A case is looked up by its id, its patient and its aliases, first letter for letter, then in a spelling without
    leading zeros and separators. What two sources tell differently stays unknown for a target, and as the scans'
    folder or the first table told it elsewhere; a note lists it.

    Returns:
        The rows in their order, and what the user should be told.

    Raises:
        CohortError: WHO grades of two editions would be pooled.
    """
    find = _Finder(clinical)
    found = [find(row) for row in rows]
    notes: list[str] = []
    joined = [
        row if known is None else _merge(row, known, notes) for row, known in zip(rows, found, strict=True)
    ]
    missing = [row.case for row, known in zip(rows, found, strict=True) if known is None]
    if missing:
        notes.append(f"{len(missing)} of {len(rows)} cases have no row in the table: {some(missing)}")
    met = {known.case for known in found if known is not None}
    without = [case for case in clinical.rows if case not in met]
    if without:
        notes.append(
            f"{len(without)} of {len(clinical.rows)} rows of the table have no scans: {some(without)}"
        )
    return tuple(joined), (*notes, *find.notes())


# --- a table's rows ----------------------------------------------------------------------------------------------


def _read_row(case: str, cells: Mapping[str, str], columns: Columns, unread: list[Unread]) -> Told:
    told: Told = {}
    source: dict[str, str] = {}
    for header, kind in columns.kinds.items():
        cell = cells[header]
        if is_unknown(cell):
            continue
        try:
            found = READERS[kind](cell)
        except Unclear as reason:
            unread.append(Unread(case, header, cell, str(reason)))
            continue
        for name, value in found.items():
            if source.setdefault(name, header) != header and told.get(name) != value:
                reason_ = f"column {source[name]!r} tells it otherwise: {name} is left unknown"
                unread.append(Unread(case, header, cell, reason_))
                told.pop(name, None)
            else:
                told[name] = value
    return told


def _check_agreement(path: Path, case: str, first: Told, second: Told) -> None:
    for name in first.keys() & second.keys():
        if first[name] != second[name]:
            raise CohortError(
                f"{path}: rows of {case!r} disagree: {name} is {first[name]!r} and {second[name]!r}; "
                "correct the table or leave one row out"
            )


def _aliases(cells: Mapping[str, str], columns: Columns) -> Iterator[str]:
    for header in columns.aliases:
        yield from (a.strip() for a in cells[header].split(";") if not is_unknown(a))


def _table_scheme(told: Mapping[str, Told], columns: Columns, asked: str | None) -> str | None:
    if any("who_grade" in row for row in told.values()):
        return asked or columns.who_scheme
    return "brats_lgg_hgg" if any("grade" in row for row in told.values()) else None


def _case_row(case: str, told: Told, aliases: Sequence[str], scheme: str | None) -> CaseRow:
    row = CaseRow(case=case, patient=patient_of(case), site=site_of(case))
    names = {f.name for f in fields(CaseRow)}
    targets = {t: str(told[t]) for t in TARGETS if t in told}
    graded = bool({"grade", "who_grade"} & targets.keys())
    plain = {name: value for name, value in told.items() if name in names}
    own = {
        "targets": targets,
        "aliases": _distinct(aliases, case),
        "label_scheme": plain.pop("label_scheme", scheme),
    }
    own["label_scheme"] = own["label_scheme"] if graded else None
    return replace(row, **plain, **own)  # type: ignore[arg-type]  # names and types come from READERS


def _distinct(names: Sequence[str], *but: str) -> tuple[str, ...]:
    return tuple(n for n in dict.fromkeys(names) if n not in but)


def _same_patients(rows: Mapping[str, CaseRow]) -> Iterator[str]:
    """Rows that look like one patient: shared where the release says so, else only pointed out."""
    alike: dict[object, list[CaseRow]] = {}
    for row in rows.values():
        if row.age is not None and row.os_days is not None:
            known = (row.age, row.sex, row.os_days, row.os_event, *sorted(row.targets.items()))
            alike.setdefault(known, []).append(row)
    open_ = [
        " and ".join(r.case for r in group) for group in alike.values() if len({r.patient for r in group}) > 1
    ]
    if open_:
        yield f"rows that agree in age, sex, survival and targets, perhaps one patient: {some(open_)}"
    second = [
        r.case
        for r in rows.values()
        if r.patient != r.case and same_spelling(r.case) != same_spelling(r.patient)
    ]
    renamed = [c for c in second if c.upper().startswith("UCSF-PDGM")]
    if renamed:
        yield (
            f"{len(renamed)} exams are of patients with another exam ({some(renamed)}): they share `patient`, by the "
            f"later release's names and by rows that agree; {len(UCSF_SAME_PATIENT)} such pairs are known"
        )


# --- joining -----------------------------------------------------------------------------------------------------


class _Finder:
    """Finds a case's row in a table by its names."""

    def __init__(self, clinical: Clinical) -> None:
        self._rows = clinical.rows
        self._exact: dict[str, set[str]] = {}
        self._alike: dict[str, set[str]] = {}
        self._ambiguous: list[str] = []
        self._respelled: dict[str, str] = {}
        for name, case in self._names():
            self._exact.setdefault(name, set()).add(case)
            self._alike.setdefault(same_spelling(name), set()).add(case)

    def _names(self) -> Iterator[tuple[str, str]]:
        for case, row in self._rows.items():
            # A case's own id goes before another row's patient or alias of that name.
            yield case, case
            for name in (row.patient, *row.aliases):
                if name not in self._rows:
                    yield name, case

    def __call__(self, row: CaseRow) -> CaseRow | None:
        names = (row.case, row.patient, *row.aliases)
        for name in names:
            if found := self._one(self._exact.get(name, set()), row):
                return found
        for name in names:
            if found := self._one(self._alike.get(same_spelling(name), set()), row):
                self._respelled[row.case] = found.case
                return found
        return None

    def _one(self, cases: set[str], row: CaseRow) -> CaseRow | None:
        if len(cases) > 1:
            same = {
                c for c in cases if same_spelling(c) in (same_spelling(row.case), same_spelling(row.patient))
            }
            cases = same if len(same) == 1 else cases
        if len(cases) > 1:
            self._ambiguous.append(f"{row.case} ({', '.join(sorted(cases))})")
            return None
        return self._rows[next(iter(cases))] if cases else None

    def notes(self) -> Iterator[str]:
        """What the user should be told of the search."""
        if self._respelled:
            case, found = next(iter(self._respelled.items()))
            yield f"{len(self._respelled)} cases were found under another spelling, e.g. {case} as {found}"
        if self._ambiguous:
            yield f"cases that fit several rows and were joined with none: {some(_distinct(self._ambiguous))}"


def _merge(row: CaseRow, known: CaseRow, notes: list[str]) -> CaseRow:
    if row.label_scheme in _WHO and known.label_scheme in _WHO and row.label_scheme != known.label_scheme:
        raise CohortError(
            f"case {row.case!r}: its grade follows {row.label_scheme}, the table's {known.label_scheme}; two schemes "
            "are never pooled: choose one with --label-scheme"
        )
    plain = {name: _kept(name, row, known, notes) for name in ("site", "age", "sex", "os_days", "os_event")}
    targets = {**known.targets, **row.targets}
    for name in row.targets.keys() & known.targets.keys():
        if row.targets[name] != known.targets[name]:
            notes.append(
                f"case {row.case!r}: {name} is {row.targets[name]} by its folder or an earlier table and "
                f"{known.targets[name]} by the table: left unknown"
            )
            del targets[name]
    patient = _patient(row, known)
    scheme = row.label_scheme if row.label_scheme in _WHO else known.label_scheme or row.label_scheme
    aliases = _distinct((*row.aliases, *known.aliases, row.patient, known.patient), patient, row.case)
    return replace(row, **plain, patient=patient, targets=targets, label_scheme=scheme, aliases=aliases)  # type: ignore[arg-type]


def _kept(name: str, row: CaseRow, known: CaseRow, notes: list[str]) -> object:
    first, second = getattr(row, name), getattr(known, name)
    if first is not None and second is not None and first != second:
        notes.append(f"case {row.case!r}: {name} is {first} and, by the table, {second}: {first} is kept")
    return second if first is None else first


def _patient(row: CaseRow, known: CaseRow) -> str:
    """The table's patient where it names one; else the scans' own."""
    silent = known.patient == known.case and same_spelling(known.case) == same_spelling(row.case)
    return (
        row.patient if silent or same_spelling(row.patient) == same_spelling(known.patient) else known.patient
    )
