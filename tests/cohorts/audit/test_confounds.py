"""Site and age against independent implementations and published numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gliolens.cohorts.audit.confounds import age_effect, site_effect


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_cramers_v_is_scipys(seed):
    rng = np.random.default_rng(seed)
    site, label = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    table = np.zeros((4, 3), int)
    np.add.at(table, (site, label), 1)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    found = site_effect([str(s) for s in site], [str(x) for x in label])
    assert found is not None
    assert found.cramers_v == pytest.approx(stats.contingency.association(table, method="cramer"))
    assert 0 < found.p <= 1
    assert 1 / 3 - 1e-9 <= found.accuracy <= 1


def test_the_permutation_p_is_near_fishers_exact_one():
    sites = ["a"] * 12 + ["b"] * 12
    labels = ["x"] * 9 + ["y"] * 3 + ["x"] * 3 + ["y"] * 9
    found = site_effect(sites, labels)
    assert found is not None
    assert found.p == pytest.approx(stats.fisher_exact([[9, 3], [3, 9]]).pvalue, abs=0.012)
    assert found.accuracy == pytest.approx(0.75)
    assert found == site_effect(sites, labels)


def test_permuted_labels_are_seldom_called_significant():
    rng = np.random.default_rng(1)
    found = [
        site_effect(list(rng.choice(list("abcd"), 40)), list(rng.choice(list("xy"), 40))) for _ in range(40)
    ]
    assert sum(f is not None and f.p < 0.05 for f in found) <= 4
    assert np.mean([f.accuracy - f.chance for f in found if f]) == pytest.approx(0, abs=0.03)


def test_one_site_or_one_label_says_nothing():
    assert site_effect(["a", "a"], ["x", "y"]) is None
    assert site_effect(["a", "b"], ["x", "x"]) is None
    assert age_effect([1, 2], [True, True]) is None


def test_age_auc_is_mann_whitneys():
    rng = np.random.default_rng(0)
    ages, ill = rng.normal(50, 9, 109).round(), np.arange(109) < 51
    ages[ill] += 10
    found, younger = age_effect(ages.tolist(), ill.tolist()), age_effect((-ages).tolist(), ill.tolist())
    assert found is not None
    assert younger is not None
    assert found.auc == pytest.approx(stats.mannwhitneyu(ages[ill], ages[~ill]).statistic / (51 * 58))
    assert found.older
    assert (younger.auc, younger.older) == (pytest.approx(found.auc), False)


def test_the_interval_has_hanley_and_mcneils_published_standard_error():
    # Radiology 1982: area .893 for 51 abnormal and 58 normal images, standard error .032. Here 11 of the abnormal
    # beat 51 of the normal and 40 beat 52, which makes that area.
    ages = [50.5] * 11 + [51.5] * 40 + [float(k) for k in range(58)]
    found = age_effect(ages, [True] * 51 + [False] * 58)
    assert found is not None
    assert found.auc == pytest.approx(0.893, abs=5e-4)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(0.032, abs=1e-3)
