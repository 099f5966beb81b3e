"""A temperature finds its way back, keeps the order, and costs nothing where nothing is wrong."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from gliolens.errors import ConfigError
from gliolens.stats.temperature import Temperature


def answered(n, temperature, seed):
    """Truths drawn from probabilities that were then made more extreme by a temperature."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, 3)) * 1.5
    true = softmax(z, axis=1)
    truth = (true.cumsum(axis=1) > random.random(n)[:, None]).argmax(axis=1)
    return truth, softmax(z * temperature, axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_what_was_put_in_is_found(temperature):
    found = Temperature.learn(*answered(20_000, temperature, 0))
    assert found.value == pytest.approx(temperature, rel=0.05)


@given(st.integers(0, 10**6), st.floats(0.2, 5))
@example(5329, 5.0)  # probabilities below a billionth of a thousandth, which were all made the same
@settings(deadline=None, max_examples=30)
def test_the_order_stays_and_the_loss_does_not_grow(seed, temperature):
    truth, p = answered(80, temperature, seed)
    learnt = Temperature.learn(truth, p)
    turned = learnt(p)
    assert np.array_equal(turned.argsort(axis=1), p.argsort(axis=1))
    assert turned.sum(axis=1) == pytest.approx(np.ones(80))
    losses = [log_loss(truth, np.clip(q, 1e-12, 1), labels=[0, 1, 2]) for q in (turned, p)]
    assert losses[0] <= losses[1] + 1e-9
    for other in (0.9, 1.1):
        assert losses[0] <= log_loss(truth, Temperature(learnt.value * other)(p), labels=[0, 1, 2]) + 1e-9


def test_a_temperature_of_one_changes_nothing():
    _, p = answered(20, 1.0, 2)
    assert Temperature(1.0)(p) == pytest.approx(p)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ConfigError, match="2 classes and 1 rows"):
        Temperature.learn([0, 1], np.full((1, 2), 0.5))
