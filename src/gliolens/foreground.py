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
    # What is dark inside a head (bone, fluid where there is no T2, zeros that a denoiser left) belongs to it too.
    return np.stack([ndimage.binary_fill_holes(seen[..., k]) for k in range(seen.shape[2])], axis=2)


def tissue(image: Image) -> Mask:
    """Voxels that hold tissue: all but the background where that is blanked, else what Otsu's threshold calls bright.

    An image is blanked where one value, that of all eight corners or else the lowest, fills more than a third of it: a
    brain fills half of its box, while the air around a head has many values.
    """
    corners = image[tuple(slice(None, None, max(n - 1, 1)) for n in image.shape)]
    value = corners.flat[0] if (corners == corners.flat[0]).all() else image.min()
    background = image == value
    return np.asarray(~background if background.mean() > 1 / 3 else image > threshold_otsu(image))
