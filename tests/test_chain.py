"""From a cohort table to scores and an answer, by the command line, on a small simulated cohort."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from gliolens.cli import main
from gliolens.cohorts.phantom.ceiling import CEILINGS
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.methods.controls import KINDS

SMALL = ["--scale", "demo", "--epochs", "2", "--slices", "2", "--no-choose-epochs"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A cohort of 16 and a finished run on it."""
    folder = tmp_path_factory.mktemp("chain")
    table = write_phantom(folder / "cohort", 16, seed=1, config=PhantomConfig(spacing_mm=5.0))
    code = main(["train", "shape-resnet", str(table), "--target", "grade", "-o", str(folder / "run"), *SMALL])
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def benched(place):
    """Two folds of a single control as the method: everything of a bench but the network's time."""
    words = ["bench", str(place / "cohort" / "cohort.csv"), "--target", "grade", "--methods", "controls"]
    assert main([*words, "--folds", "2", "-o", str(place / "bench")]) == 0
    return place / "bench"


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def held_out(run):
    return set(read(run / "splits.json")["folds"][0]["test"])


def test_a_run_folder_holds_what_it_promises(place):
    run = place / "run"
    for name in ("run.json", "splits.json", "predictions.csv", "metrics.json", "results.csv", "model/card.json",
                 "model/weights.safetensors", "figures/roc.png"):  # fmt: skip
        assert (run / name).is_file(), name
    about = read(run / "run.json")
    assert about["settings"]["config"]["epochs"] == 2
    assert set(about["train_cases"]) & held_out(run) == set()
    assert not list(run.rglob("*.ckpt"))


def test_the_scores_are_those_of_the_predictions(place):
    table = pd.read_csv(place / "run" / "predictions.csv")
    for row in read(place / "run" / "metrics.json")["scores"]:
        mine = table[table["method"] == row["method"]]
        truth = mine["truth"] == "HGG"
        assert set(mine["case"]) == held_out(place / "run")
        assert row["auc"] == pytest.approx(roc_auc_score(truth, mine["p_HGG"]))
        assert row["brier"] == pytest.approx(brier_score_loss(truth, mine["p_HGG"]))
        assert row["sensitivity"] == pytest.approx((mine["decision"][truth] == "HGG").mean())
        assert row["specificity"] == pytest.approx((mine["decision"][~truth] == "LGG").mean())


def test_every_control_stands_beside_the_method(place):
    methods = [row["method"] for row in read(place / "run" / "metrics.json")["scores"]]
    assert methods == ["shape-resnet", *KINDS.values()]


def test_the_same_run_again_changes_nothing_and_other_settings_are_refused(place, capsys):
    table, run = place / "cohort" / "cohort.csv", place / "run"
    words = ["train", "shape-resnet", str(table), "--target", "grade", "-o", str(run), *SMALL]
    before = (run / "predictions.csv").read_bytes()
    assert main(words) == 0
    assert (run / "predictions.csv").read_bytes() == before
    assert main([*words, "--seed", "1"]) == 2
    assert "another seed" in capsys.readouterr().err


def test_a_runs_settings_can_be_given_back(place, tmp_path):
    table = place / "cohort" / "cohort.csv"
    words = ["train", "shape-resnet", str(table), "--target", "grade", "-o", str(tmp_path / "again")]
    assert main([*words, "--config", str(place / "run" / "run.json")]) == 0
    first, second = (read(f / "run.json")["settings"]["config"] for f in (place / "run", tmp_path / "again"))
    assert first == second


