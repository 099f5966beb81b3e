"""A map of one number a slice, as a plot over the height of the slices: the map alone tells little at a glance."""

import io

import numpy as np
from matplotlib.figure import Figure

from gliolens.case import Volume


def numbers_of_slices(volume: Volume) -> np.ndarray | None:
    """The number of each slice (S,) along the third axis; None where a slice holds several."""
    low, high = (np.asarray(pick(volume.voxels, axis=(0, 1))) for pick in (np.min, np.max))
    return low if len(low) > 1 and np.array_equal(low, high) else None


def slice_plot(volume: Volume, numbers: np.ndarray) -> bytes:
    """A bar a slice over its height in the scanner's millimetres, foot to head: a PNG.

    Args:
        volume: the map, whose third axis points up or down.
        numbers: of its slices, as `numbers_of_slices` gives them.
    """
    heights = volume.affine[2, 3] + np.arange(len(numbers)) * volume.affine[2, 2]
    figure = Figure(figsize=(7.0, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.bar(
        heights,
        numbers,
        width=0.9 * abs(volume.affine[2, 2]),
        color=np.where(numbers < 0, "#542788", "#b35806"),
    )
    axes.axhline(0.0, color="0.6", lw=0.8)
    axes.set(xlabel="height of the slice, mm (foot to head)", ylabel="share of the most")
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return stream.getvalue()
