"""A small U-Net, of volumes or of slices."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class UNet(nn.Module):
    """A U-Net in three dimensions (Çiçek et al. 2016, doi 10.1007/978-3-319-46723-8_49), or in two.

    Each level is a stage of convolutions of three voxels an edge with instance normalisation; the next halves the
    grid. The finest level has one convolution down and one up, all others two: it costs most of the time and learns
    least.

    Args:
        inputs: channels of an image.
        outputs: channels of the answer.
        widths: channels of each level, finest first. Edges of an image must divide by 2 ** (levels - 1).
        dims: 3 for volumes `(b, c, d, h, w)`, 2 for slices `(b, c, d, h)`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int] = (16, 32, 64, 128, 128),
        dims: Literal[2, 3] = 3,
    ) -> None:
        super().__init__()
        pairs, block = list(pairwise(widths)), partial(_convolution, dims)
        self.stem = block(inputs, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(block(fine, coarse, stride=2), block(coarse, coarse)) for fine, coarse in pairs
        )
        self.up = nn.ModuleList(
            nn.Sequential(block(coarse + fine, fine), *([block(fine, fine)] if level else []))
            for level, (fine, coarse) in reversed(list(enumerate(pairs)))
        )
        self.head = (nn.Conv3d if dims == 3 else nn.Conv2d)(widths[0], outputs, kernel_size=1)

    def forward(self, image: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """Logits of each output at each voxel."""
        levels = [self.stem(image)]
        for down in self.down:
            levels.append(down(levels[-1]))
        fine = levels.pop()
        for up in self.up:
            skipped = levels.pop()
            fine = up(torch.cat([F.interpolate(fine, scale_factor=2.0), skipped], dim=1))
        logits: Tensor = self.head(fine)
        return logits


def _convolution(dims: Literal[2, 3], inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv3d if dims == 3 else nn.Conv2d
    norm = nn.InstanceNorm3d if dims == 3 else nn.InstanceNorm2d
    return nn.Sequential(
        convolution(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        norm(outputs, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )
