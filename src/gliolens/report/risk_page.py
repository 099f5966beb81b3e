"""The page of risk groups: every method beside every control, and the curves of each method's groups."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gliolens.report.paper_page import Section, table_section, write_paper_report
from gliolens.report.words import cell
from gliolens.stats.risk_groups import BASELINE, Judged, RiskGroups


def write_risk_page(
    path: Path,
    title: str,
    found: RiskGroups,
    *,
    shorter: str,
    cut: str | float,
    figures: Sequence[tuple[str, bytes]],
    provenance: Mapping[str, str],
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the HTML file.
        title: the page's title.
        found: what to tell.
        shorter: the class whose probability is the risk.
        cut: as it was asked for.
        figures: caption and PNG of each.
        provenance: hashes and versions by name.
    """
    sections = [_table(found, shorter, cut), Section("Figures", figures=figures)]
    write_paper_report(path, title, sections, provenance)


def _table(found: RiskGroups, shorter: str, cut: str | float) -> Section:
    asked = found.asked
    rows: list[dict[str, Any]] = [_told(one) for one in found.judged]
    rows.append({"Method": "nobody told apart", "Integrated Brier score": found.nobody_told})
    whence = (
        "the median risk of the training patients of the same fold, as answered when they were held out"
        if cut == "median"
        else f"{cut}, fixed beforehand"
    )
    return table_section(
        "Table",
        rows,
        f"{len(asked.cases)} patients, {int(asked.died.sum())} deaths; {len(asked.left_out)} cases left out.",
        f"Risk is the probability of {shorter}, every class weighing the same. High risk is from the cut "
        f"on: {whence}. No patient's own survival, and no tested patient's risk, moves it.",
        "Controls are what a method must beat. C-index: share of pairs in which who has the higher risk dies first; "
        "0.5 is chance. Intervals: 95 %, bootstrap over patients; of the hazard ratio, Wald's.",
        "Integrated Brier score: of the survival that Cox's model predicts from the risk, fitted to training patients, "
        f"up to day {found.horizon_days:.0f}; lower is better, and nobody told apart is what it must beat. "
        "Proportional hazards: a small p says that one ratio does not tell it all.",
    )


def _told(one: Judged) -> dict[str, Any]:
    sizes = {c.name: f"{c.n}, {c.events} died" for c in one.curves}
    return {
        "Method": f"{one.method} (control)" if one.control else one.method,
        "Low": sizes.get("low", "nobody"),
        "High": sizes.get("high", "nobody"),
        "Log-rank p": "one group" if one.test is None else p_in_words(one.test.p),
        "Hazard ratio of high": "not known" if one.hazard is None else cell(one.hazard.ratio),
        "Proportional hazards, p": "" if one.hazard is None else p_in_words(one.hazard.proportional_p),
        "C-index": one.concordance,
        "less age and sex": one.gained if one.method != BASELINE else "",
        "Integrated Brier score": one.brier,
    }


def p_in_words(p: float) -> str:
    """A p-value as a table shows it."""
    return "not known" if math.isnan(p) else "<0.0001" if p < 1e-4 else f"{p:.4f}"
