"""A fitted model in a folder: `weights.safetensors`, and `card.json` that says what they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file
from torch import Tensor

from gliolens.errors import ModelError
from gliolens.io.store import file_hash, read_json, whole_file, write_json

_WEIGHTS: Final = "weights.safetensors"


def write_model(
    folder: Path, method: str, version: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write a model's weights and card.

    Args:
        folder: where.
        method: its name.
        version: of the method.
        tensors: weights by name.
        about: what else the card says.
    """
    weights = folder / _WEIGHTS
    with whole_file(weights) as unfinished:
        save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished)
    write_json(
        folder / "card.json", {"method": method, "version": version, **about, "sha256": file_hash(weights)}
    )


def read_model(folder: Path, method: str, version: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and weights that `write_model` wrote.

    Raises:
        ModelError: the folder holds no model of this method and version, or its weights are not those of its card.
    """
    card = read_json(folder / "card.json")
    if card.get("method") != method or card.get("version") != version:
        found = f"{card.get('method')} version {card.get('version')}"
        raise ModelError(f"{folder}: found {found}, expected {method} version {version}; train it again")
    weights = folder / _WEIGHTS
    if not weights.is_file() or file_hash(weights) != card["sha256"]:
        raise ModelError(f"{weights}: missing, or not the file its card describes; copy the whole run again")
    return card, load_file(weights)
