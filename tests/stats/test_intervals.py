"""AUC by DeLong and the bootstrap over patients: laws, published values, a slow oracle, coverage."""

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, mannwhitneyu
from sklearn.metrics import roc_auc_score

from gliolens.errors import ConfigError
from gliolens.stats.intervals import (
    Interval,
    bootstrap,
    delong,
    delong_difference,
    holm,
    over_folds,
    patient_weights,
    percentile_interval,
    unknown,
    unvaried,
)

Z = NormalDist().inv_cdf(0.975)


@st.composite
def scored(draw, least=2):
    """Truth with both classes, and two scores with ties."""
    positives, negatives = draw(st.integers(least, 12)), draw(st.integers(least, 12))
    truth = draw(st.permutations([1] * positives + [0] * negatives))
    values = st.lists(st.integers(-4, 4), min_size=len(truth), max_size=len(truth))
    return np.array(truth), np.array(draw(values), float), np.array(draw(values), float)


def binormal(random, positives, negatives, shift):
    truth = np.repeat([1, 0], [positives, negatives])
    return truth, random.normal(size=truth.size) + shift * truth


def pair_table(truth, score):
    """Every pair of one positive (row) and one negative (column): 1 right, 0.5 tied, 0 wrong."""
    gap = score[truth == 1][:, None] - score[truth == 0][None, :]
    return (np.sign(gap) + 1) / 2


def slow_variance(table):
    """DeLong's variance from the mean of each row and column of pairs, by loops."""
    rows = [sum(r) / len(r) for r in table.tolist()]
    columns = [sum(c) / len(c) for c in table.T.tolist()]
    mean = sum(rows) / len(rows)
    return sum(sum((x - mean) ** 2 for x in side) / (len(side) - 1) / len(side) for side in (rows, columns))


# --- Interval -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [(math.nan, 0.1, 0.2), (0.5, math.nan, 1.0), (0.5, 0.6, 0.7), (0.5, 0.1, 0.4)]
)
def test_an_interval_without_reason_or_around_another_value_is_refused(bad):
    with pytest.raises(ConfigError):
        Interval(*bad)


def test_nan_is_kept_beside_its_reason():
    assert Interval(0.5, math.nan, math.nan, "too few").reason == "too few"


@given(st.integers(1, 400), st.floats(0.5, 0.99))
def test_unvaried_is_clopper_pearson_where_all_succeed_or_fail(n, level):
    tail = (1 - level) / 2
    assert unvaried(1.0, n, level=level).low == pytest.approx(beta.ppf(tail, n, 1), rel=1e-9)
    assert unvaried(0.0, n, level=level).high == pytest.approx(beta.ppf(1 - tail, 1, n), rel=1e-9)


# --- DeLong -------------------------------------------------------------------------------------------------


@given(scored())
def test_auc_is_scikit_learns_and_the_share_of_pairs(data):
    truth, score, _ = data
    auc = delong(truth, score).value
    assert auc == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    assert auc == pytest.approx(pair_table(truth, score).mean(), abs=1e-12)


@given(scored())
def test_interval_is_that_of_the_slow_variance_on_the_logit_scale(data):
    truth, score, _ = data
    auc, variance = pair_table(truth, score).mean(), slow_variance(pair_table(truth, score))
    found = delong(truth, score)
    assert found.low <= found.value <= found.high
    if variance < 1e-20:
        assert found == unvaried(auc, int(min(truth.sum(), (1 - truth).sum())))
    else:
        logits = [math.log(x / (1 - x)) for x in (found.low, found.value, found.high)]
        reach = Z * math.sqrt(variance) / (auc * (1 - auc))
        assert np.diff(logits) == pytest.approx([reach, reach], rel=1e-6)


@given(scored())
def test_difference_is_that_of_the_slow_variance(data):
    truth, a, b = data
    table = pair_table(truth, a) - pair_table(truth, b)
    found, p = delong_difference(truth, a, b)
    assert found.value == pytest.approx(table.mean(), abs=1e-12)
    assert -1 <= found.low <= found.value <= found.high <= 1
    error = math.sqrt(slow_variance(table))
    if error > 1e-10:
        assert found.high == pytest.approx(min(1, table.mean() + Z * error), abs=1e-9)
        assert p == pytest.approx(2 * (1 - NormalDist().cdf(abs(table.mean()) / error)), abs=1e-9)


