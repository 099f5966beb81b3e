"""BiomedCLIP's image encoder against a forward pass written out here, and its published names and shapes."""

import math
import socket
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gliolens.encoders import clip_models
from gliolens.errors import ConfigError, ModelError

TINY = clip_models.VISION | {"model_name": "test_vit", "embed_dim": 24, "image_size": 160}
HEADS, BLOCKS, RATIO = 2, 6, 3  # of timm's test_vit, 64 numbers a token, 16x16 patches


def refuse(*_args, **_more):
    raise AssertionError("a connection was opened")


@pytest.fixture(autouse=True)
def away(monkeypatch, tmp_path) -> None:
    """No weights at hand and no connection."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("gliolens.encoders.encoder.has_bfloat16", lambda: False)


def published(width: int, blocks: int, tokens: int, out: int, ratio: int = 4) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the image half of open_clip_pytorch_model.bin: a ViT with 16x16 patches, and a projection."""
    shapes: dict[str, tuple[int, ...]] = {
        "trunk.cls_token": (1, 1, width),
        "trunk.pos_embed": (1, tokens + 1, width),
        "trunk.patch_embed.proj.weight": (width, 3, 16, 16),
        "trunk.patch_embed.proj.bias": (width,),
        "head.proj.weight": (out, width),
    }
    layers = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (ratio, 1), "mlp.fc2": (1, ratio)}
    for i in range(blocks):
        for layer, (into, of) in layers.items():
            shapes[f"trunk.blocks.{i}.{layer}.weight"] = (into * width, of * width)
            shapes[f"trunk.blocks.{i}.{layer}.bias"] = (into * width,)
    for norm in ["norm", *(f"blocks.{i}.norm{k}" for i in range(blocks) for k in (1, 2))]:
        shapes |= {f"trunk.{norm}.weight": (width,), f"trunk.{norm}.bias": (width,)}
    return {f"visual.{name}": shape for name, shape in shapes.items()}


def weights() -> dict[str, Tensor]:
    """A small BiomedCLIP of random numbers, its language half beside it."""
    source = torch.Generator().manual_seed(0)
    shapes = published(64, BLOCKS, 100, 24, RATIO)
    state = {
        name: torch.randn(shape, generator=source) / math.sqrt(shape[-1]) for name, shape in shapes.items()
    }
    text = {
        "text.transformer.embeddings.word_embeddings.weight": torch.ones(5, 2),
        "logit_scale": torch.ones(()),
    }
    return state | text | {"text.transformer.embeddings.position_ids": torch.arange(3)[None]}


def oracle(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Class token of a pre-norm ViT, projected, of length 1."""
    w = {name.removeprefix("visual."): tensor for name, tensor in state.items()}

    def linear(v: Tensor, name: str) -> Tensor:
        return v @ w[f"trunk.{name}.weight"].T + w[f"trunk.{name}.bias"]

    def norm(v: Tensor, name: str) -> Tensor:
        v = (v - v.mean(-1, keepdim=True)) / (v.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return v * w[f"trunk.{name}.weight"] + w[f"trunk.{name}.bias"]

    patches = F.conv2d(x, w["trunk.patch_embed.proj.weight"], w["trunk.patch_embed.proj.bias"], stride=16)
    tokens = (
        torch.cat([w["trunk.cls_token"].expand(len(x), -1, -1), patches.flatten(2).mT], 1)
        + w["trunk.pos_embed"]
    )
    for i in range(BLOCKS):
        qkv = linear(norm(tokens, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
        attention = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v
        tokens = tokens + linear(attention.transpose(1, 2).flatten(2), f"blocks.{i}.attn.proj")
        hidden = linear(norm(tokens, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        tokens = tokens + linear(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, f"blocks.{i}.mlp.fc2")
    out = norm(tokens, "norm")[:, 0] @ w["head.proj.weight"].T
    return out / out.norm(dim=-1, keepdim=True)


@pytest.fixture
def tiny(monkeypatch) -> None:
    monkeypatch.setattr(clip_models, "VISION", TINY)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("place", ["a.bin", "open_clip_pytorch_model.bin", "open_clip_model.safetensors"])
def test_vectors_are_those_of_an_independent_forward_pass(tmp_path, place):
    state = weights()
    (save_file if place.endswith("tensors") else torch.save)(state, tmp_path / place)
    encoder = clip_models.load("biomedclip", tmp_path / place if place == "a.bin" else tmp_path, True)
    grey = torch.rand(3, 160, 160, generator=torch.Generator().manual_seed(1))
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[None, :, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[None, :, None, None]
    found = encoder.encode(grey)
    assert found.shape == (3, encoder.card.dim) == (3, 24)
    assert torch.allclose(found, oracle(state, (grey[:, None] - mean) / std), atol=1e-5)
    assert found.std(0).max() > 1e-3


def test_the_full_network_has_the_published_names_and_shapes():
    with torch.device("meta"):
        net = clip_models.image_tower()
    shapes = {f"visual.{name}": tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes == published(768, 12, 196, 512)
    assert net(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 512)
    assert (
        sum(math.prod(shape) for shape in shapes.values()) == 86_191_872
    )  # 85.8 million of a ViT-B/16, and 768 x 512


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("visual.head.proj.weight"), "1 missing: head.proj.weight"),
        (
            lambda s: s.update({"visual.trunk.fc_norm.weight": torch.ones(64)}),
            "1 unknown: trunk.fc_norm.weight",
        ),
        (
            lambda s: s.update({"visual.trunk.norm.bias": torch.ones(3)}),
            "trunk.norm.bias (3,) instead of (64,)",
        ),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("visual.")], "no tensor called visual"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, told):
    state = weights()
    change(state)
    torch.save(state, tmp_path / "a.bin")
    with pytest.raises(ModelError) as error:
        clip_models.load("biomedclip", tmp_path / "a.bin", False)
    assert told in str(error.value)


@pytest.mark.usefixtures("tiny")
def test_without_weights_it_says_where_they_are():
    with pytest.raises(ConfigError) as error:
        clip_models.load("biomedclip", None, True)
    for part in (
        "784 MB",
        "MIT",
        "open_clip_pytorch_model.bin",
        "huggingface.co/microsoft/BiomedCLIP",
        "--weights",
    ):
        assert part in str(error.value)
    with pytest.raises(ConfigError, match="there is biomedclip"):
        clip_models.load("ViT-B-32", None, True)


@pytest.mark.usefixtures("tiny")
def test_they_are_fetched_where_that_is_allowed(tmp_path, monkeypatch, capsys):
    torch.save(weights(), tmp_path / "fetched.bin")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: str(Path(tmp_path / "fetched.bin")))
    name = "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
    card = clip_models.load(name, None, False).card
    assert card.downloads
    assert len(card.sha256 or "") == 64
    assert "784 MB" in capsys.readouterr().err
