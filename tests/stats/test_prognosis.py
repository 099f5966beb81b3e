"""Concordance, integrated Brier score and cuts: against lifelines, the formulas written out, and pure noise."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.utils import concordance_index
from scipy.stats import kstest

from gliolens.errors import ConfigError
from gliolens.stats.prognosis import (
    brier_parts,
    concordance,
    horizon,
    in_sight,
    integrated_brier,
    predicted_survival,
    training_cuts,
)
from gliolens.stats.survival import cox, log_rank

PATIENTS = st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.integers(0, 5)), min_size=3, max_size=30)


def arrays(patients):
    days, died, risk = (np.array(column) for column in zip(*patients, strict=True))
    return days.astype(float), died.astype(bool), risk.astype(float)


def simulated(n, rng, *, effect=0.0):
    """Survival of patients of a random risk, half of them censored; `effect` is the log hazard ratio of one unit."""
    risk = rng.normal(size=n)
    lived, seen = rng.exponential(np.exp(-effect * risk)), rng.exponential(1.0, n)
    return np.minimum(lived, seen), lived <= seen, risk


# --- concordance ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(PATIENTS)
def test_concordance_is_that_of_lifelines(patients):
    days, died, risk = arrays(patients)
    (found,), _ = concordance(days, died, [risk], resamples=2)
    try:
        assert found.value == pytest.approx(concordance_index(days, -risk, died), abs=1e-12)
    except ZeroDivisionError:
        assert math.isnan(found.value)


def test_concordance_by_hand():
    """Of six pairs five tell who died first (not the two last seen on days 3 and 4); won are 3, and one is a tie."""
    days, died = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, False, False])
    (found,), _ = concordance(days, died, [np.array([4.0, 2.0, 3.0, 2.0])])
    assert found.value == pytest.approx(3.5 / 5)


def test_the_bootstrap_holds_the_truth_and_pairs_its_draws():
    rng = np.random.default_rng(1)
    days, died, risk = simulated(300, rng, effect=0.8)
    noise = rng.normal(size=300)
    alone, gained = concordance(days, died, [risk, risk + 1e-9, noise])
    many, seen, risks = simulated(3000, rng, effect=0.8)
    truth = concordance(many, seen, [risks], resamples=2)[0][0].value
    assert 0.6 < alone[0].low <= truth <= alone[0].high < 0.9
    assert alone[2].low < 0.5 < alone[2].high
    assert gained[0].low > 0
    assert gained[0].value == pytest.approx(alone[0].value - alone[2].value)
    assert gained[2].value == 0


def test_concordance_covers_as_often_as_it_says():
    """200 cohorts of noise: the 95 % interval holds a half in 91 to 99 % of them."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        days, died, risk = simulated(80, rng)
        (found,), _ = concordance(days, died, [risk], resamples=300)
        held += found.low <= 0.5 <= found.high
    assert 182 <= held <= 198


# --- Brier score ------------------------------------------------------------------------------------------------


def test_without_censoring_it_is_the_squared_error():
    rng = np.random.default_rng(3)
    days, died, at = rng.exponential(1.0, 50), np.ones(50, bool), np.linspace(0, 1, 9)
    alive = rng.random((50, 9))
    plain = ((days[:, None] > at) - alive) ** 2
    np.testing.assert_allclose(brier_parts(days, died, alive, at), plain)
    whole = np.trapezoid(plain.mean(axis=0), at) / at[-1]
    assert integrated_brier(days, died, alive, at).value == pytest.approx(whole)


def test_a_score_worked_out_by_hand():
    """Deaths on days 1 and 3, losses on 2 and 4; on day 3 G(1-) = 1 and G(3-) = 2/3: one of three was lost on day 2.

    With S = 0.5 for all: day 3 has (0.25 / 1 + 0.25 / (2/3) + 0.25 / (2/3)) / 4 = 0.25; the one lost adds nothing.
    """
    days, died = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
    found = brier_parts(days, died, np.full((4, 1), 0.5), np.array([3.0]))
    np.testing.assert_allclose(found[:, 0], [0.25, 0.0, 0.375, 0.375])
    assert found.mean() == pytest.approx(0.25)


@settings(deadline=None)
@given(PATIENTS)
def test_the_score_is_grafs_formula_patient_by_patient(patients):
    days, died, _ = arrays(patients)
    at, rng = np.array([0.0, 2.5, 5.0, 7.0]), np.random.default_rng(len(patients))
    alive = rng.random((len(days), 4))

    def seen(t, *, before):
        chance = 1.0
        for u in sorted(set(days[~died])):
            if u < t or (u == t and not before):
                at_risk = (days >= u).sum() - (died & (days == u)).sum()
                chance *= 1 - ((days == u) & ~died).sum() / at_risk
        return chance

    if any(seen(t, before=False) == 0 for t in at):
        with pytest.raises(ConfigError, match="nobody was in sight"):
            brier_parts(days, died, alive, at)
        return
    found = brier_parts(days, died, alive, at)
    for i in range(len(days)):
        for j, t in enumerate(at):
            if days[i] <= t and died[i]:
                expected = alive[i, j] ** 2 / seen(days[i], before=True)
            elif days[i] > t:
                expected = (1 - alive[i, j]) ** 2 / seen(t, before=False)
            else:
                expected = 0.0
            assert found[i, j] == pytest.approx(expected)


