"""The built-in answers: against scikit-learn, the conformal law, the tables they were fitted to, and bad input."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gliolens.answers import BUILT_IN, Predictor, Quantity, Step, quantities_of, read_answers
from gliolens.cohorts.clinical.table import read_clinical
from gliolens.cohorts.identity import patient_of
from gliolens.errors import ConfigError, ModelError
from gliolens.io.nifti import read_labels
from gliolens.labels import NECROTIC, OEDEMA, REGIONS, TARGETS
from gliolens.radiomics.shape import shape_features
from gliolens.stats.calibration import calibration_error
from gliolens.stats.intervals import delong

TRAINING = Path(__file__).resolve().parents[1] / "training"
TYPICAL = {
    "whole": 80.0,
    "core": 40.0,
    "enhancing": 25.0,
    "necrotic": 15.0,
    "oedema": 40.0,
    "VoxelVolume": 80_000.0,
    "Sphericity": 0.6,
    "MajorAxisLength": 68.0,
    "MinorAxisLength": 49.0,
    "LeastAxisLength": 39.0,
}
"""A tumour such as the median training patient has."""


LARGE = {
    "VoxelVolume": 250_000.0,
    "MajorAxisLength": 100.0,
    "MinorAxisLength": 80.0,
    "LeastAxisLength": 70.0,
}


@pytest.fixture(scope="module")
def answers():
    return read_answers()


@pytest.fixture(scope="module")
def card():
    return json.loads(BUILT_IN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ucsf(shared_data):
    """Shape features, age and patients of UCSF-PDGM, read without GlioLens's readers."""
    tables = shared_data / "tables"
    shapes = pd.read_csv(tables / "ucsf_pdgm_pyradiomics_t1gd_whole_tumour.csv").set_index("ID")
    told = pd.read_csv(tables / "ucsf_pdgm_metadata_v2.csv").set_index("ID").loc[shapes.index]
    found = shapes.filter(like="original_shape_").rename(columns=lambda c: c.removeprefix("original_shape_"))
    return found.assign(
        age=told["Age at MRI"].astype(float),
        mutant=told["IDH"] != "wildtype",
        four=told["WHO CNS Grade"] == 4,
        patient=[patient_of(case) for case in shapes.index],
    )


def design(table: pd.DataFrame, target: str) -> np.ndarray:
    """What the predictors with age look at, written down a second time."""
    axes = table.MajorAxisLength * table.MinorAxisLength * table.LeastAxisLength
    filling = table.VoxelVolume / (np.pi / 6 * 5**1.5 / 8 * axes)
    if target == "mutant":
        return table[["Sphericity", "age"]].to_numpy()
    return np.column_stack([np.log(table.VoxelVolume), table.Sphericity, filling, table.age])


def machine():
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-10, max_iter=5000))


def named(found):
    return {a.target: a for a in found}


# --- against scikit-learn and the tables -------------------------------------------------------------------------


def test_answers_are_those_of_scikit_learn_on_the_tables(answers, ucsf):
    checked = 0
    for target, label, last in (("mutant", "idh", "mutant"), ("four", "who_grade", "4")):
        expected = machine().fit(design(ucsf, target), ucsf[target]).predict_proba(design(ucsf, target))[:, 1]
        for i in range(0, len(ucsf), 5):
            row = ucsf.iloc[i]
            measured = {str(k): float(v) for k, v in row.items() if isinstance(v, float) and k != "age"}
            found = named(answers.answer(measured, float(row.age)))[label]
            if not found.abstained:
                assert found.probabilities[last] == pytest.approx(expected[i], abs=1e-6)
                checked += 1
    assert checked > 190


