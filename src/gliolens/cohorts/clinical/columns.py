"""What the columns of a clinical table mean, told from their names and, where a name is worn by two, their values."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from gliolens.cohorts.clinical.spellings import is_unknown
from gliolens.errors import CohortError

_NAMES: Final = {
    "site": ("site", "center", "centre", "institution", "hospital"),
    "age": ("age", "ageyears", "ageinyears", "ageatmri", "ageatscan", "ageatscanyears", "ageatdiagnosis",
            "ageatinitialpathologicdiagnosis", "ageatsurgery", "ageatimaging"),
    "sex": ("sex", "gender"),
    "idh": ("idh", "idh1", "idhstatus", "idhmutation", "idhmutationstatus", "idhgenotype", "idh12"),
    "codel_1p19q": ("1p19q", "1p19qstatus", "1p19qcodeletion", "1p19qcodeletionstatus", "codel1p19q",
                    "1p19qcodel", "codeletion1p19q"),
    "os_days": ("osdays", "ostime", "survivaldays", "survivalindays", "survivalfromsurgerydays",
                "survivalfromsurgerydaysupdated", "overallsurvivaldays"),
    "os_event": ("osevent", "1dead0alive", "event", "dead", "death"),
    "vital": ("survivalstatus", "vitalstatus"),
    "label_scheme": ("labelscheme",),
}  # fmt: skip
_IDS: Final = ("case", "caseid", "id", "subjectid", "subject", "participantid", "examid", "scanid")
_PATIENTS: Final = ("patient", "patientid", "casesubmitterid", "submitterid", "bcrpatientbarcode")
_BRATS_ID = re.compile(r"brats(20)?(\d\d)(subject)?id")
_GRADE = re.compile(
    r"(who)?(cns)?(5)?grade(20\d\d)?|whocns5grade|tcgagrade|tumou?rgrade|who(20\d\d)(cns)?grade|y"
)


@dataclass(frozen=True)
class Columns:
    """The columns of one table.

    Attributes:
        case: the column of ids.
        aliases: columns with the same case's names in other releases.
        kinds: for each other column that is understood, the name of its reader in `spellings.READERS`.
        who_scheme: scheme of the WHO grades, where the table tells it.
        notes: what the user should be told.
    """

    case: str
    aliases: tuple[str, ...]
    kinds: dict[str, str]
    who_scheme: str | None = None
    notes: list[str] = field(default_factory=list)


def understand(table: pd.DataFrame, path: Path, label_scheme: str | None) -> Columns:
    """Tell what each column of a table means.

    Raises:
        CohortError: no column holds ids, or the WHO grades follow another scheme than the one asked for.
    """
    headers = [str(c) for c in table]
    short = {h: _short(h) for h in headers}
    case = _case_column(short, path)
    aliases = tuple(h for h in headers if h != case and _is_alias(short[h]))
    kinds = {h: kind for h in headers if h != case for kind, names in _NAMES.items() if short[h] in names}
    kinds |= {h: "patient" for h in headers if h != case and short[h] in _PATIENTS}
    columns = Columns(case, aliases, kinds)
    _tell_survival(table, short, columns)
    graded = _tell_grades(table, short, columns, path, label_scheme)
    if "idh1" in short.values() and "idh" not in short.values():
        columns.notes.append(
            "IDH is read from a column on IDH1 alone: a wildtype there may carry an IDH2 mutation"
        )
    rest = [h for h in headers if h not in {case, *aliases, *columns.kinds, *graded}]
    if rest:
        columns.notes.append(f"columns not read: {', '.join(rest)}")
    scheme = graded.get(next((h for h, k in kinds.items() if k == "who_grade"), ""))
    return Columns(case, aliases, kinds, scheme, columns.notes)


def _short(header: str) -> str:
    return re.sub(r"[^a-z0-9]", "", header.lower())


def _brats_year(short: str) -> str | None:
    match = _BRATS_ID.fullmatch(short)
    return match[2] if match else None


def _is_alias(short: str) -> bool:
    return short in ("aliases", "alias", "tcgatciasubjectid") or _brats_year(short) is not None


def _case_column(short: dict[str, str], path: Path) -> str:
    """The column of ids: a name for cases, else for patients, else BraTS' own, the latest release first."""
    by_name = {s: h for h, s in reversed(short.items())}
    for name in (*_IDS, *_PATIENTS):
        if name in by_name:
            return by_name[name]
    brats = [h for h, s in short.items() if _brats_year(s)]
    if brats:
        return max(brats, key=lambda h: str(_brats_year(short[h])))
    raise CohortError(
        f"{path}: no column holds the ids of cases or patients; found {', '.join(short)}. "
        "Name one of them ID, case or patient"
    )


