"""The small classifier against scikit-learn itself."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from gliolens.stats.perceptron import PASSES, Perceptron


def patients(classes, n=60, d=7, seed=0):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return rng.normal(size=(n, d)) + 0.8 * y[:, None] * (np.arange(d) % 2), y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("hidden", [0, 5])
def test_it_answers_as_scikit_learn_does(classes, hidden):
    x, y = patients(classes)
    machine = (
        MLPClassifier((hidden,), random_state=3, max_iter=PASSES)
        if hidden
        else LogisticRegression(max_iter=5000)
    )
    mine = Perceptron.learn(x, y, hidden=hidden, balanced=False, seed=3)
    assert np.allclose(mine(x), machine.fit(x, y).predict_proba(x), atol=1e-6)


def test_balanced_classes_weigh_the_same():
    """A class that is repeated three times is as one that is there once, where classes are balanced."""
    x, y = patients(2)
    rare = y == 1
    thrice = np.concatenate([x, x[rare], x[rare]]), np.concatenate([y, y[rare], y[rare]])
    once = Perceptron.learn(x, y, hidden=0, balanced=True, seed=0, penalty=1e-6)
    again = Perceptron.learn(*thrice, hidden=0, balanced=True, seed=0, penalty=1e-6)
    plain = Perceptron.learn(*thrice, hidden=0, balanced=False, seed=0, penalty=1e-6)
    assert np.allclose(once(x), again(x), atol=2e-3)
    assert np.abs(once(x) - plain(x)).max() > 0.02


def test_a_larger_penalty_says_less():
    x, y = patients(2)
    sure = [
        np.ptp(Perceptron.learn(x, y, hidden=0, balanced=False, seed=0, penalty=p)(x)[:, 1])
        for p in (0.1, 10, 1000)
    ]
    assert sure[0] > sure[1] > sure[2]
