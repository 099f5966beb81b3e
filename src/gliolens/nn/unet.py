"""A small 3-D U-Net."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class UNet(nn.Module):
    """A U-Net in three dimensions (Çiçek et al. 2016, doi 10.1007/978-3-319-46723-8_49).

    Each level is a stage of 3x3x3 convolutions with instance normalisation; the next halves the grid. The finest
    level has one convolution down and one up, all others two: it costs most of the time and learns least.

    Args:
        inputs: channels of an image.
        outputs: channels of the answer.
        widths: channels of each level, finest first. Edges of an image must divide by 2 ** (levels - 1).
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int] = (16, 32, 64, 128, 128)) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.stem = _convolution(inputs, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(fine, coarse, stride=2), _convolution(coarse, coarse))
            for fine, coarse in pairs
        )
        self.up = nn.ModuleList(
            nn.Sequential(_convolution(coarse + fine, fine), *([_convolution(fine, fine)] if level else []))
            for level, (fine, coarse) in reversed(list(enumerate(pairs)))
        )
        self.head = nn.Conv3d(widths[0], outputs, kernel_size=1)

    def forward(self, image: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k d h w"]:
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


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.InstanceNorm3d(outputs, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )
