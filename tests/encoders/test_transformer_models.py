"""RAD-DINO and MedSigLIP against forward passes written out here, and their published names and shapes."""

import dataclasses
import math
import socket
from collections.abc import Callable

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gliolens.encoders import transformer_models
from gliolens.encoders.transformer_models import MODELS
from gliolens.errors import ConfigError, ModelError

EDGE, PATCH, WIDTH, BLOCKS, HEADS, HIDDEN = 42, 14, 24, 2, 3, 40
SIZES = {
    "rad-dino": {"mlp_ratio": 4},
    "medsiglip": {"intermediate_size": HIDDEN},
}
Shapes = dict[str, tuple[int, ...]]


def refuse(*_args, **_more):
    raise AssertionError("a connection was opened")


@pytest.fixture(autouse=True)
def away(monkeypatch, tmp_path) -> None:
    """No weights at hand and no connection."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("gliolens.encoders.encoder.has_bfloat16", lambda: False)


@pytest.fixture(params=list(MODELS))
def model(request, monkeypatch) -> str:
    """A model whose network is small."""
    small = {
        "hidden_size": WIDTH,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "image_size": EDGE,
    }
    told = MODELS[request.param]
    sizes = {**told.sizes, **small, **SIZES[request.param]}
    monkeypatch.setitem(MODELS, request.param, dataclasses.replace(told, sizes=sizes))
    return request.param


# --- what is published -----------------------------------------------------------------------------------------


def layer(name: str, into: int, of: int) -> Shapes:
    return {f"{name}.weight": (into, of), f"{name}.bias": (into,)}


def norm_shapes(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def dino_shapes(width: int, blocks: int, edge: int) -> Shapes:
    """Names and shapes of RAD-DINO's model.safetensors, written by transformers 4."""
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, (edge // PATCH) ** 2 + 1, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (width,),
    } | norm_shapes("layernorm", width)
    for i in range(blocks):
        at = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            shapes |= layer(f"{at}.attention.attention.{part}", width, width)
        shapes |= layer(f"{at}.attention.output.dense", width, width)
        shapes |= layer(f"{at}.mlp.fc1", 4 * width, width) | layer(f"{at}.mlp.fc2", width, 4 * width)
        shapes |= norm_shapes(f"{at}.norm1", width) | norm_shapes(f"{at}.norm2", width)
        shapes |= {f"{at}.layer_scale{k}.lambda1": (width,) for k in (1, 2)}
    return shapes


