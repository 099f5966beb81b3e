"""A whole case, by one cube or by windows: the same voxels, told in the same place."""

import numpy as np
import pytest
import torch
from torch import nn

from gliolens.case import Grid
from gliolens.cube import stored_grid
from gliolens.nn.multitask import MultiTaskNet, Told
from gliolens.whole_case import cut_off, look


class Bright(MultiTaskNet):
    """Tells tumour where the first series is bright, and how bright the cube is; remembers what it saw."""

    def __init__(self):
        nn.Module.__init__(self)
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def backbone(self, image):
        self.seen.append(image)
        tumour = 20 * (image[:, :1] - 0.5)
        return torch.cat([-tumour, tumour], dim=1), []

    def forward(self, image, there):
        tissues, _ = self.backbone(image)
        answer = torch.stack([image[:, 0].sum(dim=(1, 2, 3)), torch.zeros(len(image))], dim=1)
        half = image[:, :1, ::2, ::2, ::2]
        return Told(tissues, {"idh": answer}, half, half, {"idh": {}})


def ready(size, where):
    image = np.zeros((2, *size), np.float16)
    image[1] = 0.1
    image[0][where] = 1
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 5, -7, 11
    own = np.diag([1.0, 1.0, 4.0, 1.0])  # the case's grid: other voxels, and beyond the box on every side
    own[:3, 3] = affine[:3, 3] - (20.5, 12.5, 7)
    grid = Grid((2 * size[0] + 60, 2 * size[1] + 30, size[2]), own)
    return {"image": image, "there": np.array([True, True]), "affine": affine, "grid": stored_grid(grid)}


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


def test_what_was_cut_off_is_known_whatever_the_voxels():
    box = Grid((10, 20, 30), np.diag([2.0, 2.0, 2.0, 1.0]))
    own = np.diag([1.0, 4.0, 2.0, 1.0])
    own[:3, 3] = -6.5, 1.0, -2.0  # 3 voxels of 2 mm before the first; none; 1
    grid = Grid((26, 12, 40), own)
    assert cut_off(box, grid).tolist() == [[3, 0], [0, 4], [1, 9]]
    assert cut_off(box, box).tolist() == [[0, 0]] * 3
    beyond = cut_off(grid, box)  # of a box on the other's grid, voxels of 1, 4 and 2 mm
    assert beyond.tolist() == [[-6, 0], [0, -2], [-1, -9]]


def test_windows_lie_as_they_would_over_the_whole_image():
    """The first begins where the image does, beyond the box."""
    made = ready((100, 70, 40), PLACE)
    net = Bright()
    look(net, made, 64, 0.5)
    before = cut_off(Grid((100, 70, 40), made["affine"]), Grid((260, 170, 40), made["grid"][:4]))
    assert before.tolist() == [[10, 20], [6, 9], [4, 36]]
    first = net.seen[0][0]
    assert not first[:, :10].any()
    assert not first[:, :, :6].any()
    assert not first[..., :4].any()
    assert torch.equal(
        first[0, 10:, 6:, 4:44], torch.from_numpy(made["image"][0, :54, :58, :40].astype(np.float32))
    )
