"""ResNets of slices and of volumes, alone and joined with shape features."""

from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18, resnet50

Join = Literal["fixed", "gated", "none"]
"""How features of the image and of the shape come together; see `ShapeResNet`."""
LEAST_EDGE_3D: Final = 33
"""Of a volume: on fewer voxels the deepest map has two along an edge, and oneDNN 3.13 gives the weights of a 3-D
convolution over 2 x 2 x 2 voxels gradients that are not finite, in bfloat16 on processors with AMX."""
CELLS: Final = 6
"""Fewest along an edge of a map that shows anything."""


class ShapeResNet(nn.Module):
    """A ResNet whose features, squeezed to a few, are joined with a tumour's shape features.

    Zeng et al. 2024: pooled features (2048 for depth 50) to `neck`, joined with `shapes` numbers, then one linear
    layer to the classes. With four channels, depth 50, a neck of 14, 14 shape features and two classes it has
    23,539,912 parameters.

    `gated` answers the paper's open question of how much the shape should weigh: a share g in (0, 1), for each image by
    itself, between `f`, what the image tells, and `z`, the shape. It starts at the half that is the fixed network:

        g = sigmoid(u [f ; z] + c),   logits = W [2 (1 - g) f ; 2 g z] + b

    Args:
        channels: series of an image.
        classes: how many classes.
        shapes: how many shape features.
        neck: how many features the image is squeezed to.
        depth: 50 as published, or 18.
        dims: 2 for slices; 3 for volumes, by MONAI's ResNet as it comes.
        join: `fixed` as published, `gated`, or `none`: the image alone.
    """

    def __init__(
        self, channels: int, classes: int, *, shapes: int = 14, neck: int = 14, depth: Literal[18, 50] = 50,
        dims: Literal[2, 3] = 2, join: Join = "fixed",
    ) -> None:  # fmt: skip
        super().__init__()
        make = slice_resnet if dims == 2 else volume_resnet
        self.backbone = make(channels, neck, depth)
        self.head = nn.Linear(neck + (0 if join == "none" else shapes), classes)
        self.gate = nn.Linear(neck + shapes, 1) if join == "gated" else None
        self.join, self.dims, self.neck = join, dims, neck
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def forward(self, image: Float[Tensor, "b c *size"], shape: Float[Tensor, "b s"]) -> Float[Tensor, "b k"]:
        """Logits of each class."""
        logits: Tensor = self.head(self.features(image, shape))
        return logits

    def features(
        self, image: Float[Tensor, "b c *size"], shape: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b f"]:
        """What the last layer weighs: the image's features first, then those of the shape."""
        seen: Tensor = self.backbone(image)
        if self.join == "none":
            return seen
        if self.gate is None:
            return torch.cat([seen, shape], dim=1)
        share = self._share(seen, shape)
        return torch.cat([2 * (1 - share) * seen, 2 * share * shape], dim=1)

    def share_of_shape(
        self, image: Float[Tensor, "b c *size"], shape: Float[Tensor, "b s"]
    ) -> Float[Tensor, " b"]:
        """The gate's g for each image, 0 to 1; a half where there is no gate."""
        if self.gate is None:
            return torch.full((len(image),), 0.5)
        return self._share(self.backbone(image), shape)[:, 0]

    def deepest(self, edge: int) -> str:
        """Name of the deepest block whose map of an image has `CELLS` along an edge; the first where none has."""
        halved = 1 if self.dims == 2 else 0  # MONAI's first layer does not halve
        return next((f"layer{n}" for n in (4, 3, 2) if edge >= CELLS << (n + halved)), "layer1")

    def _share(self, seen: Tensor, shape: Tensor) -> Tensor:
        assert self.gate is not None
        return torch.sigmoid(self.gate(torch.cat([seen, shape], dim=1)))


def slice_resnet(channels: int, classes: int, depth: Literal[18, 50] = 50) -> ResNet:
    """A ResNet of slices with any number of channels: (b, channels, h, w) to logits (b, classes)."""
    made = resnet50 if depth == 50 else resnet18
    net: ResNet = made(weights=None, num_classes=classes)
    net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return net


def volume_resnet(channels: int, classes: int, depth: Literal[18, 50] = 50) -> nn.Module:
    """A ResNet of volumes: (b, channels, d, h, w) to logits (b, classes)."""
    from monai.networks.nets import resnet  # takes a second to import, and only the 3-D comparator needs it

    make = resnet.resnet50 if depth == 50 else resnet.resnet18
    net: nn.Module = make(spatial_dims=3, n_input_channels=channels, num_classes=classes)
    return net


def take_over(net: ResNet, pretrained: ResNet) -> None:
    """Start a ResNet of slices from one of colour pictures: all but the last layer, the first one widened.

    Each channel begins with the mean of the weights for red, green and blue, scaled so that a grey picture in all
    channels gives what it gave before.

    Args:
        net: changed in place.
        pretrained: of the same depth, with three channels.
    """
    state = {k: v for k, v in pretrained.state_dict().items() if not k.startswith("fc.")}
    colours, channels = state["conv1.weight"], net.conv1.in_channels
    widened = colours.sum(dim=1, keepdim=True) / channels
    state["conv1.weight"] = widened.expand(-1, channels, -1, -1).clone()
    net.load_state_dict(net.state_dict() | state)
