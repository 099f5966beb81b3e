"""How well a drawn tumour matches the reference."""

import math

import numpy as np

from gliolens.errors import ConfigError
from gliolens.labels import REGIONS, regions_known
from gliolens.types import Labels


def dice(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Twice the overlap of two masks over the sum of their sizes (Dice 1945, doi 10.2307/1932409), 0 to 1.

    NaN where both are empty, and only there: nothing was to be found and nothing was drawn. (BraTS counts 1.)

    Raises:
        ConfigError: the masks differ in shape.
    """
    if reference.shape != predicted.shape:
        raise ConfigError(f"masks of shapes {reference.shape} and {predicted.shape}; expected one grid")
    both = np.count_nonzero(reference) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero((reference != 0) & (predicted != 0)) / both if both else math.nan


def dice_by_region(reference: Labels, predicted: Labels, *, scheme: str = "gliolens") -> dict[str, float]:
    """Dice of whole tumour, core and enhancing tumour; only the regions that the reference's scheme can tell.

    Args:
        reference: labels 0 to 3, (D, H, W).
        predicted: labels 0 to 3 on the same grid.
        scheme: name from `labels.MASK_SCHEMES` that the reference was stored in.

    Raises:
        ConfigError: the labels differ in shape.
    """
    return {
        region: dice(np.isin(reference, REGIONS[region]), np.isin(predicted, REGIONS[region]))
        for region in regions_known(scheme)
    }
