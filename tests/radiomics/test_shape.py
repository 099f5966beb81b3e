"""Shape features: laws, PyRadiomics 3.0.1 as oracle (live and stored), and IBSI's published values."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import permutations, product
from math import inf, nan, pi, prod, sqrt
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from gliolens.errors import ConfigError
from gliolens.radiomics.shape import FEATURES, UNITS, shape_features

Spacing = tuple[float, float, float]
Features = dict[str, float]

STORED = Path(__file__).with_name("pyradiomics_3_0_1.json")
TURNED = ("Maximum2DDiameterRow", "Maximum2DDiameterColumn", "Maximum2DDiameterSlice")
"""The features tied to an axis: the planes across the first (R), second (A) and third (S)."""


def blob(seed: int, shape: tuple[int, int, int], share: float) -> np.ndarray:
    """The `share` highest voxels of noise averaged twice over 5x5x5 neighbourhoods."""
    noise = np.random.default_rng(seed).random(shape)
    for _ in range(2):
        for axis in range(3):
            noise = sum(np.roll(noise, by, axis) for by in range(-2, 3))
    return noise > np.quantile(noise, 1 - share)


def noise(seed: int, shape: tuple[int, int, int], share: float) -> np.ndarray:
    """Voxels set at random: every filling of a cube, the ambiguous ones too."""
    return np.random.default_rng(seed).random(shape) < share


def filled(shape: tuple[int, int, int], *boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def ellipsoid(semi_axes: tuple[float, ...], centre: tuple[float, ...], size: int) -> np.ndarray:
    grid = np.moveaxis(np.indices((size, size, size)), 0, -1)
    return (((grid - centre) / semi_axes) ** 2).sum(axis=-1) < 1


def masks() -> dict[str, tuple[np.ndarray, Spacing]]:
    """Deterministic masks: ordinary, ambiguous, anisotropic, at the border, in parts, degenerate."""
    s = slice
    parts = filled((20, 18, 16), (s(2, 6), s(3, 5), s(1, 4)), (s(11, 17), s(9, 16), s(8, 14)))
    by_an_edge = filled((4, 4, 4), (s(1, 2), s(1, 2), s(1, 2)), (s(1, 2), s(2, 3), s(2, 3)))
    diagonal = np.zeros((9, 9, 9), bool)
    diagonal[np.arange(9), np.arange(9), np.arange(9)] = True
    return {
        "blob": (blob(1, (30, 28, 26), 0.2), (1.0, 1.0, 1.0)),
        "blob anisotropic": (blob(2, (30, 28, 26), 0.1), (0.43, 0.97, 5.3)),
        "noise sparse": (noise(3, (13, 12, 11), 0.1), (1.0, 1.0, 1.0)),
        "noise half": (noise(4, (13, 12, 11), 0.5), (1.3, 0.7, 2.9)),
        "noise dense": (noise(5, (13, 12, 11), 0.9), (0.9, 0.9, 4.0)),
        "fills its array": (np.ones((4, 6, 5), bool), (1.1, 1.2, 1.3)),
        "two parts": (parts, (1.0, 2.0, 3.0)),
        "two voxels by an edge": (by_an_edge, (1.0, 1.5, 2.0)),
        "single voxel": (filled((5, 5, 5), (s(2, 3),) * 3), (1.0, 1.5, 2.5)),
        "row": (filled((5, 20, 5), (s(2, 3), s(3, 17), s(2, 3))), (1.0, 1.5, 2.5)),
        "diagonal": (diagonal, (1.0, 1.1, 1.7)),
        "plane": (filled((20, 20, 5), (s(2, 15), s(3, 17), s(2, 3))), (0.8, 1.5, 2.5)),
        "speckled plane": (noise(6, (1, 15, 17), 0.5), (0.8, 1.5, 2.5)),
    }  # fmt: skip


MASKS = masks()


def assert_same(found: Features, expected: Features, relative: float = 1e-6) -> None:
    """Equal to `relative`; below 1e-6 both count as zero, for which PyRadiomics gives up to some 1e-7."""
    for name in FEATURES:
        assert found[name] == pytest.approx(expected[name], rel=relative, abs=1e-6, nan_ok=True), name


# --- names --------------------------------------------------------------------------------------------------


def test_features_come_in_order_with_a_unit_each():
    assert tuple(shape_features(*MASKS["blob"])) == FEATURES == tuple(UNITS)


def test_names_and_units_are_those_of_the_published_table(shared_data):
    """Units told from the numbers: mm^2 over mm^3 is 1/mm, and ratios of lengths have none."""
    table = pd.read_csv(shared_data / "tables" / "ucsf_pdgm_pyradiomics_t1gd_whole_tumour.csv")
    at = table.filter(like="original_shape_").rename(columns=lambda c: c.removeprefix("original_shape_"))
    assert set(at) == set(FEATURES)
    np.testing.assert_allclose(at.SurfaceVolumeRatio, at.SurfaceArea / at.MeshVolume, rtol=1e-9)
    np.testing.assert_allclose(at.Sphericity, np.cbrt(36 * pi * at.MeshVolume**2) / at.SurfaceArea, rtol=1e-9)
    np.testing.assert_allclose(at.Elongation, at.MinorAxisLength / at.MajorAxisLength, rtol=1e-9)
    np.testing.assert_allclose(at.Flatness, at.LeastAxisLength / at.MajorAxisLength, rtol=1e-9)


# --- reference values ---------------------------------------------------------------------------------------


def test_ibsi_digital_phantom():
    """Published consensus on the 5x4x4 phantom, Zwanenburg et al. 2020 (doi 10.1148/radiol.2020191145).

    IBSI's covariance divides by n - 1, PyRadiomics' by n: axis lengths are brought to IBSI's first.
    """
    mask = np.ones((5, 4, 4), bool)
    mask[0, 2, 1] = mask[2, 2, 2] = mask[3:, 0, 2:] = False
    assert mask.sum() == 74
    found = shape_features(mask, (2.0, 2.0, 2.0))
    assert round(found["MeshVolume"]) == 556
    assert found["VoxelVolume"] == 592
    assert round(found["SurfaceArea"]) == 388
    assert round(found["SurfaceVolumeRatio"], 3) == 0.698
    assert round(found["Sphericity"], 3) == 0.843
    assert round(found["Maximum3DDiameter"], 1) == 13.1
    assert round(found["Elongation"], 3) == 0.816
    assert round(found["Flatness"], 3) == 0.749
    axes = [found[f"{axis}AxisLength"] * sqrt(74 / 73) for axis in ("Major", "Minor", "Least")]
    assert [round(axes[0], 1), round(axes[1], 2), round(axes[2], 2)] == [11.4, 9.31, 8.54]


@pytest.mark.parametrize("name", MASKS)
def test_stored_values_of_pyradiomics(name):
    """PyRadiomics' own numbers for `masks()`, stored so that this runs without it.

    Made with pyradiomics 3.0.1 by `extract` below, in the folder of this file:

        import json, test_shape as t
        values = {name: t.extract(*case) for name, case in t.MASKS.items()}
        t.STORED.write_text(json.dumps(values, indent=1) + "\n")
    """
    assert_same(shape_features(*MASKS[name]), json.loads(STORED.read_text())[name])


# --- PyRadiomics beside it ----------------------------------------------------------------------------------


@cache
def shape_extractor():
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    extractor = RadiomicsFeatureExtractor(minimumROIDimensions=1, additionalInfo=False)
    extractor.disableAllFeatures()
    extractor.enableFeatureClassByName("shape")
    return extractor


def extract(mask: np.ndarray, spacing: Spacing) -> Features:
    """What PyRadiomics' feature extractor says; its arrays count axes from the slices down.

    The extractor refuses a single voxel and a mask without background; its shape class is asked for those.
    """
    import SimpleITK
    from radiomics.shape import RadiomicsShape

    image = SimpleITK.GetImageFromArray(mask.transpose(2, 1, 0).astype(np.uint8))
    image.SetSpacing([float(s) for s in spacing])
    if mask.sum() == 1 or mask.all():
        shape = RadiomicsShape(image, image, label=1)
        shape.enableAllFeatures()
        found = shape.execute()
        return {name: float(found[name]) for name in FEATURES}
    found = shape_extractor().execute(image, image)
    return {name: float(found[f"original_shape_{name}"]) for name in FEATURES}


@pytest.fixture
def pyradiomics() -> Iterator[Callable[[np.ndarray, Spacing], Features]]:
    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("radiomics", reason="PyRadiomics, the oracle, is not here")
        logging.disable(logging.WARNING)
        yield extract
        logging.disable(logging.NOTSET)


def test_random_noise_agrees(pyradiomics):
    """Small noise masks meet all 256 fillings of a cube many times over, many at the array's border."""
    rng = np.random.default_rng(0)
    for _ in range(80):
        mask = rng.random(rng.integers(2, 13, 3)) < rng.uniform(0.15, 0.95)
        spacing = tuple(rng.uniform(0.3, 6.0, 3))
        expected = pyradiomics(mask, spacing)
        assert expected["MeshVolume"] > 0
        assert_same(shape_features(mask, spacing), expected)


