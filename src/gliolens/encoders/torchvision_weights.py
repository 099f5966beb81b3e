"""Weights that torchvision offers: from its cache, fetched once by its own mechanism, or the user's own file."""

from pathlib import Path
from urllib.parse import urlparse

import torch
from torchvision.models import WeightsEnum

from gliolens.errors import ConfigError
from gliolens.io.store import file_hash


def weights_file(kind: WeightsEnum, weights: str, own: str, *, offline: bool) -> Path:
    """The file of a network's weights.

    Args:
        kind: which weights torchvision would fetch.
        weights: `own`, or a file with a state dict of the same network (safetensors or PyTorch).
        own: what the user calls torchvision's weights, such as `imagenet`.
        offline: never open a connection; torchvision's weights must then lie in its cache.

    Raises:
        ConfigError: the weights are not at hand and may not be fetched, or cannot be.
    """
    return _cached(kind, offline=offline) if weights == own else _named(weights, own)


def weights_identity(kind: WeightsEnum, weights: str, own: str) -> str:
    """What tells these weights from others: the name of torchvision's file, which holds its hash, or a file's hash."""
    return _place(kind).name if weights == own else file_hash(_named(weights, own))


def _place(kind: WeightsEnum) -> Path:
    """Where torchvision keeps its file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(kind.url).path).name


def _named(weights: str, own: str) -> Path:
    file = Path(weights)
    if not file.is_file():
        raise ConfigError(f"{file}: no such file of weights; name a file, or {own} for torchvision's")
    return file


def _cached(kind: WeightsEnum, *, offline: bool) -> Path:
    file, name = _place(kind), type(kind).__name__.removesuffix("_Weights")
    get = f"get {kind.url} on a machine that can, and name the file"
    if not file.is_file():
        if offline:
            raise ConfigError(f"{name}: torchvision's weights are not in {file.parent}; {get}")
        try:
            kind.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: another hash than the file's name says
            raise ConfigError(
                f"{name}: torchvision's weights could not be fetched ({error}); {get}"
            ) from error
    return file
