"""Dice against scikit-learn's F1 of voxels, and by region."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from gliolens.errors import ConfigError
from gliolens.stats.segmentation import dice, dice_by_region

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
