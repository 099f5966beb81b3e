"""The six networks, with what was published of them by the paper and by its retelling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gliolens.labels import HEALTHY
from gliolens.methods.spatio_spatial import Config
from gliolens.nn.video import Kind
from gliolens.stats.published import mean_fits

CLASSES: Final = ("LGG", "HGG", HEALTHY)
NAMES: Final[Mapping[Kind, str]] = MappingProxyType({"r3d": "R3D", "r2plus1d": "R(2+1)D", "mc3": "MC3"})
PRETRAINED: Final = "pretrained "
SOUND: Final = "MC3, sound"
PARAMETERS: Final[Mapping[Kind, tuple[int, int]]] = MappingProxyType(
    {"r3d": (33_148_995, 34_261_634), "r2plus1d": (31_297_254, 32_398_366), "mc3": (11_472_963, 22_583_975)}
)
"""With one channel and three classes: as counted here, and as the retelling has them."""
ORIGINAL: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {"pretrained MC3": (".8949", ".9123", ".9963", ".9345", "")}
)
"""F1 of LGG, HGG and healthy, macro and weighted, of the paper; its accuracy is .9698."""
RETOLD: Final[Mapping[str, Sequence[str]]] = MappingProxyType({
    "R3D": (".8673", ".8845", ".9972", ".9096", ".9270"),
    "pretrained R3D": (".8145", ".8741", ".9998", ".8952", ".9272"),
    "R(2+1)D": (".8456", ".8852", ".9928", ".9045", ".9325"),
    "pretrained R(2+1)D": (".8738", ".8980", ".9855", ".9328", ".9494"),
    "MC3": (".7782", ".8331", ".9963", ".8652", ".8891"),
    "pretrained MC3": (".9049", ".9249", ".9985", ".9654", ".9770"),
})  # fmt: skip
"""The same of the retelling."""


@dataclass(frozen=True)
class Network:
    """One row.

    Attributes:
        name: of the row.
        config: its settings.
    """

    name: str
    config: Config

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.name.lower().replace(", ", "-").replace(" ", "-").replace("(2+1)", "2plus1")


def networks(base: Config, mended: Config, films: Mapping[Kind, str]) -> list[Network]:
    """R3D, R(2+1)D and MC3, each from scratch and pretrained; and MC3 both ways with the quirks mended.

    Args:
        base: settings that all share.
        mended: where the last two take how they are normalised and learn from; what they see is that of all.
        films: weights that the pretrained ones start from; none is made where there are none.
    """
    rows = []
    for kind, name in NAMES.items():
        rows.append(Network(name, replace(base, network=kind, weights=None)))
        if kind in films:
            rows.append(Network(PRETRAINED + name, replace(base, network=kind, weights=films[kind])))
    seen = {name: getattr(base, name) for name in ("series", "voxels", "voxel_mm")}
    soundly = replace(mended, network="mc3", weights=None, **seen)
    rows.append(Network(SOUND, soundly))
    if "mc3" in films:
        rows.append(Network(PRETRAINED + SOUND, replace(soundly, weights=films["mc3"])))
    return rows


def contradictions() -> list[str]:
    """Where published numbers cannot all be true: sentences."""
    said = []
    for name, (*classes, macro, _) in RETOLD.items():
        if not mean_fits([f"0{v}" for v in classes], f"0{macro}"):
            mean = sum(map(float, classes)) / len(classes)
            said.append(
                f"Retelling, {name}: F1 of the classes average to {mean:.4f}, its macro F1 is {macro}."
            )
    for name, told in ORIGINAL.items():
        apart = [f"{a} and {b}" for a, b in zip(told, RETOLD[name], strict=True) if a and a != b]
        said.append(f"{name}: the paper and the retelling have F1 of {', '.join(apart)}.")
    counts = ", ".join(f"{NAMES[k]} {theirs:,} for {mine:,}" for k, (mine, theirs) in PARAMETERS.items())
    return [*said, f"Parameters of the retelling are not those of these networks: {counts}."]
