"""The cohort check: which cases can be read, and what in the cohort would fool a method or its evaluation."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from joblib import Parallel, delayed

from gliolens.case import Case, CaseRow
from gliolens.cohorts.audit.confounds import age_effect, site_effect
from gliolens.cohorts.audit.swaps import Swap, contrast, suspected_swap
from gliolens.cohorts.audit.verdicts import CohortReport, Finding, Verdict, counted, listed
from gliolens.cohorts.splits import patients
from gliolens.errors import CaseError, ConfigError
from gliolens.labels import SERIES, TARGET_TITLES, TARGETS
from gliolens.loader import read_case
from gliolens.ops.intensity import foreground
from gliolens.types import Image

SITE_P, SITE_GAIN = 0.01, 0.15
"""Site and label are confounded where p is below, and balanced accuracy above chance by more than, these."""
AGE_AUC = 0.75
"""Area under the ROC curve from which age alone is said to win, if its interval lies above 0.5."""
WHOLE_MASK = 0.5
"""Share of the head's or brain's voxels above which a tumour mask cannot be one."""

# Words of the errors that an option or an edit of the table or file mends without a new export.
_MENDABLE = (
    "--mask-scheme",
    "name one volume of a 4-D file",
    "set_qform",
    "register and resample",
    "name it with --t1",
)
_NOT_STATED = "a scheme not stated"
_HASHED = 32_000  # voxels that a hash looks at, about


def check_cohort(
    rows: Sequence[CaseRow],
    *,
    target: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    jobs: int = 1,
) -> CohortReport:
    """Read every case once and look for what would fool a method or its evaluation.

    Memory does not grow with the cohort but for hashes and a few numbers a case.

    Args:
        rows: the cohort.
        target: look at the labels of this target only; of all, where None.
        progress: called with the number of cases done and the number of all.
        jobs: processes to read with.

    Raises:
        ConfigError: unknown target.
        CohortError: a case id stands in the rows twice.
    """
    if target is not None and target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
    group = patients(rows)
    looks = []
    for look in _looks(rows, jobs):
        looks.append(look)
        if progress is not None:
            progress(len(looks), len(rows))
    targets = (target,) if target else tuple(TARGETS)
    usual = _usual(rows)
    verdicts = tuple(_verdict(row, look, usual) for row, look in zip(rows, looks, strict=True))
    findings = [
        *_unreadable(verdicts),
        *_duplicates(looks, group),
        *_within_case(looks),
        *(f for t in ("grade", "who_grade") if t in targets for f in _label_schemes(rows, t)),
        *_incoherent(rows),
        *(f for t in targets for f in _giveaways(rows, group, t)),
    ]
    order = ("serious", "warning", "note")
    return CohortReport(
        verdicts,
        tuple(sorted(findings, key=lambda f: order.index(f.severity))),
        _counts(rows, verdicts, group, targets),
    )


# --- one case ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What is kept of a case once its voxels are let go."""

    case: str
    error: tuple[str, str] | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    masked: float | None = None
    swap: Swap | None = None


def image_hash(image: Image) -> str:
    """SHA-256 of an image's shape and the order of its voxels' values, in hexadecimal.

    The same whatever type, scale factor or orientation the voxels were stored with (given RAS+ voxels), as long as
    storing rounded no two values to one, and different after any resampling, cropping or filtering. The order, not
    the values, since these come back from a scale factor with rounding errors. Of a large image a regular part is
    read, so images that differ in a few voxels only may share a hash.
    """
    step = max(1, round((image.size / _HASHED) ** (1 / 3)))
    part = image[::step, ::step, ::step]
    _, order = np.unique(image if np.ptp(part) == 0 else part, return_inverse=True)
    return hashlib.sha256(repr(image.shape).encode() + order.astype("<i4").tobytes()).hexdigest()


def _looks(rows: Sequence[CaseRow], jobs: int) -> Iterator[_Look]:
    if jobs == 1:
        yield from map(_look, rows)
    else:
        yield from Parallel(n_jobs=jobs, return_as="generator")(delayed(_look)(row) for row in rows)


def _look(row: CaseRow) -> _Look:
    try:
        case = read_case(row)
    except CaseError as error:
        return _Look(row.case, error=(_said(error), error.fix))
    found = contrast(case)
    return _Look(
        row.case,
        hashes={name: image_hash(image) for name, image in case.series.items()},
        masked=_masked(case),
        swap=None if found is None else suspected_swap(found),
    )


