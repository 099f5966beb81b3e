"""timm's models: the vector is the one before the classifier, sizes are timm's, and a file fits or is refused."""

import socket
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from gliolens.encoders import timm_models
from gliolens.errors import ConfigError, ModelError

TINY = "test_vit.r160_in1k"  # 160x160 pixels, 64 numbers


def refuse(*_args, **_more):
    raise AssertionError("a connection was opened")


@pytest.fixture(autouse=True)
def away(monkeypatch, tmp_path) -> None:
    """No weights at hand and no connection."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("gliolens.encoders.encoder.has_bfloat16", lambda: False)


def whole(name: str) -> nn.Module:
    """The network as it is published, with its classifier, and random weights and statistics."""
    torch.manual_seed(1)
    net = timm.create_model(name, pretrained=False).eval()
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return net


def kept(net: nn.Module, folder: Path, name: str = "model.safetensors") -> Path:
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / name)
    return folder / name


def pictures(n: int, edge: int) -> torch.Tensor:
    return torch.rand(n, edge, edge, generator=torch.Generator().manual_seed(2))


def test_a_resnet_answers_as_torchvisions_does_with_the_same_file(tmp_path):
    torch.manual_seed(0)
    oracle = torchvision.models.resnet18().eval()
    for name, buffer in oracle.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    encoder = timm_models.load("resnet18.a1_in1k", kept(oracle, tmp_path), True)
    oracle.fc = nn.Identity()
    grey = pictures(2, 224)
    mean, std = (torch.tensor(v)[None, :, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        wanted = oracle((grey[:, None] - mean) / std)
    found = encoder.encode(grey)
    assert found.shape == (2, 512)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", [*timm.list_pretrained("test_*"), "mobilenetv3_small_050.lamb_in1k"])
def test_vectors_are_those_before_the_classifier(name, tmp_path):
    net = whole(name)
    encoder = timm_models.load(name, kept(net, tmp_path), True)
    x = torch.randn(2, 3, encoder.card.input_size, encoder.card.input_size)
    with torch.inference_mode():
        wanted = net.forward_head(net.forward_features(x), pre_logits=True)
        found = encoder.net(x)
    assert found.shape == (2, encoder.card.dim)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "dim", "edge", "licence", "downloads"),
    [
        ("resnet50.a1_in1k", 2048, 224, "apache-2.0", True),
        ("vit_small_patch14_dinov2.lvd142m", 384, 518, "apache-2.0", True),
        ("vit_small_patch16_dinov3.lvd1689m", 384, 256, "dinov3-license", False),
    ],
)
def test_what_the_card_says_of_published_models(name, dim, edge, licence, downloads, tmp_path):
    encoder = timm_models.load(name, kept(whole(name), tmp_path), True)
    card = encoder.card
    assert (card.name, card.dim, card.input_size) == (f"timm:{name}", dim, edge)
    assert (card.licence, card.downloads, card.volumes) == (licence, downloads, False)
    assert card.mean == (0.485, 0.456, 0.406)
    assert card.std == (0.229, 0.224, 0.225)
    assert f"huggingface.co/timm/{name}" in card.source
    assert not any(p.requires_grad for p in encoder.net.parameters())
    assert not encoder.net.training
    with torch.device("meta"):
        twin = timm.create_model(name, num_classes=0)
        assert twin(torch.empty(2, 3, edge, edge)).shape == (2, dim)


def test_an_authors_own_file_is_converted_and_what_it_lacks_is_named(tmp_path):
    """DINOv2 as Meta publishes it: a mask token beside, and position embeddings that hold the class token's."""
    name = "vit_small_patch14_dinov2.lvd142m"
    net = whole(name)
    state = net.state_dict() | {"mask_token": torch.zeros(1, 384)}
    torch.save(state, tmp_path / "dinov2_vits14_pretrain.pth")
    encoder = timm_models.load(name, tmp_path / "dinov2_vits14_pretrain.pth", True)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in encoder.net.state_dict().items())
    del state["blocks.3.ls1.gamma"]
    torch.save(state, tmp_path / "dinov2_vits14_pretrain.pth")
    with pytest.raises(ModelError, match=r"1 missing: blocks\.3\.ls1\.gamma"):
        timm_models.load(name, tmp_path / "dinov2_vits14_pretrain.pth", True)


def test_a_folder_as_huggingface_hub_keeps_it(tmp_path):
    folder = tmp_path / "models--timm--test_vit.r160_in1k" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    net = whole(TINY)
    kept(net, folder)
    encoder = timm_models.load(TINY, tmp_path / "models--timm--test_vit.r160_in1k", True)
    assert torch.equal(encoder.net.state_dict()["pos_embed"], net.state_dict()["pos_embed"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("blocks.2.attn.qkv.weight"), "1 missing: blocks.2.attn.qkv.weight"),
        (lambda s: s.update({"blocks.9.x": torch.ones(1)}), "1 unknown: blocks.9.x"),
        (
            lambda s: s.update({"pos_embed": torch.ones(1, 10, 64)}),
            r"pos_embed (1, 10, 64) instead of (1, 101, 64)",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, told):
    state = dict(whole(TINY).state_dict())
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as error:
        timm_models.load(TINY, tmp_path, True)
    assert told in str(error.value)


def test_another_models_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="missing"):
        timm_models.load(TINY, kept(whole("test_resnet.r160_in1k"), tmp_path), True)


@pytest.mark.parametrize("model", ["no_such_model", "resnet18.no_such_weights", "resnett50.a1_in1k"])
def test_unknown_names_are_refused(model):
    with pytest.raises(ConfigError, match="timm has no"):
        timm_models.load(model, None, False)


@pytest.mark.parametrize(
    ("name", "offline", "told"),
    [
        (TINY, True, "apache-2.0"),
        ("vit_small_patch16_dinov3.lvd1689m", False, "about 86 MB, licence: dinov3-license"),
        ("legacy_seresnet18.in1k", False, "seresnet18-4bb0ce65.pth"),
    ],
)
def test_offline_and_bound_weights_are_never_fetched(name, offline, told, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(ConfigError, match=r"https://.*--weights") as error:
        timm_models.load(name, None, offline)
    assert told in str(error.value)


def test_free_weights_are_fetched_and_said(tmp_path, monkeypatch, capsys):
    net = whole(TINY)
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return str(kept(net, tmp_path))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    encoder = timm_models.load(TINY, None, False)
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors")]
    assert "fetching" in capsys.readouterr().err
    x = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        wanted = net.forward_head(net.forward_features(x), pre_logits=True)
        assert torch.allclose(encoder.net(x), wanted, atol=1e-5)
