"""Kinetics weights: torchvision's own state dicts, from its cache or a file."""

import pytest
import torch
from torchvision.models.video import MC3_18_Weights

from gliolens.encoders.kinetics import kinetics_identity, kinetics_network
from gliolens.errors import ConfigError, ModelError
from gliolens.nn.video import MAKERS


def films(kind):
    """A state dict of torchvision's own network, of which no tensor is as a fresh network's."""
    torch.manual_seed(0)
    state = MAKERS[kind](weights=None).state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else v + 1 for k, v in state.items()}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_file_of_torchvisions_own_network_is_read(tmp_path, kind):
    state, file = films(kind), tmp_path / "weights.pth"
    torch.save(state, file)
    net = kinetics_network(kind, str(file), offline=True)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert len(kinetics_identity(kind, str(file))) == 64


def test_torchvisions_weights_are_read_from_its_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    state = films("mc3")
    (tmp_path / "checkpoints").mkdir()
    name = MC3_18_Weights.KINETICS400_V1.url.rpartition("/")[2]
    torch.save(state, tmp_path / "checkpoints" / name)
    net = kinetics_network("mc3", "kinetics", offline=True)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert kinetics_identity("mc3", "kinetics") == name


def test_what_is_not_at_hand_or_of_another_network_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"R3D_18.*on a machine that can"):
        kinetics_network("r3d", "kinetics", offline=True)
    torch.save(MAKERS["mc3"](weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ModelError, match="do not fit"):
        kinetics_network("r3d", str(tmp_path / "other.pth"), offline=True)