def _said(error: CaseError) -> str:
    file = "" if error.file is None else f"{error.file}: "
    return f"{file}{error.found}, expected {error.expected}"


def _masked(case: Case) -> float | None:
    """Share of the brain (or head, where no mask of the brain is known) that the tumour labels cover.

    None where there are no labels, or none are to be expected: an empty mask of a healthy brain is right.
    """
    if case.tumour is None or case.targets.get("grade") == "healthy":
        return None
    if not case.tumour.any():
        return 0.0
    if case.brain is not None:
        inside = case.brain.mean()
    else:
        inside = foreground(next(iter(case.series.values()))[::2, ::2, ::2]).mean()
    return float(np.count_nonzero(case.tumour) / max(inside * case.tumour.size, 1))


def _verdict(row: CaseRow, look: _Look, usual: Mapping[str, str]) -> Verdict:
    found = [*_lacks(row, usual)]
    refused = False
    if look.error is not None:
        found.insert(0, look.error)
        refused = not any(words in look.error[1] for words in _MENDABLE)
    if look.masked == 0.0:
        found.append(("an empty tumour mask", "correct the mask; where it is unknown, empty the column mask"))
    if look.masked is not None and look.masked > WHOLE_MASK:
        covered = f"a tumour mask over {look.masked:.0%} of the head or brain"
        found.append((covered, "name the tumour's mask; a mask of the brain goes into the column brain_mask"))
    if look.swap is not None:
        a, b = look.swap.series
        found.append(
            (f"{a} and {b} look exchanged: {look.swap.reason}", f"look at both; exchange {a} and {b}")
        )
    for a, b in _same_series(look):
        found.append((f"{a} and {b} are the same image", f"name the right file in the column {a} or {b}"))
    kind = "refused" if refused else "fixable" if found else "ok"
    return Verdict(row.case, kind, tuple(text for text, _ in found), tuple(fix for _, fix in found))


def _usual(rows: Sequence[CaseRow]) -> dict[str, str]:
    """Which series, and the mask, most cases have, and how many, in words."""
    n = Counter(name for row in rows for name in (*row.files, *(["mask"] if row.mask else [])))
    return {
        name: f"{n[name]} of {len(rows)} cases have" for name in (*SERIES, "mask") if 2 * n[name] > len(rows)
    }


