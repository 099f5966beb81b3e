"""The reproduction of Farahani et al. 2025."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Subset

from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.loop import train
from gliolens.methods import mts_unet
from gliolens.methods.controls import BASELINES, KINDS
from gliolens.methods.mts_unet import Config
from gliolens.papers.farahani2025 import reproduction
from gliolens.papers.farahani2025.networks import FULL, OUTLINE, SCRATCH, SOUND, networks
from gliolens.papers.farahani2025.reproduction import RESNET, headlines, reproduce
from gliolens.papers.farahani2025.trials import Trial, joined
from gliolens.stats.intervals import Interval

QUICK = {"epochs": 1, "voxel_mm": 4.0}
RESNETS = replace(reproduction._resnet("demo", ("t1",)), epochs=1, pixels=36, pixel_mm=5.5, planes=33)
PAPER = Config.preset("paper")
TOLD = ("idh", "codel_1p19q", "grade")
SEED = 4  # of whose patients both sides of every split show every class
SOME = (FULL, SOUND, "no CMD")


def test_each_network_differs_from_the_full_one_in_what_its_name_says():
    found = {n.name: n for n in networks(PAPER, TOLD)}
    assert found[FULL].config == PAPER
    assert found["no TAFE"].config == replace(PAPER, focus="none")
    assert found["no CMD"].config == replace(PAPER, mismatch="none")
    assert found["neither"].config == replace(PAPER, focus="none", mismatch="none")
    assert found["IDH alone"].config == replace(PAPER, tasks=("idh",))
    assert found["IDH alone"].tells == ("idh",)
    assert found[OUTLINE].config == replace(PAPER, task_weight=0.0)
    assert found[OUTLINE].tells == ()
    sound = Config.preset("sound")
    assert found[SOUND].config == replace(
        sound, voxel_mm=1.0
    )  # the size of the voxels is not what is compared
    assert found["no CMD, sound"].config == replace(sound, voxel_mm=1.0, mismatch="none")
    assert found["composition alone, sound"].config == replace(
        sound, voxel_mm=1.0, focus="none", mismatch="none"
    )
    without = {
        n.name: n.config for n in networks(replace(PAPER, series=("t1", "flair"), mismatch="none"), TOLD)
    }
    assert not [name for name in without if "CMD" in name or "neither" in name]
    assert without["composition alone, sound"].focus == "none"
    assert "no TAFE, sound" not in without
    assert found["no composition, sound"].config == replace(sound, voxel_mm=1.0, composition=False)
    assert len({n.folder for n in found.values()}) == len(found)
    assert SCRATCH not in found
    given = replace(PAPER, weights="w.pt", weights_series=("t1", "flair"))
    assert {n.name: n for n in networks(given, TOLD)}[SCRATCH].config == PAPER


def answers(p, prior, truth):
    n = len(p)
    return pd.DataFrame({
        "case": [f"c{i}" for i in range(n)], "patient": [f"c{i}" for i in range(n)],
        "truth": np.where(truth, "mutant", "wildtype"), "p_wildtype": 1 - p, "p_mutant": p,
        "prior_wildtype": 1 - prior, "prior_mutant": prior,
    })  # fmt: skip


def test_folds_of_other_shares_are_pooled_by_what_the_scan_adds():
    """A network that says the training share of each fold alone knows nothing, however the shares differ."""
    truth = np.array([True, False] * 10)
    one = Trial(
        "a", {"idh": answers(np.full(10, 0.3), np.full(10, 0.3), truth[:10])}, pd.DataFrame({"case": []})
    )
    two = Trial(
        "b", {"idh": answers(np.full(10, 0.6), np.full(10, 0.6), truth[10:])}, pd.DataFrame({"case": []})
    )
    positive, score, who = joined("both", [one, two]).scored("idh")
    assert roc_auc_score(positive, np.round(score, 9)) == 0.5
    assert len(who) == 20


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, 22, seed=SEED, config=PhantomConfig(spacing_mm=5.0, sites=2, unknown_labels=0.1))
    rows = list(read_cohort(folder / "cohort.csv"))
    rows[1] = replace(rows[1], mask=None)  # teaches its labels, and is not tested
    write_cohort(folder / "some.csv", rows)
    return folder / "some.csv"


def some(base, tells):
    return [n for n in networks(base, tells) if n.name in SOME]


def shortly(task, batches, **settings):
    """Train on two batches: a step takes seconds on one core, and what is learnt is not asked about here."""
    few = Subset(batches.dataset, range(2 * batches.batch_size))
    train(task, DataLoader(few, batch_size=batches.batch_size, collate_fn=batches.collate_fn), **settings)


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    """With some of the networks: all take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mts_unet, "train", shortly)
        patch.setattr(reproduction, "networks", some)
        patch.setattr(reproduction, "_resnet", lambda scale, series: replace(RESNETS, series=series))
        return reproduce(cohort, tmp_path_factory.mktemp("out"), target="idh", scale="demo", settings=QUICK)


