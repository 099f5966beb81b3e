"""What gives a label away without its tumour: the site, told from the table or from the scans, and the age."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from gliolens.case import CaseRow
from gliolens.cohorts.audit.appearance import FEWEST, SiteTold, site_told
from gliolens.cohorts.audit.confounds import SiteEffect, age_effect, site_effect
from gliolens.cohorts.audit.verdicts import Finding
from gliolens.labels import HEALTHY, TARGET_TITLES, TARGETS
from gliolens.stats.intervals import holm

Embed: TypeAlias = Callable[[Sequence[CaseRow]], Mapping[str, Mapping[str, np.ndarray]]]
"""From cases to vectors of each series, by case; a case that cannot be read has none."""
SITE_P, SITE_GAIN = 0.01, 0.15
"""The label follows the site where p, corrected for the number of targets, is below, and balanced accuracy above
chance by more than, these."""
AGE_AUC = 0.75
"""Area under the ROC curve from which age alone is said to win, if its interval lies above 0.5."""


def label_follows_site(
    rows: Sequence[CaseRow], group: Mapping[str, str], targets: Sequence[str]
) -> tuple[Finding, ...]:
    """Say for each target how far the site tells it, one entry a patient; `serious` where the label follows the site.

    The p values of the targets are one family, corrected after Holm. The healthy have no part: a hospital that gave
    them alone says nothing of a tumour.

    Args:
        rows: the cohort.
        group: the patient of each case, as `splits.patients` gives it.
        targets: which targets.
    """
    effects = {}
    for target in targets:
        known = _one_each(_ill(rows, target), group, lambda row: bool(row.site))
        effect = site_effect([str(r.site) for r in known], [r.targets[target] for r in known])
        if effect is not None:
            effects[target] = (len(known), effect)
    corrected = holm([effect.p for _, effect in effects.values()])
    return tuple(
        _follows(target, n, effect, p) for (target, (n, effect)), p in zip(effects.items(), corrected, strict=True)
    )  # fmt: skip


def _follows(target: str, patients: int, found: SiteEffect, p: float) -> Finding:
    text = (
        f"{TARGET_TITLES[target]} from the site alone, {patients} patients: balanced accuracy {found.accuracy:.2f} "
        f"(chance {found.chance:.2f}), Cramér's V {found.cramers_v:.2f}, permutation p {found.p:.4f}"
        f"{f', {p:.4f} after Holm' if p != found.p else ''}"
    )
    strong = p < SITE_P and found.accuracy - found.chance > SITE_GAIN
    if strong:
        text += "; a method can learn the scanner for the label. Test with leave-one-site-out"
    severity = "serious" if strong else "warning" if p < 0.05 else "note"
    return Finding(f"site and {target}", severity, text, (), found.accuracy)


def age_tells(rows: Sequence[CaseRow], group: Mapping[str, str], target: str) -> Iterator[Finding]:
    """Say how well age alone tells a class of a target from all others, one entry a patient.

    Of several classes, the one that age tells best. The healthy have no part: their age tells who volunteered.
    """
    known = _one_each(_ill(rows, target), group, lambda row: row.age is not None)
    ages = [float(row.age or 0.0) for row in known]
    effects = {
        c: age_effect(ages, [row.targets[target] == c for row in known]) for c in TARGETS[target][::-1]
    }
    told = {c: effect for c, effect in effects.items() if effect is not None}
    if not told:
        return
    best = max(told, key=lambda c: round(told[c].auc, 9))  # of two classes, which tell the same, the last
    found = told[best]
    wins = found.auc >= AGE_AUC and found.low > 0.5
    text = (
        f"{TARGET_TITLES[target]} {best} from age alone, {len(known)} patients: AUC {found.auc:.2f} "
        f"({found.low:.2f} to {found.high:.2f}), {'older' if found.older else 'younger'} patients have it"
    )
    text += "; report no score without this one beside it" if wins else ""
    yield Finding(f"age and {target}", "warning" if wins else "note", text, (), found.auc)


def site_from_scans(
    rows: Sequence[CaseRow],
    appearances: Mapping[str, Mapping[str, np.ndarray]],
    group: Mapping[str, str],
    follows: Sequence[Finding],
) -> Iterator[Finding]:
    """Say whether the site can be told from the scans, and of which label it would give a network the answer.

    Args:
        rows: the cohort.
        appearances: what `appearance` measured of each case that could be read.
        group: the patient of each case.
        follows: what `label_follows_site` found.
    """
    known = _one_each(rows, group, lambda row: bool(row.site) and bool(appearances.get(row.case)))
    found = site_told([appearances[r.case] for r in known], [str(r.site) for r in known])
    if found is None:
        if len({row.site for row in rows if row.site}) > 1:
            text = (
                "fewer than two sites have eight patients with the series that nine in ten have; not tested"
            )
            yield Finding("site from the scans", "note", text)
        return
    told = found.p < SITE_P
    text = _told("brain outside the tumour", found)
    yield Finding("site from the scans", "warning" if told else "note", text, (), found.accuracy)
    both = [f.name.removeprefix("site and ") for f in follows if f.severity == "serious"] if told else []
    for target in both:
        text = (
            f"the scans tell the site (balanced accuracy {found.accuracy:.2f}) and {TARGET_TITLES[target]} follows "
            "the site: a network can answer by the scanner, and k-fold scores will not show it. Test with "
            "`gliolens cohort split --kind leave-one-site-out`, and show the control `site` beside every score"
        )
        yield Finding(f"site, scans and {target}", "serious", text, (), found.accuracy)


def site_from_embeddings(
    rows: Sequence[CaseRow], embed: Embed, group: Mapping[str, str]
) -> Iterator[Finding]:
    """Say whether the site can be told from what an encoder makes of the scans; nothing where sites are too small.

    An encoder sees the tumour too: where the label follows the site, the tumour itself may tell it. So this raises no
    `site, scans and TARGET`.

    Args:
        rows: the cohort.
        embed: from cases to vectors; asked about one case a patient of known site.
        group: the patient of each case.
    """
    known = _one_each(rows, group, lambda row: bool(row.site))
    sizes = Counter(row.site for row in known)
    if sum(n >= FEWEST for n in sizes.values()) < 2:
        return
    vectors = embed(known)
    seen = [row for row in known if vectors.get(row.case)]
    found = site_told([vectors[row.case] for row in seen], [str(row.site) for row in seen])
    if found is not None:
        text = _told("embeddings of the brain, tumour included", found)
        severity = "warning" if found.p < SITE_P else "note"
        yield Finding("site from the embeddings", severity, text, (), found.accuracy)


def _told(what: str, found: SiteTold) -> str:
    text = (
        f"site told from {what} ({', '.join(found.series)}), {found.patients} patients of "
        f"{len(found.sites)} sites, five folds: balanced accuracy {found.accuracy:.2f} (chance {found.chance:.2f}), "
        f"permutation p {found.p:.4f}"
    )
    if found.left_out:
        text += f"; left out, with too few patients who have these series: {', '.join(found.left_out)}"
    if found.p < SITE_P:
        text += "; harmonise on training patients alone, and test on sites that were not learnt from"
    return text


def _ill(rows: Sequence[CaseRow], target: str) -> list[CaseRow]:
    """Who has a known class and is not healthy."""
    return [row for row in rows if row.targets.get(target, HEALTHY) != HEALTHY]


def _one_each(
    rows: Sequence[CaseRow], group: Mapping[str, str], wanted: Callable[[CaseRow], bool]
) -> list[CaseRow]:
    """One row a patient, of those wanted; in the order of case ids."""
    found = sorted((row for row in rows if wanted(row)), key=lambda row: row.case)
    return list({group[row.case]: row for row in found}.values())
