"""The network that names slices: what a mask makes of them, what it sees, and its loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from gliolens.nn.resnet import slice_resnet
from gliolens.slice_namer import SliceNamer, Slices, named_by_mask, slice_tissues, soft_dice


def namer(sees, channels):
    torch.manual_seed(0)
    return SliceNamer(slice_resnet(channels, 4, 18).eval(), sees)


def test_a_slice_bears_the_name_of_its_largest_tissue_of_the_least_size():
    labels = np.zeros((8, 8, 5), np.uint8)
    labels[:2, :3, 1] = 2  # 6 pixels of oedema
    labels[3, :5, 1] = 3  # 5 of enhancing tumour
    labels[:1, :4, 2] = 1  # 4 of necrosis
    labels[:5, :2, 3] = 3  # 10
    assert named_by_mask(labels, 4, least_pixels=5).tolist() == [0, 2, 0, 3, 0]
    assert named_by_mask(labels, 4, least_pixels=1).tolist() == [0, 2, 1, 3, 0]
    assert named_by_mask(np.minimum(labels, 1), 2, least_pixels=5).tolist() == [0, 1, 0, 1, 0]


def test_it_sees_tumour_probabilities_or_scans_where_there_is_tumour():
    rng = np.random.default_rng(0)
    image = rng.random((2, 8, 8, 5)).astype(np.float32)
    fused = rng.dirichlet(np.ones(4), (8, 8, 5)).transpose(3, 0, 1, 2).astype(np.float32)
    seen = namer("probabilities", 3).sees_of(image, fused)
    assert seen.shape == (5, 3, 8, 8)
    assert (seen[2, 1].numpy() == fused[2, :, :, 2]).all()
    masked = namer("masked", 2).sees_of(image, fused)
    assert masked[4, 1].numpy() == pytest.approx(image[1, :, :, 4] * (1 - fused[0, :, :, 4]))


def test_slices_without_brain_hold_no_tumour_for_sure():
    image = np.random.default_rng(1).random((2, 32, 32, 4)).astype(np.float32)
    image[..., 0] = 0
    fused = np.full((4, 32, 32, 4), 0.25, np.float32)
    told = slice_tissues(namer("probabilities", 3), image, fused)
    assert told.shape == (4, 4)
    assert told[0].tolist() == [1, 0, 0, 0]
    assert told.sum(axis=1) == pytest.approx(1)
    assert (told[1:] < 1).all()


@given(st.integers(0, 2**32 - 1))
def test_soft_dice_is_least_for_the_truth_and_falls_with_its_probability(seed):
    rng = np.random.default_rng(seed)
    truth = torch.from_numpy(rng.integers(0, 4, 12))
    right = F.one_hot(truth, 4).float()
    losses = [float(soft_dice(scale * right, truth)) for scale in (0.0, 1.0, 3.0, 30.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(0, abs=1e-4)
    assert 0 < losses[0] < 1


def test_soft_dice_weighs_classes_alike_however_rare():
    """One slice of a rare class answered wrongly costs as much as half of a common one."""
    truth = torch.tensor([0] * 9 + [1])
    wrong_on_rare = 30.0 * F.one_hot(torch.zeros(10, dtype=torch.long), 2).float()
    # class 0: 2 * 9 / (10 + 9), class 1: 0
    assert float(soft_dice(wrong_on_rare, truth)) == pytest.approx(1 - (18 / 19) / 2, abs=1e-3)


def test_draws_repeat_for_the_same_number_only():
    seen = [np.random.default_rng(i).random((20, 3, 8, 8)).astype(np.float16) for i in range(3)]
    truth = [np.arange(20) % 4 for _ in range(3)]
    slices = Slices(seen, truth, count=6, flip=True, seed=0)
    first, again, other = (slices[n] for n in (1, 1, 4))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert first[1].shape == (6,)
