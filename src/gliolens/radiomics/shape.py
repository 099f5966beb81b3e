"""Fourteen three-dimensional shape features of a region, by the definitions of PyRadiomics 3.0.1.

Sources: van Griethuysen et al. 2017 (doi 10.1158/0008-5472.CAN-17-0339) and the Image Biomarker
Standardisation Initiative (IBSI), Zwanenburg et al. 2020 (doi 10.1148/radiol.2020191145). PyRadiomics is only
an oracle of the tests: the features agree with its feature extractor to 1e-6 (relative), quirks included.

- Its marching cubes meshes a cube that has one given corner inside as the cube's complement turned inside
  out. Where voxels touch only along an edge, the two cubes beside a face may then disagree and leave a hole:
  `MeshVolume`, `SurfaceArea` and what is made from them change slightly when the mask is turned or mirrored.
  `MeshVolume` of a mesh with holes depends on its origin: the first corner of the region's bounding box
  widened by one voxel.
- `Elongation` and `Flatness` are square roots of ratios of eigenvalues: 1 is round, 0 a line or a plane.
- Diameters join vertices of the mesh, half a voxel outside the centres; axis lengths come from the centres.
- The covariance is divided by n. IBSI's values divide by n - 1, so its axes are longer by sqrt(n / (n - 1)).

Where PyRadiomics and this module part:

- A single voxel, a straight row of voxels and a mask without background, which the feature extractor refuses
  (the row by its default settings only), have every feature here that is defined.
- A mesh volume that holes make zero or negative is NaN here, and so is what is made from it.
- Eigenvalues within rounding of zero are zero here: the least axis of a plane is 0 mm, not some 1e-7 mm.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes

from gliolens.errors import ConfigError
from gliolens.ops.geometry import bounding_box
from gliolens.types import Mask

FEATURES: Final = (
    "MeshVolume",
    "VoxelVolume",
    "SurfaceArea",
    "SurfaceVolumeRatio",
    "Sphericity",
    "Maximum3DDiameter",
    "Maximum2DDiameterSlice",
    "Maximum2DDiameterColumn",
    "Maximum2DDiameterRow",
    "MajorAxisLength",
    "MinorAxisLength",
    "LeastAxisLength",
    "Elongation",
    "Flatness",
)
"""The names of PyRadiomics, in the order of Zeng et al. 2024."""

UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "MeshVolume": "mm^3",
        "VoxelVolume": "mm^3",
        "SurfaceArea": "mm^2",
        "SurfaceVolumeRatio": "1/mm",
        "Sphericity": "",
        "Maximum3DDiameter": "mm",
        "Maximum2DDiameterSlice": "mm",
        "Maximum2DDiameterColumn": "mm",
        "Maximum2DDiameterRow": "mm",
        "MajorAxisLength": "mm",
        "MinorAxisLength": "mm",
        "LeastAxisLength": "mm",
        "Elongation": "",
        "Flatness": "",
    }
)
"""Unit of each feature; empty where it has none."""

_PLANES: Final = ("Maximum2DDiameterSlice", "Maximum2DDiameterColumn", "Maximum2DDiameterRow")
"""The diameter in the planes across the first, second and third axis (S, A, R) of the mask as turned here."""
_FLIPPED_CORNER: Final = (1, 1, 0)
"""A cube with this corner (S, A, R) inside is meshed as its complement, turned inside out."""
_ROUNDING: Final = 1e-14
"""Eigenvalues below this share of the largest are rounding errors of zero."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Fillings = NDArray[np.uint8]


