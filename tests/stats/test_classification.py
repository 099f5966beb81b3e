"""Every score against scikit-learn, the laws they obey, and the published tables of UCSF-PDGM."""

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gliolens.errors import ConfigError
from gliolens.stats.calibration import calibration_error
from gliolens.stats.classification import SCORE_TITLES, class_scores
from gliolens.stats.intervals import patient_weights, percentile_interval

AGE = ["Age at MRI"]


@st.composite
def answers(draw, least_classes=2):
    """Truth with every class in it, probabilities with ties, free decisions."""
    k = draw(st.integers(least_classes, 4))
    truth = np.concatenate([np.arange(k)] * 2 + [draw(st.lists(st.integers(0, k - 1), max_size=20))]).astype(
        int
    )
    n, random = len(truth), np.random.default_rng(draw(st.integers(0, 10**6)))
    p = random.integers(1, 6, size=(n, k)).astype(float)
    return truth, p / p.sum(axis=1, keepdims=True), random.integers(0, k, n)


def singly(n):
    return [str(i) for i in range(n)]


def scikit_learn(truth, p, decided):
    k = p.shape[1]
    two, classes = k == 2, list(range(k))
    kind = "binary" if two else "macro"
    matrices = metrics.multilabel_confusion_matrix(truth, decided, labels=classes)
    specificity = [m[0, 0] / m[0].sum() for m in matrices]
    return {
        "auc": metrics.roc_auc_score(truth, p[:, 1])
        if two
        else metrics.roc_auc_score(truth, p, multi_class="ovr"),
        "auprc": np.mean(
            [metrics.average_precision_score(truth == c, p[:, c]) for c in ([1] if two else classes)]
        ),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, decided),
        "sensitivity": metrics.recall_score(truth, decided, average=kind),
        "specificity": specificity[1] if two else np.mean(specificity),
        "ppv": np.mean(
            [m[1, 1] / m[:, 1].sum() if m[:, 1].sum() else np.nan for m in matrices][1 if two else 0 :]
        ),
        "npv": np.mean(
            [m[0, 0] / m[:, 0].sum() if m[:, 0].sum() else np.nan for m in matrices][1 if two else 0 :]
        ),
        "f1_macro": metrics.f1_score(truth, decided, average="macro", labels=classes),
        "f1_weighted": metrics.f1_score(truth, decided, average="weighted", labels=classes),
        "mcc": metrics.matthews_corrcoef(truth, decided),
        "ece": np.mean([calibration_error(truth == c, p[:, c]) for c in ([1] if two else classes)]),
        "accuracy": metrics.accuracy_score(truth, decided),
        "f1": metrics.f1_score(truth, decided, average=kind, labels=[1] if two else classes),
        "brier": metrics.brier_score_loss(truth, p[:, 1])
        if two
        else ((p - np.eye(k)[truth]) ** 2).sum(axis=1).mean(),
    }


@given(answers())
def test_every_score_is_scikit_learns_and_lies_in_its_interval(data):
    truth, p, decided = data
    found = class_scores(truth, p, decided, singly(len(truth)), resamples=20)
    assert list(found) == list(SCORE_TITLES)
    for name, expected in scikit_learn(truth, p, decided).items():
        assert found[name].value == pytest.approx(expected, abs=1e-12, nan_ok=True), name
        if not math.isnan(expected):
            assert found[name].low <= found[name].value <= found[name].high


@given(answers())
def test_multiclass_brier_is_twice_the_two_class_one(data):
    """A third class that nobody has and nobody expects changes the convention, not the forecast."""
    truth, p, decided = data
    if p.shape[1] != 2:
        return
    wider = class_scores(truth, np.column_stack([p, 0 * p[:, 0]]), decided, singly(len(truth)), resamples=5)
    two = class_scores(truth, p, decided, singly(len(truth)), resamples=5)
    assert wider["brier"].value == pytest.approx(2 * two["brier"].value)
    assert math.isnan(wider["auc"].value)
    assert wider["auc"].reason == "no case of class 2"


