"""Whether cases are one patient under other names, in this cohort or in another one."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gliolens.case import CaseRow
from gliolens.cohorts.audit.likeness import Pair, same_patients, upright
from gliolens.cohorts.audit.look import Look
from gliolens.cohorts.audit.verdicts import Finding, counted, listed
from gliolens.cohorts.identity import OVERLAPS, names, release_of
from gliolens.progress import Tick


def patients_again(
    rows: Sequence[CaseRow],
    looks: Sequence[Look],
    group: Mapping[str, str],
    other: Sequence[CaseRow] = (),
    other_looks: Sequence[Look] = (),
    tick: Tick | None = None,
) -> Iterator[Finding]:
    """Find patients who stand in the cohort under two names, or in another cohort too.

    Args:
        rows: the cohort.
        looks: what was kept of each of its cases, with fingerprints.
        group: the patient of each of its cases, as `splits.patients` gives it.
        other: another cohort.
        other_looks: what was kept of its cases.
        tick: progress over pairs of cases.
    """
    everyone, seen = [*rows, *other], [*looks, *other_looks]
    known = [i for i, look in enumerate(seen) if look.print is not None]
    prints, turned = upright([p for look in seen if (p := look.print) is not None])
    own = sum(i < len(rows) for i in known)
    pairs = same_patients(prints, own=own, tick=tick)
    placed = [(known[pair.a], known[pair.b], pair) for pair in pairs]
    if turned:
        yield _lying([everyone[known[i]].case for i in turned])
    inside = [(rows[a], rows[b], pair) for a, b, pair in placed if b < len(rows)]
    yield from _twice(inside, group)
    yield _compared(rows, own)
    if other:
        alike = [(rows[a].case, everyone[b].case, pair.alike) for a, b, pair in placed if a < len(rows) <= b]
        yield _contained(rows, looks, group, other, other_looks, alike)


def _lying(cases: Sequence[str]) -> Finding:
    text = (
        f"{counted(len(cases), 'case')} whose axes are not those their header says, beside the mean of all: "
        "left, right, up and down are wrong in every picture and outline; convert again from DICOM"
    )
    return Finding("axes against the header", "serious", text, tuple(cases), float(len(cases)))


def _twice(pairs: Sequence[tuple[CaseRow, CaseRow, Pair]], group: Mapping[str, str]) -> Iterator[Finding]:
    for a, b, pair in pairs:
        mirrored = ", left and right exchanged" if pair.mirrored else ""
        told = f"likeness {pair.alike:.2f} over {', '.join(pair.series)}{mirrored}"
        if group[a.case] != group[b.case]:
            text = (
                f"scans of one brain under two patients ({told}), whom a split may put on both sides; join them in the "
                "column aliases, or leave one out"
            )
            yield Finding("same brain, two patients", "serious", text, (a.case, b.case), pair.alike)
        elif pair.mirrored:
            text = f"two scans of one patient mirror one another ({told}); one lies about left and right"
            yield Finding("mirrored scans", "warning", text, (a.case, b.case), pair.alike)


def _compared(rows: Sequence[CaseRow], own: int) -> Finding:
    text = f"{own} of {counted(len(rows), 'case')} compared by their scans"
    if own < len(rows):
        text += "; the others cannot be read, or show too little brain, and may be anyone's"
    return Finding("patients compared", "note" if own == len(rows) else "warning", text, (), float(own))


def _contained(
    rows: Sequence[CaseRow],
    looks: Sequence[Look],
    group: Mapping[str, str],
    other: Sequence[CaseRow],
    other_looks: Sequence[Look],
    alike: Sequence[tuple[str, str, float]],
) -> Finding:
    by_name, by_image = _same_name(rows, other), _same_image(looks, other_looks)
    by_scan = {(a, b) for a, b, _ in alike}
    found = sorted(by_name | by_image | by_scan)
    people = len(set(group.values()))
    n = {
        how: len({group[a] for a, _ in pairs})
        for how, pairs in (
            ("all", set(found)), ("name", by_name), ("image", by_image), ("scan", by_scan),
            ("new", by_scan - by_name - by_image),
        )
    }  # fmt: skip
    text = (
        f"{n['all']} of {counted(people, 'patient')} ({n['all'] / people:.0%}) are in the other cohort too: "
        f"{n['name']} by name or alias, {n['image']} by the same image, "
        f"{n['scan']} by likeness ({n['new']} by it alone)"
    )
    if found:
        text += (
            f": {listed([f'{a} = {b}' for a, b in found])}; leave them out of one of the two, or write the "
            "other's name into the column aliases, before one is learnt from and the other tested on"
        )
    cases = tuple(sorted({a for a, _ in found}))
    return Finding(
        "contained in the other cohort", "serious" if found else "note", text, cases, n["all"] / people
    )


def _same_name(rows: Sequence[CaseRow], other: Sequence[CaseRow]) -> set[tuple[str, str]]:
    """Pairs of cases of which a name, patient or alias agrees, whatever its spelling."""
    owners: dict[str, set[str]] = {}
    for row in other:
        for name in names(row):
            owners.setdefault(name, set()).add(row.case)
    return {(row.case, case) for row in rows for name in names(row) for case in owners.get(name, ())}


def _same_image(looks: Sequence[Look], other: Sequence[Look]) -> set[tuple[str, str]]:
    owners: dict[str, set[str]] = {}
    for look in other:
        for value in look.hashes.values():
            owners.setdefault(value, set()).add(look.case)
    return {(look.case, case) for look in looks for h in look.hashes.values() for case in owners.get(h, ())}


def shared_releases(rows: Sequence[CaseRow], other: Sequence[CaseRow] = ()) -> Iterator[Finding]:
    """Say which releases that are known to hold the same patients meet here, and how many cases no alias joins."""
    everyone = [*rows, *other]
    release = [release_of(row.case) for row in everyone]
    counts = Counter(name for name in release if name is not None)
    for part, whole in OVERLAPS:
        if not (counts[part] and counts[whole]):
            continue
        theirs = {n for row, r in zip(everyone, release, strict=True) if r == whole for n in names(row)}
        joined = [bool(names(row) & theirs) for row, r in zip(everyone, release, strict=True) if r == part]
        loose = int(np.size(joined) - sum(joined))
        both = f"{whole} ({counted(counts[whole], 'case')}) holds patients of {part} ({counted(counts[part], 'case')})"
        text = (
            f"{both} under other names; {loose} of these are not joined to it by an alias: index with the table of "
            "names that comes with the releases (`--labels`), and see which cases are alike"
        )
        yield Finding("releases that share patients", "warning" if loose else "note", text, (), float(loose))
