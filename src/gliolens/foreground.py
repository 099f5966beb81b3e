"""Where there is tissue in a case: the stripped brain, or the whole head in its skin."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from gliolens.case import Case
from gliolens.errors import CaseError
from gliolens.types import Image, Mask


def foreground_of(case: Case) -> Mask:
    """The case's brain mask, or else all that any series shows: the stripped brain, or the whole head in its skin."""
    if case.brain is not None:
        return case.brain
    if not case.series:
        raise CaseError(
            case.id,
            found="no series",
            expected="at least one",
            fix="name a file with --t1, --t1ce, --t2 or --flair",
        )
    seen = np.asarray(np.any([tissue(image) for image in case.series.values()], axis=0))
    if all(blanked(image) for image in case.series.values()):
        return seen
    # What is dark inside a head (bone, and fluid where there is no T2) belongs to it too.
    return np.stack([ndimage.binary_fill_holes(seen[..., k]) for k in range(seen.shape[2])], axis=2)


def blanked(image: Image) -> bool:
    """Whether all but tissue was set to one value, as after skull stripping.

    It is the value of all eight corners, or else the lowest, and that of more than a third of the image: a brain fills
    half of its box, while the air around a head has many values.
    """
    return bool(_background(image).mean() > 1 / 3)


def tissue(image: Image) -> Mask:
    """Voxels that hold tissue, whatever value the background was given; told from air by Otsu's threshold elsewhere."""
    background = _background(image)
    return np.asarray(~background if background.mean() > 1 / 3 else image > threshold_otsu(image))


def _background(image: Image) -> Mask:
    corners = image[tuple(slice(None, None, max(n - 1, 1)) for n in image.shape)]
    value = corners.flat[0] if (corners == corners.flat[0]).all() else image.min()
    return np.asarray(image == value)
