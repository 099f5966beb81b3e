"""`gliolens reproduce all`: what each paper is known for, on one page."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CohortError, ConfigError
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.papers import summary
from gliolens.papers.headline import Headline, interval_of, row_of
from gliolens.papers.kept import Reproduced
from gliolens.registry import PAPERS
from gliolens.stats.intervals import Interval, unknown

SOUND = Interval(0.7, 0.6, 0.8)
LINE = Headline("AUC", 0.95, 0.85, SOUND, Interval(0.5, 0.4, 0.55), "how", 0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "The published 0.95 lies above the interval found soundly here; it does better than age alone; the "
             "paper's own way scores 0.15 more."),
        ({"published": 0.75}, "lies within"),
        ({"published": 0.55}, "lies below"),
        ({"published": None}, "Nothing comparable was published;"),
        ({"age": Interval(0.65, 0.5, 0.75)}, "it cannot be told from age alone"),
        ({"age": Interval(0.9, 0.85, 0.95)}, "age alone does better"),
        ({"soundly": Interval(0.6, 0.45, 0.8)}, "soundly it cannot be told from chance here"),
        ({"here": Interval(0.65, 0.5, 0.75)}, "the paper's own way scores 0.05 less"),
        ({"here": Interval(0.703, 0.5, 0.75)}, "the paper's own way scores the same"),
        ({"more": "The third class is free."}, "more. The third class is free."),
        ({"soundly": "—, not trained"}, "No verdict: not trained."),
        ({"soundly": unknown("one patient", 0.5)}, "No verdict: 0.50 (no interval: one patient)."),
    ],
)  # fmt: skip
def test_a_verdict_follows_from_the_numbers(changes, said):
    assert said in replace(LINE, **changes).verdict


@pytest.mark.parametrize(
    "changes", [{"chance": None}, {"age": "—, age outlines nothing"}, {"here": "—, not run"}]
)
def test_a_verdict_says_nothing_of_what_is_not_known(changes):
    verdict = replace(LINE, soundly=Interval(0.5, 0.4, 0.6), **changes).verdict
    told = {"chance": "chance", "age": "age alone", "here": "own way"}
    assert [word for word in told.values() if word not in verdict] == [told[name] for name in changes]


def test_a_score_without_value_or_bounds_is_read_back_as_such():
    assert interval_of({"value": 0.7, "low": 0.6, "high": 0.8, "reason": ""}) == SOUND
    assert interval_of({"value": 0.7, "low": 0.6, "high": 0.8}) == SOUND
    found = interval_of({"value": 0.7, "low": None, "high": None, "reason": "few"})
    assert math.isnan(found.low)
    assert found.reason == "few"
    assert interval_of({"value": None, "low": None, "high": None, "reason": "no cases"}) == "—, no cases"
    assert interval_of(None) == "—, not in the results"
    assert row_of([{"a": "x", "b": 1}], "a", "x") == {"a": "x", "b": 1}
    assert row_of([], "a", "x") == {}


def test_the_table_is_of_numbers_and_why_one_is_lacking_stands_below():
    line = replace(
        LINE,
        here=unknown("one patient", 0.5),
        soundly=unknown("no case"),
        age="\N{EM DASH}, age outlines nothing",
    )
    section = summary._table_section({"li2025": [line]}, {}, [])
    assert section.rows[0][2:] == ["0.50, no interval", "\N{EM DASH}", "\N{EM DASH}"]
    why = list(summary._lacking(summary._row("li2025", line)))
    assert [one.rpartition(": ")[2] for one in why] == ["one patient.", "no case.", "age outlines nothing."]
    assert list(summary._lacking(summary._row("li2025", LINE))) == []


def test_settings_are_of_one_paper_each():
    each = summary._settings_of_each({"li2025.encoder": "histogram", "zeng2024.epochs": 2, "offline": True})
    assert list(each) == list(PAPERS)
    assert each["li2025"] == {"encoder": "histogram", "offline": True}
    assert each["zeng2024"] == {"epochs": 2, "offline": True}
    assert each["janardhan2025"] == {}  # its networks never start from weights of others
    for name in ("encoder", "li2024.encoder", "li2025."):
        with pytest.raises(ConfigError, match=r"PAPER\.NAME"):
            summary._settings_of_each({name: 1})


@pytest.mark.parametrize("paper", [*PAPERS, "all"])
def test_every_paper_may_be_asked_to_stay_offline(paper, tmp_path, monkeypatch):
    """Whoever fetches nothing has no such setting, and is not given one."""
    asked: dict[str, object] = {}

    def reproduce(cohort, out, *, settings, **_):
        asked.update(settings)
        return Reproduced(out, {}, {})

    monkeypatch.setattr(f"{summary.__name__ if paper == 'all' else PAPERS[paper]}.reproduce", reproduce)
    assert main(["reproduce", paper, str(tmp_path / "cohort.csv"), "-o", str(tmp_path), "--offline"]) == 0
    offline = paper in ("all", "chatterjee2022", "li2025", "zeng2024")
    assert asked == ({"offline": True} if offline else {})


QUICK = (
    "li2025.encoder=histogram", "li2025.hidden=0", "janardhan2025.edge=32", "janardhan2025.voxel_mm=6.0",
    "janardhan2025.widths_2d=[8,16]", "janardhan2025.widths_3d=[8,16]", "janardhan2025.epochs_2d=1",
    "janardhan2025.epochs_3d=1", "janardhan2025.epochs_slices=1", "janardhan2025.slices=6",
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three grades, of which Zeng's two-class networks can tell nothing."""
    folder = tmp_path_factory.mktemp("p")
    rows = read_cohort(write_phantom(folder, 20, seed=2, config=PhantomConfig(spacing_mm=6.0)))
    write_cohort(
        folder / "graded" / "cohort.csv",
        [
            replace(r, targets={"who_grade": str(2 + i % 3)}, label_scheme="who2021")
            for i, r in enumerate(rows)
        ],
    )
    return (
        folder / "graded" / "cohort.csv"
    )  # away from the truth beside the other table, which has no such grades


