"""The methods there are. To add one, write its module and add a line here; it is imported when it is used."""

from collections.abc import Mapping
from typing import Final

METHODS: Final[Mapping[str, str]] = {
    "controls": "gliolens.methods.controls",
    "mts-unet": "gliolens.methods.mts_unet",
    "shape-resnet": "gliolens.methods.shape_resnet",
    "segmentation-fusion": "gliolens.methods.segmentation_fusion",
    "spatio-spatial": "gliolens.methods.spatio_spatial",
    "volume-embedding": "gliolens.methods.volume_embedding",
}
"""Name and module of each method."""

PAPERS: Final[Mapping[str, str]] = {
    "chatterjee2022": "gliolens.papers.chatterjee2022.reproduction",
    "farahani2025": "gliolens.papers.farahani2025.reproduction",
    "janardhan2025": "gliolens.papers.janardhan2025.reproduction",
    "li2025": "gliolens.papers.li2025",
    "zeng2024": "gliolens.papers.zeng2024.reproduction",
}
"""Name and module of each paper that can be reproduced."""
