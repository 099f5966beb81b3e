"""Class shares of another place: against Bayes' rule, on the command line, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError
from gliolens.stats.priors import at_prevalence, shares_of


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(-3, 3))
def test_it_is_bayes_rule_with_the_other_shares(learnt, local, seen):
    like = np.array([norm.pdf(seen, 0), norm.pdf(seen, 1.5)])

    def posterior(share):
        joint = like * [1 - share, share]
        return joint / joint.sum()

    told = at_prevalence(
        posterior(learnt)[None], np.array([[1 - learnt, learnt]]), np.array([1 - local, local])
    )
    assert told[0] == pytest.approx(posterior(local))


@pytest.mark.parametrize(
    ("told", "words"),
    [({"a": 1.0}, "one of each"), ({"a": 0.5, "c": 0.5}, "one of each"), ({"a": 0.5, "b": 0.6}, "add up"),
     ({"a": 0.0, "b": 1.0}, "above 0"), ({"a": "half", "b": 0.5}, "'half'")],
)  # fmt: skip
def test_what_are_no_shares_of_the_classes_is_refused(told, words):
    with pytest.raises(ConfigError, match=words):
        shares_of(told, ("a", "b"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("p")
    cohort = write_phantom(folder, 24, seed=3, config=PhantomConfig(spacing_mm=6.0))
    words = [
        "train",
        "controls",
        str(cohort),
        "--target",
        "idh",
        "-o",
        str(folder / "run"),
        "--kind",
        "age-sex",
    ]
    assert main(words) == 0
    return folder / "run", cohort


def test_evaluate_moves_probabilities_and_no_rank(run, tmp_path, capsys):
    folder, cohort = run
    capsys.readouterr()
    found = {}
    for name, words in {"plain": (), "rare": ("--prevalence", "wildtype=0.9", "mutant=0.1")}.items():
        assert main(["evaluate", str(folder), str(cohort), "-o", str(tmp_path / name), "--json", *words]) == 0
        found[name] = {s["method"]: s for s in json.loads(capsys.readouterr().out)["scores"]}
    for method, score in found["plain"].items():
        assert found["rare"][method]["auc"] == pytest.approx(score["auc"])
    assert found["rare"]["age and sex"]["brier"] != pytest.approx(found["plain"]["age and sex"]["brier"])
    assert main(["evaluate", str(folder), str(cohort), "--prevalence", "mutant=0.1"]) == 2
    assert "one of each" in capsys.readouterr().err


def test_predict_moves_the_odds_by_the_shares(run, tmp_path, capsys):
    folder, cohort = run
    held = json.loads((folder / "splits.json").read_text())["folds"][0]["test"][0]
    case = str(cohort.parent / held)
    told = {}
    for name, words in {"plain": (), "rare": ("--prevalence", "idh.wildtype=0.9", "idh.mutant=0.1")}.items():
        out = tmp_path / name
        assert main(["predict", case, "--run", str(folder), "-o", str(out), "--age", "50", *words]) == 0
        record = json.loads((out / held / "prediction.json").read_text())
        told[name] = next(a for a in record["predictions"] if a["target"] == "idh")
    capsys.readouterr()
    odds = [
        told[name]["probabilities"]["idh"]["mutant"] / told[name]["probabilities"]["idh"]["wildtype"]
        for name in ("plain", "rare")
    ]
    labels = json.loads((folder / "run.json").read_text())["train_labels"]
    learnt = labels.count("mutant") / labels.count("wildtype")
    assert odds[1] / odds[0] == pytest.approx(0.1 / 0.9 / learnt)
    assert any("mutant 10%" in caution for caution in told["rare"]["cautions"])
    words = [
        "predict",
        case,
        "--run",
        str(folder),
        "-o",
        str(tmp_path / "x"),
        "--prevalence",
        "grade.LGG=0.5",
        "grade.HGG=0.5",
    ]
    assert main(words) == 2
    assert "no run given with --run tells" in capsys.readouterr().err
