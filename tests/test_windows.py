"""Windows over an image: they cover it, few as they are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference

from gliolens.windows import filled_up, over_windows, placed, starts, windows


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(8, 96), st.floats(0, 0.9))
def test_windows_cover_an_axis_and_overlap_enough(size, edge, overlap):
    first = starts(size, edge, overlap)
    if size <= edge:
        assert first == [0]
        return
    assert first[0] == 0
    assert first[-1] == size - edge
    steps = np.diff(first)
    assert (steps > 0).all()
    assert steps.max() <= max(1, edge * (1 - overlap))
    interval = (max(1, int(edge * (1 - overlap))),)
    theirs = dense_patch_slices((size,), (edge,), interval)
    assert first == [where.start for (where,) in theirs]


def test_fewer_windows_than_the_tutorials_way():
    """A head of 240 x 240 x 155: 48 windows of 96 at an overlap of .5, a third of them with hardly any brain."""
    tutorial = [len(range(0, n - 96, 48)) + 1 for n in (240, 240, 155)]
    assert np.prod(tutorial) == 48
    x, y, z = np.ogrid[:240, :240, :155]
    brain = ((x - 120) / 70) ** 2 + ((y - 120) / 87) ** 2 + ((z - 70) / 70) ** 2 < 1
    few = windows(brain, 96, 0.5, 0.25)
    assert len(few) == 32
    for d, h, w in few:
        brain[d, h, w] = False
    assert not brain.any()  # every voxel was in one


def test_a_window_of_little_brain_is_kept_where_no_other_holds_it():
    brain = np.zeros((64, 16, 16), bool)
    brain[:30], brain[62, 3, 3] = True, True
    assert [w[0].start for w in windows(brain, 16, 0.0, 0.5)] == [0, 16, 48]
    assert [w[0].start for w in windows(brain, 16, 0.0)] == [0, 16, 48]
    brain[30:33] = True
    assert [w[0].start for w in windows(brain, 16, 0.0, 0.5)] == [0, 16, 32, 48]
    assert [w[0].start for w in windows(brain[:48], 16, 0.5, 0.5)] == [0, 8, 16, 24]


def test_a_window_without_brain_is_not_looked_at():
    brain = np.zeros((64, 64, 16), bool)
    brain[:20, :20] = True
    seen = []
    told = over_windows(lambda x: seen.append(1) or x[0], torch.ones(1, 64, 64, 16), brain, 16, 0.25)
    assert len(seen) == 4
    assert (told[0, :20, :20] == 1).all()
    assert not told[0, 40:, 40:].any()


def test_of_a_network_of_single_voxels_windows_tell_what_one_look_would():
    image = torch.randn(2, 50, 37, 20)
    told = over_windows(lambda x: x[0].square(), image, np.ones((50, 37, 20), bool), 32, 0.25)
    torch.testing.assert_close(told, image.square())


def test_where_windows_agree_in_place_the_answer_is_monais():
    torch.manual_seed(0)
    net = torch.nn.Conv3d(1, 2, 5, padding=2).eval()
    image = torch.randn(1, 48, 48, 32)
    with torch.no_grad():
        mine = over_windows(lambda x: net(x)[0], image, np.ones(image.shape[1:], bool), 32, 0.5)
        theirs = sliding_window_inference(image[None], 32, 1, net, overlap=0.5, mode="constant")[0]
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


def test_an_image_without_brain_is_an_error():
    with pytest.raises(ValueError, match="no window"):
        over_windows(lambda x: x[0], torch.ones(1, 16, 16, 16), np.zeros((16, 16, 16), bool), 16, 0.0)


def test_a_small_image_lies_in_the_middle():
    image = torch.randn(3, 10, 40, 7)
    whole = filled_up(image, 32)
    assert whole.shape == (3, 32, 40, 32)
    assert torch.equal(whole[(slice(None), *placed(image.shape[1:], 32))], image)
    assert (whole != 0).sum() == (image != 0).sum()
