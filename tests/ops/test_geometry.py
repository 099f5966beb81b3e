"""Crops and resampling: world positions stay, constants stay, labels stay labels, ITK agrees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from gliolens.case import Grid, Volume
from gliolens.ops.geometry import bounding_box, crop, resample, with_spacing

few = settings(max_examples=40, deadline=None, database=None)
sizes = st.floats(0.4, 6.0)
shapes = st.tuples(*[st.integers(1, 7)] * 3)


@st.composite
def affines(draw) -> np.ndarray:
    """Turned, stretched, mirrored and moved grids."""
    turn = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-2, 2)] * 3))).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([draw(sizes) * draw(st.sampled_from((-1, 1))) for _ in range(3)])
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


@st.composite
def volumes(draw) -> Volume:
    shape = draw(shapes)
    voxels = np.random.default_rng(draw(st.integers(0, 99))).random(shape, np.float32)
    return Volume(voxels, draw(affines()))


# --- bounding box and crop -------------------------------------------------------------------------------------


@few
@given(mask=arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)), margin=st.integers(0, 3))
def test_the_box_holds_the_mask_and_no_more(mask, margin):
    if not mask.any():
        with pytest.raises(ValueError, match="empty mask"):
            bounding_box(mask, margin)
        return
    box = bounding_box(mask, margin)
    assert mask[box].sum() == mask.sum()
    for axis, span in enumerate(box):
        on = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        assert span == slice(max(on[0] - margin, 0), min(on[-1] + 1 + margin, mask.shape[axis]))


@few
@given(volume=volumes(), data=st.data())
def test_a_crop_keeps_every_voxel_where_it_was(volume, data):
    box = []
    for n in volume.voxels.shape:
        start = data.draw(st.integers(0, n - 1))
        stop = data.draw(st.integers(start + 1, n))
        box.append(data.draw(st.sampled_from((slice(start, stop), slice(start - n, stop)))))
    part = crop(volume, tuple(box))
    index = [k - 1 for k in part.voxels.shape]
    world = part.affine @ [*index, 1]
    there = np.linalg.inv(volume.affine) @ world
    np.testing.assert_allclose(there, np.round(there), atol=1e-6)
    assert part.voxels[tuple(index)] == volume.voxels[tuple(np.round(there[:3]).astype(int))]
    assert part.grid.voxel_ml == pytest.approx(volume.grid.voxel_ml)


@pytest.mark.parametrize("span", [slice(2, 2), slice(0, 4, 2), slice(3, 1), slice(9, 12)])
def test_a_crop_that_is_empty_or_skips_voxels_is_refused(span):
    volume = Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="whole blocks"):
        crop(volume, (slice(None), span, slice(0, 2)))


def test_an_open_slice_crops_to_the_end():
    volume = Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.diag([2.0, 2, 2, 1]))
    part = crop(volume, (slice(None), slice(1, None), slice(-1, None)))
    assert part.affine[:3, 3].tolist() == [0, 2, 2]
    assert part.voxels.ravel().tolist() == [3, 7]


# --- resampling ------------------------------------------------------------------------------------------------


@few
@given(volume=volumes(), order=st.sampled_from((0, 1)))
def test_a_grid_read_at_itself_is_itself(volume, order):
    np.testing.assert_allclose(resample(volume, volume.grid, order), volume.voxels, atol=1e-5)


@few
@given(volume=volumes(), shape=shapes, affine=affines(), seed=st.integers(0, 9))
def test_labels_read_by_nearest_neighbour_stay_labels(volume, shape, affine, seed):
    labels = np.random.default_rng(seed).choice([0, 1, 3], volume.voxels.shape).astype(np.uint8)
    read = resample(Volume(labels, volume.affine), Grid(shape, affine), order=0)
    assert read.dtype == np.uint8
    assert set(np.unique(read)) <= {0, *np.unique(labels)}


@few
@given(volume=volumes(), spacing=st.tuples(sizes, sizes, sizes), order=st.sampled_from((0, 1)))
def test_a_constant_stays_constant_in_its_field_of_view(volume, spacing, order):
    flat = Volume(np.full(volume.voxels.shape, 7.0, np.float32), volume.affine)
    edge = np.array(flat.voxels.shape) * volume.grid.spacing
    fits = tuple(float(length / max(round(length / s), 1)) for length, s in zip(edge, spacing, strict=True))
    read = resample(flat, with_spacing(flat.grid, fits), order)
    np.testing.assert_allclose(read, 7.0, rtol=1e-6)


def test_beyond_the_faces_lies_what_is_asked_for():
    flat = Volume(np.full((2, 2, 2), 7.0, np.float32), np.eye(4))
    wide = Grid((6, 2, 2), np.array([[0.5, 0, 0, -0.8], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    for order in (0, 1):
        read = resample(flat, wide, order, outside=-1.0)[:, 0, 0]
        assert read.tolist() == [-1, 7, 7, 7, 7, -1], "centres at -0.8, -0.3, 0.2, 0.7, 1.2 and 1.7"


@few
@given(volume=volumes(), shape=shapes, affine=affines(), near=st.booleans(), order=st.sampled_from((0, 1)))
def test_itk_reads_the_same(volume, shape, affine, near, order):
    sitk = pytest.importorskip("SimpleITK")
    if near:  # grids far apart see nothing of one another: let them share a centre
        affine[:3, 3] = volume.grid.corners().mean(axis=0) - Grid(shape, affine).corners().mean(axis=0)
    ours = resample(volume, Grid(shape, affine), order, outside=-5.0)
    moving = as_itk(sitk, volume.voxels, volume.affine)
    fixed = as_itk(sitk, np.zeros(shape, np.float32), affine)
    how = sitk.sitkNearestNeighbor if order == 0 else sitk.sitkLinear
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), how, -5.0)).T
    index = (
        np.linalg.inv(volume.affine)
        @ affine
        @ np.vstack([np.indices(shape).reshape(3, -1), np.ones(np.prod(shape))])
    )
    tie = (np.abs(np.mod(index[:3] + 0.5 + 1e-4, 1) - 1e-4) < 1e-4).any(axis=0).reshape(shape)
    np.testing.assert_allclose(ours[~tie], theirs[~tie], atol=1e-4)


def as_itk(sitk, voxels: np.ndarray, affine: np.ndarray):
    """An image of SimpleITK on the same lattice; LPS or RAS is all one, as long as both images agree."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def test_a_ramp_is_read_between_its_voxels():
    ramp = Volume(np.mgrid[:10, :4, :4][0].astype(np.float32), np.diag([2.0, 1, 1, 1]))
    fine = with_spacing(ramp.grid, (1.0, 1.0, 1.0))
    x = (fine.affine @ np.stack([np.arange(20), *np.zeros((2, 20)), np.ones(20)]))[0]
    expected = np.clip(x / 2, 0, 9)
    np.testing.assert_allclose(resample(ramp, fine)[:, 2, 2], expected, atol=1e-5)


