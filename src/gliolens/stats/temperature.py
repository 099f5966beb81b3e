"""One number that makes probabilities less or more extreme, fitted to cases of which the model has learnt nothing."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from gliolens.errors import ConfigError
from gliolens.types import Probabilities

LEAST, MOST = 0.05, 20.0
"""Temperatures that are looked at."""
SMALLEST: Final = 1e-12
"""What a true class's probability counts as, where it is smaller, in the loss that is fitted."""


@dataclass(frozen=True)
class Temperature:
    """Temperature scaling (Guo et al. 2017, doi 10.48550/arXiv.1706.04599).

        p_k ~ p_k ** (1 / T)

    Attributes:
        value: T; above 1 it makes probabilities less extreme, and never changes their order.
    """

    value: float

    @classmethod
    def learn(cls, truth: ArrayLike, probabilities: Probabilities) -> Self:
        """The temperature under which the true classes are likeliest, from `LEAST` to `MOST`.

        Args:
            truth: class of each case, 0 to k - 1, shape (n,); of cases that the model has not learnt from.
            probabilities: shape (n, k).

        Raises:
            ConfigError: lengths differ, or there is no case.
        """
        given, p = np.asarray(truth, int), np.asarray(probabilities, float)
        if given.shape != p.shape[:1] or not given.size:
            raise ConfigError(
                f"{given.size} classes and {p.shape[0]} rows of probabilities; expected one or more, alike"
            )
        rows = np.arange(given.size)

        def loss(log_t: float) -> float:
            return float(-np.log(np.maximum(cls(float(np.exp(log_t)))(p)[rows, given], SMALLEST)).mean())

        bounds = (float(np.log(LEAST)), float(np.log(MOST)))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        return cls(float(np.exp(found.x)))

    def __call__(self, probabilities: Probabilities) -> Probabilities:
        """Probabilities at this temperature, rows of which sum to 1."""
        log_p = np.log(
            np.maximum(np.asarray(probabilities, float), np.finfo(float).tiny)
        )  # of 0 there is none
        return np.asarray(softmax(log_p / self.value, axis=1))
