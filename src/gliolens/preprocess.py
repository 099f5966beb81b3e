"""From a case to what a network sees: the brain, normalised series, stacks of axial slices, and volumes."""

from collections.abc import Sequence

import numpy as np

from gliolens.case import Case, Grid, Volume
from gliolens.errors import CaseError, ExcludedError
from gliolens.ops.geometry import bounding_box, resample
from gliolens.ops.intensity import foreground, rescale, zscore
from gliolens.ops.zoom import zoom
from gliolens.types import Affine, Image, Mask


def brain_of(case: Case, series: Sequence[str] = ()) -> Mask:
    """The case's brain mask, or else the voxels that hold tissue in any series (head, where not stripped).

    Args:
        case: the case.
        series: those a method sees; all where empty. In use a case may have more than were learnt from, and of them
            another brain.
    """
    if case.brain is not None:
        return case.brain
    shown = [image for name, image in case.series.items() if name in (series or case.series)]
    return np.asarray(np.any([foreground(image) for image in shown], axis=0))


def normalised(case: Case, brain: Mask) -> dict[str, Image]:
    """Each series with mean 0 and standard deviation 1 over the brain, and 0 outside it.

    Raises:
        CaseError: a series has no contrast inside the brain.
    """
    out = {}
    for name, image in case.series.items():
        try:
            out[name] = zscore(image, brain)
        except ValueError as error:
            raise _no_contrast(case, name, error) from error
    return out


def rescaled(case: Case, name: str, brain: Mask, percentiles: tuple[float, float]) -> Image:
    """A series with these percentiles of the brain's intensities at 0 and 1, clipped, and 0 outside the brain.

    Raises:
        CaseError: the series has no contrast inside the brain.
    """
    try:
        return rescale(case.series[name], brain, *percentiles)
    except ValueError as error:
        raise _no_contrast(case, name, error) from error


def _no_contrast(case: Case, name: str, error: ValueError) -> CaseError:
    return CaseError(
        case.id,
        found=f"{name}: {error}",
        expected="an image with contrast inside the brain",
        fix="look at the file; export it again, or correct the brain mask",
    )


def tumour_of(case: Case) -> Mask:
    """The whole tumour.

    Raises:
        CaseError: there is no mask, or no tumour in it.
    """
    whole = case.region("whole")
    if whole is None or not whole.any():
        raise CaseError(
            case.id,
            found="no tumour mask" if whole is None else "a mask without tumour",
            expected="tumour labels: methods and controls measure the tumour",
            fix="name a mask with --mask FILE, correct it, or leave the case out",
        )
    return whole


def slice_grid(
    grid: Grid, brain: Mask, tumour: Mask, pixels: int, pixel_mm: float, min_mm2: float
) -> list[Grid]:
    """Square axial frames of fixed millimetres, centred on the brain, one a slice with enough tumour.

    Args:
        grid: the case's grid.
        brain: centre of the frames.
        tumour: which slices to take.
        pixels: edge of a frame in pixels.
        pixel_mm: edge of a pixel in millimetres.
        min_mm2: least tumour area of a slice; where no slice has as much, the one with most is taken.

    Returns:
        Grids of shape `(pixels, pixels, 1)`.
    """
    d_mm, h_mm, _ = grid.spacing
    area = tumour.sum(axis=(0, 1)) * d_mm * h_mm
    chosen = np.flatnonzero(area >= min(min_mm2, area.max()))
    box = bounding_box(brain)
    centre = np.array([(box[0].start + box[0].stop - 1) / 2, (box[1].start + box[1].stop - 1) / 2])
    scale = np.array([pixel_mm / d_mm, pixel_mm / h_mm])
    corner = centre - scale * (pixels - 1) / 2
    frames = []
    for k in chosen:
        to_case: Affine = np.diag([*scale, 1.0, 1.0])
        to_case[:3, 3] = (*corner, float(k))
        frames.append(Grid((pixels, pixels, 1), grid.affine @ to_case))
    return frames


def cut(image: Image | Mask, grid: Grid, frames: list[Grid]) -> np.ndarray:
    """Read an image at frames, or in a volume: `(slices, pixels, pixels)`, or `(1, planes, pixels, pixels)`.

    A mask stays one: frames take the nearest voxel; of a volume's voxels those that hold more of it than not.

    Args:
        image: the image.
        grid: its grid.
        frames: of one plane each; or a single grid of many, along the image's own axes.
    """
    if frames[0].shape[2] > 1:
        read = zoom(image.astype(np.float32), grid, frames[0]).transpose(2, 0, 1)[None]
        return np.asarray(read > 0.5 if image.dtype == bool else read)
    volume, order = Volume(image.astype(np.float32), grid.affine), 0 if image.dtype == bool else 1
    read = np.stack([resample(volume, frame, order=order)[:, :, 0] for frame in frames])
    return read.astype(bool) if image.dtype == bool else read


def check_size(case: Case, tumour: Mask, min_mm2: float) -> None:
    """Raise ExcludedError where no axial slice holds so much tumour."""
    d_mm, h_mm, _ = case.grid.spacing
    largest = float(tumour.sum(axis=(0, 1)).max() * d_mm * h_mm)
    if largest < min_mm2:
        raise ExcludedError(
            case.id,
            found=f"a tumour of {largest:.0f} mm² in its largest slice",
            expected=f"{min_mm2:.0f} mm² of tumour or more in its largest slice",
            fix="lower min_mm2, set exclude_small to false, or leave the case out",
        )
