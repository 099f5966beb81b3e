"""Video networks as a method: what they see, which way time runs, what the weights of the loss do; the whole way."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError, ModelError
from gliolens.io.nifti import read_volume
from gliolens.io.store import read_json
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import spatio_spatial as method
from gliolens.nn.video import COLOURS, MAKERS

QUICK = replace(
    method.Config.preset("sound").scaled("demo"),
    voxel_mm=5.0,
    voxels=(34, 40, 34),
    series=("t1ce", "flair"),
    epochs=1,
)
CLASSES = ("LGG", "HGG", "healthy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("phantom")
    write_phantom(place, 16, seed=2, config=PhantomConfig(spacing_mm=5.0, healthy=0.3))
    return place


@pytest.fixture(scope="module")
def cases(folder):
    return Cases(read_cohort(folder / "cohort.csv"), SERIES)


@pytest.fixture(scope="module")
def fitted(cases, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    config = replace(QUICK, epochs=2)
    return method.fit(cases, config, Run("grade", CLASSES, place, place / "cache")), config


def test_the_box_holds_the_brain_between_0_and_1(cases):
    made = method.prepare(cases[0], QUICK)
    assert made["volume"].shape == (2, 34, 40, 34)
    assert made["volume"].min() == 0
    assert made["volume"].max() <= 1
    mask = method.prepare(cases[0], replace(QUICK, sees="mask"))["volume"]
    assert np.array_equal(mask[0], mask[1])
    brain_ml = (cases[0].series["t1"] != 0).sum() * np.prod(cases[0].grid.spacing)
    assert mask[0].astype(float).sum() * 5.0**3 == pytest.approx(brain_ml, rel=0.05)


@pytest.mark.parametrize(("time", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_time_runs_along_the_planes_that_are_named(time, axis):
    volume = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).float()
    film = method.in_time(volume, time)
    assert film.shape[-3] == volume.shape[1 + axis]
    assert torch.equal(film[:, 1], volume.select(1 + axis, 1))
    other = [n for i, n in enumerate(volume.shape[1:]) if i != axis]
    assert list(film.shape[-2:]) == other


@pytest.mark.parametrize("time", ["sagittal", "coronal", "axial"])
def test_a_heatmap_lies_on_the_box_whichever_way_time_runs(time, cases):
    config = replace(QUICK, time=time)
    model = method.Model(
        "grade", CLASSES, config, method._network(config, 3).eval(), (1, 1, 1), (0.4, 0.4, 0.2)
    )
    made = method.prepare(cases[0], config)
    assert model.heat(made, 0).shape == config.voxels
    heat = model.explain(cases[0])["grade"]
    assert 0 <= heat.voxels.min() <= heat.voxels.max() <= 1
    assert not heat.voxels[~made["volume"].any(axis=0)].any()


def test_class_weights_as_published():
    classes = np.array([0] * 73 + [1] * 259 + [2] * 259)
    assert method.class_weights(classes, 3) == pytest.approx([1 - 73 / 591, 1 - 259 / 591, 1 - 259 / 591])


def test_a_loss_of_one_patient_weighs_what_his_class_does():
    """PyTorch's own mean would divide the weight out again at batch 1."""
    config = replace(QUICK, dropout=0.0)
    torch.manual_seed(0)
    task = method._Task(method._network(config, 3), np.array([0.9, 0.5, 0.6]), config, 1)
    volume = torch.rand(1, 2, 34, 40, 34)
    losses = [task.training_step([volume, torch.tensor([c])], 0).item() for c in range(3)]
    plain = torch.nn.functional.cross_entropy
    logits = task.net(volume).float()
    expected = [w * plain(logits, torch.tensor([c])).item() for c, w in enumerate((0.9, 0.5, 0.6))]
    assert losses == pytest.approx(expected, rel=1e-4)


def test_what_the_weights_of_the_loss_did_is_taken_out_again(cases, monkeypatch):
    """A network that learnt perfectly answers in proportion to P W; here P is the shares themselves."""
    weights, shares = (0.9, 0.3, 0.8), (0.1, 0.7, 0.2)
    q = np.array(weights) * shares
    sound = method.Model("grade", CLASSES, QUICK, method._network(QUICK, 3), weights, shares)
    paper = replace(sound, config=replace(QUICK, put_back=False))
    monkeypatch.setattr(method.Model, "probabilities", lambda self, ready: q / q.sum())
    assert list(sound._answer("x", {}).probabilities["grade"].values()) == pytest.approx(shares)
    assert sound.prior == pytest.approx(shares)
    assert list(paper._answer("x", {}).probabilities["grade"].values()) == pytest.approx(
        (q / q.sum()).tolist()
    )
    assert paper.prior == pytest.approx((q / q.sum()).tolist())


