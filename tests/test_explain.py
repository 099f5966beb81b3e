"""Maps must show where a network looks: tested on networks of which that is known."""

import numpy as np
import pytest
import torch
from torch import nn

from gliolens.explain import (
    OneInput,
    _log_odds,
    gradcam,
    likeness,
    occlusion,
    share_of_most,
    shuffled,
    stacked,
)
from gliolens.ops.intensity import share_inside


class Halves(nn.Module):
    """One channel sees the upper left quarter, the other the lower right."""

    def forward(self, image):
        seen = nn.functional.avg_pool2d(image, 4).mean(1)
        n = seen.shape[-1] // 2
        upper, lower = torch.zeros_like(seen), torch.zeros_like(seen)
        upper[:, :n, :n], lower[:, n:, n:] = seen[:, :n, :n], seen[:, n:, n:]
        return torch.stack([upper, lower], dim=1)


class Corner(nn.Module):
    """Says class 1 by what is bright in the upper left quarter, and class 0 by the lower right."""

    def __init__(self):
        super().__init__()
        self.layer = Halves()

    def forward(self, image):
        return self.layer(image).sum((2, 3)).flip(1)


def where_the_heat_is(class_index):
    torch.manual_seed(0)
    image = torch.rand(1, 2, 32, 32) * 0.1
    image[..., 4:12, 4:12] += 1
    image[..., 20:28, 20:28] += 1
    heat = gradcam(Corner().eval(), image.requires_grad_(), "layer", class_index)[0]
    return heat[4:12, 4:12].mean(), heat[20:28, 20:28].mean(), heat[4:12, 20:28].mean()


def test_heat_lies_where_the_network_looks_not_where_it_does_not():
    upper, lower, empty = where_the_heat_is(1)
    assert upper > 3 * empty
    upper, lower, empty = where_the_heat_is(0)
    assert lower > 3 * empty


def test_one_input_holds_the_others_fixed():
    class Sum(nn.Module):
        def forward(self, image, shape):
            return image.sum((1, 2, 3))[:, None] + shape

    image = torch.ones(3, 1, 2, 2)
    assert OneInput(Sum(), torch.tensor([[1.0, 2.0]]))(image).tolist() == [[5.0, 6.0]] * 3