@given(scored())
def test_a_difference_turns_its_sign_when_the_scores_change_places(data):
    truth, a, b = data
    one, other = delong_difference(truth, a, b), delong_difference(truth, b, a)
    assert one.interval.value == pytest.approx(-other.interval.value, abs=1e-12)
    assert one.interval.low == pytest.approx(-other.interval.high, abs=1e-12)
    assert one.p_value == pytest.approx(other.p_value, abs=1e-12)


@given(scored())
def test_auc_sees_only_the_order_of_the_scores(data):
    truth, score, _ = data
    assert delong(truth, np.exp(score) * 3 - 7) == delong(truth, score)


@given(scored())
def test_swapped_classes_mirror_the_auc_and_its_bounds(data):
    truth, score, _ = data
    one, other = delong(truth, score), delong(1 - truth, score)
    assert other.value == pytest.approx(1 - one.value, abs=1e-12)
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low), abs=1e-9)


def test_hanley_and_mcneil_1982():
    """Their Table I: 109 CT images rated 1 to 5. Published: area 0.893, standard error 0.032."""
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    truth = np.repeat([0, 1], [58, 51])
    score = np.concatenate([np.repeat(np.arange(1.0, 6), counts) for counts in (normal, abnormal)])
    found = delong(truth, score)
    assert found.value == pytest.approx(0.893, abs=5e-4)
    reach = math.log(found.high / (1 - found.high)) - math.log(found.value / (1 - found.value))
    assert reach / Z * found.value * (1 - found.value) == pytest.approx(0.032, abs=2e-3)


def test_auc_is_mann_whitneys_u_on_many_cases():
    truth, score = binormal(np.random.default_rng(1), 4000, 6000, 0.7)
    u = mannwhitneyu(score[truth == 1], score[truth == 0]).statistic
    assert delong(truth, score).value == pytest.approx(u / 4000 / 6000, abs=1e-12)


def test_a_perfect_score_on_few_cases_keeps_a_wide_interval():
    found = delong([0] * 30 + [1] * 8, np.arange(38))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 8))
    assert "8 independent" in found.reason
    assert delong([0, 0, 0, 1, 1, 1], -np.arange(6)).low == 0


def test_one_score_for_all_is_a_coin_that_was_never_thrown():
    found = delong([0, 1] * 10, np.zeros(20))
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 * 0.025**0.1)
    assert found.high == pytest.approx(1 - found.low)


def test_scores_that_order_alike_do_not_differ():
    truth, score = binormal(np.random.default_rng(2), 20, 20, 1.0)
    found = delong_difference(truth, score, 2 * score)
    assert (found.interval.value, found.p_value) == (0.0, 1.0)
    assert found.interval.low < 0 < found.interval.high


@pytest.mark.parametrize("pairs", [2, 3, 5, 6, 12])
def test_p_of_a_difference_without_variance_agrees_with_its_bounds(pairs):
    truth = np.repeat([0, 1], pairs)
    found = delong_difference(truth, truth, np.zeros(2 * pairs))
    assert found.interval.value == 0.5
    assert (found.p_value < 0.05) == (found.interval.low > 0)


def test_a_class_without_a_case_is_nan_with_its_reason():
    found = delong([1, 1, 1], [0.1, 0.2, 0.3])
    assert math.isnan(found.value)
    assert found.reason == "no case of class 0"
    difference = delong_difference([0, 0], [0.1, 0.2], [0.2, 0.1])
    assert math.isnan(difference.p_value)
    assert difference.interval.reason == "no case of class 1"


def test_one_case_in_a_class_has_an_auc_but_no_bounds():
    found = delong([1, 0, 0, 0], [2, 1, 2, 3])
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert "one case" in found.reason
    assert math.isnan(delong_difference([1, 0, 0], [2, 1, 3], [1, 2, 3]).p_value)


@pytest.mark.parametrize(
    ("truth", "score"),
    [([0, 1], [0.1]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1, math.nan]), ([[0, 1]], [[0.1, 0.2]])],
)
def test_bad_truth_or_score_is_refused(truth, score):
    with pytest.raises(ConfigError):
        delong(truth, score)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ConfigError, match="level"):
        delong([0, 1], [0, 1], level=level)
    with pytest.raises(ConfigError, match="level"):
        bootstrap(np.mean, ["a", "b"], [0, 1], level=level)


def test_delong_covers_the_known_auc():
    """Binormal scores: AUC = Phi(shift / sqrt 2)."""
    random, shift = np.random.default_rng(3), 1.2
    known = NormalDist().cdf(shift / math.sqrt(2))
    found = [delong(*binormal(random, 30, 60, shift)) for _ in range(1000)]
    assert 0.93 <= np.mean([i.low <= known <= i.high for i in found]) <= 0.97


