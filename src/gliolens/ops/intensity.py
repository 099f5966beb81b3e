"""How bright voxels are: foreground and normalisation. Pure functions on arrays."""

import numpy as np
from skimage.filters import threshold_otsu

from gliolens.types import Image, Mask


def foreground(image: Image) -> Mask:
    """Voxels that hold tissue.

    Where at least one voxel in twenty has exactly the lowest value, as after skull stripping, all others are
    tissue. Elsewhere (air with noise) Otsu's threshold divides the two.
    """
    low = image.min()
    above = image > low
    if above.mean() <= 0.95:
        return np.asarray(above)
    return np.asarray(image > threshold_otsu(image))


def zscore(image: Image, mask: Mask) -> Image:
    """Subtract the mean and divide by the standard deviation of the voxels in `mask`; zero outside it.

    Raises:
        ValueError: the mask is empty or the voxels in it are all equal.
    """
    inside = image[mask].astype(np.float64)
    if inside.size == 0 or inside.std() == 0:
        raise ValueError("cannot normalise: no contrast inside the mask")
    out = np.zeros_like(image)
    out[mask] = (inside - inside.mean()) / inside.std()
    return out


def rescale(image: Image, mask: Mask, low: float = 0.5, high: float = 99.5) -> Image:
    """Map the percentiles `low` to `high` of the voxels in `mask` to 0 to 1, clipped; zero outside it.

    Raises:
        ValueError: the mask is empty or the percentiles coincide.
    """
    if not mask.any():
        raise ValueError("cannot rescale: the mask is empty")
    bottom, top = np.percentile(image[mask], (low, high))
    if bottom == top:
        raise ValueError("cannot rescale: no contrast inside the mask")
    scaled = np.clip((image - bottom) / (top - bottom), 0.0, 1.0)
    return np.where(mask, scaled, 0.0).astype(np.float32)


def share_inside(heat: np.ndarray, where: np.ndarray) -> float:
    """Share of a map's heat, 0 or more everywhere, that lies within `where`; NaN of a map without any."""
    total = float(heat.sum())
    return float(heat[where].sum()) / total if total > 0 else float("nan")
