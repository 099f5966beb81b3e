"""The controls: against scikit-learn, and on data where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from gliolens.case import Case, CaseRow, Grid
from gliolens.errors import CaseError, ModelError
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import controls
from gliolens.methods.controls import KINDS, MEASURES, PLACE, Config, fit, load, measure, place_of

CLASSES = ("wildtype", "mutant")


def cohort(ages, mutant, sexes=None, sites=None):
    return Cases(
        tuple(
            CaseRow(
                f"case {i}",
                f"patient {i}",
                age=None if age is None else float(age),
                sex=sexes[i] if sexes else None,
                site=sites[i] if sites else None,
                targets={"idh": CLASSES[bool(m)]},
            )
            for i, (age, m) in enumerate(zip(ages, mutant, strict=True))
        )
    )


def run(tmp_path, seed=0):
    return Run("idh", CLASSES, tmp_path / "run", tmp_path / "cache", seed)


@pytest.fixture(autouse=True)
def no_scans(monkeypatch):
    """Controls of age and site read no scan: whatever is measured here is unknown."""
    nothing = {"tumour": np.full(len(MEASURES), np.nan)}
    monkeypatch.setattr(controls, "ready", lambda cases, config, cache, tick=None: [nothing] * len(cases))


@pytest.fixture
def ages_and_truth():
    rng = np.random.default_rng(0)
    mutant = rng.random(120) < 0.3
    return (60 - 20 * mutant + rng.normal(0, 8, 120)).tolist(), mutant.tolist()


def test_age_equals_scikit_learn_with_the_class_shares_put_back(tmp_path, ages_and_truth):
    ages, mutant = ages_and_truth
    model = fit(cohort(ages, mutant), Config(kind="age-sex"), run(tmp_path))
    x = np.array(ages)[:, None]
    z = (x - x.mean()) / x.std()
    share = np.mean(mutant)
    q = LogisticRegression(class_weight="balanced").fit(z, mutant).predict_proba(z)[:, 1]
    odds = q / (1 - q) * share / (1 - share)
    for i in (0, 7, 99):
        answer = model.answer_from("x", {"age": ages[i]})
        assert answer.probabilities["idh"]["mutant"] == pytest.approx(odds[i] / (1 + odds[i]), abs=1e-4)
        assert answer.decisions["idh"] == CLASSES[int(q[i] > 0.5)]


def test_permuted_labels_know_nothing_where_age_knows_all(tmp_path):
    rng = np.random.default_rng(1)
    mutant = rng.random(200) < 0.5
    ages = (60 - 30 * mutant + rng.normal(0, 3, 200)).tolist()
    cases = cohort(ages, mutant.tolist())

    def accuracy(kind, seed=0):
        model = fit(cases, Config(kind=kind), run(tmp_path / str(seed), seed))
        decided = [model.answer_from("x", {"age": a}).decisions["idh"] == "mutant" for a in ages]
        return np.mean(np.array(decided) == mutant)

    assert accuracy("age-sex") > 0.95
    by_chance = [accuracy("permuted", s) > 0.5 for s in range(24)]
    assert 5 <= sum(by_chance) <= 19  # a fair coin leaves this range once in 150 times; the seeds are fixed


def test_an_unknown_age_is_not_age_zero(tmp_path, ages_and_truth):
    ages, mutant = ages_and_truth
    model = fit(cohort([None, *ages[1:]], mutant), Config(kind="age-sex"), run(tmp_path))
    unknown = model.answer_from("x", {}).probabilities["idh"]["mutant"]
    zero = model.answer_from("x", {"age": 0.0}).probabilities["idh"]["mutant"]
    median = model.answer_from("x", {"age": float(np.median(ages[1:]))}).probabilities["idh"]["mutant"]
    assert zero > 0.99
    assert abs(unknown - median) < 0.15


def test_a_site_never_seen_gets_the_same_answer_as_an_unknown_one(tmp_path):
    mutant = [i % 2 == 0 for i in range(40)]
    sites = ["A" if m else "B" for m in mutant]
    model = fit(cohort([50] * 40, mutant, sites=sites), Config(kind="site"), run(tmp_path))
    assert model.answer_from("x", {"site": "A"}).decisions["idh"] == "mutant"
    assert model.answer_from("x", {"site": "B"}).decisions["idh"] == "wildtype"
    assert model.answer_from("x", {"site": "C"}).probabilities == model.answer_from("x", {}).probabilities


def test_saved_and_loaded_it_answers_the_same(tmp_path, ages_and_truth):
    ages, mutant = ages_and_truth
    sexes = ["MF"[i % 2] for i in range(120)]
    model = fit(cohort(ages, mutant, sexes), Config(kind="age-sex"), run(tmp_path))
    model.save(tmp_path / "model")
    assert load(tmp_path / "model") == model


def test_another_methods_card_is_refused(tmp_path):
    (tmp_path / "card.json").write_text('{"method": "shape-resnet"}')
    with pytest.raises(ModelError, match="shape-resnet"):
        load(tmp_path)


def test_an_empty_mask_is_refused_rather_than_measured_as_zero():
    grid = Grid((4, 4, 4), np.eye(4))
    case = Case("a", grid, {}, grid, tumour=np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(CaseError, match="a mask without tumour"):
        measure(case)
    with pytest.raises(CaseError, match="no tumour mask"):
        measure(replace(case, tumour=None))


def test_volume_is_in_millilitres():
    tumour = np.zeros((10, 10, 10), np.uint8)
    tumour[2:7, 2:7, 2:7] = 3
    grid = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    brain = np.ones((10, 10, 10), bool)
    measured = measure(Case("a", grid, {}, grid, tumour=tumour, brain=brain))["tumour"]
    assert np.exp(measured[0]) == pytest.approx(1.0)  # 125 voxels of 8 cubic millimetres
    assert len(measured) == len(MEASURES)


def test_the_place_is_where_it_lies_in_the_brain():
    brain, tumour = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    brain[5:15, 0:20, 10:14] = True
    tumour[5:7, 9:11, 10:14] = True
    found = dict(zip(PLACE, place_of(tumour, brain), strict=True))
    expected = {"right": 0.1, "front": 0.5, "up": 0.5, "width": 0.2, "depth": 0.1, "height": 1.0}
    assert found == pytest.approx(expected)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3))
def test_the_place_does_not_depend_on_the_frame_or_the_voxel(shift, room, times):
    rng = np.random.default_rng(0)
    brain = np.pad(np.ones((6, 7, 5), bool), 1)
    tumour = np.pad(rng.random((6, 7, 5)) < 0.2, 1)

    def moved(mask):
        padded = np.pad(mask, (shift, room))
        return padded.repeat(times, 0).repeat(times, 1).repeat(times, 2)

    assert place_of(moved(tumour), moved(brain)) == pytest.approx(place_of(tumour, brain))


def test_every_kind_has_a_title():
    assert set(KINDS) == {"age-sex", "site", "volume", "shape", "mask", "permuted"}
    assert len(set(KINDS.values())) == 6
