"""Site and label: called where the simulator confounds them, and not where it does not; site told from scans."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import distance
from sklearn.metrics import roc_auc_score

from gliolens.case import Case, CaseRow, Grid
from gliolens.cohorts.audit.appearance import PER_SERIES, _guesses, appearance, site_told
from gliolens.cohorts.audit.giveaways import (
    age_tells,
    label_follows_site,
    site_from_embeddings,
    site_from_scans,
)
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.cohorts.splits import patients
from gliolens.labels import TARGETS


def table(n: int, seed: int, level: float) -> list[CaseRow]:
    cohort = draw_cohort(n, seed, PhantomConfig(site_confounding=level))
    return [CaseRow(t.case, t.case, site=t.site, targets=t.targets) for t in cohort]


def serious(rows: list[CaseRow]) -> list[str]:
    found = label_follows_site(rows, patients(rows), tuple(TARGETS))
    return [f.name for f in found if f.severity == "serious"]


def test_confounding_is_called_and_its_absence_is_not():
    """The bar of `benchmarks/confounding.py`, on cohorts of other seeds."""
    assert sum("site and grade" in serious(table(60, 50 + k, 0.75)) for k in range(20)) >= 19
    assert sum(bool(serious(table(60, 50 + k, 0.0))) for k in range(20)) <= 1


def aged(grade: str, ages: list[float], site: str = "a") -> list[CaseRow]:
    return [
        CaseRow(f"{grade}{site}{k}", f"{grade}{site}{k}", age=age, site=site, targets={"grade": grade})
        for k, age in enumerate(ages)
    ]


def test_the_healthy_hide_neither_that_age_tells_the_grade_nor_make_the_site_tell_it():
    rng = np.random.default_rng(0)
    low, high, well = (rng.normal(mean, 8, n).tolist() for mean, n in ((40, 100), (60, 100), (50, 50)))
    ill = [*aged("LGG", low), *aged("HGG", high)]
    (alone,) = age_tells(ill, patients(ill), "grade")
    assert alone.severity == "warning"
    assert alone.number == pytest.approx(roc_auc_score([0] * 100 + [1] * 100, low + high))
    everyone = [*ill, *aged("healthy", well, site="b")]
    assert list(age_tells(everyone, patients(everyone), "grade")) == [alone]
    assert label_follows_site(everyone, patients(everyone), ("grade",)) == ()


def test_of_three_grades_the_one_that_age_tells_best_is_reported():
    """Of grades 2, 3 and 4, grade 2 is the young."""
    ages = {"2": 30.0, "3": 60.0, "4": 60.0}
    rows = [
        CaseRow(f"p{g}{k}", f"p{g}{k}", age=mean + k % 7, targets={"who_grade": g})
        for g, mean in ages.items()
        for k in range(30)
    ]
    (found,) = age_tells(rows, patients(rows), "who_grade")
    assert (found.severity, found.number) == ("warning", 1.0)
    assert "WHO grade 2 from age alone" in found.text
    assert "younger" in found.text


def test_p_is_corrected_for_the_number_of_targets():
    rows = table(60, 3, 0.3)
    alone = {t: label_follows_site(rows, patients(rows), (t,))[0] for t in ("grade", "idh", "codel_1p19q")}
    p = {t: float(f.text.split("permutation p ")[1].split(",")[0]) for t, f in alone.items()}
    together = {f.name: f.text for f in label_follows_site(rows, patients(rows), tuple(TARGETS))}
    first = min(p, key=p.__getitem__)
    corrected = float(together[f"site and {first}"].split(", ")[-1].split(" after Holm")[0])
    assert corrected == pytest.approx(3 * p[first], abs=3e-4)


def looks(n: int, shift: float, seed: int) -> tuple[list[dict[str, np.ndarray]], list[str]]:
    rng = np.random.default_rng(seed)
    sites = [("a", "b", "c")[k % 3] for k in range(n)]
    made = [{"t1": rng.normal(size=PER_SERIES) + shift * (s == "a") - shift * (s == "b")} for s in sites]
    return made, sites


def vectors(n: int, shift: float, seed: int) -> tuple[list[dict[str, np.ndarray]], list[str]]:
    """As an encoder's: 500 numbers, of which patients differ in five ways and sites, by `shift`, in a sixth."""
    rng = np.random.default_rng(seed)
    ways = rng.normal(size=(6, 500))
    sites = [("a", "b", "c")[k % 3] for k in range(n)]
    made = []
    for s in sites:
        far = shift * ("abc".index(s) - 1) + 0.3 * rng.normal()
        made.append({"t1": np.array([*rng.normal(size=5), far]) @ ways + 0.3 * rng.normal(size=500)})
    return made, sites


@pytest.mark.parametrize(
    ("made", "patients", "unseen", "least"), [(looks, 60, 45, 0.9), (vectors, 48, 48, 0.8)]
)
def test_a_site_that_shows_is_told_and_one_that_does_not_is_not(made, patients, unseen, least):
    """By few numbers, and by more than there are patients."""
    found = site_told(*made(patients, 1.0, 0))
    assert found is not None
    assert found.accuracy > least
    assert found.p < 0.005
    assert found.chance == pytest.approx(1 / 3, abs=0.03)
    told = [site_told(*made(unseen, 0.0, k)) for k in range(20)]
    assert sum(t is not None and t.p < 0.05 for t in told) <= 3


