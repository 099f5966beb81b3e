"""Conformal sets cover each class as often as promised, whatever the model; and no oftener than needed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.errors import ConfigError
from gliolens.stats.conformal import ConformalSets


def answered(n, skill, random, shares=(0.7, 0.2, 0.1)):
    truth = random.choice(len(shares), n, p=shares)
    z = random.normal(size=(n, len(shares))) + skill * np.eye(len(shares))[truth]
    p = np.exp(z)
    return truth, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("skill", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_each_class_is_covered_as_often_as_promised(skill, coverage):
    random, held = np.random.default_rng(3), []
    for _ in range(300):
        sets = ConformalSets.learn(*answered(120, skill, random), coverage)
        truth, p = answered(120, skill, random)
        inside = sets(p)[np.arange(120), truth]
        held.append([inside[truth == c].mean() for c in range(3)])
    mean = np.nanmean(held, axis=0)
    assert (mean >= coverage - 0.015).all()
    assert mean[0] <= coverage + 0.03  # of 84 calibration cases at most 1 in 85 more


@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.05, 0.95))
@settings(deadline=None)
def test_of_the_calibration_cases_as_many_are_covered(seed, n, coverage):
    truth, p = answered(n, 1.0, np.random.default_rng(seed))
    sets = ConformalSets.learn(truth, p, coverage)
    inside = sets(p)[np.arange(n), truth]
    for c in range(3):
        assert sets.cases[c] == (truth == c).sum()
        if sets.cases[c]:
            assert inside[truth == c].mean() >= coverage - 1e-9


def test_more_coverage_gives_larger_sets_and_few_cases_all_classes():
    truth, p = answered(200, 1.0, np.random.default_rng(0))
    small, large = (ConformalSets.learn(truth, p, c)(p).sum() for c in (0.8, 0.95))
    assert small < large
    assert ConformalSets.learn(truth[:3], p[:3], 0.9)(p).all()


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ConfigError, match="coverage is 1"):
        ConformalSets.learn([0, 1], np.full((2, 2), 0.5), 1.0)
    with pytest.raises(ConfigError, match="3 classes but 2 rows"):
        ConformalSets.learn([0, 1, 1], np.full((2, 2), 0.5))
