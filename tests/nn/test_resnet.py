"""ResNets joined with shape: the gate, volumes, and what pictures of colour taught."""

import pytest
import torch
from torchvision.models import resnet18

from gliolens.nn.resnet import ShapeResNet, slice_resnet, take_over, volume_resnet


def drawn(join="fixed", dims=2, shapes=14):
    torch.manual_seed(0)
    net = ShapeResNet(2, 2, shapes=shapes, depth=18, dims=dims, join=join).eval()
    size = (48, 48) if dims == 2 else (24, 32, 32)
    return net, torch.randn(3, 2, *size), torch.randn(3, shapes)


def test_the_gate_begins_as_the_fixed_network():
    gated, image, shape = drawn("gated")
    fixed = ShapeResNet(2, 2, depth=18).eval()
    fixed.load_state_dict({k: v for k, v in gated.state_dict().items() if not k.startswith("gate.")})
    assert torch.allclose(gated(image, shape), fixed(image, shape), atol=1e-6)
    assert torch.allclose(gated.share_of_shape(image, shape), torch.full((3,), 0.5))


@pytest.mark.parametrize(("bias", "kept"), [(30.0, "shape"), (-30.0, "image")])
def test_a_gate_to_one_side_lets_only_that_side_through(bias, kept):
    net, image, shape = drawn("gated")
    torch.nn.init.constant_(net.gate.bias, bias)
    before = net(image, shape)
    changed = net(torch.randn_like(image), shape) if kept == "shape" else net(image, torch.randn_like(shape))
    assert torch.allclose(before, changed, atol=1e-5)
    other = net(image, torch.randn_like(shape)) if kept == "shape" else net(torch.randn_like(image), shape)
    assert not torch.allclose(before, other, atol=1e-3)
    assert net.share_of_shape(image, shape).round().unique().tolist() == [float(kept == "shape")]


def test_the_gate_learns_which_side_tells_the_class():
    """The class stands in the shape alone, and then in the image alone."""
    found = {}
    for side in ("shape", "image"):
        net, _, _ = drawn("gated")
        towards = (net.head.weight[1] - net.head.weight[0]).detach()
        optimiser = torch.optim.Adam(net.gate.parameters(), 0.05)
        dice = torch.Generator().manual_seed(1)
        for _ in range(60):
            truth = torch.randint(0, 2, (16,), generator=dice)
            seen, shape = torch.randn(16, 14, generator=dice), torch.randn(16, 14, generator=dice)
            told = torch.where(truth > 0, 1.0, -1.0)[:, None] * towards
            seen, shape = (seen, 8 * told[:, 14:]) if side == "shape" else (8 * told[:, :14], shape)
            share = net._share(seen, shape)
            logits = net.head(torch.cat([2 * (1 - share) * seen, 2 * share * shape], 1))
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, truth).backward()
            optimiser.step()
        found[side] = net._share(seen, shape).mean().item()
    assert found["shape"] > 0.7 > 0.3 > found["image"]


def test_without_shape_the_image_stands_alone():
    net, image, shape = drawn("none")
    assert torch.equal(net(image, shape), net(image, torch.randn_like(shape)))
    assert net.head.in_features == 14


def test_the_volume_network_is_monais_with_a_channel_for_each_series():
    net, image, shape = drawn(dims=3)
    assert net(image, shape).shape == (3, 2)
    with torch.device("meta"):
        count = sum(p.numel() for p in volume_resnet(4, 2, 50).parameters())
    assert count == 46_228_866


def test_the_deepest_map_has_six_cells():
    for dims, edge, name in ((2, 160, "layer3"), (2, 192, "layer4"), (2, 96, "layer3"), (2, 48, "layer2"),
                             (2, 32, "layer1"), (3, 128, "layer4"), (3, 36, "layer2")):  # fmt: skip
        net, _, _ = drawn(dims=dims)
        assert net.deepest(edge) == name
    net, image, shape = drawn(dims=3)
    seen = {}
    for layer in ("layer1", "layer4"):
        getattr(net.backbone, layer).register_forward_hook(
            lambda _, __, out, layer=layer: seen.update({layer: out.shape[-1]})
        )
    net(image, shape)
    assert seen == {"layer1": 16, "layer4": 2}  # MONAI's stem halves once: 32 / 2 and 32 / 16


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_pictures_taught_is_taken_over_and_grey_stays_grey(channels):
    torch.manual_seed(0)
    pretrained = resnet18(weights=None).eval()
    net = slice_resnet(channels, 14, 18).eval()
    last = net.fc.weight.clone()
    take_over(net, pretrained)
    assert torch.equal(net.fc.weight, last)
    grey = torch.randn(2, 1, 64, 64)
    net.fc = pretrained.fc = torch.nn.Identity()
    assert torch.allclose(
        net(grey.expand(-1, channels, -1, -1)), pretrained(grey.expand(-1, 3, -1, -1)), atol=1e-4
    )
