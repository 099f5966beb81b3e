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
from gliolens.readers import AttentionReader


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    config = PhantomConfig(spacing_mm=6.0)
    return Cases(
        read_cohort(write_phantom(tmp_path_factory.mktemp("phantom"), 12, seed=3, config=config)), SERIES
    )


@pytest.fixture
def run(tmp_path, tmp_path_factory):
    return Run("grade", ("LGG", "HGG"), tmp_path / "run", tmp_path_factory.getbasetemp() / "embeddings")


@pytest.fixture
def swap_encoder(monkeypatch):
    """Puts other weights in the place of the random encoder's."""

    def swap():
        other = method.find_encoder("random")
        with torch.no_grad():
            next(other.net.parameters()).add_(1.0)
        monkeypatch.setattr(method, "find_encoder", lambda *_, **__: other)
        method._encoder.cache_clear()

    yield swap
    method._encoder.cache_clear()


QUICK = Config(encoder="histogram", folds=2)


def test_the_papers_preset_is_the_papers():
    paper = Config.preset("paper")
    assert (paper.encoder, paper.pooling, paper.series, paper.hidden) == (
        "medimageinsight",
        "max",
        ("t1ce", "flair"),
        200,
    )
    assert [paper.standardise, paper.balanced] == [False] * 2
    assert paper.scaled("demo").encoder == "built-in"


def test_the_choice_is_the_one_of_least_inner_loss(cases, run):
    model = method.fit(cases, QUICK, run)
    assert len(model.tried) == 46, "45 poolings and sets of series, and attention on the best set"
    best = min(model.tried, key=lambda row: row[2])
    pooling = "attention" if isinstance(model.reader, AttentionReader) else model.reader.pooling
    assert (pooling, model.reader.series) == best[:2]
    pooled = [row for row in model.tried if row[0] != "attention"]
    assert model.tried[-1][:2] == ("attention", min(pooled, key=lambda row: row[2])[1])
    assert len({row[2] for row in model.tried}) > 20


def test_no_patient_is_asked_who_was_learnt_from_while_choosing(cases, run, monkeypatch):
    """In every inner fold the vectors that are answered differ from all that were fitted to."""
    plain, seen = method.pooled_reader, []

    class Watching:
        def __init__(self, x, reader):
            self.x, self.reader = x, reader

        def of_vectors(self, x):
            seen.append(len(x))
            assert not any((x[:, None] == self.x[None]).all(axis=2).any(axis=1))
            return self.reader.of_vectors(x)

    monkeypatch.setattr(method, "pooled_reader", lambda x, *args: Watching(x, plain(x, *args)))
    embedded = method.ready(cases, QUICK, run.cache)
    losses = method.choose(cases, embedded, QUICK, run, 3)
    assert len(losses) == 46
    assert sum(seen) == 45 * len(cases)


def test_inner_folds_are_no_more_than_the_rarest_class_has_patients(cases, run, capsys):
    grades = cases.classes("grade")
    rare = [row.case for row, g in zip(cases.rows, grades, strict=True) if g == "LGG"]
    others = [row.case for row, g in zip(cases.rows, grades, strict=True) if g == "HGG"]
    assert method.fit(cases.only([*rare[:2], *others]), replace(QUICK, folds=4), run).tried
    assert "2 inner folds instead of 4" in capsys.readouterr().err
    with pytest.raises(CohortError, match="a single training patient is LGG"):
        method.fit(cases.only([*rare[:1], *others]), QUICK, run)


def test_series_not_chosen_are_not_needed_to_answer(cases, run):
    config = replace(QUICK, pooling="max", series=("t2", "flair"))
    model = method.fit(cases, config, run)
    case = cases[0]
    lacking = replace(case, series={s: case.series[s] for s in ("t2", "flair")})
    assert model.predict(lacking).probabilities.keys() == {"grade"}


def test_balanced_answers_have_the_class_shares_put_back(cases, run):
    plain = method.fit(cases, replace(QUICK, pooling="max"), run)
    counts = np.bincount([run.classes.index(c) for c in cases.classes("grade")])
    assert plain.prior == pytest.approx(tuple(counts / counts.sum()))
    paper = method.fit(cases, replace(QUICK, pooling="max", balanced=False), run)
    assert paper.prior == (0.5, 0.5)


@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_the_map_lies_on_the_slices_and_tells_the_largest_influence_as_one(cases, run, pooling):
    model = method.fit(cases, replace(QUICK, pooling=pooling), run)
    maps = model.explain(cases[0])
    assert set(maps) == {"grade"} | ({"grade_attention"} if pooling == "attention" else set())
    for heat in maps.values():
        assert np.abs(heat.voxels).max() == pytest.approx(1.0)
        each = heat.voxels.reshape(-1, heat.voxels.shape[2])
        assert np.array_equal(each.min(axis=0), each.max(axis=0))  # one number a slice
    assert len(np.unique(maps["grade"].voxels)) > 3


