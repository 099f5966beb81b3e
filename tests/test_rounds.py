"""`gliolens bench` with several targets and seeds, inner folds, left-out sites and another cohort."""

import json

import pandas as pd
import pytest

from gliolens.bench import bench
from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.methods.controls import KINDS
from gliolens.rounds import over_seeds

CONTROLS = set(KINDS.values())


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("p"), 36, seed=4, config=PhantomConfig(spacing_mm=6.0))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    config = PhantomConfig(spacing_mm=6.0, prefix="OTH")
    return write_phantom(tmp_path_factory.mktemp("q"), 12, seed=5, config=config)


def asked(cohort, out, *words):
    return ["bench", str(cohort), "-o", str(out), "--methods", "controls", "--folds", "2", *words]


def test_targets_and_seeds_stand_in_one_table_and_one_page(cohort, tmp_path, capsys):
    assert main(asked(cohort, tmp_path, "--target", "idh", "grade", "--seed", "0", "1", "--json")) == 0
    told = json.loads(capsys.readouterr().out)["targets"]
    assert {t: list(seeds) for t, seeds in told.items()} == {
        t: ["seed 0", "seed 1"] for t in ("idh", "grade")
    }
    results = pd.read_csv(tmp_path / "results.csv")
    rows = results[~results["ceiling"]].groupby(["target", "seed"])["method"].agg(set)
    assert len(rows) == 4
    assert all(found == CONTROLS for found in rows)
    single = pd.read_csv(tmp_path / "idh" / "seed-1" / "results.csv").set_index("method")["auc"]
    mine = results[(results["target"] == "idh") & (results["seed"] == 1)].set_index("method")["auc"]
    assert mine.to_dict() == single.to_dict()
    page = (tmp_path / "bench.html").read_text()
    assert "AUC, IDH status" in page
    assert "grade/seed-1/bench.html" in page
    assert "2 seeds, each with folds of its own" in page


def test_over_seeds_is_the_mean_with_the_least_and_the_most():
    results = pd.DataFrame({
        "target": "idh", "seed": [0, 1], "method": "m", "control": False, "ceiling": False, "auc": [0.6, 0.8],
    })  # fmt: skip
    assert over_seeds(results)[0]["AUC, IDH status"] == "0.700 (0.600 to 0.800)"


def test_inner_folds_another_cohort_and_all_tables_beside_them(cohort, other, tmp_path, capsys):
    words = ("--target", "idh", "--calibrate", "--external", str(other), "--set", "mine.kind=shape-age")
    assert main([*asked(cohort, tmp_path, *words), "--methods", "controls"]) == 2  # settings of nobody
    capsys.readouterr()
    assert main(asked(cohort, tmp_path, *words[:-2])) == 0
    capsys.readouterr()
    for name in ("calibration", "coverage", "subgroups", "drop"):
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) >= len(CONTROLS), name
    drop = pd.read_csv(tmp_path / "drop.csv").set_index("method")
    inside = pd.read_csv(tmp_path / "results.csv").set_index("method")["auc"]
    outside = pd.read_csv(tmp_path / "elsewhere" / "results.csv").set_index("method")["auc"]
    assert drop.loc["site", "drop"] == pytest.approx(inside["site"] - outside["site"])
    answers = pd.read_csv(tmp_path / "elsewhere" / "predictions.csv")
    assert set(answers["case"]) == {f"OTH-{i + 1:04d}" for i in range(12)}
    sure = pd.read_csv(tmp_path / "calibrated.csv")
    assert len(sure) == len(CONTROLS) * 36
    assert sure[["p_wildtype", "p_mutant"]].sum(axis=1).to_numpy() == pytest.approx(1)
    page = (tmp_path / "bench.html").read_text()
    for title in ("Within parts of the patients", "How sure to be", "On another cohort"):
        assert title in page


def test_each_site_is_left_out_in_turn(cohort, tmp_path, capsys):
    assert main(asked(cohort, tmp_path, "--target", "grade", "--leave-site-out", "--seed", "0", "1")) == 0
    capsys.readouterr()
    assert "2 seeds, on the same folds" in (tmp_path / "bench.html").read_text()
    folder = tmp_path / "grade" / "seed-1"
    answers = pd.read_csv(folder / "predictions.csv")
    kept = answers[answers["fold"].notna()]
    assert (kept.groupby("fold")["site"].nunique() == 1).all()
    assert json.loads((folder / "splits.json").read_text())["kind"] == "leave_one_site_out"


def test_one_cohort_cannot_be_another(cohort, tmp_path, capsys):
    assert main(asked(cohort, tmp_path, "--target", "idh", "--external", str(cohort))) == 4
    assert "of patients of this one" in capsys.readouterr().err


def test_a_bench_with_another_method_takes_what_is_done(cohort, tmp_path):
    def files():
        return {f: f.stat().st_mtime_ns for f in tmp_path.glob("*/fold-*/predictions.csv")}

    bench(cohort, tmp_path, target="grade", methods=("controls",), folds=2)
    before = files()
    quick = {"epochs": 1, "slices": 1, "choose_epochs": False}
    table = bench(
        cohort, tmp_path, target="grade", methods=("net=shape-resnet",), folds=2, scale="paper",
        settings={"net": {**quick, "pixels": 64}},
    ).table  # fmt: skip
    assert {row["method"] for row in table if not row["ceiling"]} == CONTROLS | {"net"}
    after = files()
    assert {f: after[f] for f in before} == before
    assert len(after) == len(before) + 2
