"""The cohort check: which cases can be read, and what in the cohort would fool a method or its evaluation."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from gliolens.case import CaseRow
from gliolens.cohorts.audit.coherence import incoherent, label_schemes
from gliolens.cohorts.audit.containment import patients_again, shared_releases
from gliolens.cohorts.audit.giveaways import (
    Embed,
    age_tells,
    label_follows_site,
    site_from_embeddings,
    site_from_scans,
)
from gliolens.cohorts.audit.look import WHOLE_MASK, Look, looks_at, same_series, usual_series, verdict
from gliolens.cohorts.audit.verdicts import CohortReport, Finding, Verdict, counted, listed
from gliolens.cohorts.audit.who import grade_changes
from gliolens.cohorts.splits import patients
from gliolens.errors import ConfigError
from gliolens.labels import SERIES, TARGETS
from gliolens.progress import Tick


def check_cohort(
    rows: Sequence[CaseRow],
    *,
    target: str | None = None,
    deep: bool = False,
    against: Sequence[CaseRow] = (),
    embed: Embed | None = None,
    progress: Tick | None = None,
    comparing: Tick | None = None,
    jobs: int = 1,
) -> CohortReport:
    """Read every case once and look for what would fool a method or its evaluation.

    Memory grows by hashes and a few numbers a case; `deep`, 95 kB a series more.

    Args:
        rows: the cohort.
        target: look at the labels of this target only; of all, where None.
        deep: also ask what `gliolens cohort check --deep` asks: see docs/audit.md.
        against: with `deep`, another cohort, to find whose patients are in both.
        embed: with `deep`, an encoder; whether its vectors tell the site is asked too.
        progress, comparing: called with the number of cases read, of pairs compared, and of all.
        jobs: processes to read with.

    Raises:
        ConfigError: unknown target, or another cohort without `deep`.
        CohortError: a case id stands in the rows twice.
    """
    if target is not None and target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
    if against and not deep:
        raise ConfigError("another cohort is compared by its scans: ask for the deep check, with --deep")
    group = patients(rows)
    looks = _looked(looks_at([*rows, *against], deep=deep, jobs=jobs), len(rows) + len(against), progress)
    own, others = looks[: len(rows)], looks[len(rows) :]
    targets = (target,) if target else tuple(TARGETS)
    usual = usual_series(rows)
    verdicts = tuple(verdict(row, look, usual) for row, look in zip(rows, own, strict=True))
    follows = label_follows_site(rows, group, targets)
    findings = [
        *_unreadable(verdicts),
        *_duplicates(own, group),
        *_within_case(own),
        *(f for t in ("grade", "who_grade") if t in targets for f in label_schemes(rows, t)),
        *incoherent(rows),
        *follows,
        *(f for t in targets for f in age_tells(rows, group, t)),
    ]
    if deep:
        findings += site_from_scans(rows, {look.case: look.appearance for look in own}, group, follows)
        findings += site_from_embeddings(rows, embed, group) if embed else ()
        findings += shared_releases(rows, against)
        findings += patients_again(rows, own, group, against, others, comparing)
        findings += grade_changes(rows)
    order = ("serious", "warning", "note")
    told = tuple(sorted(findings, key=lambda f: order.index(f.severity)))
    return CohortReport(verdicts, told, _counts(rows, verdicts, group, targets))


def _looked(looks: Iterator[Look], n: int, progress: Tick | None) -> list[Look]:
    seen = []
    for look in looks:
        seen.append(look)
        if progress is not None:
            progress(len(seen), n)
    return seen


# --- images -----------------------------------------------------------------------------------------------


def _unreadable(verdicts: Sequence[Verdict]) -> Iterator[Finding]:
    refused = tuple(v.case for v in verdicts if v.verdict == "refused")
    if refused:
        text = (
            f"{len(refused)} of {counted(len(verdicts), 'case')} cannot be read; each one's verdict says why"
        )
        yield Finding("refused cases", "warning", text, refused, float(len(refused)))


def _duplicates(looks: Sequence[Look], group: Mapping[str, str]) -> Iterator[Finding]:
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


def _within_case(looks: Sequence[Look]) -> Iterator[Finding]:
    same = tuple(look.case for look in looks if same_series(look))
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
