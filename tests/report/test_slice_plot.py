"""A map of one number a slice, as a plot."""

import io

import numpy as np
import pytest
from PIL import Image

from gliolens.case import Volume
from gliolens.report.slice_plot import numbers_of_slices, slice_plot


def stack(numbers):
    voxels = np.broadcast_to(np.asarray(numbers, np.float32), (6, 5, len(numbers)))
    return Volume(voxels.copy(), np.diag([1.0, 1.0, 4.0, 1.0]))


def test_numbers_come_back_only_where_every_slice_holds_one():
    assert numbers_of_slices(stack([0.0, 0.4, -0.2])) == pytest.approx([0.0, 0.4, -0.2])
    changed = stack([0.0, 0.4, -0.2])
    changed.voxels[3, 2, 1] += 0.1
    assert numbers_of_slices(changed) is None
    assert numbers_of_slices(stack([1.0])) is None


def test_what_speaks_for_and_against_differ_in_colour():
    def columns(numbers, channel):
        volume = stack(numbers)
        pixels = np.asarray(Image.open(io.BytesIO(slice_plot(volume, np.array(numbers)))).convert("RGB"), int)
        other = 2 - channel
        return np.flatnonzero((pixels[..., channel] - pixels[..., other] > 40).any(axis=0))

    numbers = [0.0, 1.0, 0.0, 0.0, -1.0, 0.0]
    orange, purple = columns(numbers, 0), columns(numbers, 2)
    assert orange.size
    assert purple.size
    assert orange.max() < purple.min(), "the second slice lies below the fifth"
