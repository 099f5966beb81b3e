"""The NIfTI edge: files to `Volume`s in RAS+ and back to the input's own grid. Only it knows nibabel.

Every refusal is a `CaseError` that names the case and the file; nothing is repaired in silence.
"""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError

from gliolens.case import Grid, Volume, spans_space
from gliolens.errors import ConfigError
from gliolens.io.content import AGAIN, NAME, Refusal, address, stored_bytes
from gliolens.io.store import whole_file
from gliolens.labels import MASK_SCHEMES, guess_mask_scheme
from gliolens.ops.geometry import resample

_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


@dataclass(frozen=True, eq=False)
class Stored:
    """A file as it lies on disk: the volume in RAS+ and the grid it was stored in."""

    volume: Volume
    source: Grid


def read_volume(path: str | os.PathLike[str], case: str) -> Stored:
    """Read one 3-D scan.

    Args:
        path: a `.nii` or `.nii.gz` file; `FILE#K` reads the K-th volume of a 4-D file.
        case: the case's id, for the error.

    Returns:
        float32 voxels with the stored scale applied, axes turned to RAS+, and the stored grid. float32 holds
        whole numbers to 2^24; larger ones are rounded to within one part in 10^7, which no scan resolves.

    Raises:
        CaseError: the file is missing, broken, not 3-D, empty, not finite, or its geometry is missing or
            contradicts itself.
    """
    refuse = Refusal(case, str(path))
    data, grid = _open(path, refuse)
    with np.errstate(all="ignore"):  # what does not fit is found by the check below
        voxels = data.astype(np.float32)
    _check_voxels(voxels, data, refuse)
    return Stored(_to_ras(voxels, grid), grid)


def read_grid(path: str | os.PathLike[str], case: str) -> Grid:
    """Read the stored grid of a scan from its header alone. Refuses as `read_volume`, but for the voxels."""
    refuse = Refusal(case, str(path))
    file, frame = address(path)
    return _stored_grid(_header(stored_bytes(file, refuse, size=max(_HEADERS)), refuse), frame, refuse)


def read_mask(path: str | os.PathLike[str], case: str) -> Stored:
    """Read a mask of the brain: True where the stored number is above zero.

    Raises:
        CaseError: as `read_volume`; or the mask marks no voxel. It may mark them all.
    """
    refuse = Refusal(case, str(path))
    data, grid = _open(path, refuse)
    _check_finite(data, data, refuse)
    if not (data > 0).any():
        raise refuse(
            "an empty mask: no voxel is above zero", "a mask of the brain", "make or export it again"
        )
    return Stored(_to_ras(np.asarray(data > 0), grid), grid)


