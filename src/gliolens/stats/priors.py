"""Class shares in answers: put back after a training on balanced classes, and exchanged for those of another place."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from gliolens.errors import ConfigError
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


def at_prevalence(
    p: Probabilities, prior: Float[np.ndarray, "n k"], local: Float[np.ndarray, " k"]
) -> Probabilities:
    """Probabilities where classes are as common as `local` says, of answers that hold the shares `prior`.

        p'_k ~ p_k * local_k / prior_k

    (Saerens et al. 2002, doi 10.1162/089976602753284446). Right where patients of one class look alike in both places;
    ranks within a class pair, and so the AUC, stay.

    Args:
        p: answers (n, k).
        prior: class shares in each of them (n, k), all above zero.
        local: class shares of the place; see `shares_of`.
    """
    return with_prior(p / prior, local)


def shares_of(told: Mapping[str, object], classes: Sequence[str]) -> Float[np.ndarray, " k"]:
    """The shares a user gives, in the order of the classes.

    Raises:
        ConfigError: a class is missing or unknown, a share is not above 0 and below 1, or they do not add up to 1.
    """
    if set(told) != set(classes):
        raise ConfigError(
            f"prevalence of {', '.join(told) or 'nothing'}; expected one of each of {', '.join(classes)}"
        )
    if wrong := [f"{c} {v!r}" for c, v in told.items() if not isinstance(v, int | float)]:
        raise ConfigError(f"prevalence of {', '.join(wrong)}; expected a number above 0 and below 1")
    shares = np.array([told[c] for c in classes], float)
    if not ((shares > 0) & (shares < 1)).all() or not math.isclose(shares.sum(), 1, abs_tol=1e-6):
        raise ConfigError(
            f"prevalences {', '.join(f'{c} {v:g}' for c, v in told.items())}; expected shares above 0 that add up to 1"
        )
    return shares
