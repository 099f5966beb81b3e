"""`gliolens report`: what a run's files know, no more, and what they do not know left open."""

import copy
import csv
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError, LeakError, ModelError
from gliolens.labels import NOTICE
from gliolens.report.run.answerers import ANSWERERS
from gliolens.report.run.checklist import COLUMNS, STATUSES, fill, read_checklist
from gliolens.report.run.files import NotKnownError, RunFiles, read_run_files
from gliolens.report.run.page import write_run_report
from gliolens.stats.classification import SCORE_TITLES

QUICK = ["--scale", "demo", "--epochs", "1", "--slices", "1", "--no-choose-epochs"]
NAMES = ("claim_2024", "tripod_ai", "model_card")
WRITTEN = {
    "report.html",
    "model_card.md",
    *(f"{n}.{kind}" for n in ("claim-2024", "tripod-ai") for kind in ("csv", "md")),
}
_PARTS = {
    3: "abc",
    5: "ab",
    6: "abc",
    8: "abc",
    9: "abc",
    12: "abcdefg",
    18: "abcdef",
    20: "abc",
    23: "ab",
    27: "abc",
}
TRIPOD_NUMBERS = [f"{n}{part}" for n in range(1, 28) for part in _PARTS.get(n, ("",))]
"""As published: 27 items, 52 with their parts."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Of 14 cases, the last without a grade: `run`, a network's, tested elsewhere too; and `bench`, of two folds."""
    folder = tmp_path_factory.mktemp("report")
    table = write_phantom(folder / "study", 14, seed=3, config=PhantomConfig(spacing_mm=6.0))
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    rows.loc[13, "grade"] = ""
    rows.to_csv(table, index=False)
    run, bench = str(folder / "run"), str(folder / "bench")
    assert main(["train", "shape-resnet", str(table), "--target", "grade", "-o", run, *QUICK]) == 0
    assert main(["evaluate", run, str(renamed(folder))]) == 0
    words = ["bench", str(table), "--target", "idh", "--methods", "controls", "--folds", "2", "-o", bench]
    assert main(words) == 0
    return folder


def renamed(folder):
    """Six other cases under names of their own, without what tells that they are simulated."""
    table = write_phantom(folder / "other", 6, seed=8, config=PhantomConfig(spacing_mm=6.0))
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    for name in ("case", "patient"):
        rows[name] = "OTHER-" + rows[name]
    rows.to_csv(table, index=False)
    for file in ("truth.csv", "truth.json"):
        (table.parent / file).unlink()
    return table


@pytest.fixture
def run(place, tmp_path):
    """A copy of the run that a test may spoil."""
    return Path(
        shutil.copytree(place / "run", tmp_path / "run", ignore=shutil.ignore_patterns("cache", "training"))
    )


def entries(folder, name="claim_2024"):
    return {e.item.number: e for e in fill(read_checklist(name), read_run_files(folder))}


def change(file, change):
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


# --- the lists -------------------------------------------------------------------------------------------------


def test_every_published_item_stands_there_once():
    assert [i.number for i in read_checklist("claim_2024").items] == [str(n) for n in range(1, 45)]
    assert [i.number for i in read_checklist("tripod_ai").items] == TRIPOD_NUMBERS
    assert len(TRIPOD_NUMBERS) == 52


@pytest.mark.parametrize("name", NAMES)
def test_every_item_is_whole(name):
    items = read_checklist(name).items
    assert len({(i.number, i.section, i.topic) for i in items}) == len(items)
    for item in items:
        assert "" not in (item.section, item.topic, item.asks, item.to_write)
        assert set(item.told_by) <= set(ANSWERERS)
        assert set(item.told_by.values()) <= set(STATUSES)


def test_every_answerer_is_asked():
    assert {key for name in NAMES for item in read_checklist(name).items for key in item.told_by} == set(
        ANSWERERS
    )