def mask_values(path: str | os.PathLike[str], case: str) -> frozenset[int]:
    """The distinct whole numbers stored in a mask. Refuses as `read_labels` does, but for their meaning."""
    refuse = Refusal(case, str(path))
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
        CaseError: as `read_volume`, but an empty mask is no error; or the mask holds values unknown to the
            scheme, or an ambiguous 4.
        ConfigError: there is no scheme of this name.
    """
    if scheme is not None and scheme not in MASK_SCHEMES:
        raise ConfigError(f"mask scheme {scheme!r} is not known; known are {', '.join(MASK_SCHEMES)}")
    refuse = Refusal(case, str(path))
    data, grid = _open(path, refuse)
    values = _whole_numbers(data, refuse)
    scheme = scheme or guess_mask_scheme(values) or _ambiguous(values, refuse)
    mapping = MASK_SCHEMES[scheme]
    unknown = sorted(set(values) - set(mapping))
    if unknown:
        raise refuse(
            f"mask values {_listed(unknown)}, unknown to the scheme {scheme}",
            f"values {_listed(sorted(mapping))} for {scheme}",
            f"name the right scheme with --mask-scheme ({', '.join(MASK_SCHEMES)}) or correct the mask",
        )
    labels = np.zeros(data.shape, np.uint8)
    for stored, inside in mapping.items():
        labels[data == stored] = inside
    return Stored(_to_ras(labels, grid), grid), scheme


def write_volume(path: str | os.PathLike[str], volume: Volume, grid: Grid) -> None:
    """Write a volume in a stored grid's own orientation and voxels, whole or not at all.

    Voxels keep their values where the grids differ only in orientation; elsewhere labels (integers) are read
    by nearest neighbour and maps by linear interpolation. bool is stored as uint8, 64-bit integers as int32,
    since most readers know no others.

    Raises:
        ConfigError: the name does not end in .nii or .nii.gz, or the voxels fit no type of NIfTI.
    """
    if not NAME.search(str(path)):
        raise ConfigError(f"{path}: found another ending, expected .nii.gz or .nii")
    turned = _ras_grid(grid)
    voxels = volume.voxels
    if not volume.grid.matches(turned):
        voxels = resample(volume, turned, order=0 if voxels.dtype.kind in "iub" else 1)
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.io_orientation(grid.affine)
    )
    stored = nib.orientations.apply_orientation(_storable(voxels), back)
    image = nib.Nifti1Image(stored, grid.affine)
    image.set_sform(grid.affine, code="scanner")
    image.set_qform(grid.affine, code="scanner" if _has_no_shear(grid) else "unknown")
    image.header.set_xyzt_units("mm")
    with whole_file(Path(path)) as unfinished:
        nib.save(image, unfinished)


# --- bytes and header ---------------------------------------------------------------------------------------


def _open(path: str | os.PathLike[str], refuse: Refusal) -> tuple[np.ndarray, Grid]:
    """Voxels as stored, with the stored scale applied, and their grid."""
    file, frame = address(path)
    content = stored_bytes(file, refuse)
    header = _header(content, refuse)
    grid = _stored_grid(header, frame, refuse)
    promised = header.get_data_offset() + header.get_data_dtype().itemsize * math.prod(_shape(header))
    if len(content) < promised:
        raise refuse(
            f"cut short: {len(content)} bytes, the header promises {promised}", "a whole NIfTI file", AGAIN
        )
    try:
        proxy = ArrayProxy(io.BytesIO(content), header)
    except HeaderDataError as error:
        raise refuse(f"a scale that is not finite ({error})", "scl_slope and scl_inter", AGAIN) from error
    with np.errstate(all="ignore"):  # what overflows is found by the checks of the voxels
        return np.asanyarray(proxy if frame is None else proxy[..., frame]), grid


def _header(content: bytes, refuse: Refusal) -> nib.Nifti1Header:
    """The header as it lies on disk, without nibabel's repairs (it turns a voxel size of 0 into 1)."""
    expected = "a NIfTI-1 or NIfTI-2 file"
    size, order = int.from_bytes(content[:4], "little"), "<"
    if size not in _HEADERS:
        size, order = int.from_bytes(content[:4], "big"), ">"
    if size not in _HEADERS:
        raise refuse(f"no NIfTI header: it begins with {content[:8]!r}", expected, "convert it to .nii.gz")
    if len(content) < size:
        raise refuse(f"cut short: {len(content)} bytes, the header alone has {size}", expected, AGAIN)
    header = _HEADERS[size](content[:size], order, check=False)  # type: ignore[no-untyped-call]
    magic = header["magic"].item()
    if magic != header.single_magic:
        found = "a header of a pair .hdr, .img" if magic == header.pair_magic else f"header magic {magic!r}"
        raise refuse(found, expected, "convert it to .nii.gz")
    _check_type(header, refuse)
    _check_units(header, refuse)
    return header


def _check_type(header: nib.Nifti1Header, refuse: Refusal) -> None:
    known, code = nib.nifti1.data_type_codes, int(header["datatype"])
    kind = getattr(known.dtype.get(code), "kind", "?")
    if kind not in "iuf":
        name = known.label.get(code, f"code {code}")
        raise refuse(f"voxels of type {name}", "one real number a voxel", "export it as int16 or float32")
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    if not least <= offset < 2**62:
        raise refuse(f"voxels said to begin at byte {offset:g}", f"byte {least} or later", AGAIN)


