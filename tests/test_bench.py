"""`gliolens bench`: one method under several names."""

import json

import pytest

import gliolens.bench as bench_module
from gliolens.bench import bench
from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.cohorts.splits import kfold, write_split
from gliolens.errors import CohortError, ConfigError
from gliolens.io.tables import read_cohort
from gliolens.outline_scores import TITLES
from gliolens.stats.intervals import Interval

QUICK = ("epochs=1", "slices=1", "choose_epochs=false")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("p"), 12, seed=4, config=PhantomConfig(spacing_mm=6.0))


def test_one_method_with_two_settings_makes_two_rows(cohort, tmp_path, capsys):
    names = ("with-shape", "image-alone")
    sets = [f"{name}.{words}" for name in names for words in QUICK]
    words = [
        "bench", str(cohort), "--target", "grade", "-o", str(tmp_path / "b"), "--scale", "demo", "--folds", "2",
        "--methods", *(f"{name}=shape-resnet" for name in names),
        "--set", *sets, "image-alone.join=none", 'image-alone.series=["t1","flair"]',
    ]  # fmt: skip
    assert main(words) == 0
    capsys.readouterr()
    rows = json.loads((tmp_path / "b" / "metrics.json").read_text())["scores"]
    assert [row["method"] for row in rows if not row["control"]] == list(names)
    assert len({row["brier"] for row in rows[:2]}) == 2
    settings = json.loads((tmp_path / "b" / "bench.json").read_text())["settings"]["methods"]
    assert settings["image-alone"]["join"] == "none"
    assert settings["image-alone"]["series"] == ["t1", "flair"]
    assert settings["with-shape"]["series"] == ["t1", "t1ce", "t2", "flair"]
    assert "image-alone: shape-resnet with join none" in (tmp_path / "b" / "bench.html").read_text()
    for name in names:
        told = json.loads((tmp_path / "b" / name / "fidelity.json").read_text())
        assert told["method"] == "shape-resnet"


def test_a_split_that_tests_a_case_twice_is_refused_before_anything_is_trained(cohort, tmp_path, monkeypatch):
    split = tmp_path / "split.json"
    write_split(split, kfold(read_cohort(cohort), "grade", folds=2, repeats=2))
    monkeypatch.setattr(bench_module, "compete", lambda *_: pytest.fail("trained"))
    with pytest.raises(CohortError, match="more than once"):
        bench(cohort, tmp_path / "b", target="grade", methods=("controls",), split=split)


def test_a_second_bench_in_a_folder_leaves_nothing_of_what_only_the_first_told(cohort, tmp_path):
    out = tmp_path / "b"
    first = {"target": "grade", "methods": ("controls",), "folds": 2}
    bench(cohort, out, **first)
    stale = [out / name for name in ("drop.csv", "coverage.csv", "outlines.csv", "elsewhere/results.csv")]
    (out / "elsewhere").mkdir()
    for file in stale:
        file.write_text("of another bench")
    bench(cohort, out, **first)
    assert not [file for file in stale if file.exists()]
    assert (out / "results.csv").is_file()


@pytest.mark.parametrize(
    ("methods", "settings", "words"),
    [
        (("shape-resnet", "shape-resnet"), {}, "asked for twice"),
        (("a/b=shape-resnet",), {}, "cannot name a row"),
        (("a=resnet",), {}, "no method is called"),
        (("site=shape-resnet",), {}, "cannot name a row"),
        (("cache=shape-resnet",), {}, "cannot name a row"),
        (("a=shape-resnet",), {"shape-resnet": {"epochs": 1}}, "not among a"),
        (("a=shape-resnet",), {"a": {"series": ["t1", "dwi"]}}, "a asks for dwi"),
    ],
)
def test_names_that_mean_nothing_are_refused(cohort, tmp_path, methods, settings, words):
    with pytest.raises(ConfigError, match=words):
        bench(cohort, tmp_path / "b", target="grade", methods=methods, settings=settings)


def test_the_page_shows_how_well_outlines_match(cohort, tmp_path, monkeypatch):
    """Of a method that draws: here the controls answer, and outlines are put beside them."""
    dice, far = Interval(0.71, 0.6, 0.8), Interval(152.6, 110.65, 195.87)
    means = [{"method": "net", "region": "whole", "n": 12, **dict.fromkeys(TITLES, dice), "hd95_mm": far}]
    monkeypatch.setattr(bench_module, "write_outlines", lambda *_, **__: means)
    bench(cohort, tmp_path / "b", target="grade", methods=("controls",), folds=2)
    page = (tmp_path / "b" / "bench.html").read_text()
    assert page.count("0.71 (0.60 to 0.80)") == len(TITLES) - 1
    assert "153 (111 to 196)" in page  # whole millimetres
    for word in ("Outlines", "whole tumour", *TITLES.values()):
        assert word in page
