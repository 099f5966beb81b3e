"""Classifiers of patients whose slices are vectors."""

import numpy as np
import pytest

from gliolens.embedding import POOLINGS, joined, pools_of
from gliolens.readers import (
    AttentionReader,
    Choice,
    PooledReader,
    preferred,
    series_influence,
    slice_influence,
)

SERIES = ("t1", "flair")


def patients(n=40, d=6, seed=0, slices=(5, 9)):
    """Class 1 has one slice of FLAIR that stands out in the first number; T1 is noise."""
    rng = np.random.default_rng(seed)
    truth, out = np.arange(n) % 2, []
    for k in truth:
        s = int(rng.integers(*slices))
        flair = rng.normal(size=(s, d)).astype(np.float32)
        flair[int(rng.integers(s)), 0] += 7.0 * k
        out.append({"t1": rng.normal(size=(s, d)).astype(np.float32), "flair": flair})
    return out, truth


def pooled_reader(embedded, truth, **changes):
    asked = {"hidden": 0, "standardise": True, "balanced": True, "seed": 0} | changes
    x = joined(pools_of(embedded, SERIES), SERIES, "max")
    return PooledReader.learn(x, truth, "max", SERIES, **asked)


@pytest.fixture(scope="module")
def attentive(tmp_path_factory):
    embedded, truth = patients(80)
    folder = tmp_path_factory.mktemp("attention")
    return AttentionReader.learn(embedded, truth, SERIES, hidden=0, balanced=True, seed=0, folder=folder)


@pytest.mark.parametrize("hidden", [0, 200])
@pytest.mark.parametrize("standardise", [True, False])
def test_it_tells_what_one_slice_shows(hidden, standardise):
    reader = pooled_reader(*patients(80), hidden=hidden, standardise=standardise)
    others, truth = patients(200, seed=1)
    assert (reader(others).argmax(axis=1) == truth).mean() > 0.85


def test_attention_finds_the_slice_that_counts(attentive):
    others, truth = patients(100, seed=1)
    assert (attentive(others).argmax(axis=1) == truth).mean() > 0.85
    ill = [e for e, k in zip(others, truth, strict=True) if k]
    found = [attentive.attention(e).argmax() == e["flair"][:, 0].argmax() for e in ill]
    assert np.mean(found) > 0.7
    assert attentive.attention(ill[0]).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["pooled", "attention"])
def test_without_a_slice_is_the_patient_who_lacks_it(kind, attentive):
    reader = attentive if kind == "attention" else pooled_reader(*patients())
    patient = patients(2, seed=4)[0][1]
    without = reader.without_slices(patient)
    for i in range(len(patient["t1"])):
        lacking = {s: np.delete(v, i, axis=0) for s, v in patient.items()}
        assert np.allclose(without[i], reader([lacking])[0], atol=1e-4)


@pytest.mark.parametrize("kind", ["pooled", "attention"])
def test_how_many_patients_are_asked_at_once_does_not_matter(kind, attentive):
    """Shorter patients are filled up with zeros, which must count nothing."""
    reader = attentive if kind == "attention" else pooled_reader(*patients())
    others, _ = patients(6, seed=2)
    assert np.allclose(reader(others), np.concatenate([reader([e]) for e in others]), atol=1e-5)
    assert np.allclose(reader(others).sum(axis=1), 1.0, atol=1e-5)


def test_the_slice_that_tells_has_most_influence():
    reader = pooled_reader(*patients(80))
    for patient, k in zip(*patients(30, seed=3), strict=True):
        if k and patient["flair"][:, 0].max() > 5:
            assert slice_influence(reader, patient, 1).argmax() == patient["flair"][:, 0].argmax()


def test_the_series_that_tells_has_most_influence():
    embedded, truth = patients(80)
    reader = pooled_reader(embedded, truth)
    usual = {s: v.mean(axis=0) for (s, _), v in pools_of(embedded, SERIES, ("max",)).items()}
    ill = [e for e, k in zip(*patients(40, seed=3), strict=True) if k]
    added = [series_influence(reader, e, usual, 1) for e in ill]
    assert np.mean([a["flair"] for a in added]) > 3 * abs(np.mean([a["t1"] for a in added]))


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("standardise", [True, False])
def test_a_pooled_reader_comes_back_as_it_was(hidden, standardise):
    embedded, truth = patients()
    reader = pooled_reader(embedded, truth, hidden=hidden, standardise=standardise)
    assert np.array_equal(PooledReader.made(*reader.arrays())(embedded), reader(embedded))


@pytest.mark.parametrize("hidden", [0, 8])
def test_an_attentive_reader_comes_back_as_it_was(hidden, tmp_path):
    embedded, truth = patients(8)
    reader = AttentionReader.learn(
        embedded, truth, SERIES, hidden=hidden, balanced=True, seed=0, folder=tmp_path
    )
    assert np.array_equal(AttentionReader.made(*reader.arrays())(embedded), reader(embedded))


def test_every_pooling_is_used():
    embedded, truth = patients()
    pools, asked = pools_of(embedded, SERIES), {"hidden": 0, "standardise": True, "balanced": True, "seed": 0}
    answers = [
        PooledReader.learn(joined(pools, SERIES, how), truth, how, SERIES, **asked)(embedded)
        for how in POOLINGS
    ]
    assert not np.allclose(answers[0], answers[1])
    assert not np.allclose(answers[1], answers[2])


# --- which is taken --------------------------------------------------------------------------------------------

FIXED = {Choice("mean", ("t1",)): np.full(40, 0.7), Choice("max", ("t1", "flair")): np.full(40, 0.6)}
ATTENTION = Choice("attention", ("t1", "flair"))


def test_attention_is_taken_only_where_it_is_clearly_better():
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 0.3, 40)
    noise -= noise.mean()
    error = noise.std(ddof=1) / np.sqrt(40)
    for gain, taken in ((2.0, True), (1.1, True), (0.9, False), (0.0, False), (-1.0, False)):
        losses = FIXED | {ATTENTION: 0.6 + noise - gain * error}
        assert (preferred(losses) == ATTENTION) is taken


def test_of_fixed_poolings_the_lowest_loss_is_taken():
    assert preferred(FIXED) == Choice("max", ("t1", "flair"))