def test_delong_covers_on_few_cases_near_one():
    """Half of these small samples separate perfectly; an interval of no width would cover half the time."""
    random, shift = np.random.default_rng(4), 3.0
    known = NormalDist().cdf(shift / math.sqrt(2))
    found = [delong(*binormal(random, 8, 8, shift)) for _ in range(1000)]
    assert np.mean([i.value == 1 for i in found]) > 0.3
    assert np.mean([i.low <= known <= i.high for i in found]) >= 0.93


def test_equally_good_scores_are_told_apart_by_chance_only():
    random, p = np.random.default_rng(5), []
    for _ in range(1000):
        truth, shared = binormal(random, 50, 70, 1.0)
        a, b = (shared + random.normal(size=truth.size) for _ in range(2))
        p.append(delong_difference(truth, a, b).p_value)
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07


# --- folds --------------------------------------------------------------------------------------------------


@given(scored(), st.integers(2, 20))
def test_over_folds_the_variance_is_that_of_folds_correlated_by_one_in_k(data, folds):
    """On the logit scale, where the interval is symmetric: k scores of variance v, each pair correlated by 1 / k."""
    found = delong(*data[:2])
    wide = over_folds(found, folds)
    assert (wide.value, wide.reason) == (found.value, found.reason)
    if found.low > 0 and found.high < 1 and found.low < found.value:
        reach, wider = (_logit(i.high) - _logit(i.value) for i in (found, wide))
        correlated = np.full((folds, folds), 1 / folds) + np.eye(folds) * (1 - 1 / folds)
        assert (wider / reach) ** 2 == pytest.approx(correlated.sum() / folds, rel=1e-6)
        assert _logit(wide.value) - _logit(wide.low) == pytest.approx(wider, rel=1e-6)


def _logit(share):
    return math.log(share / (1 - share))


def test_over_folds_ends_of_the_scale_and_unknown_bounds_stay():
    for found in (
        Interval(1.0, 0.7, 1.0),
        Interval(0.6, 0.0, 0.9),
        unknown("few", 0.5),
        Interval(0.5, 0.2, 0.8),
    ):
        assert over_folds(found, 1) == found
    assert over_folds(Interval(1.0, 0.7, 1.0), 5) == Interval(1.0, 0.7, 1.0)
    assert over_folds(Interval(0.6, 0.0, 0.9), 5).low == 0
    assert over_folds(Interval(0.6, 0.0, 0.9), 5).high > 0.9
    assert math.isnan(over_folds(unknown("few", 0.5), 5).low)
    mcc = over_folds(Interval(0.0, -0.5, 0.5), 5, lowest=-1.0)
    assert -1 < mcc.low < -0.5
    assert mcc.high == pytest.approx(-mcc.low)


def test_answers_pooled_from_folds_are_covered_only_when_widened():
    """A rule that learns from four folds that nothing is to be found, and points somewhere all the same."""
    random, found = np.random.default_rng(9), []
    for _ in range(400):
        truth, x, score = np.repeat([0, 1], 50), random.normal(size=(100, 5)), np.empty(100)
        fold = np.tile(np.arange(5), 20)
        for k in range(5):
            learnt = fold != k
            towards = x[learnt & (truth == 1)].mean(axis=0) - x[learnt & (truth == 0)].mean(axis=0)
            score[~learnt] = x[~learnt] @ towards
        found.append(delong(truth, score))
    plain = np.mean([i.low <= 0.5 <= i.high for i in found])
    wide = np.mean([i.low <= 0.5 <= i.high for i in (over_folds(i, 5) for i in found)])
    assert plain < 0.9
    assert binomtest(round(400 * wide), 400).proportion_ci(0.99).high >= 0.95
    assert 0.92 <= wide <= 0.985


# --- bootstrap ----------------------------------------------------------------------------------------------


def test_bootstrap_of_a_mean_has_the_known_width():
    """A mean of n values: standard error is their standard deviation / sqrt n."""
    values = np.random.default_rng(6).normal(size=400)
    found = bootstrap(lambda rows: values[rows].mean(), [str(i) for i in range(400)], [0] * 400)
    assert found.value == values.mean()
    assert (found.high - found.low) / 2 == pytest.approx(Z * values.std() / 20, rel=0.06)


