"""Labels that do not go together: grades of two schemes in one cohort, classes that no tumour has at once."""

from collections import Counter
from collections.abc import Iterator, Sequence

from gliolens.case import CaseRow
from gliolens.cohorts.audit.verdicts import Finding, counted
from gliolens.labels import TARGET_TITLES

_NOT_STATED = "a scheme not stated"


def label_schemes(rows: Sequence[CaseRow], target: str) -> Iterator[Finding]:
    """Schemes that are mixed in one target. Beside a WHO grade, a row's scheme is the WHO grade's alone."""
    graded = [row for row in rows if target in row.targets]
    if target == "grade":
        graded = [row for row in graded if "who_grade" not in row.targets]
    scheme = {row.case: _scheme(row, target) for row in graded}
    counts = Counter(scheme.values())
    if len(counts) < 2:
        return
    schemes = ", ".join(f"{name} in {counted(n, 'case')}" for name, n in sorted(counts.items()))
    rarer = tuple(case for case, name in scheme.items() if name != counts.most_common(1)[0][0])
    if len(counts.keys() - {_NOT_STATED}) > 1:
        fix = "a grade of one is not a grade of another: keep one scheme, or map them first"
        severity = "serious"
    else:
        fix = "a grade of another scheme is another grade: state it in the column label_scheme"
        severity = "warning"
    text = f"{TARGET_TITLES[target]} follows {schemes}; {fix}"
    yield Finding("mixed label schemes", severity, text, rarer, float(len(counts)))


def _scheme(row: CaseRow, target: str) -> str:
    """Scheme of a row's class of a grade target; BraTS' division into LGG and HGG is none of a WHO grade."""
    stated = row.label_scheme or _NOT_STATED
    return _NOT_STATED if target == "who_grade" and not stated.startswith("who") else stated


_INCOHERENT: tuple[tuple[str, str, dict[str, str], str | None], ...] = (
    (
        "codeleted and IDH wildtype",
        "WHO 2021 calls 1p/19q codeletion a mark of IDH-mutant oligodendroglioma; test both again",
        {"codel_1p19q": "codeleted", "idh": "wildtype"},
        None,
    ),
    (
        "codeleted and grade 4",
        "WHO 2021 grades oligodendroglioma 2 or 3",
        {"codel_1p19q": "codeleted", "who_grade": "4"},
        "who2021",
    ),
    ("LGG and WHO grade 4", "lower grade is 2 or 3", {"grade": "LGG", "who_grade": "4"}, None),
    ("HGG and WHO grade 2", "high grade is 3 or 4", {"grade": "HGG", "who_grade": "2"}, None),
)


def incoherent(rows: Sequence[CaseRow]) -> Iterator[Finding]:
    """Find classes of one case that exclude one another."""
    for name, why, classes, scheme in _INCOHERENT:
        cases = tuple(
            row.case
            for row in rows
            if classes.items() <= row.targets.items() and scheme in (None, row.label_scheme)
        )
        if cases:
            text = f"{name} in {counted(len(cases), 'case')}: {why}"
            yield Finding("incoherent labels", "warning", text, cases, float(len(cases)))