@pytest.mark.parametrize("seed", range(4))
def test_random_blobs_agree(pyradiomics, seed):
    rng = np.random.default_rng(seed)
    mask, spacing = blob(seed, (32, 30, 34), rng.uniform(0.02, 0.5)), tuple(rng.uniform(0.4, 5.0, 3))
    assert_same(shape_features(mask, spacing), pyradiomics(mask, spacing))


def test_every_filling_of_a_cube_agrees(pyradiomics):
    corners = np.indices((2, 2, 2)).reshape(3, 8).T
    without_volume = 0
    for filling in range(1, 256):
        mask = np.zeros((4, 4, 4), bool)
        mask[tuple(corners[[bool(filling >> bit & 1) for bit in range(8)]].T + 1)] = True
        expected = pyradiomics(mask, (1.0, 1.3, 1.7))
        if expected["MeshVolume"] <= 0:
            without_volume += 1
            expected |= dict.fromkeys(("MeshVolume", "SurfaceVolumeRatio", "Sphericity"), nan)
        assert_same(shape_features(mask, (1.0, 1.3, 1.7)), expected)
    assert without_volume == 1


@pytest.mark.parametrize(
    "file",
    [
        "case_hgg_brats2023/segmentation.nii.gz",
        "case_lgg_sri24/seg_fusion_simple.nii.gz",
        *(f"tcga_lgg/TCGA-{i}/TCGA-{i}_seg.nii.gz" for i in ("CS-4941", "CS-5396", "DU-5855", "HT-A61B")),
    ],
)
def test_real_tumours_agree(shared_data, pyradiomics, file):
    image = nib.load(shared_data / file)
    labels, spacing = np.asarray(image.dataobj), tuple(float(s) for s in image.header.get_zooms()[:3])
    values = np.unique(labels[labels > 0])
    # The whole tumour takes PyRadiomics 6 s on the largest; its smallest label tries a ragged region too.
    for region in [labels > 0, labels == values[-1]][: len(values)]:
        assert_same(shape_features(region, spacing), pyradiomics(region, spacing))


