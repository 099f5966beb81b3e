"""Encoders of volumes against MONAI's whole networks, the published layouts, and laws of merging and scaling."""

import itertools
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR, ViT
from monai.networks.nets.swin_unetr import PatchMerging, SwinTransformer
from safetensors.torch import save_file
from torch import Tensor, nn

from gliolens.encoders import volume_models
from gliolens.encoders.volume_models import MergingBefore
from gliolens.errors import ConfigError, ModelError


@pytest.fixture(autouse=True)
def away(monkeypatch) -> None:
    """No connection may be opened."""

    def refuse(*_args, **_more):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("gliolens.encoders.encoder.has_bfloat16", lambda: False)


def random_weights(net: nn.Module, seed: int = 0) -> nn.Module:
    """Also where a network starts with zeros or ones, so that a misplaced tensor shows."""
    source = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        scale = 0.5 / max(1, parameter[0].numel()) ** 0.5
        parameter.data = torch.randn(parameter.shape, generator=source) * scale + (parameter.data == 1)
    return net.eval().requires_grad_(False)


def small_swin(**changes) -> SwinUNETR:
    sizes = {
        "in_channels": 1,
        "out_channels": 3,
        "feature_size": 12,
        "num_heads": (1, 2, 3, 4),
        "window_size": 3,
    }
    return random_weights(SwinUNETR(**{**sizes, **changes}))


def volumes(n: int, edge: int, channels: int = 1) -> Tensor:
    grey = torch.rand(n, 1, edge, edge, edge, generator=torch.Generator().manual_seed(1))
    grey[:, :, :3] = 0.0
    return grey.expand(-1, channels, -1, -1, -1)


def kept(state: dict[str, Tensor], folder: Path, name: str = "model.pt") -> Path:
    torch.save({"state_dict": state, "epoch": 7, "best_acc": np.float64(0.9)}, folder / name)
    return folder / name


def pretraining(net: SwinUNETR) -> dict[str, Tensor]:
    """As BrainSegFounder's and MONAI's pretraining keeps it: a parallel network, three heads beside the encoder."""
    state = {f"module.swinViT.{name}": tensor for name, tensor in net.swinViT.state_dict().items()}
    heads = ("rotation_head.weight", "contrastive_head.bias", "conv.0.weight", "conv.0.bias")
    return state | {f"module.{name}": torch.ones(2) for name in heads}


def bottleneck(net: SwinUNETR, x: Tensor) -> Tensor:
    """What the whole network hands to its deepest block, averaged over space."""
    seen: list[Tensor] = []
    hook = net.encoder10.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        net(x)
    hook.remove()
    return seen[0].mean(dim=(2, 3, 4))


def standard(x: Tensor) -> Tensor:
    """Each channel of each volume by itself, over what is not 0."""
    out = x.clone()
    for channel in out.flatten(0, 1):
        there = channel != 0
        values = channel[there].double()
        channel[there] = ((values - values.mean()) / values.std(correction=0)).float()
    return out


# --- Swin UNETR ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"in_channels": 4, "depths": (1, 2, 3, 1), "qkv_bias": False},
        {"use_v2": True, "patch_norm": True, "mlp_ratio": 2.0, "window_size": 2},
        {"feature_size": 24, "num_heads": (3, 6, 12, 24), "window_size": 4},
    ],
)
def test_a_segmentation_network_gives_its_bottleneck(changes, tmp_path):
    net = small_swin(**changes)
    encoder = volume_models.load("swin-unetr", kept(net.state_dict(), tmp_path), True)
    channels = changes.get("in_channels", 1)
    x = volumes(2, 64, channels).contiguous()
    with torch.inference_mode():
        found = encoder.net(x)
    assert found.shape == (2, encoder.card.dim) == (2, 16 * changes.get("feature_size", 12))
    assert torch.allclose(found, bottleneck(net, standard(x)), atol=1e-4)
    assert (encoder.card.mean, encoder.card.std) == ((0.0,) * channels, (1.0,) * channels)
    assert encoder.card.volumes