def test_the_card_has_the_sections_of_its_source():
    sections = list(dict.fromkeys(i.section for i in read_checklist("model_card").items))
    assert sections == [
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip


# --- nothing is known that the files do not tell ---------------------------------------------------------------


def without(files, place):
    """The files, less what lies at a place: a file, a key, or a column."""
    contents = copy.deepcopy(dict(files.contents))
    held = contents
    for key in place[:-1]:
        held = held[key]
    del held[place[-1]]
    return RunFiles(files.folder, files.name, contents)


@pytest.mark.parametrize("kind", ["run", "bench"])
def test_an_answer_is_gone_with_anything_it_rests_on(place, kind):
    files, rests = read_run_files(place / kind), 0
    for tell in ANSWERERS.values():
        asked = files.afresh()
        try:
            assert tell(asked)
        except NotKnownError:
            continue
        for at in set(asked.asked):
            rests += 1
            with pytest.raises(NotKnownError):  # else it tells what nothing says
                tell(without(files, at))
    assert rests > 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["metrics.json", "splits.json", "predictions.csv", "fidelity.json"])
def test_what_rests_on_a_file_is_open_without_it(run, name, file):
    before = fill(read_checklist(name), read_run_files(run))
    (run / file).unlink()
    after = fill(read_checklist(name), read_run_files(run))
    lost = [k for k, e in enumerate(before) if file in e.sources]
    assert lost or file == "fidelity.json"
    for k in lost:
        assert file not in after[k].sources
        assert after[k].status == "open" or len(after[k].item.told_by) > 1
        assert after[k].answer != before[k].answer


def test_what_no_run_knows_is_open_with_what_to_write(run):
    change(run / "metrics.json", lambda content: content.pop("ceilings"))  # as of real patients
    claim, tripod = entries(run), entries(run, "tripod_ai")
    asked = [claim[n] for n in ("3", "5", "11", "13", "16", "34", "44")]
    for e in [*asked, *(tripod[n] for n in ("5b", "6c", "8b", "8c", "17", "18a", "18b", "18d", "19"))]:
        assert (e.status, e.answer) == ("open", "")
        assert e.to_write
    assert all(e.status != "does not apply" for n, e in {**claim, **tripod}.items() if n not in ("12f", "24"))


def test_a_simulated_cohort_is_said_loudly_and_a_real_one_is_not_called_so(run, tmp_path):
    loud = "SIMULATED COHORT"
    write_run_report(run, tmp_path / "simulated")
    page = (tmp_path / "simulated" / "report.html").read_text()
    assert re.search(rf'<p class="notice" role="note">{loud}', page)
    assert f"> **{loud}" in (tmp_path / "simulated" / "model_card.md").read_text()
    assert loud in (tmp_path / "simulated" / "claim-2024.csv").read_text()
    change(run / "metrics.json", lambda content: content.pop("ceilings"))
    write_run_report(run, tmp_path / "real")
    assert not any("simulated" in f.read_text().lower() for f in (tmp_path / "real").iterdir())


# --- what is told is what the files hold -----------------------------------------------------------------------


def scored(row, name):
    if row[name] is None:
        return f"not known: {row[f'{name}_reason']}"
    if row[f"{name}_low"] is None:
        return f"{row[name]:.2f} (no interval: {row[f'{name}_reason']})"
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


