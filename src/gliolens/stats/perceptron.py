"""A small classifier on vectors: logistic regression, or a perceptron of one hidden layer, by scikit-learn.

What was learnt is kept as plain arrays, so that it can be saved without a pickle and answers without scikit-learn.
"""

import warnings
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

PASSES: Final = 200
"""Over the patients, at most, for a hidden layer: scikit-learn's own default."""


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Layers of weights.

        h = max(0, x W_1 + b_1),   q = softmax(h W_2 + b_2);   without a hidden layer q = softmax(x W_1 + b_1)

    Attributes:
        weights: of each layer (n_in, n_out).
        biases: of each layer (n_out,).
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    @classmethod
    def learn(
        cls, x: np.ndarray, y: np.ndarray, *, hidden: int, balanced: bool, seed: int, penalty: float = 1.0
    ) -> Self:
        """Learn classes from vectors.

        Args:
            x: vectors (n, d).
            y: classes (n,), 0 to k - 1, each of which occurs.
            hidden: width of the hidden layer; 0 for logistic regression.
            balanced: let every class weigh the same in the loss.
            seed: of the first weights and the order of the patients; logistic regression needs none.
            penalty: of squared weights, as a multiple of scikit-learn's default.
        """
        counts = np.bincount(y)
        weight = (len(y) / (len(counts) * counts))[y] if balanced else np.ones(len(y))
        if hidden:
            net = MLPClassifier((hidden,), alpha=1e-4 * penalty, random_state=seed, max_iter=PASSES)
            with warnings.catch_warnings():  # it may stop before the loss is flat: so much is the recipe
                warnings.simplefilter("ignore", ConvergenceWarning)
                net.fit(x, y, sample_weight=weight)
            return cls(*_softmax_form(net.coefs_, net.intercepts_))
        line = LogisticRegression(C=1.0 / penalty, max_iter=5000).fit(x, y, sample_weight=weight)
        return cls(*_softmax_form([line.coef_.T], [line.intercept_]))

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (n, k) of vectors (n, d)."""
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(0.0, x @ w + b)
        return np.asarray(x @ self.weights[-1] + self.biases[-1])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) of vectors (n, d)."""
        z = self.logits(x)
        q = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(q / q.sum(axis=1, keepdims=True))


def _softmax_form(
    weights: list[np.ndarray], biases: list[np.ndarray]
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """scikit-learn keeps one output for two classes: the log odds of the second."""
    if weights[-1].shape[1] == 1:
        weights = [*weights[:-1], np.hstack([np.zeros_like(weights[-1]), weights[-1]])]
        biases = [*biases[:-1], np.concatenate([np.zeros_like(biases[-1]), biases[-1]])]
    return tuple(weights), tuple(biases)
