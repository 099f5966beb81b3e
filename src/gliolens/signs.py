"""Signs that radiologists read, as numbers of a case and an outline of its tumour."""

from typing import Final

from gliolens.case import Case
from gliolens.labels import ENHANCING, regions_known
from gliolens.preprocess import brain_of
from gliolens.radiomics.mismatch import MismatchSign, mismatch_sign
from gliolens.types import Labels

COMPARED: Final = {"t2", "flair"}
"""Series that the T2-FLAIR mismatch compares."""
MISMATCH: Final = "T2-FLAIR mismatch: % of the T2-bright tumour that FLAIR suppresses"
"""What evidence calls it."""


def mismatch_of(case: Case, labels: Labels, scheme: str) -> MismatchSign | None:
    """The T2-FLAIR mismatch in the tumour without what enhances; see `radiomics.mismatch`.

    Args:
        case: on whose grid the labels lie.
        labels: 0 to 3.
        scheme: what they can tell, a name from `labels.MASK_SCHEMES`.

    Returns:
        The sign; None where one of the two series is missing, or the labels do not tell what enhances.
    """
    if not set(case.series) >= COMPARED or "enhancing" not in regions_known(scheme):
        return None
    tumour = (labels > 0) & (labels != ENHANCING)
    return mismatch_sign(case.series["t2"], case.series["flair"], tumour, brain_of(case), case.grid.voxel_ml)