@given(answers())
def test_laws(data):
    truth, p, decided = data
    k, patients = p.shape[1], singly(len(truth))
    found = class_scores(truth, p, decided, patients, resamples=5)
    recalls = [np.mean(decided[truth == c] == c) for c in range(k)]
    assert found["balanced_accuracy"].value == pytest.approx(np.mean(recalls))
    assert 0 <= found["brier"].value <= (1 if k == 2 else 2)
    turned = class_scores(k - 1 - truth, p[:, ::-1], k - 1 - decided, patients, resamples=5)
    for name in ("auc", "balanced_accuracy", "accuracy", "brier"):
        assert turned[name].value == pytest.approx(found[name].value), name
    if k == 2:
        assert turned["sensitivity"].value == pytest.approx(found["specificity"].value)
        wrong_way = class_scores(truth, p[:, ::-1], decided, patients, resamples=5)
        assert wrong_way["auc"].value == pytest.approx(1 - found["auc"].value)


def example(n=120, k=2, seed=0):
    random = np.random.default_rng(seed)
    truth = random.integers(0, k, n)
    p = 0.7 * random.dirichlet(np.ones(k), n) + 0.3 * np.eye(k)[truth]
    return truth, p, p.argmax(axis=1)


@pytest.mark.parametrize("k", [2, 3])
def test_the_fast_resamples_are_those_of_the_plain_bootstrap(k):
    """Weights, matrix products and tied groups against scikit-learn on the rows drawn."""
    truth, p, decided = example(k=k)
    p = np.round(p, 1) + 0.1  # many ties
    p /= p.sum(axis=1, keepdims=True)
    patients = [str(i // 3) for i in range(len(truth))]
    fast = class_scores(truth, p, decided, patients, resamples=60, seed=4)
    draws = [
        np.repeat(np.arange(len(truth)), times)
        for block in patient_weights(patients, truth, resamples=60, seed=4)
        for times in block
    ]
    slow = pd.DataFrame([scikit_learn(truth[rows], p[rows], decided[rows]) for rows in draws])
    for name in SCORE_TITLES:
        expected = percentile_interval(fast[name].value, slow[name].to_numpy())
        assert (fast[name].low, fast[name].high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@settings(max_examples=25)
@given(st.integers(2, 4), st.integers(0, 10**6))
def test_more_exams_of_the_same_patients_do_not_narrow_the_interval(times, seed):
    truth, p, decided = example(40, seed=seed)
    once = class_scores(truth, p, decided, singly(40), resamples=50)
    again = class_scores(
        np.tile(truth, times),
        np.tile(p, (times, 1)),
        np.tile(decided, times),
        singly(40) * times,
        resamples=50,
    )
    for name in SCORE_TITLES:
        for bound in ("value", "low", "high"):
            assert getattr(again[name], bound) == pytest.approx(getattr(once[name], bound), abs=1e-12)


def test_exams_counted_as_patients_would_narrow_it():
    truth, p, decided = (np.repeat(a, 4, axis=0) for a in example(40))
    honest = class_scores(truth, p, decided, np.repeat(singly(40), 4).tolist())
    fooled = class_scores(truth, p, decided, singly(160))
    for name in SCORE_TITLES:
        assert fooled[name].high - fooled[name].low < 0.7 * (honest[name].high - honest[name].low)


def test_without_an_error_the_bounds_come_from_the_number_of_patients():
    truth = np.repeat([0, 1], [40, 10])
    p = np.eye(2)[truth]
    found = class_scores(truth, p, truth, singly(50), resamples=50)
    behind = {"sensitivity": 10, "specificity": 40, "accuracy": 50, "auc": 10, "balanced_accuracy": 10}
    for name, patients in behind.items():
        assert found[name].value == found[name].high == 1
        assert found[name].low == pytest.approx(0.025 ** (1 / patients))
    assert (found["brier"].value, found["brier"].low) == (0, 0)
    assert found["brier"].high == pytest.approx(1 - 0.025 ** (1 / 50))
    twice = class_scores(
        np.tile(truth, 2), np.tile(p, (2, 1)), np.tile(truth, 2), singly(50) * 2, resamples=50
    )
    assert twice == found


def test_bootstrap_covers_the_known_sensitivity():
    random, covered = np.random.default_rng(8), []
    truth = np.repeat([0, 1], [60, 60])
    for seed in range(300):
        decided = np.where(random.random(120) < 0.8, truth, 1 - truth)
        found = class_scores(truth, np.full((120, 2), 0.5), decided, singly(120), resamples=200, seed=seed)
        covered.append([found[s].low <= 0.8 <= found[s].high for s in ("sensitivity", "balanced_accuracy")])
    assert ((np.mean(covered, axis=0) >= 0.91) & (np.mean(covered, axis=0) <= 0.98)).all()


def test_a_class_without_a_case_is_nan_with_its_reason():
    found = class_scores([0, 0, 0], np.full((3, 2), 0.5), [0, 1, 0], singly(3), resamples=10)
    for name in ("auc", "sensitivity", "balanced_accuracy"):
        assert math.isnan(found[name].value)
        assert found[name].reason == "no case of class 1"
    assert found["specificity"].value == pytest.approx(2 / 3)
    assert found["brier"].value == 0.25
    empty = class_scores([], np.zeros((0, 2)), [], [])
    assert {i.reason for i in empty.values()} == {"no cases"}


def test_where_nobody_is_called_positive_there_is_no_ppv():
    found = class_scores([0, 1, 0], np.full((3, 2), 0.5), [0, 0, 0], singly(3), resamples=10)
    assert math.isnan(found["ppv"].value)
    assert found["ppv"].reason == "a class was decided for nobody"
    assert found["npv"].value == pytest.approx(2 / 3)
    assert found["mcc"].value == 0


def test_one_patient_in_a_class_leaves_no_bounds():
    p = np.array([[0.4, 0.6], [0.3, 0.7], [0.8, 0.2], [0.9, 0.1]])
    found = class_scores([1, 0, 0, 0], p, [1, 1, 0, 0], singly(4), resamples=50)
    assert found["auc"].value == pytest.approx(2 / 3)
    assert math.isnan(found["auc"].low)
    assert "one patient" in found["auc"].reason
    assert found["specificity"].low < found["specificity"].value


HALF = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("truth", "p", "decided", "patients", "says"),
    [
        ([0], HALF, [0, 1], ["a", "b"], "truth has shape"),
        ([0, 1], HALF, [0], ["a", "b"], "decided has shape"),
        ([0, 1], HALF, [0, 1], ["a"], "1 patients"),
        ([0, 2], HALF, [0, 1], ["a", "b"], "classes 0 to 1"),
        ([0, 1], HALF, [0, -1], ["a", "b"], "decided holds"),
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]], [0, 1], ["a", "b"], "row 0 sum to 1.1"),
        ([0, 1], [[1.5, -0.5], [0.5, 0.5]], [0, 1], ["a", "b"], "outside 0 to 1"),
        ([0, 1], [[math.nan, 0.5], [0.5, 0.5]], [0, 1], ["a", "b"], "NaN"),
        ([0, 1], [0.5, 0.5], [0, 1], ["a", "b"], "2 or more classes"),
        ([0, 1], [[1.0], [1.0]], [0, 0], ["a", "b"], "2 or more classes"),
    ],
)
def test_what_cannot_be_meant_is_refused(truth, p, decided, patients, says):
    with pytest.raises(ConfigError, match=says):
        class_scores(truth, p, decided, patients)