def test_bootstrap_draws_patients_whole_and_within_their_stratum():
    patients, strata = ["a", "b", "b", "c", "d", "d", "d"], [0, 0, 0, 0, 1, 1, 0]
    seen = set()

    def look(rows):
        times = np.bincount(rows, minlength=7)
        assert times[1] == times[2]
        assert times[0] + times[1] + times[3] == 3
        assert (times[4:] == 1).all()  # the only patient of stratum 1, by most of its exams
        seen.add(tuple(times))
        return float(times[1])

    bootstrap(look, patients, strata, resamples=200)
    assert len(seen) == 10  # ways to draw three of three with repeats


def test_bootstrap_repeats_with_its_seed_only():
    values, patients = np.arange(30.0) ** 2, [str(i) for i in range(30)]

    def run(seed):
        return bootstrap(lambda r: values[r].mean(), patients, [0] * 30, resamples=200, seed=seed)

    assert run(1) == run(1)
    assert run(1) != run(2)


@given(st.integers(1, 5), st.integers(3, 12), st.integers(0, 1000))
def test_more_exams_of_the_same_patients_tell_nothing_new(times, n, seed):
    values = np.random.default_rng(seed).normal(size=n)
    patients = [str(i) for i in range(n)]
    once = bootstrap(lambda r: values[r].mean(), patients, [0] * n, resamples=100)
    many = np.tile(values, times)
    again = bootstrap(lambda r: many[r].mean(), patients * times, [0] * n * times, resamples=100)
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=1e-12)


def test_patients_seen_often_are_covered_only_when_drawn_whole():
    """Five exams a patient that share most of their value: drawing exams one by one is far too sure."""
    random, whole, apart = np.random.default_rng(7), [], []
    for seed in range(200):
        values = np.repeat(random.normal(size=40), 5) + 0.3 * random.normal(size=200)
        for patients, covered in ((np.repeat(np.arange(40), 5), whole), (np.arange(200), apart)):
            weights = np.concatenate(
                list(patient_weights(list(map(str, patients)), [0] * 200, resamples=300, seed=seed))
            )
            found = percentile_interval(values.mean(), weights @ values / weights.sum(axis=1))
            covered.append(found.low <= 0 <= found.high)
    assert 0.90 <= np.mean(whole) <= 0.98
    assert np.mean(apart) < 0.75


def test_resamples_without_a_value_are_counted():
    values = np.arange(10.0)
    patients = [str(i) for i in range(10)]

    def without_the_first(rows):
        return values[rows].mean() if 0 in rows else math.nan

    found = bootstrap(without_the_first, patients, [0] * 10, resamples=1000)
    assert "of 1000 resamples gave no value" in found.reason
    assert int(found.reason.split()[0]) == pytest.approx(1000 * 0.9**10, abs=60)
    assert found.low < 4.5 < found.high


def test_a_statistic_without_value_or_variation_is_nan_with_its_reason():
    patients = ["a", "b", "c"]
    undefined = bootstrap(lambda rows: math.nan, patients, [0, 0, 0], resamples=10)
    constant = bootstrap(lambda rows: 1.0, patients, [0, 0, 0], resamples=10)
    nobody = bootstrap(np.mean, [], [], resamples=10)
    assert math.isnan(undefined.value)
    assert "not defined" in undefined.reason
    assert constant.value == 1
    assert math.isnan(constant.low)
    assert "same value" in constant.reason
    assert nobody.reason == "no cases"


def test_an_interval_is_widened_to_hold_its_value():
    """The largest value is never exceeded by a resample."""
    found = percentile_interval(9.0, np.array([5.0, 6.0, 7.0, 8.0]))
    assert found.high == 9.0


def test_bootstrap_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match="2 patients but 3 strata"):
        bootstrap(np.mean, ["a", "b"], [0, 1, 1])
    with pytest.raises(ConfigError, match="resamples"):
        bootstrap(np.mean, ["a", "b"], [0, 1], resamples=0)


def test_holm_as_worked_by_hand():
    """Four comparisons, as in textbooks: .01 .04 .03 .005 become .03 .06 .06 .02; one that was not made stays so."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    told = holm([0.01, math.nan, 0.9, 0.8])
    assert told[0] == pytest.approx(0.03)
    assert math.isnan(told[1])
    assert told[2:] == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_and_keeps_the_order(p):
    told = holm(p)
    assert all(t >= q - 1e-15 for t, q in zip(told, p, strict=True))
    assert all(b >= a for (_, a), (_, b) in pairwise(sorted(zip(p, told, strict=True))))
