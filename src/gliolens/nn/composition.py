"""What the tumour that was found is made of, and how bright each part of it is."""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEW: Final = 10.0
"""Voxels. Of a tissue of no more than these the brightness is drawn towards the brain's mean, which is 0."""


class Composition(nn.Module):
    """Shares, extent and brightness of the tissues found: what a reader would measure. Ours, of no paper.

    With p_t(x) the probability of each of k kinds of tumour tissue, x_c one of C series and e = `FEW`,

        n_t = sum_x p_t(x),   v = [n_t / (n + e) ; log10(1 + n_t) ; sum_x p_t(x) x_c(x) / (n_t + e)],   n = sum_t n_t

    which is k (2 + C) numbers. The sums are over the whole cube, faint probabilities far from the tumour among them,
    and a series that is missing counts as bright as the brain's mean. No gradient goes back through p: what is tumour
    is learnt from outlines alone. It has no parameters.

    Args:
        kinds: kinds of tumour tissue.
        channels: series of an image.
    """

    def __init__(self, kinds: int, channels: int) -> None:
        super().__init__()
        self.dim = kinds * (2 + channels)

    def forward(
        self, image: Float[Tensor, "b c d h w"], kinds: Float[Tensor, "b k d h w"]
    ) -> Float[Tensor, "b n"]:
        """The vector v; in 32 bits, since it holds sums over many voxels."""
        image, p = image.float(), kinds.detach().float()
        count = p.sum(dim=(2, 3, 4))
        shares = count / (count.sum(dim=1, keepdim=True) + FEW)
        sums = (p[:, :, None] * image[:, None]).sum(dim=(3, 4, 5))
        bright = sums / (count + FEW)[:, :, None]
        return torch.cat([shares, torch.log10(1 + count), bright.flatten(1)], dim=1)
