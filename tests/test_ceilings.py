"""A simulated cohort's ceilings stand beside every result on it, and beside no other."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from gliolens.bench import bench
from gliolens.case import CaseRow, Grid, Volume
from gliolens.cohorts.phantom.ceiling import CEILINGS, EXPLANATION, expected_ceilings, write_truth
from gliolens.cohorts.phantom.traits import LABEL_SCHEME, PhantomConfig, PhantomTraits, draw_cohort
from gliolens.errors import CohortError
from gliolens.evaluate import evaluate
from gliolens.io.nifti import write_volume
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.methods.controls import KINDS
from gliolens.methods.controls import Config as Control
from gliolens.protocol import plain_scores, score_beside_ceilings
from gliolens.report.terminal import print_scores
from gliolens.train import Outcome, train, write_results

CONFIG = PhantomConfig()
GRID = Grid((14, 14, 14), np.diag([6.0, 6.0, 6.0, 1.0]))


def write_case(folder: Path, traits: PhantomTraits) -> CaseRow:
    """Scans as small as can be: a ball of the tumour's volume."""
    assert traits.findings is not None
    far = np.linalg.norm(np.indices(GRID.shape) - 6.5, axis=0)
    inside = far <= np.sort(far.ravel())[int(traits.findings.volume_ml / GRID.voxel_ml)]
    files = {name: folder / f"{traits.case}_{name}.nii.gz" for name in ("t1", "seg")}
    write_volume(files["t1"], Volume((100 + 50 * inside).astype(np.int16), GRID.affine), GRID)
    write_volume(files["seg"], Volume(inside.astype(np.uint8), GRID.affine), GRID)
    return CaseRow(
        traits.case, traits.case, files={"t1": files["t1"]}, mask=files["seg"], mask_scheme="brats2023",
        site=traits.site, age=traits.age, sex=traits.sex, targets=traits.targets, label_scheme=LABEL_SCHEME,
    )  # fmt: skip


def write_simulated(folder: Path, n: int, seed: int) -> Path:
    cohort = draw_cohort(n, seed, CONFIG)
    write_cohort(folder / "cohort.csv", [write_case(folder, t) for t in cohort])
    write_truth(folder, cohort, CONFIG)
    return folder / "cohort.csv"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return write_simulated(tmp_path_factory.mktemp("simulated"), 60, 4)


@pytest.fixture(scope="module")
def benched(cohort, tmp_path_factory) -> Outcome:
    return bench(cohort, tmp_path_factory.mktemp("bench") / "b", target="idh", methods=(), folds=3)


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory) -> Outcome:
    out = tmp_path_factory.mktemp("run") / "r"
    return train("controls", cohort, out, target="idh", config=Control(kind="age-sex", series=("t1",)))


def ceilings_of(done: Outcome) -> dict[str, dict]:
    return {row["method"]: row for row in done.table if row["ceiling"]}


def test_a_bench_ends_in_the_ceilings_of_the_same_patients(benched, cohort):
    names = [row["method"] for row in benched.table]
    assert names == [*KINDS.values(), *CEILINGS]
    assert not any(row["control"] for row in ceilings_of(benched).values())
    truth = pd.read_csv(cohort.parent / "truth.csv")
    is_mutant = truth["idh"] == "mutant"
    for name, row in ceilings_of(benched).items():
        oracle = truth[f"{name.replace(' ', '_')}_idh_mutant"]
        assert row["n"] == 60
        assert row["auc"].value == pytest.approx(roc_auc_score(is_mutant, oracle))
        assert row["brier"].value == pytest.approx(float(((oracle - is_mutant) ** 2).mean()))
        assert row["auc"].low < row["auc"].value < row["auc"].high
        assert row["expected_auc"] == expected_ceilings(CONFIG)["idh"][name]


def test_ceilings_are_stored_apart_from_methods_and_controls(benched):
    metrics = json.loads((benched.folder / "metrics.json").read_text())
    assert [row["method"] for row in metrics["scores"]] == list(KINDS.values())
    assert [row["method"] for row in metrics["ceilings"]] == list(CEILINGS)
    assert metrics["about_ceilings"].startswith(EXPLANATION)
    table = pd.read_csv(benched.folder / "results.csv")
    assert table.loc[table["ceiling"], "method"].tolist() == list(CEILINGS)
    assert table.loc[~table["ceiling"], "expected_auc"].isna().all()
    answers = pd.read_csv(benched.folder / "predictions.csv")
    counts = answers.groupby("method").size()
    assert set(counts) == {60}
    site = answers[answers["method"] == "site"] if "site" in counts else answers[answers["control"]].head(60)
    mine = answers[answers["method"] == "ceiling"]
    assert mine[["case", "fold"]].to_numpy().tolist() == site[["case", "fold"]].to_numpy().tolist()


def test_the_page_explains_them(benched):
    page = (benched.folder / "bench.html").read_text()
    assert '<tr class="ceiling">' in page
    assert "Rows in italics, dotted among the ROC curves, are ceilings" in page
    assert "The cohort is simulated." in page
    assert "is_ceiling" not in page
    assert (benched.folder / "figures" / "roc.png").is_file()


def test_they_are_printed_with_their_meaning_and_with_json(benched, capsys):
    print_scores(benched.table)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.index("controls:") < printed.index("best that can be: ceiling")
    assert "Expected AUC over 20,000 patients: ceiling 0.9" in printed
    assert "No method can expect more" in printed
    plain = json.loads(json.dumps(plain_scores(benched.table)))
    assert [row["ceiling"] for row in plain] == [False] * len(KINDS) + [True] * len(CEILINGS)


def test_a_training_has_them_on_the_patients_held_out(trained):
    for row in ceilings_of(trained).values():
        assert row["n"] == trained.table[0]["n"] < 60
    assert list(ceilings_of(trained)) == list(CEILINGS)


def test_an_evaluation_has_those_of_its_own_cohort(trained, tmp_path):
    second = write_simulated(tmp_path / "second", 30, 9)
    renamed = [replace(row, case=f"B{row.case}", patient=f"B{row.case}") for row in read_cohort(second)]
    truth = second.parent / "truth.csv"
    truth.write_text(truth.read_text().replace("SIM-", "BSIM-"))
    write_cohort(second, renamed)
    done = evaluate(trained.folder, second, tmp_path / "out")
    assert {row["n"] for row in done.table} == {30}
    assert list(ceilings_of(done)) == list(CEILINGS)


def test_a_cohort_that_is_not_simulated_has_none(benched, tmp_path, capsys):
    whole = pd.read_csv(benched.folder / "predictions.csv", dtype={"case": str, "patient": str})
    answers, table = score_beside_ceilings(
        whole[~whole["method"].isin(CEILINGS)], None, "idh", ("wildtype", "mutant")
    )
    assert not set(CEILINGS) & set(answers["method"])
    write_results(tmp_path, answers, table, {})
    assert list(json.loads((tmp_path / "metrics.json").read_text())) == ["scores"]
    print_scores(table)
    assert "ceiling" not in capsys.readouterr().out


def test_the_truth_of_other_patients_stops_the_bench_before_it_trains(cohort, tmp_path):
    write_cohort(tmp_path / "cohort.csv", read_cohort(cohort))
    write_truth(tmp_path, draw_cohort(60, 5, CONFIG), CONFIG)
    with pytest.raises(CohortError, match="does not speak for"):
        bench(tmp_path / "cohort.csv", tmp_path / "b", target="idh", methods=(), folds=3)
    assert not (tmp_path / "b" / "splits.json").exists()
