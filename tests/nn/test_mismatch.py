"""CMD: its equation, written out again, and its limits."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from gliolens.nn.mismatch import Mismatch


def images(seed=0):
    torch.manual_seed(seed)
    return (torch.randn(2, 1, 16, 16, 16) for _ in range(2))


def test_its_equation_at_the_published_widths():
    net, (t2, flair) = Mismatch(in_tumour=False), images()
    assert sum(p.numel() for p in net.parameters()) == 2 * (64 * 7**3 + 64) + 2 * 27 + 1 == 44_087
    tumour = torch.rand(2, 1, 16, 16, 16)
    vector, attention = net(t2, flair, tumour, torch.ones(2, dtype=torch.bool))
    gate = 0.1 + 0.9 * tumour
    a = F.conv3d(gate * t2, net.t2.weight, net.t2.bias, stride=2, padding=3)
    b = F.conv3d(gate * flair, net.flair.weight, net.flair.bias, stride=2, padding=3)
    d = 2 * a - 2 * b
    k = F.conv3d(
        torch.stack([d.max(dim=1)[0], d.mean(dim=1)], dim=1),
        net.attention.weight,
        net.attention.bias,
        padding=1,
    )
    expected = 1 / (1 + torch.exp(-k.clamp(min=0)))
    torch.testing.assert_close(attention, expected)
    torch.testing.assert_close(
        vector, torch.cat([a * (1 + expected), b * (1 + expected)], dim=1).mean(dim=(2, 3, 4))
    )
    assert vector.shape == (2, net.dim) == (2, 128)
    assert attention.min() >= 0.5
    assert attention.max() < 1


def test_where_a_series_is_missing_nothing_is_said_and_nothing_learnt():
    net, (t2, flair) = Mismatch(in_tumour=True), images()
    there = torch.tensor([True, False])
    vector, _ = net(t2, flair, torch.rand(2, 1, 16, 16, 16), there)
    assert vector[0].abs().sum() > 0
    assert not vector[1].any()
    vector[1].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())


def test_inside_the_tumour_what_lies_far_away_does_not_count():
    net = Mismatch(in_tumour=True)
    t2, flair = images()
    tumour = torch.zeros(2, 1, 16, 16, 16)
    tumour[:, :, :4, :4, :4] = 1
    other = t2.clone()
    other[:, :, 12:] += 5.0
    both = torch.ones(2, dtype=torch.bool)
    near, far = net(t2, flair, tumour, both)[0], net(other, flair, tumour, both)[0]
    torch.testing.assert_close(near, far, atol=0.05, rtol=0)
    even = Mismatch(in_tumour=False)
    even.load_state_dict(net.state_dict())
    assert (even(t2, flair, tumour, both)[0] - even(other, flair, tumour, both)[0]).abs().max() > 0.05


def test_an_attention_that_is_shut_everywhere_opens_again_only_without_the_relu():
    (t2, flair), both = images(), torch.ones(2, dtype=torch.bool)
    learns = {}
    for in_tumour in (True, False):
        net = Mismatch(in_tumour=in_tumour)
        torch.nn.init.constant_(net.attention.bias, -50.0)
        _, attention = net(0.1 * t2, 0.1 * flair, torch.ones(2, 1, 16, 16, 16), both)
        assert attention.max().item() == pytest.approx(net.least, abs=1e-6)
        torch.nn.init.constant_(net.attention.bias, -3.0)
        net(0.1 * t2, 0.1 * flair, torch.ones(2, 1, 16, 16, 16), both)[0].square().sum().backward()
        learns[in_tumour] = bool(net.attention.bias.grad.any())
    assert learns == {True: True, False: False}


@pytest.mark.parametrize("in_tumour", [True, False])
def test_the_outline_learns_nothing_from_the_comparison(in_tumour):
    t2, flair = images()
    tumour = torch.rand(2, 1, 16, 16, 16, requires_grad=True)
    Mismatch(in_tumour=in_tumour)(t2, flair, tumour, torch.ones(2, dtype=torch.bool))[0].sum().backward()
    assert tumour.grad is None