@pytest.mark.parametrize("transform", ["plain", "log", "log(q + 1)", "square root"])
def test_a_fit_answers_as_scikit_learn_does_on_random_patients(transform, monkeypatch):
    monkeypatch.syspath_prepend(TRAINING)
    made = importlib.import_module("answer_fit")
    random = np.random.default_rng(3)
    known = {name: random.gamma(3, 2, 90) for name in ("volume", "sphericity", "filling")}
    truth = (random.random(90) < 1 / (1 + np.exp(known["volume"] - 6))).astype(int)
    part = made.Part(("wildtype", "mutant"), truth, np.arange(90).astype(str), known)
    how = dict.fromkeys(("volume", "sphericity"), transform)
    fitted = made.fit(part, how, watched={"filling": "plain"})
    does = {"plain": lambda q: q, "log": np.log, "log(q + 1)": np.log1p, "square root": np.sqrt}[transform]
    x = does(np.column_stack([known["volume"], known["sphericity"]]))
    expected = machine().fit(x, truth).predict_proba(x)
    rows = [{n: float(v[i]) for n, v in known.items()} for i in range(90)]
    found = np.array([list(fitted.probabilities(row).values()) for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(made.answer(fitted, known), expected, atol=1e-6)


def test_the_shipped_file_is_what_the_script_makes_of_the_tables(card, shared_data, monkeypatch):
    monkeypatch.syspath_prepend(TRAINING)
    script = importlib.import_module("answers")
    cohorts = script.read_cohorts(shared_data / "tables")
    recipes = script.recipes()
    assert len(recipes) == len(card["predictors"])
    for recipe, row in zip(recipes, card["predictors"], strict=True):
        part = recipe.part(cohorts)
        fitted = script.fit(part, recipe.transforms, recipe.target, recipe.watched)
        assert (recipe.target, recipe.reading, recipe.aged) == (row["target"], row["reading"], row["age"])
        assert [q["name"] for q in row["quantities"]] == list(fitted.names)
        for ours, theirs in zip(fitted.steps, row["steps"], strict=True):
            np.testing.assert_allclose(ours.coefficients, theirs["coefficients"], atol=1e-6)
            assert ours.intercept == pytest.approx(theirs["intercept"], abs=1e-6)
        for ours, theirs in zip(fitted.quantities, row["quantities"], strict=True):
            assert ours.transform == theirs["transform"]
            numbers = ("mean", "scale", "low", "high", "slack")
            expected = [theirs[n] for n in numbers]
            assert [getattr(ours, n) for n in numbers] == pytest.approx(expected, rel=1e-6)
        scores = script.nonconformity(part, script.average(script.repeated(part, recipe.transforms)))
        for name, ours in zip(part.classes, scores, strict=True):
            np.testing.assert_allclose(ours, row["conformal"][name], atol=1e-6)


def test_the_aim_is_reached_with_folds_the_script_did_not_use(ucsf):
    for target, aim in (("mutant", 0.91), ("four", 0.84)):
        x, y = design(ucsf, target), ucsf[target].to_numpy()
        aucs, errors = [], []
        for seed in range(100, 106):
            p = np.zeros(len(y))
            folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            for train, test in folds.split(x, y, ucsf.patient):
                p[test] = machine().fit(x[train], y[train]).predict_proba(x[test])[:, 1]
            aucs.append(roc_auc_score(y, p))
            errors.append(calibration_error(y.astype(int), p))
        assert np.mean(aucs) >= aim
        assert max(errors) <= 0.05


def test_the_shipped_scores_reach_the_aim_and_stand_beside_their_controls(card):
    first = {(p["target"], p["age"]): p for p in card["predictors"] if p["reading"] == "first"}
    idh, grade = (first[target, True]["scores"][0] for target in ("idh", "who_grade"))
    assert idh["auc"] >= 0.91
    assert grade["auc"] >= 0.84
    assert max(idh["ece"], grade["ece"]) <= 0.05
    for predictor in card["predictors"]:
        own, *controls = predictor["scores"]
        assert {c["name"] for c in controls} == {"age alone", "tumour volume alone", "permuted labels"}
        assert abs(controls[-1]["auc"] - 0.5) < 0.1
        assert own["low"] <= own["auc"] <= own["high"]


def test_what_does_not_beat_age_alone_says_so(card, answers):
    for predictor in card["predictors"]:
        words = ("does not beat age alone beyond doubt", "does worse than age alone")
        said = any(caution.startswith(words) for caution in predictor["cautions"])
        assert said == (predictor["against_age"]["low"] <= 0)
    idh = named(answers.answer(TYPICAL, None))["idh"]
    assert any("does worse than age alone" in caution for caution in idh.cautions)


def test_nearly_every_training_patient_gets_an_answer(card):
    for predictor in card["predictors"]:
        assert predictor["abstaining"] <= math.ceil(0.015 * predictor["exams"])


def test_sets_held_the_true_class_of_patients_left_out(card):
    for predictor in card["predictors"]:
        for row in predictor["coverage"]:
            # Three standard errors below the level, as a class of n left-out patients may stray.
            assert row["covered"] >= card["level"] - 3 * math.sqrt(0.09 / row["n"])


# --- laws --------------------------------------------------------------------------------------------------------


def simulated(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A trait whose log odds are 2 x, in one patient in four or so."""
    x = random.normal(-1, 1, n)
    return x, random.random(n) < 1 / (1 + np.exp(-2 * x))


def test_conformal_sets_cover_each_class_of_exchangeable_patients():
    random = np.random.default_rng(7)
    held = {"wildtype": [], "mutant": []}
    step = Step("mutant", 0.0, (2.0,))
    quantity = Quantity("age", "plain", 0.0, 1.0, -9.0, 9.0)
    for _ in range(150):
        x, mutant = simulated(random, 200)
        p = 1 / (1 + np.exp(-2 * x))
        scores = {"wildtype": p[~mutant], "mutant": 1 - p[mutant]}
        predictor = Predictor(
            "idh", ("wildtype", "mutant"), (quantity,), (step,), np.eye(1), 9.0, scores, "", (), ()
        )
        new, truth = simulated(random, 40)
        for value, is_mutant in zip(new, truth, strict=True):
            name = "mutant" if is_mutant else "wildtype"
            p_value = predictor.p_values(predictor.probabilities({"age": float(value)}))[name]
            held[name].append(p_value > 0.1 + 1e-9)
    for name, covered in held.items():
        n = len(covered)
        assert 0.9 - 4 * math.sqrt(0.09 / n) <= np.mean(covered) <= 0.93 + 4 * math.sqrt(0.09 / n), name


def test_the_evidence_and_the_intercept_are_the_log_odds(answers):
    for age in (30.0, None):
        for found in answers.answer(TYPICAL, age):
            predictor = (
                answers.first.get((found.target, age is not None)) or answers.first[found.target, False]
            )
            top = found.probabilities[predictor.classes[-1]]
            assert sum(found.evidence.values()) + predictor.steps[0].intercept == pytest.approx(
                math.log(top / (1 - top))
            )
            sizes = [abs(v) for v in found.evidence.values()]
            assert sizes == sorted(sizes, reverse=True)


def test_probabilities_are_of_the_target_s_classes_in_order_and_sum_to_one(answers):
    found = answers.answer(TYPICAL, 50.0)
    assert [a.target for a in found] == list(TARGETS)
    for a in found:
        assert list(a.probabilities) == [c for c in TARGETS[a.target] if c in a.probabilities]
        assert sum(a.probabilities.values()) == pytest.approx(1)
        assert set(a.conformal) <= set(a.probabilities)


def test_grades_2_and_3_keep_their_training_share_whatever_the_tumour(answers):
    for sphericity in (0.4, 0.8):
        p = named(answers.answer({**TYPICAL, "Sphericity": sphericity}, 40.0))["who_grade"].probabilities
        assert p["3"] / p["2"] == pytest.approx(43 / 56)


def test_a_solid_ellipsoid_fills_itself_and_two_balls_do_not():
    x, y, z = np.indices((70, 60, 50)) - np.array([35, 30, 25])[:, None, None, None]
    solid = (x / 30) ** 2 + (y / 20) ** 2 + (z / 15) ** 2 < 1
    apart = ((x - 22) ** 2 + y**2 + z**2 < 100) | ((x + 22) ** 2 + y**2 + z**2 < 100)
    filling = [quantities_of(shape_features(m, (1.0, 1.0, 1.0)))["filling"] for m in (solid, apart)]
    assert filling[0] == pytest.approx(1, abs=0.01)
    assert filling[1] < 0.6


# --- no answer ---------------------------------------------------------------------------------------------------


def test_no_tumour_gets_no_answer(answers):
    for found in answers.answer({"whole": 0.0, "core": 0.0, "enhancing": 0.0}, 50.0):
        assert found.abstained == "no tumour found"
        assert (found.probabilities, found.conformal, found.evidence) == ({}, (), {})


@pytest.mark.parametrize("unknown", [{}, {"Sphericity": math.nan}])
def test_an_unknown_quantity_is_named_and_never_filled_in(answers, unknown):
    measured = {k: v for k, v in TYPICAL.items() if k != "Sphericity"} | unknown
    found = named(answers.answer(measured, 50.0))
    for target in ("who_grade", "idh"):
        assert found[target].abstained == "not known: sphericity"
        assert not found[target].probabilities
    assert not found["grade"].abstained
    assert not found["codel_1p19q"].abstained


def test_regions_a_mask_cannot_tell_leave_grade_without_an_answer(answers):
    measured = {k: v for k, v in TYPICAL.items() if k not in ("core", "enhancing", "necrotic", "oedema")}
    found = named(answers.answer(measured, 50.0))
    assert "volume of enhancing tumour (ml)" in found["grade"].abstained
    assert not found["idh"].abstained
    assert not any("second reading" in c for c in found["idh"].cautions)
    assert found["codel_1p19q"].abstained == "not known: share of the core that enhances"


def test_the_reason_why_something_is_not_known_stands_beside_it(answers):
    parts = ("core", "enhancing", "necrotic", "oedema")
    measured = {k: v for k, v in TYPICAL.items() if k not in parts}
    reasons = dict.fromkeys(parts, "a guess") | {"Sphericity": "unasked"}
    found = named(answers.answer(measured, 50.0, reasons))
    assert found["codel_1p19q"].abstained == "not known: share of the core that enhances (a guess)"
    assert found["grade"].abstained.startswith("not known: volume of enhancing tumour (ml), ")
    assert found["grade"].abstained.endswith("(ml) (a guess)")
    assert not found["idh"].abstained
    shapeless = {k: v for k, v in TYPICAL.items() if k not in ("Sphericity", "VoxelVolume")}
    reasons = {"Sphericity": "too small", "VoxelVolume": "not counted"}
    grade = named(answers.answer(shapeless, 50.0, reasons))["who_grade"]
    assert grade.abstained.endswith("(not counted; too small)")


def test_an_unknown_age_takes_the_predictor_without_age_and_says_so(answers):
    for age in (None, math.nan):
        idh = named(answers.answer(TYPICAL, age))["idh"]
        assert "age (years)" not in idh.evidence
        assert idh.cautions[0].startswith("age is not known")
    aged = named(answers.answer(TYPICAL, 30.0))["idh"]
    assert "age (years)" in aged.evidence
    assert not any("not known" in c for c in aged.cautions)


@pytest.mark.parametrize(
    ("change", "age", "word"),
    [
        ({"VoxelVolume": 200.0}, 50.0, "volume of the whole tumour (ml) is 0.2"),
        ({"Sphericity": 0.95}, 50.0, "sphericity is 0.95"),
        ({}, 6.0, "age (years) is 6, trained on 17 to 94"),
        ({"MajorAxisLength": 20_000.0}, 50.0, "ellipsoid"),
        ({**LARGE, "Sphericity": 0.85}, 93.0, "no such combination"),
    ],
)
def test_a_case_outside_the_training_range_gets_no_answer_and_why(answers, change, age, word):
    found = named(answers.answer({**TYPICAL, **change}, age))["idh"]
    assert found.abstained.startswith("outside the training range")
    assert word in found.abstained
    assert not found.probabilities


@pytest.mark.parametrize("wrong", [{"whole": -1.0}, {"Sphericity": math.inf}])
def test_impossible_measures_are_refused(answers, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        answers.answer({**TYPICAL, **wrong}, 50.0)


def test_answers_that_contradict_each_other_say_so(answers):
    lower = {**TYPICAL, "enhancing": 0.5, "necrotic": 60.0, "oedema": 20.0, "core": 60.5, "Sphericity": 0.4}
    found = named(answers.answer(lower, 75.0))
    assert (found["grade"].conformal, found["who_grade"].conformal) == (("LGG",), ("4",))
    for target in ("grade", "who_grade"):
        assert "contradict" in found[target].cautions[0]
    assert not any("contradict" in c for c in found["idh"].cautions)


def test_a_high_grade_of_grade_2_or_3_is_a_contradiction(answers):
    longer = {k: 1.3 * v for k, v in TYPICAL.items() if k.endswith("AxisLength")}
    young = {**TYPICAL, **longer, "VoxelVolume": 0.9 * 1.3**3 * 80_000.0, "Sphericity": 0.7}
    found = named(answers.answer(young, 35.0))
    assert (found["grade"].conformal, found["who_grade"].conformal) == (("HGG",), ("2", "3"))
    for target in ("grade", "who_grade"):
        assert "contradict each other (Grade HGG and WHO grade 2 or 3)" in found[target].cautions[0]
    assert not any("contradict" in c for c in found["idh"].cautions)


@pytest.mark.parametrize("only", ["2", "3", "4"])
def test_each_single_who_grade_is_held_against_a_high_grade(only, answers):
    def sure(target: str, aged: bool, name: str) -> Predictor:
        one = answers.first[target, aged]
        scores = {c: np.full(99, 2.0 if c == name else -1.0) for c in one.classes}
        return replace(one, conformal=scores)

    first = {**answers.first, ("grade", False): sure("grade", False, "HGG")}
    first["who_grade", True] = sure("who_grade", True, only)
    found = named(replace(answers, first=first).answer(TYPICAL, 50.0))
    assert (found["grade"].conformal, found["who_grade"].conformal) == (("HGG",), (only,))
    assert any("contradict" in c for c in found["grade"].cautions) == (only != "4")


def test_an_answer_that_hangs_on_the_outline_s_roughness_says_by_how_much(answers):
    idh = named(answers.answer({**TYPICAL, "Sphericity": 0.8}, 45.0))["idh"]
    softer = named(answers.answer({**TYPICAL, "Sphericity": 0.72}, 45.0))["idh"]
    said = next(c for c in idh.cautions if "rough" in c)
    assert f"would be {softer.probabilities['mutant']:.2f}" in said


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: c.update(format=99), "format 99"),
        (lambda c: c.pop("predictors"), "predictors"),
        (lambda c: c["predictors"][0].pop("steps"), "steps"),
        (lambda c: c["predictors"][0].update(classes=["low", "high"]), "classes"),
    ],
)
def test_a_file_that_is_no_file_of_answers_is_refused(tmp_path, card, change, found):
    changed = json.loads(json.dumps(card))
    change(changed)
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ModelError, match=found):
        read_answers(file)


# --- real outlines -----------------------------------------------------------------------------------------------


def outlined(path: Path, scheme: str) -> dict[str, float]:
    """What GlioLens measures on an outline: volumes in ml and shape."""
    read, _ = read_labels(path, path.name, scheme)
    labels, spacing = read.volume.voxels, read.volume.grid.spacing
    ml = {n: float(np.isin(labels, v).sum() * np.prod(spacing) / 1000) for n, v in PARTS.items()}
    return {**ml, **shape_features(labels > 0, spacing)}


PARTS = {**REGIONS, "necrotic": (NECROTIC,), "oedema": (OEDEMA,)}


def test_units_are_those_of_the_tables(shared_data):
    """TCGA-DU-7294 stands in the table too, outlined by others: 0.52 ml enhancing, 25.3 ml in all."""
    table = pd.read_csv(shared_data / "tables" / "TCGA_LGG_radiomicFeatures.csv").set_index("ID")
    whole = float(table.loc["TCGA-DU-7294", "VOLUME_WT"]) / 1000
    found = quantities_of(outlined(shared_data / "case_lgg_sri24" / "seg_fusion_simple.nii.gz", "brats2020"))
    assert found["volume"] == pytest.approx(whole, rel=0.25)


def test_a_real_high_grade_tumour_is_answered_as_one(answers, shared_data):
    measured = outlined(shared_data / "case_hgg_brats2023" / "segmentation.nii.gz", "brats2023")
    found = named(answers.answer(measured, None))
    assert found["grade"].conformal == ("HGG",)
    assert found["grade"].probabilities["HGG"] > 0.8


def test_a_real_oligodendroglioma_is_not_ruled_out(answers, shared_data):
    measured = outlined(shared_data / "case_lgg_sri24" / "seg_fusion_simple.nii.gz", "brats2020")
    found = named(answers.answer(measured, None))
    assert found["grade"].conformal == ("LGG",)
    assert "mutant" in found["idh"].conformal
    assert "codeleted" in found["codel_1p19q"].conformal


def test_other_hospitals_bear_out_what_the_cautions_say(answers, shared_data):
    """TCGA-LGG: outlines of the FLAIR abnormality on slices 5 mm apart, of nominal voxel size."""
    folder = shared_data / "tcga_lgg"
    told = read_clinical(folder / "clinical.csv").rows
    idh, grade, held = [], [], []
    for file in sorted(folder.rglob("*_seg.nii.gz")):
        row = told[file.parent.name]
        measured = outlined(file, "binary")
        known = {**quantities_of(measured), "age": row.age}
        found = named(answers.answer(measured, row.age))["idh"]
        if row.age is not None and "idh" in row.targets:
            mutant = row.targets["idh"] == "mutant"
            idh.append((mutant, answers.first["idh", True].probabilities(known)["mutant"], row.age))
        if row.targets.get("idh") == "mutant" and not found.abstained:
            held.append("mutant" in found.conformal)
        if row.age is not None and "who_grade" in row.targets:
            four = row.targets["who_grade"] == "4"
            grade.append((four, answers.first["who_grade", True].probabilities(known)["4"], row.age))
    cautions = {p.target: " ".join(p.cautions) for p in answers.first.values()}
    for rows, target, sign in ((idh, "idh", -1), (grade, "who_grade", 1)):
        truth, p, age = np.array(rows, float).T
        own = delong(truth.astype(int), p)
        alone = roc_auc_score(truth, sign * age)
        said = f"AUC {own.value:.2f} ({own.low:.2f} to {own.high:.2f}) against {alone:.2f}"
        assert said in cautions[target]
        assert f"on {len(truth)} patients of other hospitals" in cautions[target]
    assert f"held {np.mean(held):.0%}".replace("%", " %") in cautions["idh"]


def test_a_core_that_enhances_throughout_is_within_range(answers):
    solid = {**TYPICAL, "core": 25.0, "enhancing": 25.0, "necrotic": 0.0}
    assert {a.target: a.abstained for a in answers.answer(solid, 60.0)} == dict.fromkeys(TARGETS, "")