def siglip_shapes(width: int, blocks: int, edge: int, hidden: int) -> Shapes:
    """Names and shapes of the image half of MedSigLIP's model.safetensors."""
    shapes: Shapes = {
        "embeddings.patch_embedding.weight": (width, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (width,),
        "embeddings.position_embedding.weight": ((edge // PATCH) ** 2, width),
        "head.probe": (1, 1, width),
        "head.attention.in_proj_weight": (3 * width, width),
        "head.attention.in_proj_bias": (3 * width,),
    } | layer("head.attention.out_proj", width, width)
    shapes |= norm_shapes("post_layernorm", width) | norm_shapes("head.layernorm", width)
    for at in ["head", *(f"encoder.layers.{i}" for i in range(blocks))]:
        shapes |= layer(f"{at}.mlp.fc1", hidden, width) | layer(f"{at}.mlp.fc2", width, hidden)
    for i in range(blocks):
        at = f"encoder.layers.{i}"
        for part in ("q", "k", "v", "out"):
            shapes |= layer(f"{at}.self_attn.{part}_proj", width, width)
        shapes |= norm_shapes(f"{at}.layer_norm1", width) | norm_shapes(f"{at}.layer_norm2", width)
    return {f"vision_model.{name}": shape for name, shape in shapes.items()}


def small_shapes(model: str) -> Shapes:
    if model == "rad-dino":
        return dino_shapes(WIDTH, BLOCKS, EDGE)
    return siglip_shapes(WIDTH, BLOCKS, EDGE, HIDDEN)


def weights(model: str) -> dict[str, Tensor]:
    """Random numbers under the published names; the language half beside those of MedSigLIP."""
    source = torch.Generator().manual_seed(0)
    shapes = small_shapes(model).items()
    state = {name: torch.randn(shape, generator=source) / math.sqrt(shape[-1]) for name, shape in shapes}
    if model == "medsiglip":
        state |= {
            "logit_scale": torch.ones(1),
            "logit_bias": torch.ones(1),
            "text_model.head.bias": torch.ones(3),
        }
    return state


# --- independent forward passes --------------------------------------------------------------------------------


def parts(w: dict[str, Tensor]) -> tuple[Callable[[Tensor, str], Tensor], Callable[[Tensor, str], Tensor]]:
    def linear(v: Tensor, name: str) -> Tensor:
        return v @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(v: Tensor, name: str) -> Tensor:
        v = (v - v.mean(-1, keepdim=True)) / (v.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return v * w[f"{name}.weight"] + w[f"{name}.bias"]

    return linear, norm


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
    return ((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v).transpose(1, 2).flatten(2)


def dino(w: dict[str, Tensor], x: Tensor) -> Tensor:
    linear, norm = parts(w)
    at = "embeddings.patch_embeddings.projection"
    patches = F.conv2d(x, w[f"{at}.weight"], w[f"{at}.bias"], stride=PATCH).flatten(2).mT
    tokens = torch.cat([w["embeddings.cls_token"].expand(len(x), -1, -1), patches], dim=1)
    tokens = tokens + w["embeddings.position_embeddings"]
    for i in range(BLOCKS):
        at = f"encoder.layer.{i}"
        seen = norm(tokens, f"{at}.norm1")
        heard = attend(
            *(linear(seen, f"{at}.attention.attention.{part}") for part in ("query", "key", "value"))
        )
        tokens = tokens + linear(heard, f"{at}.attention.output.dense") * w[f"{at}.layer_scale1.lambda1"]
        hidden = linear(norm(tokens, f"{at}.norm2"), f"{at}.mlp.fc1")
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        tokens = tokens + linear(hidden, f"{at}.mlp.fc2") * w[f"{at}.layer_scale2.lambda1"]
    return norm(tokens, "layernorm")[:, 0]


def tanh_gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def siglip(state: dict[str, Tensor], x: Tensor) -> Tensor:
    w = {name.removeprefix("vision_model."): tensor for name, tensor in state.items()}
    linear, norm = parts(w)
    at = "embeddings.patch_embedding"
    tokens = F.conv2d(x, w[f"{at}.weight"], w[f"{at}.bias"], stride=PATCH).flatten(2).mT
    tokens = tokens + w["embeddings.position_embedding.weight"]
    for i in range(BLOCKS):
        at = f"encoder.layers.{i}"
        seen = norm(tokens, f"{at}.layer_norm1")
        heard = attend(*(linear(seen, f"{at}.self_attn.{part}_proj") for part in "qkv"))
        tokens = tokens + linear(heard, f"{at}.self_attn.out_proj")
        hidden = tanh_gelu(linear(norm(tokens, f"{at}.layer_norm2"), f"{at}.mlp.fc1"))
        tokens = tokens + linear(hidden, f"{at}.mlp.fc2")
    tokens = norm(tokens, "post_layernorm")
    weight, bias = w["head.attention.in_proj_weight"].chunk(3), w["head.attention.in_proj_bias"].chunk(3)
    asked = (w["head.probe"].expand(len(x), -1, -1), tokens, tokens)
    pooled = attend(*(v @ m.T + b for v, m, b in zip(asked, weight, bias, strict=True)))
    pooled = linear(pooled, "head.attention.out_proj")
    hidden = tanh_gelu(linear(norm(pooled, "head.layernorm"), "head.mlp.fc1"))
    out = (pooled + linear(hidden, "head.mlp.fc2"))[:, 0]
    return out / out.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("kind", ["file", "folder", "torch"])
def test_vectors_are_those_of_an_independent_forward_pass(model, kind, tmp_path):
    state = weights(model)
    file = tmp_path / ("model.bin" if kind == "torch" else "model.safetensors")
    (torch.save if kind == "torch" else save_file)(state, file)
    encoder = transformer_models.load(model, tmp_path if kind == "folder" else file, True)
    grey = torch.rand(3, EDGE, EDGE, generator=torch.Generator().manual_seed(1))
    mean, std = {"rad-dino": (0.5307, 0.2583), "medsiglip": (0.5, 0.5)}[model]
    wanted = {"rad-dino": dino, "medsiglip": siglip}[model](
        state, ((grey - mean) / std)[:, None].expand(-1, 3, -1, -1)
    )
    found = encoder.encode(grey)
    assert found.shape == (3, WIDTH) == (3, encoder.card.dim)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert found.std(0).max() > 1e-3


# --- files -----------------------------------------------------------------------------------------------------


def test_a_file_written_by_the_installed_transformers_is_read_too(model, tmp_path):
    told = MODELS[model]
    net = transformer_models.network(told, transformers)
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    net.save_pretrained(tmp_path / "saved")
    for place in (tmp_path / "own.safetensors", tmp_path / "saved"):
        encoder = transformer_models.load(model, place, True)
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in encoder.net.net.state_dict().items())


@pytest.mark.parametrize(
    ("name", "shapes", "edge", "dim", "million"),
    [
        ("rad-dino", dino_shapes(768, 12, 518), 518, 768, 86.6),
        ("medsiglip", siglip_shapes(1152, 27, 448, 4304), 448, 1152, 428.57),
    ],
)
def test_the_full_network_takes_the_published_names_and_shapes(name, shapes, edge, dim, million):
    with torch.device("meta"):
        net = transformer_models.network(MODELS[name], transformers)
        given = {k: torch.empty(shape) for k, shape in shapes.items()}
        translated = transformer_models._translated(given, net)
        assert {k: v.shape for k, v in translated.items()} == {
            k: v.shape for k, v in net.state_dict().items()
        }
        assert len(translated) == len(shapes)
        pooled = transformer_models.Pooled(net)(torch.empty(2, 3, edge, edge))
    assert pooled.shape == (2, dim)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(million, abs=0.03)


FIRST = {
    "rad-dino": ("encoder.layer.1.attention.attention.key.bias", "encoder.layer.1.attention."),
    "medsiglip": (
        "vision_model.encoder.layers.1.self_attn.k_proj.bias",
        "encoder.layers.1.self_attn.k_proj.bias",
    ),
}


def test_a_file_that_does_not_fit_is_refused(model, tmp_path):
    file, (name, shown) = tmp_path / "model.safetensors", FIRST[model]
    for change, told in (
        (lambda s: s.pop(name), f"1 missing: {shown}"),
        (lambda s: s.update({"vision_model.another": torch.ones(1)}), "1 unknown: "),
        (lambda s: s.update({name: torch.ones(7)}), "(7,) instead of (24,)"),
    ):
        state = weights(model)
        change(state)
        save_file(state, file)
        with pytest.raises(ModelError) as error:
            transformer_models.load(model, file, False)
        assert told in str(error.value)
        assert str(file) in str(error.value)


def test_the_language_half_is_no_part_of_rad_dino(monkeypatch, tmp_path):
    save_file({"text_model.head.bias": torch.ones(3)}, tmp_path / "a.safetensors")
    sizes = MODELS["rad-dino"].sizes | {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2}
    monkeypatch.setitem(MODELS, "rad-dino", dataclasses.replace(MODELS["rad-dino"], sizes=sizes))
    with pytest.raises(ModelError, match="missing"):
        transformer_models.load("rad-dino", tmp_path / "a.safetensors", True)


@pytest.mark.parametrize(("name", "offline"), [("rad-dino", True), ("medsiglip", True), ("medsiglip", False)])
def test_offline_and_bound_weights_are_never_fetched(name, offline, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(ConfigError) as error:
        transformer_models.load(name, None, offline)
    wanted = {
        "rad-dino": ("346 MB", "MIT", "huggingface.co/microsoft/rad-dino"),
        "medsiglip": (
            "3.5 GB",
            "Health AI Developer Foundations",
            "accept",
            "huggingface.co/google/medsiglip-448",
        ),
    }
    for part in (*wanted[name], "--weights", "model.safetensors"):
        assert part in str(error.value)


def test_rad_dino_is_fetched_and_said(monkeypatch, tmp_path, capsys):
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: str(tmp_path / "a.safetensors"))
    with pytest.raises(ModelError, match="missing"):
        transformer_models.load("rad-dino", None, False)
    assert (
        "fetching model.safetensors of https://huggingface.co/microsoft/rad-dino" in capsys.readouterr().err
    )


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="there are rad-dino, medsiglip"):
        transformer_models.load("siglip", None, False)
