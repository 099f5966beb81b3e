"""How sure an outline is: certainty is certain, and the expected Dice is what drawing masks at random gives."""

import math

import numpy as np
import pytest

from gliolens.stats.doubt import doubts
from gliolens.stats.segmentation import dice

SHAPE = (20, 20, 20)


def ball(radius: float) -> np.ndarray:
    at = np.stack(np.indices(SHAPE), -1) - 9.5
    return np.asarray(np.linalg.norm(at, axis=-1) < radius)


def labels_of(whole, enhancing=None) -> np.ndarray:
    labels = np.where(whole, 2, 0).astype(np.uint8)
    if enhancing is not None:
        labels[enhancing] = 3
    return labels


def test_certainty_is_a_dice_of_one_and_no_range():
    whole, core = ball(7), ball(4)
    shares = {"whole": whole, "core": core, "enhancing": core}
    found = doubts(labels_of(whole, core), {n: m.astype(np.float32) for n, m in shares.items()}, 0.008)
    for name, mask in shares.items():
        assert found[name].ml == pytest.approx(mask.sum() * 0.008)
        assert found[name].low_ml == found[name].high_ml == pytest.approx(found[name].ml)
        assert found[name].own_dice == pytest.approx(1)


def test_the_expected_dice_is_that_of_masks_drawn_by_these_probabilities():
    at = np.linalg.norm(np.stack(np.indices(SHAPE), -1) - 9.5, axis=-1)
    share = (1 / (1 + np.exp(1.2 * (at - 6)))).astype(np.float32)
    share[share < 0.25] = 0  # what lies further out is not counted
    drawn = share >= 0.5
    rng = np.random.default_rng(0)
    tried = [dice(rng.random(SHAPE) < share, drawn) for _ in range(200)]
    found = doubts(labels_of(drawn), {"whole": share}, 0.001)["whole"]
    assert found.own_dice == pytest.approx(np.mean(tried), abs=0.005)
    assert found.low_ml < found.ml < found.high_ml


def test_nothing_drawn_is_no_dice_and_a_piece_that_was_left_out_counts_nowhere():
    share = np.where(ball(5), np.float32(0.9), np.float32(0))
    nothing = doubts(np.zeros(SHAPE, np.uint8), {"whole": share}, 0.001)["whole"]
    assert math.isnan(nothing.own_dice)
    assert (nothing.ml, nothing.high_ml) == (0, 0)
    share[0, 0, 0] = 0.9
    assert doubts(labels_of(ball(5)), {"whole": share}, 1.0)["whole"].high_ml == ball(5).sum()
