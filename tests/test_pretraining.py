"""Networks that know simulated tumours: what they are asked, and that they learn it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.io.tables import read_cohort
from gliolens.loader import read_case
from gliolens.nn.video import VideoNet
from gliolens.pretraining import Outliner, shares_loss, tissues_in

VOXELS = (34, 40, 34)


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_the_loss_is_least_where_the_shares_are_told(seed):
    """There it is their entropy, and anything else told costs more (Gibbs)."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), size=(1, 2, 2, 2)).transpose(0, 4, 1, 2, 3)
    tissues = torch.from_numpy(p[:, 1:].repeat(3, 2).repeat(3, 3).repeat(3, 4)).float()
    told = torch.from_numpy(np.log(p)).float()
    entropy = -(p * np.log(p)).sum(axis=1).mean()
    assert shares_loss(told, tissues).item() == pytest.approx(entropy, rel=1e-3)
    other = told + 0.5 * torch.from_numpy(rng.normal(size=p.shape)).float()
    assert shares_loss(other, tissues).item() > entropy


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    return read_case(read_cohort(write_phantom(folder, 1, seed=3, config=PhantomConfig(spacing_mm=5.0)))[0])


def test_shares_of_tissues_hold_the_tumour(patient):
    made = tissues_in(patient, VOXELS, 5.0)["tissues"].astype(float)
    assert made.shape == (3, *VOXELS)
    for k in (1, 2, 3):
        assert made[k - 1].sum() * 0.125 == pytest.approx(
            (patient.tumour == k).sum() * patient.grid.voxel_ml, rel=0.02, abs=0.1
        )


def test_it_learns_where_a_tumour_is(patient):
    tissues = torch.from_numpy(tissues_in(patient, VOXELS, 5.0)["tissues"].astype(np.float32)).movedim(3, 1)[
        None
    ]
    images = torch.stack([tissues[0, k] + 0.1 * torch.randn(tissues.shape[2:]) for k in range(3)])[None]
    torch.manual_seed(0)
    task = Outliner(VideoNet(3, 1, kind="r3d", dropout=0.0), 12)
    optimiser = torch.optim.Adam(task.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = task.training_step([images, tissues], 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(p.grad is None for p in task.net.net.fc.parameters())
