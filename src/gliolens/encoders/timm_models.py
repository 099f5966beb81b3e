"""Any model of timm as an encoder: pooled features before the classifier.

Size, mean and standard deviation are those timm states for the weights; pictures are resized to the whole size, without
a crop. Examples: `timm:resnet50.a1_in1k` (2048 numbers, 224x224 pixels), `timm:vit_small_patch14_dinov2.lvd142m` (384,
518x518), `timm:vit_small_patch16_dinov3.lvd1689m` (384, 256x256).
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.encoders.state import Source, fill, find_weights, library, read_state, weights_in
from gliolens.errors import ConfigError
from gliolens.io.store import file_hash

FREE: Final = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
"""Licences under which weights are fetched where they are not at hand; others are the user's to accept first."""

_FILES: Final = ("model.safetensors", "pytorch_model.bin")
_UNKNOWN: Final = "unknown: see the model's page"


def load(model: str, weights: Path | None, offline: bool) -> Encoder:
    """A model of timm.

    Args:
        model: its name, with the tag of its weights, e.g. `resnet50.a1_in1k`.
        weights: the file, or a folder that holds it; where None, huggingface_hub's copy, or fetched by it where the
            licence is one of `FREE`.
        offline: never open a connection.

    Raises:
        ConfigError: timm is missing or has no such model, or the weights are not at hand and may not be fetched or
            cannot be.
        ModelError: the file is not the model's.
    """
    timm = library("timm")
    known = _known(model, timm)
    net: nn.Module = timm.create_model(model, pretrained=False, num_classes=0)
    file = _file(model, known, net, weights, offline=offline)
    state = read_state(file)
    mine = _passed_over(known)
    fill(net, _converted(state, net, mine), file, mine)
    net.eval().requires_grad_(False)
    return Encoder(_card(model, known, net, timm, file), net)


def _known(model: str, timm: Any) -> Any:
    """What timm states of a model's weights.

    Raises:
        ConfigError: it has no such model, or none with this tag.
    """
    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        near = timm.list_models(f"{name.split('_')[0]}*", pretrained=True)[:5]
        told = f"; near it are {', '.join(near)}" if near else ""
        raise ConfigError(f"timm has no model called {name!r}{told}; timm.list_pretrained() names all")
    known = timm.models.get_arch_pretrained_cfgs(name)
    if tag and model not in known:
        raise ConfigError(f"timm has no weights {tag!r} of {name}; it has {', '.join(known) or 'none'}")
    return timm.models.get_pretrained_cfg(model)


def _file(model: str, known: Any, net: nn.Module, weights: Path | None, *, offline: bool) -> Path:
    """The file of the weights: named, at hand, or fetched."""
    if weights is not None:
        return weights_in(weights, _files(known))
    if not known.hf_hub_id:
        where = f"get {known.url}" if known.url else "timm knows of none"
        raise ConfigError(
            f"timm:{model}: its weights are not at hand; {where}, and name the file with --weights"
        )
    return find_weights(f"timm:{model}", _source(known, net), None, offline=offline)


def _files(known: Any) -> tuple[str, ...]:
    own = (known.hf_hub_filename,) if known.hf_hub_filename else ()
    return (*own, *_FILES)


def _source(known: Any, net: nn.Module) -> Source:
    size = f"about {4e-6 * sum(p.numel() for p in net.parameters()):.0f} MB"  # four bytes a number
    licence = known.license or _UNKNOWN
    terms = "" if licence in FREE else "first read and accept that licence"
    return Source(known.hf_hub_id, _files(known), licence, size, terms)


def _card(model: str, known: Any, net: nn.Module, timm: Any, file: Path) -> EncoderCard:
    data = timm.data.resolve_model_data_config(net)
    channels, height, width = data["input_size"]
    if height != width or channels != 3:
        raise ConfigError(f"timm:{model} sees {channels}x{height}x{width}; expected 3 channels and a square")
    return EncoderCard(
        name=f"timm:{model}",
        dim=_dim(net),
        input_size=height,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        licence=known.license or _UNKNOWN,
        source=_source(known, net).words if known.hf_hub_id else known.url or "a file of your own",
        sha256=file_hash(file),
        downloads=bool(known.hf_hub_id) and known.license in FREE,
    )


def _dim(net: Any) -> int:
    """Numbers of a vector: some networks widen their features in the head, before the classifier."""
    return int(getattr(net, "head_hidden_size", net.num_features))


def _passed_over(known: Any) -> Callable[[str], bool]:
    """Which names are of the classifier, which is left out."""
    given = known.classifier or ()
    heads = tuple(f"{name}." for name in ((given,) if isinstance(given, str) else given))
    return lambda name: name.startswith(heads)


def _converted(
    state: Mapping[str, Tensor], net: nn.Module, passed_over: Callable[[str], bool]
) -> Mapping[str, Tensor]:
    """The tensors by timm's names; an author's own file is converted as timm does it.

    A file that timm cannot convert goes on as it is: what does not fit is then named.
    """
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    fits = {name for name in state if not passed_over(name)} == set(net.state_dict())
    if fits or convert is None:
        return state
    try:
        return dict(convert(dict(state), net))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return state