def test_it_learns_six_patients_by_heart(cases):
    """In a few steps of all six; with each patient normalised by himself it does not (docs/log.md)."""
    config = replace(QUICK, dropout=0.0, distortion="none", rate=1e-3, cycle=False)
    six = cases.only([row.case for row in cases.rows[:6]])
    volumes = method.Volumes(
        [method.prepare(case, config) for case in replace(six, series=config.series)],
        np.array([CLASSES.index(c) for c in six.classes("grade")]), config, seed=0,
    )  # fmt: skip
    batch = [torch.stack([volumes[i][0] for i in range(6)]), torch.tensor([volumes[i][1] for i in range(6)])]
    torch.manual_seed(0)
    task = method._Task(method._network(config, 3), np.ones(3), config, 9)
    optimiser, losses = task.configure_optimizers(), []
    for _ in range(10):
        loss = task.training_step(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.1


def test_a_saved_model_answers_the_same(cases, fitted, tmp_path):
    model, _ = fitted
    model.save(tmp_path / "m")
    again = method.load(tmp_path / "m")
    assert again.predict(cases[1]).probabilities == model.predict(cases[1]).probabilities
    assert again.prior == pytest.approx(model.prior)
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError):
        method.load(tmp_path / "m")


@pytest.mark.parametrize("stem", [True, False])
def test_films_are_started_from(cases, tmp_path, stem):
    file = tmp_path / "films.pth"
    torch.manual_seed(1)
    films = MAKERS["mc3"](weights=None)
    for layer in films.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.running_var.uniform_(0.5, 2)
    torch.save(films.state_dict(), file)
    config = replace(
        QUICK, weights=str(file), norm="frozen" if stem else "batch", stem=stem, rate=1e-12, decay=0.0
    )
    few = cases.only([row.case for row in cases.rows[:4]])
    model = method.fit(few, config, Run("grade", CLASSES, tmp_path, tmp_path / "cache"))
    mine, theirs = model.net.net.state_dict(), films.state_dict()
    same = torch.equal(mine["layer3.0.conv1.1.running_var"], theirs["layer3.0.conv1.1.running_var"])
    assert same == stem  # frozen
    assert torch.allclose(mine["layer4.1.conv2.0.weight"], theirs["layer4.1.conv2.0.weight"], atol=1e-6)
    sd = torch.tensor(COLOURS[1])[None, :, None, None, None]
    grey = (theirs["stem.0.weight"] / sd).sum(dim=1, keepdim=True) / 2
    assert torch.allclose(mine["stem.0.weight"], grey.expand(-1, 2, -1, -1, -1), atol=1e-6) == stem
    assert method.identity(config) != method.identity(QUICK)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"voxels": (30, 40, 34)}, "33 voxels"), ({"norm": "frozen"}, "expected weights"), ({"weigh": False}, "put_back"),
     ({"epochs": 0}, "epochs is 0"), ({"series": ()}, "one series"), ({"dropout": 1.0}, "below 1"),
     ({"norm": "frozen", "weights": "x", "stem": False}, "first layer"), ({"norm": "own"}, "those of one in use"),
     ({"batch": 1}, "one patient a step")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        replace(QUICK, **wrong)


def test_from_the_command_line_to_an_answer_without_a_mask(folder, tmp_path):
    words = ["--scale", "demo", "--voxel-mm", "5", "--voxels", "34", "40", "34", "--epochs", "1"]
    table, run = str(folder / "cohort.csv"), tmp_path / "run"
    assert main(["train", "spatio-spatial", table, "--target", "grade", *words, "-o", str(run)]) == 0
    row = next(row for row in read_cohort(folder / "cohort.csv") if row.targets["grade"] != "healthy")
    files = [x for s in SERIES for x in (f"--{s}", str(row.files[s]))]
    assert main(["predict", *files, "--run", str(run), "-o", str(tmp_path / "out"), "--id", "p"]) == 0
    place = next((tmp_path / "out").rglob("prediction.json"))
    (told,) = [p for p in read_json(place)["predictions"] if p["target"] == "grade"]
    assert told["method"] == "spatio-spatial"
    heat = next((tmp_path / "out").rglob("heatmaps/*.nii.gz"))
    assert read_volume(heat, "p").volume.voxels.max() <= 1