def test_a_pretrained_encoder_sees_brightness_as_it_is(tmp_path):
    net = small_swin(in_channels=2)
    encoder = volume_models.load("swin-unetr", kept(pretraining(net), tmp_path), True)
    x = volumes(1, 64, 2).contiguous()
    with torch.inference_mode():
        assert torch.allclose(encoder.net(x), bottleneck(net, x), atol=1e-5)
        assert not torch.allclose(encoder.net(x), bottleneck(net, standard(x)), atol=1e-3)


@pytest.mark.parametrize("prefix", ["", "swinViT.", "backbone.swinViT.", "module."])
def test_the_encoder_is_found_under_any_prefix_and_older_names(prefix, tmp_path):
    net = small_swin()
    older = {"linear1": "fc1", "linear2": "fc2"}
    state = {}
    for name, tensor in net.swinViT.state_dict().items():
        parts = [older.get(part, part) for part in name.split(".")]
        state[prefix + ".".join(parts)] = tensor
    save_file(state | {f"{prefix}norm.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    encoder = volume_models.load("swin-unetr", tmp_path, True)
    assert encoder.net.swin.state_dict().keys() == net.swinViT.state_dict().keys()
    assert all(torch.equal(v, net.swinViT.state_dict()[k]) for k, v in encoder.net.swin.state_dict().items())


def test_encode_takes_volumes_of_any_size(tmp_path):
    net = small_swin()
    encoder = volume_models.load("swin-unetr", kept(pretraining(net), tmp_path), True)
    grey = torch.rand(1, 30, 41, 28, generator=torch.Generator().manual_seed(3))
    sized = nn.functional.interpolate(grey[:, None], (96, 96, 96), mode="trilinear", align_corners=False)
    with torch.inference_mode():
        wanted = net.swinViT(sized)[-1].mean(dim=(2, 3, 4))
    assert torch.allclose(encoder.encode(grey), wanted, atol=1e-4)


def test_merging_as_before_takes_the_corners_one_by_one():
    """Output voxel by voxel; corners (1, 1, 0) and (0, 1, 1) are left out, which today's MONAI uses."""
    torch.manual_seed(0)
    merging = MergingBefore(dim=3)
    nn.init.normal_(merging.norm.weight)
    x = torch.randn(2, 4, 6, 3, 3)
    padded = torch.zeros(2, 4, 6, 4, 3)
    padded[:, :, :, :3] = x
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    found = merging(x)
    assert found.shape == (2, 2, 3, 2, 6)
    for i, j, k in itertools.product(range(2), range(3), range(2)):
        joined = torch.cat([padded[:, 2 * i + a, 2 * j + b, 2 * k + c] for a, b, c in corners], dim=-1)
        normed = (joined - joined.mean(-1, keepdim=True)) / (
            joined.var(-1, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        wanted = (normed * merging.norm.weight + merging.norm.bias) @ merging.reduction.weight.T
        assert torch.allclose(found[:, i, j, k], wanted, atol=1e-5)


def depends_on(merging: nn.Module) -> set[tuple[int, ...]]:
    x = torch.randn(1, 2, 2, 2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    merging(x).square().sum().backward()
    return {tuple(at.tolist()) for at in x.grad[0].abs().sum(-1).nonzero()}


def test_the_two_ways_of_merging_differ_in_what_they_see():
    everything = set(itertools.product((0, 1), repeat=3))
    assert depends_on(PatchMerging(dim=4)) == everything
    assert depends_on(MergingBefore(dim=4)) == everything - {(1, 1, 0), (0, 1, 1)}


def test_older_weights_are_merged_as_they_were_trained(tmp_path):
    net = small_swin(in_channels=1)
    file = kept(pretraining(net), tmp_path)
    sizes = {
        "in_chans": 1,
        "embed_dim": 12,
        "window_size": (3, 3, 3),
        "patch_size": (2, 2, 2),
        "depths": (2, 2, 2, 2),
    }
    older = SwinTransformer(**sizes, num_heads=(1, 2, 3, 4), downsample=MergingBefore).eval()
    older.load_state_dict(net.swinViT.state_dict())
    x = volumes(1, 64).contiguous()
    found = {}
    for name in ("swin-unetr", "before-1.5", "brainsegfounder"):
        encoder = volume_models.load(name, file, True)
        with torch.inference_mode():
            found[name] = encoder.net(x)
    with torch.inference_mode():
        wanted = older(x)[-1].mean(dim=(2, 3, 4))
    assert torch.allclose(found["before-1.5"], wanted, atol=1e-5)
    assert torch.equal(found["before-1.5"], found["brainsegfounder"])
    assert not torch.allclose(found["swin-unetr"], wanted, atol=1e-3)


@pytest.mark.parametrize(("channels", "depths", "tensors"), [(1, (2, 2, 2, 2), 126), (4, (2, 2, 6, 2), 182)])
def test_brainsegfounders_published_sizes(channels, depths, tensors, tmp_path):
    """126 tensors of the encoder pretrained on UK Biobank, 182 of the one pretrained on BraTS; 768 numbers."""
    net = SwinUNETR(in_channels=channels, out_channels=3, feature_size=48, depths=depths)
    encoder = volume_models.load("brainsegfounder", kept(pretraining(net), tmp_path), True)
    assert len(encoder.net.swin.state_dict()) == tensors
    assert encoder.card.dim == 768
    assert encoder.card.input_size == 96
    assert not encoder.card.downloads
    assert "uk-biobank-mta" in encoder.card.licence
    assert encoder.card.mean == (0.0,) * channels
    if channels == 1:
        assert encoder.net(torch.rand(1, 1, 32, 32, 32)).shape == (1, 768)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda s, p: s.pop(f"{p}layers2.0.blocks.0.attn.proj.bias"),
            "1 missing: layers2.0.blocks.0.attn.proj.bias",
        ),
        (
            lambda s, p: s.pop(f"{p}layers4.0.blocks.0.attn.relative_position_bias_table"),
            "1 missing: layers4.0.",
        ),
        (lambda s, p: s.update({f"{p}layers1.0.x": torch.ones(1)}), "1 unknown: layers1.0.x"),
        (
            lambda s, p: s.update({f"{p}layers3.0.downsample.norm.bias": torch.ones(5)}),
            "layers3.0.downsample.norm.bias (5,) instead of (384,)",
        ),
        (lambda s, p: s.update({f"{p}patch_embed.proj.weight": torch.ones(12, 1, 2, 2)}), "expected 5 axes"),
        (
            lambda s, p: s.update(
                {f"{p}layers1.0.blocks.0.attn.relative_position_bias_table": torch.ones(9, 1)}
            ),
            "expected those of a cube",
        ),
        (lambda s, p: s.pop(f"{p}patch_embed.proj.weight"), "expected the one of a Swin UNETR"),
    ],
)
@pytest.mark.parametrize("name", ["swin-unetr", "brainsegfounder"])
def test_a_file_that_does_not_fit_is_refused(name, change, told, tmp_path):
    state = pretraining(small_swin())
    change(state, "module.swinViT.")
    with pytest.raises(ModelError) as error:
        volume_models.load(name, kept(state, tmp_path), True)
    assert told in str(error.value)
    assert str(tmp_path / "model.pt") in str(error.value)


def test_a_block_left_out_is_missed(tmp_path):
    state = {k: v for k, v in pretraining(small_swin()).items() if "layers3.0.blocks.0." not in k}
    with pytest.raises(ModelError, match=r"missing: layers3\.0\.blocks\.0"):
        volume_models.load("swin-unetr", kept(state, tmp_path), True)


def test_a_volume_of_one_brightness_or_none_gives_numbers(tmp_path):
    encoder = volume_models.load("swin-unetr", kept(small_swin().state_dict(), tmp_path), True)
    for value in (0.0, 0.7):
        assert torch.isfinite(encoder.net(torch.full((1, 1, 32, 32, 32), value))).all()


# --- ViT -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"proj_type": "perceptron", "hidden_size": 192, "num_heads": 3},
        {"qkv_bias": True, "in_channels": 2, "num_layers": 3},
        {"classification": True, "num_classes": 5},
    ],
)
def test_a_vit_gives_its_tokens(changes, tmp_path):
    sizes = {"in_channels": 1, "img_size": (16,) * 3, "patch_size": (8,) * 3, "hidden_size": 128, "mlp_dim": 96,
             "num_layers": 2, "num_heads": 2}  # fmt: skip
    net = random_weights(ViT(**{**sizes, **changes}))
    encoder = volume_models.load("vit-3d", kept(net.state_dict(), tmp_path), True)
    seen: list[Tensor] = []
    net.norm.register_forward_hook(lambda _m, _given, out: seen.append(out))
    x = volumes(2, 16, changes.get("in_channels", 1)).contiguous()
    with torch.inference_mode():
        net(x)
        found = encoder.net(x)
    wanted = seen[0][:, 0] if "classification" in changes else seen[0].mean(dim=1)
    assert found.shape == (2, encoder.card.dim)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert encoder.card.input_size == 16
    assert encoder.encode(torch.rand(1, 20, 11, 9)).shape == (1, encoder.card.dim)