def test_explaining_leaves_a_network_as_it_was():
    """MONAI sets the mode back to what the outermost module says."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(4, 2)).eval()  # fmt: skip
    before = {k: v.clone() for k, v in net.state_dict().items()}
    alone, image = OneInput(net), torch.rand(2, 1, 16, 16)
    occlusion(alone, image, np.ones((2, 16, 16), bool), 1, edge=4)
    gradcam(alone, image, "net.0", 1)
    assert not net.training
    assert not net[1].training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_shares_end_at_one_inside_and_at_zero_outside():
    maps = np.array([[[1.0, 9.0], [2.0, 4.0]]])
    where = np.array([[[True, False], [True, True]]])
    assert share_of_most(maps, where).tolist() == [[[0.25, 0.0], [0.5, 1.0]]]
    assert share_of_most(-maps.clip(0), where).max() == 0
    assert share_of_most(np.zeros((1, 2, 2)), where).tolist() == [[[0, 0], [0, 0]]]


def test_slices_return_to_their_places_with_gaps_left_at_zero():
    affines = np.stack([np.diag([2.0, 2.0, 5.0, 1.0])] * 3)
    affines[:, 2, 3] = (10.0, 15.0, 30.0)
    volume = stacked(np.ones((3, 4, 4)) * np.array([1, 2, 3])[:, None, None], affines)
    assert volume.voxels.shape == (4, 4, 5)
    assert volume.voxels[0, 0].tolist() == [1, 2, 0, 0, 3]
    assert (volume.affine @ [0, 0, 4, 1])[2] == 30.0


def test_a_volumes_map_keeps_its_place_planes_last():
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    heat = np.arange(24.0).reshape(1, 2, 3, 4)  # two planes of 3 x 4
    volume = stacked(heat, affine[None])
    assert volume.voxels.shape == (3, 4, 2)
    assert volume.voxels[2, 1, 1] == heat[0, 1, 2, 1]


class Patch(nn.Module):
    """Probability of class 1 rises with the brightness of one patch, and of nothing else."""

    def forward(self, image):
        told = image[:, :, 8:12, 20:24].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(told), 4 * told], dim=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_falls_is_where_the_network_looks(channels):
    image = torch.ones(2, channels, 32, 32)
    image[1] = 0.0
    where = np.ones((2, 32, 32), bool)
    falls = occlusion(Patch().eval(), image, where, 1, edge=4)
    # 4 where a square blanks all of it, 2 half, 1 a quarter: four squares cover each pixel
    assert falls[0, 8:12, 20:24] == pytest.approx((4 + 2 + 2 + 1) / 4, abs=1e-5)
    far = np.ones((32, 32), bool)
    far[4:16, 16:28] = False
    assert np.abs(falls[0][far]).max() < 1e-6
    assert np.abs(falls[1]).max() < 1e-6  # what is blank cannot fall
    against = occlusion(Patch().eval(), image, where, 0, edge=4)
    assert np.allclose(against, -falls, atol=1e-6)


def test_what_falls_does_not_saturate():
    """Of a class that is all but certain, too: probabilities alone would hide it."""

    class Sure(Patch):
        def forward(self, image):
            return super().forward(image) * 10

    image, where = torch.ones(1, 1, 32, 32), np.ones((1, 32, 32), bool)
    sure, plain = (occlusion(net.eval(), image, where, 1, edge=4) for net in (Sure(), Patch()))
    assert np.allclose(sure, 10 * plain, atol=1e-4)


def test_log_odds_are_those_of_each_class_against_the_others():
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    p = torch.softmax(logits, dim=1)
    assert torch.allclose(_log_odds(logits), torch.log(p / (1 - p)), atol=1e-5)


def test_what_falls_is_asked_only_where_something_is_shown():
    image = torch.ones(2, 1, 32, 32)
    where = np.zeros((2, 32, 32), bool)
    where[0, 6:9, 19:22] = True
    falls = occlusion(Patch().eval(), image, where, 1, edge=8)
    assert falls[1].max() == 0
    box = falls[0] != 0
    assert box.any()
    box[2:16, 14:30] = False
    assert not box.any()
    corner = np.zeros((2, 32, 32), bool)
    corner[0, 31, 31] = corner[0, 0, 31] = True  # a square must still fit
    assert occlusion(Patch().eval(), image, corner, 1, edge=8).shape == (2, 32, 32)


def test_shuffled_weights_hold_the_same_numbers_elsewhere():
    net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    other = shuffled(net, 0)
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine.flatten().sort().values, theirs.flatten().sort().values)
    assert not torch.equal(net[0].weight, other[0].weight)
    assert torch.equal(shuffled(net, 0)[0].weight, other[0].weight)


def test_likeness_is_of_ranks_within_a_place():
    a = np.array([1.0, 2.0, 3.0, 100.0])
    where = np.array([True, True, True, False])
    assert likeness(a, a**3, where) == 1
    assert likeness(a, -a, where) == -1
    assert np.isnan(likeness(a, np.ones(4), where))


def test_shuffling_the_weights_destroys_the_map_of_a_network_that_has_learnt():
    """It has learnt to find the brighter of two squares; what it looks at is gone with its weights."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU(),
                        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 2))  # fmt: skip
    dice = torch.Generator().manual_seed(1)
    image = torch.rand(64, 1, 32, 32, generator=dice)
    truth = torch.arange(64) % 2
    image[truth == 1, :, 10:16, 18:24] += 1.0
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(image), truth).backward()
        optimiser.step()
    square = np.zeros((8, 32, 32), bool)
    square[:, 9:17, 17:25] = True
    shown = image[truth == 1][:8].clone()
    learnt = share_inside(gradcam(net.eval(), shown.clone(), "3", 1), square)
    lost = [share_inside(gradcam(shuffled(net, s).eval(), shown.clone(), "3", 1), square) for s in range(5)]
    assert learnt > 0.5
    assert np.nanmax([*lost, 0.0]) < learnt / 2
