"""How sure a network is of an outline, by its own probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gliolens.labels import REGIONS
from gliolens.types import Image, Labels


@dataclass(frozen=True)
class Doubt:
    """How sure a network is of one region, by its own probabilities.

    Attributes:
        ml: volume of the region as drawn.
        low_ml: volume of what is part of the region with a probability of 3/4 or more.
        high_ml: volume of what is part of it with a probability of 1/4 or more.
        own_dice: the Dice the probabilities would lead one to expect; NaN where nothing is drawn.
    """

    ml: float
    low_ml: float
    high_ml: float
    own_dice: float


def doubts(labels: Labels, probabilities: Mapping[str, Image], voxel_ml: float) -> dict[str, Doubt]:
    """How sure the network is of each region; pieces of which nothing was drawn do not count.

    The expected Dice of a mask m under probabilities p is close to 2 sum(p m) / (sum(p) + sum(m)).

    Args:
        labels: what was drawn.
        probabilities: of each region by its name, 0 to 1; `whole` must be there.
        voxel_ml: volume of a voxel.
    """
    pieces, n = ndimage.label(probabilities["whole"] >= 0.25, structure=np.ones((3, 3, 3)))
    counted = np.zeros(n + 1, bool)
    counted[pieces[labels > 0]] = True
    counted[0] = False
    near, out = counted[pieces] | (labels > 0), {}
    for name, share in probabilities.items():
        p, drawn = share[near], np.isin(labels[near], REGIONS[name])
        both = float(p.sum(dtype=np.float64)) + np.count_nonzero(drawn)
        out[name] = Doubt(
            ml=float(np.count_nonzero(drawn) * voxel_ml),
            low_ml=float(np.count_nonzero(p >= 0.75) * voxel_ml),
            high_ml=float(np.count_nonzero(p >= 0.25) * voxel_ml),
            own_dice=2 * float(p[drawn].sum(dtype=np.float64)) / both if drawn.any() else float("nan"),
        )
    return out