@pytest.mark.parametrize("kind", ["run", "bench"])
def test_the_tables_of_scores_are_those_of_the_files(place, kind, tmp_path):
    write_run_report(place / kind, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for file in [place / kind / "metrics.json", *(place / kind).glob("evaluation-*/metrics.json")]:
        told = json.loads(file.read_text())
        for row in [*told["scores"], *told.get("ceilings", [])]:
            cells = [row["method"], str(row["n"]), *(scored(row, s) for s in SCORE_TITLES if s in SHOWN)]
            marked = (
                f' class="{"control" if row["control"] else "ceiling"}"'
                if row["control"] or row["ceiling"]
                else ""
            )
            line = "".join(f"<td{'' if k == 0 else NUMBER}>{c}</td>" for k, c in enumerate(cells))
            assert f"<tr{marked}>{line}</tr>" in page


SHOWN = ("auc", "balanced_accuracy", "sensitivity", "specificity", "brier")
NUMBER = ' class="number"'


@pytest.mark.parametrize("kind", ["run", "bench"])
def test_every_score_in_an_answer_is_in_the_files(place, kind):
    files = [place / kind / "metrics.json", *(place / kind).glob("evaluation-*/metrics.json")]
    rows = [
        r
        for f in files
        for part in json.loads(f.read_text()).values()
        if isinstance(part, list)
        for r in part
    ]
    held = {f"{v:.2f}" for row in rows for v in row.values() if isinstance(v, float)}
    for number in ("30", "32", "33", "37", "38"):
        told = entries(place / kind)[number].answer
        assert set(re.findall(r"\b\d\.\d\d\b", told)) <= held
        assert told or (number, kind) == ("33", "bench")


def test_counts_are_those_of_the_files(place):
    about, split = (json.loads((place / "run" / f).read_text()) for f in ("run.json", "splits.json"))
    table = pd.read_csv(place / "run" / "predictions.csv")
    mine = table[table["method"] == "shape-resnet"]
    claim = entries(place / "run")
    (fold,) = split["folds"]
    assert f"{len(fold['train'])} to learn from, {len(fold['test'])} tested" in claim["19"].answer
    assert split["hash"] in claim["19"].answer
    assert f"of {mine['patient'].nunique()} patients tested none" in claim["20"].answer
    learnt = ", ".join(f"{about['train_labels'].count(c)} {c}" for c in ("LGG", "HGG"))
    tested = ", ".join(f"{(mine['truth'] == c).sum()} {c}" for c in ("LGG", "HGG"))
    assert f"{len(about['train_patients'])} patients ({learnt}) to learn from" in claim["36"].answer
    assert f"were tested: {tested}." in claim["35"].answer
    wrong = (mine["truth"] != mine["decision"]).sum()
    assert f"shape-resnet: {wrong} of {len(mine)} wrong" in claim["39"].answer
    for name, version in about["software"].items():
        assert f"{name} {version}" in claim["23"].answer
    for name in ("epochs", "slices", "batch"):
        assert f"{name} {about['settings']['config'][name]}," in claim["25"].answer


def test_folds_are_counted_by_class(place):
    split = json.loads((place / "bench" / "splits.json").read_text())
    table = pd.read_csv(place / "bench" / "predictions.csv")
    truth = dict(zip(table["case"], table["truth"], strict=True))
    told = entries(place / "bench", "tripod_ai")["21"].answer
    for k, fold in enumerate(split["folds"], 1):
        parts = [
            ", ".join(
                f"{sum(truth[c] == label for c in fold[side])} {label}" for label in ("wildtype", "mutant")
            )
            for side in ("train", "test")
        ]
        train, test = (f"{len(fold[side])} patients ({of})" for side, of in zip(fold, parts, strict=True))
        assert f"fold {k}: {train} to learn from, {test} tested" in told


def test_who_was_left_out_is_counted(place):
    told = entries(place / "run")["35"]
    assert told.status == "answered"
    assert "Cases left out: 1 (1 grade unknown). Cases refused: 0." in told.answer


def test_refusals_are_counted_by_reason_and_name_nobody(run, tmp_path):
    text = "case 'P-7'\n  file:     /x/P-7_t1.nii.gz\n  found:    P-7 is crooked\n  expected: one grid\n  to mend:  do"
    (run / "failures.json").write_text(json.dumps({"P-7": text, "P-8": text.replace("P-7", "P-8")}))
    told = entries(run)["35"]
    assert "Cases refused: 2 (2 not one grid)." in told.answer
    assert "failures.json" in told.sources
    write_run_report(run, tmp_path / "r")
    assert not any("P-7" in f.read_text() for f in (tmp_path / "r").iterdir())


@pytest.mark.parametrize("kind", ["run", "bench"])
def test_no_patient_is_named(place, kind, tmp_path):
    write_run_report(place / kind, tmp_path)
    table = pd.read_csv(place / kind / "predictions.csv", dtype=str)
    for name in {*table["case"], *table["patient"]}:
        assert not any(name in f.read_text(encoding="utf-8") for f in tmp_path.iterdir())


def test_weights_are_told_without_the_folder_they_lay_in(run):
    change(run / "run.json", lambda c: c["settings"]["config"].update(weights="/home/jane.doe/net.pt"))
    told = entries(run)["25"].answer
    assert "weights net.pt" in told
    assert "jane" not in told


def test_another_cohort_answers_what_asks_for_external_data(place, run):
    (file,) = (place / "run").glob("evaluation-*/metrics.json")
    mine = json.loads(file.read_text())["scores"][0]
    told = entries(run)["33"]
    assert told.status == "answered"
    assert f"(n = 6): AUC {scored(mine, 'auc')}" in told.answer
    shutil.rmtree(run / file.parent.name)
    assert entries(run)["33"].status == "open"


def test_the_verdict_is_told_against_the_best_control(run):
    def better(content):
        for row in content["scores"]:
            row |= {"auc": 0.6, "auc_low": 0.5, "auc_high": 0.7} if row["control"] else {
                "auc": 0.9, "auc_low": 0.8, "auc_high": 0.95
            }  # fmt: skip

    change(run / "metrics.json", better)
    assert "than every control" in entries(run, "tripod_ai")["25"].answer
    change(run / "metrics.json", lambda c: c["scores"][1].update(auc=0.94, auc_low=0.9, auc_high=0.97))
    assert "no better than the control “age and sex”" in entries(run, "tripod_ai")["25"].answer


def test_outlines_that_were_drawn_are_scored_on_the_card(run, tmp_path):
    told = {"dice": 0.8125, "iou": 0.7, "hd95_mm": 4.5, "lesionwise_dice": None}
    row = {"method": "drawer", "region": "whole", "n": 4, "lesionwise_dice_reason": "no case holds it"}
    row |= (
        told
        | {f"{k}_low": v and v / 2 for k, v in told.items()}
        | {f"{k}_high": v and 2 * v for k, v in told.items()}
    )
    (run / "outlines.json").write_text(json.dumps({"about": "", "means": [row]}))
    write_run_report(run, tmp_path / "r")
    line = "| drawer | whole tumour | 4 | 0.81 (0.41 to 1.62) | 0.70 (0.35 to 1.40) | 4.50 (2.25 to 9.00) | not known:"
    assert line in (tmp_path / "r" / "model_card.md").read_text()


def test_departures_are_those_of_the_run(place, tmp_path):
    write_run_report(place / "run", tmp_path)
    told = json.loads((place / "run" / "fidelity.json").read_text())
    card = (tmp_path / "model_card.md").read_text()
    for item in told["items"]:
        assert f"| *{item['item']}*" in card or f"| {item['item']} |" in card


def test_settings_of_the_run_are_told_where_the_words_are_those_of_a_preset(run, tmp_path):
    """It ran one epoch: what the list of the preset says may not be what was done."""
    own = "Except as set: slices 1, epochs 1, choose_epochs no."
    tripod = entries(run, "tripod_ai")["12b"]
    assert tripod.status == "open"
    assert own in tripod.answer
    assert own in entries(run)["9"].answer
    write_run_report(run, tmp_path / "r")
    assert (tmp_path / "r" / "model_card.md").read_text().count(own) == 2  # in words, and below the list
    assert own in (tmp_path / "r" / "report.html").read_text()
    change(run / "fidelity.json", lambda c: c.update(changed={"series": c["changed"]["epochs"]}))
    assert entries(run, "tripod_ai")["12b"].status == "answered"
    assert "Except" not in entries(run)["9"].answer


# --- refusals --------------------------------------------------------------------------------------------------


def test_a_patient_on_both_sides_is_refused(run):
    someone = json.loads((run / "run.json").read_text())["train_patients"][0]
    table = pd.read_csv(run / "predictions.csv", dtype=str, keep_default_na=False)
    table.loc[table["case"] == table["case"][0], "patient"] = someone
    table.to_csv(run / "predictions.csv", index=False)
    with pytest.raises(LeakError, match="both sides"):
        write_run_report(run)
    assert not (run / "report").exists()


@pytest.mark.parametrize("content", [None, {}, {"scores": []}])
def test_a_folder_that_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="no finished run here"):
        write_run_report(tmp_path)


