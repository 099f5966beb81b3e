"""The T2-FLAIR mismatch of every patient, as a number, by what the tumour is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gliolens.case import Case
from gliolens.labels import ENHANCING
from gliolens.loader import Cases
from gliolens.preprocess import brain_of, tumour_of
from gliolens.radiomics.mismatch import mismatch_sign
from gliolens.stats.intervals import delong

FAINT_ML: Final = 0.5
"""Enhancing tumour up to which a tumour counts as not enhancing."""
_KINDS: Final = {
    "IDH-mutant, 1p/19q intact (the sign is theirs)": ("mutant", "intact"),
    "IDH-mutant, 1p/19q codeleted": ("mutant", "codeleted"),
    "IDH wildtype": ("wildtype", None),
}


@dataclass(frozen=True)
class _Measured:
    share: float
    enhances: bool
    idh: str | None
    codel: str | None

    def is_kind(self, idh: str, codel: str | None) -> bool:
        return self.idh == idh and codel in (None, self.codel)


def mismatch_table(cases: Cases) -> list[dict[str, Any]]:
    """Per cent of the T2-bright tumour that FLAIR suppresses: median and quartiles, by molecular kind.

    The last rows hold the AUC by which the number tells the first kind from the others.
    """
    if not {"t2", "flair"} <= set(cases.series):
        return [{"tumours": "not measured: T2 or FLAIR is not among the series"}]
    found = [_measure(case) for case in cases]
    rows = []
    for group, chosen in (("all", found), ("not enhancing", [m for m in found if not m.enhances])):
        for kind, what in _KINDS.items():
            mine = [100 * m.share for m in chosen if m.is_kind(*what)]
            rows.append(
                {"tumours": group, "kind": kind, "cases": len(mine), "per cent suppressed": _spread(mine)}
            )
        known = [m for m in chosen if m.idh == "wildtype" or (m.idh and m.codel)]
        sign = [m.is_kind("mutant", "intact") for m in known]
        told = delong(sign, [m.share for m in known]) if any(sign) and not all(sign) else ""
        rows.append(
            {
                "tumours": group,
                "kind": "AUC of the first kind",
                "cases": len(known),
                "per cent suppressed": told,
            }
        )
    return rows


def _measure(case: Case) -> _Measured:
    assert case.tumour is not None
    enhancing = case.tumour == ENHANCING
    sign = mismatch_sign(
        case.series["t2"],
        case.series["flair"],
        tumour_of(case) & ~enhancing,
        brain_of(case),
        case.grid.voxel_ml,
    )
    enhances = bool(enhancing.sum() * case.grid.voxel_ml > FAINT_ML)
    share = 0.0 if np.isnan(sign.share) else sign.share  # nothing bright: nothing suppressed
    return _Measured(share, enhances, case.targets.get("idh"), case.targets.get("codel_1p19q"))


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"
