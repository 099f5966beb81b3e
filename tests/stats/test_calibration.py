"""Reliability table and calibration error: scikit-learn as oracle, Murphy's decomposition, known errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from gliolens.errors import ConfigError
from gliolens.stats.calibration import calibration_error, calibration_line, net_benefit, reliability
from gliolens.stats.classification import class_scores

forecasts = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


@given(forecasts, st.integers(1, 15))
def test_every_case_lies_in_one_bin_and_between_its_edges(cases, bins):
    truth, p = map(np.array, zip(*cases, strict=True))
    table = reliability(truth, p, bins)
    assert len(table) == bins
    assert sum(b.n for b in table) == len(p)
    assert all(b.low - 1e-12 <= b.mean_probability <= b.high + 1e-12 for b in table if b.n)
    assert all(math.isnan(b.share) and math.isnan(b.mean_probability) for b in table if not b.n)
    assert sum(b.n * b.share for b in table if b.n) == pytest.approx(truth.sum())


@given(forecasts)
def test_table_is_scikit_learns(cases):
    """scikit-learn holds the upper edge where we hold the lower: leave cases on an edge out."""
    truth, p = map(np.array, zip(*cases, strict=True))
    inside = np.abs(p * 10 - np.round(p * 10)) > 1e-6
    if not inside.any():
        return
    share, mean = calibration_curve(truth[inside], p[inside], n_bins=10)
    table = [b for b in reliability(truth[inside], p[inside]) if b.n]
    assert [b.share for b in table] == pytest.approx(share.tolist())
    assert [b.mean_probability for b in table] == pytest.approx(mean.tolist())


@given(forecasts)
def test_calibration_error_lies_between_the_mean_error_and_one(cases):
    truth, p = map(np.array, zip(*cases, strict=True))
    overall = abs(truth.mean() - p.mean())
    assert calibration_error(truth, p, bins=1) == pytest.approx(overall)
    assert overall - 1e-12 <= calibration_error(truth, p) <= 1


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=60))
def test_brier_is_reliability_less_resolution_plus_uncertainty(cases):
    """Murphy 1973, doi 10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2, for one probability a bin."""
    truth, tenth = map(np.array, zip(*cases, strict=True))
    p = tenth / 10 + 0.05
    table, n, rate = [b for b in reliability(truth, p) if b.n], len(p), truth.mean()
    miscalibrated = sum(b.n * (b.mean_probability - b.share) ** 2 for b in table) / n
    resolved = sum(b.n * (b.share - rate) ** 2 for b in table) / n
    found = class_scores(truth, np.column_stack([1 - p, p]), truth, [str(i) for i in range(n)], resamples=2)
    assert found["brier"].value == pytest.approx(miscalibrated - resolved + rate * (1 - rate))


def test_known_errors():
    assert calibration_error([0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0]) == 0
    assert calibration_error([1, 0], [0.0, 1.0]) == 1
    # 10 cases at 0.85 of which 6 are positive, 30 at 0.25 of which 3: (10 * 0.25 + 30 * 0.15) / 40
    truth = [1] * 6 + [0] * 4 + [1] * 3 + [0] * 27
    assert calibration_error(truth, [0.85] * 10 + [0.25] * 30) == pytest.approx(0.175)


def test_a_probability_on_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    assert [b.n for b in reliability([0, 1, 1, 0], [0.0, 0.25, 0.5, 1.0], bins=4)] == [1, 1, 1, 1]


def test_overconfidence_is_measured():
    random = np.random.default_rng(0)
    honest = random.random(20000)
    truth = random.random(20000) < honest
    assert calibration_error(truth, honest) < 0.02
    assert calibration_error(truth, np.round(honest)) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("truth", "p", "bins"),
    [
        ([0], [0.1, 0.2], 10),
        ([], [], 10),
        ([0], [0.5], 0),
        ([2], [0.5], 10),
        ([0], [1.1], 10),
        ([0], [math.nan], 10),
    ],
)
def test_what_cannot_be_meant_is_refused(truth, p, bins):
    with pytest.raises(ConfigError):
        calibration_error(truth, p, bins)


def drawn(n, slope=1.0, shift=0.0, seed=0):
    """Probabilities, and truths whose log odds are `shift + slope` times theirs."""
    random = np.random.default_rng(seed)
    z = random.normal(size=n)
    return (random.random(n) < expit(shift + slope * z)).astype(int), expit(z)


@pytest.mark.parametrize("seed", range(5))
def test_the_line_is_that_of_scikit_learn(seed):
    truth, p = drawn(300, 0.6, 0.4, seed)
    found = calibration_line(truth, p)
    machine = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(p)[:, None], truth)
    assert found.slope.value == pytest.approx(machine.coef_[0, 0], rel=1e-4)
    # of a slope of 1 the intercept is where the mean of the probabilities is that of the truths
    assert expit(logit(p) + found.intercept.value).mean() == pytest.approx(truth.mean(), abs=1e-8)


def test_intervals_of_the_line_hold_what_was_put_in():
    held = []
    for seed in range(200):
        line = calibration_line(*drawn(250, 0.7, 0.0, seed))
        held.append(line.slope.low <= 0.7 <= line.slope.high)
    assert 0.91 <= np.mean(held) <= 0.985


def test_lines_that_cannot_be_drawn_say_why():
    assert "one class" in calibration_line([1, 1], [0.2, 0.9]).slope.reason
    assert "alike" in calibration_line([0, 1], [0.5, 0.5]).slope.reason
    assert "part both classes" in calibration_line([0, 1, 1], [0.2, 0.4, 0.9]).slope.reason
    assert math.isfinite(calibration_line([0, 1, 1], [0.2, 0.4, 0.9]).intercept.value)


@given(seed=st.integers(0, 999), t=st.floats(0.01, 0.99))
def test_net_benefit_is_counted_by_hand(seed, t):
    truth, p = drawn(40, seed=seed)
    found = net_benefit(truth, p, [t])
    hits = sum(1 for y, q in zip(truth, p, strict=True) if q >= t and y)
    false = sum(1 for y, q in zip(truth, p, strict=True) if q >= t and not y)
    assert found["model"][0] == pytest.approx(hits / 40 - false / 40 * t / (1 - t))
    assert found["all"][0] == pytest.approx(truth.mean() - (1 - truth.mean()) * t / (1 - t))
    assert net_benefit(truth, truth.astype(float), [t])["model"][0] == pytest.approx(
        truth.mean()
    )  # none can do better
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        net_benefit(truth, p, [1.0])
