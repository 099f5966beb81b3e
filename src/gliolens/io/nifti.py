"""The NIfTI edge: files to `Volume`s in RAS+ and back to the input's own grid. The only module that knows nibabel.

Every refusal is a `CaseError` that names the case and the file; nothing is repaired in silence.
"""

import gzip
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from gliolens.case import Grid, Volume
from gliolens.errors import CaseError
from gliolens.io.store import whole_file
from gliolens.labels import MASK_SCHEMES, guess_mask_scheme
from gliolens.ops.geometry import resample

_FRAME = re.compile(r"^(?P<file>.+\.nii(\.gz)?)#(?P<frame>\d+)$")
_BROKEN = (ImageFileError, HeaderDataError, WrapStructError, EOFError, OSError, zlib.error, ValueError)


@dataclass(frozen=True, eq=False)
class Stored:
    """A file as it lies on disk: the volume in RAS+ and the grid it was stored in."""

    volume: Volume
    source: Grid


@dataclass(frozen=True)
class _Refusal:
    """Raises the `CaseError`s of one file of one case."""

    case: str
    file: str

    def __call__(self, found: str, expected: str, fix: str) -> CaseError:
        return CaseError(self.case, file=self.file, found=found, expected=expected, fix=fix)


def read_volume(path: str | os.PathLike[str], case: str) -> Stored:
    """Read one 3-D scan.

    Args:
        path: a `.nii` or `.nii.gz` file; `FILE#K` reads the K-th volume of a 4-D file.
        case: the case's id, for the error.

    Returns:
        float32 voxels with the stored scale applied, axes turned to RAS+, and the stored grid.

    Raises:
        CaseError: the file is missing, broken, not 3-D, empty, not finite, or its geometry is missing or
            contradicts itself.
    """
    refuse = _Refusal(case, str(path))
    data, grid = _open(path, refuse)
    if data.dtype.kind not in "iufb":
        raise refuse(f"voxels of type {data.dtype}", "one number a voxel", "store real numbers")
    voxels = data.astype(np.float32)
    _check_voxels(voxels, data, refuse)
    return Stored(_to_ras(voxels, grid), grid)


def read_grid(path: str | os.PathLike[str], case: str) -> Grid:
    """Read the stored grid of a scan from its header alone. Refuses as `read_volume` does, but for the voxels."""
    refuse = _Refusal(case, str(path))
    image, frame = _header(path, refuse)
    return _stored_grid(image, frame, refuse)


def mask_values(path: str | os.PathLike[str], case: str) -> frozenset[int]:
    """The distinct whole numbers stored in a mask."""
    refuse = _Refusal(case, str(path))
    data, _ = _open(path, refuse)
    return frozenset(_whole_numbers(data, refuse))


def read_labels(path: str | os.PathLike[str], case: str, scheme: str | None = None) -> tuple[Stored, str]:
    """Read tumour labels and bring them to GlioLens' own (0 background, 1 core, 2 oedema, 3 enhancing).

    Args:
        path: the mask.
        case: the case's id, for the error.
        scheme: name from `labels.MASK_SCHEMES`; None reads it off the values where they can only mean one.

    Returns:
        uint8 labels as `Stored`, and the name of the scheme they were stored in.

    Raises:
        CaseError: as `read_volume`; or the mask holds values the scheme does not know, or an ambiguous 4.
    """
    refuse = _Refusal(case, str(path))
    data, grid = _open(path, refuse)
    values = _whole_numbers(data, refuse)
    scheme = scheme or guess_mask_scheme(values) or _ambiguous(values, refuse)
    mapping = MASK_SCHEMES[scheme]
    unknown = sorted(set(values) - set(mapping))
    if unknown:
        raise refuse(
            f"mask values {unknown}, unknown to the scheme {scheme}",
            f"values {sorted(mapping)} for {scheme}",
            f"name the right scheme with --mask-scheme ({', '.join(MASK_SCHEMES)}) or correct the mask",
        )
    labels = np.zeros(data.shape, np.uint8)
    for stored, inside in mapping.items():
        labels[data == stored] = inside
    return Stored(_to_ras(labels, grid), grid), scheme