def shape_features(mask: Mask, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Measure a region's shape.

    Args:
        mask: the region, `(D, H, W)` along R, A, S; it may be in several parts and touch the array's border.
        spacing: voxel size in mm, one number an axis.

    Returns:
        `FEATURES` in order, in `UNITS`. `Maximum2DDiameterSlice`, `...Column` and `...Row` lie in axial,
        coronal and sagittal planes. `Elongation` and `Flatness` of a single voxel are NaN, for it has no axis
        to compare with. `MeshVolume`, `SurfaceVolumeRatio` and `Sphericity` are NaN where holes leave no
        positive volume, as a few scattered voxels can.

    Raises:
        ConfigError: the mask is empty, not boolean or not 3-D, or the spacing is not three positive numbers.
    """
    _check(mask, spacing)
    # PyRadiomics counts axes from the slices down (S, A, R), and its mesh depends on that order.
    region = np.pad(mask[bounding_box(mask)].transpose(2, 1, 0), 1)
    size = np.array(spacing[::-1], dtype=np.float64)
    found = _volume_and_surface(region, size) | _diameters(region, size) | _axes(region, size)
    return {name: float(found[name]) for name in FEATURES}


def _check(mask: Mask, spacing: tuple[float, float, float]) -> None:
    if mask.ndim != 3 or mask.dtype != np.bool_:
        raise ConfigError(f"a region is a boolean 3-D array, not {mask.dtype} of shape {mask.shape}")
    if len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise ConfigError(f"spacing must be three positive lengths in mm, not {spacing}")
    if not mask.any():
        raise ConfigError("an empty region has no shape: no voxel of the mask is set")


# --- mesh ---------------------------------------------------------------------------------------------------


class _CubeMesh(NamedTuple):
    """The triangles of all 256 ways to fill the corners of a cube, in voxels from the cube's first corner."""

    filling: Integers
    """(t,) which filling each triangle belongs to."""
    corners: Floats
    """(t, 3, 3) vertex by coordinate, the normal pointing outwards."""


def _corners() -> Integers:
    """(8, 3) the corners of a cube; corner `b` is bit `b` of a filling's number."""
    return np.indices((2, 2, 2)).reshape(3, 8).T


@cache
def _cube_mesh() -> _CubeMesh:
    """Mesh every filling once, by Lorensen and Cline's rules (doi 10.1145/37401.37422)."""
    owners, triangles = [], []
    for filling in range(1, 255):
        inside = np.array([filling >> bit & 1 for bit in range(8)]).reshape(2, 2, 2)
        flipped = inside[_FLIPPED_CORNER] == 1
        vertices, faces, _, _ = marching_cubes(
            (1 - inside if flipped else inside).astype(np.float32), 0.5, method="lorensen"
        )
        # scikit-image winds its triangles so that (b - a) x (c - a) points inwards.
        triangles.append(vertices[faces if flipped else faces[:, ::-1]])
        owners.append(np.full(len(faces), filling))
    return _CubeMesh(np.concatenate(owners), np.concatenate(triangles).astype(np.float64))


def _fillings(region: Mask) -> Fillings:
    """The filling of every 2x2x2 cube of voxels, 0 to 255."""
    d, h, w = (n - 1 for n in region.shape)
    code = np.zeros((d, h, w), np.uint8)
    for bit, (i, j, k) in enumerate(_corners()):
        code |= region[i : i + d, j : j + h, k : k + w].astype(np.uint8) << np.uint8(bit)
    return code


def _volume_and_surface(region: Mask, size: Floats) -> dict[str, float]:
    fillings = _fillings(region)
    area, volume = _mesh_area(fillings, size), _mesh_volume(fillings) * size.prod()
    volume = volume if volume > 0 else np.nan
    return {
        "MeshVolume": volume,
        "VoxelVolume": np.count_nonzero(region) * size.prod(),
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "Sphericity": np.cbrt(36 * np.pi * volume**2) / area,
    }


def _mesh_area(fillings: Fillings, size: Floats) -> float:
    """Area in mm^2: so much for each filling, times how often it occurs."""
    mesh = _cube_mesh()
    a, b, c = np.moveaxis(mesh.corners * size, 1, 0)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    counts = np.bincount(fillings.ravel(), minlength=256)
    return float(counts @ np.bincount(mesh.filling, areas, minlength=256))


def _mesh_volume(fillings: Fillings) -> float:
    """Signed volume in voxels: the sum of `a . (b x c) / 6` over all triangles, from the array's first voxel.

    A triangle moved by `o` changes its term by `o . n / 6`, where `n = (b - a) x (c - a)`; so it is enough to
    know, for each filling, its volume at the origin and its sum of `n`.
    """
    mesh = _cube_mesh()
    a, b, c = np.moveaxis(mesh.corners, 1, 0)
    normals = np.cross(b - a, c - a)
    at_origin = np.bincount(mesh.filling, (a * np.cross(b, c)).sum(axis=1), minlength=256)
    normal = [np.bincount(mesh.filling, normals[:, axis], minlength=256) for axis in range(3)]
    cubes = np.nonzero((fillings > 0) & (fillings < 255))
    found = fillings[cubes]
    moved = sum(float(position @ n[found]) for position, n in zip(cubes, normal, strict=True))
    return (float(at_origin[found].sum()) + moved) / 6


# --- diameters ----------------------------------------------------------------------------------------------


def _diameters(region: Mask, size: Floats) -> dict[str, float]:
    """Largest distances between vertices of the mesh: in space, and within planes across each axis."""
    found = {name: _plane_diameter(region, axis, size) for axis, name in enumerate(_PLANES)}
    vertices = _outer_vertices(region, (0, 1, 2))
    # The hull is taken in whole half-voxels, where one voxel already spans space and nothing is rounded.
    hull = vertices[ConvexHull(vertices).vertices]
    return found | {"Maximum3DDiameter": pdist(hull * size / 2).max()}


def _outer_vertices(region: Mask, axes: tuple[int, ...]) -> Integers:
    """(n, 3) the mesh's vertices in half-voxels, save those between two others along one of `axes`.

    A vertex lies midway between an inside and an outside voxel. The ends of a longest distance are never
    between two others. Vertices on one line along an axis all lie between neighbours along the same axis, so
    those between neighbours along the first, second and third axis are thinned apart.
    """
    kinds = []
    for crossed in range(3):
        found = np.diff(region, axis=crossed)
        for axis in axes:
            found = _line_ends(found, axis)
        kinds.append(2 * np.argwhere(found) + (np.arange(3) == crossed))
    return np.concatenate(kinds)


def _line_ends(found: Mask, axis: int) -> Mask:
    """Keep the first and the last True of each line along an axis."""
    ends = np.zeros_like(found)
    np.put_along_axis(ends, found.argmax(axis, keepdims=True), True, axis)
    last = found.shape[axis] - 1 - np.flip(found, axis).argmax(axis, keepdims=True)
    np.put_along_axis(ends, last, True, axis)
    kept: Mask = ends & found
    return kept


def _plane_diameter(region: Mask, normal: int, size: Floats) -> float:
    """Largest distance in mm between two vertices of one plane across the axis `normal`.

    The planes with the largest bounding rectangles come first; those whose diagonal is no longer than the
    longest distance so far are left out.
    """
    within = tuple(axis for axis in range(3) if axis != normal)
    vertices = _outer_vertices(region, within)
    vertices = vertices[vertices[:, normal].argsort(kind="stable")]
    starts = np.flatnonzero(np.diff(vertices[:, normal])) + 1
    planes = [plane[:, within] * size[list(within)] / 2 for plane in np.split(vertices, starts)]
    diagonals = np.array([np.linalg.norm(np.ptp(plane, axis=0)) for plane in planes])
    longest = 0.0
    for at in diagonals.argsort()[::-1]:
        if diagonals[at] <= longest:
            break
        longest = max(longest, float(pdist(planes[at]).max()))
    return longest


# --- principal axes -----------------------------------------------------------------------------------------


def _axes(region: Mask, size: Floats) -> dict[str, float]:
    """Lengths and ratios of the axes of the ellipsoid with the voxel centres' covariance."""
    least, minor, major = np.linalg.eigvalsh(_covariance(region) * np.outer(size, size))
    least, minor = (value if value > _ROUNDING * major else 0.0 for value in (least, minor))
    return {
        "MajorAxisLength": 4 * np.sqrt(major),
        "MinorAxisLength": 4 * np.sqrt(minor),
        "LeastAxisLength": 4 * np.sqrt(least),
        "Elongation": np.sqrt(minor / major) if major else np.nan,
        "Flatness": np.sqrt(least / major) if major else np.nan,
    }


def _covariance(region: Mask) -> Floats:
    """(3, 3) covariance of voxel indices, divided by n.

    Sums stay whole numbers, of Python's unbounded kind where they could overflow, so that a flat region's
    variance is exactly 0.
    """
    centres = np.argwhere(region)
    n, sums, products = len(centres), centres.sum(axis=0).tolist(), (centres.T @ centres).tolist()
    return np.array([[(n * products[i][j] - sums[i] * sums[j]) / n**2 for j in range(3)] for i in range(3)])
