"""Video networks that know the films of Kinetics-400: torchvision's own weights, or those of a file."""

from typing import Final

from torch import nn
from torchvision.models.video import MC3_18_Weights, R2Plus1D_18_Weights, R3D_18_Weights, VideoResNet

from gliolens.encoders.state import fill, read_state
from gliolens.encoders.torchvision_weights import weights_file, weights_identity
from gliolens.nn.video import MAKERS, Kind

TORCHVISION: Final = "kinetics"
"""Name of the weights that torchvision fetches; anything else names a file."""
_KINDS: Final = {
    "r3d": R3D_18_Weights.KINETICS400_V1,
    "mc3": MC3_18_Weights.KINETICS400_V1,
    "r2plus1d": R2Plus1D_18_Weights.KINETICS400_V1,
}


def kinetics_network(kind: Kind, weights: str, *, offline: bool) -> VideoResNet:
    """A video network of three colours with its weights, and without its head, which tells 400 kinds of film.

    Args:
        kind: which.
        weights: `kinetics`, or a file with a state dict of torchvision's network, with or without the head (safetensors
            or PyTorch).
        offline: never open a connection; torchvision's weights must then lie in its cache.

    Raises:
        ConfigError: the weights are not at hand and may not be fetched, or cannot be.
        ModelError: the file holds other weights.
    """
    net: VideoResNet = MAKERS[kind](weights=None)
    net.fc = nn.Identity()
    file = weights_file(_KINDS[kind], weights, TORCHVISION, offline=offline)
    fill(net, read_state(file), file, lambda name: name.startswith("fc."))
    return net


def kinetics_identity(kind: Kind, weights: str) -> str:
    """What tells these weights from others; see `torchvision_weights.weights_identity`."""
    return weights_identity(_KINDS[kind], weights, TORCHVISION)
