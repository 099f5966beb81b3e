"""CMD: what T2 shows and FLAIR does not, in and around the tumour."""

from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gliolens.nn.tumour_focus import tumour_weights, weighted_mean

WIDTH: Final = 64
"""Channels of each of the two convolutions."""


class Mismatch(nn.Module):
    """Cross-modality difference of T2 and FLAIR (Farahani et al. 2025, arXiv 2503.06828, and its public code).

    With p the probability of tumour, K_1 and K_2 convolutions of 7x7x7 and stride 2 from 1 to 64 channels, and k one of
    3x3x3 from 2 channels to 1,

        g = 0.1 + 0.9 p,   a = K_1(g T2),   b = K_2(g FLAIR),   d = 2 (a - b)
        A = sigmoid(relu(k([max_c d ; mean_c d]))),   which lies from 0.5 to 1
        v = [mean_x (a + A a) ; mean_x (b + A b)]                                                      (128 numbers)

    So it was published. `in_tumour` the means are over the voxels that are likely tumour, and there is no relu: one
    that is shut everywhere no gradient ever opens again (seen: A was .5 throughout). A then lies from 0 to 1. Where one
    of the two series is missing there is nothing to compare, and v is 0. It has 44,087 parameters.

    Args:
        in_tumour: whether the means are over the tumour, and A without relu.

    Attributes:
        least: what A is never below.
    """

    def __init__(self, *, in_tumour: bool) -> None:
        super().__init__()
        self.t2 = nn.Conv3d(1, WIDTH, kernel_size=7, stride=2, padding=3)
        self.flair = nn.Conv3d(1, WIDTH, kernel_size=7, stride=2, padding=3)
        self.attention = nn.Conv3d(2, 1, kernel_size=3, padding=1)
        self.in_tumour, self.dim, self.least = in_tumour, 2 * WIDTH, 0.0 if in_tumour else 0.5

    def forward(
        self,
        t2: Float[Tensor, "b 1 d h w"],
        flair: Float[Tensor, "b 1 d h w"],
        tumour: Float[Tensor, "b 1 d h w"],
        there: Bool[Tensor, " b"],
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b 1 e f g"]]:
        """The vector v and the attention A; `there` says of which images both series are at hand."""
        gate = 0.1 + 0.9 * tumour.detach()
        a, b = self.t2(gate * t2), self.flair(gate * flair)
        apart = 2 * (a - b)
        both = torch.cat([apart.amax(dim=1, keepdim=True), apart.mean(dim=1, keepdim=True)], dim=1)
        marks = self.attention(both)
        attention = torch.sigmoid(marks if self.in_tumour else torch.relu(marks))
        seen = torch.cat([a + attention * a, b + attention * b], dim=1)
        vector = (
            weighted_mean(seen, tumour_weights(tumour, seen)) if self.in_tumour else seen.mean(dim=(2, 3, 4))
        )
        return vector * there[:, None], attention