def test_evaluate_scores_the_held_out_patients_as_train_did(place, capsys):
    table = place / "cohort" / "cohort.csv"
    assert main(["evaluate", str(place / "run"), str(table), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["scores"]
    first = read(place / "run" / "metrics.json")["scores"]
    assert [row["method"] for row in again] == [row["method"] for row in first]
    for a, b in zip(again, first, strict=True):
        assert a["auc"] == pytest.approx(b["auc"], abs=1e-9)
        assert a["brier"] == pytest.approx(b["brier"], abs=1e-6)


def test_evaluate_refuses_patients_it_was_trained_on_under_any_name(place, tmp_path, capsys):
    rows = read_cohort(place / "cohort" / "cohort.csv")
    trained = next(row for row in rows if row.case not in held_out(place / "run"))
    renamed = [type(row)(**{**row.__dict__, "case": f"X{i}", "patient": f"X{i}",
                            "aliases": (row.patient,) if row is trained else ()})
               for i, row in enumerate(rows)]  # fmt: skip
    write_cohort(tmp_path / "external.csv", renamed)
    assert main(["evaluate", str(place / "run"), str(tmp_path / "external.csv")]) == 4
    said = capsys.readouterr().err
    assert "trained on" in said
    assert f"X{rows.index(trained)}" in said


def test_evaluate_scores_all_of_another_cohort_even_where_ids_coincide(place, tmp_path, capsys):
    rows = read_cohort(place / "cohort" / "cohort.csv")
    held = held_out(place / "run")
    other = [replace(row, age=None) for row in rows if row.case in held]
    strangers = [
        replace(row, case=f"Y{row.case}", patient=f"Y{row.case}") for row in rows if row.case not in held
    ]
    write_cohort(tmp_path / "external.csv", [*other, *strangers])
    assert main(["evaluate", str(place / "run"), str(tmp_path / "external.csv"), "--json"]) == 0
    assert {row["n"] for row in json.loads(capsys.readouterr().out)["scores"]} == {len(rows)}


def test_evaluate_leaves_out_a_class_the_run_cannot_tell(place, tmp_path, capsys):
    rows = read_cohort(place / "cohort" / "cohort.csv")
    strangers = [replace(row, case=f"Y{i}", patient=f"Y{i}") for i, row in enumerate(rows)]
    strangers[0] = replace(strangers[0], targets={"grade": "healthy"})
    write_cohort(tmp_path / "external.csv", strangers)
    assert main(["evaluate", str(place / "run"), str(tmp_path / "external.csv"), "--json"]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out)["scores"][0]["n"] == len(rows) - 1
    assert "healthy" in done.err


def test_a_case_mended_after_a_run_makes_the_run_anew(place, tmp_path, capsys):
    """Else the stored split would name patients as held out that the model has seen."""
    shutil.copytree(place / "cohort", tmp_path / "cohort")
    file = tmp_path / "cohort" / "SIM-0003" / "SIM-0003_t1.nii.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:400])
    words = [
        "train",
        "controls",
        str(tmp_path / "cohort" / "cohort.csv"),
        "--target",
        "grade",
        "--kind",
        "site",
    ]
    assert main([*words, "-o", str(tmp_path / "run")]) == 3
    file.write_bytes(whole)
    assert main([*words, "-o", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run" / "failures.json").exists()
    answered = set(pd.read_csv(tmp_path / "run" / "predictions.csv")["case"])
    assert answered == held_out(tmp_path / "run")
    assert answered & set(read(tmp_path / "run" / "run.json")["train_cases"]) == set()


def test_a_control_can_be_trained_and_used_by_itself(place, tmp_path, capsys):
    table = place / "cohort" / "cohort.csv"
    words = [
        "train",
        "controls",
        str(table),
        "--target",
        "grade",
        "--kind",
        "shape",
        "-o",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    assert "controls: 14 shape features" in capsys.readouterr().out
    assert (
        main(
            [
                "predict",
                str(place / "cohort" / "SIM-0001"),
                "-o",
                str(tmp_path),
                "--run",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    assert (
        read(tmp_path / "SIM-0001" / "prediction.json")["predictions"][0]["method"]
        == "control: 14 shape features"
    )


def test_a_split_of_another_target_is_refused(place, tmp_path, capsys):
    table, split = place / "cohort" / "cohort.csv", tmp_path / "splits.json"
    assert main(["cohort", "split", str(table), "--target", "idh", "--folds", "2", "-o", str(split)]) == 0
    words = ["bench", str(table), "--target", "grade", "--methods", "controls", "--split", str(split)]
    assert main([*words, "-o", str(tmp_path / "bench")]) == 4
    assert "stratified by idh, not grade" in capsys.readouterr().err


def test_predict_answers_with_probability_heatmap_and_report(place):
    case = sorted(held_out(place / "run"))[0]
    out = place / "out"
    assert main(["predict", str(place / "cohort" / case), "-o", str(out), "--run", str(place / "run")]) == 0
    made = read(out / case / "prediction.json")
    share = made["predictions"][0]["probabilities"]["grade"]
    assert sum(share.values()) == pytest.approx(1)
    heat, source = nib.load(out / case / "heatmaps" / "grade.nii.gz"), nib.load(out / case / "labels.nii.gz")
    assert heat.shape == source.shape
    assert np.allclose(heat.affine, source.affine)
    seen = np.asanyarray(heat.dataobj)
    assert 0 <= seen.min() <= seen.max() <= 1.0001
    page = (out / case / "report.html").read_text(encoding="utf-8")
    assert "in the training set" not in page
    assert all(title in page for title in KINDS.values())


def test_heat_is_seen_where_anything_speaks_for_the_decision(place):
    """Grad-CAM is zero all over where nothing does, which happens in some patients, not in all."""
    cases = [str(place / "cohort" / case) for case in sorted(held_out(place / "run"))]
    out = place / "heat"
    assert main(["predict", *cases, "-o", str(out), "--run", str(place / "run")]) == 0
    most = [np.asanyarray(nib.load(f).dataobj).max() for f in sorted(out.glob("*/heatmaps/grade.nii.gz"))]
    assert len(most) == len(cases)
    assert 0.5 < max(most) <= 1.0001, (
        most
    )  # 1 is the most of a slice; on the case's own grid a little is lost


def test_predict_says_when_the_patient_was_trained_on(place):
    case = next(c for c in read(place / "run" / "run.json")["train_cases"])
    out = place / "seen"
    assert main(["predict", str(place / "cohort" / case), "-o", str(out), "--run", str(place / "run")]) == 0
    assert "in the training set" in (out / case / "report.html").read_text(encoding="utf-8")


def test_predict_knows_a_trained_patient_by_the_names_of_the_files(place, tmp_path):
    case = read(place / "run" / "run.json")["train_cases"][0]
    shutil.copytree(place / "cohort" / case, tmp_path / "someone else")
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "someone else"), "-o", str(out), "--run", str(place / "run")]) == 0
    page = (out / "someone else" / "report.html").read_text(encoding="utf-8")
    assert f"Files are named {case}, as a patient of the training set" in page
    told = read(out / "someone else" / "prediction.json")["predictions"][0]
    assert any("training set" in caution for caution in told["cautions"])
    assert {s["name"] for s in told["auc_on_patients_held_out"]} == {"shape-resnet", *KINDS.values()}


def test_predict_refuses_a_case_without_a_series_the_run_needs(place, tmp_path, capsys):
    folder = tmp_path / "SIM-0001"
    shutil.copytree(place / "cohort" / "SIM-0001", folder)
    (folder / "SIM-0001_t2.nii.gz").unlink()
    out = tmp_path / "out"
    assert main(["predict", str(folder), "-o", str(out), "--run", str(place / "run")]) == 4
    assert "t2 too" in capsys.readouterr().err
    assert not (out / "SIM-0001").exists()


def test_predict_refuses_a_folder_that_is_no_run(place, tmp_path, capsys):
    words = ["predict", str(place / "cohort" / "SIM-0001"), "-o", str(tmp_path), "--run", str(place)]
    assert main(words) == 1
    assert "no finished run" in capsys.readouterr().err


def test_bench_answers_every_patient_once_in_folds_that_do_not_share_them(benched, place):
    answers = pd.read_csv(benched / "predictions.csv")
    rows = read_cohort(place / "cohort" / "cohort.csv")
    for _, mine in answers.groupby("method"):
        assert sorted(mine["case"]) == sorted(row.case for row in rows)
    split = read(benched / "splits.json")
    for fold in split["folds"]:
        assert set(fold["train"]) & set(fold["test"]) == set()
    assert set(answers["method"]) == {*KINDS.values(), *CEILINGS}


def test_bench_goes_on_where_it_was_stopped(benched, place):
    kept = benched / "site" / "fold-1" / "predictions.csv"
    lost = benched / "age-and-sex" / "fold-2" / "predictions.csv"
    stamp, before = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    words = ["bench", str(place / "cohort" / "cohort.csv"), "--target", "grade", "--methods", "controls"]
    assert main([*words, "--folds", "2", "-o", str(benched)]) == 0
    assert kept.stat().st_mtime_ns == stamp
    assert lost.read_bytes() == before


def test_a_broken_scan_is_listed_and_the_bench_ends_in_3(place, tmp_path, capsys):
    shutil.copytree(place / "cohort", tmp_path / "cohort")
    file = tmp_path / "cohort" / "SIM-0005" / "SIM-0005_t1.nii.gz"
    file.write_bytes(file.read_bytes()[:500])
    words = ["bench", str(tmp_path / "cohort" / "cohort.csv"), "--target", "grade", "--methods", "controls"]
    assert main([*words, "--folds", "2", "-o", str(tmp_path / "bench")]) == 3
    assert list(read(tmp_path / "bench" / "failures.json")) == ["SIM-0005"]
    assert "SIM-0005" in capsys.readouterr().err


def test_too_few_patients_of_a_class_are_refused_with_numbers(place, tmp_path, capsys):
    words = ["bench", str(place / "cohort" / "cohort.csv"), "--target", "grade", "--methods", "controls"]
    assert main([*words, "--folds", "12", "-o", str(tmp_path)]) == 4
    assert "LGG" in capsys.readouterr().err