# --- laws ---------------------------------------------------------------------------------------------------

boxes = st.tuples(*[st.integers(1, 6)] * 3)
spacings = st.tuples(*[st.floats(0.25, 6.0)] * 3)


@st.composite
def nonempty(draw):
    mask = noise(draw(st.integers(0, 2**32 - 1)), draw(boxes), draw(st.floats(0.2, 0.95)))
    assume(mask.any())
    return mask


def touches_by_edge(mask: np.ndarray) -> bool:
    """Whether some 2x2 square of voxels has exactly one diagonal set: an ambiguous face."""
    for axes in ((0, 1), (0, 2), (1, 2)):
        m = np.moveaxis(np.pad(mask, 1), axes, (0, 1))
        a, b, c, d = m[:-1, :-1], m[1:, :-1], m[:-1, 1:], m[1:, 1:]
        if ((a == d) & (b == c) & (a != b)).any():
            return True
    return False


@st.composite
def clean_ellipsoid(draw):
    """An ellipsoid of whole voxels with no ambiguous face."""
    semi_axes, centre = (draw(st.tuples(*[st.floats(*span)] * 3)) for span in ((1.5, 5.0), (5.5, 6.5)))
    mask = ellipsoid(semi_axes, centre, size=13)
    assume(mask.any() and not touches_by_edge(mask))
    return mask


