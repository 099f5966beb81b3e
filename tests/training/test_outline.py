"""The script that trains the built-in outline, on patients of 8 mm and a network of two levels."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gliolens.cohorts.phantom.anatomy import head_grid
from gliolens.cohorts.phantom.scans import make_scans
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.errors import ConfigError
from gliolens.labels import SERIES
from gliolens.loop import CHECKPOINT
from gliolens.outline import read_card, read_outliner

SCRIPT = Path(__file__).parents[2] / "training" / "outline.py"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("training_outline", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, small in {"SPACING_MM": 8.0, "WIDTHS": (4, 8), "STEPS_PER_EPOCH": 2}.items():
        monkeypatch.setattr(module, name, small)
    return module


def train(script, monkeypatch, folder, epochs, work, *more):
    words = ["-o", str(folder), "--work", str(work), "--epochs", str(epochs), "--workers", "0", *more]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    script.main()


class StopError(Exception):
    """What stops a training here."""


def stop_before(script, patch, epoch):
    """Let the training break off as this epoch begins."""
    begin = script.Task.on_train_epoch_start

    def on_train_epoch_start(self):
        begin(self)
        if self.current_epoch == epoch:
            raise StopError

    patch.setattr(script.Task, "on_train_epoch_start", on_train_epoch_start)


def asked_of(script, patch):
    """The numbers of the patients that the training asks for from here on."""
    make, numbers = script.Patients.__getitem__, []

    def __getitem__(self, number):  # noqa: N807
        numbers.append(number)
        return make(self, number)

    patch.setattr(script.Patients, "__getitem__", __getitem__)
    return numbers


def weights(folder):
    return torch.cat([value.flatten() for value in read_outliner(folder).net.state_dict().values()])


def test_a_stopped_training_goes_on_to_the_same_weights(script, monkeypatch, tmp_path):
    """The mean begins before the stop and ends after it."""
    monkeypatch.setattr(script, "AVERAGED_FROM", 0.2)
    with monkeypatch.context() as patch:
        numbers = asked_of(script, patch)
        train(script, patch, tmp_path / "whole", 3, tmp_path / "a")
    assert numbers == [0, 1, 2, 3, 4, 5]
    with monkeypatch.context() as patch:
        numbers = asked_of(script, patch)
        stop_before(script, patch, 2)
        with pytest.raises(StopError):
            train(script, patch, tmp_path / "parts", 3, tmp_path / "b")
    assert numbers == [0, 1, 2, 3]
    assert not (tmp_path / "parts").exists()
    with monkeypatch.context() as patch:
        numbers = asked_of(script, patch)
        train(script, patch, tmp_path / "parts", 3, tmp_path / "b")
    assert numbers == [4, 5]
    whole, parts = (weights(tmp_path / name) for name in ("whole", "parts"))
    assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-4)
    cards = [read_card(tmp_path / name) for name in ("whole", "parts")]
    assert cards[0]["steps"] == cards[1]["steps"] == 6
    assert "6 simulated patients" in cards[1]["trained_on"]
    assert "no real scan" in cards[1]["trained_on"]

    train(script, monkeypatch, tmp_path / "short", 2, tmp_path / "c")
    apart = (weights(tmp_path / "short") - whole).abs()
    assert float((apart > 1e-3).float().mean()) > 0.3  # so the comparison above could fail


def test_what_is_written_is_the_mean_of_the_later_steps(script, monkeypatch, tmp_path):
    """Of six steps: all of them, the last four, the last alone; as taken down after each step."""
    after, step = [], script.Task.on_train_batch_end

    def on_train_batch_end(self, *args):
        step(self, *args)
        after.append(torch.cat([v.detach().flatten().clone() for v in self.net.state_dict().values()]))

    monkeypatch.setattr(script.Task, "on_train_batch_end", on_train_batch_end)
    for begin, first in ((0.0, 0), (0.5, 2), (1.0, 5)):
        after.clear()
        monkeypatch.setattr(script, "AVERAGED_FROM", begin)
        train(script, monkeypatch, tmp_path / str(begin), 3, tmp_path / "work")
        assert len(after) == 6
        expected = torch.stack(after[first:]).mean(dim=0)
        assert torch.allclose(weights(tmp_path / str(begin)), expected, rtol=1e-3, atol=1e-4)
    assert (after[5] - after[0]).abs().max() > 1e-3  # so that the means differ


def test_the_rate_rises_and_stays_high(script):
    task = script.Task(1000)
    rates = [task._rate(i) for i in range(1001)]
    assert rates[0] < 0.05
    assert 0.9 < max(rates) <= 1.0
    assert rates.index(max(rates)) < 60
    assert 0.25 < rates[-1] < 0.35
    assert all(a >= b for a, b in pairwise(rates[60:]))


def test_a_tumour_shows_in_what_is_left_of_the_series(script, monkeypatch):
    """Without T2 and FLAIR nothing of it is hidden."""
    seen, make = [], script.make_scans
    monkeypatch.setattr(
        script, "make_scans", lambda patients, *a, **k: seen.append(patients[0]) or make(patients, *a, **k)
    )
    monkeypatch.setattr(script, "_present", lambda rng: [0])
    for i in range(30):
        script.Patients(0, "cpu")[i]
    assert all(p.findings.conspicuity == (1.0,) * 4 for p in seen if p.findings)
    assert any(
        min(p.findings.conspicuity) < 1 for p in (script.draw_patient(0, i) for i in range(30)) if p.findings
    )


def test_a_finished_training_leaves_no_checkpoint(script, monkeypatch, tmp_path):
    train(script, monkeypatch, tmp_path / "out", 1, tmp_path / "work")
    assert not list((tmp_path / "work").rglob("*.ckpt"))
    with monkeypatch.context() as patch:
        numbers = asked_of(script, patch)
        train(script, patch, tmp_path / "again", 1, tmp_path / "work")
    assert numbers == [0, 1]


def stopped(script, monkeypatch, folder):
    """A work folder with the checkpoint of one epoch out of three."""
    with monkeypatch.context() as patch:
        stop_before(script, patch, 1)
        with pytest.raises(StopError):
            train(script, patch, folder / "parts", 3, folder / "work")
    assert (folder / "work" / CHECKPOINT).is_file()
    return folder / "work"


def test_a_checkpoint_of_other_settings_is_refused(script, monkeypatch, tmp_path):
    work = stopped(script, monkeypatch, tmp_path)
    simulator = tmp_path / "simulator"
    simulator.mkdir()
    for name in script.DRAWN_BY:
        (simulator / f"{name}.py").write_text("CHANGED = 1\n", encoding="utf-8")
    others = {"WIDTHS": (2, 4), "SPACING_MM": 9.0, "STEPS_PER_EPOCH": 3, "SIMULATOR": simulator}
    named = {
        "WIDTHS": "widths",
        "SPACING_MM": "spacing_mm",
        "STEPS_PER_EPOCH": "patients",
        "SIMULATOR": "code",
    }
    for name, value in others.items():
        with monkeypatch.context() as patch:
            patch.setattr(script, name, value)
            with pytest.raises(ConfigError, match=named[name]):
                train(script, patch, tmp_path / "parts", 3, work)
    with pytest.raises(ConfigError, match="patients"):
        train(script, monkeypatch, tmp_path / "parts", 4, work)
    with pytest.raises(ConfigError, match="seed"):
        train(script, monkeypatch, tmp_path / "parts", 3, work, "--seed", "1")
    assert not (tmp_path / "parts").exists()
    with monkeypatch.context() as patch:
        numbers = asked_of(script, patch)
        train(script, patch, tmp_path / "parts", 3, work)
    assert numbers == [2, 3, 4, 5]  # none of the refusals cost the checkpoint


def test_weights_of_the_same_settings_are_not_trained_twice(script, monkeypatch, capsys, tmp_path):
    train(script, monkeypatch, tmp_path / "out", 1, tmp_path / "work")
    before = (tmp_path / "out" / "card.json").read_bytes()
    with monkeypatch.context() as patch:
        numbers = asked_of(script, patch)
        train(script, patch, tmp_path / "out", 1, tmp_path / "work")
        assert numbers == []
        assert (tmp_path / "out" / "card.json").read_bytes() == before
        assert "already" in capsys.readouterr().err
        train(script, patch, tmp_path / "out", 1, tmp_path / "work", "--seed", "5")
        assert numbers == [0, 1]
    assert (tmp_path / "out" / "card.json").read_bytes() != before


def test_processes_that_simulate_beside_a_gpu_are_refused(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="--workers 0"):
        train(script, monkeypatch, tmp_path / "out", 1, tmp_path / "work", "--workers", "2")
    assert not (tmp_path / "work").exists()


def test_it_learns(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(script, "STEPS_PER_EPOCH", 40)
    train(script, monkeypatch, tmp_path / "out", 3, tmp_path / "work")
    told = [line for line in capsys.readouterr().err.splitlines() if "soft Dice" in line]
    dice = [float(line.split("soft Dice ")[1].split()[0]) for line in told]
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
    assert 20 <= len(drawn) - len(ill) <= 65
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


def test_no_patient_of_a_cohort_is_one_of_the_training(script):
    """Heads and tumours follow from `seed`, so a cohort that shares it is no test of the outline."""
    trained = {script.draw_patient(0, i).seed for i in range(50)}
    assert trained.isdisjoint(p.seed for p in draw_cohort(50, 0, PhantomConfig()))


def test_a_checkpoint_of_an_unknown_training_is_refused(script, monkeypatch, tmp_path):
    work = stopped(script, monkeypatch, tmp_path)
    (work / "settings.json").unlink()
    with pytest.raises(ConfigError, match="--work"):
        train(script, monkeypatch, tmp_path / "parts", 3, work)


def test_heads_differ_in_size_and_place_and_move_with_their_truth(script):
    """The brain's extent follows the drawn size, and image, truth and mask move together."""
    grids = [script._draw_grid(np.random.default_rng(i)).spacing[0] / 8.0 for i in range(200)]
    assert 0.84 <= min(grids) < 0.87
    assert 1.17 < max(grids) <= 1.2
    scans = make_scans([script.draw_patient(0, 0)], head_grid(8.0))
    by = [2, -1, 0]
    moved = script._moved(scans, by)
    for name in ("series", "labels", "brain", "kept"):
        before, after = getattr(scans, name), getattr(moved, name)
        assert after.shape == before.shape
        assert torch.equal(after[..., 2:, :-1, :], before[..., :-2, 1:, :])
        assert not after[..., :2, :, :].any()
        assert not after[..., -1:, :].any()


def test_a_tumour_hides_in_some_series_but_never_in_all(script):
    shows = np.array(
        [p.findings.conspicuity for p in (script.draw_patient(0, i) for i in range(600)) if p.findings]
    )
    hidden = (shows < 1).any(axis=1)
    assert 0.4 < hidden.mean() < 0.6
    assert shows.min() >= 0
    assert shows[:, 0].min() < 0.1
    assert shows[:, 1].min() >= 0.4
    assert (shows[:, 2] + shows[:, 3]).min() >= 0.7