def _check_units(header: nib.Nifti1Header, refuse: Refusal) -> None:
    sizes = [float(size) for size in header["pixdim"][1:4]]
    if not all(0 < size < math.inf for size in sizes):
        raise refuse(
            f"voxel sizes (pixdim) of {', '.join(f'{size:g}' for size in sizes)}",
            "three sizes above zero, in millimetres",
            "convert the scan again from DICOM, or set them with img.header.set_zooms in nibabel",
        )
    unit = {1: "metres", 3: "micrometres"}.get(int(header["xyzt_units"]) & 7)
    if unit is not None:
        raise refuse(
            f"a grid in {unit} (xyzt_units)",
            "millimetres",
            'scale the affine, or correct the unit with img.header.set_xyzt_units("mm") in nibabel',
        )


# --- checks -------------------------------------------------------------------------------------------------


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    return tuple(int(n) for n in header["dim"][1 : 1 + max(int(header["dim"][0]), 0)])


def _stored_grid(header: nib.Nifti1Header, frame: int | None, refuse: Refusal) -> Grid:
    d, h, w = _stored_shape(_shape(header), frame, refuse)
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = _qform(header, refuse) if header["qform_code"] > 0 else None
    affines = [affine for affine in (sform, qform) if affine is not None]
    if not affines:
        raise refuse(
            "neither sform nor qform: the file does not say where its voxels are",
            "an orientation in the header",
            "convert the scan again from DICOM, or copy the header of a series of the same exam",
        )
    for affine in affines:
        _check_affine(affine, refuse)
    grid = Grid((d, h, w), np.asarray(affines[0], dtype=np.float64))
    if sform is not None and qform is not None:
        _check_agreement(grid, qform, refuse)
    return grid


def _stored_shape(shape: tuple[int, ...], frame: int | None, refuse: Refusal) -> tuple[int, ...]:
    if frame is not None:
        if len(shape) != 4 or frame >= shape[3]:
            raise refuse(
                f"an image of shape {shape}, asked for volume {frame} (the first is 0)",
                "a 4-D file that has it",
                "correct the number behind #",
            )
        shape = shape[:3]
    if len(shape) != 3:
        raise refuse(
            f"a {len(shape)}-D image of shape {shape}",
            "a 3-D image",
            "export the volume alone, or name one volume of a 4-D file as FILE.nii.gz#0",
        )
    if min(shape) < 1:
        raise refuse(f"an image of shape {shape}", "at least one voxel", "export the file again")
    return shape


def _qform(header: nib.Nifti1Header, refuse: Refusal) -> np.ndarray:
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # NIfTI-1: "if pixdim[0]=0.0, we take qfac=1"
    try:
        return np.asarray(header.get_qform())
    except (HeaderDataError, ValueError) as error:
        raise refuse(
            f"a qform that cannot be read ({error})", "a rotation and voxel sizes", "convert the scan again"
        ) from error


def _check_affine(affine: np.ndarray, refuse: Refusal) -> None:
    expected, fix = "a finite affine that can be inverted", "convert the scan again from DICOM"
    if not np.isfinite(affine).all():
        raise refuse("an affine with values that are not finite", expected, fix)
    if not spans_space(affine):
        raise refuse("an affine of determinant zero: a voxel has no volume", expected, fix)


def _check_agreement(grid: Grid, qform: np.ndarray, refuse: Refusal) -> None:
    """A qform can hold no shear; one that equals the sform but for its shear says as much as it can."""
    apart = min(
        Grid(grid.shape, affine).distance(Grid(grid.shape, qform))
        for affine in (grid.affine, _without_shear(grid.affine))
    )
    if apart > max(0.5 * min(grid.spacing), 0.01):
        raise refuse(
            f"a qform that contradicts the sform: corners lie up to {apart:.1f} mm apart",
            "one position for every voxel",
            "decide which is right and copy it over the other: img.set_qform(img.get_sform(), 1) in nibabel, "
            "or fslorient -copysform2qform FILE",
        )


