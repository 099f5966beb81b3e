"""What the tumour is made of: known by counting, and blind to what is no tumour."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.labels import SERIES
from gliolens.nn.composition import FEW, Composition
from gliolens.nn.multitask import MultiTaskNet

EDGE = 8


def sure(labels, kinds):
    """Probability 1 of the tissue that is labelled; tissue 0 is no tumour."""
    return torch.from_numpy(np.stack([labels == t for t in range(1, kinds + 1)]))[None].float()


@given(seed=st.integers(0, 1000), kinds=st.integers(1, 3), channels=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_of_sure_tissues_it_counts_voxels_and_means(seed, kinds, channels):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, kinds + 1, (EDGE,) * 3)
    image = rng.normal(size=(channels, *labels.shape)).astype(np.float32)
    module = Composition(kinds, channels)
    vector = module(torch.from_numpy(image)[None], sure(labels, kinds))[0].numpy()
    assert len(vector) == module.dim == kinds * (2 + channels)
    counts = np.array([(labels == t).sum() for t in range(1, kinds + 1)])
    assert vector[:kinds] == pytest.approx(counts / (counts.sum() + FEW), rel=1e-4)
    assert vector[kinds : 2 * kinds] == pytest.approx(np.log10(1 + counts), rel=1e-4)
    means = [
        [image[c][labels == t].sum() / (n + FEW) for c in range(channels)] for t, n in enumerate(counts, 1)
    ]
    assert vector[2 * kinds :] == pytest.approx(np.ravel(means), abs=1e-4)


def test_it_is_blind_to_what_is_no_tumour_and_tells_nothing_of_a_tissue_that_is_not_there():
    labels = np.zeros((EDGE,) * 3, int)
    labels[:2] = 1
    image = torch.randn(1, 2, EDGE, EDGE, EDGE)
    other = image.clone()
    other[:, :, 2:] += 5
    module = Composition(2, 2)
    assert torch.equal(module(image, sure(labels, 2)), module(other, sure(labels, 2)))
    share, log_count, bright = module(image, sure(labels, 2))[0].split([2, 2, 4])
    assert share[1] == log_count[1] == 0
    assert not bright[2:].any()


def test_of_bfloat16_numbers_sums_over_many_voxels_stay_exact():
    image, kinds = (torch.randn(1, 4, 32, 32, 32) + 3).bfloat16(), torch.rand(1, 3, 32, 32, 32).bfloat16()
    module = Composition(3, 4)
    found = module(image, kinds)
    assert found.dtype == torch.float32
    assert torch.allclose(found, module(image.float(), kinds.float()), rtol=1e-5)


def test_no_gradient_goes_from_an_answer_through_it_to_the_outline():
    torch.manual_seed(0)
    net = MultiTaskNet(
        SERIES, 4, {"idh": 2}, feature_size=12, window=4, focus=None, mismatch=None, composition=True
    )
    told = net(torch.randn(1, 4, 64, 64, 64), torch.ones(1, 4, dtype=torch.bool))
    assert set(told.parts["idh"]) == {"composition"}
    told.answers["idh"][0, 1].backward()
    assert all(p.grad is None for p in net.backbone.parameters())
    assert any(p.grad is not None and p.grad.any() for p in net.heads.parameters())