def _tell_survival(table: pd.DataFrame, short: dict[str, str], columns: Columns) -> None:
    """`OS` is the days of survival in one table and its event in another; the columns beside it tell."""
    for header in (h for h, s in short.items() if s == "os"):
        zero_or_one = {v.strip() for v in table[header] if not is_unknown(v)} <= {"0", "1", "0.0", "1.0"}
        if "os_days" in columns.kinds.values() and zero_or_one:
            columns.kinds[header] = "os_event"
        elif "os_days" not in columns.kinds.values() and not zero_or_one:
            columns.kinds[header] = "os_days"
            columns.notes.append(f"{header} is read as survival in days")
    if {"os_days"} == {"os_days", "os_event", "vital"} & set(columns.kinds.values()):
        columns.notes.append(
            "no column says whether death was observed: os_event stays unknown where no cell tells"
        )


def _tell_grades(
    table: pd.DataFrame, short: dict[str, str], columns: Columns, path: Path, asked: str | None
) -> dict[str, str | None]:
    """Add the columns of grades to `columns.kinds`; returns the scheme of every column of WHO grades."""
    who: dict[str, str | None] = {}
    for header in (h for h, s in short.items() if _GRADE.fullmatch(s)):
        cells = {v.strip().lower() for v in table[header] if not is_unknown(v)}
        if cells & {"lgg", "hgg", "healthy"}:
            columns.kinds[header] = "grade"
        elif short[header] != "y":
            who[header] = _scheme_of(header, list(short))
    if asked == "brats_lgg_hgg":
        columns.notes.extend(f"{h} is not read: grades were asked for as brats_lgg_hgg" for h in who)
        return who
    chosen = _choose(who, asked)
    if who and chosen is None:
        schemes = ", ".join(sorted(filter(None, who.values())))
        raise CohortError(
            f"{path}: its WHO grades follow {schemes}, not {asked}; two schemes are never pooled. Ask for {schemes}"
        )
    if chosen is None:
        return who
    columns.kinds[chosen] = "who_grade"
    columns.notes.extend(_grade_notes(who, chosen, asked))
    if "grade" in columns.kinds.values():
        columns.notes.append(
            "LGG and HGG are kept as grade, as BraTS divides them; the scheme is the WHO grades'"
        )
    return {**who, chosen: asked or who[chosen]}


def _scheme_of(header: str, headers: list[str]) -> str | None:
    """The scheme a column of WHO grades follows by its own name, else by the table's diagnosis of a year."""
    names = [header] if re.search(r"20\d\d|cns ?_?5|tcga", header, re.IGNORECASE) else [header, *headers]
    for name in map(_short, names):
        if "cns5" in name or ("who" in name and "2021" in name):
            return "who2021"
        if "who" in name and "2016" in name:
            return "who2016"
    return None


def _choose(who: dict[str, str | None], asked: str | None) -> str | None:
    order = (asked, None) if asked else ("who2021", "who2016", None)
    return next((h for scheme in order for h, s in who.items() if s == scheme), None)


def _grade_notes(who: dict[str, str | None], chosen: str, asked: str | None) -> Iterator[str]:
    scheme = asked or who[chosen]
    if scheme is None:
        yield f"{chosen} does not say which WHO edition it follows; name it with --label-scheme who2016 or who2021"
    else:
        others = [h for h in who if h != chosen]
        instead = f", not from {', '.join(others)}" if others else ""
        yield f"WHO grades are read from {chosen!r} as {scheme}{instead}"
