"""What the cohort check says: a verdict a case, findings about the cohort, counts."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What becomes of one case.

    Attributes:
        case: its id.
        verdict: `ok`, `fixable` (an option or edit mends it, see `fix`) or `refused` (it cannot be read).
        findings: what was found, in words.
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
        """Counts, findings (serious first) and every case that is not ok, with what mends it."""
        told = Counter(v.verdict for v in self.verdicts)
        lines = [
            f"{len(self.verdicts)} cases: {told['ok']} ok, {told['fixable']} fixable, {told['refused']} refused"
        ]
        for heading, counts in self.counts.items():
            lines.append(f"  {heading}: " + ", ".join(f"{n} {value}" for value, n in counts.items()))
        lines += [""] * bool(self.findings)
        for found in self.findings:
            cases = (
                f" [{', '.join(found.cases[:10])}{', ...' if len(found.cases) > 10 else ''}]"
                if found.cases
                else ""
            )
            lines.append(f"{found.severity}: {found.name}: {found.text}{cases}")
        for verdict in self.verdicts:
            if verdict.verdict != "ok":
                lines += ["", f"{verdict.case}: {verdict.verdict}"]
                lines += [
                    f"  {found}\n  to mend: {fix}"
                    for found, fix in zip(verdict.findings, verdict.fix, strict=True)
                ]
        return "\n".join(lines)
