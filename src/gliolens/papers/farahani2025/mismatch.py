"""The T2-FLAIR mismatch of every patient, as a number, by what the tumour is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gliolens.case import Case
from gliolens.labels import ENHANCING
from gliolens.loader import Cases
from gliolens.signs import COMPARED, mismatch_of
from gliolens.stats.intervals import Interval, delong

FAINT_ML: Final = 0.5
"""Enhancing tumour up to which a tumour counts as not enhancing."""
_KINDS: Final = {
    "IDH-mutant, 1p/19q intact (the sign is theirs)": ("mutant", "intact"),
    "IDH-mutant, 1p/19q codeleted": ("mutant", "codeleted"),
    "IDH wildtype": ("wildtype", None),
}


@dataclass(frozen=True)
class _Measured:
    patient: str
    share: float
    enhances: bool
    idh: str | None
    codel: str | None

    def is_kind(self, idh: str, codel: str | None) -> bool:
        return self.idh == idh and codel in (None, self.codel)


def mismatch_table(cases: Cases) -> list[dict[str, Any]]:
    """Per cent of the T2-bright tumour that FLAIR suppresses: median and quartiles, by molecular kind.

    The last rows hold the AUC by which the number tells the first kind from the others, where no patient has several
    cases. Cases of which it is not known (masks of the whole tumour only, nothing bright on T2) are not among them.
    """
    if not set(cases.series) >= COMPARED:
        return [{"tumours": "not measured: T2 or FLAIR is not among the series"}]
    found = [measured for case in cases if (measured := _measure(case)) is not None]
    if not found:
        return [{"tumours": "not measured: no mask tells what enhances"}]
    rows = []
    for group, chosen in (("all", found), ("not enhancing", [m for m in found if not m.enhances])):
        for kind, what in _KINDS.items():
            mine = [100 * m.share for m in chosen if m.is_kind(*what)]
            rows.append(
                {"tumours": group, "kind": kind, "cases": len(mine), "per cent suppressed": _spread(mine)}
            )
        known = [m for m in chosen if m.idh == "wildtype" or (m.idh and m.codel)]
        rows.append({
            "tumours": group, "kind": "AUC of the first kind", "cases": len(known), "per cent suppressed": _auc(known),
        })  # fmt: skip
    return rows


def _measure(case: Case) -> _Measured | None:
    assert case.tumour is not None
    sign = mismatch_of(case, case.tumour, case.mask_scheme)
    if sign is None or np.isnan(sign.share):
        return None
    enhances = bool((case.tumour == ENHANCING).sum() * case.grid.voxel_ml > FAINT_ML)

    return _Measured(
        case.patient, sign.share, enhances, case.targets.get("idh"), case.targets.get("codel_1p19q")
    )


def _auc(known: Sequence[_Measured]) -> Interval | str:
    sign = [m.is_kind("mutant", "intact") for m in known]
    alone = len({m.patient for m in known}) == len(known)
    return delong(sign, [m.share for m in known]) if any(sign) and not all(sign) and alone else ""


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"
