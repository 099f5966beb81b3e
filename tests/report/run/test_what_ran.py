"""`gliolens report` tells what was run: which patients, folds, cohorts, labels and settings, and no more."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.cohorts.splits import holdout, leave_one_site_out, write_split
from gliolens.evidence import write_rows
from gliolens.io.tables import read_cohort
from gliolens.method import find_method
from gliolens.methods import shape_resnet
from gliolens.registry import METHODS
from gliolens.report.run.about_model import start
from gliolens.report.run.checklist import fill, read_checklist
from gliolens.report.run.files import RunFiles, read_run_files
from gliolens.report.run.page import write_run_report

SHUFFLED = "LABELS ARE SHUFFLED"
SIMULATED = "SIMULATED COHORT"
IDH = ("--target", "idh")
AGE = ("train", "controls", "--kind", "age-sex")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two cohorts: `study/cohort.csv`, 14 cases: the second is the first's patient again, of the last two one has no
    IDH status and one no mask; `other/cohort.csv`, six. No file says that they are simulated, but `study/truth.csv`.
    """
    folder = tmp_path_factory.mktemp("ran")
    edit(write_phantom(folder / "study", 14, seed=3, config=PhantomConfig(spacing_mm=6.0)), second_exam)
    edit(write_phantom(folder / "other", 6, seed=8, config=PhantomConfig(spacing_mm=6.0)), renamed)
    for file in ("truth.csv", "truth.json"):
        (folder / "other" / file).unlink()
    return folder


def edit(table, change):
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    change(rows)
    rows.to_csv(table, index=False)
    return table


def second_exam(rows):
    rows.loc[1, "patient"] = rows.loc[0, "patient"]
    rows.loc[12, "idh"] = rows.loc[13, "mask"] = ""


def renamed(rows):
    for name in ("case", "patient"):
        rows[name] = "OTHER-" + rows[name]
    rows["who_grade"] = ["2", "4"] * 3
    rows["label_scheme"] = "who2016"


