"""ResNet on slices joined with shape features."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18, resnet50


class ShapeResNet(nn.Module):
    """A ResNet whose features, squeezed to a few, are joined with a tumour's shape features.

    Zeng et al. 2024: pooled features (2048 for depth 50) to `neck`, joined with `shapes` numbers, then one linear
    layer to the classes. With four channels, depth 50, a neck of 14, 14 shape features and two classes it has
    23,539,912 parameters.

    Args:
        channels: series a slice holds.
        classes: how many classes.
        shapes: how many shape features.
        neck: how many features the image is squeezed to.
        depth: 50 as published, or 18.
    """

    def __init__(
        self, channels: int, classes: int, *, shapes: int = 14, neck: int = 14, depth: Literal[18, 50] = 50
    ) -> None:
        super().__init__()
        self.backbone = (resnet50 if depth == 50 else resnet18)(weights=None)
        self.backbone.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.backbone.fc = nn.Linear(self.backbone.fc.in_features, neck)
        self.head = nn.Linear(neck + shapes, classes)

    def forward(self, image: Float[Tensor, "b c h w"], shape: Float[Tensor, "b s"]) -> Float[Tensor, "b k"]:
        """Logits of each class."""
        logits: Tensor = self.head(torch.cat([self.backbone(image), shape], dim=1))
        return logits


def slice_resnet(channels: int, classes: int, depth: Literal[18, 50] = 50) -> ResNet:
    """A ResNet of slices with any number of channels: (b, channels, h, w) to logits (b, classes)."""
    made = resnet50 if depth == 50 else resnet18
    net: ResNet = made(weights=None, num_classes=classes)
    net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return net
