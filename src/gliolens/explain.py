"""Maps of what an answer rests on."""

import numpy as np
from torch import Tensor, nn

from gliolens.case import Volume


def gradcam(net: nn.Module, images: Tensor, layer: str, class_index: int) -> np.ndarray:
    """Grad-CAM of each image (Selvaraju et al. 2017, doi 10.1109/ICCV.2017.74), by MONAI.

    Args:
        net: from images `(n, c, h, w)` to logits `(n, k)`, in evaluation mode.
        images: slices `(n, c, h, w)`.
        layer: name of the layer whose activations are weighed, such as `backbone.layer4`.
        class_index: the class to explain.

    Returns:
        Maps `(n, h, w)`, 0 or more: the more, the more a place speaks for the class. One scale for all slices.
    """
    from monai.visualize.class_activation_maps import (
        GradCAM,
    )  # costs a second to import, and few runs need it

    # MONAI's own scaling would turn the map upside down: its default_normalizer maps (min, max) to (1, 0)
    camera = GradCAM(net, target_layers=layer, postprocessing=lambda heat: heat)
    net.requires_grad_(False)  # only the way back to the layer is needed
    maps = [camera(chunk.requires_grad_(), class_idx=class_index)[:, 0] for chunk in images.split(16)]
    return np.concatenate([heat.numpy(force=True) for heat in maps])


def share_of_most(maps: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Maps as a share of their largest value within `where`, and 0 outside it; zeros where nothing is positive."""
    inside = np.where(where, maps, 0.0)
    most = inside.max()
    return inside / most if most > 0 else inside


def stacked(maps: np.ndarray, affines: np.ndarray) -> Volume:
    """Put maps of parallel slices `(n, h, w)` back into one volume; slices that were not cut are 0.

    Args:
        maps: the maps.
        affines: `(n, 4, 4)`, the place of each slice, as `preprocess.slice_grid` gives them.
    """
    step = np.linalg.norm(affines[0, :3, 2])
    height = np.round(np.linalg.norm(affines[:, :3, 3] - affines[0, :3, 3], axis=1) / step).astype(int)
    voxels = np.zeros((*maps.shape[1:], int(height[-1]) + 1), np.float32)
    voxels[:, :, height] = maps.transpose(1, 2, 0)
    return Volume(voxels, affines[0].astype(np.float64))


class OneInput(nn.Module):
    """A network of image and other inputs as a function of the image alone, the others held fixed.

    Args:
        net: the network.
        fixed: its other inputs, of batch size 1.
    """

    def __init__(self, net: nn.Module, *fixed: Tensor) -> None:
        super().__init__()
        self.net, self.fixed = net, fixed

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the image."""
        logits: Tensor = self.net(image, *(x.expand(len(image), -1) for x in self.fixed))
        return logits
