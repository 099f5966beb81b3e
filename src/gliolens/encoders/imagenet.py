"""ResNets that know ImageNet's pictures: torchvision's own weights, or those of a file."""

from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlparse

import torch
from torchvision.models import ResNet, ResNet18_Weights, ResNet50_Weights, resnet18, resnet50

from gliolens.encoders.state import fill, nothing, read_state
from gliolens.errors import ConfigError
from gliolens.io.store import file_hash

TORCHVISION: Final = "imagenet"
"""Name of the weights that torchvision fetches; anything else names a file."""
_KINDS: Final = {18: ResNet18_Weights.IMAGENET1K_V1, 50: ResNet50_Weights.IMAGENET1K_V2}


def imagenet_resnet(depth: Literal[18, 50], weights: str, *, offline: bool) -> ResNet:
    """A ResNet of colour pictures with its weights.

    Args:
        depth: 18 or 50.
        weights: `imagenet`, or a file with a state dict of torchvision's ResNet (safetensors or PyTorch).
        offline: never open a connection; torchvision's weights must then lie in its cache.

    Raises:
        ConfigError: the weights are not at hand and may not be fetched, or cannot be.
        ModelError: the file holds other weights.
    """
    net: ResNet = (resnet50 if depth == 50 else resnet18)(weights=None)
    file = _cached(depth, offline=offline) if weights == TORCHVISION else _named(weights)
    fill(net, read_state(file), file, nothing)
    return net


def imagenet_identity(depth: Literal[18, 50], weights: str) -> str:
    """What tells these weights from others: the name of torchvision's file, which holds its hash, or a file's hash."""
    return _place(depth).name if weights == TORCHVISION else file_hash(_named(weights))


def _place(depth: Literal[18, 50]) -> Path:
    """Where torchvision keeps its file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(_KINDS[depth].url).path).name


def _named(weights: str) -> Path:
    file = Path(weights)
    if not file.is_file():
        raise ConfigError(f"{file}: no such file of weights; name a file, or {TORCHVISION} for torchvision's")
    return file


def _cached(depth: Literal[18, 50], *, offline: bool) -> Path:
    file, kind = _place(depth), _KINDS[depth]
    get = f"get {kind.url} on a machine that can, and name the file"
    if not file.is_file():
        if offline:
            raise ConfigError(f"ResNet-{depth}: torchvision's weights are not in {file.parent}; {get}")
        try:
            kind.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: another hash than the file's name says
            raise ConfigError(
                f"ResNet-{depth}: torchvision's weights could not be fetched ({error}); {get}"
            ) from error
    return file
