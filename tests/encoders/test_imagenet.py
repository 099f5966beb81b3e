"""torchvision's weights of ResNets: from its cache, from a file, and what is said where they are not there."""

import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights, resnet18, resnet50

from gliolens.encoders.imagenet import imagenet_identity, imagenet_resnet
from gliolens.errors import ConfigError, ModelError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def same(net, state):
    return all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_torchvisions_weights_are_read_from_its_cache(hub):
    """The file torchvision would keep, by its name, made by the real network."""
    state = resnet50(weights=None).state_dict()
    hub.mkdir(parents=True)
    torch.save(state, hub / ResNet50_Weights.IMAGENET1K_V2.url.rpartition("/")[2])
    assert same(imagenet_resnet(50, "imagenet", offline=True), state)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_is_read(tmp_path, ending):
    state = resnet18(weights=None).state_dict()
    file = tmp_path / f"weights.{ending}"
    (save_file if ending == "safetensors" else torch.save)(state, file)
    assert same(imagenet_resnet(18, str(file), offline=True), state)
    assert len(imagenet_identity(18, str(file))) == 64


def test_offline_nothing_is_fetched_and_it_says_what_to_do(hub, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("a connection"))
    with pytest.raises(ConfigError, match="on a machine that can, and name the file"):
        imagenet_resnet(50, "imagenet", offline=True)


def test_what_cannot_be_fetched_is_said(hub, monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(ConfigError, match="could not be fetched"):
        imagenet_resnet(18, "imagenet", offline=False)


def test_weights_that_are_fetched_are_kept_by_torchvision(hub, monkeypatch):
    state = resnet18(weights=None).state_dict()
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, to, *a, **k: torch.save(state, to))
    assert same(imagenet_resnet(18, "imagenet", offline=False), state)
    assert len(list(hub.iterdir())) == 1


def test_weights_of_another_network_are_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(resnet18(weights=None).state_dict(), file)
    with pytest.raises(ModelError, match="do not fit"):
        imagenet_resnet(50, str(file), offline=True)
    with pytest.raises(ConfigError, match="no such file"):
        imagenet_resnet(50, str(tmp_path / "none.pth"), offline=True)