def turned(mask: np.ndarray, order: tuple[int, ...], mirrored: tuple[int, ...]) -> np.ndarray:
    return np.flip(mask.transpose(order), [axis for axis in range(3) if mirrored[axis]])


ORIENTATIONS = st.sampled_from(list(product(permutations(range(3)), product((0, 1), repeat=3))))


def expected_after(turn: tuple[int, ...], features: Features) -> Features:
    return features | {TURNED[axis]: features[TURNED[turn[axis]]] for axis in range(3)}


@settings(max_examples=60, deadline=None)
@given(mask=clean_ellipsoid(), spacing=spacings, orientation=ORIENTATIONS)
def test_turning_and_mirroring_only_permute_the_planes(mask, spacing, orientation):
    """All 48 ways to lay a grid's axes; exact where no voxels touch by an edge alone."""
    order, mirrored = orientation
    found = shape_features(turned(mask, order, mirrored), tuple(spacing[axis] for axis in order))
    assert_same(found, expected_after(order, shape_features(mask, spacing)), 1e-9)


@settings(max_examples=60, deadline=None)
@given(mask=nonempty(), spacing=spacings, orientation=ORIENTATIONS)
def test_turning_noise_keeps_all_that_is_not_made_from_triangles(mask, spacing, orientation):
    order, mirrored = orientation
    found = shape_features(turned(mask, order, mirrored), tuple(spacing[axis] for axis in order))
    expected = expected_after(order, shape_features(mask, spacing))
    made_from_triangles = ("MeshVolume", "SurfaceArea", "SurfaceVolumeRatio", "Sphericity")
    assert_same(found, expected | {name: found[name] for name in made_from_triangles}, 1e-9)


def test_turning_a_ragged_region_changes_the_mesh_but_little():
    mask, spacing = MASKS["blob"]
    assert touches_by_edge(mask)
    here = shape_features(mask, spacing)
    for order, mirrored in product(permutations(range(3)), product((0, 1), repeat=3)):
        assert_same(shape_features(turned(mask, order, mirrored), spacing), expected_after(order, here), 5e-3)


@settings(max_examples=60, deadline=None)
@given(mask=nonempty(), spacing=spacings, scale=st.floats(0.1, 10.0))
def test_scaling_follows_the_units(mask, spacing, scale):
    power = {"mm^3": 3, "mm^2": 2, "mm": 1, "": 0, "1/mm": -1}
    here = shape_features(mask, spacing)
    scaled = {name: value * scale ** power[UNITS[name]] for name, value in here.items()}
    assert_same(shape_features(mask, tuple(s * scale for s in spacing)), scaled, 1e-9)


@settings(max_examples=60, deadline=None)
@given(mask=nonempty(), spacing=spacings, before=boxes, after=boxes)
def test_moving_the_region_within_its_array_does_nothing(mask, spacing, before, after):
    moved = np.pad(mask, list(zip(before, after, strict=True)))
    assert str(shape_features(moved, spacing)) == str(shape_features(mask, spacing))


@settings(max_examples=60, deadline=None)
@given(mask=nonempty(), spacing=spacings)
def test_voxel_volume_is_count_times_voxel(mask, spacing):
    expected = pytest.approx(mask.sum() * prod(spacing), rel=1e-12)
    assert shape_features(mask, spacing)["VoxelVolume"] == expected


