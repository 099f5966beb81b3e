"""The controls: against scikit-learn, and on data where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from gliolens.case import Case, CaseRow, Grid
from gliolens.errors import CaseError, CohortError, ConfigError, ModelError
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import controls
from gliolens.methods.controls import KINDS, MEASURES, PLACE, Config, fit, load, measure, place_of
from gliolens.radiomics.shape import FEATURES, shape_features
from gliolens.stats.combat import Combat
from gliolens.stats.intervals import delong

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


# --- harmonising ------------------------------------------------------------------------------------------------


def moved_by_site(n, seed):
    """Sizes that tell the class within a site, and that each of three sites moves and stretches; the rest follows."""
    rng = np.random.default_rng(seed)
    mutant, site = rng.random(n) < 0.4, rng.integers(0, 3, n)
    plain = rng.normal(size=(n, 9)) + 1.2 * mutant[:, None] * (np.arange(9) < 3)
    moved, stretched = 2 * rng.normal(size=(3, 9)), np.exp(0.4 * rng.normal(size=(3, 9)))
    sizes = np.exp(0.1 * (plain * stretched[site] + moved[site]) + 3)
    return mutant.tolist(), [f"s{s}" for s in site], np.array([whole_shape(row) for row in sizes])


def whole_shape(sizes):
    """All measures of a tumour of these sizes, by PyRadiomics' definitions."""
    of = dict(zip(controls.SIZES, sizes, strict=True))
    of |= {"VoxelVolume": 1.02 * of["MeshVolume"], "SurfaceVolumeRatio": of["SurfaceArea"] / of["MeshVolume"]}
    of["Sphericity"] = (36 * np.pi * of["MeshVolume"] ** 2) ** (1 / 3) / of["SurfaceArea"]
    of["Elongation"] = of["MinorAxisLength"] / of["MajorAxisLength"]
    of["Flatness"] = of["LeastAxisLength"] / of["MajorAxisLength"]
    of |= {"log_volume": np.log(of["VoxelVolume"] / 1000), **dict.fromkeys(PLACE, 0.5)}
    return [of[name] for name in MEASURES]


def test_what_follows_from_harmonised_sizes_still_follows():
    _, sites, measures = moved_by_site(60, 8)
    known = [{**dict(zip(MEASURES, m, strict=True)), "site": s} for m, s in zip(measures, sites, strict=True)]
    places = [MEASURES.index(name) for name in controls.SIZES]
    harmony = Combat.learn(np.log(measures[:, places]), sites)
    found = controls._harmonised(known[0], harmony)
    assert abs(found["MeshVolume"] / known[0]["MeshVolume"] - 1) > 0.01
    again = whole_shape([found[name] for name in controls.SIZES])
    np.testing.assert_allclose([found[name] for name in MEASURES], again)


def test_measures_of_a_true_mask_come_back_where_a_site_adds_nothing():
    mask = np.zeros((20, 20, 20), bool)
    mask[4:15, 6:14, 5:12] = True
    tumour = {
        **shape_features(mask, (1.0, 1.0, 2.0)),
        "log_volume": np.log(mask.sum() * 2 / 1000),
        "site": "a",
    }
    nothing = ((0.0,) * 9,) * 2, ((1.0,) * 9,) * 2
    found = controls._harmonised(tumour, Combat(("a", "b"), (3.0,) * 9, (1.0,) * 9, *nothing))
    for name in ("log_volume", *FEATURES):
        assert found[name] == pytest.approx(tumour[name], rel=1e-9)


def shape_cases(monkeypatch, mutant, sites, measures):
    whole = cohort([50.0] * len(mutant), mutant, sites=sites)
    of_case = {row.case: {"tumour": m} for row, m in zip(whole.rows, measures, strict=True)}
    monkeypatch.setattr(controls, "ready", lambda cases, *_, **__: [of_case[row.case] for row in cases.rows])
    return whole, of_case


def auc_and_model(whole, of_case, tmp_path, *, harmonise, test):
    train = [i for i in range(len(whole.rows)) if i not in test]
    mine = whole.only({whole.rows[i].case for i in train})
    model = fit(mine, Config(kind="shape", harmonise=harmonise), run(tmp_path))
    rows = [whole.rows[i] for i in test]
    p = [model.answer(r, of_case[r.case]).probabilities["idh"]["mutant"] for r in rows]
    return delong([r.targets["idh"] == "mutant" for r in rows], p).value, model


def test_what_sites_add_is_taken_out_and_the_class_stays(monkeypatch, tmp_path):
    gains = []
    for seed in range(6):
        whole, of_case = shape_cases(monkeypatch, *moved_by_site(240, seed))
        test = range(160, 240)
        plain, _ = auc_and_model(whole, of_case, tmp_path, harmonise=False, test=test)
        mended, _ = auc_and_model(whole, of_case, tmp_path, harmonise=True, test=test)
        gains.append(mended - plain)
    assert np.mean(gains) > 0.03
    assert min(gains) > -0.03


def test_harmony_is_learnt_from_the_training_patients_alone(monkeypatch, tmp_path):
    """Other measures for the patients held out: the model stays the same, number by number."""
    mutant, sites, measures = moved_by_site(90, 3)
    whole, of_case = shape_cases(monkeypatch, mutant, sites, measures)
    _, model = auc_and_model(whole, of_case, tmp_path, harmonise=True, test=range(60, 90))
    places = [MEASURES.index(name) for name in controls.SIZES]
    assert model.harmony == Combat.learn(np.log(measures[:60][:, places]), sites[:60])
    measures[60:] *= 100
    whole, of_case = shape_cases(monkeypatch, mutant, sites, measures)
    _, other = auc_and_model(whole, of_case, tmp_path, harmonise=True, test=range(60, 90))
    assert other == model


def test_a_harmonised_control_comes_back_and_says_where_it_cannot_harmonise(monkeypatch, tmp_path, capsys):
    whole, of_case = shape_cases(monkeypatch, *moved_by_site(60, 4))
    model = fit(whole, Config(kind="shape", harmonise=True), run(tmp_path))
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again == model
    row = whole.rows[0]
    known = model.answer(row, of_case[row.case])
    assert "read without harmonising" not in capsys.readouterr().err
    elsewhere = again.answer(replace(row, site="new"), of_case[row.case])
    assert "of no site that was learnt (s0, s1, s2)" in capsys.readouterr().err
    assert elsewhere.probabilities != known.probabilities


def test_harmonising_what_cannot_be_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="looks at no shape feature"):
        Config(kind="age-sex", harmonise=True)
    mutant, sites, measures = moved_by_site(30, 5)
    whole, _ = shape_cases(monkeypatch, mutant, [*sites[:-1], None], measures)
    with pytest.raises(CohortError, match="case 29"):
        fit(whole, Config(kind="shape", harmonise=True), run(tmp_path))
    whole, _ = shape_cases(monkeypatch, mutant, ["one"] * 30, measures)
    with pytest.raises(ConfigError, match="1 sites"):
        fit(whole, Config(kind="shape", harmonise=True), run(tmp_path))
