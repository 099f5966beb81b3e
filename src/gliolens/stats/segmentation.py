"""How well a drawn tumour matches the reference.

Where neither holds a region, nothing was to be found and nothing was drawn: every score is NaN, and the case does not
enter a mean. Where only one of them holds it, Dice and IoU are 0 and the distance is the diagonal of the image, so that
a region that was missed, or made up, costs what it must.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from scipy import ndimage

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


def iou(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Overlap of two masks over their union (Jaccard 1901), 0 to 1; NaN where both are empty.

    Raises:
        ConfigError: the masks differ in shape.
    """
    d = dice(reference, predicted)
    return d / (2 - d)


def hd95(reference: np.ndarray, predicted: np.ndarray, spacing: Sequence[float]) -> float:
    """Distance in mm within which 95 % of the surface of each mask lies of the other's; the larger of the two ways.

    By MONAI: voxels at the rim are the surface. NaN where both are empty, the image's diagonal where one is.

    Args:
        reference: mask (D, H, W).
        predicted: mask on the same grid.
        spacing: of voxels, in mm.
    """
    if not np.any(reference) and not np.any(predicted):
        return math.nan
    if not np.any(reference) or not np.any(predicted):
        return float(np.linalg.norm(np.array(reference.shape) * spacing))
    # takes a second to import, and few callers need it
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    drawn, true = (
        np.pad(mask != 0, 1)[None, None] for mask in (predicted, reference)
    )  # the image's face is a rim
    with warnings.catch_warnings():  # MONAI 1.6 calls itself in a way it has deprecated
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        found = compute_hausdorff_distance(
            drawn, true, include_background=True, percentile=95, spacing=tuple(spacing)
        )
    return float(found)


TOLERANCE_MM: Final = 1.0
"""Distance between surfaces that `surface_dice` forgives; BraTS 2024 asks .5 and 1."""


def surface_dice(reference: np.ndarray, predicted: np.ndarray, spacing: Sequence[float]) -> float:
    """Share of both surfaces that lies within `TOLERANCE_MM` of the other: normalised surface Dice, 0 to 1.

    After Nikolov et al. 2021 (doi 10.2196/26151), by MONAI: voxels at the rim are the surface. NaN where both masks are
    empty, 0 where one is.

    Args:
        reference: mask (D, H, W).
        predicted: mask on the same grid.
        spacing: of voxels, in mm.
    """
    if not np.any(reference) or not np.any(predicted):
        return 0.0 if np.any(reference) or np.any(predicted) else math.nan
    import torch  # takes a second to import, and few callers need it
    from monai.metrics.surface_dice import compute_surface_dice

    drawn, true = (
        torch.from_numpy(np.pad(mask != 0, 1)[None, None]) for mask in (predicted, reference)
    )  # the image's face is a rim
    with warnings.catch_warnings():  # MONAI 1.6 calls itself in a way it has deprecated
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        found = compute_surface_dice(
            drawn, true, [TOLERANCE_MM], include_background=True, spacing=tuple(spacing)
        )
    return float(found)


GROWN_BY: Final = 3
"""Voxels by which lesions of the reference grow; those that then meet are one (BraTS 2023, adult glioma)."""
LEAST_MM3: Final = 50.0
"""Lesions of the reference no larger than this do not count (BraTS 2023)."""


def lesionwise_dice(reference: np.ndarray, predicted: np.ndarray, spacing: Sequence[float]) -> float:
    """Mean over lesions of the Dice of each, where a lesion that was missed or made up counts 0.

    As BraTS 2023 scores (Saluja et al. 2023, BraTS-2023-Metrics): pieces of the drawing that touch a grown lesion
    belong to it, whole; pieces that touch none were made up, however small. A lesion of the reference too small to
    count takes its pieces with it.

    Args:
        reference: mask (D, H, W).
        predicted: mask on the same grid.
        spacing: of voxels, in mm.

    Returns:
        0 to 1; NaN where no lesion counts and none was made up.
    """
    true, drawn, corners = reference != 0, predicted != 0, np.ones((3, 3, 3))
    grown = ndimage.binary_dilation(true, ndimage.generate_binary_structure(3, 2), GROWN_BY)
    lesion, n = ndimage.label(grown, corners)
    piece, m = ndimage.label(drawn, corners)
    pairs = np.unique(np.stack([lesion[drawn & grown], piece[drawn & grown]]), axis=1)
    size, piece_size = np.bincount(lesion[true], minlength=n + 1), np.bincount(piece.ravel(), minlength=m + 1)
    given = np.bincount(pairs[0], piece_size[pairs[1]], minlength=n + 1)
    shared = np.bincount(lesion[true & drawn], minlength=n + 1)
    counts = size * math.prod(spacing) > LEAST_MM3
    of_each = 2 * shared[counts] / (size + given)[counts]
    judged = len(of_each) + m - len(np.unique(pairs[1]))
    return float(of_each.sum() / judged) if judged else math.nan


SEGMENTATION_SCORES: Final = ("dice", "iou", "hd95_mm", "surface_dice", "lesionwise_dice")


def scores_by_region(
    reference: Labels, predicted: Labels, spacing: Sequence[float], *, scheme: str = "gliolens"
) -> Mapping[str, Mapping[str, float]]:
    """`SEGMENTATION_SCORES` of each region that the reference's scheme can tell.

    Args:
        reference: labels 0 to 3, (D, H, W).
        predicted: labels 0 to 3 on the same grid.
        spacing: of voxels, in mm.
        scheme: name from `labels.MASK_SCHEMES` that the reference was stored in.
    """
    out = {}
    for region in regions_known(scheme):
        a, b = (np.isin(labels, REGIONS[region]) for labels in (reference, predicted))
        out[region] = {
            "dice": dice(a, b), "iou": iou(a, b), "hd95_mm": hd95(a, b, spacing),
            "surface_dice": surface_dice(a, b, spacing), "lesionwise_dice": lesionwise_dice(a, b, spacing),
        }  # fmt: skip
    return out