@settings(max_examples=40, deadline=None)
@given(mask=nonempty(), spacing=spacings)
def test_diameters_are_the_largest_over_all_pairs(mask, spacing):
    """Against every pair of vertices, with no hull and nothing left out."""
    padded, points = np.pad(mask, 1), []
    for axis in range(3):
        found = np.argwhere(np.diff(padded, axis=axis)).astype(float)
        found[:, axis] += 0.5
        points.append(found)
    at = np.concatenate(points)
    distance = np.linalg.norm((at[:, None] - at[None]) * spacing, axis=-1)
    found = shape_features(mask, spacing)
    assert found["Maximum3DDiameter"] == pytest.approx(distance.max(), rel=1e-12)
    for axis, name in enumerate(TURNED):
        same_plane = at[:, None, axis] == at[None, :, axis]
        assert found[name] == pytest.approx(distance[same_plane].max(), rel=1e-12)


def test_a_large_ellipsoid_nears_the_formulas():
    """Volume and axes of the ideal body: the axis lengths of a solid are its diameters times 2 / sqrt(5)."""
    found = shape_features(ellipsoid((24.0, 18.0, 12.0), (25.0, 25.0, 25.0), 51), (1.0, 1.0, 1.0))
    assert found["MeshVolume"] == pytest.approx(4 / 3 * pi * 24 * 18 * 12, rel=0.01)
    for name, semi_axis in (("MajorAxisLength", 24), ("MinorAxisLength", 18), ("LeastAxisLength", 12)):
        assert found[name] == pytest.approx(4 / sqrt(5) * semi_axis, rel=0.01)
    assert found["Maximum3DDiameter"] == pytest.approx(48, abs=1.01)
    assert [found[name] for name in TURNED] == pytest.approx([36, 48, 48], abs=1.01)


# --- degenerate and bad -------------------------------------------------------------------------------------


def test_a_single_voxel_is_an_octahedron_without_axes():
    found = shape_features(np.ones((1, 1, 1), bool), (1.0, 2.0, 3.0))
    assert found["MeshVolume"] == pytest.approx(1.0)
    assert found["VoxelVolume"] == 6.0
    assert [found[name] for name in TURNED] == [3.0, 3.0, 2.0]
    assert found["MajorAxisLength"] == found["MinorAxisLength"] == found["LeastAxisLength"] == 0
    assert np.isnan([found["Elongation"], found["Flatness"]]).all()


def test_a_row_and_a_plane_have_axes_of_exactly_zero():
    row, plane = shape_features(*MASKS["row"]), shape_features(*MASKS["plane"])
    assert (row["MinorAxisLength"], row["Elongation"], row["Flatness"]) == (0.0, 0.0, 0.0)
    assert (plane["LeastAxisLength"], plane["Flatness"]) == (0.0, 0.0)


def test_holes_that_leave_no_volume_are_nan_not_negative(pyradiomics):
    """Three voxels that touch by edges around a corner: PyRadiomics says -1/12 voxel."""
    mask = np.zeros((2, 2, 2), bool)
    mask[[0, 1, 1], [1, 0, 1], [1, 1, 0]] = True
    found = shape_features(mask, (1.0, 1.0, 1.0))
    assert pyradiomics(mask, (1.0, 1.0, 1.0))["MeshVolume"] == pytest.approx(-1 / 12)
    assert np.isnan([found[n] for n in ("MeshVolume", "SurfaceVolumeRatio", "Sphericity")]).all()
    assert found["VoxelVolume"] == 3.0


def test_an_empty_mask_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        shape_features(np.zeros((3, 4, 5), bool), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("spacing", [(1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (nan, 1.0, 1.0), (1.0, 1.0, inf)])
def test_a_spacing_that_is_no_length_is_refused(spacing):
    with pytest.raises(ConfigError, match="spacing"):
        shape_features(np.ones((2, 2, 2), bool), spacing)


@pytest.mark.parametrize("mask", [np.ones((2, 2, 2), np.uint8), np.ones((2, 2), bool)])
def test_labels_and_slices_are_refused(mask):
    """By the function itself, or before it by the shape check that runs under pytest."""
    with pytest.raises((ConfigError, TypeCheckError)):
        shape_features(mask, (1.0, 1.0, 1.0))