def test_the_vit_of_a_unetr_is_found_without_what_it_never_runs(tmp_path):
    net = random_weights(UNETR(1, 2, img_size=16, feature_size=4, hidden_size=128, mlp_dim=64, num_heads=2))
    state = {k: v for k, v in net.state_dict().items() if ".norm_cross_attn." not in k}
    state["vit.blocks.0.cross_attn.to_q.weight"] = torch.ones(2, 2)
    encoder = volume_models.load("vit-3d", kept(state, tmp_path), True)
    x = volumes(1, 16).contiguous()
    with torch.inference_mode():
        assert torch.allclose(encoder.net(x), net.vit(x)[0].mean(dim=1), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("blocks.1.norm2.bias"), "1 missing: blocks.1.norm2.bias"),
        (lambda s: s.update({"blocks.1.x": torch.ones(1)}), "1 unknown: blocks.1.x"),
        (lambda s: s.update({"norm.bias": torch.ones(1)}), "norm.bias (1,) instead of (128,)"),
        (
            lambda s: s.update({"patch_embedding.position_embeddings": torch.ones(1, 9, 128)}),
            "those of a cube",
        ),
        (lambda s: s.update({"patch_embedding.position_embeddings": torch.ones(1, 8, 100)}), "heads of 64"),
        (lambda s: s.pop("patch_embedding.position_embeddings"), "expected the one of a ViT"),
    ],
)
def test_a_vit_that_does_not_fit_is_refused(change, told, tmp_path):
    net = ViT(1, (16,) * 3, (8,) * 3, hidden_size=128, mlp_dim=96, num_layers=2, num_heads=2)
    state = dict(net.state_dict())
    change(state)
    with pytest.raises(ModelError) as error:
        volume_models.load("vit-3d", kept(state, tmp_path), True)
    assert told in str(error.value)


# --- no weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "brainsegfounder",
            ("huggingface.co/smilelab/BrainSegFounder", "agreement", "model_weights_UKB-pretrain.pt"),
        ),
        ("swin-unetr", ("SwinUNETR",)),
        ("before-1.5", ("swin-unetr:before-1.5",)),
        ("vit-3d", ("UNETR",)),
    ],
)
def test_without_weights_it_says_where_they_are(name, parts, offline):
    with pytest.raises(ConfigError) as error:
        volume_models.load(name, None, offline)
    for part in (*parts, "--weights", "licence"):
        assert part in str(error.value)


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="there are swin-unetr"):
        volume_models.load("swin", None, True)
    with pytest.raises(ConfigError, match="found none of"):
        volume_models.load("swin-unetr", tmp_path, True)