# --- with_spacing ----------------------------------------------------------------------------------------------


@few
@given(shape=shapes, affine=affines(), spacing=st.tuples(sizes, sizes, sizes))
def test_another_voxel_size_keeps_the_field_of_view(shape, affine, spacing):
    old = Grid(shape, affine)
    new = with_spacing(old, spacing)
    np.testing.assert_allclose(new.spacing, spacing)
    np.testing.assert_allclose(new.corners().mean(axis=0), old.corners().mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(new.affine[:3, :3] / new.spacing, old.affine[:3, :3] / old.spacing, atol=1e-9)
    moved = np.abs(np.array(new.shape) * new.spacing - np.array(old.shape) * old.spacing) / 2
    one_voxel = np.array(new.shape) == 1
    assert (moved[~one_voxel] <= 0.25 * np.array(spacing)[~one_voxel] + 1e-6).all()


def test_the_same_voxel_size_is_the_same_grid():
    grid = Grid((7, 8, 9), np.diag([0.9375, 0.9375, 1.5, 1.0]))
    assert with_spacing(grid, grid.spacing).matches(grid, 1e-9)


@pytest.mark.parametrize(
    "spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, np.nan), (np.inf, 1.0, 1.0)]
)
def test_a_voxel_size_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match="above zero"):
        with_spacing(Grid((3, 3, 3), np.eye(4)), spacing)


def test_volume_in_ml_does_not_change_with_voxel_size(shared_data):
    """A real mask at 1 mm and at 2 mm holds about the same millilitres."""
    from gliolens.io.nifti import read_labels

    labels = read_labels(shared_data / "case_hgg_brats2023" / "segmentation.nii.gz", "real")[0].volume
    whole = Volume((labels.voxels > 0).astype(np.float32), labels.affine)
    ml = [
        float(resample(whole, grid).sum()) * grid.voxel_ml
        for grid in (labels.grid, with_spacing(labels.grid, (2.0, 2.0, 2.0)))
    ]
    assert ml[1] == pytest.approx(ml[0], rel=0.02)
