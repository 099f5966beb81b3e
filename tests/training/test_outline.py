"""The script that trains the built-in outline, on patients of 8 mm and a network of two levels."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gliolens.cohorts.phantom.anatomy import head_grid
from gliolens.cohorts.phantom.scans import make_scans
from gliolens.labels import SERIES
from gliolens.outline import read_outliner

SCRIPT = Path(__file__).parents[2] / "training" / "outline.py"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("training_outline", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, small in {"SPACING_MM": 8.0, "WIDTHS": (4, 8), "STEPS_PER_EPOCH": 2}.items():
        monkeypatch.setattr(module, name, small)
    return module


def train(script, monkeypatch, folder, epochs, work):
    words = ["-o", str(folder), "--work", str(work), "--epochs", str(epochs), "--workers", "0"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    script.main()


def test_a_stopped_training_goes_on_to_the_same_weights(script, monkeypatch, tmp_path):
    train(script, monkeypatch, tmp_path / "whole", 3, tmp_path / "a")

    class StopError(Exception):
        pass

    def stop(self):
        if self.current_epoch == 2:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(script.Task, "on_train_epoch_start", stop)
        with pytest.raises(StopError):
            train(script, patch, tmp_path / "parts", 3, tmp_path / "b")
    assert not (tmp_path / "parts").exists()
    train(script, monkeypatch, tmp_path / "parts", 3, tmp_path / "b")
    whole, parts = (read_outliner(tmp_path / name) for name in ("whole", "parts"))
    for key, value in whole.net.state_dict().items():
        assert torch.allclose(value, parts.net.state_dict()[key], atol=2e-3), key
    assert whole.card["steps"] == parts.card["steps"] == 6
    assert "no real scan" in whole.card["trained_on"]


def test_it_learns(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(script, "STEPS_PER_EPOCH", 40)
    train(script, monkeypatch, tmp_path / "out", 3, tmp_path / "work")
    told = [line for line in capsys.readouterr().err.splitlines() if "mean Dice" in line]
    dice = [float(line.split("mean Dice ")[1].split()[0]) for line in told]
    assert dice[-1] > dice[0] + 0.02


def test_the_truth_nests_and_missing_series_say_so(script):
    patients = script.Patients(0, "cpu")
    lacking = 0
    for number in range(12):
        item = patients[number]
        whole, core, enhancing, brain = item["truth"]
        assert not (core & ~whole).any()
        assert not (enhancing & ~core).any()
        assert (whole & brain).sum() >= 0.8 * whole.sum()
        image, there = item["image"][:4], item["image"][4:]
        assert all(torch.unique(channel).numel() == 1 for channel in there)
        assert 1 <= int(there[:, 0, 0, 0].sum()) <= 4
        assert not image[there[:, 0, 0, 0] == 0].any()
        lacking += int(there.min() == 0)
    assert lacking > 0


def test_patients_are_drawn_widely_and_none_twice(script):
    drawn = [script.draw_patient(0, i) for i in range(400)]
    ill = [p.findings for p in drawn if p.findings]
    assert 5 <= len(drawn) - len(ill) <= 50
    assert {f.lobe for f in ill} == set(script.LOBES)
    assert {f.enhancement for f in ill} == {"none", "faint", "patchy", "solid", "ring"}
    volumes = np.array([f.volume_ml for f in ill])
    assert volumes.min() < 10
    assert volumes.max() > 200
    assert all(f.necrosis == 0 for f in ill if f.enhancement in ("none", "faint"))
    assert len({p.seed for p in drawn}) == len({p.site for p in drawn}) == 400
    heads = make_scans(drawn[:2], head_grid(8.0)).series
    assert not torch.equal(heads[0], heads[1])
    assert heads.shape[1] == len(SERIES)
