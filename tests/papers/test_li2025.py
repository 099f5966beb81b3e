"""The reproduction of Li and McMillan."""

import json

import numpy as np
import pandas as pd
import pytest

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.labels import SERIES
from gliolens.methods.volume_embedding import Config
from gliolens.papers.li2025 import PUBLISHED, best_of_each_size, optimism, reproduce, table1
from gliolens.readers import choices


def test_four_series_make_45_configurations():
    tried = choices(SERIES)
    assert len(tried) == len(set(tried)) == 45
    assert {c.pooling for c in tried} == {"mean", "max", "median"}
    assert len(choices(("t1", "t1ce", "flair"))) == 21


def test_the_published_table_names_configurations_there_are():
    tried = {(c.pooling, c.series) for c in choices(SERIES)}
    assert {(how, series) for how, row in PUBLISHED.items() for series in row} <= tried
    assert max(v for row in PUBLISHED.values() for v in row.values()) == 96.8


def test_scores_of_every_configuration():
    """One series tells the class, the other is noise: what has it is right, and recall is accuracy when weighted."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    embedded = [{"t1": rng.normal(size=(4, 5)), "t2": rng.normal(size=(4, 5)) + 3.0 * k} for k in truth]
    config = Config(series=("t1", "t2"), hidden=0)
    found = table1(embedded, truth, (list(range(40)), list(range(40, 60))), config, 0)
    assert len(found.rows) == len(found.right) == 9
    assert found.right.shape == (9, 20)
    rows = found.rows.set_index(["pooling", "series"])
    assert rows.loc[("mean", "t2"), "accuracy"] == 1.0
    assert rows.loc[("mean", "t1"), "accuracy"] < 0.9
    assert np.allclose(found.rows["recall"], found.rows["accuracy"])
    assert np.allclose(found.right.mean(axis=1), found.rows["accuracy"])
    best = best_of_each_size(found.rows)
    assert len(best) == 6
    assert set(best[best["size"] == 1]["series"]) == {"t2"}


def test_choosing_among_coins_is_worth_what_luck_is():
    """45 coins over 93 patients: whatever the best of them scores above a half is luck."""
    rng = np.random.default_rng(0)
    right = [rng.random((45, 93)) < 0.5 for _ in range(30)]
    worth = [optimism(r, draws=200) for r in right]
    luck = np.mean([r.mean(axis=1).max() for r in right]) - 0.5
    assert np.mean([w.value for w in worth]) == pytest.approx(luck, abs=0.02)
    assert all(w.low < w.value < w.high for w in worth)
    assert abs(optimism(rng.random((1, 93)) < 0.5, draws=400).value) < 0.03


def test_configurations_that_agree_leave_no_choice():
    right = np.tile(np.arange(50) % 4 > 0, (10, 1))
    assert abs(optimism(right, draws=500).value) < 0.02


def test_an_optimism_that_few_draws_carry_lies_within_its_bounds():
    """Of seven patients one configuration gets all right; the other ties with it in two draws of a hundred."""
    right = np.ones((2, 7), bool)
    right[0, :3] = False
    found = optimism(right)
    assert 0 < found.value < 0.02
    assert found.low == 0
    assert found.high == found.value


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    config = PhantomConfig(spacing_mm=6.0)
    return write_phantom(tmp_path_factory.mktemp("phantom"), 24, seed=2, config=config)


def test_the_command_writes_table_figure_and_page(cohort, tmp_path, capsys):
    out = tmp_path / "li"
    words = ["reproduce", "li2025", str(cohort), "-o", str(out), "--scale", "demo", "--encoder", "histogram"]
    assert main(words) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    table = pd.read_csv(out / "table1.csv")
    assert len(table) == 45
    assert table["accuracy"].between(0, 1).all()
    told = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert told["configurations"] == 45
    assert told["train"] + told["test"] == 24
    assert told["best"]["accuracy"] == pytest.approx(table["accuracy"].max(), abs=1e-4)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "96.8 %" in page
    assert page.count("data:image/png") == 1
    assert (out / "nested" / "bench.html").is_file()


def test_both_halves_read_with_the_encoder_that_was_asked_for(cohort, tmp_path):
    """At the scale of the paper too, where the preset of the nested half has another encoder."""
    done = reproduce(cohort, tmp_path / "o", settings={"encoder": "histogram", "hidden": 0})
    asked = json.loads((tmp_path / "o" / "nested" / "bench.json").read_text(encoding="utf-8"))["settings"]
    assert asked["methods"]["volume-embedding"]["encoder"] == "histogram"
    assert asked["methods"]["volume-embedding"]["pooling"] == "chosen"
    answers = pd.read_csv(tmp_path / "o" / "nested" / "predictions.csv")
    test_side = json.loads((tmp_path / "o" / "splits.json").read_text(encoding="utf-8"))["folds"][0]["test"]
    assert set(test_side) <= set(answers["case"])
    assert done.table1.right.shape == (45, len(test_side))


def test_published_grades_stand_beside_grades_only(cohort, tmp_path):
    reproduce(cohort, tmp_path / "o", target="idh", scale="demo", settings={"encoder": "histogram"})
    assert "96.8 %" not in (tmp_path / "o" / "report.html").read_text(encoding="utf-8")


def test_an_unknown_paper_names_what_there_is(cohort, tmp_path, capsys):
    assert main(["reproduce", "li2024", str(cohort), "-o", str(tmp_path / "x")]) == 2
    assert "li2025" in capsys.readouterr().err
