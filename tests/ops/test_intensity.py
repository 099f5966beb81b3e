"""Foreground and normalisation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.io.nifti import read_mask, read_volume
from gliolens.ops.intensity import foreground, rescale, share_inside, zscore

few = settings(max_examples=40, deadline=None, database=None)


def head(seed=0, air=0.0):
    """A ball of tissue in air."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[-1:1:20j, -1:1:20j, -1:1:20j]
    ball = x**2 + y**2 + z**2 < 0.6
    image = np.where(ball, rng.normal(600, 80, ball.shape), rng.random(ball.shape) * air)
    return image.astype(np.float32), ball


@pytest.mark.parametrize("air", [0.0, 30.0])
def test_tissue_is_told_from_air_with_and_without_noise(air):
    image, ball = head(air=air)
    found = foreground(image)
    assert found.dtype == bool
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.99


@few
@given(factor=st.floats(0.01, 100), shift=st.floats(-1000, 1000), air=st.sampled_from((0.0, 30.0)))
def test_foreground_does_not_depend_on_the_scanners_unit(factor, shift, air):
    image, _ = head(air=air)
    changed = (image * factor + shift).astype(np.float32)
    assert (foreground(changed) == foreground(image)).mean() > 0.999


def test_a_constant_image_has_no_foreground():
    assert not foreground(np.full((3, 3, 3), 5, np.float32)).any()


@pytest.mark.parametrize("series", ["t1", "t1c", "t2", "fla"])
def test_foreground_of_a_real_skull_stripped_scan_is_the_mask_it_was_stripped_with(shared_data, series):
    start = shared_data / "case_lgg_sri24" / "TCGA-DU-7294"
    image = read_volume(f"{start}_{series}_bet_normalized.nii.gz", "real").volume.voxels
    brain = read_mask(f"{start}_brainmask.nii.gz", "real").volume.voxels
    found = foreground(image)
    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.998


@few
@given(seed=st.integers(0, 99), factor=st.floats(0.01, 100), shift=st.floats(-1000, 1000))
def test_zscore_has_mean_0_and_deviation_1_whatever_the_unit(seed, factor, shift):
    image, ball = head(seed, 30.0)
    out = zscore(image, ball)
    assert out.dtype == np.float32
    assert out[ball].mean(dtype=float) == pytest.approx(0, abs=1e-5)
    assert out[ball].std(dtype=float) == pytest.approx(1, abs=1e-5)
    assert not out[~ball].any()
    np.testing.assert_allclose(zscore((image * factor + shift).astype(np.float32), ball), out, atol=2e-2)


@few
@given(low=st.floats(0, 20), high=st.floats(80, 100))
def test_rescale_maps_the_percentiles_to_0_and_1(low, high):
    image, ball = head(air=30.0)
    out = rescale(image, ball, low, high)
    assert out.dtype == np.float32
    bottom, top = np.percentile(image[ball], (low, high))
    inside = (image[ball] >= bottom) & (image[ball] <= top)
    np.testing.assert_allclose(out[ball][inside], (image[ball][inside] - bottom) / (top - bottom), atol=1e-5)
    assert (out[ball][image[ball] < bottom] == 0).all()
    assert (out[ball][image[ball] > top] == 1).all()
    assert not out[~ball].any()


@pytest.mark.parametrize("normalise", [zscore, rescale])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e7])
def test_what_has_no_contrast_cannot_be_normalised(normalise, value):
    image = np.full((4, 4, 4), value, np.float32)
    with pytest.raises(ValueError, match="no contrast"):
        normalise(image, np.ones(image.shape, bool))
    with pytest.raises(ValueError, match=r"no contrast|empty"):
        normalise(image, np.zeros(image.shape, bool))


def test_share_inside_counts_heat_and_not_pixels():
    heat = np.array([[1.0, 3.0], [0.0, 0.0]])
    assert share_inside(heat, np.array([[False, True], [True, True]])) == 0.75
    assert np.isnan(share_inside(np.zeros((2, 2)), np.ones((2, 2), bool)))
