"""How clinical tables spell their answers: one cell in, the fields it tells out, or the reason it tells none."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from gliolens.labels import LABEL_SCHEMES

Told = dict[str, float | str | bool]


class Unclear(Exception):  # noqa: N818 - never leaves `cohorts`: it carries a reason, it is not a failure
    """A cell that does not say which class or number it means; the message is the reason."""


_UNKNOWN: Final = {
    "",
    "na",
    "n/a",
    "nan",
    "none",
    "null",
    "unknown",
    "not available",
    "not reported",
    "?",
    "-",
}
_MUTANT = re.compile(
    r"(idh[ -]?)?(mutant|mutated|mut)( \((nos|maf)\))?|idh[12]? p\.(r|arg)(132|172)(?!r$|arg|=)[a-z]+"
)
_WILDTYPE = re.compile(r"(idh[ -]?)?(wild[ -]?type|wt)( \(maf\))?")
_CODELETED = re.compile(r"(1p/?19q[ -]?)?co-?del(eted|etion)?")
_INTACT = re.compile(r"(1p/?19q[ -]?)?(intact|non-?co-?del(eted)?|not co-?deleted)")
_GRADE = re.compile(r"(who )?(cns )?(grade |g)?(?P<grade>[1-4]|i{1,3}|iv)(\.0)?")
_ROMAN: Final = {"i": "1", "ii": "2", "iii": "3", "iv": "4"}
_ALIVE_AFTER = re.compile(r"alive \((?P<days>\d+) days later\)")
_OLDEST = 120.0


def is_unknown(cell: str) -> bool:
    """Whether a cell only says that nothing is known."""
    return _plain(cell) in _UNKNOWN


def idh(cell: str) -> Told:
    """IDH status, from the status or the protein change (R132 of IDH1, R172 of IDH2)."""
    if _MUTANT.fullmatch(_plain(cell)):
        return {"idh": "mutant"}
    if _WILDTYPE.fullmatch(_plain(cell)):
        return {"idh": "wildtype"}
    raise Unclear("neither mutant nor wildtype in a spelling that is known")


def codel(cell: str) -> Told:
    """1p/19q status. A relative co-deletion is not a codeletion of both whole arms: unclear."""
    text = _plain(cell)
    if _CODELETED.fullmatch(text):
        return {"codel_1p19q": "codeleted"}
    if _INTACT.fullmatch(text):
        return {"codel_1p19q": "intact"}
    if text.startswith("relative"):
        raise Unclear("ambiguous: a relative co-deletion need not be a codeletion of both whole arms")
    raise Unclear("neither codeleted nor intact in a spelling that is known")


def who_grade(cell: str) -> Told:
    """WHO grade 2, 3 or 4."""
    match = _GRADE.fullmatch(_plain(cell))
    if match is None:
        raise Unclear("not one WHO grade")
    grade = _ROMAN.get(match["grade"], match["grade"])
    if grade == "1":
        raise Unclear("WHO grade 1: no diffuse glioma; known are 2, 3, 4")
    return {"who_grade": grade}


def lgg_hgg(cell: str) -> Told:
    """LGG, HGG or healthy, as BraTS divides them."""
    classes = {"lgg": "LGG", "hgg": "HGG", "healthy": "healthy"}
    if _plain(cell) not in classes:
        raise Unclear("not LGG, HGG or healthy")
    return {"grade": classes[_plain(cell)]}


def age(cell: str) -> Told:
    """Age in years."""
    years = _number(cell, "not one number of years")
    if not 0 <= years <= _OLDEST:
        raise Unclear(f"no age in years between 0 and {_OLDEST:g}")
    return {"age": years}


def sex(cell: str) -> Told:
    """M or F."""
    known = {"m": "M", "male": "M", "f": "F", "female": "F"}
    if _plain(cell) not in known:
        raise Unclear("not M, F, male or female")
    return {"sex": known[_plain(cell)]}


def days(cell: str) -> Told:
    """Survival in days; BraTS' `ALIVE (361 days later)` also tells that death was not observed."""
    if alive := _ALIVE_AFTER.fullmatch(_plain(cell)):
        return {"os_days": float(alive["days"]), "os_event": False}
    number = _number(cell, "not one number of days")
    if number < 0:
        raise Unclear("a negative number of days")
    return {"os_days": number}


def event(cell: str) -> Told:
    """Whether death was observed: 1 or 0, or a word."""
    words = {"1": True, "1.0": True, "0": False, "0.0": False, "true": True, "false": False}
    return {"os_event": _one_of({**words, **_VITAL}, cell, "not 1 (dead) or 0 (alive), nor such a word")}


def vital(cell: str) -> Told:
    """Whether death was observed, by a word; here a number could mean either."""
    return {"os_event": _one_of(_VITAL, cell, "not dead, deceased, alive or living")}


def scheme(cell: str) -> Told:
    """Name of a label scheme."""
    if cell.strip() not in LABEL_SCHEMES:
        raise Unclear(f"not one of {', '.join(LABEL_SCHEMES)}")
    return {"label_scheme": cell.strip()}


def words(field: str) -> Callable[[str], Told]:
    """A field that is taken as it stands."""
    return lambda cell: {field: cell.strip()}


_VITAL: Final = {"dead": True, "deceased": True, "alive": False, "living": False}

READERS: Final[Mapping[str, Callable[[str], Told]]] = MappingProxyType(
    {
        "patient": words("patient"),
        "site": words("site"),
        "age": age,
        "sex": sex,
        "idh": idh,
        "codel_1p19q": codel,
        "who_grade": who_grade,
        "grade": lgg_hgg,
        "os_days": days,
        "os_event": event,
        "vital": vital,
        "label_scheme": scheme,
    }
)
"""One reader a kind of column."""


def _plain(cell: str) -> str:
    return re.sub(r"\s+", " ", cell.strip().lower().replace("–", "-").replace("‑", "-"))


def _one_of(known: Mapping[str, bool], cell: str, reason: str) -> bool:
    if _plain(cell) not in known:
        raise Unclear(reason)
    return known[_plain(cell)]


def _number(cell: str, reason: str) -> float:
    if not re.fullmatch(r"-?\d+(\.\d+)?", cell.strip()):
        raise Unclear(reason)
    return float(cell)