def test_every_table_is_there_beside_what_was_published(done):
    head = {row[""]: row for row in done.results["headline"]}
    assert head["Dice, whole tumour"]["published"].startswith("0.84")
    assert head["AUC, IDH status"]["published"] == "0.9058"
    assert head["AUC, Grade"]["published"] == "0.8754"
    assert head["AUC, 1p/19q status"]["published"] == "0.6922"
    names = [row["network"] for row in done.results["ablation"]]
    assert set(names) == set(SOME)
    for row in done.results["ablation"]:
        assert isinstance(row["Dice"], Interval)
    beside = [row[""] for row in done.results["baselines"]]
    assert {RESNET, *BASELINES.values(), *KINDS.values(), "ceiling"} <= set(beside)
    kinds = {row["kind"] for row in done.results["mismatch"]}
    assert "IDH wildtype" in kinds
    page = (done.folder / "report.html").read_text()
    for word in ("What each part adds", "Leave one site out", "T2-FLAIR mismatch", "0.9058", "age alone"):
        assert word in page


def test_differences_are_corrected_for_their_number(done):
    rows = [row for row in done.results["compared"] if not np.isnan(row["p"])]
    assert len(rows) > 10
    assert all(row["p, Holm"] >= row["p"] - 1e-12 for row in rows)
    least = min(rows, key=lambda row: row["p"])
    assert least["p, Holm"] == pytest.approx(min(1, least["p"] * len(rows)))
    named = [row["AUC of"] for row in done.results["compared"]]
    assert f"{FULL} less no CMD" in named
    assert f"{SOUND} less age alone" in named


def test_each_site_is_tested_by_a_network_that_never_saw_it(done):
    tested = {row["tested on"]: row for row in done.results["sites"]}
    sites = [name for name in tested if name.endswith(", never seen")]
    assert len(sites) == 2
    assert sum(tested[s]["cases"] for s in sites) == tested["all sites, each never seen"]["cases"] == 20
    splits = json.loads((done.folder / "splits-sites.json").read_text())
    for fold in splits["folds"]:
        assert not set(fold["train"]) & set(fold["test"])


def test_a_case_without_mask_is_learnt_from_and_not_tested(done, cohort):
    row = read_cohort(cohort)[1]
    split = json.loads((done.folder / "splits.json").read_text())["folds"][0]
    assert row.case not in {*split["train"], *split["test"]}
    assert "2 further cases teach" in (done.folder / "report.html").read_text()


def test_maps_are_written_as_nifti(done):
    files = sorted(f.name for f in (done.folder / "heatmaps").iterdir())
    assert set(files) == {
        f"{n}-{m}.nii.gz" for n in ("full", "full-sound") for m in ("cmd-attention", "tafe-weights")
    }
    for name in files:
        voxels = nibabel.load(
            done.folder / "heatmaps" / name
        ).get_fdata()  # ours refuses one that is 0 throughout
        assert 0 <= voxels.min() <= voxels.max() <= 1


def test_a_second_run_trains_nothing_and_another_seed_is_refused(done, cohort, monkeypatch):
    monkeypatch.setattr(mts_unet, "train", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(reproduction, "networks", some)
    monkeypatch.setattr(reproduction, "_resnet", lambda scale, series: replace(RESNETS, series=series))
    again = reproduce(cohort, done.folder, target="idh", scale="demo", settings=QUICK)
    assert again.results["ablation"] == done.results["ablation"]
    with pytest.raises(ConfigError, match="seed"):
        reproduce(cohort, done.folder, target="idh", scale="demo", seed=1, settings=QUICK)


def test_settings_that_are_varied_here_are_refused(cohort, tmp_path):
    with pytest.raises(ConfigError, match="focus"):
        reproduce(cohort, tmp_path, scale="demo", settings={"focus": "none"})


def test_the_headlines_are_dice_and_each_target(done):
    dice, *targets = headlines(done.folder)
    assert (dice.published, dice.chance) == (0.84, None)
    rows = {row[""]: row for row in done.results["headline"]}
    ages = next(row for row in done.results["baselines"] if row[""] == "age alone")
    assert [line.published for line in targets] == [
        float(rows[line.what]["published"]) if rows[line.what]["published"] else None for line in targets
    ]
    for line in (dice, *targets):
        row = rows[line.what]
        assert repr((line.here, line.soundly)) == repr((row[FULL], row[SOUND]))  # NaN bounds are equal too
    for line in targets:
        assert repr(line.age) == repr(ages[line.what])
