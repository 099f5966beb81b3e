"""Putting class shares back into the answers of a model that was trained on balanced classes."""

import numpy as np
from jaxtyping import Float

from gliolens.types import Probabilities


def with_prior(balanced: Probabilities, prior: Float[np.ndarray, " k"]) -> Probabilities:
    """Turn posteriors under equal class shares into posteriors under `prior`.

    `p_k` is proportional to `q_k * prior_k` (Saerens et al. 2002, doi 10.1162/089976602753284446).

    Args:
        balanced: `q`, posteriors of a model trained with every class weighing the same.
        prior: share of each class, all above zero.

    Returns:
        `p`, rows of which sum to 1.
    """
    weighted = balanced * prior
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))
