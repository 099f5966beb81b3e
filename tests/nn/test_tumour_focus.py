"""TAFE: means over space, and where they are taken."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.nn.tumour_focus import TumourFocus, tumour_weights


def stages(size=12, edge=32, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(2, size * 2**s, *[edge >> (s + 1)] * 3) for s in range(5)]


def test_as_the_public_code_it_is_the_mean_of_the_deepest_stage():
    focus, seen = TumourFocus("deepest", 12), stages()
    vector, weights = focus(seen, torch.rand(2, 1, 32, 32, 32))
    torch.testing.assert_close(vector, seen[4].mean(dim=(2, 3, 4)))
    assert vector.shape == (2, focus.dim) == (2, 192)
    assert weights.sum().item() == pytest.approx(2)


@pytest.mark.parametrize(("scope", "numbers"), [("deepest", 768), ("tumour", 48 + 96 + 192 + 384 + 768)])
def test_numbers_at_the_published_feature_size(scope, numbers):
    focus = TumourFocus(scope, 48)
    assert focus.dim == numbers
    assert sum(p.numel() for p in focus.parameters()) == 0


def test_a_small_tumour_is_not_drowned():
    """One voxel in 32,768: the finest stage's features are those of its place, to within a twentieth."""
    seen, tumour = stages(), torch.zeros(2, 1, 32, 32, 32)
    tumour[:, :, 8, 8, 8] = 1
    vector, _ = TumourFocus("tumour", 12)(seen, tumour)
    torch.testing.assert_close(vector[:, :12], seen[0][:, :, 4, 4, 4], atol=0.1, rtol=0.05)


def test_features_come_from_where_the_tumour_is():
    """One corner is tumour; what the stages hold elsewhere does not matter."""
    seen, tumour = stages(), torch.zeros(2, 1, 32, 32, 32)
    tumour[:, :, :16, :16, :16] = 1
    vector, weights = TumourFocus("tumour", 12)(seen, tumour)
    inside = [s[:, :, : s.shape[2] // 2, : s.shape[3] // 2, : s.shape[4] // 2] for s in seen[:4]]
    expected = torch.cat([s.mean(dim=(2, 3, 4)) for s in inside], dim=1)
    torch.testing.assert_close(vector[:, : expected.shape[1]], expected, atol=0.01, rtol=0)
    assert weights[:, :, :8, :8, :8].sum() > 0.99 * weights.sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_of_an_even_stage_the_mean_is_its_value_wherever_the_tumour_is(seed, share):
    torch.manual_seed(seed)
    tumour = (torch.rand(1, 1, 16, 16, 16) < share).float()
    weights = tumour_weights(tumour, torch.zeros(1, 3, 8, 8, 8))
    assert weights.shape == (1, 1, 8, 8, 8)
    assert weights.min() > 0
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)


def test_nothing_is_learnt_of_the_outline_from_the_tasks():
    tumour = torch.rand(2, 1, 32, 32, 32, requires_grad=True)
    seen = [s.requires_grad_() for s in stages()]
    TumourFocus("tumour", 12)(seen, tumour)[0].sum().backward()
    assert tumour.grad is None
    assert all(s.grad.abs().sum() > 0 for s in seen)
