"""Finer and coarser grids: averages are conserved, straight lines stay straight, other readers agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import downscale_local_mean

from gliolens.case import Grid, Volume
from gliolens.ops.geometry import resample, with_spacing
from gliolens.ops.zoom import zoom

few = settings(max_examples=40, deadline=None, database=None)
shapes = st.tuples(*[st.integers(1, 9)] * 3)
sizes = st.tuples(*[st.floats(0.4, 6.0)] * 3)


def grid_of(shape, spacing) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-31.0, 12.5, 7.0)
    return Grid(shape, affine)


def noise(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


@few
@given(shape=shapes, old=sizes, new=sizes)
def test_values_stay_between_the_least_and_the_largest_and_constants_stay(shape, old, new):
    grid = grid_of(shape, old)
    to = with_spacing(grid, new)
    image = noise(shape) + 3
    read = zoom(image, grid, to)
    inside = zoom(np.ones(shape, np.float32), grid, to)
    assert np.all(np.isclose(inside, 1, atol=1e-5) | (inside == 0))
    assert read[inside > 0].min() >= image.min() - 1e-4
    assert read[inside > 0].max() <= image.max() + 1e-4


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 3, 2), (4, 1, 1)])
def test_a_whole_number_of_voxels_is_their_mean(factors):
    shape = tuple(3 * f for f in factors)
    image, grid = noise(shape), grid_of(shape, (1.0, 1.0, 1.0))
    to = with_spacing(grid, tuple(float(f) for f in factors))
    assert np.allclose(zoom(image, grid, to), downscale_local_mean(image, factors), atol=1e-6)


@few
@given(shape=shapes, old=sizes, share=st.tuples(*[st.floats(0.2, 1.0)] * 3))
def test_a_finer_grid_is_read_linearly_as_by_resample(shape, old, share):
    grid = grid_of(shape, old)
    to = with_spacing(grid, tuple(o * s for o, s in zip(old, share, strict=True)))
    image = noise(shape)
    assert np.allclose(zoom(image, grid, to), resample(Volume(image, grid.affine), to), atol=1e-4)


def test_a_ramp_stays_a_ramp_on_the_way_down():
    grid = grid_of((40, 1, 1), (1.0, 1.0, 1.0))
    ramp = np.arange(40, dtype=np.float32).reshape(40, 1, 1)
    to = with_spacing(grid, (1.7, 1.0, 1.0))
    where = (to.affine[0, 0] * np.arange(to.shape[0]) + to.affine[0, 3] - grid.affine[0, 3])[2:-2]
    assert np.allclose(zoom(ramp, grid, to).ravel()[2:-2], where, atol=0.1)


def test_what_lies_outside_is_zero():
    grid = grid_of((4, 4, 4), (2.0, 2.0, 2.0))
    far = Grid((8, 4, 4), grid.affine)
    read = zoom(np.ones((4, 4, 4), np.float32), grid, far)
    assert np.all(read[:4] == 1)
    assert np.all(read[4:] == 0)


def test_turned_axes_and_strange_images_are_refused():
    grid = grid_of((4, 4, 4), (1.0, 1.0, 1.0))
    turned = Grid(
        (4, 4, 4), grid.affine @ np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    )
    with pytest.raises(ValueError, match="axes"):
        zoom(noise((4, 4, 4)), grid, turned)
    with pytest.raises(ValueError, match="shape"):
        zoom(noise((4, 4, 3)), grid, grid)