def test_two_thousand_resamples_of_500_cases_take_under_three_seconds():
    truth, p, decided = example(500)
    start = time.process_time()
    class_scores(truth, p, decided, singly(500), resamples=2000)
    assert time.process_time() - start < 3


@pytest.fixture(scope="module")
def ucsf(shared_data):
    tables = shared_data / "tables"
    clinical = pd.read_csv(tables / "ucsf_pdgm_metadata_v2.csv")
    radiomics = pd.read_csv(tables / "ucsf_pdgm_pyradiomics_t1gd_whole_tumour.csv")
    return clinical.merge(radiomics, on="ID", validate="one_to_one")


@pytest.mark.parametrize(
    ("target", "columns", "published"),
    [
        ("idh", "age", 0.90),
        ("grade", "age", 0.80),
        ("idh", "shape", 0.77),
        ("grade", "shape", 0.75),
        ("idh", "both", 0.91),
        ("grade", "both", 0.84),
    ],
)
def test_ucsf_pdgm_from_age_and_shape(ucsf, target, columns, published):
    """Five-fold logistic regression on the published tables; figures as in the data's README."""
    shape = [c for c in ucsf if c.startswith("original_shape_")]
    assert (len(ucsf), len(shape)) == (501, 14)
    x = ucsf[{"age": AGE, "shape": shape, "both": AGE + shape}[columns]].to_numpy(float)
    truth = (ucsf["IDH"] != "wildtype" if target == "idh" else ucsf["WHO CNS Grade"] == 4).to_numpy(int)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    p = cross_val_predict(model, x, truth, cv=folds, method="predict_proba")
    found = class_scores(truth, p, p.argmax(axis=1), ucsf["ID"].tolist())
    assert found["auc"].value == pytest.approx(published, abs=0.015)
    assert found["auc"].low < published < found["auc"].high
