"""RAD-DINO and MedSigLIP, built by transformers from their published sizes and filled from the published files.

- `rad-dino`: Perez-Garcia et al. 2024 (doi 10.48550/arXiv.2401.10815), a DINOv2 ViT-B/14 trained on chest X-rays. The
  class token after the last norm, 768 numbers; 518x518 pixels. Its own recipe cuts out the middle square; here the
  whole picture is resized.
- `medsiglip`: Sellergren et al. 2025 (doi 10.48550/arXiv.2507.05201), the image half of a SigLIP (SO400M/14) trained on
  medical images, slices of MRI among them, and their captions. The attention-pooled vector, 1152 numbers, 448x448
  pixels. Only directions were trained, so vectors are scaled to length 1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jaxtyping import Float
from torch import Tensor, nn

from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.encoders.state import Source, fill, find_weights, library, read_state
from gliolens.errors import ConfigError
from gliolens.io.store import file_hash


@dataclass(frozen=True)
class Published:
    """What is published of a model.

    Attributes:
        source: where its weights lie.
        network: names of its configuration and its class in transformers.
        sizes: its configuration.
        mean, std: brightness it expects, the same in all three channels.
        unit: whether only directions were trained.
    """

    source: Source
    network: tuple[str, str]
    sizes: Mapping[str, Any]
    mean: float
    std: float
    unit: bool


MODELS: dict[str, Published] = {
    "rad-dino": Published(
        Source("microsoft/rad-dino", ("model.safetensors",), "MIT", "346 MB"),
        ("Dinov2Config", "Dinov2Model"),
        # config.json and preprocessor_config.json of the repository
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "mlp_ratio": 4,
         "patch_size": 14, "image_size": 518, "layer_norm_eps": 1e-6, "hidden_act": "gelu"},
        0.5307, 0.2583, unit=False,
    ),
    "medsiglip": Published(
        Source(
            "google/medsiglip-448", ("model.safetensors",), "Health AI Developer Foundations' terms of use",
            "about 3.5 GB", "first accept those terms on that page, or at "
            "https://developers.google.com/health-ai-developer-foundations/terms",
        ),
        ("SiglipVisionConfig", "SiglipVisionModel"),
        # vision_config of the repository's config.json; mean and deviation of its preprocessor_config.json
        {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
         "patch_size": 14, "image_size": 448, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"},
        0.5, 0.5, unit=True,
    ),
}  # fmt: skip
"""The models, by name."""

# transformers 5 calls some layers otherwise than the published files do; it translates in `from_pretrained` alone.
_NEWER: Final = (
    (r"attention\.attention\.(q|k|v)(uery|ey|alue)\.", r"attention.\1_proj."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"^vision_model\.", ""),
)


class Pooled(nn.Module):
    """A network of transformers that answers with its pooled vector alone.

    Args:
        net: the network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n dim"]:
        """Vectors of pictures."""
        pooled: Tensor = self.net(pixel_values=x).pooler_output
        return pooled


def load(model: str, weights: Path | None, offline: bool) -> Encoder:
    """RAD-DINO or MedSigLIP.

    Args:
        model: `rad-dino` or `medsiglip`.
        weights: the file, or a folder that holds it; where None, huggingface_hub's copy, or fetched by it. MedSigLIP
            is never fetched: its terms have to be accepted first.
        offline: never open a connection.

    Raises:
        ConfigError: no such model, transformers is missing, or the weights are not at hand and cannot be fetched.
        ModelError: the file is not the model's.
    """
    if model not in MODELS:
        raise ConfigError(f"no encoder of transformers is called {model!r}; there are {', '.join(MODELS)}")
    told = MODELS[model]
    transformers = library("transformers")
    file = find_weights(model, told.source, weights, offline=offline)
    net = network(told, transformers)
    fill(net, _translated(read_state(file), net), file, _other_half)
    encoder_net = Pooled(net).eval().requires_grad_(False)
    card = EncoderCard(
        name=model, dim=told.sizes["hidden_size"], input_size=told.sizes["image_size"],
        mean=(told.mean,) * 3, std=(told.std,) * 3, licence=told.source.licence, source=told.source.words,
        sha256=file_hash(file), downloads=not told.source.terms,
    )  # fmt: skip
    return Encoder(card, encoder_net, unit=told.unit)


def network(told: Published, transformers: Any) -> nn.Module:
    """The network of a published model, without weights."""
    config, kind = (getattr(transformers, name) for name in told.network)
    net: nn.Module = kind(config(**told.sizes))
    return net


def _other_half(name: str) -> bool:
    """What a file of MedSigLIP holds beside the image half: the language half and the loss."""
    return name.startswith("text_model.") or name in ("logit_scale", "logit_bias")


def _translated(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The published tensors by the names of the installed transformers."""
    known = net.state_dict().keys()
    return {name if name in known else _newer(name): tensor for name, tensor in state.items()}


def _newer(name: str) -> str:
    for pattern, now in _NEWER:
        name = re.sub(pattern, now, name)
    return name
