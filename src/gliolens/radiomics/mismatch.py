"""The T2-FLAIR mismatch as a number: how much of what is bright on T2 the FLAIR suppresses."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gliolens.types import Image, Mask


@dataclass(frozen=True)
class MismatchSign:
    """What T2 and FLAIR say of one tumour.

    Attributes:
        bright_ml: volume that is bright on T2, as fluid and swollen tissue are.
        suppressed_ml: how much of it is not bright on FLAIR.
        share: of the bright volume that is suppressed, 0 to 1; NaN where nothing is bright.
    """

    bright_ml: float
    suppressed_ml: float
    share: float


def mismatch_sign(t2: Image, flair: Image, tumour: Mask, brain: Mask, voxel_ml: float) -> MismatchSign:
    """Measure the sign that Patel et al. 2017 (doi 10.1158/1078-0432.CCR-17-0560) read by eye.

    They call mismatch a tumour that is bright almost throughout on T2 and, but for its rim, dark on FLAIR. Here the
    brain beyond the tumour is the measure: bright is more than one robust standard deviation above its median, and what
    is bright on T2 but not on FLAIR is suppressed. Cysts and necrosis are suppressed too, so that the number is to be
    read in tumours that do not enhance; the sign is one of astrocytomas, IDH-mutant.

    Args:
        t2, flair: the two series, in any unit.
        tumour: the tumour without what enhances.
        brain: the brain.
        voxel_ml: volume of a voxel, in ml.

    Returns:
        The sign; NaN throughout where no brain lies beyond the tumour.
    """
    beyond = brain & ~np.asarray(ndimage.binary_dilation(tumour, iterations=2))
    if not beyond.any():
        return MismatchSign(math.nan, math.nan, math.nan)
    bright = tumour & _bright(t2, beyond)
    suppressed = bright & ~_bright(flair, beyond)
    bright_ml, suppressed_ml = (float(mask.sum() * voxel_ml) for mask in (bright, suppressed))
    return MismatchSign(
        bright_ml, suppressed_ml, suppressed_ml / bright_ml if bright_ml > 0 else float("nan")
    )


def _bright(image: Image, normal: Mask) -> Mask:
    """More than one robust standard deviation above the median of normal brain."""
    values = image[normal]
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return np.asarray(image > middle + spread)