def _lacks(row: CaseRow, usual: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in SERIES:
        if name in usual and name not in row.files:
            yield (
                f"no {name}, which {usual[name]}",
                f"fill in the column {name}, or ask for fewer series with --series",
            )
    if "mask" in usual and row.mask is None and row.targets.get("grade") != "healthy":
        yield f"no tumour mask, which {usual['mask']}", "fill in the column mask"


def _same_series(look: _Look) -> list[tuple[str, str]]:
    names = list(look.hashes)
    return [
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if look.hashes[a] == look.hashes[b]
    ]  # fmt: skip


# --- the cohort: images -----------------------------------------------------------------------------------


def _unreadable(verdicts: Sequence[Verdict]) -> Iterator[Finding]:
    refused = tuple(v.case for v in verdicts if v.verdict == "refused")
    if refused:
        text = (
            f"{len(refused)} of {counted(len(verdicts), 'case')} cannot be read; each one's verdict says why"
        )
        yield Finding("refused cases", "warning", text, refused, float(len(refused)))


def _duplicates(looks: Sequence[_Look], group: Mapping[str, str]) -> Iterator[Finding]:
    by_hash: dict[str, set[str]] = defaultdict(set)
    for look in looks:
        for value in look.hashes.values():
            by_hash[value].add(look.case)
    shared = Counter(tuple(sorted(cases)) for cases in by_hash.values() if len(cases) > 1)
    for cases, n in sorted(shared.items()):
        people = sorted({group[case] for case in cases})
        same = f"{counted(n, 'image')} stand{'s' * (n == 1)} under {len(cases)} cases of"
        if len(people) > 1:
            text = (
                f"{same} {len(people)} patients ({listed(people)}), whom a split may put on both sides; "
                "find whose they are and drop the others, or join the patients in the column aliases"
            )
            yield Finding("same image, several patients", "serious", text, cases, float(n))
        else:
            text = f"{same} patient {people[0]}; drop all cases but one"
            yield Finding("same image, one patient", "warning", text, cases, float(n))


def _within_case(looks: Sequence[_Look]) -> Iterator[Finding]:
    same = tuple(look.case for look in looks if _same_series(look))
    if same:
        text = f"one image under two series' names, in {counted(len(same), 'case')}"
        yield Finding("same image, two series", "serious", text, same, float(len(same)))
    swaps = {look.case: look.swap.score for look in looks if look.swap is not None}
    if swaps:
        text = f"two series look exchanged in {counted(len(swaps), 'case')}; each one's verdict says which"
        yield Finding("suspected exchange of series", "warning", text, tuple(swaps), min(swaps.values()))
    empty = tuple(look.case for look in looks if look.masked == 0.0)
    if empty:
        text = f"no tumour in the mask of {counted(len(empty), 'case')}"
        yield Finding("empty mask", "warning", text, empty, float(len(empty)))
    whole = {look.case: look.masked for look in looks if look.masked is not None and look.masked > WHOLE_MASK}
    if whole:
        most = max(whole.values())
        text = (
            f"the tumour mask of {counted(len(whole), 'case')} covers up to {most:.0%} of the head or brain"
        )
        yield Finding("mask of everything", "warning", text, tuple(whole), most)


# --- the cohort: labels -----------------------------------------------------------------------------------


def _label_schemes(rows: Sequence[CaseRow], target: str) -> Iterator[Finding]:
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


def _incoherent(rows: Sequence[CaseRow]) -> Iterator[Finding]:
    for name, why, classes, scheme in _INCOHERENT:
        cases = tuple(
            row.case
            for row in rows
            if classes.items() <= row.targets.items() and scheme in (None, row.label_scheme)
        )
        if cases:
            text = f"{name} in {counted(len(cases), 'case')}: {why}"
            yield Finding("incoherent labels", "warning", text, cases, float(len(cases)))


def _giveaways(rows: Sequence[CaseRow], group: Mapping[str, str], target: str) -> Iterator[Finding]:
    known = sorted((row for row in rows if target in row.targets), key=lambda row: row.case)
    yield from _site_finding(list({group[r.case]: r for r in known if r.site}.values()), target)
    yield from _age_finding(list({group[r.case]: r for r in known if r.age is not None}.values()), target)


def _site_finding(rows: Sequence[CaseRow], target: str) -> Iterator[Finding]:
    found = site_effect([str(r.site) for r in rows], [r.targets[target] for r in rows])
    if found is None:
        return
    strong = found.p < SITE_P and found.accuracy - found.chance > SITE_GAIN
    text = (
        f"{TARGET_TITLES[target]} from the site alone, {len(rows)} patients: balanced accuracy {found.accuracy:.2f} "
        f"(chance {found.chance:.2f}), Cramér's V {found.cramers_v:.2f}, permutation p {found.p:.4f}"
    )
    if strong:
        text += "; a method can learn the scanner for the label. Test with leave-one-site-out"
    severity = "serious" if strong else "warning" if found.p < 0.05 else "note"
    yield Finding(f"site and {target}", severity, text, (), found.accuracy)


def _age_finding(rows: Sequence[CaseRow], target: str) -> Iterator[Finding]:
    present = [c for c in TARGETS[target] if any(r.targets[target] == c for r in rows)]
    if len(present) < 2:
        return
    found = age_effect([float(r.age or 0.0) for r in rows], [r.targets[target] == present[-1] for r in rows])
    if found is None:
        return
    wins = found.auc >= AGE_AUC and found.low > 0.5
    text = (
        f"{TARGET_TITLES[target]} {present[-1]} from age alone, {len(rows)} patients: AUC {found.auc:.2f} "
        f"({found.low:.2f} to {found.high:.2f}), {'older' if found.older else 'younger'} patients have it"
    )
    text += "; report no score without this one beside it" if wins else ""
    yield Finding(f"age and {target}", "warning" if wins else "note", text, (), found.auc)


def _counts(
    rows: Sequence[CaseRow], verdicts: Sequence[Verdict], group: Mapping[str, str], targets: Sequence[str]
) -> dict[str, dict[str, int]]:
    columns = {
        "verdict": [v.verdict for v in verdicts],
        "series": ["+".join(s for s in SERIES if s in row.files) or "none" for row in rows],
        "mask": ["known" if row.mask else "none" for row in rows],
        "site": [row.site or "unknown" for row in rows],
        **{t: [row.targets.get(t, "unknown") for row in rows] for t in targets},
    }
    counts = {name: dict(sorted(Counter(values).items())) for name, values in columns.items()}
    return {"all": {"cases": len(rows), "patients": len(set(group.values()))}, **counts}
