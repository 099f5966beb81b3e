"""Networks made for videos, looking at volumes: one direction of the volume takes the place of time."""

from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.video import VideoResNet, mc3_18, r2plus1d_18, r3d_18

Kind = Literal["r3d", "mc3", "r2plus1d"]
"""R3D: 3-D convolutions throughout. MC3: 3-D in the first block, 2-D within planes after. R(2+1)D: each 3-D
convolution parted into one within planes and one along time (Tran et al. 2018, doi 10.1109/CVPR.2018.00675)."""
Norm = Literal["batch", "own", "group", "frozen"]
"""What features are normalised by: `batch`, the statistics of a step's images, in use the running mean of those learnt
from; `own`, those of what is at hand in use too, of one image its own; `group`, groups of channels of each image (Wu
and He 2018, doi 10.1007/978-3-030-01261-8_1); `frozen`, the statistics that pretrained weights brought."""
MAKERS: Final = {"r3d": r3d_18, "mc3": mc3_18, "r2plus1d": r2plus1d_18}
COLOURS: Final = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
"""Mean and standard deviation of red, green and blue that torchvision's video networks have taken off."""
WIDTH: Final = 512
"""Features that the head weighs."""
GROUPS: Final = 8
"""Fewest channels in a group where `Norm` is `group`, of at most 32; R(2+1)D's stem has 45, in groups of 9."""
LEAST: Final = 5
"""Fewest planes along time: R3D's and R(2+1)D's last block sees an eighth of them."""
LEAST_EDGE: Final = 33
"""Fewest pixels along an edge of a plane: the last block sees a sixteenth, and 2 x 2 x 2 is refused (`nn.resnet`)."""


class VideoNet(nn.Module):
    """A video ResNet of 18 layers for volumes (Chatterjee et al. 2022, doi 10.1038/s41598-022-05572-6).

    torchvision's network with a stem for any number of series and a head of its own: global mean, dropout, one linear
    layer. With one series and three classes R3D has 33,148,995 parameters, R(2+1)D 31,297,254 and MC3 11,472,963.

    Args:
        channels: series of a volume.
        classes: how many.
        kind: which network.
        dropout: before the last layer.
        norm: what features are normalised by.
    """

    def __init__(
        self, channels: int, classes: int, *, kind: Kind, dropout: float = 0.3, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.net: VideoResNet = MAKERS[kind](weights=None)
        self.net.stem[0] = widened(self.net.stem[0], channels)
        self.net.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(WIDTH, classes))
        if norm == "group":
            _group(self.net)
        if norm == "own":
            _forget_running(self.net)
        self.norm = norm
        self.train()  # frozen statistics are so from the start: not every training loop calls it

    def forward(self, volume: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k"]:
        """Logits of volumes, time first."""
        logits: Tensor = self.net(volume)
        return logits

    def stages(self, volume: Float[Tensor, "b c t h w"]) -> list[Tensor]:
        """What each of the four blocks makes of volumes, finest first."""
        made = [self.net.stem(volume)]
        for block in (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4):
            made.append(block(made[-1]))
        return made[1:]

    def train(self, mode: bool = True) -> "VideoNet":
        """Learn, or not; statistics that are frozen stay what they were."""
        super().train(mode)
        if self.norm == "frozen":
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm3d):
                    layer.eval()
        return self


def widened(stem: nn.Conv3d, channels: int) -> nn.Conv3d:
    """A first convolution for another number of channels, its weights at random."""
    shape: Any = {name: getattr(stem, name) for name in ("kernel_size", "stride", "padding")}
    made = nn.Conv3d(channels, stem.out_channels, bias=False, **shape)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def take_over(net: VideoNet, pretrained: VideoResNet, *, stem: bool) -> None:
    """Start from a network of films: all but the head, and all but the first layer or that too.

    Args:
        net: changed in place.
        pretrained: of the same kind, with three colours and batch statistics, and without a head.
        stem: whether the first layer begins with the sum of the weights for red, green and blue, shared out over the
            series, so that a grey film from 0 to 1 in all channels gives what it gave before: then `COLOURS` were
            taken from it first. Else it stays at random, as published.
    """
    state = pretrained.state_dict()
    colours, first = state.pop("stem.0.weight"), net.net.stem[0]
    if stem:
        mean, sd = (torch.tensor(c)[None, :, None, None, None] for c in COLOURS)
        state["stem.1.running_mean"] = state["stem.1.running_mean"] + (colours * mean / sd).sum(
            dim=(1, 2, 3, 4)
        )
        colours = colours / sd
        state["stem.0.weight"] = (
            (colours.sum(dim=1, keepdim=True) / first.in_channels).expand_as(first.weight).clone()
        )
    known = net.net.state_dict()
    net.net.load_state_dict(known | {k: v for k, v in state.items() if k in known})


def _group(module: nn.Module) -> None:
    """Group normalisation in place of batch normalisation throughout, its scale and shift kept."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            n = child.num_features
            groups = max(g for g in range(1, min(32, n // GROUPS) + 1) if n % g == 0)
            setattr(module, name, nn.GroupNorm(groups, n))
        else:
            _group(child)


def _forget_running(module: nn.Module) -> None:
    """Batch normalisation that keeps no running statistics: what is at hand is normalised by itself, always."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