def test_another_encoder_than_it_was_trained_with_is_refused(cases, run, tmp_path, swap_encoder):
    model = method.fit(cases, replace(QUICK, encoder="random", pooling="max"), run)
    model.save(tmp_path)
    again = method.load(tmp_path)
    swap_encoder()
    with pytest.raises(ModelError, match="not the one"):
        again.predict(cases[0])


def test_a_changed_file_of_weights_is_refused(cases, run, tmp_path):
    method.fit(cases, replace(QUICK, pooling="max"), run).save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="not the file"):
        method.load(tmp_path)


def test_weights_are_named_from_the_root_so_that_a_model_works_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Config(weights="w.pt").weights == str(tmp_path / "w.pt")
    assert changed(Config(), {"weights": "w.pt"}).weights == str(tmp_path / "w.pt")


def test_other_weights_of_the_same_name_are_another_identity(swap_encoder):
    config = replace(QUICK, encoder="random")
    first = method.identity(config)
    swap_encoder()
    assert method.identity(config) != first


def test_an_answer_sees_no_series_that_the_training_did_not(cases, run):
    """Without a brain mask the series decide where the brain is."""
    model = method.fit(cases, replace(QUICK, pooling="max", series=("t1ce", "flair")), run)
    ready = method.ready(cases.only([cases.rows[0].case]), model.config, run.cache)[0]
    evaluated = model.answer(cases.rows[0], ready).probabilities["grade"]["HGG"]
    case = cases[0]
    loud = replace(case, series={**case.series, "t2": np.abs(case.series["t2"]) + 5.0})
    assert model.predict(loud).probabilities["grade"]["HGG"] == pytest.approx(evaluated, abs=1e-6)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="paper and sound"):
        Config.preset("papers")


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="folds"):
        changed(Config(), {"folds": 1})
    with pytest.raises(ConfigError, match="hidden"):
        changed(Config(), {"hidden": -1})


# --- harmonising ------------------------------------------------------------------------------------------------


def moved_by_site(cases, monkeypatch, factor=5.0):
    """Vectors of the cases to which each site adds numbers of its own, the same for all slices."""
    rng, plain = np.random.default_rng(0), method.ready
    added = {site: factor * rng.normal(size=(len(SERIES), 4096)) for site in ("site-A", "site-B")}

    def ready(asked, config, cache, tick=None):
        made = plain(asked, config, cache, tick)
        return [
            {**dict(m), **{s: (m[s] + added[row.site][k][: m[s].shape[1]]).astype(np.float32)
                           for k, s in enumerate(config.series)}}
            for m, row in zip(made, asked.rows, strict=True)
        ]  # fmt: skip

    monkeypatch.setattr(method, "ready", ready)
    return replace(cases, rows=tuple(
        replace(row, site=("site-A", "site-B")[i % 2]) for i, row in enumerate(cases.rows)))  # fmt: skip


def test_what_a_site_adds_to_every_slice_is_taken_out(cases, run, monkeypatch, tmp_path):
    """The same numbers added to all slices of a site: answers stay, but for the shrinking of what is taken out."""
    told = {}
    for harmonise, factor in ((True, 0.0), (True, 50.0), (False, 0.0), (False, 50.0)):
        config = replace(QUICK, pooling="mean", harmonise=harmonise)
        with monkeypatch.context() as patch:
            moved = moved_by_site(cases, patch, factor)
            model = method.fit(moved, config, replace(run, folder=tmp_path / f"{harmonise}-{factor}"))
            made = method.ready(moved, config, run.cache)
            answers = [model.answer(r, m) for r, m in zip(moved.rows, made, strict=True)]
        told[harmonise, factor] = np.array([a.probabilities["grade"]["HGG"] for a in answers])
    apart = {h: np.abs(told[h, 50.0] - told[h, 0.0]).max() for h in (True, False)}
    assert apart[True] < 0.05 < 2 * apart[True] < apart[False]


def test_a_harmonised_model_comes_back_and_says_where_it_cannot_harmonise(
    cases, run, monkeypatch, tmp_path, capsys
):
    moved = moved_by_site(cases, monkeypatch)
    config = replace(QUICK, pooling="max", harmonise=True)
    model = method.fit(moved, config, run)
    model.save(tmp_path / "m")
    again = method.load(tmp_path / "m")
    row, made = moved.rows[0], method.ready(moved, config, run.cache)[0]
    known = again.answer(row, made)
    assert known.probabilities["grade"] == pytest.approx(model.answer(row, made).probabilities["grade"])
    capsys.readouterr()
    elsewhere = again.answer(replace(row, site="site-C"), made)
    assert "of no site that was learnt (site-A, site-B)" in capsys.readouterr().err
    assert elsewhere.probabilities != known.probabilities


def test_harmonising_needs_every_site(cases, run):
    rows = (replace(cases.rows[0], site=None), *cases.rows[1:])
    with pytest.raises(CohortError, match=cases.rows[0].case):
        method.fit(replace(cases, rows=rows), replace(QUICK, pooling="mean", harmonise=True), run)
