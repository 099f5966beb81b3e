"""What the page says of GlioLens's own outline and answers: where from, how good, how sure, and when not at all."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from gliolens.answers import QUANTITIES, Answered
from gliolens.case import Case, Grid, Prediction
from gliolens.errors import ConfigError
from gliolens.report.built_in import Drawn, could_be, scores_of, sureness
from gliolens.report.case_page import Answer, Measured, write_case_report
from gliolens.report.record import record
from gliolens.stats.doubt import Doubt

SHAPE = (24, 28, 14)
SCORES = (
    {
        "name": "shape and age",
        "control": False,
        "n": 495,
        "auc": 0.91,
        "low": 0.88,
        "high": 0.94,
        "ece": 0.03,
    },
    {"name": "age alone", "control": True, "n": 495, "auc": 0.90, "low": 0.87, "high": 0.93, "ece": None},
)
IDH = Answered(
    target="idh",
    probabilities={"wildtype": 0.9, "mutant": 0.1},
    conformal=("wildtype",),
    abstained="",
    evidence={QUANTITIES["age"]: -1.25, QUANTITIES["sphericity"]: 0.4},
    cautions=("does not beat age alone: AUC 0.91 against 0.90",),
    trained_on="495 patients of UCSF-PDGM",
    scores=SCORES,
)
SILENT = dataclasses.replace(
    IDH,
    target="codel_1p19q",
    probabilities={},
    conformal=(),
    evidence={},
    abstained="outside the training range",
)


def make_case(**changes) -> Case:
    grid = Grid(SHAPE, np.diag([2.0, 2.0, 4.0, 1.0]))
    image = np.zeros(SHAPE, np.float32)
    image[2:-2, 2:-2, 2:-2] = np.random.default_rng(0).uniform(80, 120, (20, 24, 10))
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:12, 8:16, 4:9] = 2
    given = {"id": "case 1", "series": {"flair": image}, "tumour": labels, "covariates": {"age": 61.0}}
    return Case(grid=grid, source=grid, **given | changes)


def make_drawn(dice=0.9, missing=(), brain_ml=1350.0, **card) -> Drawn:
    share = np.zeros(SHAPE, np.float32)
    share[5:13, 7:17, 3:10] = 0.6
    ml = 0.0 if math.isnan(dice) else 12.0
    doubt = Doubt(ml, ml / 2, 2 * ml, dice)
    about = {"trained_on": "5,000 simulated patients", "sha256": "ab" * 32, "scores": [], **card}
    names = ("whole", "core", "enhancing")
    shares, how_sure = dict.fromkeys(names, share), dict.fromkeys(names, doubt)
    return Drawn("the built-in network", about, missing, shares, how_sure, "float32 on cpu", brain_ml)


@pytest.fixture
def page(tmp_path):
    def page(case=None, answers=(), **given) -> str:
        measured = Measured({"whole": 12.0}, {}, {"Sphericity": 0.6}, {})
        write_case_report(tmp_path / "r.html", case or make_case(), measured, answers, {}, **given)
        return " ".join((tmp_path / "r.html").read_text(encoding="utf-8").split())

    return page


def test_an_answer_shows_its_set_probability_scores_controls_and_source(page):
    text = page(built_in=[IDH])
    assert "built-in answer" in text
    assert "wildtype <small>at a probability of 90 %" in text
    assert "0.91 (0.88 to 0.94)" in text
    assert "0.90 (0.87 to 0.93)" in text
    assert "not clearly better than the control “age alone”" in text
    assert "495 patients of UCSF-PDGM" in text
    assert "Cross-validated on 495 exams of real patients" in text
    assert "calibration error of the probabilities 0.030" in text
    assert "does not beat age alone" in text
    assert "No trained run was named" not in text


def test_evidence_is_in_words_with_the_value_and_a_direction(page):
    text = page(built_in=[IDH])
    assert "Speaks for mutant" in text
    assert "age (years) 61.0, which speaks for wildtype; sphericity 0.600, which speaks for mutant." in text
    assert 'age (years)</th><td class="number">61.0</td><td class="number">−1.25' in text
    assert 'sphericity</th><td class="number">0.600</td><td class="number">+0.400' in text


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("wildtype",), "wildtype"),
        (("wildtype", "mutant"), "could be: wildtype or mutant"),
        (("2", "3", "4"), "could be: 2, 3 or 4"),
        ((), "none of the classes fits"),
    ],
)
def test_a_set_of_classes_in_words(classes, words, page):
    open_answer = dataclasses.replace(IDH, conformal=classes)
    assert could_be(open_answer) == words
    text = page(built_in=[open_answer])
    assert words in text
    assert ("at a probability of" in text) == (classes == ("wildtype",))


def test_where_it_abstains_the_page_says_why_and_shows_no_probability(page):
    text = page(built_in=[SILENT])
    assert '<p class="decision">no answer</p>' in text
    assert "Why: outside the training range." in text
    assert 'class="bars"' not in text


def test_a_target_answered_twice_is_refused(page):
    told = Prediction("case 1", "m", {"idh": {"wildtype": 0.4, "mutant": 0.6}}, {"idh": "mutant"})
    run = Answer("idh", told, "55 cases of a cohort")
    with pytest.raises(ConfigError, match="idh answered by a run and by the built-in predictor"):
        page(answers=[run], built_in=[IDH])
    text = page(answers=[run], built_in=[SILENT])
    assert text.index("trained run") < text.index("built-in answer")


def test_a_score_that_was_not_measured_says_so():
    rows = [
        {"name": "a", "control": False, "n": 5, "auc": None, "low": None, "high": None, "reason": "one class"}
    ]
    (score,) = scores_of(dataclasses.replace(IDH, scores=rows))
    assert math.isnan(score.auc.value)
    assert score.auc.reason == "one class"


# --- the outline -----------------------------------------------------------------------------------------------


def test_the_outline_says_who_drew_it_on_what_it_learnt_and_how_good_it_is(page):
    rows = [
        {
            "cohort": "BraTS 2023, kept aside",
            "region": "whole",
            "n": 13,
            "dice": 0.71,
            "low": 0.6,
            "high": 0.8,
        },
        {"case": "one more", "region": "core", "dice": None},
    ]
    text = page(drawn=make_drawn(scores=rows, steps=20000, hours=6.52, device="one GPU"))
    assert "so the built-in network drew the outline" in text
    assert "Trained on 5,000 simulated patients (20,000 steps, 6.5 hours on one GPU)." in text
    assert "0.71 (0.60 to 0.80)" in text
    assert 'one more</th><td class="number">1</td><td>Tumour core</td><td class="number">not known' in text
    assert "6.0 to 24.0" in text
    assert "Not trained on these cases, but the simulator was built with a look at them: expect less" in text
    assert "drawn by the built-in network, checked by no one" in text
    assert "Where the outline is unsure" in text


def test_without_scores_it_says_that_none_are_known(page):
    assert "how well it does on real cases is not known" in page(drawn=make_drawn())
    assert "drew the outline" not in page()


@pytest.mark.parametrize(
    ("dice", "level", "words"),
    [
        (0.99, "unknown", "expects a Dice of 0.99"),
        (0.4, "unknown", "expects a Dice of 0.40"),
        (math.nan, "weak", "No tumour"),
    ],
)
def test_what_nothing_measured_is_never_good(dice, level, words, page):
    found, sentence = sureness(make_drawn(dice))
    assert found == level
    assert words in sentence
    assert ("overconfident" in sentence) == (level == "unknown")
    assert "verdict good" not in page(drawn=make_drawn(dice))


def test_what_it_expected_of_itself_on_real_cases_stands_beside_what_was_true(page):
    rows = [
        {"case": "a", "own": 0.9, "real": 0.7},
        {"case": "b", "own": 0.8, "real": 0.3},
        {"case": "c", "own": 0.1, "real": None},
    ]
    text = page(drawn=make_drawn(doubt_check=rows))
    assert (
        "On 2 real cases the Dice it expected of itself was 0.85 on average where the true Dice was 0.50"
        in text
    )
    assert "On 1 real case the Dice it expected of itself was 0.90 " in page(
        drawn=make_drawn(doubt_check=rows[:1])
    )
    assert "expected of itself" not in page(drawn=make_drawn(doubt_check=rows[2:]))
    assert "expected of itself" not in page(drawn=make_drawn())


def test_regions_that_are_guesses_are_shown_as_such(page):
    text = page(make_case(mask_scheme="gliolens"), drawn=make_drawn(missing=("t1ce",)))
    assert "checked by no one; a guess here: tumour core, enhancing tumour." in text
    assert "Tumour core (a guess)" in text
    assert "Whole tumour (a guess)" not in text
    blind = page(drawn=make_drawn(missing=("t2", "flair")))
    assert "Whole tumour (a guess)" in blind
    assert "Tumour core (a guess)" not in blind
    assert "Whether there is a tumour, and how far it reaches, is a guess" in blind
    assert "a guess" not in page(drawn=make_drawn(missing=("t1", "t2")))


def test_what_is_missing_makes_it_less_sure(page):
    text = page(drawn=make_drawn(missing=("t1", "t1ce", "t2")))
    assert "Without T1, T1 with contrast and T2 the outline is less sure" in text
    assert "contrast shows in T1 with contrast alone" in text
    assert "contrast shows in" not in page(drawn=make_drawn(missing=("t1",)))


def test_no_tumour_found_is_no_all_clear(page):
    empty = make_case(tumour=np.zeros(SHAPE, np.uint8))
    text = page(empty, drawn=make_drawn(math.nan))
    assert "may have been missed: look yourself" in text
    assert "Where the outline is unsure" not in text


def test_the_record_keeps_runs_and_built_in_answers_apart():
    told = Prediction("case 1", "m", {"grade": {"LGG": 0.4, "HGG": 0.6}}, {"grade": "HGG"})
    made: dict[str, Any] = record(
        make_case(), Measured({"whole": 12.0}, {}, {}, {}), [Answer("grade", told, "55 cases")], {},
        built_in=[IDH, SILENT], drawn=make_drawn(missing=("t1",)),
    )  # fmt: skip
    made = json.loads(json.dumps(made))
    assert [list(p["probabilities"]) for p in made["predictions"]] == [["grade"]]
    assert [a["target"] for a in made["built_in_answers"]] == ["idh", "codel_1p19q"]
    assert made["built_in_answers"][0]["could_be"] == ["wildtype"]
    assert made["built_in_answers"][0]["abstained"] is None
    assert made["built_in_answers"][1]["abstained"] == "outside the training range"
    assert made["built_in_answers"][1]["probabilities"] == {}
    assert made["outline"]["missing_series"] == ["t1"]
    assert made["outline"]["regions"]["whole"]["possibly_ml"] == 24.0
    assert made["outline"]["precision"] == "float32 on cpu"
    assert made["labels"]["source"] == "drawn by the built-in network"


@pytest.mark.parametrize(
    "scores", [(), ({"name": "a", "control": False, "n": 5, "auc": 0.8, "low": None, "high": None},)]
)
def test_a_built_in_answer_is_not_called_a_run(scores, page):
    text = page(built_in=[dataclasses.replace(IDH, scores=scores)])
    card = text.split("<article")[1].split("</article>")[0]
    assert "this answer" in card.lower()
    assert "run" not in card.replace('class="run"', "").lower()


def test_a_brain_larger_than_any_is_said():
    assert not any(
        "litres" in c for c in make_drawn(brain_ml=700.0).cautions + make_drawn(brain_ml=2200.0).cautions
    )
    for ml, litres in ((3040.0, "3.0 litres"), (610.0, "0.6 litres")):
        told = [c for c in make_drawn(brain_ml=ml).cautions if litres in c]
        assert len(told) == 1
        assert "voxel size" in told[0]
