"""Scores of drawn outlines beside those of the built-in network, case by case and as means with intervals."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.case import CaseRow, Volume
from gliolens.io.nifti import read_labels
from gliolens.io.store import content_hash, file_hash, read_json, write_json, write_text
from gliolens.labels import regions_known
from gliolens.loader import fingerprint, read_case
from gliolens.outline import read_outliner
from gliolens.progress import Counter
from gliolens.stats.intervals import Interval, bootstrap
from gliolens.stats.segmentation import SEGMENTATION_SCORES, scores_by_region

BUILT_IN: Final = "built-in outline"
"""What the table calls the network in the package, which has learnt from none of the user's patients."""
TITLES: Final[Mapping[str, str]] = {
    "dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 (mm)", "surface_dice": "surface Dice (1 mm)",
    "lesionwise_dice": "lesion-wise Dice",
}  # fmt: skip


def outline_rows(
    method: str, row: CaseRow, labels: Volume, *, drawn_scheme: str = "gliolens"
) -> list[dict[str, Any]]:
    """Scores of one drawn outline against the case's mask: a row a region that both can tell.

    Args:
        method: who drew it.
        row: the case, with its mask.
        labels: the outline, labels 0 to 3 on the case's grid.
        drawn_scheme: what the outline can tell, a name from `labels.MASK_SCHEMES`.

    Raises:
        ValueError: the case has no mask.
    """
    if row.mask is None:
        raise ValueError(f"case {row.case} has no mask to compare with")
    stored, scheme = read_labels(row.mask, row.case, row.mask_scheme)
    spacing = stored.volume.grid.spacing
    found = scores_by_region(stored.volume.voxels, labels.voxels, spacing, scheme=scheme)
    who = {"method": method, "case": row.case, "patient": row.patient}
    both = regions_known(drawn_scheme)
    return [{**who, "region": region, **scores} for region, scores in found.items() if region in both]


def write_outlines(
    out: Path, files: Sequence[Path], rows: Sequence[CaseRow], *, seed: int
) -> list[dict[str, Any]]:
    """Write `outlines.csv` and `outlines.json` where a method has drawn outlines.

    Args:
        out: folder of the run.
        files: `outlines.csv` of every entrant and fold; those that are not there are passed over.
        rows: all cases of the cohort.
        seed: of the intervals.

    Returns:
        The means; see `summary`. Nothing where no outline was drawn.
    """
    drawn = [_read(file) for file in files if file.is_file()]
    if not drawn:
        return []
    mine = pd.concat(drawn, ignore_index=True)
    asked = [row for row in rows if row.case in set(mine["case"])]
    table = pd.concat([mine, _built_in(asked, out / "outlines-built-in.csv")], ignore_index=True)
    write_text(out / "outlines.csv", table.to_csv(index=False))
    means = summary(table, seed=seed)
    write_json(out / "outlines.json", {"about": ABOUT, "means": plain_outlines(means)})
    return means


ABOUT: Final = (
    "Means over cases with 95 % intervals (2,000 bootstrap draws of patients). A region that neither holds does not "
    "count; one that was missed or made up has a Dice of 0 and a distance of the image's diagonal."
)


def _built_in(rows: Sequence[CaseRow], file: Path) -> pd.DataFrame:
    """Scores of the built-in network on the same cases, kept in a file."""
    outliner, mark = read_outliner(), file.with_suffix(".json")
    asked = content_hash([outliner.card["sha256"], [fingerprint(row) for row in rows]])
    if not (
        mark.is_file() and file.is_file() and read_json(mark) == {"asked": asked, "sha256": file_hash(file)}
    ):
        tick, out = Counter("outlines of the built-in network"), []
        for i, row in enumerate(rows, 1):
            case = read_case(row)
            out += outline_rows(BUILT_IN, row, Volume(outliner.outline(case).labels, case.grid.affine))
            tick(i, len(rows))
        write_text(file, pd.DataFrame(out).to_csv(index=False))
        write_json(mark, {"asked": asked, "sha256": file_hash(file)})
    return _read(file)


def _read(file: Path) -> pd.DataFrame:
    """Scores as they were written; names stay as they are, `NA` too, and empty scores are not known."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return table.assign(**{score: pd.to_numeric(table[score]) for score in SEGMENTATION_SCORES})


def summary(table: pd.DataFrame, *, seed: int) -> list[dict[str, Any]]:
    """Mean of each of `SEGMENTATION_SCORES` over cases, for each method and region.

    Args:
        table: rows of `outline_rows`.
        seed: of the intervals.

    Returns:
        `method`, `region`, `n` (cases that count), and an `Interval` for each score.
    """
    out = []
    for (method, region), mine in table.groupby(["method", "region"], sort=False):
        row: dict[str, Any] = {"method": method, "region": region, "n": int(mine["dice"].notna().sum())}
        for score in SEGMENTATION_SCORES:
            there = mine[mine[score].notna()]
            row[score] = _mean(there[score].to_numpy(float), list(there["patient"]), seed)
        out.append(row)
    return out


def _mean(values: np.ndarray, patients: Sequence[str], seed: int) -> Interval:
    if len(values) == 0:
        return Interval(math.nan, math.nan, math.nan, "no case holds it, and none was drawn")
    return bootstrap(lambda rows: float(values[rows].mean()), patients, np.zeros(len(values), int), seed=seed)


def plain_outlines(means: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The means with plain numbers in place of intervals."""
    out = []
    for row in means:
        told = {k: row[k] for k in ("method", "region", "n")}
        for score in SEGMENTATION_SCORES:
            x = row[score]
            told |= {
                score: x.value,
                f"{score}_low": x.low,
                f"{score}_high": x.high,
                f"{score}_reason": x.reason,
            }
        out.append(told)
    return out
