"""What an encoder is: a frozen network from pictures to vectors, and what must be known to feed it.

Encoders differ in size, channels and the brightness they were trained on; `Encoder.encode` hides that, so that a
method sees pictures go in and vectors come out.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from gliolens.nn.precision import has_bfloat16


@dataclass(frozen=True)
class EncoderCard:
    """What is known of an encoder.

    Attributes:
        name: as it is typed, e.g. `medimageinsight` or `timm:resnet50.a1_in1k`.
        dim: numbers of a vector.
        input_size: edge of the square (or cube) it sees, in pixels.
        mean, std: brightness it expects of each of its channels, of pictures between 0 and 1.
        licence: of the weights.
        source: where the weights come from, in words a user can follow.
        sha256: of the weights' file; None where they come through a library that checks them itself.
        downloads: whether the weights are fetched where they are not at hand.
        volumes: whether it sees whole volumes instead of slices.
    """

    name: str
    dim: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    source: str
    sha256: str | None = None
    downloads: bool = False
    volumes: bool = False


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen network with its card.

    Attributes:
        card: what is known of it.
        net: from `(n, channels, *space)` to vectors `(n, dim)`; channels are as many as the card's means.
        unit: whether vectors are scaled to length 1.
    """

    card: EncoderCard
    net: nn.Module
    unit: bool = False

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the weights and of how pictures are fed: equal encoders give equal vectors."""
        card = self.card
        fed = (
            card.name,
            card.dim,
            card.input_size,
            card.mean,
            card.std,
            card.volumes,
            card.sha256,
            self.unit,
        )
        told = hashlib.sha256(repr(fed).encode())
        for name, tensor in sorted(self.net.state_dict().items()):
            told.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            told.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return told.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(chain(self.net.parameters(), self.net.buffers())).device

    @torch.inference_mode()
    def encode(self, pictures: Float[Tensor, "n *space"]) -> Float[Tensor, "n dim"]:
        """Vectors of grey pictures between 0 and 1, of any size: slices `(n, h, w)`, or volumes `(n, d, h, w)`."""
        seen = self._seen(pictures.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16()):
            vectors = self.net(seen)
        vectors = vectors.float().cpu()
        return F.normalize(vectors, dim=-1) if self.unit else vectors

    def _seen(self, pictures: Tensor) -> Tensor:
        card, axes = self.card, pictures.ndim - 1
        mean, std = (torch.tensor(v).to(pictures).reshape(-1, *[1] * axes) for v in (card.mean, card.std))
        size, how = (card.input_size,) * axes, "trilinear" if card.volumes else "bicubic"
        if pictures.shape[1:] != size:
            options: dict[str, Any] = {} if card.volumes else {"antialias": True}
            sized = F.interpolate(pictures[:, None], size, mode=how, align_corners=False, **options)
        else:
            sized = pictures[:, None]
        seen = (sized.clamp(0.0, 1.0) - mean) / std
        layout = torch.channels_last_3d if card.volumes else torch.channels_last
        return seen.contiguous(memory_format=layout)