def test_the_chance_of_being_in_sight_is_lifelines_curve_of_the_censoring():
    rng = np.random.default_rng(5)
    days, died, _ = simulated(100, rng)
    at, chance = in_sight(days, died)
    other = KaplanMeierFitter().fit(days, ~died)
    np.testing.assert_allclose(chance, other.predict(at).to_numpy(), rtol=1e-9)


def test_true_survival_scores_better_than_any_other_and_the_score_is_not_moved_by_censoring():
    rng = np.random.default_rng(6)
    x = rng.normal(size=4000)
    lived, at = rng.exponential(np.exp(-x)), np.linspace(0, 1.5, 40)
    true = np.exp(-at * np.exp(x)[:, None])
    whole = integrated_brier(lived, np.ones(4000, bool), true, at, resamples=20)
    seen = rng.exponential(3.0, 4000)
    part = integrated_brier(np.minimum(lived, seen), lived <= seen, true, at, resamples=200)
    assert part.value == pytest.approx(whole.value, abs=0.01)
    for other in (true**1.5, true**0.6, np.broadcast_to(true.mean(axis=0), true.shape)):
        assert integrated_brier(lived, np.ones(4000, bool), other, at, resamples=20).value > whole.value


def test_predicted_survival_is_lifelines_and_needs_no_unit():
    rng = np.random.default_rng(7)
    days, died, risk = simulated(200, rng, effect=0.7)
    at, asked = np.linspace(0, horizon(days, died), 20), np.array([-1.0, 0.0, 2.0])
    found = predicted_survival(days, died, risk, asked, at)
    plain = CoxPHFitter().fit(pd.DataFrame({"x": risk, "t": days, "d": died}), "t", "d")
    expected = plain.predict_survival_function(pd.DataFrame({"x": asked}), times=at).to_numpy().T
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        predicted_survival(days, died, 9 * risk + 4, 9 * asked + 4, at), found, atol=1e-6
    )
    with pytest.raises(ConfigError, match="of one risk"):
        predicted_survival(days, died, np.ones(200), asked, at)


# --- cuts and groups --------------------------------------------------------------------------------------------

FOLDS = 5


def sides(n):
    fold = np.arange(n) % FOLDS
    return fold, [np.flatnonzero(fold != k) for k in range(FOLDS)]


@given(st.integers(0, 4), st.lists(st.floats(0.01, 0.99), min_size=20, max_size=20))
def test_a_tested_patients_risk_does_not_move_his_cut(k, other):
    rng = np.random.default_rng(8)
    risk = rng.random(40)
    fold, trained = sides(40)
    changed = np.where(fold == k, np.resize(other, 40), risk)
    assert training_cuts(risk, trained)[k] == training_cuts(changed, trained)[k]


def test_a_fixed_cut_is_taken_as_it_is():
    _, trained = sides(10)
    assert training_cuts(np.arange(10.0), trained, "0.5") == [0.5] * FOLDS
    for wrong in ("mean", "1.5", "nan"):
        with pytest.raises(ConfigError, match="cut is"):
            training_cuts(np.arange(10.0), trained, wrong)
    with pytest.raises(ConfigError, match="no training patient"):
        training_cuts(np.arange(10.0), [np.array([], int)])


def p_of(days, died, high):
    return log_rank(days, died, ["high" if h else "low" for h in high]).p


def peeking(days, died, risk):
    """What is not done here: the cut under which the tested patients differ most."""
    return min(p_of(days, died, risk >= cut) for cut in np.quantile(risk, np.linspace(0.2, 0.8, 5)))


def test_noise_parts_nobody_and_a_cut_chosen_on_tested_patients_is_caught():
    """Log-rank p-values of noise are uniform under training cuts; a cut that peeks errs thrice as often or more."""
    rng, honest, peeked = np.random.default_rng(9), [], []
    fold, trained = sides(80)
    for _ in range(80):
        days, died, risk = simulated(80, rng)
        honest.append(p_of(days, died, risk >= np.array(training_cuts(risk, trained))[fold]))
        peeked.append(peeking(days, died, risk))
    assert kstest(honest, "uniform").pvalue > 0.05
    assert np.mean(np.array(honest) < 0.05) <= 0.12
    assert kstest(peeked, "uniform").pvalue < 1e-4
    assert np.mean(np.array(peeked) < 0.05) >= 0.15


# --- proportional hazards ---------------------------------------------------------------------------------------


def test_hazards_that_cross_are_told_and_others_seldom():
    rng, wrong = np.random.default_rng(10), 0
    for _ in range(60):
        days, died, risk = simulated(100, rng, effect=0.7)
        (found,) = cox(days, died, pd.DataFrame({"x": risk}))
        wrong += found.proportional_p < 0.05
    assert wrong <= 8
    group = np.repeat([0.0, 1.0], 150)
    # One group dies early, the other late: no ratio holds at all times.
    days = np.where(group == 0, rng.weibull(0.6, 300), rng.weibull(3.0, 300))
    (found,) = cox(days, np.ones(300, bool), pd.DataFrame({"x": group}))
    assert found.proportional_p < 1e-4
