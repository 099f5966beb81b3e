"""MedImageInsight: the published layout finds its place at full size, and a pass of our own gives the same vectors."""

import dataclasses
import json
import pickle
import socket
import sys
from math import prod

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F  # noqa: N812

from gliolens.encoders import encoder as encoder_module
from gliolens.encoders import medimageinsight
from gliolens.encoders.medimageinsight import BYTES, FILE, SHA256, ImageTower, load, read_encoder
from gliolens.errors import ConfigError, ModelError

FULL = ((256, 512, 1024, 2048), (1, 1, 9, 1), 1024)
NARROW = ((32, 64, 64, 96), (1, 1, 2, 1), 24)
WINDOW = 12
QKV = "image_encoder.blocks.2.1.channel_block.channel_attn.fn.qkv.weight"


class Narrow(ImageTower):
    def __init__(self):
        super().__init__(*NARROW)


# --- the published layout, written down from the authors' code and not from ours -------------------------------


def affine(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def block_layout(name, attention, width):
    out = {}
    for conv in ("conv1", "conv2"):
        out |= {f"{name}.{conv}.fn.dw.weight": (width, 1, 3, 3), f"{name}.{conv}.fn.dw.bias": (width,)}
    out |= affine(f"{name}.{attention}.norm", width) | linear(f"{name}.{attention}.fn.qkv", width, 3 * width)
    out |= linear(f"{name}.{attention}.fn.proj", width, width) | affine(f"{name}.ffn.norm", width)
    out |= linear(f"{name}.ffn.fn.net.fc1", width, 4 * width)
    return out | linear(f"{name}.ffn.fn.net.fc2", 4 * width, width)


def image_layout(widths, depths, dim):
    out = {}
    for i, (before, width, depth) in enumerate(zip((3, *widths), widths, depths, strict=False)):
        edge = 3 if i else 7
        out |= {f"image_encoder.convs.{i}.proj.weight": (width, before, edge, edge)}
        out |= {f"image_encoder.convs.{i}.proj.bias": (width,)}
        out |= affine(f"image_encoder.convs.{i}.norm", before if i else width)
        for j in range(depth):
            name = f"image_encoder.blocks.{i}.{j}"
            out |= block_layout(f"{name}.spatial_block", "window_attn", width)
            out |= block_layout(f"{name}.channel_block", "channel_attn", width)
    return out | affine("image_encoder.norms", widths[-1]) | {"image_projection": (widths[-1], dim)}


def language_layout(width=1024, layers=16, words=49408):
    out = {"lang_projection": (width, width), "logit_scale": ()}
    out |= {"lang_encoder.positional_embedding": (77, width)}
    out |= {"lang_encoder.token_embedding.weight": (words, width)} | affine("lang_encoder.ln_final", width)
    for i in range(layers):
        name = f"lang_encoder.resblocks.{i}"
        out |= {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
        out |= linear(f"{name}.attn.out_proj", width, width)
        out |= affine(f"{name}.ln_1", width) | affine(f"{name}.ln_2", width)
        out |= linear(f"{name}.mlp.c_fc", width, 4 * width) | linear(f"{name}.mlp.c_proj", 4 * width, width)
    return out


def safetensors_size(layout) -> int:
    """Bytes of a safetensors file of float32: the length of the header, the header padded to 8, the numbers."""
    header, end = {}, 0
    for name in sorted(layout):
        start, end = end, end + 4 * prod(layout[name])
        header[name] = {"dtype": "F32", "shape": list(layout[name]), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + end


def random_state(layout, seed=0):
    """Random weights that keep a signal alive, with no tensor at rest."""
    numbers = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in layout.items():
        drawn = torch.randn(shape, generator=numbers)
        if len(shape) > 1:
            fan = shape[0] if name == "image_projection" else prod(shape[1:])
            out[name] = drawn * fan**-0.5
        else:
            out[name] = 0.3 * drawn + float("norm" in name and name.endswith("weight"))
    return out


@pytest.fixture
def state():
    return random_state(image_layout(*NARROW) | language_layout(8, 1, 16))


@pytest.fixture
def file(tmp_path, state):
    save_file(state, tmp_path / FILE)
    return tmp_path / FILE


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def narrow(file):
    return read_encoder(file, ImageTower(*NARROW)).net.eval()


# --- a pass of our own over the published names ----------------------------------------------------------------


def normed(x, weights, name):
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def through(x, weights, name):
    return torch.einsum("...i,oi->...o", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]


def convolved(x, weights, name, **options):
    """Of an image with its channels last."""
    seen = F.conv2d(
        x.permute(0, 3, 1, 2), weights[f"{name}.weight"], weights[f"{name}.bias"], padding="valid", **options
    )
    return seen.permute(0, 2, 3, 1)


def ringed(x, pixels):
    return F.pad(x, (0, 0, pixels, pixels, pixels, pixels))


def window_attention(x, weights, name):
    """Each window of 12 x 12 pixels attends to itself, zeros beyond the edge included."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
    out = torch.empty_like(x)
    for top in range(0, x.shape[1], WINDOW):
        for left in range(0, x.shape[2], WINDOW):
            part = (slice(None), slice(top, top + WINDOW), slice(left, left + WINDOW))
            q, k, v = through(x[part], weights, f"{name}.qkv").chunk(3, dim=-1)
            heads = []
            for h in range(0, x.shape[-1], 32):
                qh, kh, vh = (t[..., h : h + 32].flatten(1, 2) for t in (q, k, v))
                shares = (torch.einsum("nic,njc->nij", qh, kh) / 32**0.5).softmax(-1)
                heads.append(torch.einsum("nij,njc->nic", shares, vh))
            out[part] = torch.cat(heads, -1).unflatten(1, (WINDOW, WINDOW))
    return through(out, weights, f"{name}.proj")[:, :height, :width]


def channel_attention(x, weights, name):
    """Each channel attends to the others of its group of 32, over all pixels."""
    q, k, v = through(x.flatten(1, 2), weights, f"{name}.qkv").chunk(3, dim=-1)
    groups = []
    for g in range(0, x.shape[-1], 32):
        qg, kg, vg = (t[..., g : g + 32] for t in (q, k, v))
        shares = (torch.einsum("ntc,ntd->ncd", qg, kg) / q.shape[1] ** 0.5).softmax(-1)
        groups.append(torch.einsum("ncd,ntd->ntc", shares, vg))
    return through(torch.cat(groups, -1), weights, f"{name}.proj").reshape(x.shape)


def block(x, weights, name, attention, attend):
    channels = x.shape[-1]
    x = x + convolved(ringed(x, 1), weights, f"{name}.conv1.fn.dw", groups=channels)
    x = x + attend(normed(x, weights, f"{name}.{attention}.norm"), weights, f"{name}.{attention}.fn")
    x = x + convolved(ringed(x, 1), weights, f"{name}.conv2.fn.dw", groups=channels)
    inner = F.gelu(through(normed(x, weights, f"{name}.ffn.norm"), weights, f"{name}.ffn.fn.net.fc1"))
    return x + through(inner, weights, f"{name}.ffn.fn.net.fc2")


def own_pass(pictures, state, depths=NARROW[1]):
    """Vectors, before they get length 1, of pictures `(n, 3, h, w)` in double precision."""
    weights = {name: tensor.double() for name, tensor in state.items()}
    x = pictures.double().permute(0, 2, 3, 1)
    for i, depth in enumerate(depths):
        name = f"image_encoder.convs.{i}"
        if i == 0:
            x = normed(convolved(ringed(x, 3), weights, f"{name}.proj", stride=4), weights, f"{name}.norm")
        else:
            x = convolved(ringed(normed(x, weights, f"{name}.norm"), 1), weights, f"{name}.proj", stride=2)
        for j in range(depth):
            inner = f"image_encoder.blocks.{i}.{j}"
            x = block(x, weights, f"{inner}.spatial_block", "window_attn", window_attention)
            x = block(x, weights, f"{inner}.channel_block", "channel_attn", channel_attention)
    return normed(x.mean((1, 2)), weights, "image_encoder.norms") @ weights["image_projection"]


# --- full size -------------------------------------------------------------------------------------------------


def test_every_published_tensor_has_one_place_at_full_size():
    with torch.device("meta"):
        net = ImageTower()
    places = net.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in places.items()} == image_layout(*FULL)
    assert len(places) == len({id(p) for p in net.parameters()}) == 403
    assert not list(net.buffers())


def test_the_layout_makes_a_file_of_the_published_size(tmp_path):
    small = image_layout(*NARROW) | language_layout(8, 1, 16)
    save_file(random_state(small), tmp_path / "small")
    assert (tmp_path / "small").stat().st_size == safetensors_size(small)
    full = image_layout(*FULL) | language_layout()
    assert len(full) == 601
    assert safetensors_size(full) == BYTES


# --- weights and vectors ---------------------------------------------------------------------------------------


def test_vectors_are_those_of_a_pass_written_anew(file, state):
    pictures = torch.randn(
        (2, 3, 112, 88), generator=torch.Generator().manual_seed(1)
    )  # no edge divides by 12
    found = narrow(file).double()(pictures.double())
    assert torch.allclose(found, own_pass(pictures, state), rtol=1e-9, atol=1e-9)


def test_every_image_tensor_counts(file, state):
    """Weights in the wrong place would not be seen by a pass that leaves them out."""
    picture = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(2))
    net = narrow(file)
    whole = net(picture)
    for parameter in net.parameters():
        kept = parameter.detach().clone()
        parameter.data.add_(torch.randn(kept.shape, generator=torch.Generator().manual_seed(3)))
        assert not torch.allclose(net(picture), whole, atol=1e-6)
        parameter.data.copy_(kept)


@pytest.mark.parametrize(
    ("name", "save"),
    [(FILE, save_file), ("a.safetensors", save_file), ("a", save_file), ("a.pt", torch.save), ("a.bin", torch.save)],
)  # fmt: skip
def test_the_format_is_told_by_the_content_and_not_by_the_name(tmp_path, state, name, save):
    save(state, tmp_path / name)
    found = narrow(tmp_path / name).state_dict()
    image = {name: tensor for name, tensor in state.items() if name in image_layout(*NARROW)}
    assert found.keys() == image.keys()
    assert all(torch.equal(found[n], tensor) for n, tensor in image.items())


def test_half_the_precision_and_no_language_half_are_taken(tmp_path, state):
    kept = {n: t.half() for n, t in state.items() if n.startswith("image_")}
    save_file(kept, tmp_path / "half")
    found = narrow(tmp_path / "half").state_dict()
    assert all(t.dtype == torch.float32 and torch.equal(t, kept[n].float()) for n, t in found.items())


def test_pictures_are_fed_as_published(file, state, monkeypatch):
    """8 bits, bicubic to 480 x 480 without a crop, ImageNet's mean and deviation, length 1.

    Brightness keeps away from the ends: PIL clips between its two passes, GlioLens after both.
    """
    monkeypatch.setattr(encoder_module, "has_bfloat16", lambda: False)
    grey = np.random.default_rng(0).integers(60, 196, (30, 25)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    sized = Image.fromarray(grey).convert("RGB").resize((480, 480), Image.Resampling.BICUBIC)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    published = torch.from_numpy((np.asarray(sized) / 255 - mean) / std).permute(2, 0, 1)[None]
    read = read_encoder(file, ImageTower(*NARROW))
    fed = []
    watched = torch.nn.Sequential(read.net)
    watched[0].register_forward_pre_hook(lambda _, given: fed.append(given[0]))
    found = dataclasses.replace(read, net=watched.eval()).encode(torch.from_numpy(grey / 255).float()[None])
    assert (fed[0] - published).abs().max() < 1.2 / 255 / std.min()  # PIL rounds to 8 bits, twice
    assert torch.allclose(found.norm(dim=1), torch.ones(1))
    assert torch.allclose(found, F.normalize(own_pass(fed[0], state)).float(), atol=1e-5)


# --- the card, the file and what is refused --------------------------------------------------------------------


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("inside", ["", "vision_model", "2024.09.27/vision_model"])
def test_a_folder_of_the_download_will_do_and_nothing_is_fetched(
    tmp_path, file, state, monkeypatch, inside, offline
):
    def refuse(*_):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(medimageinsight, "ImageTower", Narrow)
    place = tmp_path / "clone" / inside
    place.mkdir(parents=True)
    file.rename(place / FILE)
    encoder = load("medimageinsight", tmp_path / "clone", offline)
    assert torch.equal(encoder.net.state_dict()[QKV], state[QKV])
    assert (encoder.card.name, encoder.card.dim, encoder.card.licence) == ("medimageinsight", 24, "MIT")


def test_the_published_file_is_known_by_its_hash(file, state, monkeypatch, capsys):
    changed = read_encoder(file, ImageTower(*NARROW)).card.sha256
    assert changed != SHA256
    assert "not the published file" in capsys.readouterr().err
    monkeypatch.setattr(medimageinsight, "BYTES", file.stat().st_size)
    with pytest.raises(ModelError, match=f"expected {SHA256[:16]}: damaged or changed; download"):
        read_encoder(file, ImageTower(*NARROW))
    monkeypatch.setattr(medimageinsight, "SHA256", changed)
    assert read_encoder(file, ImageTower(*NARROW)).card.sha256 == changed
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop(QKV), f"1 missing: {QKV}"),
        (lambda s: s.update({"image_encoder.head.weight": torch.ones(3)}), "unknown: image_encoder.head.weight"),
        (lambda s: s.update({"davit.stem.conv.weight": torch.ones(3)}), "unknown: davit.stem.conv.weight"),
        (lambda s: s.update({QKV: torch.ones(64, 192)}), rf"{QKV} \(64, 192\) instead of \(192, 64\)"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(tmp_path, state, change, told):
    change(state)
    save_file(state, tmp_path / "changed.pt")
    with pytest.raises(ModelError, match=told):
        read_encoder(tmp_path / "changed.pt", ImageTower(*NARROW))


def test_another_size_of_network_is_refused(file):
    with pytest.raises(
        ModelError, match=r"convs\.0\.proj\.weight \(32, 3, 7, 7\) instead of \(256, 3, 7, 7\)"
    ):
        load("medimageinsight", file, offline=True)


def test_a_damaged_or_foreign_file_is_refused(tmp_path, file):
    whole = file.read_bytes()
    contents = {
        "cut": whole[: len(whole) // 2],
        "page": b"<!DOCTYPE html><html>not found</html>",
        "empty": b"",
        "code": pickle.dumps(print, protocol=2),
        "list": None,
    }
    torch.save([torch.ones(3)], tmp_path / "list")
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=name):
            read_encoder(tmp_path / name, ImageTower(*NARROW))


def test_a_clone_without_its_large_files_is_refused(tmp_path):
    (tmp_path / FILE).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {BYTES}\n"
    )
    with pytest.raises(ModelError, match="git lfs pull"):
        load("medimageinsight", tmp_path, offline=True)


def test_without_weights_it_says_where_they_are(no_cache):
    with pytest.raises(ConfigError) as told:
        load("medimageinsight", None, offline=True)
    for part in (FILE, "2.46 GB", "MIT", "https://huggingface.co/lion-ai/MedImageInsights", "--weights"):
        assert part in str(told.value)


def test_they_are_never_fetched_unasked(no_cache, monkeypatch):
    """2.46 GB are the user's to download."""
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("a connection was opened"))
    with pytest.raises(ConfigError, match=r"not at hand; get .*lion-ai/MedImageInsights \(2.46 GB"):
        load("medimageinsight", None, offline=False)


def test_a_folder_without_the_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=FILE):
        load("medimageinsight", tmp_path, offline=True)


def test_without_timm_it_says_how_to_install_it(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"gliolens\[encoders\]"):
        load("medimageinsight", file, offline=True)
