"""Swin UNETR opened up: MONAI's own network is the oracle."""

import pytest
import torch
from monai.networks.nets import SwinUNETR

from gliolens.nn.swin import SwinBackbone


def small(**settings):
    torch.manual_seed(0)
    return SwinBackbone(4, 3, feature_size=12, window=4, **settings)


def test_the_published_network_has_its_parameters_and_stages():
    """62.19 M parameters; 48, 96, 192, 384 and 768 channels at 48 to 3 voxels an edge (arXiv 2503.06828)."""
    net = SwinBackbone(4, 4).eval()
    assert sum(p.numel() for p in net.parameters()) == 62_191_990
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits, stages = net(torch.zeros(1, 4, 96, 96, 96))
    assert logits.shape == (1, 4, 96, 96, 96)
    assert [tuple(s.shape[1:]) for s in stages] == [
        (48, 48, 48, 48), (96, 24, 24, 24), (192, 12, 12, 12), (384, 6, 6, 6), (768, 3, 3, 3)
    ]  # fmt: skip


def test_logits_and_stages_are_those_of_monai():
    net = small().eval()
    monai = SwinUNETR(4, 3, feature_size=12, window_size=4).eval()
    monai.load_state_dict(net.net.state_dict())
    image = torch.randn(1, 4, 64, 64, 64)
    with torch.no_grad():
        logits, stages = net(image)
        torch.testing.assert_close(logits, monai(image), atol=1e-3, rtol=1e-4)
        for mine, theirs in zip(stages, monai.swinViT(image, True), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-4)


def test_weights_of_before_1_5_are_merged_otherwise():
    now, before = small().eval(), small(merging="before-1.5").eval()
    before.load_state_dict(now.state_dict())  # the shapes do not tell the two apart
    image = torch.randn(1, 4, 64, 64, 64)
    with torch.no_grad():
        assert (now(image)[0] - before(image)[0]).abs().max() > 1e-3
        torch.testing.assert_close(
            now(image)[1][0], before(image)[1][0]
        )  # nothing is merged before the first stage


def test_a_lean_network_has_the_same_gradients():
    plain, lean = small(), small(lean=True)
    lean.load_state_dict(plain.state_dict())
    image = torch.randn(1, 4, 64, 64, 64)
    for net in (plain, lean):
        net(image)[0].square().mean().backward()
    theirs = dict(lean.named_parameters())
    for name, p in plain.named_parameters():
        torch.testing.assert_close(p.grad, theirs[name].grad, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize("lean", [False, True])
def test_gradients_are_finite_in_bfloat16_though_the_deepest_map_has_two_voxels_an_edge(lean):
    """oneDNN's are not, on processors with AMX: the smallest maps are computed in 32 bits."""
    net = small(lean=lean)
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(torch.randn(2, 4, 64, 64, 64))[0].float().square().mean()
    loss.backward()
    assert [name for name, p in net.named_parameters() if not p.grad.isfinite().all()] == []