def _check_finite(voxels: np.ndarray, data: np.ndarray, refuse: Refusal) -> None:
    if not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        what = "that are not finite numbers" if not np.isfinite(data).all() else "beyond float32"
        raise refuse(
            f"{bad} voxels {what}",
            "a finite number in every voxel",
            "find the step that made them (often a division by zero) and run it again",
        )


def _check_voxels(voxels: np.ndarray, data: np.ndarray, refuse: Refusal) -> None:
    _check_finite(voxels, data, refuse)
    if voxels.min() == voxels.max():
        raise refuse(f"an empty image: every voxel is {voxels.flat[0]:g}", "an image", "export it again")


def _whole_numbers(data: np.ndarray, refuse: Refusal) -> list[int]:
    _check_finite(data, data, refuse)
    values = np.unique(data)
    odd = values[values != np.round(values)]
    if odd.size:
        raise refuse(
            f"mask values such as {', '.join(f'{v:g}' for v in odd[:5])}",
            "whole numbers",
            "resample the mask by nearest neighbour",
        )
    return [int(v) for v in values]


def _listed(values: list[int]) -> str:
    more = f" and {len(values) - 10} more" if len(values) > 10 else ""
    return ", ".join(map(str, values[:10])) + more


def _ambiguous(values: list[int], refuse: Refusal) -> str:
    if set(values) <= {0, 1, 2, 3, 4}:
        raise refuse(
            "a mask with label 4 and no label 3: enhancing tumour (BraTS to 2021, UCSF-PDGM) or resection "
            "cavity (BraTS 2024)",
            "a named scheme",
            "add --mask-scheme brats2020 (4 is enhancing tumour) or --mask-scheme brats2024 (4 is resection "
            "cavity)",
        )
    raise refuse(
        f"mask values {_listed(values)}",
        "tumour labels from 0 to 4",
        f"name the scheme with --mask-scheme ({', '.join(MASK_SCHEMES)}) or correct the mask",
    )


# --- orientation --------------------------------------------------------------------------------------------


def _to_ras(voxels: np.ndarray, grid: Grid) -> Volume:
    orientation = nib.orientations.io_orientation(grid.affine)
    turned = np.ascontiguousarray(nib.orientations.apply_orientation(voxels, orientation))
    return Volume(turned, grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape))


def _ras_grid(grid: Grid) -> Grid:
    orientation = nib.orientations.io_orientation(grid.affine)
    order = np.argsort(orientation[:, 0])
    d, h, w = (grid.shape[int(i)] for i in order)
    return Grid((d, h, w), grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape))


def _without_shear(affine: np.ndarray) -> np.ndarray:
    header = nib.Nifti1Header()
    header.set_qform(affine, code="scanner")
    return np.asarray(header.get_qform())


def _has_no_shear(grid: Grid) -> bool:
    axes = grid.affine[:3, :3] / grid.spacing
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-4))


def _storable(voxels: np.ndarray) -> np.ndarray:
    kind, size = voxels.dtype.kind, voxels.dtype.itemsize
    if kind == "b":
        return voxels.astype(np.uint8)
    if kind in "iu" and size == 8:
        whole = np.iinfo(np.int32)
        if voxels.min() < whole.min or voxels.max() > whole.max:
            raise ConfigError(f"voxels from {voxels.min()} to {voxels.max()}, expected what fits int32")
        return voxels.astype(np.int32)
    if kind == "f" and size == 2:
        return voxels.astype(np.float32)
    if kind not in "iuf":
        raise ConfigError(f"voxels of type {voxels.dtype}, expected real numbers")
    return voxels
