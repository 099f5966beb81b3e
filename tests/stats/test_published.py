"""Scores that papers print: found again from their confusion matrix, told from those that cannot be."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from gliolens.cli import main
from gliolens.errors import ConfigError
from gliolens.stats.published import AS_PRINTED, OTHER_AUC, Confusion, mean_fits, readings

counts = st.tuples(*[st.integers(0, 12)] * 4).filter(lambda c: c[0] + c[1] > 0 and c[2] + c[3] > 0)


def printed(one, names, digits=4):
    return {name: f"{one.scores()[name]:.{digits}f}" for name in names if name in one.scores()}


@given(counts)
def test_scores_are_those_of_scikit_learn(counted):
    one = Confusion(*counted)
    tp, fn, fp, tn = counted
    truth, told = [1] * (tp + fn) + [0] * (fp + tn), [1] * tp + [0] * fn + [1] * fp + [0] * tn
    found = one.scores()
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, told))
    assert found["sensitivity"] == pytest.approx(recall_score(truth, told))
    assert found["specificity"] == pytest.approx(recall_score(truth, told, pos_label=0))
    if "ppv" in found:
        assert found["ppv"] == pytest.approx(precision_score(truth, told))
    if "npv" in found:
        assert found["npv"] == pytest.approx(precision_score(truth, told, pos_label=0))
    if "f1" in found:
        assert found["f1"] == pytest.approx(f1_score(truth, told))


@given(counts, st.lists(st.integers(0, 100), min_size=48, max_size=48))
def test_no_roc_curve_through_a_point_leaves_its_bounds(counted, numbers):
    """Any scores that put the told positives above the others."""
    tp, fn, fp, tn = counted
    truth, told = [1] * (tp + fn) + [0] * (fp + tn), [1] * tp + [0] * fn + [1] * fp + [0] * tn
    scores = [number + 200 * positive for number, positive in zip(numbers, told, strict=False)]
    least, most = Confusion(*counted).auc()
    assert least - 1e-9 <= roc_auc_score(truth, scores) <= most + 1e-9


@given(counts)
def test_what_a_matrix_prints_is_found_as_printed(counted):
    one = Confusion(*counted)
    row = printed(one, ("accuracy", "sensitivity", "specificity", "ppv", "npv", "apca", "f1"))
    (reading,) = readings(counted[0] + counted[1], counted[2] + counted[3], row)
    assert reading.name == AS_PRINTED
    assert one in reading.fits


@given(counts)
def test_ppv_and_npv_under_the_wrong_heads_are_found(counted):
    one = Confusion(*counted)
    found = one.scores()
    assume({"ppv", "npv"} <= set(found))
    row = {
        **printed(one, ("accuracy", "apca")),
        "sensitivity": f"{found['ppv']:.4f}",
        "specificity": f"{found['npv']:.4f}",
    }
    told = readings(counted[0] + counted[1], counted[2] + counted[3], row)
    assert told
    if told[0].name != AS_PRINTED:
        assert one in next(r for r in told if r.name == "sensitivity and specificity are PPV and NPV").fits


@given(counts)
def test_the_other_class_as_the_positive_one_is_found_with_its_f1(counted):
    """What a paper prints that takes the other class as positive."""
    tp, fn, fp, tn = counted
    other = Confusion(tn, fp, fn, tp)
    row = printed(other, ("sensitivity", "specificity", "ppv", "npv", "f1", "accuracy"))
    told = readings(tp + fn, fp + tn, row)
    assert told
    if told[0].name != AS_PRINTED:
        assert any(Confusion(tp, fn, fp, tn) in reading.fits for reading in told)


def test_all_digits_of_a_program_fit_too():
    (reading,) = readings(121, 34, {"accuracy": "0.993548387097"})
    assert (reading.name, reading.count) == (AS_PRINTED, 2)


def test_a_large_test_set_is_counted_and_not_all_listed():
    (reading,) = readings(3000, 3000, {"auc": "0.90"})
    assert reading.count > 10**6
    assert len(reading.fits) == 1000
    (one,) = readings(3000, 3000, {"sensitivity": "0.9000", "specificity": "0.8000"})
    assert Confusion(2700, 300, 600, 2400) in one.fits


# --- the tables of the five papers -----------------------------------------------------------------------------


def test_zeng_one_error_in_155_forbids_the_printed_auc():
    """Table 1B, all series with shape: 34 LGG, 121 HGG. One error forces an AUC of .9706 at least; .9684 is printed."""
    row = {"accuracy": "0.9936", "apca": "0.9853", "sensitivity": "1.000", "specificity": "0.9706"}
    (alone,) = readings(121, 34, row)
    assert (alone.name, alone.fits) == (AS_PRINTED, (Confusion(121, 0, 1, 33),))
    assert alone.fits[0].auc()[0] == pytest.approx(0.9706, abs=1e-4)
    (with_auc,) = readings(121, 34, {**row, "auc": "0.9684"})
    assert (with_auc.name, with_auc.fits) == (OTHER_AUC, alone.fits)


def test_zeng_two_dimensional_row_prints_ppv_and_npv():
    """Sensitivity .860 and specificity .941 of 121 and 34 stand in the paper as their PPV and NPV."""
    one = Confusion(104, 17, 2, 32)
    assert one.scores()["sensitivity"] == pytest.approx(0.860, abs=5e-4)
    assert one.scores()["specificity"] == pytest.approx(0.941, abs=5e-4)
    found = one.scores()
    row = {"accuracy": f"{found['accuracy']:.4f}", "apca": f"{found['apca']:.4f}",
           "sensitivity": f"{found['ppv']:.4f}", "specificity": f"{found['npv']:.4f}"}  # fmt: skip
    (reading,) = readings(121, 34, row)
    assert (reading.name, reading.fits) == ("sensitivity and specificity are PPV and NPV", (one,))


def test_li_best_row_is_90_of_93():
    """96.8 % of 93, of whom some 20 are LGG: three errors, however they fall."""
    (reading,) = readings(73, 20, {"accuracy": "0.968"})
    assert {one.false_negative + one.false_positive for one in reading.fits} == {3}


def test_janardhan_recall_is_not_accuracy():
    """Averages weighted by slices make recall accuracy; the paper prints .9910 and .9925."""
    assert not mean_fits(["0.9910"], "0.9925")


def test_harkude_class_tables_do_not_average_to_the_overall_table():
    """F1 of LGG, HGG and healthy beside the overall macro F1, as the retelling prints them."""
    tables = {
        "R3D": (("0.8673", "0.8845", "0.9972"), "0.9096"),
        "R3D pretrained": (("0.8145", "0.8741", "0.9998"), "0.8952"),
        "R(2+1)D": (("0.8456", "0.8852", "0.9928"), "0.9045"),
        "R(2+1)D pretrained": (("0.8738", "0.8980", "0.9855"), "0.9328"),
        "MC3": (("0.7782", "0.8331", "0.9963"), "0.8652"),
        "MC3 pretrained": (("0.9049", "0.9249", "0.9985"), "0.9654"),
    }
    assert [name for name, (classes, overall) in tables.items() if mean_fits(classes, overall)] == []
    assert mean_fits(("0.8949", "0.9123", "0.9963"), "0.9345")  # Chatterjee et al., whom it retells


def test_farahani_prints_nothing_that_can_be_checked():
    """AUC alone fits any matrix: no count of a class is printed either."""
    (reading,) = readings(5, 5, {"auc": "0.9058"})
    assert reading.count > 10


def test_what_cannot_be_checked_is_refused():
    for row, words in (({}, "no score"), ({"dice": "0.8"}, "dice"), ({"accuracy": "96.8"}, "divide per cent"),
                       ({"accuracy": "high"}, "expected a share"), ({"accuracy": "1"}, "digits that are printed"),
                       ({"accuracy": "9.7e-1"}, "digits that are printed")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            readings(3, 3, row)
    with pytest.raises(ConfigError, match="at least one"):
        readings(0, 3, {"accuracy": "0.5"})


def test_a_row_that_nothing_fits_has_no_reading():
    assert readings(10, 10, {"accuracy": "0.9999"}) == ()


def test_the_command_names_the_matrix_and_the_reading(capsys):
    words = ["check", "accuracy=0.9936", "sensitivity=1.000", "specificity=0.9706", "auc=0.9684"]
    assert main([*words, "--positive", "121", "--negative", "34"]) == 0
    shown = capsys.readouterr().out
    assert OTHER_AUC in shown
    assert "TP 121, FN 0, FP 1, TN 33" in shown
    assert main([*words, "--positive", "121", "--negative", "34", "--json"]) == 0
    (reading,) = json.loads(capsys.readouterr().out)["readings"]
    assert reading["fits"][0]["false_positive"] == 1
    assert main(["check", "accuracy=0.9999", "--positive", "10", "--negative", "10"]) == 0
    assert "No confusion matrix" in capsys.readouterr().out
    assert main(["check", "accuracy=0.9", "accuracy=0.8", "--positive", "10", "--negative", "10"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert main(["check", "accuracy", "--positive", "10", "--negative", "10"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
