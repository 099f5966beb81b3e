"""Maps must show where a network looks: tested on networks of which that is known."""

import numpy as np
import torch
from torch import nn

from gliolens.explain import OneInput, gradcam, share_of_most, stacked


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
