"""Maps of what an answer rests on."""

import warnings
from copy import deepcopy
from typing import TypeVar

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from gliolens.case import Volume

Net = TypeVar("Net", bound=nn.Module)


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


def occlusion(net: nn.Module, images: Tensor, where: np.ndarray, class_index: int, edge: int) -> np.ndarray:
    """By how much the log odds of a class fall where a square is blanked (Zeiler and Fergus 2014), by MONAI.

    Log odds, because a probability near 1 hardly falls whatever is blanked.

    Args:
        net: from images `(n, c, h, w)` to logits `(n, k)`, in evaluation mode.
        images: slices `(n, c, h, w)`; 0 is blank.
        where: `(n, h, w)`, what is shown of each; squares lie over its box, half of one over the next.
        class_index: the class to explain.
        edge: of the squares, in pixels; at most half the image's.

    Returns:
        `(n, h, w)`: the mean fall over the squares that cover a pixel; 0 outside the box.
    """
    from monai.visualize.occlusion_sensitivity import OcclusionSensitivity

    probe = OcclusionSensitivity(
        net, mask_size=edge, mode=0.0, overlap=0.5, n_batch=32, verbose=False, activate=_log_odds
    )
    falls = np.zeros(where.shape)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Using a non-tuple sequence", UserWarning
        )  # MONAI's own way to index
        for image, shown, fall in zip(images, where, falls, strict=True):
            if not shown.any():
                continue
            (top, bottom), (left, right) = (_span(shown.any(axis=axis), edge) for axis in (1, 0))
            whole = _log_odds(net(image[None]))[0, class_index]
            told, _ = probe(image[None], b_box=[top, bottom, left, right])
            fall[top:bottom, left:right] = (whole - told[0, class_index]).numpy(force=True)
    return falls


def _log_odds(logits: Tensor) -> Tensor:
    """Log odds of each class against all others, from logits (n, k)."""
    others = [torch.cat([logits[:, :c], logits[:, c + 1 :]], dim=1) for c in range(logits.shape[1])]
    return logits - torch.stack([other.logsumexp(dim=1) for other in others], dim=1)


def _span(shown: np.ndarray, edge: int) -> tuple[int, int]:
    """First and last place that is shown, widened to one square at least."""
    first, last = int(shown.argmax()), len(shown) - int(shown[::-1].argmax())
    start = max(0, min(first, (first + last - edge) // 2, len(shown) - edge))
    return start, min(len(shown), max(last, start + edge))


def shuffled(net: Net, seed: int) -> Net:
    """A copy of a network with the numbers of each weight in another order: it has learnt nothing.

    A map that does not change with it shows the image and not what was learnt (Adebayo et al. 2018,
    arXiv 1810.03292).
    """
    other, dice = deepcopy(net), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            mixed = weight.flatten()[torch.randperm(weight.numel(), generator=dice).to(weight.device)]
            weight.copy_(mixed.view_as(weight))
    return other


def likeness(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float:
    """Spearman's correlation of two maps within `where`; NaN where one of them is flat."""
    a, b = first[where], second[where]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def share_of_most(maps: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Maps as a share of their largest value within `where`, and 0 outside it; zeros where nothing is positive."""
    inside = np.where(where, maps, 0.0)
    most = inside.max()
    return inside / most if most > 0 else inside


def stacked(maps: np.ndarray, affines: np.ndarray) -> Volume:
    """Put maps of parallel slices `(n, h, w)` back into one volume; slices that were not cut are 0.

    Args:
        maps: the maps; or the one of a volume, planes first `(1, d, h, w)`.
        affines: `(n, 4, 4)`, the place of each slice, as `preprocess.slice_grid` gives them, or of the volume.
    """
    if maps.ndim == 4:
        return Volume(maps[0].transpose(1, 2, 0).astype(np.float32), affines[0].astype(np.float64))
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
        self.train(net.training)  # MONAI leaves a network in the mode it says it is in

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the image."""
        logits: Tensor = self.net(image, *(x.expand(len(image), -1) for x in self.fixed))
        return logits
