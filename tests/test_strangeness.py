"""Who is a stranger: as often as said among the like, and nearly always from another scanner."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.case import Case, CaseRow, Grid, Volume
from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CohortError
from gliolens.io.nifti import read_volume, write_volume
from gliolens.loader import Cases
from gliolens.strangeness import FEWEST, STRANGE, Familiar, look, strangers_told

SERIES = ("t1", "flair")
MIX = np.random.default_rng(7).normal(size=(26, 26)) / 5 + np.eye(26)


def looks(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 26)) @ MIX + shift
    return [{"t1": row[:13], "flair": row[13:]} for row in numbers]


def learn(made, exams=1):
    return Familiar.learn(made, SERIES, [str(i // exams) for i in range(len(made))])


@pytest.mark.parametrize("n", [25, 60, 200])
def test_of_the_like_one_in_twenty_is_called_a_stranger(n):
    """The mean over cohorts: each asks 40 new patients about n learnt from."""
    told = []
    for seed in range(40):
        familiar = learn(looks(n, 2 * seed))
        told += [familiar.p_value(one) <= STRANGE for one in looks(40, 2 * seed + 1)]
    assert 0.015 < np.mean(told) < 0.075


@pytest.mark.parametrize(("n", "exams"), [(40, 2), (25, 4)])
def test_exams_of_one_patient_make_nobody_else_a_stranger(n, exams):
    """They are far more alike than two patients are; who is new is as far as patients are apart."""
    told = []
    for seed in range(20):
        rng = np.random.default_rng(1000 + seed)
        made = [
            {s: v + 0.1 * rng.normal(size=13) for s, v in one.items()}
            for one in looks(n, 2 * seed)
            for _ in range(exams)
        ]
        familiar = learn(made, exams)
        told += [familiar.p_value(one) <= STRANGE for one in looks(40, 2 * seed + 1)]
    assert 0.015 < np.mean(told) < 0.075


def test_patients_are_those_of_the_rows_by_alias_too(monkeypatch):
    """44 exams of 22 patients: half are named as such, of the others an alias tells."""
    rows = [
        CaseRow(f"c{k}", f"p{k // 2}") if k < 22 else CaseRow(f"c{k}", f"q{k}", aliases=(f"q{k - k % 2}",))
        for k in range(44)
    ]
    monkeypatch.setattr("gliolens.strangeness.looks_of", lambda cases, cache, tick: looks(44, 0))
    found = Familiar.of(Cases(tuple(rows), SERIES), Path())
    assert len(found.distances) == 22


def test_those_of_another_scanner_are_strangers():
    familiar = learn(looks(80, 0))
    assert np.mean([familiar.p_value(one) <= STRANGE for one in looks(60, 1, shift=3.0)]) > 0.95


@settings(deadline=None, max_examples=10)
@given(st.floats(0.1, 10.0), st.floats(-5.0, 5.0))
def test_the_unit_of_a_number_does_not_matter(times, plus):
    plain, moved = learn(looks(40, 0)), None
    turned = [{s: times * v + plus for s, v in one.items()} for one in looks(40, 0)]
    moved = learn(turned)
    for one in looks(10, 1):
        other = {s: times * v + plus for s, v in one.items()}
        assert moved.p_value(other) == pytest.approx(plain.p_value(one), abs=0.03)


def test_saved_it_says_the_same_and_a_missing_series_says_nothing(tmp_path):
    familiar = learn(looks(30, 0))
    familiar.save(tmp_path)
    assert Familiar.load(tmp_path) == familiar
    assert Familiar.load(tmp_path / "nowhere") is None
    assert np.isnan(familiar.p_value({"t1": np.zeros(13)}))


def test_too_few_are_refused():
    with pytest.raises(CohortError, match=f"{FEWEST} are needed"):
        learn(looks(FEWEST - 1, 0))
    with pytest.raises(CohortError, match=f"{FEWEST - 1} training patients can be measured"):
        learn(looks(4 * (FEWEST - 1), 0), exams=4)


def test_the_sites_of_most_strangers_are_named():
    found = pd.DataFrame(
        {"case": list("abcde"), "site": ["x", "x", "y", "y", ""], "p": [0.01, 0.02, 0.5, 0.01, np.nan]}
    )
    assert strangers_told(found) == (
        "3 of 4 cases look unlike those learnt from (p of 0.05 or less); most of site x 2 of 2; "
        "1 more could not be measured"
    )


def ball(seed, radius=10):
    """Noise in a ball, zeros around it."""
    inside = ((np.indices((28, 28, 28)) - 13.5) ** 2).sum(axis=0) < radius**2
    return np.where(inside, np.random.default_rng(seed).normal(100, 10, inside.shape), 0).astype(np.float32)


def test_a_case_is_measured_by_the_series_learnt_from_alone():
    """A head with its skull beside a stripped brain would move the border of what is measured."""
    grid = Grid((28, 28, 28), np.eye(4))
    learnt = [look(Case(f"c{k}", grid, {"t1": ball(k)}, grid)) for k in range(25)]
    familiar = Familiar.learn(learnt, ("t1",), [str(k) for k in range(25)])
    alone = [Case("new", grid, {"t1": ball(100 + k)}, grid) for k in range(8)]
    with_head = [replace(case, series={**case.series, "t2": ball(0, radius=13)}) for case in alone]
    told = [familiar.p_of(case) for case in alone]
    assert [familiar.p_of(case) for case in with_head] == told
    assert sum(p <= STRANGE for p in told) <= 2
    assert max(familiar.p_value(look(case)) for case in with_head) <= STRANGE  # what was done before
    assert np.isnan(familiar.p_of(replace(alone[0], series={"t2": ball(0)})))


def test_a_case_of_another_scanner_is_told_of_by_predict_and_evaluate_and_the_like_are_not(tmp_path, capsys):
    cohort = write_phantom(tmp_path / "p", 32, seed=3, config=PhantomConfig(spacing_mm=5.0, sites=1))
    run = str(tmp_path / "run")
    words = ["train", "controls", str(cohort), "--target", "idh", "-o", run, "--kind", "volume"]
    assert main([*words, "--series", "t1", "flair"]) == 0
    held = json.loads((tmp_path / "run" / "splits.json").read_text())["folds"][0]["test"]

    def cautioned(case, out):
        assert main(["predict", str(cohort.parent / case), "--run", run, "-o", str(tmp_path / out)]) == 0
        told = json.loads((tmp_path / out / case / "prediction.json").read_text())["predictions"][0]
        return any("look unlike those learnt from" in caution for caution in told["cautions"])

    assert main(["evaluate", run, str(cohort), "-o", str(tmp_path / "before")]) == 0
    p = pd.read_csv(tmp_path / "before" / "strangers.csv").set_index("case")["p"]
    assert set(p.index) == set(held)
    assert (p <= STRANGE).mean() < 0.5
    assert not cautioned(p.idxmax(), "before")
    capsys.readouterr()
    for case in held:
        scan = cohort.parent / case / f"{case}_t1.nii.gz"
        stored = read_volume(scan, case)
        voxels = stored.volume.voxels
        noise = np.random.default_rng(0).normal(0, 0.3 * voxels.std(), voxels.shape)
        noisy = np.where(voxels > 0, voxels + noise, 0).astype(np.float32)
        write_volume(scan, Volume(noisy, stored.source.affine), stored.source)
    assert main(["evaluate", run, str(cohort)]) == 0
    assert f"{len(held)} of {len(held)} cases look unlike" in capsys.readouterr().err
    assert cautioned(p.idxmax(), "after")
