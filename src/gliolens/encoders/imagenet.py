"""ResNets that know ImageNet's pictures: torchvision's own weights, or those of a file."""

from typing import Final, Literal

from torchvision.models import ResNet, ResNet18_Weights, ResNet50_Weights, resnet18, resnet50

from gliolens.encoders.state import fill, nothing, read_state
from gliolens.encoders.torchvision_weights import weights_file, weights_identity

TORCHVISION: Final = "imagenet"
"""Name of the weights that torchvision fetches; anything else names a file."""
_KINDS: Final = {18: ResNet18_Weights.IMAGENET1K_V1, 50: ResNet50_Weights.IMAGENET1K_V2}


def imagenet_resnet(depth: Literal[18, 50], weights: str, *, offline: bool) -> ResNet:
    """A ResNet of colour pictures with its weights.

    Args:
        depth: 18 or 50.
        weights: `imagenet`, or a file with a state dict of torchvision's ResNet (safetensors or PyTorch).
        offline: never open a connection; torchvision's weights must then lie in its cache.

    Raises:
        ConfigError: the weights are not at hand and may not be fetched, or cannot be.
        ModelError: the file holds other weights.
    """
    net: ResNet = (resnet50 if depth == 50 else resnet18)(weights=None)
    file = weights_file(_KINDS[depth], weights, TORCHVISION, offline=offline)
    fill(net, read_state(file), file, nothing)
    return net


def imagenet_identity(depth: Literal[18, 50], weights: str) -> str:
    """What tells these weights from others; see `torchvision_weights.weights_identity`."""
    return weights_identity(_KINDS[depth], weights, TORCHVISION)