def write_volume(path: str | os.PathLike[str], volume: Volume, grid: Grid) -> None:
    """Write a volume in a stored grid's own orientation and voxels, whole or not at all.

    Voxels keep their values where the grids differ only in orientation; elsewhere labels (integers) are read by
    nearest neighbour and maps by linear interpolation.
    """
    turned = _ras_grid(grid)
    voxels = volume.voxels
    if not volume.grid.matches(turned):
        voxels = resample(volume, turned, order=0 if voxels.dtype.kind in "iub" else 1)
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.io_orientation(grid.affine)
    )
    stored = nib.orientations.apply_orientation(voxels, back)
    image = nib.Nifti1Image(stored, grid.affine)
    image.set_sform(grid.affine, code="scanner")
    image.set_qform(grid.affine, code="scanner" if _has_no_shear(grid) else "unknown")
    image.header.set_xyzt_units("mm")
    with whole_file(Path(path)) as unfinished:
        nib.save(image, unfinished)


# --- checks ----------------------------------------------------------------------------------------------------


def _header(path: str | os.PathLike[str], refuse: _Refusal) -> tuple[nib.Nifti1Image, int | None]:
    frame = None
    if not Path(path).exists() and (match := _FRAME.match(str(path))):
        path, frame = match["file"], int(match["frame"])
    if not Path(path).is_file():
        raise refuse("no such file", "a readable .nii or .nii.gz file", "correct the path in the cohort table")
    try:
        with np.errstate(all="ignore"):
            image = nib.load(path)
    except _BROKEN as error:
        raise refuse(*_broken(error)) from error
    if not isinstance(image, nib.Nifti1Image):
        raise refuse(f"a {type(image).__name__}", "a NIfTI file", "convert it to .nii.gz")
    return image, frame


def _open(path: str | os.PathLike[str], refuse: _Refusal) -> tuple[np.ndarray, Grid]:
    image, frame = _header(path, refuse)
    grid = _stored_grid(image, frame, refuse)
    try:
        return np.asanyarray(image.dataobj if frame is None else image.dataobj[..., frame]), grid
    except _BROKEN as error:
        raise refuse(*_broken(error)) from error


def _broken(error: Exception) -> tuple[str, str, str]:
    what = "not a gzip file, whatever its name says" if isinstance(error, gzip.BadGzipFile) else "cut short or damaged"
    return (
        f"{what} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no detail'})",
        "a whole NIfTI file",
        "copy or export the file again",
    )


def _stored_grid(image: nib.Nifti1Image, frame: int | None, refuse: _Refusal) -> Grid:
    shape = image.shape
    if frame is not None:
        if len(shape) != 4 or frame >= shape[3]:
            raise refuse(f"shape {shape}, asked for volume {frame}", "a 4-D file that has it", "correct the # number")
        shape = shape[:3]
    if len(shape) != 3:
        raise refuse(
            f"a {len(shape)}-D image of shape {shape}",
            "a 3-D image",
            "export the volume alone, or name one volume of a 4-D file as FILE.nii.gz#0",
        )
    if 0 in shape:
        raise refuse(f"an image of shape {shape}", "at least one voxel", "export the file again")
    sform, qform = image.get_sform(coded=True), _qform(image, refuse)
    if sform[1] == 0 and qform[1] == 0:
        raise refuse(
            "neither sform nor qform: the file does not say where its voxels are",
            "an orientation in the header",
            "convert the scan again from DICOM, or copy the header of a series of the same exam",
        )
    affine = sform[0] if sform[1] else qform[0]
    _check_affine(affine, refuse)
    if sform[1] and qform[1]:
        _check_agreement(Grid(shape, sform[0]), qform[0], refuse)
    return Grid(shape, np.asarray(affine, dtype=np.float64))


