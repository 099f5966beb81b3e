"""One network that outlines a tumour and answers several questions of it at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gliolens.nn.composition import Composition
from gliolens.nn.mismatch import Mismatch
from gliolens.nn.swin import Merging, SwinBackbone
from gliolens.nn.tumour_focus import Scope, TumourFocus

Vectors = Mapping[str, Tensor]
"""What the heads are told of images `(b, n)`: by `focus` that of TAFE, by `mismatch` of CMD, by `composition` ours."""


@dataclass(frozen=True, eq=False)
class Told:
    """What the network tells of images.

    Attributes:
        tissues: logits `(b, k, d, h, w)`.
        answers: logits `(b, classes)` of each task.
        weights: where TAFE's vector comes from `(b, 1, e, f, g)`; None without TAFE.
        attention: CMD's `(b, 1, e, f, g)`; None without CMD.
        parts: for each task the logits that each vector's own head gives, by `focus`, `mismatch` and `composition`.
    """

    tissues: Tensor
    answers: Mapping[str, Tensor]
    weights: Tensor | None
    attention: Tensor | None
    parts: Mapping[str, Mapping[str, Tensor]]


class TaskHead(nn.Module):
    """What answers one question (Farahani et al. 2025): a perceptron on each vector, and one that joins them.

        z_v = W_3 relu(W_2 relu(W_1 v)),   widths 256 and 64, dropout .5   for v of TAFE and of CMD
        z = U_2 drop(relu(U_1 [z_TAFE ; z_CMD])),   width 32

    and likewise where there are more vectors. With one alone its logits are the answer. With none the mean of the
    deepest stage is weighed by one linear layer: the backbone alone.

    Args:
        dims: how many numbers each vector has, by name.
        classes: how many.
        plain: whether one linear layer is all there is.
    """

    def __init__(self, dims: Mapping[str, int], classes: int, *, plain: bool = False) -> None:
        super().__init__()
        self.single = nn.ModuleDict({
            name: nn.Linear(dim, classes) if plain else perceptron(dim, classes) for name, dim in dims.items()
        })  # fmt: skip
        joined = nn.Sequential(
            nn.Linear(len(dims) * classes, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, classes)
        )
        self.join = joined if len(dims) > 1 else nn.Identity()

    def forward(self, vectors: Vectors) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits `(b, classes)`, and those of each vector by itself."""
        parts = {name: head(vectors[name]) for name, head in self.single.items()}
        logits: Tensor = self.join(torch.cat(list(parts.values()), dim=1))
        return logits, parts


def perceptron(dim: int, classes: int) -> nn.Sequential:
    """From a vector to logits by 256 and 64, dropout .5 before each later layer."""
    return nn.Sequential(
        nn.Linear(dim, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(64, classes),
    )  # fmt: skip


class MultiTaskNet(nn.Module):
    """Swin UNETR, TAFE, CMD, the tumour's composition, and a head a task.

    Args:
        series: names of an image's channels.
        tissues: what is told of each voxel, the first of which is no tumour.
        tasks: number of classes of each task.
        focus: TAFE's scope, or None for no TAFE.
        mismatch: whether CMD averages over the tumour; None for no CMD.
        composition: whether the heads are told what the tumour is made of.
        feature_size, window, merging, lean: of the backbone.

    Raises:
        ValueError: CMD is asked for, and T2 or FLAIR is none of the series.
    """

    def __init__(
        self, series: Sequence[str], tissues: int, tasks: Mapping[str, int], *, focus: Scope | None = "tumour",
        mismatch: bool | None = True, composition: bool = False, feature_size: int = 48, window: int = 7,
        merging: Merging = "since-1.5", lean: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if mismatch is not None and not {"t2", "flair"} <= set(series):
            raise ValueError(f"series {', '.join(series)}; CMD compares t2 and flair")
        self.series = tuple(series)
        self.backbone = SwinBackbone(
            len(series), tissues, feature_size=feature_size, window=window, merging=merging, lean=lean
        )
        self.plain = focus is None and mismatch is None and not composition
        self.focus = TumourFocus("deepest" if focus is None else focus, feature_size)
        self.has_focus = focus is not None
        self.mismatch = None if mismatch is None else Mismatch(in_tumour=mismatch)
        dims = {"focus": self.focus.dim} if self.has_focus or self.plain else {}
        dims |= {} if self.mismatch is None else {"mismatch": self.mismatch.dim}
        self.composition = Composition(tissues - 1, len(series)) if composition else None
        dims |= {} if self.composition is None else {"composition": self.composition.dim}
        self.heads = nn.ModuleDict({task: TaskHead(dims, n, plain=self.plain) for task, n in tasks.items()})

    def asking(self) -> list[nn.Parameter]:
        """Parameters of CMD and of the heads: all but the backbone's."""
        return [p for name, p in self.named_parameters() if not name.startswith("backbone.")]

    def forward(self, image: Float[Tensor, "b c d h w"], there: Bool[Tensor, "b c"]) -> Told:
        """Look at images.

        Args:
            image: series with mean 0 and standard deviation 1 over the brain, 0 elsewhere and where one is missing.
            there: which series of each image are at hand.
        """
        tissues, vectors, weights, attention = self.describe(image, there)
        told = {task: head(vectors) for task, head in self.heads.items()}
        return Told(
            tissues, {task: z.float() for task, (z, _) in told.items()}, weights, attention,
            {task: parts for task, (_, parts) in told.items()},
        )  # fmt: skip

    def describe(
        self, image: Float[Tensor, "b c d h w"], there: Bool[Tensor, "b c"]
    ) -> tuple[Tensor, Vectors, Tensor | None, Tensor | None]:
        """What the heads are asked about: logits of tissues, the vectors, TAFE's weights and CMD's attention."""
        tissues, stages = self.backbone(image)
        likely = torch.softmax(tissues.float(), dim=1)
        tumour, weights, attention = 1 - likely[:, :1], None, None
        vectors: dict[str, Tensor] = {}
        if self.has_focus or self.plain:
            vectors["focus"], weights = self.focus(stages, tumour)
        if self.mismatch is not None:
            vectors["mismatch"], attention = self._compare(image, tumour, there)
        if self.composition is not None:
            vectors["composition"] = self.composition(image, likely[:, 1:])
        return tissues, vectors, weights if self.has_focus else None, attention

    def _compare(self, image: Tensor, tumour: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        assert self.mismatch is not None
        t2, flair = self.series.index("t2"), self.series.index("flair")
        both = there[:, t2] & there[:, flair]
        told: tuple[Tensor, Tensor] = self.mismatch(
            image[:, t2 : t2 + 1], image[:, flair : flair + 1], tumour, both
        )
        return told