def test_healthy_brains_are_a_class_where_they_are_asked_for(folder, tmp_path, capsys):
    """Without their masks, which no such method looks at; the controls are those that measure no tumour."""
    rows = [replace(r, mask=None, mask_scheme=None) if r.targets["grade"] == "healthy" else r
            for r in read_cohort(folder / "cohort.csv")]  # fmt: skip
    write_cohort(tmp_path / "cohort.csv", rows)
    words = [
        "--scale",
        "demo",
        "--voxel-mm",
        "5",
        "--voxels",
        "34",
        "40",
        "34",
        "--epochs",
        "1",
        "--series",
        "t1ce",
    ]
    run = tmp_path / "run"
    asked = [str(tmp_path / "cohort.csv"), "--target", "grade", "--healthy", *words, "-o", str(run)]
    assert main(["train", "spatio-spatial", *asked]) == 0
    assert read_json(run / "run.json")["classes"] == list(CLASSES)
    without = ["train", "spatio-spatial", *[w for w in asked if w != "--healthy"]]
    assert main(without) == 2  # and it is not written over where the flag is forgotten
    assert "another healthy" in capsys.readouterr().err
    scored = {row["method"] for row in read_json(run / "metrics.json")["scores"]}
    assert scored == {"spatio-spatial", "age and sex", "site"}
    assert main(["evaluate", str(run), str(tmp_path / "cohort.csv"), "-o", str(tmp_path / "seen")]) == 0
    again = pd.read_csv(tmp_path / "seen" / "predictions.csv")
    assert "healthy" in set(again["truth"])
    capsys.readouterr()
    row = next(row for row in rows if row.targets["grade"] == "healthy")
    assert (
        main(
            [
                "predict",
                "--t1ce",
                str(row.files["t1ce"]),
                "--run",
                str(run),
                "-o",
                str(tmp_path / "p"),
                "--id",
                "p",
            ]
        )
        == 0
    )
    assert "was not asked" not in capsys.readouterr().err
    place = next((tmp_path / "p").rglob("prediction.json"))
    (told,) = [p for p in read_json(place)["predictions"] if p["target"] == "grade"]
    assert told["method"] == "spatio-spatial"
    assert any("healthy too" in c for c in told["cautions"])


def test_the_heatmap_is_of_the_class_that_was_decided(cases, monkeypatch):
    """What the weights of the loss did is taken out before a class is decided: here the most likely one is another."""
    weights, shares = (0.8, 0.4, 0.8), (0.2, 0.6, 0.2)
    net = method._network(QUICK, 3).eval()
    model = method.Model("grade", CLASSES, QUICK, net, weights, shares)
    monkeypatch.setattr(method.Model, "probabilities", lambda self, ready: np.array([0.35, 0.45, 0.20]))
    seen = []
    monkeypatch.setattr(
        method.Model, "heat", lambda self, made, k: seen.append(k) or np.ones(QUICK.voxels, np.float32)
    )
    decided = model.predict(cases[0]).decisions["grade"]
    model.explain(cases[0])
    assert seen == [CLASSES.index(decided)] == [0]


def test_the_brain_is_that_of_the_series_learnt_from(cases):
    """A case may have more in use, and they may show more of the head."""
    case = cases[0]
    wide = dict(case.series) | {
        "t2": np.where(case.series["t2"] == 0, 5, case.series["t2"]).astype(np.float32)
    }
    wide["t2"][:2] = 0
    few = method.prepare(replace(case, series={s: case.series[s] for s in QUICK.series}), QUICK)
    many = method.prepare(replace(case, series=wide), QUICK)
    assert np.array_equal(few["volume"], many["volume"])
    assert np.array_equal(few["affine"], many["affine"])


def test_methods_that_measure_tumours_refuse_the_healthy(folder, tmp_path, capsys):
    table = str(folder / "cohort.csv")
    words = [
        "train",
        "shape-resnet",
        table,
        "--target",
        "grade",
        "--healthy",
        "--scale",
        "demo",
        "-o",
        str(tmp_path / "r"),
    ]
    assert main(words) == 2
    assert "leave --healthy out" in capsys.readouterr().err
