"""A whole case, by one cube or by windows: the same voxels, told in the same place."""

import numpy as np
import pytest
import torch
from torch import nn

from gliolens.nn.multitask import Told
from gliolens.whole_case import look


class Bright(nn.Module):
    """Tells tumour where the first series is bright, and how bright the cube is; remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, image, there):
        self.seen.append(image)
        tumour = 20 * (image[:, :1] - 0.5)
        answer = torch.stack([image[:, 0].sum(dim=(1, 2, 3)), torch.zeros(len(image))], dim=1)
        half = image[:, :1, ::2, ::2, ::2]
        return Told(torch.cat([-tumour, tumour], dim=1), {"idh": answer}, half, half, {"idh": {}})


def ready(size, where):
    image = np.zeros((2, *size), np.float16)
    image[1] = 0.1
    image[0][where] = 1
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 5, -7, 11
    return {"image": image, "there": np.array([True, True]), "affine": affine}


SIZES = {"one cube": (40, 50, 30), "windows": (100, 70, 40)}
PLACE = (slice(24, 34), slice(30, 40), slice(10, 20))


@pytest.mark.parametrize("kind", SIZES)
def test_tissues_and_maps_lie_where_they_are(kind):
    net, made = Bright(), ready(SIZES[kind], PLACE)
    seen = look(net, made, 64, 0.25)
    assert (len(net.seen) == 1) == (kind == "one cube")
    assert seen.tissues.shape == (2, *SIZES[kind])
    assert np.array_equal(seen.tissues[1] > 0.5, made["image"][0] > 0)
    assert seen.told.answers["idh"][0, 0].item() == pytest.approx(1000)  # the whole tumour lies in the cube
    values, affine = seen.map_of(seen.told.weights, blocks=False)
    told = (affine @ np.vstack([np.argwhere(values > 0.5).T, np.ones((values > 0.5).sum())]))[:3]
    true = (made["affine"] @ np.vstack([np.argwhere(made["image"][0] > 0).T, np.ones(1000)]))[:3]
    assert np.allclose(told.min(axis=1), true.min(axis=1), atol=2.01)
    assert np.allclose(told.max(axis=1), true.max(axis=1), atol=2.01)
    corner = np.linalg.inv(made["affine"]) @ affine @ [0, 0, 0, 1]
    assert np.allclose(corner % 1, 0)


@pytest.mark.parametrize("places", [32, 16, 4, 2])
def test_a_map_of_blocks_fills_the_cube(places):
    """Whatever stage it is of: its places' blocks lie side by side and end where the cube does."""
    seen = look(Bright(), ready((40, 50, 30), PLACE), 64, 0.25)
    values, affine = seen.map_of(torch.zeros(1, 1, places, places, places), blocks=True)
    to_cube = np.linalg.inv(seen.cube.affine) @ affine
    edge = 64 / places
    first, last = (to_cube @ [i, i, i, 1] for i in (0, places - 1))
    assert np.allclose(first[:3] - edge / 2, -0.5)
    assert np.allclose(last[:3] + edge / 2, 63.5)
    assert values.shape == (places,) * 3


def test_a_speck_and_what_no_window_saw_do_not_move_the_cube():
    """A corner of the box without brain, and a false voxel at the other end."""
    made = ready((130, 70, 70), PLACE)
    made["image"][:, 64:, :, :] = 0
    made["image"][0, 129, 69, 69] = 1
    seen = look(Bright(), made, 64, 0.0)
    middle = np.linalg.inv(made["affine"]) @ seen.cube.affine @ [32, 32, 32, 1]
    assert seen.told.answers["idh"][0, 0].item() == pytest.approx(1000)
    assert middle[0] < 64


def test_without_a_tumour_the_cube_lies_in_the_middle():
    made = ready((128, 70, 40), (slice(0, 0),) * 3)
    seen = look(Bright(), made, 64, 0.25)
    middle = np.linalg.inv(made["affine"]) @ seen.cube.affine @ [32, 32, 32, 1]
    assert np.allclose(middle[:3], (64, 35, 20), atol=1)
