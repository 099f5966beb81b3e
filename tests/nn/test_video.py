"""Video networks on volumes: published sizes, statistics of one image, and what films taught."""

import pytest
import torch
from torch import nn

from gliolens.nn.video import COLOURS, MAKERS, VideoNet, take_over

KINDS = tuple(MAKERS)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("kind", "parameters"), [("r3d", 33_148_995), ("r2plus1d", 31_297_254), ("mc3", 11_472_963)]
)
def test_parameters_with_one_series_and_three_classes(kind, parameters):
    """Counted by hand in shared/methods.md; the retelling's counts (34,261,634 and so on) are of other networks."""
    assert count(VideoNet(1, 3, kind=kind)) == parameters
    assert count(VideoNet(1, 3, kind=kind, norm="group")) == parameters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_series_gives_a_logit_a_class(kind, channels):
    net = VideoNet(channels, 3, kind=kind).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, channels, 8, 40, 36)).shape == (2, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_an_image_is_told_the_same_alone_and_among_others_in_training_too(kind, norm):
    torch.manual_seed(0)
    net = VideoNet(1, 3, kind=kind, norm=norm, dropout=0.0).train()
    images = torch.randn(3, 1, 8, 40, 36)
    with torch.no_grad():
        alone, among = torch.cat([net(x[None]) for x in images]), net(images)
        assert torch.allclose(alone, among, atol=1e-3 * among.abs().max())
        assert torch.allclose(net.eval()(images), among, atol=1e-4 * among.abs().max())


def test_batch_statistics_of_one_image_are_not_those_of_many():
    """The published networks at batch 1: in training an image is told otherwise than in use."""
    torch.manual_seed(0)
    net = VideoNet(1, 3, kind="mc3", dropout=0.0).train()
    image = torch.randn(1, 1, 8, 40, 36) * 3
    with torch.no_grad():
        learning = net(image)
        assert not torch.allclose(net.eval()(image), learning, atol=0.05 * learning.abs().max())


def with_own_statistics(film):
    """A fresh network's means are 0 and its variances 1, as another's are: nothing would show that they were taken."""
    for layer in film.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_()
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return film


def first_of(module):
    """Weights of its first convolution."""
    return next(m.weight for m in module.modules() if isinstance(m, nn.Conv3d))


@pytest.mark.parametrize("kind", KINDS)
def test_by_its_own_statistics_an_image_is_told_in_use_what_it_was_in_training(kind):
    """As the authors' code, which never leaves training mode; and films are taken over but for their statistics."""
    torch.manual_seed(0)
    net = VideoNet(1, 3, kind=kind, norm="own", dropout=0.0).train()
    image = torch.randn(1, 1, 8, 40, 36) * 3
    with torch.no_grad():
        learning = net(image)
        assert torch.allclose(net.eval()(image), learning, atol=1e-4 * learning.abs().max())
    film = MAKERS[kind](weights=None)
    take_over(net, film, stem=True)
    assert torch.equal(first_of(net.net.layer1), first_of(film.layer1))
    assert not [k for k in net.state_dict() if "running" in k]


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_stem_and_head_come_from_films(kind):
    """The state dict is torchvision's own network's."""
    film, net = with_own_statistics(MAKERS[kind](weights=None)), VideoNet(2, 3, kind=kind)
    fresh = net.net.stem[0].weight.clone()
    assert not torch.equal(net.net.layer4[1].conv2[1].running_var, film.layer4[1].conv2[1].running_var)
    take_over(net, film, stem=False)
    theirs, mine = film.state_dict(), net.net.state_dict()
    same = {k for k in mine if k in theirs and torch.equal(mine[k], theirs[k])}
    assert set(mine) - same == {"stem.0.weight", "fc.1.weight", "fc.1.bias"}
    assert torch.equal(net.net.stem[0].weight, fresh)


@pytest.mark.parametrize("kind", KINDS)
def test_a_grey_film_gives_what_it_gave_before(kind):
    """After the first layer and its normalisation, away from the borders, where a film is filled up with other grey."""
    torch.manual_seed(0)
    film, net = MAKERS[kind](weights=None).eval(), VideoNet(2, 3, kind=kind, norm="frozen").eval()
    film.stem[1].running_mean.normal_(0, 0.1)
    film.stem[1].running_var.uniform_(0.5, 2)
    take_over(net, film, stem=True)
    grey = torch.rand(1, 1, 10, 40, 36)
    mean, sd = (torch.tensor(c)[None, :, None, None, None] for c in COLOURS)
    with torch.inference_mode():
        expected = nn.Sequential(*list(film.stem)[:3])((grey.expand(-1, 3, -1, -1, -1) - mean) / sd)[
            ..., 2:-2, 3:-3, 3:-3
        ]
        found = nn.Sequential(*list(net.net.stem)[:3])(grey.expand(-1, 2, -1, -1, -1))[..., 2:-2, 3:-3, 3:-3]
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())


def test_frozen_statistics_stay_in_training_without_being_told():
    net = VideoNet(1, 2, kind="mc3", norm="frozen")
    before = net.net.stem[1].running_mean.clone()
    net(torch.rand(2, 1, 8, 40, 36))
    assert torch.equal(net.net.stem[1].running_mean, before)


def test_group_normalisation_keeps_what_fits():
    film, net = MAKERS["mc3"](weights=None), VideoNet(1, 3, kind="mc3", norm="group")
    take_over(net, film, stem=True)
    assert torch.equal(net.net.layer1[0].conv1[0].weight, film.layer1[0].conv1[0].weight)
    assert not [m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]
