"""Differences of AUCs: against scikit-learn, against DeLong's own, and against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from gliolens.errors import ConfigError
from gliolens.stats.differences import auc_difference, independent_difference, over_folds
from gliolens.stats.intervals import Difference, Interval, delong_difference, patient_weights, unknown


def answers(seed, n=60, classes=2):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % classes)
    both = [rng.dirichlet(np.ones(classes), n) + sign * np.eye(classes)[truth] for sign in (0.6, 0.2)]
    return truth, *(p / p.sum(axis=1, keepdims=True) for p in both)


def test_of_two_classes_and_one_case_a_patient_it_is_delongs():
    truth, p, other = answers(0)
    assert auc_difference(truth, p, other, list(map(str, range(60)))) == delong_difference(
        truth, p[:, 1], other[:, 1]
    )


@pytest.mark.parametrize(("classes", "patients"), [(2, 30), (3, 60)])
def test_else_the_value_is_that_of_scikit_learn(classes, patients):
    truth, p, other = answers(1, classes=classes)
    who = [str(i % patients) for i in range(60)]
    found = auc_difference(truth, p, other, who, resamples=200)

    def auc(q):
        return roc_auc_score(truth, q[:, 1]) if classes == 2 else roc_auc_score(truth, q, multi_class="ovr")

    assert found.interval.value == pytest.approx(auc(p) - auc(other))
    assert found.interval.low < found.interval.value < found.interval.high
    assert found.p_value < 0.05  # .6 against .2 of the truth


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_turned_round_it_is_the_negative(seed):
    truth, p, other = answers(seed, n=36, classes=3)
    who = list(map(str, range(36)))
    one, two = (auc_difference(truth, *pair, who, resamples=100) for pair in ((p, other), (other, p)))
    assert one.interval.value == pytest.approx(-two.interval.value)
    assert one.p_value == two.p_value


def test_a_bootstrapped_p_value_is_small_by_chance_alone_as_often_as_it_says():
    found = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = np.arange(60) % 3
        p, other = (rng.dirichlet(np.ones(3), 60) for _ in range(2))
        found.append(auc_difference(truth, p, other, list(map(str, range(60))), resamples=200).p_value)
    assert (np.array(found) < 0.05).sum() <= 14  # 6 expected; more than 14 has a chance of .001
    assert 0.35 < np.mean(found) < 0.65


def test_draws_without_a_value_count_on_neither_side():
    """Both mutant exams are of one patient, who has more of the other class: one draw in three leaves him out."""
    truth, who = np.array([1, 1] + [0] * 13), ["a"] * 5 + [str(i) for i in range(10)]
    p, other = (np.column_stack([1 - q, q]) for q in (0.9 * truth + 0.05, np.full(15, 0.5)))
    found = auc_difference(truth, p, other, who, resamples=300)
    drawn = np.concatenate([*patient_weights(who, truth, resamples=300, seed=0)])[:, 0] > 0
    assert 0.5 < drawn.mean() < 0.8
    assert found.p_value == pytest.approx(2 / (drawn.sum() + 1))


def test_a_class_without_a_case_leaves_it_unknown():
    found = auc_difference([0, 1, 0, 1], np.full((4, 3), 1 / 3), np.full((4, 3), 1 / 3), list("abcd"))
    assert math.isnan(found.interval.value)
    assert found.interval.reason


def test_lengths_must_agree():
    with pytest.raises(ConfigError, match="as many"):
        auc_difference([0, 1], np.full((3, 2), 0.5), np.full((2, 2), 0.5), ["a", "b"])


def test_symmetric_intervals_of_other_patients_add_in_squares():
    found = independent_difference(Interval(0.9, 0.87, 0.93), Interval(0.7, 0.66, 0.74))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.15, 0.25))


def test_skew_bounds_go_to_the_side_they_belong_to():
    """Zou & Donner 2008: below, what the first may be less and the second more."""
    found = independent_difference(Interval(0.9, 0.8, 0.94), Interval(0.7, 0.5, 0.75))
    assert found.low == pytest.approx(0.2 - math.hypot(0.1, 0.05))
    assert found.high == pytest.approx(0.2 + math.hypot(0.04, 0.2))


def test_what_has_no_bounds_gives_none():
    found = independent_difference(Interval(0.9, 0.8, 0.94), unknown("one patient", 0.7))
    assert found.value == pytest.approx(0.2)
    assert math.isnan(found.low)
    assert found.reason == "one patient"


def test_over_folds_a_normal_p_value_is_that_of_the_larger_error():
    """z = 2 of one error becomes 2 / sqrt(1.8) over five folds; p from tables of the normal distribution."""
    found = over_folds(Difference(Interval(0.1, 0.0, 0.2), 0.0455003), 5)
    assert found.p_value == pytest.approx(0.13603, abs=1e-5)
    assert found.interval.low < 0.0 < 0.2 < found.interval.high
    assert over_folds(found, 1) == found