def _qform(image: nib.Nifti1Image, refuse: _Refusal) -> tuple[np.ndarray | None, int]:
    try:
        affine, code = image.get_qform(coded=True)
        return affine, int(code)
    except (HeaderDataError, ValueError) as error:
        raise refuse(
            f"a qform that cannot be read ({error})", "a rotation and voxel sizes", "convert the scan again"
        ) from error


def _check_affine(affine: np.ndarray, refuse: _Refusal) -> None:
    expected, fix = "a finite affine that can be inverted", "convert the scan again from DICOM"
    if not np.isfinite(affine).all():
        raise refuse("an affine with values that are not finite", expected, fix)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise refuse("an affine of determinant zero: a voxel has no volume", expected, fix)


def _check_agreement(grid: Grid, qform: np.ndarray, refuse: _Refusal) -> None:
    apart = float(np.abs(grid.corners() - Grid(grid.shape, qform).corners()).max())
    if apart > max(0.5 * min(grid.spacing), 0.01):
        raise refuse(
            f"a qform that contradicts the sform: corners lie up to {apart:.1f} mm apart",
            "one position for every voxel",
            "decide which is right and copy it over the other: img.set_qform(img.get_sform(), 1) in nibabel, "
            "or fslorient -copysform2qform FILE",
        )


def _check_voxels(voxels: np.ndarray, data: np.ndarray, refuse: _Refusal) -> None:
    if not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        raise refuse(
            f"{bad} voxels that are not finite numbers" if not np.isfinite(data).all() else "voxels beyond float32",
            "a finite number in every voxel",
            "find the step that made them (often a division by zero) and run it again",
        )
    if voxels.min() == voxels.max():
        raise refuse(f"an empty image: every voxel is {voxels.flat[0]:g}", "an image", "export the series again")


def _whole_numbers(data: np.ndarray, refuse: _Refusal) -> list[int]:
    values = np.unique(data)
    if not np.isfinite(values).all() or not np.equal(np.mod(values, 1), 0).all():
        odd = values[~np.isfinite(values) | (np.mod(values, 1) != 0)][:5]
        raise refuse(
            f"mask values such as {', '.join(f'{v:g}' for v in odd)}",
            "whole numbers",
            "resample the mask by nearest neighbour",
        )
    return [int(v) for v in values]


def _ambiguous(values: list[int], refuse: _Refusal) -> str:
    if set(values) <= {0, 1, 2, 3, 4}:
        raise refuse(
            "a mask with label 4 and no label 3: enhancing tumour (BraTS to 2021, UCSF-PDGM) or resection cavity "
            "(BraTS 2024)",
            "a named scheme",
            "add --mask-scheme brats2020 (4 is enhancing tumour) or --mask-scheme brats2024 (4 is resection cavity)",
        )
    raise refuse(
        f"mask values {values}",
        "tumour labels from 0 to 4",
        f"name the scheme with --mask-scheme ({', '.join(MASK_SCHEMES)}) or correct the mask",
    )


# --- orientation -----------------------------------------------------------------------------------------------


def _to_ras(voxels: np.ndarray, grid: Grid) -> Volume:
    orientation = nib.orientations.io_orientation(grid.affine)
    turned = np.ascontiguousarray(nib.orientations.apply_orientation(voxels, orientation))
    return Volume(turned, grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape))


def _ras_grid(grid: Grid) -> Grid:
    orientation = nib.orientations.io_orientation(grid.affine)
    order = np.argsort(orientation[:, 0])
    d, h, w = (grid.shape[int(i)] for i in order)
    return Grid((d, h, w), grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape))


def _has_no_shear(grid: Grid) -> bool:
    axes = grid.affine[:3, :3] / grid.spacing
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-4))
