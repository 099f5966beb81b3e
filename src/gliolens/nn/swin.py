"""MONAI's Swin UNETR, its stages open to view."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2, SwinUNETR
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Merging = Literal["since-1.5", "before-1.5"]
"""How 2x2x2 patches become one: as MONAI does since its version 1.5, or as before (see `MergingBefore`)."""
LEAST_EDGE: Final = 32
"""An image's edges must be multiples of this: five stages halve it."""
LEAST_BFLOAT16: Final = 3
"""Voxels along an edge below which a convolution is computed in 32 bits: oneDNN 3.13 gives the weights of a 3-D
convolution over 2 x 2 x 2 voxels gradients that are not finite, in bfloat16 on processors with AMX."""
DEPTHS: Final = (2, 2, 2, 2)
HEADS: Final = (3, 6, 12, 24)
_CORNERS_BEFORE: Final = (
    (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1),
)  # fmt: skip


class MergingBefore(PatchMergingV2):
    """How MONAI merged 2x2x2 patches before its version 1.5: two corners were left out and two taken twice.

    Put right by MONAI's pull request 8285. The shapes are the same, so a file of weights cannot tell.
    """

    def forward(self, x: Float[Tensor, "n d h w c"]) -> Float[Tensor, "n e f g k"]:
        """Half the grid and twice the channels."""
        d, h, w = (n % 2 for n in x.shape[1:4])
        x = nn.functional.pad(x, (0, 0, 0, w, 0, h, 0, d))
        corners = [x[:, i::2, j::2, k::2] for i, j, k in _CORNERS_BEFORE]
        merged: Tensor = self.reduction(self.norm(torch.cat(corners, dim=-1)))
        return merged


class SwinBackbone(nn.Module):
    """A Swin UNETR (Hatamizadeh et al. 2022, doi 10.48550/arXiv.2201.01266) that gives its five stages too.

    With four channels, four tissues and a feature size of 48 it has 62,191,990 parameters. Its stages at 96x96x96 are
    48 channels at 48x48x48, then 96 at 24, 192 at 12, 384 at 6 and 768 at 3.

    Args:
        channels: series of an image.
        tissues: what is told of each voxel.
        feature_size: channels of the first stage, a multiple of 12.
        window: edge of the windows of attention, in tokens.
        merging: how patches are merged.
        lean: whether the way back computes activations again instead of keeping them (gradient checkpointing).
    """

    def __init__(
        self,
        channels: int,
        tissues: int,
        *,
        feature_size: int = 48,
        window: int = 7,
        merging: Merging = "since-1.5",
        lean: bool = False,
    ) -> None:
        super().__init__()
        how: Any = PatchMerging if merging == "since-1.5" else MergingBefore
        self.net = SwinUNETR(
            channels, tissues, feature_size=feature_size, depths=DEPTHS, num_heads=HEADS, window_size=window,
            use_checkpoint=lean, downsample=how,
            use_flash_attention=True,
        )  # fmt: skip
        _norm_by_groups(self.net)
        self.net = self.net.to(memory_format=torch.channels_last_3d)
        self.lean = lean

    def forward(
        self, image: Float[Tensor, "b c d h w"]
    ) -> tuple[Float[Tensor, "b k d h w"], Sequence[Float[Tensor, "b _ _ _ _"]]]:
        """Logits of each tissue at each voxel, and the five stages, finest first."""
        net, image = self.net, image.contiguous(memory_format=torch.channels_last_3d)
        stages: list[Tensor] = net.swinViT(image, net.normalize)
        skips = [self._run(net.encoder1, image)]
        skips += [self._run(e, s) for e, s in zip(self._encoders, stages, strict=False)]
        coarse = self._run(net.decoder5, self._run(net.encoder10, stages[4]), stages[3])
        for up in (net.decoder4, net.decoder3, net.decoder2, net.decoder1):
            coarse = self._run(up, coarse, skips.pop())
        logits: Tensor = net.out(coarse)
        return logits, stages

    def expect(self, shares: Float[Tensor, " k"]) -> None:
        """Let the untrained last layer tell tissues by their shares of all voxels, and not all alike.

        So most voxels are no tumour from the first step on (Lin et al. 2017, doi 10.1109/ICCV.2017.324, section 4.1).
        """
        with torch.no_grad():
            self.net.out.conv.conv.bias.copy_(torch.log(shares.clamp_min(1e-6)))

    @property
    def _encoders(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.net.encoder2, self.net.encoder3, self.net.encoder4

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        kind, tiny = inputs[0].device.type, min(inputs[0].shape[2:]) < LEAST_BFLOAT16
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not tiny):
            given = [x.float() for x in inputs] if tiny else inputs
            if self.lean and torch.is_grad_enabled():
                return torch.as_tensor(checkpoint(block, *given, use_reentrant=False))
            out: Tensor = block(*given)
        return out


def _norm_by_groups(module: nn.Module) -> None:
    """Group normalisation of one channel a group in place of instance normalisation: the same, without its copies.

    PyTorch turns what lies channels-last over and back again for instance normalisation, a third of the whole time.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.InstanceNorm3d):
            if child.affine or child.track_running_stats:
                raise ValueError(f"{name}: instance normalisation with weights or running statistics")
            setattr(
                module, name, nn.GroupNorm(child.num_features, child.num_features, child.eps, affine=False)
            )
        else:
            _norm_by_groups(child)
