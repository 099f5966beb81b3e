"""`gliolens demo` and `cohort phantom`: which cohort is used again, and what is said of its ceiling."""

import json
import shutil
from pathlib import Path

import pytest

from gliolens import demo
from gliolens.cli import main
from gliolens.cohorts.phantom.ceiling import expected_ceilings
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CohortError


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "cohort"
    write_phantom(folder, 2, seed=0, config=demo.CONFIG)
    return folder


class AnewError(Exception):
    """Raised instead of simulating."""


@pytest.fixture
def asked(simulated, tmp_path, monkeypatch):
    """Ask the demo for a cohort of a folder; it raises AnewError where it would simulate one."""

    def refuse(*_, **__) -> Path:
        raise AnewError

    def asked(n=2, seed=0, spoil=None) -> Path:
        folder = tmp_path / "cohort"
        shutil.copytree(simulated, folder)
        if spoil:
            spoil(folder)
        monkeypatch.setattr(demo, "write_phantom", refuse)
        monkeypatch.setattr(demo, "FEWEST", 2)
        monkeypatch.setattr(demo, "check_cohort", lambda rows, **_: pytest.fail("used again"))
        demo.demo(tmp_path, n=n, seed=seed)
        return folder

    return asked


def test_the_cohort_of_a_demo_that_was_stopped_is_used_again(asked):
    with pytest.raises(pytest.fail.Exception, match="used again"):
        asked()


def change_settings(folder):
    about = json.loads((folder / "truth.json").read_text())
    about["settings"]["sites"] = 5
    (folder / "truth.json").write_text(json.dumps(about))


def lose_truth(folder):
    (folder / "truth.json").unlink()


def other_patients(folder):
    """As a former simulator may have drawn them."""
    table = folder / "cohort.csv"
    lines = table.read_text().splitlines()
    age = lines[0].split(",").index("age")
    cells = lines[1].split(",")
    cells[age] = "44.25"
    table.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"n": 3},
        {"spoil": lose_truth},
        {"spoil": change_settings},
        {"spoil": other_patients},
    ],
    ids=["another seed", "more cases", "no truth", "other settings", "another simulator"],
)
def test_another_cohort_is_not_used_for_the_one_asked_for(change, asked):
    with pytest.raises(AnewError):
        asked(**change)


def test_a_table_that_cannot_be_read_is_named(asked):
    with pytest.raises(CohortError, match=r"cohort\.csv"):
        asked(spoil=lambda folder: (folder / "cohort.csv").write_text("case;patient\n1;1\n"))


def test_a_simulated_cohort_says_what_can_be_expected(tmp_path, capsys):
    words = ["cohort", "phantom", "-n", "1", "--spacing-mm", "6", "-o", str(tmp_path)]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(tmp_path / "cohort.csv")
    for target, expected in expected_ceilings(PhantomConfig(spacing_mm=6.0)).items():
        plain, aged = expected["ceiling"], expected["ceiling with age"]
        line = f"expected AUC for {target}: ceiling {plain:.2f}, ceiling with age {aged:.2f}"
        assert line in told.err.splitlines()


def test_the_help_names_what_is_true(capsys):
    with pytest.raises(SystemExit):
        main(["cohort", "phantom", "--help"])
    told = capsys.readouterr().out
    assert "truth.csv" in told
    assert "truth.json" in told
