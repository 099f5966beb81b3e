"""A case in a cube and back: where voxels lie, what is lost, and what stands between 0 and 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliolens.case import Case, Grid
from gliolens.cube import cube_grid, from_cube, images_in, labels_in, lost_voxels
from gliolens.errors import CaseError


def grid(shape=(40, 30, 20), spacing=(1.0, 1.0, 2.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-20.0, 7.0, 3.0)
    return Grid(shape, affine)


def brain(shape=(40, 30, 20)):
    mask = np.zeros(shape, bool)
    mask[8:36, 4:26, 2:18] = True
    return mask


def case(image):
    return Case("a", grid(), {"t1": image.astype(np.float32)}, grid(), brain=brain())


def test_a_cube_lies_around_the_image_or_the_brain():
    centre = [
        cube.affine @ [*((np.array(cube.shape) - 1) / 2), 1.0]
        for cube in (cube_grid(grid(), brain(), c, (24,) * 3, (1.5,) * 3) for c in ("image", "brain"))
    ]
    assert centre[0] == pytest.approx(grid().affine @ [19.5, 14.5, 9.5, 1.0])
    assert centre[1] == pytest.approx(grid().affine @ [21.5, 14.5, 9.5, 1.0])


def test_series_run_from_0_to_1_over_the_brain_and_are_0_around_it():
    rng = np.random.default_rng(0)
    cube = cube_grid(grid(), brain(), "brain", (48,) * 3, (1.0,) * 3)
    image = images_in(case(rng.normal(100.0, 20.0, (40, 30, 20))), ("t1",), brain(), cube, (0.0, 100.0))[0]
    assert image.shape == (48, 48, 48)
    assert image.min() == 0
    assert 0.9 < image.max() <= 1
    outside = labels_in(brain().astype(np.uint8), grid(), cube) == 0
    assert image[outside].max() < 0.6  # half of a voxel at the rim at most


def test_a_series_without_contrast_is_refused():
    cube = cube_grid(grid(), brain(), "brain", (16,) * 3, (3.0,) * 3)
    with pytest.raises(CaseError, match="t1"):
        images_in(case(np.ones((40, 30, 20))), ("t1",), brain(), cube, (0.0, 100.0))


@given(st.integers(0, 2**32 - 1))
def test_labels_on_the_same_grid_stay_what_they_are(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (12, 12, 12)).astype(np.uint8)
    same = Grid((12, 12, 12), np.diag([1.0, 2.0, 1.0, 1.0]))
    assert (labels_in(labels, same, same) == labels).all()


def test_a_coarser_voxel_holds_what_most_of_it_was():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2, :2, :2] = 3
    labels[:2, :2, 0] = 1
    labels[0, 0, 1] = 1  # five of one in the first coarse voxel, three of the other
    coarse = Grid((2, 2, 2), np.diag([2.0, 2.0, 2.0, 1.0]))
    coarse.affine[:3, 3] = 0.5
    found = labels_in(labels, Grid((4, 4, 4), np.eye(4)), coarse)
    assert found[0, 0, 0] == 1
    assert found.sum() == 1


def test_there_and_back_an_outline_stays_where_it_was():
    tumour = np.zeros((40, 30, 20), np.uint8)
    tumour[14:26, 10:20, 6:14] = 2
    cube = cube_grid(grid(), brain(), "brain", (48,) * 3, (1.0,) * 3)
    there = labels_in(tumour, grid(), cube)
    shares = np.stack([there == k for k in range(4)]).astype(np.float32)
    back = from_cube(shares, cube, grid())
    assert back.shape == (4, 40, 30, 20)
    assert ((back[2] > 0.5) == (tumour == 2)).mean() > 0.995


def test_tumour_outside_the_cube_is_counted_in_ml():
    tumour = np.zeros((40, 30, 20), bool)
    tumour[8:36, 14, 9] = True  # 28 voxels of 2 mm3 in a row of 28 mm
    all_of_it = cube_grid(grid(), brain(), "brain", (48,) * 3, (1.0,) * 3)
    assert lost_voxels(tumour, grid(), all_of_it) == 0
    small = cube_grid(grid(), brain(), "brain", (8,) * 3, (1.0,) * 3)  # holds 8 mm of the row
    assert lost_voxels(tumour, grid(), small) == 20