def test_what_the_authors_filled_in_is_not_replaced(run):
    done = write_run_report(run)
    table = done.folder / "claim-2024.csv"
    write_run_report(run)  # the same again is no harm
    table.write_text(table.read_text() + "our own words\n")
    page = (done.folder / "report.html").read_bytes()
    with pytest.raises(ConfigError, match="not replaced"):
        write_run_report(run)
    assert table.read_text().endswith("our own words\n")
    assert (done.folder / "report.html").read_bytes() == page


# --- the command line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["run", "bench"])
def test_the_command_writes_every_file(place, kind, tmp_path, capsys):
    assert main(["report", str(place / kind), "-o", str(tmp_path / "r")]) == 0
    shown = capsys.readouterr().out
    assert {f.name for f in (tmp_path / "r").iterdir()} == WRITTEN
    assert str(tmp_path / "r" / "report.html") in shown
    assert NOTICE in shown
    for name, number in (("claim-2024", 44), ("tripod-ai", 52)):
        with (tmp_path / "r" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert tuple(rows[0]) == COLUMNS
        assert len({row["item"] for row in rows}) == len(rows) == number
        for row in rows:
            assert row["status"] in STATUSES
            assert bool(row["to write"]) == (row["status"] == "open")
            assert bool(row["answer"]) or row["status"] == "open"
        told = [f"{sum(row['status'] == s for row in rows)} {s}" for s in STATUSES]
        assert f"{number} items: {', '.join(told)}" in shown


def test_the_command_says_as_json_what_is_open(run, capsys):
    assert main(["report", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(run / "report")
    assert sum(told["claim-2024"].values()) == 44
    assert sum(told["tripod-ai"].values()) == 52


def test_the_command_refuses_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "neither run.json nor bench.json" in said
    assert "gliolens train" in said
    assert list(tmp_path.iterdir()) == []


def test_the_page_holds_every_item_and_every_link_leads_somewhere(place, tmp_path):
    write_run_report(place / "run", tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {f"claim-2024-{n}" for n in range(1, 45)} | {f"tripod-ai-{n}" for n in TRIPOD_NUMBERS} <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) == {"model-card", "claim-2024", "tripod-ai"}
    assert "<script" not in page
    assert page.count(NOTICE) >= 2


@pytest.mark.parametrize("name", ["model_card.md", "claim-2024.md", "tripod-ai.md"])
def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(place, name, tmp_path):
    write_run_report(place / "run", tmp_path)
    text = (tmp_path / name).read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert NOTICE in text


def test_parts_of_the_patients_are_told_with_their_numbers_and_controls_left_out():
    table = pd.DataFrame({
        "method": ["net", "net", "site"], "control": [False, False, True], "by": "sex", "part": ["F", "M", "F"],
        "n": [21, 2, 21], "auc": [0.71, 0.5, 0.9], "auc_low": [0.6, None, 0.8], "auc_high": [0.8, None, 1.0],
    })  # fmt: skip
    told = ANSWERERS["groups"](RunFiles(Path("run"), "bench.json", {"subgroups.csv": table}))
    assert "net: sex F (n = 21) 0.71 (0.60 to 0.80)." in told
    assert "0.9" not in told
    with pytest.raises(NotKnownError):
        ANSWERERS["groups"](RunFiles(Path("run"), "bench.json", {"subgroups.csv": table.iloc[1:]}))
