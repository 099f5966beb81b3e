"""TAFE: features of a backbone's stages, taken where the tumour is."""

from collections.abc import Sequence
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Scope = Literal["deepest", "tumour"]
"""Which features: the deepest stage everywhere, or all stages inside the tumour; see `TumourFocus`."""
FAINT: Final = 1e-6
"""Weight of a voxel that is surely no tumour: where none is found the mean is over the whole image."""


class TumourFocus(nn.Module):
    """Tumour-aware feature extraction (Farahani et al. 2025, arXiv 2503.06828).

    `deepest`, as the authors' public code: the mean over space of the deepest stage h_5,

        v = mean_x h_5(x)                                           (768 numbers at a feature size of 48)

    `tumour`, as their abstract has it: the mean of every stage over the voxels that are likely tumour,

        v = [v_1 ... v_5],   v_s = sum_x w_s(x) h_s(x),   w_s(x) = (p_s(x) + e) / sum_x (p_s(x) + e)     (1,488 numbers)

    with p_s the probability of tumour averaged over what a place of stage s covers, and e = `FAINT`. No gradient goes
    back through p: what is tumour is learnt from outlines alone. It has no parameters.

    Args:
        scope: which of the two.
        feature_size: of the backbone.
    """

    def __init__(self, scope: Scope, feature_size: int) -> None:
        super().__init__()
        self.scope = scope
        self.dim = 16 * feature_size if scope == "deepest" else 31 * feature_size

    def forward(
        self, stages: Sequence[Tensor], tumour: Float[Tensor, "b 1 d h w"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b 1 e f g"]]:
        """The vector v, and the weights of its finest stage, which sum to 1."""
        if self.scope == "deepest":
            deepest = stages[-1]
            even = torch.ones_like(deepest[:, :1]) / deepest[0, 0].numel()
            return deepest.mean(dim=(2, 3, 4)), even
        weights = [tumour_weights(tumour, stage) for stage in stages]
        means = [weighted_mean(stage, w) for stage, w in zip(stages, weights, strict=True)]
        return torch.cat(means, dim=1), weights[0]


def tumour_weights(tumour: Float[Tensor, "b 1 d h w"], stage: Tensor) -> Float[Tensor, "b 1 e f g"]:
    """Weights of a stage's places, one for each place and summing to 1, in proportion to the tumour they hold."""
    d, h, w = stage.shape[2:]
    share = F.adaptive_avg_pool3d(tumour.detach().float(), (d, h, w)) + FAINT
    return share / share.sum(dim=(2, 3, 4), keepdim=True)


def weighted_mean(
    stage: Float[Tensor, "b c e f g"], weights: Float[Tensor, "b 1 e f g"]
) -> Float[Tensor, "b c"]:
    """Mean over space by weights that sum to 1; in 32 bits, since weights may be tiny."""
    return (stage.float() * weights).sum(dim=(2, 3, 4))
