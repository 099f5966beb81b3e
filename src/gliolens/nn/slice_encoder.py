"""A small encoder of grey slices: the first three stages of ResNet-18 (He et al. 2016, doi 10.1109/CVPR.2016.90)."""

from jaxtyping import Float
from torch import Tensor, cat, nn
from torchvision.models.resnet import BasicBlock, ResNet


class SliceEncoder(nn.Module):
    """From slices to vectors: the mean and the maximum over the slice of each of 256 maps.

    2.8 million weights. The maps have a sixteenth of the slice's resolution.
    """

    dim = 512

    def __init__(self) -> None:
        super().__init__()
        whole = ResNet(BasicBlock, [2, 2, 2, 2])
        stem = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(stem, whole.bn1, whole.relu, whole.maxpool)
        self.stages = nn.Sequential(whole.layer1, whole.layer2, whole.layer3)

    def maps(self, x: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 256 a b"]:
        """What stands where."""
        return self.stages(self.stem(x))  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 512"]:
        """Vectors of slices."""
        maps = self.maps(x)
        return cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
