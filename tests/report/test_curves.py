"""Pictures of answers: what they draw are the numbers, and of more than two classes there is none."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from gliolens.report.curves import (
    CAPTIONS,
    DRAWS,
    THRESHOLDS,
    _calibration,
    _decision,
    read_curves,
    roc_band,
    write_curves,
)
from gliolens.stats.calibration import net_benefit
from gliolens.stats.intervals import patient_weights


def answers(name, n=80, seed=0, control=False, sure=1.0):
    random = np.random.default_rng(seed)
    p = random.uniform(0.05, 0.95, n)
    truth = np.where(random.random(n) < p, "b", "a")
    p = p**sure / (p**sure + (1 - p) ** sure)
    return pd.DataFrame(
        {
            "method": name,
            "control": control,
            "patient": [f"p{i}" for i in range(n)],
            "truth": truth,
            "p_a": 1 - p,
            "p_b": p,
            "prior_a": 0.5,
            "prior_b": 0.5,
        }
    )


def test_two_classes_give_every_picture_and_three_give_none(tmp_path):
    told = pd.concat([answers("m"), answers("site", control=True, seed=1)])
    write_curves(tmp_path / "two", told)
    pictures = dict(read_curves(tmp_path / "two"))
    assert list(pictures) == list(CAPTIONS.values())
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())
    write_curves(tmp_path / "three", told.assign(p_c=0.0))
    assert read_curves(tmp_path / "three") == []


def test_one_that_is_too_sure_has_a_slope_below_one():
    figure = _calibration(pd.concat([answers("right", 4000), answers("sure", 4000, sure=3.0)]), "b")
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    slopes = {w.split("\n")[0]: float(w.split("slope ")[1].split()[0]) for w in words}
    assert slopes["right"] == pytest.approx(1, abs=0.1)
    assert slopes["sure"] == pytest.approx(1 / 3, abs=0.05)


def test_the_decision_curve_is_the_net_benefit():
    mine = answers("m")
    lines = {line.get_label(): line for line in _decision(mine, "b").axes[0].lines}
    worth = net_benefit(mine["truth"] == "b", mine["p_b"], THRESHOLDS)
    assert np.array_equal(lines["m"].get_ydata(), worth["model"])
    assert np.array_equal(lines["everybody"].get_ydata(), worth["all"])


def test_the_band_holds_the_curve_and_narrows_with_more_patients():
    widths = []
    for n in (60, 600):
        told = answers("m", n, seed=4)
        truth, score = (told["truth"] == "b").to_numpy(), told["p_b"].to_numpy()
        grid, low, high = roc_band(truth, score, list(told["patient"]))
        x, y, _ = roc_curve(truth, score)
        middle = np.interp(grid, x, y)
        assert ((low <= middle + 0.02) & (middle - 0.02 <= high)).mean() > 0.95
        widths.append((high - low)[20:80].mean())
    assert widths[1] < widths[0] / 2  # about a third


def test_the_band_is_of_the_curves_that_scikit_learn_draws():
    """With tied scores, and patients of two exams."""
    told = answers("m", 60, seed=5)
    truth, score = (told["truth"] == "b").to_numpy(), told["p_b"].round(1).to_numpy()
    patients = [str(i // 2) for i in range(60)]
    weights = np.concatenate(list(patient_weights(patients, truth, resamples=DRAWS, seed=3)))
    grid, low, high = roc_band(truth, score, patients, seed=3)
    curves = [np.interp(grid, *roc_curve(truth, score, sample_weight=w)[:2]) for w in weights]
    assert (low, high) == (
        pytest.approx(np.percentile(curves, 2.5, 0)),
        pytest.approx(np.percentile(curves, 97.5, 0)),
    )


def test_the_band_counts_patients_and_not_their_exams():
    told = answers("m", 60, seed=4)
    truth, score = (told["truth"] == "b").to_numpy(), told["p_b"].to_numpy()
    once = roc_band(truth, score, list(told["patient"]))
    thrice = roc_band(np.tile(truth, 3), np.tile(score, 3), list(told["patient"]) * 3)
    assert (thrice[2] - thrice[1]).mean() == pytest.approx((once[2] - once[1]).mean(), rel=0.05)


def test_of_one_class_alone_there_is_no_curve_and_no_warning(tmp_path):
    told = answers("m").assign(truth="a")
    write_curves(tmp_path, told)
    assert read_curves(tmp_path)
