"""Who is a stranger: as often as said among the like, and nearly always from another scanner."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.case import Volume
from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CohortError
from gliolens.io.nifti import read_volume, write_volume
from gliolens.strangeness import FEWEST, STRANGE, Familiar, strangers_told

SERIES = ("t1", "flair")
MIX = np.random.default_rng(7).normal(size=(26, 26)) / 5 + np.eye(26)


def looks(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 26)) @ MIX + shift
    return [{"t1": row[:13], "flair": row[13:]} for row in numbers]


@pytest.mark.parametrize("n", [25, 60, 200])
def test_of_the_like_one_in_twenty_is_called_a_stranger(n):
    """The mean over cohorts: each asks 40 new patients about n learnt from."""
    told = []
    for seed in range(40):
        familiar = Familiar.learn(looks(n, 2 * seed), SERIES)
        told += [familiar.p_value(one) <= STRANGE for one in looks(40, 2 * seed + 1)]
    assert 0.015 < np.mean(told) < 0.075


def test_those_of_another_scanner_are_strangers():
    familiar = Familiar.learn(looks(80, 0), SERIES)
    assert np.mean([familiar.p_value(one) <= STRANGE for one in looks(60, 1, shift=3.0)]) > 0.95


@settings(deadline=None, max_examples=10)
@given(st.floats(0.1, 10.0), st.floats(-5.0, 5.0))
def test_the_unit_of_a_number_does_not_matter(times, plus):
    plain, moved = Familiar.learn(looks(40, 0), SERIES), None
    turned = [{s: times * v + plus for s, v in one.items()} for one in looks(40, 0)]
    moved = Familiar.learn(turned, SERIES)
    for one in looks(10, 1):
        other = {s: times * v + plus for s, v in one.items()}
        assert moved.p_value(other) == pytest.approx(plain.p_value(one), abs=0.03)


def test_saved_it_says_the_same_and_a_missing_series_says_nothing(tmp_path):
    familiar = Familiar.learn(looks(30, 0), SERIES)
    familiar.save(tmp_path)
    assert Familiar.load(tmp_path) == familiar
    assert Familiar.load(tmp_path / "nowhere") is None
    assert np.isnan(familiar.p_value({"t1": np.zeros(13)}))


def test_too_few_are_refused():
    with pytest.raises(CohortError, match=f"{FEWEST} are needed"):
        Familiar.learn(looks(FEWEST - 1, 0), SERIES)


def test_the_sites_of_most_strangers_are_named():
    found = pd.DataFrame(
        {"case": list("abcde"), "site": ["x", "x", "y", "y", ""], "p": [0.01, 0.02, 0.5, 0.01, np.nan]}
    )
    assert strangers_told(found) == (
        "3 of 4 cases look unlike those learnt from (p of 0.05 or less); most of site x 2 of 2"
    )


def test_a_case_of_another_scanner_is_told_of_by_predict_and_evaluate(tmp_path, capsys):
    cohort = write_phantom(tmp_path / "p", 32, seed=3, config=PhantomConfig(spacing_mm=5.0, sites=1))
    words = [
        "train",
        "controls",
        str(cohort),
        "--target",
        "idh",
        "-o",
        str(tmp_path / "run"),
        "--kind",
        "volume",
    ]
    assert main([*words, "--series", "t1", "flair"]) == 0
    held = json.loads((tmp_path / "run" / "splits.json").read_text())["folds"][0]["test"]
    for case in held:
        scan = cohort.parent / case / f"{case}_t1.nii.gz"
        stored = read_volume(scan, case)
        noise = np.random.default_rng(0).normal(
            0, 0.3 * stored.volume.voxels.std(), stored.volume.voxels.shape
        )
        noisy = np.where(stored.volume.voxels > 0, stored.volume.voxels + noise, 0).astype(np.float32)
        write_volume(scan, Volume(noisy, stored.source.affine), stored.source)
    assert main(["evaluate", str(tmp_path / "run"), str(cohort)]) == 0
    assert f"{len(held)} of {len(held)} cases look unlike" in capsys.readouterr().err
    assert (
        main(
            [
                "predict",
                str(cohort.parent / held[0]),
                "--run",
                str(tmp_path / "run"),
                "-o",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    told = json.loads((tmp_path / "out" / held[0] / "prediction.json").read_text())["predictions"][0]
    assert any("look unlike those learnt from" in caution for caution in told["cautions"])
