"""The encoders there are, by name. A line here, and one module, is what a new family takes; it is imported on use."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

import torch

from gliolens.encoders.encoder import Encoder
from gliolens.errors import ConfigError

ENCODERS: Final[Mapping[str, tuple[str, str]]] = {
    "built-in": ("built_in", "ours, trained on simulated slices; lies in the package"),
    "random": ("built_in", "the built-in network with random weights: a control"),
    "histogram": ("built_in", "how many pixels are how bright, and nothing else: a control"),
    "medimageinsight": ("medimageinsight", "MedImageInsight, from the downloaded file"),
    "timm": ("timm_models", "any model of timm, as timm:NAME, e.g. timm:resnet50.a1_in1k"),
    "biomedclip": ("clip_models", "BiomedCLIP, through open_clip"),
    "rad-dino": ("transformer_models", "RAD-DINO, through transformers"),
    "medsiglip": ("transformer_models", "MedSigLIP, through transformers"),
    "swin-unetr": ("volume_models", "deepest stage of a Swin UNETR (3-D), from a file"),
    "brainsegfounder": ("volume_models", "BrainSegFounder's Swin encoder (3-D), from a file"),
    "vit-3d": ("volume_models", "MONAI's ViT (3-D), from a file"),
}
"""Name, module and description of each family."""
WITH_MODELS: Final = ("timm", "swin-unetr")
"""Families of several models: one is named after a colon."""


def find_encoder(name: str, weights: Path | None = None, *, offline: bool = False) -> Encoder:
    """Make an encoder ready.

    Args:
        name: one of `ENCODERS`; those of `WITH_MODELS` take a model's name after a colon.
        weights: file or folder of its weights, where it needs one.
        offline: never open a connection.

    Raises:
        ConfigError: no encoder has this name, or its weights or its library are not at hand.
        ModelError: the weights are not those of this encoder.
    """
    family, colon, model = name.partition(":")
    if family not in ENCODERS or (colon and family not in WITH_MODELS):
        raise ConfigError(f"no encoder is called {name!r}; there are {', '.join(ENCODERS)}")
    if weights is not None and not weights.exists():
        raise ConfigError(
            f"{weights}: nothing there; name the weights of {name} with --weights, or, those of a trained run, in its "
            "model/card.json"
        )
    module = import_module(f"gliolens.encoders.{ENCODERS[family][0]}")
    encoder: Encoder = module.load(model or family, weights, offline)
    encoder.net.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
    return encoder
