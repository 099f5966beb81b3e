"""Putting features on one scale, learnt from training patients only."""

from dataclasses import dataclass
from typing import Self

import numpy as np

SMALLEST = 1e-6
"""Logarithms are taken of no less than this."""


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each feature among training patients.

    Attributes:
        mean: of each feature, after the logarithm where one is taken.
        scale: standard deviation, 1 where a feature does not vary.
        logs: columns of which the logarithm is taken first.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    logs: tuple[int, ...] = ()

    @classmethod
    def learn(cls, features: np.ndarray, logs: tuple[int, ...] = ()) -> Self:
        """Learn from training patients `(n, d)`; undefined values are passed over."""
        raw = _logged(features, logs)
        scale = np.nanstd(raw, axis=0)
        return cls(
            tuple(np.nanmean(raw, axis=0).tolist()), tuple(np.where(scale > 0, scale, 1.0).tolist()), logs
        )

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Scale `(n, d)` to float32; an undefined value stands at the training mean."""
        z = (_logged(features, self.logs) - self.mean) / self.scale
        return np.nan_to_num(z).astype(np.float32)


def _logged(features: np.ndarray, logs: tuple[int, ...]) -> np.ndarray:
    out = features.astype(np.float64)
    columns = list(logs)
    out[:, columns] = np.log(np.maximum(out[:, columns], SMALLEST))
    return out
