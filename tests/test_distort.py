"""Volumes that look otherwise each time: by the seed alone, within the published amounts, PyTorch's dice untouched."""

import numpy as np
import pytest
import torch

from gliolens.distort import FLIPPED, SCALES, distorted


def ball(radius=8, edge=32):
    x, y, z = np.indices((edge,) * 3) - (edge - 1) / 2
    return torch.from_numpy((x**2 + y**2 + z**2 <= radius**2).astype(np.float32))[None]


def sided():
    """Bright on one side."""
    volume = ball()
    volume[:, :16] *= 2
    return volume


@pytest.mark.parametrize("how", ["light", "heavy"])
def test_the_seed_decides_and_nothing_else_is_drawn_from(how):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (distorted(sided(), how, 4.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_none_is_what_was_there():
    volume = sided()
    assert distorted(volume, "none", 4.0, np.random.default_rng(0)) is volume


def test_light_scales_and_swaps_sides_as_published():
    looks = [distorted(sided(), "light", 4.0, np.random.default_rng(seed)) for seed in range(60)]
    sizes = np.array([(look > 0.5).sum().item() for look in looks]) / (sided() > 0.5).sum().item()
    low, high = SCALES[0] ** 3, SCALES[1] ** 3
    assert low * 0.9 < sizes.min() < 0.95
    assert 1.2 < sizes.max() < high * 1.1
    swapped = np.mean([(look[:, :16].sum() < look[:, 16:].sum()).item() for look in looks])
    assert FLIPPED / 3 < swapped < FLIPPED * 2


def test_heavy_leaves_marks_that_light_does_not():
    """Outside the ball light has zeros only; ghosts, spikes and motion reach there."""

    def beyond(how):
        looks = [distorted(ball(), how, 4.0, np.random.default_rng(seed)) for seed in range(40)]
        return np.mean([(look[:, :3].abs() > 0.01).any().item() for look in looks])

    assert beyond("light") == 0
    assert 0.1 < beyond("heavy") < 0.9