@pytest.fixture(scope="module")
def trained(place):
    """A training of the control by age and sex."""
    assert main([*AGE, str(place / "study" / "cohort.csv"), *IDH, "-o", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it that a test may add to."""
    return Path(shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("training")))


def entries(folder, name="claim_2024"):
    return {e.item.number or e.item.topic: e for e in fill(read_checklist(name), read_run_files(folder))}


def written(folder, out):
    write_run_report(folder, out)
    return {file.name: file.read_text(encoding="utf-8") for file in out.iterdir()}


# --- shuffled labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cohort", ["study", "other"])
def test_shuffled_labels_are_said_before_all_else_and_a_simulated_cohort_stays_one(place, tmp_path, cohort):
    out = tmp_path / "b"
    words = ["bench", str(place / cohort / "cohort.csv"), *IDH, "--methods", "controls", "--folds", "2"]
    assert main([*words, "--shuffle-labels", "-o", str(out)]) == 0
    texts, card = written(out, tmp_path / "r"), entries(out, "model_card")
    assert f'<p class="notice" role="note">{SHUFFLED}' in texts["report.html"]
    for name in ("model_card.md", "claim-2024.md", "tripod-ai.md"):
        head = texts[name].partition("\n|")[0].partition("\n##")[0]
        assert f"> **{SHUFFLED}" in head
        assert (f"> **{SIMULATED}" in head) == (cohort == "study")
    for topic in ("Truth", "Verdict", "Cautions"):
        assert SHUFFLED in card[topic].answer
    assert card["Truth"].status == "open"
    assert (card["Data of persons"].status == "does not apply") == (cohort == "study")


def test_a_training_on_a_shuffled_table_says_so(place, tmp_path):
    words = ["bench", str(place / "study" / "cohort.csv"), *IDH, "--methods", "controls", "--folds", "2"]
    assert main([*words, "--shuffle-labels", "-o", str(tmp_path / "b")]) == 0
    table = tmp_path / "b" / "shuffled" / "cohort.csv"
    assert main([*AGE, str(table), *IDH, "-o", str(tmp_path / "run")]) == 0
    texts = written(tmp_path / "run", tmp_path / "r")
    assert SHUFFLED in texts["report.html"]
    assert SIMULATED in texts["report.html"]


# --- other cohorts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("some", [False, True])
def test_patients_held_out_are_no_external_data(place, run, some):
    table = place / "study" / "cohort.csv"
    if some:  # a table of the patients held out alone is another file
        held = json.loads((run / "splits.json").read_text())["folds"][0]["test"]
        rows = pd.read_csv(table, dtype=str, keep_default_na=False)
        table = place / "study" / "held.csv"
        rows[rows["case"].isin(held)].to_csv(table, index=False)
    assert main(["evaluate", str(run), str(table)]) == 0
    assert next(run.glob("evaluation-*/metrics.json"))
    assert entries(run)["33"].status == "open"
    assert "No other cohort was tested" in entries(run)["40"].answer
    assert entries(run, "tripod_ai")["16"].status == "answered"
    assert "Patients held out, asked again" in written(run, run / "r")["report.html"]


def test_another_cohort_is_named_and_opens_what_was_true_by_design(place, run):
    assert main(["evaluate", str(run), str(place / "other" / "cohort.csv")]) == 0
    (told,) = run.glob("evaluation-*/evaluation.json")
    sha = json.loads(told.read_text())["sha256"]
    claim, tripod = entries(run), entries(run, "tripod_ai")
    assert claim["33"].status == "answered"
    assert f"cohort.csv, SHA-256 {sha}: " in claim["33"].answer
    assert "No other cohort" not in claim["40"].answer
    assert tripod["16"].status == "open"
    assert sha in tripod["16"].answer
    assert tripod["12f"].status == tripod["24"].status == "does not apply"


def test_shares_of_another_place_are_an_updating(place, run):
    words = ["evaluate", str(run), str(place / "other" / "cohort.csv")]
    assert main([*words, "--prevalence", "wildtype=0.9", "mutant=0.1"]) == 0
    tripod = entries(run, "tripod_ai")
    for number in ("12f", "24"):
        assert tripod[number].status == "open"
        assert "replaced by wildtype 0.9, mutant 0.1" in tripod[number].answer
    assert "with class shares wildtype 0.9, mutant 0.1: " in entries(run)["33"].answer


def test_the_other_cohort_of_a_bench_is_named(place, tmp_path):
    words = ["bench", str(place / "study" / "cohort.csv"), *IDH, "--methods", "controls", "--folds", "2"]
    words += ["--external", str(place / "other" / "cohort.csv"), "-o", str(tmp_path / "b")]
    assert main(words) == 0
    told = json.loads((tmp_path / "b" / "elsewhere" / "evaluation.json").read_text())
    claim = entries(tmp_path / "b")["33"]
    assert claim.status == "answered"
    assert f"cohort.csv, SHA-256 {told['sha256']}: " in claim.answer
    assert (
        entries(tmp_path / "b", "model_card")["Data of persons"].status == "open"
    )  # the other is of patients
    head = written(tmp_path / "b", tmp_path / "r")["model_card.md"].partition("\n##")[0]
    assert SIMULATED in head
    assert "Of the cohorts tested too it is not known: cohort.csv" in head


def test_grades_of_one_edition_are_not_scored_by_the_other(place, tmp_path, capsys):
    first = place / "other" / "cohort.csv"
    words = [*AGE, str(first), "--target", "who_grade", "-o", str(tmp_path / "run")]
    assert main(words) == 0
    later = place / "other" / "later.csv"
    shutil.copy(first, later)

    def reissued(rows):
        for name in ("case", "patient"):
            rows[name] = "LATER-" + rows[name]

    edit(later, reissued)
    assert main(["evaluate", str(tmp_path / "run"), str(later)]) == 0
    edit(later, lambda rows: rows.__setitem__("label_scheme", "who2021"))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), str(later)]) == 4
    assert "who2016 and who2021 are never pooled" in capsys.readouterr().err


# --- folds and patients ----------------------------------------------------------------------------------------


def test_of_a_split_of_many_folds_a_training_tells_the_one_that_ran(place, tmp_path):
    table = place / "study" / "cohort.csv"
    rows = [row for row in read_cohort(table) if row.case != "SIM-0002"]  # her second exam was elsewhere
    write_split(tmp_path / "split.json", leave_one_site_out(rows, "idh"))
    words = [*AGE, str(table), *IDH, "--split", str(tmp_path / "split.json"), "-o", str(tmp_path / "run")]
    assert main(words) == 0
    claim, tripod = entries(tmp_path / "run"), entries(tmp_path / "run", "tripod_ai")
    assert tripod["12d"].status == "open"
    assert "each of" not in tripod["12d"].answer.lower()
    assert "Folds: 1 (" in claim["19"].answer
    assert "of 3 in the split the first alone was run" in claim["19"].answer
    assert "fold 2" not in tripod["21"].answer


@pytest.fixture(scope="module")
def held(place):
    """A bench on one fold of a stored split, which knows a case without a mask and does not know another."""
    table = place / "study" / "cohort.csv"
    rows = [row for row in read_cohort(table) if row.case != "SIM-0009"]
    write_split(place / "split.json", holdout(rows, "idh", test=0.4))
    words = ["bench", str(table), *IDH, "--methods", "controls", "--split", str(place / "split.json")]
    assert main([*words, "-o", str(place / "held")]) == 0
    return place / "held", {row.case: row for row in rows if row.mask is not None}


def test_those_used_are_counted_and_not_those_of_the_split(held):
    folder, usable = held
    (fold,) = json.loads((folder / "splits.json").read_text())["folds"]
    used = {side: [usable[c] for c in fold[side] if c in usable] for side in ("train", "test")}
    assert sum(map(len, used.values())) == 11 < len(fold["train"]) + len(fold["test"])
    claim, told = entries(folder), entries(folder, "tripod_ai")["21"].answer
    assert f"({len(used['train'])} to learn from, {len(used['test'])} tested cases)" in claim["19"].answer
    assert "Usable cases in no fold of the split: 1." in claim["35"].answer
    for side, words in (("train", "to learn from"), ("test", "tested")):
        people = {row.patient: row.targets["idh"] for row in used[side]}
        counts = ", ".join(f"{list(people.values()).count(c)} {c}" for c in ("wildtype", "mutant"))
        more = f" with {len(used[side])} cases" if len(used[side]) > len(people) else ""
        assert f"{len(people)} patients ({counts}){more} {words}" in told
    assert "with" in told  # someone has two exams


def test_one_fold_is_no_cross_validation(held):
    folder, _ = held
    claim = entries(folder)
    assert "cross-validated" not in claim["4"].answer
    assert "widened" not in claim["29"].answer


def test_those_who_taught_something_else_are_no_mere_left_outs(place, tmp_path, monkeypatch):
    """A method that can learn from the case without IDH status, and cannot read the one without a mask."""
    monkeypatch.setattr(shape_resnet, "learns_from", lambda row, config: True, raising=False)
    words = ["train", "shape-resnet", str(place / "study" / "cohort.csv"), *IDH, "-o", str(tmp_path / "run")]
    assert main([*words, "--scale", "demo", "--epochs", "1", "--slices", "1", "--no-choose-epochs"]) == 0
    claim, tripod = entries(tmp_path / "run"), entries(tmp_path / "run", "tripod_ai")
    for told in (claim["35"], claim["12"], tripod["20a"]):
        assert "Cases left out: 2 (" in told.answer
        assert "Of these 1 taught an outline or another target." in told.answer
    assert "Others were learnt from" in claim["8"].answer
    assert "1 of the cases left out, of no patient tested" in claim["26"].answer
    assert "to learn from (and 1 of those left out, for something else), " in tripod["21"].answer


# --- what the method was ---------------------------------------------------------------------------------------

STARTS = {
    "controls": "no setting names weights to start from",
    "mts-unet": "random",
    "shape-resnet": "random",
    "segmentation-fusion": "the 3-D U-Net built-in, the other networks random",
    "spatio-spatial": "random",
    "volume-embedding": "encoder built-in, frozen (ours, trained on simulated slices; lies in the package); "
    "what reads its vectors is fitted anew",
}


def begun(method, **settings):
    config = asdict(find_method(method).Config.preset("sound")) | settings
    about = {"settings": {"method": method, "config": config, "seed": 0}}
    return start(RunFiles(Path("run"), "run.json", {"run.json": about})).partition(": ")[2]


@pytest.mark.parametrize("method", METHODS)
def test_what_the_parameters_start_from_is_told_of_every_method(method):
    assert begun(method).endswith(f"{STARTS[method]}.")


def test_weights_that_were_named_are_told_without_their_folder():
    assert begun("mts-unet", weights="/home/jane/swin.pt") == "weights swin.pt, random what they do not hold."
    assert begun("segmentation-fusion", start="random") == "random."
    told = begun("volume-embedding", encoder="swin-unetr:tiny", weights="/home/jane/swin.pt")
    assert told.startswith("encoder swin-unetr:tiny, weights swin.pt, frozen (")
    assert "random weights: a control" in begun("volume-embedding", encoder="random")


# --- empty tables ----------------------------------------------------------------------------------------------


def test_a_table_without_a_part_of_the_patients_is_none(held, tmp_path):
    folder = Path(shutil.copytree(held[0], tmp_path / "b"))
    write_rows(folder / "subgroups.csv", [])
    write_run_report(folder)
    assert entries(folder, "model_card")["Groups of patients"].status == "open"
