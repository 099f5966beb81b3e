"""Dice and IoU against scikit-learn, distances against every pair of voxels, lesions by hand; by region."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score

from gliolens.errors import ConfigError
from gliolens.stats.segmentation import (
    TOLERANCE_MM,
    dice,
    dice_by_region,
    hd95,
    iou,
    lesionwise_dice,
    scores_by_region,
    surface_dice,
)

masks = arrays(bool, (3, 4, 2))


@given(masks, masks)
def test_dice_is_f1_of_voxels_and_symmetric(a, b):
    if not (a.any() or b.any()):
        assert math.isnan(dice(a, b))
        return
    assert dice(a, b) == pytest.approx(f1_score(a.ravel(), b.ravel()))
    assert dice(a, b) == dice(b, a)


@given(masks)
def test_a_mask_matches_itself_and_not_its_complement(a):
    if a.any():
        assert dice(a, a) == 1
    assert dice(a, ~a) == 0


def test_regions_are_unions_of_labels():
    reference = np.array([0, 1, 1, 2, 2, 3, 3, 3], np.uint8).reshape(2, 2, 2)
    predicted = np.array([2, 1, 3, 2, 0, 3, 1, 0], np.uint8).reshape(2, 2, 2)
    # whole: 5 shared of 7 and 6; core: 4 of 5 and 4; enhancing: 1 of 3 and 2
    expected = {"whole": 10 / 13, "core": 8 / 9, "enhancing": 2 / 5}
    assert dice_by_region(reference, predicted) == pytest.approx(expected)


def test_a_binary_reference_tells_the_whole_tumour_only():
    labels = np.full((2, 2, 2), 2, np.uint8)
    assert dice_by_region(labels, labels, scheme="binary") == {"whole": 1.0}


def test_absent_on_both_sides_is_nan_and_on_one_side_zero():
    oedema, enhancing = np.full((2, 2, 2), 2, np.uint8), np.full((2, 2, 2), 3, np.uint8)
    assert math.isnan(dice_by_region(oedema, oedema)["enhancing"])
    assert dice_by_region(oedema, enhancing)["enhancing"] == 0


def test_masks_of_two_grids_are_refused():
    with pytest.raises(ConfigError, match="one grid"):
        dice(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool))


# --- IoU, distance, lesions ------------------------------------------------------------------------------------


@given(masks, masks)
def test_iou_is_jaccard_of_voxels(a, b):
    if not (a.any() or b.any()):
        assert math.isnan(iou(a, b))
        return
    assert iou(a, b) == pytest.approx(jaccard_score(a.ravel(), b.ravel()))


def brute_hd95(a, b, spacing):
    """Every rim voxel of one mask to every one of the other; a rim voxel lacks one of its six neighbours."""

    def rim(mask):
        wide = np.pad(mask, 1)
        inner = np.logical_and.reduce([np.roll(wide, s, axis) for axis in range(3) for s in (-1, 1)])
        return np.argwhere(wide & ~inner) * spacing

    apart = np.linalg.norm(rim(a)[:, None] - rim(b)[None], axis=2)
    return max(np.percentile(apart.min(axis=1), 95), np.percentile(apart.min(axis=0), 95))


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (4, 5, 3)), arrays(bool, (4, 5, 3)))
def test_hd95_is_that_of_every_pair_of_rim_voxels(a, b):
    spacing = (1.0, 0.5, 3.0)
    if a.any() and b.any():
        assert hd95(a, b, spacing) == pytest.approx(brute_hd95(a, b, np.array(spacing)), abs=1e-4)


def test_a_region_missed_or_made_up_is_a_diagonal_away():
    nothing, something = np.zeros((6, 8, 10), bool), np.zeros((6, 8, 10), bool)
    something[2, 3, 4] = True
    diagonal = math.hypot(6 * 1.0, 8 * 2.0, 10 * 0.5)
    assert math.isnan(hd95(nothing, nothing, (1.0, 2.0, 0.5)))
    assert hd95(nothing, something, (1.0, 2.0, 0.5)) == pytest.approx(diagonal)
    assert hd95(something, nothing, (1.0, 2.0, 0.5)) == pytest.approx(diagonal)


def lesions():
    """Two lesions of 5 x 5 x 5 mm, far apart."""
    reference = np.zeros((40, 20, 20), bool)
    reference[2:7, 5:10, 5:10] = True
    reference[30:35, 5:10, 5:10] = True
    return reference


def test_each_lesion_counts_once_whatever_its_size():
    reference = lesions()
    reference[28:38, 3:13, 3:13] = True  # the second is eight times as large
    first_missed = reference.copy()
    first_missed[:20] = False
    assert lesionwise_dice(reference, reference, (1, 1, 1)) == 1
    assert lesionwise_dice(reference, first_missed, (1, 1, 1)) == 0.5
    assert dice(reference, first_missed) > 0.9


def test_a_lesion_that_was_made_up_counts_nought():
    made_up = lesions()
    made_up[15:21, 14:19, 14:19] = True
    assert lesionwise_dice(lesions(), made_up, (1, 1, 1)) == pytest.approx(2 / 3)


def test_specks_of_the_reference_do_not_count_and_made_up_ones_do():
    reference, speck = lesions(), lesions()
    speck[18, 15, 15] = True
    assert lesionwise_dice(lesions(), speck, (1, 1, 1)) == pytest.approx(2 / 3)
    reference[18:20, 12:16, 12:18] = True  # 48 mm3
    drawn = reference.copy()
    drawn[18:20, 16, 12:14] = True  # and 4 more
    assert lesionwise_dice(reference, lesions(), (1, 1, 1)) == 1
    assert lesionwise_dice(reference, drawn, (1, 1, 1)) == 1
    assert math.isnan(lesionwise_dice(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), (1, 1, 1)))


def lesion_by_lesion(reference, predicted, spacing):
    """The same rules, one mask for each lesion and piece."""
    corners, edges = np.ones((3, 3, 3)), ndimage.generate_binary_structure(3, 2)
    lesions, n = ndimage.label(ndimage.binary_dilation(reference, edges, 3), corners)
    pieces, m = ndimage.label(predicted, corners)
    scores, used = [], set()
    for k in range(1, n + 1):
        lesion = (lesions == k) & reference
        mine = set(np.unique(pieces[ndimage.binary_dilation(lesion, edges, 3)])) - {0}
        used |= mine
        if lesion.sum() * math.prod(spacing) > 50:
            scores.append(dice(lesion, np.isin(pieces, list(mine))))
    scores += [0.0] * (m - len(used))
    return np.mean(scores) if scores else math.nan


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_lesions_all_at_once_are_those_one_by_one(seed):
    rng = np.random.default_rng(seed)
    spacing = (1.0, 2.0, 1.5)
    a, b = (
        ndimage.binary_dilation(rng.random((16, 14, 12)) < rng.choice([0.001, 0.004]), iterations=2)
        for _ in "ab"
    )
    b ^= rng.random(b.shape) < 0.002
    assert lesionwise_dice(a, b, spacing) == pytest.approx(lesion_by_lesion(a, b, spacing), nan_ok=True)


def test_lesions_that_nearly_touch_are_one():
    reference = lesions()
    near = lesions()
    reference[10:15, 5:10, 5:10] = near[10:15, 5:10, 5:10] = True  # three voxels from the first
    near[2:7] = False  # half of what is now one lesion
    assert lesionwise_dice(reference, near, (1, 1, 1)) == pytest.approx((2 / 3 + 1) / 2)


def test_scores_of_regions_follow_the_scheme():
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 2
    labels[3:5, 3:5, 3:5] = 3
    found = scores_by_region(labels, labels, (2.0, 2.0, 2.0))
    assert set(found) == {"whole", "core", "enhancing"}
    assert found["core"] == {"dice": 1, "iou": 1, "hd95_mm": 0, "surface_dice": 1, "lesionwise_dice": 1}
    assert set(scores_by_region(labels, labels, (1, 1, 1), scheme="binary")) == {"whole"}


# --- normalised surface Dice -------------------------------------------------------------------------------------


def by_brute_force(reference, predicted, spacing):
    """Every rim voxel of one mask beside every rim voxel of the other."""
    rims = []
    for mask in (np.pad(reference, 1), np.pad(predicted, 1)):
        rim = mask & ~ndimage.binary_erosion(mask)
        rims.append(np.argwhere(rim) * spacing)
    apart = cdist(*rims)
    near = (apart.min(axis=1) <= TOLERANCE_MM).sum() + (apart.min(axis=0) <= TOLERANCE_MM).sum()
    return near / (len(rims[0]) + len(rims[1]))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)]))
def test_surface_dice_is_that_of_brute_force(seed, spacing):
    rng = np.random.default_rng(seed)
    a, b = (ndimage.gaussian_filter(rng.random((9, 8, 7)), 1.0) > 0.5 for _ in range(2))
    if a.any() and b.any():
        assert surface_dice(a, b, spacing) == pytest.approx(by_brute_force(a, b, np.array(spacing)))


def test_surface_dice_forgives_a_millimetre_and_no_more():
    a, empty = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    a[5:12, 5:12, 5:12] = True
    assert surface_dice(a, a, (1, 1, 1)) == 1.0
    assert surface_dice(a, np.roll(a, 1, axis=0), (1, 1, 1)) == 1.0
    assert surface_dice(a, np.roll(a, 1, axis=0), (2, 1, 1)) < 1.0
    assert surface_dice(a, empty, (1, 1, 1)) == 0.0
    assert math.isnan(surface_dice(empty, empty, (1, 1, 1)))
