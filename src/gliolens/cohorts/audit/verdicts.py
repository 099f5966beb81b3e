"""What the cohort check says: a verdict a case, findings about the cohort, counts."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_LISTED = 10  # cases that the text names in one place
_REPEATED = 5  # findings of one name that the text tells
_VALUES = 8  # values of one heading that the text counts


@dataclass(frozen=True)
class Verdict:
    """What becomes of one case.

    Attributes:
        case: its id.
        verdict: `ok`, `fixable` (an option or edit mends it, see `fix`) or `refused` (it cannot be read).
        findings: what was found, in words; first what refuses the case, where it is refused.
        fix: what mends each, in the same order.
    """

    case: str
    verdict: str
    findings: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing found in the cohort.

    Attributes:
        name: what was looked for.
        severity: `note`, `warning` or `serious`.
        text: what was found and what to do.
        cases: the cases concerned; empty where it is the whole cohort.
        number: the figure it rests on (said in the text); NaN where it rests on none.
    """

    name: str
    severity: str
    text: str
    cases: tuple[str, ...] = ()
    number: float = math.nan


@dataclass(frozen=True)
class CohortReport:
    """What the check found: a verdict a case, findings (serious ones first), and counts by heading and value."""

    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON content; a NaN becomes null when it is written with `io.store.write_json`."""
        return asdict(self)

    def to_text(self) -> str:
        """Counts, findings (serious first), and what mends which cases (refused ones first).

        Its length is bounded by how many things go wrong, not by the number of cases; `to_json` leaves nothing out.
        """
        return "\n".join([*self._head(), "", *self._found(), *self._to_mend()])

    def _head(self) -> Iterator[str]:
        told = Counter(v.verdict for v in self.verdicts)
        people = self.counts.get("all", {}).get("patients")
        of = "" if people is None else f" of {counted(people, 'patient')}"
        yield (
            f"{counted(len(self.verdicts), 'case')}{of}: "
            f"{told['ok']} ok, {told['fixable']} fixable, {told['refused']} refused"
        )
        for heading in (h for h in self.counts if h not in ("all", "verdict")):
            counts = Counter(self.counts[heading])
            values = [f"{value} ({n})" for value, n in counts.most_common(_VALUES)]
            yield f"  {heading}: " + ", ".join(values) + _and_more(len(counts) - _VALUES)

    def _found(self) -> Iterator[str]:
        if not self.findings:
            yield "no findings about the cohort as a whole"
        told: Counter[str] = Counter()
        for found in self.findings:
            told[found.name] += 1
            if told[found.name] <= _REPEATED:
                cases = f" [{listed(found.cases)}]" if found.cases else ""
                yield f"{found.severity}: {found.name}: {found.text}{cases}"
        for name, n in told.items():
            if n > _REPEATED:
                yield f"{name}: {n - _REPEATED} more like these (the JSON has all)"

    def _to_mend(self) -> Iterator[str]:
        """Cases by what mends them, so that what is wrong with many is said once; what refuses them first."""
        wrong: dict[tuple[str, str], list[str]] = defaultdict(list)
        for v in self.verdicts:
            for i, (found, fix) in enumerate(zip(v.findings, v.fix, strict=True)):
                kind = "refused" if v.verdict == "refused" and i == 0 else "fixable"
                wrong[kind, fix].append(f"  {v.case}: {found}")
        for (kind, fix), lines in sorted(wrong.items(), key=lambda group: group[0][0] != "refused"):
            yield ""
            yield f"{kind}, {counted(len(lines), 'case')}; to mend: {fix}"
            yield from lines[:_LISTED]
            if len(lines) > _LISTED:
                yield f"  and {len(lines) - _LISTED} more (the JSON has all)"


def counted(n: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:_LISTED]) + _and_more(len(names) - _LISTED)


def _and_more(n: int) -> str:
    return f" and {n} more" if n > 0 else ""
