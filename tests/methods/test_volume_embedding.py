"""volume-embedding: what is its own. What every method must do is in tests/test_methods.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CohortError, ConfigError, ModelError
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases
from gliolens.method import Run, changed
from gliolens.methods import volume_embedding as method
from gliolens.methods.volume_embedding import Config


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    config = PhantomConfig(spacing_mm=6.0)
    return Cases(
        read_cohort(write_phantom(tmp_path_factory.mktemp("phantom"), 12, seed=3, config=config)), SERIES
    )


@pytest.fixture
def run(tmp_path, tmp_path_factory):
    return Run("grade", ("LGG", "HGG"), tmp_path / "run", tmp_path_factory.getbasetemp() / "embeddings")


QUICK = Config(encoder="histogram", folds=2)


def test_the_papers_preset_is_the_papers():
    paper = Config.preset("paper")
    assert (paper.encoder, paper.pooling, paper.series, paper.hidden) == (
        "medimageinsight",
        "max",
        ("t1ce", "flair"),
        200,
    )
    assert [paper.choose, paper.standardise, paper.balanced] == [False] * 3
    assert paper.scaled("demo").encoder == "built-in"


def test_the_choice_is_the_one_of_least_inner_loss(cases, run):
    model = method.fit(cases, QUICK, run)
    assert len(model.tried) == 45
    best = min(model.tried, key=lambda row: row[2])
    assert (model.reader.pooling, model.reader.series) == best[:2]
    assert len({row[2] for row in model.tried}) > 20


def test_no_test_patient_is_seen_while_choosing(cases, run):
    """Labels of patients who are not in the training cases change nothing."""
    train = cases.only([row.case for row in cases.rows[:9]])
    first = method.fit(train, QUICK, run)
    assert method.fit(train, QUICK, run).tried == first.tried
    others = tuple(replace(row, targets={"grade": "LGG"}) for row in cases.rows[9:])
    mixed = replace(cases, rows=(*cases.rows[:9], *others)).only([row.case for row in cases.rows[:9]])
    assert method.fit(mixed, QUICK, run).tried == first.tried


def test_too_few_patients_for_inner_folds_are_said(cases, run):
    few = cases.only([row.case for row in cases.rows[:4]])
    with pytest.raises(CohortError):
        method.fit(few, replace(QUICK, folds=4), run)


def test_series_not_chosen_are_not_needed_to_answer(cases, run):
    config = replace(QUICK, choose=False, series=("t2", "flair"))
    model = method.fit(cases, config, run)
    case = cases[0]
    lacking = replace(case, series={s: case.series[s] for s in ("t2", "flair")})
    assert model.predict(lacking).probabilities.keys() == {"grade"}


def test_balanced_answers_have_the_class_shares_put_back(cases, run):
    plain = method.fit(cases, replace(QUICK, choose=False), run)
    counts = np.bincount([run.classes.index(c) for c in cases.classes("grade")])
    assert plain.prior == pytest.approx(tuple(counts / counts.sum()))
    paper = method.fit(cases, replace(QUICK, choose=False, balanced=False), run)
    assert paper.prior == (0.5, 0.5)


@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_the_map_lies_on_the_slices_and_tells_the_largest_influence_as_one(cases, run, pooling):
    model = method.fit(cases, replace(QUICK, choose=False, pooling=pooling), run)
    maps = model.explain(cases[0])
    assert set(maps) == {"grade"} | ({"grade_attention"} if pooling == "attention" else set())
    for heat in maps.values():
        assert heat.voxels.max() == pytest.approx(1.0)
        each = heat.voxels.reshape(-1, heat.voxels.shape[2])
        assert np.array_equal(each.min(axis=0), each.max(axis=0))  # one number a slice
    assert len(np.unique(maps["grade"].voxels)) > 3


def test_another_encoder_than_it_was_trained_with_is_refused(cases, run, tmp_path, monkeypatch):
    model = method.fit(cases, replace(QUICK, encoder="random", choose=False), run)
    model.save(tmp_path)
    again = method.load(tmp_path)
    other = method.find_encoder("random")
    with torch.no_grad():
        next(other.net.parameters()).add_(1.0)
    monkeypatch.setattr(method, "find_encoder", lambda *_, **__: other)
    method._KEPT.clear()
    with pytest.raises(ModelError, match="not the one"):
        again.predict(cases[0])
    method._KEPT.clear()


def test_a_changed_file_of_weights_is_refused(cases, run, tmp_path):
    method.fit(cases, replace(QUICK, choose=False), run).save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="not the file"):
        method.load(tmp_path)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="folds"):
        changed(Config(), {"folds": 1})
    with pytest.raises(ConfigError, match="hidden"):
        changed(Config(), {"hidden": -1})