@pytest.fixture(scope="module")
def three():
    """The cheap papers, and one that the cohort does not allow."""
    return {paper: PAPERS[paper] for paper in ("janardhan2025", "li2025", "zeng2024")}


@pytest.fixture(scope="module")
def done(cohort, three, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "all"
    words = ["reproduce", "all", str(cohort), "-o", str(out), "--target", "who_grade", "--scale", "demo"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "PAPERS", three)
        assert main([*words, "--set", *QUICK]) == 3
    return out


def test_every_paper_has_its_lines_and_who_cannot_run_says_why(done):
    told = json.loads((done / "results.json").read_text(encoding="utf-8"))
    assert [line["paper"] for line in told["headlines"]] == ["janardhan2025", "janardhan2025", "li2025"]
    assert "the paper tells two" in told["not_run"]["zeng2024"]
    accuracy, iou, li = told["headlines"]
    assert (accuracy["published"], iou["published"]) == (0.9925, 0.8449)
    assert li["published"] is None  # of grades of another kind
    table = pd.read_csv(done / "results.csv")
    assert table["paper"].tolist() == ["janardhan2025", "janardhan2025", "li2025", "zeng2024"]
    assert table["soundly"].iloc[0] == pytest.approx(accuracy["soundly"]["value"])
    assert table["verdict"].iloc[-1].startswith("not run: who_grade")
    page = (done / "report.html").read_text(encoding="utf-8")
    for words in ("0.9925", "Zeng et al. 2024: not run", "Verdicts", "age names no slice", "What was mended"):
        assert words in page


def test_the_lines_are_what_the_papers_own_folders_hold(done):
    lines = json.loads((done / "results.json").read_text(encoding="utf-8"))["headlines"]
    own = {p: json.loads((done / p / "results.json").read_text()) for p in ("janardhan2025", "li2025")}
    by_patient, by_slice = own["janardhan2025"]["leak"]
    assert lines[0]["soundly"]["value"] == by_patient["accuracy"]["value"]
    assert lines[0]["here"]["value"] == by_slice["accuracy"]["value"]
    whole = {
        r["outline"]: r["iou"]["value"] for r in own["janardhan2025"]["outlines"] if r["region"] == "whole"
    }
    assert lines[1]["here"]["value"] == whole["fused, a = 0.6"]
    assert lines[1]["soundly"]["value"] == next(v for k, v in whole.items() if "chosen" in k)
    assert lines[2]["here"] == own["li2025"]["best"]["accuracy"]
    assert lines[2]["soundly"] == own["li2025"]["nested_accuracy"]
    answers = pd.read_csv(done / "li2025" / "nested" / "predictions.csv", dtype={"truth": str})
    age = answers[answers["method"] == "age and sex"]
    likeliest = age[["p_2", "p_3", "p_4"]].to_numpy().argmax(axis=1) + 2
    assert lines[2]["age"]["value"] == pytest.approx((likeliest == age["truth"].astype(int)).mean())
    assert lines[2]["age"]["low"] < lines[2]["age"]["value"] < lines[2]["age"]["high"]


def test_a_second_run_trains_nothing_and_other_settings_are_refused(done, cohort, three, monkeypatch):
    monkeypatch.setattr(summary, "PAPERS", three)
    monkeypatch.setattr("gliolens.segmenter.train", None)
    monkeypatch.setattr("gliolens.slice_namer.train", None)
    before = json.loads((done / "results.json").read_text())["headlines"]
    words = ["reproduce", "all", str(cohort), "-o", str(done), "--target", "who_grade", "--scale", "demo"]
    assert main([*words, "--set", *QUICK]) == 3
    assert json.loads((done / "results.json").read_text())["headlines"] == before
    assert main([*words, "--set", *QUICK, "--seed", "1"]) == 2


def test_a_cohort_that_cannot_be_read_stops_it_all(tmp_path):
    (tmp_path / "cohort.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CohortError):
        summary.reproduce(tmp_path / "cohort.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
