"""The encoder that lies in the package, and the two controls beside it."""

from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.errors import ConfigError, ModelError
from gliolens.io.store import file_hash, read_json
from gliolens.nn.slice_encoder import SliceEncoder

FOLDER: Final = Path(__file__).parents[1] / "weights" / "encoder"
PIXELS: Final = 128
BINS: Final = 64


def load(model: str, weights: Path | None, offline: bool) -> Encoder:
    """The built-in encoder, the same network with random weights, or a histogram.

    Args:
        model: `built-in`, `random` or `histogram`.
        weights: folder of `weights.safetensors` and `card.json` in place of the package's; the built-in alone takes it.
        offline: makes no difference: nothing is fetched.

    Raises:
        ConfigError: weights for an encoder that has none.
        ModelError: the weights are missing or changed.
    """
    if weights is not None and model != "built-in":
        raise ConfigError(f"{model} takes no weights; leave --weights out")
    if model == "histogram":
        return Encoder(_card(model, BINS, "counts pixels"), Histogram(BINS))
    if model == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = SliceEncoder()
        return Encoder(_card(model, net.dim, "random numbers of seed 0"), net)
    return _trained(weights or FOLDER)


def _card(name: str, dim: int, source: str) -> EncoderCard:
    return EncoderCard(
        name=name, dim=dim, input_size=PIXELS, mean=(0.0,), std=(1.0,), licence="Apache-2.0", source=source
    )


def _trained(folder: Path) -> Encoder:
    file, told = folder / "weights.safetensors", folder / "card.json"
    if not (file.is_file() and told.is_file()):
        raise ModelError(f"{folder}: no weights.safetensors with a card.json; make them with `make weights`")
    if file_hash(file) != read_json(told).get("sha256"):
        raise ModelError(f"{file}: not the file its card describes; make it again with `make weights`")
    net = SliceEncoder()
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(file).items()})
    except RuntimeError as error:
        raise ModelError(f"{file}: not weights of the built-in encoder ({error})") from error
    return Encoder(_card("built-in", net.dim, "trained on simulated slices; lies in the package"), net)


class Histogram(nn.Module):
    """Share of the pixels brighter than 0 that fall in each of equal bins.

    Args:
        bins: how many.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(0.0, 1.0, bins + 1)[1:-1])

    def forward(self, x: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n bins"]:
        """Histogram of each picture."""
        edges = self.get_buffer("edges")
        place = torch.bucketize(x.flatten(1).float().contiguous(), edges)
        counted = (x.flatten(1) > 0).float()
        out = torch.zeros(len(x), len(edges) + 1, device=x.device).scatter_add_(1, place, counted)
        return out / counted.sum(dim=1, keepdim=True).clamp_min(1.0)
