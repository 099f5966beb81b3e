"""Encoders of whole volumes: the deepest stage of a Swin UNETR, BrainSegFounder's among them, and MONAI's ViT.

All are read from a file the user has; nothing is fetched. Sizes of the network (channels, depths, heads, window, patch)
are read off the shapes in the file, so that any Swin UNETR and any of MONAI's ViTs can be used.

- `swin-unetr`: Hatamizadeh et al. 2022 (doi 10.48550/arXiv.2201.01266). The deepest of the five stages, 16 times the
  feature size (768 numbers at 48), averaged over space. A file of the whole network or of the encoder alone will do.
  MONAI before 1.5 left out two of the eight corners when it merged patches and took two others twice (MONAI pull
  request 8285); the shapes are the same, so the file cannot tell. `swin-unetr:before-1.5` is for weights of then.
- `brainsegfounder`: Cox et al. 2024 (doi 10.1016/j.media.2024.103301), a Swin UNETR of feature size 48, trained with
  MONAI 1.2, so merged as before 1.5. UK Biobank's agreement goes with its weights.
- `vit-3d`: MONAI's ViT, alone or in a UNETR. Heads have 64 numbers, as in every published ViT of MONAI.

What is not known: a network of several channels was trained on several series; here all its channels see the same one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jaxtyping import Float
from monai.networks.nets.swin_unetr import SwinTransformer
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.encoders.state import fill, nothing, read_state, weights_in
from gliolens.encoders.swin_weights import renamed
from gliolens.errors import ConfigError, ModelError
from gliolens.io.store import file_hash
from gliolens.nn.swin import MergingBefore

PIXELS: Final = 96
"""Edge of the cube a Swin UNETR sees, as in the pretraining of BrainSegFounder and of MONAI's own weights."""

_SWINS: Final = ("swin-unetr", "before-1.5", "brainsegfounder")
_FILES: Final = (  # a folder may hold several of BrainSegFounder's: the most general first
    "model_weights_UKB-pretrain.pt", "model_weights_BRATS-pretrain.pt", "model_weights_BRATS-finetune.pt",
    "model.safetensors", "model.pt",
)  # fmt: skip
_SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "brainsegfounder": (
        "model_weights_UKB-pretrain.pt, or another of https://huggingface.co/smilelab/BrainSegFounder; "
        "UK Biobank's agreement must be accepted",
        "UK Biobank material transfer agreement (uk-biobank-mta)",
    ),
    "swin-unetr": (
        "a file of MONAI's SwinUNETR, your own or e.g. from MONAI's model zoo",
        "that of your file",
    ),
    "vit-3d": (
        "a file of MONAI's ViT or UNETR, your own or e.g. from MONAI's model zoo",
        "that of your file",
    ),
}


def load(model: str, weights: Path | None, offline: bool) -> Encoder:
    """An encoder of volumes from the user's file.

    Args:
        model: `swin-unetr`, `before-1.5` (what follows the colon of `swin-unetr:before-1.5`), `brainsegfounder`, or
            `vit-3d`.
        weights: safetensors or a PyTorch file, or the folder it lies in.
        offline: makes no difference: nothing is fetched.

    Raises:
        ConfigError: no such model, or no weights; it says where they are to be had.
        ModelError: the file is not one of such a network.
    """
    if model not in (*_SWINS, "vit-3d"):
        raise ConfigError(
            f"no encoder of volumes is called {model!r}; there are swin-unetr, swin-unetr:before-1.5, "
            "brainsegfounder, vit-3d"
        )
    name = "swin-unetr:before-1.5" if model == "before-1.5" else model
    source, licence = _SOURCES[name.partition(":")[0]]
    if weights is None:
        raise ConfigError(
            f"{name}: no weights; get {source} (licence: {licence}), and name it with --weights"
        )
    file = weights_in(weights, _FILES)
    state = read_state(file)
    net = _vit(state, file) if model == "vit-3d" else _swin(state, file, older=model != "swin-unetr")
    channels = net.channels
    card = EncoderCard(
        name=name, dim=net.dim, input_size=net.pixels, mean=(0.0,) * channels, std=(1.0,) * channels,
        licence=licence, source=source, sha256=file_hash(file), volumes=True,
    )  # fmt: skip
    net.eval().requires_grad_(False)
    return Encoder(card, net)


