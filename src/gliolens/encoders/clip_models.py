"""BiomedCLIP's image encoder, built by open_clip and filled from the published file.

Zhang et al. 2023 (doi 10.48550/arXiv.2303.00915): a ViT-B/16 (timm's) with a linear projection to 512 numbers, trained
on figures of PubMed and their captions. Only directions were trained, so vectors are scaled to length 1. It sees
224x224 pixels; its own recipe cuts out the middle square, here the whole picture is resized.

The language half needs a tokenizer from the hub; it is not built, and its tensors in the file are passed over.
"""

from pathlib import Path
from typing import Any, Final

from torch import nn

from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.encoders.state import Source, fill, find_weights, library, nothing, read_state, without
from gliolens.errors import ConfigError, ModelError
from gliolens.io.store import file_hash

REPOSITORY: Final = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
SOURCE: Final = Source(
    REPOSITORY,
    files=("open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
    licence="MIT",
    size="784 MB",
)
SHA256: Final = "52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be"
"""Of the published open_clip_pytorch_model.bin."""
VISION: dict[str, Any] = {
    "model_name": "vit_base_patch16_224",
    "embed_dim": 512,
    "image_size": 224,
    "pool": "",
    "proj": "linear",
}
"""`embed_dim` and `vision_cfg` of the repository's open_clip_config.json."""
MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""`preprocess_cfg` of the same file: those of OpenAI's CLIP."""

_NAMES: Final = ("biomedclip", REPOSITORY, f"hf-hub:{REPOSITORY}")


def load(model: str, weights: Path | None, offline: bool) -> Encoder:
    """BiomedCLIP's image encoder.

    Args:
        model: `biomedclip`, or its full name.
        weights: the file, or a folder that holds it; where None, huggingface_hub's copy, or fetched by it.
        offline: never open a connection.

    Raises:
        ConfigError: no such model, open_clip is missing, or the weights are not at hand and cannot be fetched.
        ModelError: the file is not BiomedCLIP's.
    """
    if model not in _NAMES:
        raise ConfigError(f"no encoder of open_clip is called {model!r}; there is {_NAMES[0]}")
    net = image_tower()
    file = find_weights("biomedclip", SOURCE, weights, offline=offline)
    kept = read_state(file)
    state = without(kept, "visual.")
    if not state:
        raise ModelError(
            f"{file}: found no tensor called visual..., expected those of BiomedCLIP; name its file"
        )
    fill(net, state, file, nothing)
    net.eval().requires_grad_(False)
    card = EncoderCard(
        name="biomedclip", dim=VISION["embed_dim"], input_size=VISION["image_size"], mean=MEAN, std=STD,
        licence=SOURCE.licence, source=SOURCE.words, sha256=file_hash(file), downloads=True,
    )  # fmt: skip
    return Encoder(card, net, unit=True)


def image_tower() -> nn.Module:
    """The network without weights, from `(n, 3, 224, 224)` to `(n, 512)`."""
    library("timm")  # open_clip alone would say so late, and as another error
    tower: nn.Module = library("open_clip.timm_model").TimmModel(**VISION, pretrained=False)
    return tower
