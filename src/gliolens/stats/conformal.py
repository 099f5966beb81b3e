"""Sets of classes that hold the true one as often as asked, in every class: split conformal prediction.

A case's set holds each class that is no stranger to it than most calibration cases of that class were to theirs.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from gliolens.errors import ConfigError
from gliolens.types import Probabilities


@dataclass(frozen=True)
class ConformalSets:
    """Class-conditional (Mondrian) conformal sets (Vovk et al. 2005, section 4.5; Sadinle et al. 2019, doi
    10.1080/01621459.2017.1395341).

    Attributes:
        least: of each class, the probability from which on a set holds it (k,); 0 where there were too few
            calibration cases of the class to leave it out of any set.
        coverage: how often a set holds the true class, at least, 0 to 1.
        cases: calibration cases of each class.
    """

    least: tuple[float, ...]
    coverage: float
    cases: tuple[int, ...]

    @classmethod
    def learn(cls, truth: ArrayLike, probabilities: Probabilities, coverage: float = 0.9) -> Self:
        """Learn from calibration cases, of which the model has learnt nothing.

        Of n cases of a class the set's bound is the floor((n + 1)(1 - coverage))-th smallest probability that one of
        them had of its own class. New cases like these are then covered with at least that chance.

        Args:
            truth: class of each, 0 to k - 1, shape (n,).
            probabilities: shape (n, k).
            coverage: above 0 and below 1.

        Raises:
            ConfigError: the coverage is no such share, or lengths differ.
        """
        given, p = np.asarray(truth, int), np.asarray(probabilities, float)
        if not 0 < coverage < 1:
            raise ConfigError(f"coverage is {coverage}; expected above 0 and below 1")
        if given.shape != p.shape[:1]:
            raise ConfigError(f"{given.shape[0]} classes but {p.shape[0]} rows of probabilities; one a case")
        own = [np.sort(p[given == c, c]) for c in range(p.shape[1])]
        return cls(tuple(_bound(mine, coverage) for mine in own), coverage, tuple(len(mine) for mine in own))

    def __call__(self, probabilities: Probabilities) -> np.ndarray:
        """Which classes the set of each case holds (n, k), bool; none, where it is strange to every class."""
        return np.asarray(np.asarray(probabilities) >= np.array(self.least))


def _bound(own: np.ndarray, coverage: float) -> float:
    rank = math.floor((len(own) + 1) * (1 - coverage) + 1e-9)
    return float(own[rank - 1]) if rank else 0.0