def test_embeddings_are_asked_of_a_case_a_patient_and_raise_nothing_serious():
    made, sites = vectors(48, 1.0, 0)
    rows = [
        CaseRow(f"c{k:02d}", f"p{k % 48:02d}", site=s, targets={"idh": "mutant" if s == "a" else "wildtype"})
        for k, s in enumerate([*sites, *sites[:6]])  # six patients were seen twice
    ]
    asked: list[list[str]] = []

    def embed(chosen: Sequence[CaseRow]) -> dict[str, dict[str, np.ndarray]]:
        asked.append([row.patient for row in chosen])
        return {row.case: made[int(row.patient[1:])] for row in chosen[1:]}  # the first cannot be read

    (found,) = site_from_embeddings(rows, embed, patients(rows))
    assert asked == [[f"p{k:02d}" for k in range(48)]]
    assert (found.name, found.severity) == ("site from the embeddings", "warning")
    assert "47 patients of 3 sites" in found.text
    assert "tumour included" in found.text
    small = [replace(row, site=f"{row.case}") for row in rows]
    assert list(site_from_embeddings(small, lambda _: pytest.fail("encoded in vain"), patients(small))) == []


def test_the_guesses_are_the_nearest_means_by_mahalanobis():
    """Against SciPy's distances on the same folds."""
    made, sites = looks(40, 0.7, 2)
    x = np.stack([m["t1"] for m in made])
    site = np.unique(sites, return_inverse=True)[1]
    guessed = _guesses(x, site[None], 3, np.random.default_rng(7))[0]
    fold = np.random.default_rng(7).permutation(40) % 5
    for k in range(5):
        learnt, asked = fold != k, fold == k
        scaled = (x - x[learnt].mean(axis=0)) / x[learnt].std(axis=0)
        means = np.stack([scaled[learnt & (site == s)].mean(axis=0) for s in range(3)])
        spread = sum(
            (learnt & (site == s)).sum() * np.cov(scaled[learnt & (site == s)].T, bias=True) for s in range(3)
        )
        inverse = np.linalg.inv(spread / learnt.sum() + 0.3 * np.eye(PER_SERIES))
        apart = distance.cdist(scaled[asked], means, "mahalanobis", VI=inverse)
        assert guessed[asked].tolist() == apart.argmin(axis=1).tolist()


def test_small_sites_are_left_out_and_said():
    made, sites = looks(30, 1.0, 1)
    found = site_told([*made, *made[:3]], [*sites, "d", "d", "d"])
    assert found is not None
    assert (found.sites, found.left_out, found.patients) == (("a", "b", "c"), ("d",), 30)
    assert site_told(made[:6], sites[:6]) is None


def test_a_site_whose_patients_lack_the_common_series_is_left_out_and_the_others_are_tested():
    made, sites = looks(92, 1.0, 5)
    few = [{"t1": made[k]["t1"], **({"t2": made[k]["t1"]} if k == 0 else {})} for k in range(8)]
    whole = [{"t1": m["t1"], "t2": m["t1"]} for m in made]
    found = site_told([*whole, *few], [*sites, *["d"] * 8])
    assert found is not None
    assert (found.sites, found.left_out, found.patients) == (("a", "b", "c"), ("d",), 92)
    rows = [CaseRow(f"c{k:02d}", f"c{k:02d}", site=s) for k, s in enumerate("ab" * 8)]
    seen = {row.case: {"t1" if k < 8 else "t2": np.zeros(PER_SERIES)} for k, row in enumerate(rows)}
    (untested,) = site_from_scans(rows, seen, patients(rows), ())
    assert "with the series that nine in ten have" in untested.text


def test_site_in_the_scans_and_in_the_label_is_serious():
    made, sites = looks(60, 1.0, 4)
    rows = [
        CaseRow(f"c{k:02d}", f"c{k:02d}", site=s, targets={"idh": "mutant" if s == "a" else "wildtype"})
        for k, s in enumerate(sites)
    ]
    group, seen = patients(rows), {f"c{k:02d}": m for k, m in enumerate(made)}
    follows = label_follows_site(rows, group, ("idh",))
    told, both = site_from_scans(rows, seen, group, follows)
    assert (told.name, told.severity) == ("site from the scans", "warning")
    assert (both.name, both.severity) == ("site, scans and idh", "serious")
    assert "leave-one-site-out" in both.text
    blank = {case: {"t1": np.random.default_rng(k).normal(size=PER_SERIES)} for k, case in enumerate(seen)}
    (untold,) = site_from_scans(rows, blank, group, follows)
    assert untold.severity == "note"
    (untested,) = site_from_scans(rows[:9], seen, group, ())
    assert "not tested" in untested.text


def test_appearance_has_no_unit_and_leaves_the_tumour_out():
    rng = np.random.default_rng(0)
    grid = Grid((24, 24, 24), np.eye(4))
    brain, tumour = np.zeros(grid.shape, bool), np.zeros(grid.shape, np.uint8)
    brain[2:22, 2:22, 2:22], tumour[5:10, 5:10, 5:10] = True, 2
    image = rng.normal(100, 10, grid.shape).astype(np.float32)
    case = Case("c", grid, {"t1": image, "t2": image * 3 + 40}, grid, brain=brain, tumour=tumour)
    seen = appearance(case)
    assert seen["t1"].shape == (PER_SERIES,)
    assert np.allclose(seen["t1"], seen["t2"], atol=1e-3)
    lit = np.where(tumour > 0, 500, image).astype(np.float32)
    assert np.array_equal(
        appearance(Case("c", grid, {"t1": lit}, grid, brain=brain, tumour=tumour))["t1"], seen["t1"]
    )
    # White noise has neighbours as unlike as strangers; along an axis that is blurred they are alike.
    assert np.allclose(seen["t1"][10:], 0, atol=0.05)
    blurred = (image + np.roll(image, 1, axis=2)) / 2
    assert appearance(Case("c", grid, {"t1": blurred}, grid, brain=brain))["t1"][12] > 0.2
    assert appearance(Case("c", grid, {"t1": np.full_like(image, 7)}, grid, brain=brain)) == {}
