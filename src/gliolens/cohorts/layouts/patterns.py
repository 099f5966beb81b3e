"""Any layout that one line describes, such as `{case}/{case}_{series}.nii.gz`."""

import re
from collections.abc import Iterator
from typing import Final

from gliolens.case import CaseRow
from gliolens.cohorts.layouts.folders import Cases, Survey, kind_of, some
from gliolens.errors import ConfigError

FIELDS: Final = ("case", "patient", "site", "series")
EXAMPLES: Final = "'{case}/{case}_{series}.nii.gz' or '{site}/{patient}/{case}/{series}*.nii.gz'"
_PARTS = re.compile(r"\{(\w+)\}|(\*\*/)|(\*)|([^{*]+|\{)")
_WORD = r"[^/_\-. ]+"
_LONGEST = 4
_BESIDE_SERIES: Final = {"brain", "ce", "c", "gd", "gad", "gadolinium", "post", "pre", "contrast", "weighted"}


def read_pattern(survey: Survey, pattern: str) -> list[CaseRow]:
    """Read a layout given by a pattern relative to the folder.

    Args:
        survey: the folder.
        pattern: path with the fields case, patient, site and series; `*` is any run of characters within a name,
            `**/` any folders. A file whose series word speaks of a mask or brain mask becomes that.

    Raises:
        ConfigError: the pattern has an unknown field, or lacks series, or both case and patient.
        CaseError: two files for one series of one case.
    """
    forms = _compile(pattern)
    cases, unknown = Cases(), []
    for scan in survey.scans:
        told = list(_readings(scan, forms))
        if not told:
            continue
        kind, fields = _best(told)
        if kind is None:
            unknown.append(scan)
            continue
        case = fields.get("case") or fields["patient"]
        cases.add(case, kind, survey.root / scan, patient=fields.get("patient"), site=fields.get("site"))
    if unknown:
        survey.notes.append(f"{len(unknown)} files fit the pattern but name no known series: {some(unknown)}")
    return cases.rows()


def _compile(pattern: str) -> list[re.Pattern[str]]:
    fields = re.findall(r"\{(\w*)\}", pattern)
    wrong = [f for f in fields if f not in FIELDS]
    if wrong or "series" not in fields or not {"case", "patient"} & set(fields):
        raise ConfigError(
            f"--pattern {pattern!r}: expected {{series}} and {{case}} or {{patient}}, and no fields but "
            f"{', '.join(FIELDS)}; for example {EXAMPLES}"
        )
    return [_regex(pattern, n) for n in range(1, _LONGEST + 1)]


def _regex(pattern: str, words: int) -> re.Pattern[str]:
    """The pattern as an expression in which the series is exactly so many words."""
    series = rf"{_WORD}(?:[_\-. ]{_WORD}){{{words - 1}}}"
    made: list[str] = []
    met: set[str] = set()
    for name, folders, star, text in _PARTS.findall(pattern.replace("\\", "/")):
        if name:
            made.append(
                f"(?P={name})" if name in met else f"(?P<{name}>{series if name == 'series' else '[^/]+'})"
            )
            met.add(name)
        else:
            made.append("(?:.*/)?" if folders else "[^/]*" if star else re.escape(text))
    return re.compile("".join(made))


def _readings(scan: str, forms: list[re.Pattern[str]]) -> Iterator[dict[str, str]]:
    for form in forms:
        if match := form.fullmatch(scan):
            yield match.groupdict()


def _best(readings: list[dict[str, str]]) -> tuple[str | None, dict[str, str]]:
    """The reading with the most words for the series that all speak of one; else the shortest that names one."""
    known = [(kind, fields) for fields in readings if (kind := kind_of(fields["series"]))]
    plain = [(kind, fields) for kind, fields in known if _all_speak(fields["series"])]
    if plain:
        return plain[-1]
    return known[0] if known else (None, readings[0])


def _all_speak(series: str) -> bool:
    words = re.split(r"[_\-. ]", series)
    return all(kind_of(w) or w.lower() in _BESIDE_SERIES for w in words)
