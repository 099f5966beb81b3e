"""ComBat: against neuroCombat value by value, the laws it should hold, and what it must not learn from."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.errors import ConfigError
from gliolens.stats.combat import Combat

PUBLISHED = json.loads((Path(__file__).parent / "neurocombat_0_2_12.json").read_text())
"""24 patients of three sites and six features, and what neuroCombat 0.2.12 (MIT) made of them by its defaults."""


def cohort(rng, sizes=(30, 20, 25), features=8, strength=1.0):
    """Features alike everywhere, then moved and stretched by each site."""
    sites = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
    plain = rng.normal(size=(len(sites), features)) * 3 + 10
    x = plain.copy()
    for name in np.unique(sites):
        mine = sites == name
        stretch = np.exp(0.4 * strength * rng.normal(size=features))
        x[mine] = (plain[mine] - 10) * stretch + 10 + 3 * strength * rng.normal(size=features)
    return plain, x, sites.tolist()


def test_every_value_is_that_of_neurocombat():
    """Theirs stops at the same relative change; the two agree to what that leaves open."""
    x, sites = np.array(PUBLISHED["features"]), PUBLISHED["sites"]
    found = Combat.learn(x, sites)(x, sites)
    np.testing.assert_allclose(found, PUBLISHED["harmonised"], rtol=1e-6, atol=1e-6)
    assert np.abs(found - x).max() > 1  # it did something


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_means_and_spreads_of_sites_come_together(seed):
    _, x, sites = cohort(np.random.default_rng(seed), sizes=(60, 60))
    found, at = Combat.learn(x, sites)(x, sites), np.array(sites)

    def apart(values):
        means = [values[at == s].mean(axis=0) for s in ("s0", "s1")]
        return np.abs(means[0] - means[1]).mean()

    assert apart(found) < 0.5 * apart(x) + 0.05
    assert np.corrcoef(found[at == "s0", 0], x[at == "s0", 0])[0, 1] == pytest.approx(1)


def test_units_do_not_matter():
    """What is measured in other units is harmonised to the same in these units."""
    _, x, sites = cohort(np.random.default_rng(1))
    units, zero = np.array([1, 1000, 0.1, 2, 5, 1, 1, 7.0]), np.arange(8.0)
    found = Combat.learn(x * units + zero, sites)(x * units + zero, sites)
    np.testing.assert_allclose(found, Combat.learn(x, sites)(x, sites) * units + zero, rtol=1e-8)


def test_with_very_many_patients_it_is_plain_standardisation_by_site():
    """Nothing is left to shrink."""
    _, x, sites = cohort(np.random.default_rng(2), sizes=(20000, 20000))
    found, at = Combat.learn(x, sites), np.array(sites)
    for place, name in enumerate(found.sites):
        z = (x[at == name] - found.mean) / found.scale
        np.testing.assert_allclose(found.shift[place], z.mean(axis=0), atol=2e-3)
        np.testing.assert_allclose(found.spread[place], z.std(axis=0), rtol=2e-3)


def test_few_patients_are_shrunk_towards_their_site():
    """With one shift for all features of a site, shrinking brings the estimate nearer to it."""
    rng, nearer = np.random.default_rng(3), 0
    for _ in range(20):
        x = rng.normal(size=(44, 40))
        sites = ["few"] * 4 + ["many"] * 40
        x[:4] += 2.0
        found = Combat.learn(x, sites)
        raw = ((x - found.mean) / found.scale)[:4].mean(axis=0)
        mine = np.array(found.shift[found.sites.index("few")])
        nearer += mine.std() < raw.std()
    assert nearer == 20


def test_a_site_that_was_not_learnt_passes_as_it_is():
    _, x, sites = cohort(np.random.default_rng(4))
    found = Combat.learn(np.vstack([x, x[:2]]), [*sites, "tiny", "tiny"])
    assert "tiny" not in found.sites
    np.testing.assert_array_equal(found(x[:3], ["tiny", "elsewhere", None]), x[:3])
    assert not np.allclose(found(x[:1], ["s0"]), x[:1])


def test_patients_that_are_asked_move_nothing():
    """Each is harmonised alone: others asked with him, however odd, change nothing."""
    _, x, sites = cohort(np.random.default_rng(5))
    found = Combat.learn(x[::2], sites[::2])
    odd = np.vstack([x[:1], x[1:] * 1e3])
    np.testing.assert_array_equal(found(odd, sites)[0], found(x[:1], sites[:1])[0])


def test_a_feature_that_does_not_vary_stays():
    _, x, sites = cohort(np.random.default_rng(6))
    x[:, 3] = 4.0
    np.testing.assert_allclose(Combat.learn(x, sites)(x, sites)[:, 3], 4.0)


@pytest.mark.parametrize("constants", [(0.1, 0.3), (0.1, 0.1), (1e-12, 3e-12)])
def test_a_feature_constant_within_sites_leaves_the_others_as_they_would_be(constants):
    """What 0.1 leaves less its mean, 1e-17, is rounding and no spread: the others are shrunk as with 0 in its place."""
    _, x, sites = cohort(np.random.default_rng(8), sizes=(30, 20))
    x[:, 3], plain = np.repeat(constants, (30, 20)), x.copy()
    plain[:, 3] = 0.0
    made, expected = Combat.learn(x, sites)(x, sites), Combat.learn(plain, sites)(plain, sites)
    np.testing.assert_allclose(np.delete(made, 3, axis=1), np.delete(expected, 3, axis=1))
    np.testing.assert_allclose(made[:, 3], made[0, 3])  # the site's share is all there is, and goes


@pytest.mark.parametrize(("sites", "words"), [
    (["a"] * 6, "1 sites"), (["a"] * 4 + ["b"] * 2, "1 sites"), (["a"] * 5, "5 sites"),
])  # fmt: skip
def test_what_cannot_be_harmonised_is_refused(sites, words):
    with pytest.raises(ConfigError, match=words):
        Combat.learn(np.random.default_rng(7).normal(size=(6, 3)), sites)


def test_unknown_values_are_refused():
    x = np.ones((6, 2))
    x[0, 0] = np.nan
    with pytest.raises(ConfigError, match="finite"):
        Combat.learn(x, ["a"] * 3 + ["b"] * 3)
