"""Weights of others: found or fetched, read from a file, and put into a network so that every tensor has its place."""

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gliolens.errors import ConfigError, ModelError
from gliolens.progress import say

_WRAPPERS: Final = ("state_dict", "model", "model_state_dict")  # where training scripts put the weights
# Training scripts keep the best score beside the weights, as a number of NumPy: harmless, and unknown to PyTorch.
_NUMPY: Final[list[Any]] = [
    (np.float64(0.0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0.0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
]
_SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Source:
    """Where the weights of an encoder lie on huggingface.co.

    Attributes:
        repository: `owner/name`.
        files: what the file is called there, the best first.
        licence: of the weights.
        size: of the file, in words; empty where it is not known.
        terms: what has to be done before they may be used; empty where nothing has to. Such weights are not fetched.
    """

    repository: str
    files: tuple[str, ...]
    licence: str
    size: str = ""
    terms: str = ""

    @property
    def page(self) -> str:
        """The address of its page."""
        return f"https://huggingface.co/{self.repository}"

    @property
    def words(self) -> str:
        """Where the weights come from and on which terms, for a user to follow."""
        told = ", ".join(filter(None, (self.size, f"licence: {self.licence}")))
        return f"{self.files[0]} of {self.page} ({told}){'; ' if self.terms else ''}{self.terms}"


def library(name: str) -> Any:
    """A library that only some encoders need.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"this encoder needs the library {name} ({error}): pip install 'gliolens[encoders]'"
        ) from error


def find_weights(encoder: str, source: Source, weights: Path | None, *, offline: bool) -> Path:
    """The file of an encoder's weights: the user's, the one huggingface_hub has at hand, or a fetched one.

    Args:
        encoder: its name, for messages.
        source: where the weights lie.
        weights: file or folder the user names.
        offline: never open a connection.

    Raises:
        ConfigError: the weights are not at hand and may not be fetched, or cannot be; it says where to get them.
    """
    if weights is not None:
        return weights_in(weights, source.files)
    hub = library("huggingface_hub")
    for name in source.files:
        kept = hub.try_to_load_from_cache(source.repository, name)
        if isinstance(kept, str):
            return Path(kept)
    get = f"get {source.words}, and name the file or its folder with --weights"
    if offline or source.terms:
        raise ConfigError(f"{encoder}: its weights are not at hand; {get}")
    say(f"{encoder}: fetching {source.words}")
    return _fetched(encoder, source, hub, get)


def _fetched(encoder: str, source: Source, hub: Any, get: str) -> Path:
    errors = library("huggingface_hub.errors")
    failures = (OSError, ValueError, *errors.HfHubHTTPError.__bases__)  # the last: its HTTP library's own
    for name in source.files:
        try:
            return Path(hub.hf_hub_download(source.repository, name))
        except errors.RemoteEntryNotFoundError:
            continue  # the next name
        except failures as error:
            raise ConfigError(f"{encoder}: its weights could not be fetched ({error}); {get}") from error
    raise ConfigError(f"{encoder}: none of {', '.join(source.files)} is on {source.page}; {get}")


def weights_in(place: Path, names: Sequence[str]) -> Path:
    """The file of weights the user points to.

    Args:
        place: the file itself, or a folder that holds it: a plain download, or a model's folder in the cache of
            huggingface_hub, where files lie in `snapshots/<revision>`.
        names: what the file may be called in a folder, the best first.

    Raises:
        ConfigError: there is nothing, or a folder without such a file, or with several revisions of it.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise ConfigError(f"{place}: no such file or folder of weights; name another with --weights")
    for name in names:
        found = [f for f in [place / name, *sorted(place.glob(f"snapshots/*/{name}"))] if f.is_file()]
        if len(found) > 1:
            revisions = ", ".join(str(f) for f in found)
            raise ConfigError(f"{place}: found {len(found)} files, {revisions}; name one with --weights")
        if found:
            return found[0]
    raise ConfigError(
        f"{place}: found none of {', '.join(names)} in this folder; name the file with --weights"
    )


def read_state(file: Path) -> dict[str, Tensor]:
    """Names and tensors of a file of weights: safetensors, or PyTorch's own format without any code in it.

    A state dict that lies under `state_dict`, `model` or `model_state_dict` is taken out. Tensors of a PyTorch file
    stay on the disk until they are used.

    Raises:
        ModelError: there is no file, it is none of the two, it needs code to be read, or it holds no state dict.
    """
    try:
        kept = load_file(file) if _is_safetensors(file) else _read_torch(file)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(
            f"{file}: cannot be read as safetensors or as a PyTorch file of tensors alone "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "download it again, or save its state dict by itself as safetensors"
        ) from error
    state = _unwrapped(kept)
    if not state:
        raise ModelError(f"{file}: found no state dict, expected names and tensors; name another file")
    return state


def fill(
    net: nn.Module, state: Mapping[str, Tensor], source: Path, passed_over: Callable[[str], bool]
) -> None:
    """Copy weights into a network; every one of its tensors must be there, and nothing may be left over.

    Args:
        net: changed in place.
        state: the weights by the network's own names; kept in the network's precision.
        source: the file they come from, for the message.
        passed_over: whether a name that the network does not know is known to be of no use to it.

    Raises:
        ModelError: a tensor is missing, unknown, or of another shape; it names them. The network is unchanged then.
    """
    wanted = net.state_dict()
    unknown = [name for name in state if name not in wanted and not passed_over(name)]
    other = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    wrong = {
        "missing": [name for name in wanted if name not in state],
        "unknown": unknown,
        "of another shape": other,
    }
    told = [f"{len(names)} {what}: {_some(names)}" for what, names in wrong.items() if names]
    if told:
        raise ModelError(
            f"{source}: the weights do not fit the network; {'; '.join(told)}; name the right file"
        )
    net.load_state_dict({name: state[name] for name in wanted})


def nothing(name: str) -> bool:
    """For `fill`: no unknown name is passed over."""
    del name
    return False


def without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by what follows it; all others are left out."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _is_safetensors(file: Path) -> bool:
    """Whether a file begins as safetensors does: 8 bytes of length, then JSON. Its name may be a bare hash."""
    with file.open("rb") as opened:
        head = opened.read(9)
    return head[8:] == b"{"


def _read_torch(file: Path) -> Any:
    with torch.serialization.safe_globals(_NUMPY):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))


def _unwrapped(kept: Any) -> dict[str, Tensor]:
    if not isinstance(kept, Mapping):
        return {}
    inner: Iterable[Any] = (kept[name] for name in _WRAPPERS if isinstance(kept.get(name), Mapping))
    chosen: Mapping[Any, Any] = next(iter(inner), kept)
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in chosen.items()):
        return {}
    return dict(chosen)
