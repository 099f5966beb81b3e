"""MedImageInsight's image encoder.

Codella et al. 2024 (doi 10.48550/arXiv.2410.06542): a DaViT-huge (Ding et al. 2022, doi 10.48550/arXiv.2204.03645)
trained on medical images and their captions. Mean over the tokens, layer norm, `x @ image_projection` from 2048 to
1024, length 1. It sees 480x480 pixels, resized without a crop, with ImageNet's mean and standard deviation.

The network is timm's `davit_huge_fl`, made for Florence-2, which has the same layout: checked at full size, and
against a pass of our own. The published file is safetensors in spite of its name, 601 tensors of float32: 403 of the
image half, the rest of the language half, which is passed over.
"""

import re
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.encoders.state import Source, fill, find_weights, library, read_state
from gliolens.errors import ModelError
from gliolens.io.store import file_hash
from gliolens.progress import say

WIDTHS: Final = (256, 512, 1024, 2048)
DEPTHS: Final = (1, 1, 9, 1)
DIM: Final = 1024
FILE: Final = "medimageinsigt-v1.0.0.pt"
"""As it is published: without the h."""
BYTES: Final = 2_464_060_700
SHA256: Final = "5eeda63bf616a61664bc95b2c09d3b3d7125209e635678bd3f5f324e9bdb1414"
"""Pinned by others for Microsoft's download, and by Git LFS in a clone of lion-ai's repository: the same."""

_FOLDERS = ("2024.09.27/vision_model/", "artifacts/checkpoints/vision_model/", "vision_model/", "")
_SOURCE = Source("lion-ai/MedImageInsights", tuple(f + FILE for f in _FOLDERS), licence="MIT", size="2.46 GB")
_HEAD_WIDTH = 32  # channels of a head of attention, at every width

_RULES: Final = (  # our name, published name; applied in this order
    (r"^davit\.stem\.", "image_encoder.convs.0."),
    (r"^davit\.stages\.(\d)\.downsample\.", r"image_encoder.convs.\1."),
    (r"^davit\.stages\.(\d)\.blocks\.", r"image_encoder.blocks.\1."),
    (r"^davit\.head\.norm\.", "image_encoder.norms."),
    (r"^projection$", "image_projection"),
    (r"\.convs\.(\d)\.conv\.", r".convs.\1.proj."),
    (r"\.cpe(\d)\.proj\.", r".conv\1.fn.dw."),
    (r"\.spatial_block\.norm1\.", ".spatial_block.window_attn.norm."),
    (r"\.spatial_block\.attn\.", ".spatial_block.window_attn.fn."),
    (r"\.channel_block\.norm1\.", ".channel_block.channel_attn.norm."),
    (r"\.channel_block\.attn\.", ".channel_block.channel_attn.fn."),
    (r"\.norm2\.", ".ffn.norm."),
    (r"\.mlp\.", ".ffn.fn.net."),
)


def load(model: str, weights: Path | None, offline: bool) -> Encoder:
    """MedImageInsight from its file: as published, or a copy of it as PyTorch or safetensors.

    Args:
        model: makes no difference: there is one.
        weights: the file, or a folder that holds it: a clone or download of the repository, or Microsoft's folder.
        offline: makes no difference: 2.46 GB are never fetched unasked; what huggingface_hub has at hand is taken.

    Raises:
        ConfigError: the weights are not at hand, or timm is not installed.
        ModelError: the file is not MedImageInsight's, or damaged.
    """
    del model, offline
    library("timm")
    file = find_weights("medimageinsight", _SOURCE, weights, offline=True)
    with torch.device("meta"):  # random numbers for 363 million weights would take seconds, for nothing
        net = ImageTower()
    return read_encoder(file, net)


def read_encoder(file: Path, net: "ImageTower") -> Encoder:
    """Fill a network with the weights of a file.

    Args:
        file: safetensors or PyTorch, whatever it is called; the language half may be missing.
        net: of the file's size; what it holds is lost.

    Raises:
        ModelError: the file cannot be read, a tensor is missing, unknown or of another shape, or the file has the
            published size but not the published content.
    """
    _refuse_pointer(file)
    net.to_empty(device="cpu")
    fill(net, read_state(file), file, _of_language)
    return Encoder(_card(net.dim, _checked_hash(file)), net, unit=True)


class ImageTower(nn.Module):
    """DaViT and the projection; its state dict has the published names.

    Args:
        widths: channels of the four stages, multiples of 32.
        depths: pairs of blocks of each stage.
        dim: numbers of a vector.
    """

    def __init__(
        self, widths: tuple[int, ...] = WIDTHS, depths: tuple[int, ...] = DEPTHS, dim: int = DIM
    ) -> None:
        super().__init__()
        self.dim = dim
        self.davit = _davit(widths, depths)
        self.projection = nn.Parameter(torch.randn(widths[-1], dim) * widths[-1] ** -0.5)
        self.register_state_dict_post_hook(_with_published_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_our_names)  # type: ignore[no-untyped-call]

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n dim"]:
        """Vectors, not yet of length 1."""
        features: Tensor = self.davit(x)
        return features @ self.projection


def _davit(widths: tuple[int, ...], depths: tuple[int, ...]) -> nn.Module:
    heads = tuple(width // _HEAD_WIDTH for width in widths)
    net: nn.Module = library("timm").create_model(
        "davit_huge_fl", pretrained=False, num_classes=0, embed_dims=widths, num_heads=heads, depths=depths
    )
    return net


def published_name(ours: str) -> str:
    """What the published file calls a tensor of `ImageTower`."""
    for pattern, published in _RULES:
        ours = re.sub(pattern, published, ours)
    return ours


def _with_published_names(net: nn.Module, state: dict[str, Any], prefix: str, told: dict[str, Any]) -> None:
    del net, told
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + published_name(name.removeprefix(prefix))] = state.pop(name)


def _with_our_names(net: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    del rest
    for name, _ in net.named_parameters():
        if (published := prefix + published_name(name)) in state:
            state[prefix + name] = state.pop(published)


def _of_language(name: str) -> bool:
    """Whether a tensor belongs to the language half; `text_projection` is what `lang_projection` once was called."""
    return name.startswith("lang_encoder.") or name in ("lang_projection", "text_projection", "logit_scale")


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as opened:
        if not opened.read(40).startswith(b"version https://git-lfs"):
            return
    raise ModelError(
        f"{file}: found a pointer of Git LFS, expected the weights themselves (2.46 GB); "
        "run `git lfs pull` in that clone, or download the file by itself"
    )


def _checked_hash(file: Path) -> str:
    """SHA-256 of the file; one that differs is refused where it cannot be a copy in another format, else told."""
    found = file_hash(file)
    if found == SHA256:
        return found
    if file.stat().st_size == BYTES:
        raise ModelError(
            f"{file}: found SHA-256 {found[:16]}, expected {SHA256[:16]}: damaged or changed; download it again"
        )
    say(
        f"{file}: not the published file of MedImageInsight, though its tensors fit; its numbers are unchecked"
    )
    return found


def _card(dim: int, sha256: str) -> EncoderCard:
    return EncoderCard(
        name="medimageinsight",
        dim=dim,
        input_size=480,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        licence=_SOURCE.licence,
        source=_SOURCE.words,
        sha256=sha256,
        downloads=True,
    )