# --- Swin UNETR ------------------------------------------------------------------------------------------------


class Deepest(nn.Module):
    """The deepest stage of a Swin UNETR's encoder, averaged over space.

    Args:
        swin: the encoder.
        standard: whether each channel is scaled to mean 0 and standard deviation 1 over its voxels that are not 0.
    """

    def __init__(self, swin: SwinTransformer, *, standard: bool) -> None:
        super().__init__()
        self.swin, self.standard = swin, standard
        self.channels, self.pixels = swin.patch_embed.proj.in_channels, PIXELS
        self.dim = 2 * swin.num_features  # the last merge doubles them once more

    def forward(self, x: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n dim"]:
        """Vectors of volumes."""
        deepest: Tensor = self.swin(_standard(x) if self.standard else x, normalize=True)[-1]
        return deepest.mean(dim=(2, 3, 4))


def _standard(x: Tensor) -> Tensor:
    there = (x != 0).to(x.dtype)
    axes = (2, 3, 4)
    count = there.sum(axes, keepdim=True).clamp_min(1)
    centred = (x - x.sum(axes, keepdim=True) / count) * there
    spread = (centred.square().sum(axes, keepdim=True) / count).sqrt()
    return centred / spread.clamp_min(1e-6)  # a volume of one brightness becomes 0


def _swin(kept: Mapping[str, Tensor], file: Path, *, older: bool) -> Deepest:
    """The encoder of a file.

    Networks trained to segment saw standardised series (MONAI's and BrainSegFounder's recipes for BraTS); those
    pretrained without labels saw brightness between 0 and 1. A file with a decoder's output is of the first kind.
    """
    prefix = _prefix(kept, "patch_embed.proj.weight", file, "Swin UNETR")
    part = re.compile(re.escape(prefix) + r"(patch_embed|layers[1-4]c?)\.")
    state = {renamed(k.removeprefix(prefix)): v for k, v in kept.items() if part.match(k)}
    swin = SwinTransformer(
        **_swin_sizes(state, file), downsample=MergingBefore if older else "merging", spatial_dims=3
    )
    fill(swin, state, file, nothing)
    return Deepest(swin, standard=any(re.search(r"(^|\.)out\.conv\.", name) for name in kept))


def _swin_sizes(state: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    first = "layers1.0.blocks.0."
    width, channels, *patch = _shape(state, "patch_embed.proj.weight", 5, file)
    tables = [
        _shape(state, f"layers{i}.0.blocks.0.attn.relative_position_bias_table", 2, file)
        for i in (1, 2, 3, 4)
    ]
    window = (_root(tables[0][0], file, "a relative_position_bias_table") + 1) // 2
    return {
        "in_chans": channels,
        "embed_dim": width,
        "patch_size": patch,
        "window_size": (window,) * 3,
        "depths": [_count(state, rf"layers{i}\.0\.blocks\.(\d+)\.") for i in (1, 2, 3, 4)],
        "num_heads": [heads for _, heads in tables],
        "mlp_ratio": _shape(state, f"{first}mlp.linear1.weight", 2, file)[0] / width,
        "qkv_bias": f"{first}attn.qkv.bias" in state,
        "patch_norm": "patch_embed.norm.weight" in state,
        "use_v2": any(name.startswith("layers1c.") for name in state),
    }


# --- ViT -------------------------------------------------------------------------------------------------------


class Tokens(nn.Module):
    """MONAI's ViT: its class token where it has one, else the mean over all tokens.

    Args:
        vit: the network, its classifier taken off.
        pixels: edge of the cube it sees.
    """

    def __init__(self, vit: ViT, pixels: int, channels: int) -> None:
        super().__init__()
        self.vit, self.pixels, self.channels = vit, pixels, channels
        self.dim = int(vit.norm.normalized_shape[0])

    def forward(self, x: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n dim"]:
        """Vectors of volumes."""
        out: Tensor = self.vit(x)[0]
        return out if self.vit.classification else out.mean(dim=1)


def _vit(kept: Mapping[str, Tensor], file: Path) -> Tokens:
    prefix = _prefix(kept, "patch_embedding.position_embeddings", file, "ViT of MONAI")
    part = re.compile(re.escape(prefix) + r"(patch_embedding|blocks|norm|cls_token)(\.|$)")
    state = {k.removeprefix(prefix): v for k, v in kept.items() if part.match(k)}
    sizes = _vit_sizes(state, file)
    vit = ViT(**sizes, classification="cls_token" in state, spatial_dims=3)
    if vit.classification:
        setattr(vit, "classification_head", nn.Identity())  # noqa: B010  MONAI types it narrower
    # Blocks of some versions of MONAI have a norm and an attention across inputs that a ViT never runs.
    unused = {k: v for k, v in vit.state_dict().items() if ".norm_cross_attn." in k}
    fill(
        vit,
        unused | state,
        file,
        lambda name: re.match(r"blocks\.\d+\.(norm_)?cross_attn\.", name) is not None,
    )
    return Tokens(vit, sizes["img_size"][0], sizes["in_channels"])


def _vit_sizes(state: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    _, tokens, hidden = _shape(state, "patch_embedding.position_embeddings", 3, file)
    if linear := "patch_embedding.patch_embeddings.1.weight" in state:
        # Flat patches: their edge and channels are one product; one channel, as in MONAI's published networks.
        numbers = _shape(state, "patch_embedding.patch_embeddings.1.weight", 2, file)[1]
        channels, edge = 1, _root(numbers, file, "a flat patch of one channel")
    else:
        _, channels, edge, *_ = _shape(state, "patch_embedding.patch_embeddings.weight", 5, file)
    if hidden % 64:
        raise ModelError(f"{file}: found {hidden} numbers a token, expected heads of 64; name another file")
    return {
        "in_channels": channels,
        "img_size": (edge * _root(tokens, file, "the grid of patches"),) * 3,
        "patch_size": (edge,) * 3,
        "hidden_size": hidden,
        "mlp_dim": _shape(state, "blocks.0.mlp.linear1.weight", 2, file)[0],
        "num_layers": _count(state, r"blocks\.(\d+)\."),
        "num_heads": hidden // 64,
        "proj_type": "perceptron" if linear else "conv",
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
    }


# --- what a file says ------------------------------------------------------------------------------------------


def _prefix(kept: Mapping[str, Tensor], name: str, file: Path, what: str) -> str:
    """What stands before the names of the part of a network that holds `name`."""
    found = [k.removesuffix(name) for k in kept if k == name or k.endswith(f".{name}")]
    if len(found) != 1:
        raise ModelError(
            f"{file}: found {len(found)} tensors called {name}, expected the one of a {what}; name another file"
        )
    return found[0]


def _shape(state: Mapping[str, Tensor], name: str, axes: int, file: Path) -> tuple[int, ...]:
    if name not in state:
        raise ModelError(
            f"{file}: the weights do not fit the network; 1 missing: {name}; name the right file"
        )
    if state[name].ndim != axes:
        raise ModelError(
            f"{file}: found {name} of shape {tuple(state[name].shape)}, expected {axes} axes; name the right file"
        )
    return tuple(state[name].shape)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many blocks there are, counted from 0 to the last, so that one left out is missed."""
    found = (re.match(pattern, name) for name in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _root(number: int, file: Path, what: str) -> int:
    edge: int = round(number ** (1 / 3))
    if edge**3 != number:
        raise ModelError(
            f"{file}: found {number} entries in {what}, expected those of a cube; name another file"
        )
    return edge
