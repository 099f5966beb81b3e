"""Weights of others for a Swin UNETR that learns on: BrainSegFounder's, MONAI's, or any from MONAI's own network.

A file says neither in which order its channels stand for series nor which MONAI merged its patches; the user does. What
was taken, what was left and what was made of the channels goes into the run's card.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from gliolens.encoders.state import read_state
from gliolens.errors import ModelError
from gliolens.io.store import file_hash
from gliolens.labels import SERIES
from gliolens.nn.swin import SwinBackbone

ANCHOR: Final = "swinViT.patch_embed.proj.weight"
"""A tensor that every such file holds; what stands before its name is the file's prefix."""
OF_CHANNELS: Final = (
    "swinViT.patch_embed.proj.weight",
    "encoder1.layer.conv1.conv.weight",
    "encoder1.layer.conv3.conv.weight",
)
"""Tensors whose second axis is the series."""
HEAD: Final = "out.conv."
"""The last layer, which tells other tissues than ours: it always starts anew."""
_SHOWN: Final = 4


@dataclass(frozen=True)
class Taken:
    """What a network took over from a file.

    Attributes:
        file: its name.
        sha256: of its content.
        prefix: what stands before the network's own names in it.
        file_series: series of its channels, in its order.
        remapped: for each of the network's series, which of the file's channels its weights come from.
        taken: number of tensors taken over.
        left: parts of the network that start at random.
        skipped: names in the file that the network has no use for; without the prefix, where they have it.
    """

    file: str
    sha256: str
    prefix: str
    file_series: tuple[str, ...]
    remapped: Mapping[str, str]
    taken: int
    left: tuple[str, ...]
    skipped: tuple[str, ...]


def take_swin(backbone: SwinBackbone, file: Path, file_series: Sequence[str], series: Sequence[str]) -> Taken:
    """Start a backbone from a file.

    Args:
        backbone: changed in place.
        file: a state dict of MONAI's `SwinUNETR`, or of its `swinViT` alone, safetensors or PyTorch's; names may stand
            behind a prefix, such as `module.`.
        file_series: series of the file's channels, in its order.
        series: series of the network's channels, in its order. One that the file does not know starts from the mean
            over the file's channels.

    Raises:
        ModelError: the file holds no Swin UNETR, one of another size, or its channels are not as told; it names what
            differs. The network is unchanged then.
    """
    kept = read_state(file)
    prefix = _prefix(kept, file)
    state = {renamed(name.removeprefix(prefix)): t for name, t in kept.items() if name.startswith(prefix)}
    _check_series(state, file, file_series)
    places = {s: file_series.index(s) for s in series if s in file_series}
    for name in OF_CHANNELS:
        if name in state:
            state[name] = _in_order(state[name], series, places)
    wanted = backbone.net.state_dict()
    usable = {name: t for name, t in state.items() if name in wanted and not name.startswith(HEAD)}
    _check_sizes(usable, wanted, file)
    backbone.net.load_state_dict({**wanted, **usable})
    left = sorted({name.split(".")[0] for name in wanted if name not in usable})
    remapped = {s: file_series[places[s]] if s in places else "mean of all" for s in series}
    beside = [name for name in kept if not name.startswith(prefix)]
    skipped = (*beside, *(name for name in state if name not in usable))
    return Taken(
        file.name, file_hash(file), prefix, tuple(file_series), remapped, len(usable), tuple(left), skipped
    )


def _prefix(kept: Mapping[str, Tensor], file: Path) -> str:
    found = [name.removesuffix(ANCHOR) for name in kept if name.endswith(ANCHOR)]
    if len(found) != 1:
        raise ModelError(
            f"{file}: found {len(found)} tensors called {ANCHOR}, expected the one of a Swin UNETR of MONAI; "
            "name another file"
        )
    return found[0]


def renamed(name: str) -> str:
    """A tensor's name of today: MONAI's first pretrained weights call the layers of a block's MLP fc1 and fc2."""
    return re.sub(r"\.mlp\.fc([12])\.", r".mlp.linear\1.", name)


def _check_series(state: Mapping[str, Tensor], file: Path, file_series: Sequence[str]) -> None:
    channels = state[ANCHOR].shape[1]
    wrong = [s for s in file_series if s not in SERIES] or len(set(file_series)) != len(file_series)
    if wrong or len(file_series) != channels:
        raise ModelError(
            f"{file}: its first layer sees {channels} series; found the order {', '.join(file_series) or 'not told'}, "
            f"expected {channels} different ones of {', '.join(SERIES)}; name them in the file's order with "
            "--weights-series"
        )


def _in_order(tensor: Tensor, series: Sequence[str], places: Mapping[str, int]) -> Tensor:
    mean = tensor.mean(dim=1)
    return torch.stack([tensor[:, places[s]] if s in places else mean for s in series], dim=1)


def _check_sizes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], file: Path) -> None:
    """Refuse a network of another size, or one of whose encoder something is missing."""
    other = [
        f"{name} {tuple(t.shape)} instead of {tuple(wanted[name].shape)}"
        for name, t in state.items()
        if t.shape != wanted[name].shape
    ]
    missing = [n for n in wanted if n.startswith("swinViT.") and n not in state]
    told = [_some("of another shape", other), _some("missing", missing)]
    if any(told):
        hint = _size_hint(state, wanted)
        raise ModelError(
            f"{file}: the weights do not fit the network; {'; '.join(filter(None, told))}; {hint}name the right file"
        )


def _size_hint(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    theirs, ours = state[ANCHOR].shape[0], wanted[ANCHOR].shape[0]
    return f"the file's feature size is {theirs}, the network's {ours}: set --feature-size {theirs}, or " * (
        theirs != ours
    )


def _some(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"
