"""Every registered method through the whole of its contract, and one training step at its real size."""

import json
import signal
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from gliolens import segmenter, slice_namer
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import ConfigError
from gliolens.io.nifti import write_volume
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases
from gliolens.loop import CHECKPOINT, train
from gliolens.method import Model, Run, changed, find_method
from gliolens.methods import mts_unet, segmentation_fusion, shape_resnet
from gliolens.nn.resnet import ShapeResNet, slice_resnet
from gliolens.nn.unet import UNet
from gliolens.registry import METHODS
from gliolens.segmenter import Task as Segmenting
from gliolens.tasks import Task

QUICK = {
    "mts-unet": {"epochs": 1},
    "segmentation-fusion": {"epochs_2d": 1, "epochs_3d": 1, "epochs_slices": 1, "slices": 4},
    "shape-resnet": {"epochs": 2, "slices": 2, "choose_epochs": False},
    "spatio-spatial": {"epochs": 1},
    "volume-embedding": {"folds": 2},
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    config = PhantomConfig(spacing_mm=5.0)
    return Cases(
        read_cohort(write_phantom(tmp_path_factory.mktemp("phantom"), 10, seed=3, config=config)), SERIES
    )


@pytest.mark.parametrize("name", METHODS)
def test_fit_predict_explain_save_load_predict_the_same(name, cases, tmp_path):
    method = find_method(name)
    config = changed(method.Config.preset("sound").scaled("demo"), QUICK.get(name, {}))
    model = method.fit(cases, config, Run("grade", ("LGG", "HGG"), tmp_path / "run", tmp_path / "cache"))
    assert isinstance(model, Model)
    answer = model.predict(cases[0])
    assert sum(answer.probabilities["grade"].values()) == pytest.approx(1)
    assert answer.decisions["grade"] in ("LGG", "HGG")
    for heat in model.explain(cases[0]).values():
        assert np.isfinite(heat.voxels).all()
        write_volume(tmp_path / "heat.nii.gz", heat, cases[0].source)
    model.save(tmp_path / "model")
    again = method.load(tmp_path / "model").predict(cases[0])
    assert again.probabilities == answer.probabilities
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["method"] == name
    assert card["target"] == "grade"


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_answer(name, cases, tmp_path):
    method = find_method(name)
    config = changed(method.Config.preset("sound").scaled("demo"), QUICK.get(name, {}))
    runs = [Run("grade", ("LGG", "HGG"), tmp_path / str(i), tmp_path / "cache", seed=7) for i in range(2)]
    first, second = (
        method.fit(cases, config, run).predict(cases[1]).probabilities["grade"]["HGG"] for run in runs
    )
    assert first == pytest.approx(second, abs=1e-6)


def test_settings_of_another_name_or_kind_are_refused():
    plain = shape_resnet.Config()
    assert changed(plain, {"rate": 1, "series": ["t1"]}).series == ("t1",)
    for wrong in ({"epoch": 3}, {"epochs": "many"}, {"epochs": True}, {"choose_epochs": 1}, {"series": "t1"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            changed(plain, wrong)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"join": "nothing"}, "fixed, gated, none"), ({"sees": "tumor"}, "tumour, brain"), ({"depth": 34}, "18, 50"),
     ({"balance": "repeated"}, "repeat, weigh, none")],
)  # fmt: skip
def test_a_word_that_is_none_of_a_settings_is_refused(settings, words):
    """Else another network would be trained than its row says."""
    with pytest.raises(ConfigError, match=words):
        changed(shape_resnet.Config(), settings)


def test_one_training_step_of_shape_resnet_as_published():
    """ResNet-50 on 16 slices of 160 by 160 with four series: the recipe runs, and every weight moves."""
    paper = shape_resnet.Config.preset("paper")
    torch.manual_seed(0)
    net = ShapeResNet(len(paper.series), 2, depth=paper.depth)
    task = shape_resnet._Task(net, np.ones(2), 0, paper)
    before = {name: p.clone() for name, p in net.named_parameters()}
    image, shape = torch.randn(paper.batch, 4, paper.pixels, paper.pixels), torch.randn(paper.batch, 14)
    truth = torch.arange(paper.batch) % 2
    optimiser = task.configure_optimizers()
    loss = task.training_step([image, shape, truth], 0)
    loss.backward()
    optimiser.step()
    assert 0.3 < loss.item() < 3
    assert [name for name, p in net.named_parameters() if torch.equal(p, before[name])] == []


def test_one_training_step_of_the_3d_comparator_as_published():
    """3-D ResNet-50 on 128 x 160 x 160 voxels, one volume instead of four: it runs, and every weight moves."""
    paper = replace(shape_resnet.Config.preset("paper"), dims=3, join="none")
    torch.manual_seed(0)
    net = shape_resnet._network(paper, 2)
    task = shape_resnet._Task(net, np.ones(2), 0, paper)
    image = torch.randn(1, 4, paper.planes, paper.pixels, paper.pixels)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.training_step([image, torch.randn(1, 14), torch.ones(1, dtype=torch.long)], 0)
    loss.backward()
    assert [
        name for name, p in net.named_parameters() if not p.grad.any() or not p.grad.isfinite().all()
    ] == []


def test_one_training_step_of_segmentation_fusion_as_published():
    """U-Nets of 32 to 512 channels on slices of 128 x 128 and on 128 x 128 x 128; ResNet-50; every weight moves."""
    paper = segmentation_fusion.Config.preset("paper")
    edge = paper.edge
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (1, 1, edge, edge, edge))
    weights = torch.ones(4)
    nets = [
        (UNet(4, 4, paper.widths_2d, dims=2), torch.rand(2, 4, edge, edge), labels[0, :, :2].transpose(0, 1)),
        (UNet(4, 4, paper.widths_3d), torch.rand(1, 4, edge, edge, edge), labels),
    ]
    for net, image, truth in nets:
        with torch.autocast("cpu", torch.bfloat16):
            loss = Segmenting(net, segmenter.loss_of(paper.loss, weights), paper.rate, 1).training_step(
                (image, truth), 0
            )
        loss.backward()
        still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert still == []
    namer = slice_resnet(3, 4, paper.depth)
    task = Segmenting(namer, slice_namer._loss(paper.namer_loss, np.ones(4)), paper.rate, 1)
    task.training_step((torch.rand(4, 3, edge, edge), torch.arange(4)), 0).backward()
    assert [name for name, p in namer.named_parameters() if p.grad is None] == []


def test_one_training_step_of_mts_unet_as_published():
    """62 M parameters on 96 x 96 x 96 with gradient checkpointing, one patient instead of two: every weight moves."""
    paper = mts_unet.Config.preset("paper")
    torch.manual_seed(0)
    tasks = [Task(target, ("a", "b"), (0.5, 0.5)) for target in paper.tasks]
    task = mts_unet._learning(mts_unet._network(paper, 4, tasks), tasks, paper, 10)
    edge = paper.edge
    batch = [torch.randn(1, 4, edge, edge, edge), torch.ones(1, 4, dtype=torch.bool),
             torch.randint(0, 4, (1, 1, edge, edge, edge)), torch.tensor([True]),
             torch.zeros(1, 3, dtype=torch.long)]  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        task.training_step(batch, 0).backward()
    wrong = [
        name
        for name, p in task.net.named_parameters()
        if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()
    ]
    assert wrong == []


def test_an_unknown_method_or_setting_names_what_there_is():
    with pytest.raises(ConfigError, match="shape-resnet"):
        find_method("resnet")
    with pytest.raises(ConfigError, match="epochs"):
        changed(shape_resnet.Config(), {"epoch": 3})
    assert changed(shape_resnet.Config(), {"series": ["t1", "t2"]}).series == ("t1", "t2")


# --- the loop --------------------------------------------------------------------------------------------------


def test_an_interrupt_stays_an_interrupt(tmp_path):
    class Stopped(Counting):
        def training_step(self, batch, _):
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(Stopped(), batches(), epochs=2, folder=tmp_path, label="x")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stopped_fit_ends_in_the_same_network_as_one_that_was_not(cases, tmp_path, monkeypatch):
    """With its real draws of slices, augmentation and inner fold, stopped in the final training."""
    config = changed(shape_resnet.Config().scaled("demo"), {"epochs": 4, "slices": 2, "series": SERIES})
    straight = shape_resnet.fit(
        cases, config, Run("grade", ("LGG", "HGG"), tmp_path / "a", tmp_path / "cache", 3)
    )
    steps = iter(range(10_000))
    step = shape_resnet._Task.training_step

    def stop(self, batch, i):
        if next(steps) == 5:
            raise RuntimeError("the power went")
        return step(self, batch, i)

    run = Run("grade", ("LGG", "HGG"), tmp_path / "b", tmp_path / "cache", 3)
    monkeypatch.setattr(shape_resnet._Task, "training_step", stop)
    with pytest.raises(RuntimeError):
        shape_resnet.fit(cases, config, run)
    monkeypatch.undo()
    resumed = shape_resnet.fit(cases, config, run)
    assert resumed.epochs == straight.epochs
    for i in range(3):
        answers = [m.predict(cases[i]).probabilities["grade"]["HGG"] for m in (straight, resumed)]
        assert answers[0] == pytest.approx(answers[1], abs=1e-5)


class Counting(lightning.LightningModule):
    """A line fitted to a line; counts its steps, and stops at one of them if told to."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.line, self.steps, self.stop_at = torch.nn.Linear(1, 1), 0, stop_at

    def training_step(self, batch, _):
        self.steps += 1
        if self.steps == self.stop_at:
            raise RuntimeError("the power went")
        return ((self.line(batch) - 3 * batch) ** 2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def batches():
    return torch.utils.data.DataLoader(torch.linspace(-1, 1, 8)[:, None], batch_size=4)


def test_a_stopped_training_goes_on_from_its_checkpoint(tmp_path, capsys):
    stopped = Counting(stop_at=13)
    start = {name: value.clone() for name, value in stopped.state_dict().items()}
    with pytest.raises(RuntimeError, match="the power went"):
        train(stopped, batches(), epochs=8, folder=tmp_path, label="x")
    assert (tmp_path / CHECKPOINT).is_file()
    resumed = Counting()
    train(resumed, batches(), epochs=8, folder=tmp_path, label="x")
    assert resumed.steps == 4  # epochs 7 and 8 of two steps: six were kept
    straight = Counting()
    straight.load_state_dict(start)
    train(straight, batches(), epochs=8, folder=tmp_path / "straight", label="y")
    assert resumed.line.weight.item() == pytest.approx(straight.line.weight.item(), abs=1e-6)
    assert "x: 8 of 8" in capsys.readouterr().err


def test_a_training_that_runs_away_is_stopped_and_named(tmp_path):
    class Away(Counting):
        def training_step(self, batch, i):
            return super().training_step(batch, i) * float("inf")

    with pytest.raises(ConfigError, match="after epoch 1 2 weights are not finite"):
        train(Away(), batches(), epochs=3, folder=tmp_path, label="x")


def test_scores_of_epochs_survive_a_restart(tmp_path):
    from gliolens.loop import EachEpoch

    scores: list[float] = []
    counter = iter(range(100))
    with pytest.raises(RuntimeError):
        train(Counting(stop_at=9), batches(), epochs=8, folder=tmp_path, label="x",
              callbacks=[EachEpoch(lambda: float(next(counter)), scores)])  # fmt: skip
    assert scores == [0, 1, 2, 3]
    after: list[float] = []
    train(Counting(), batches(), epochs=8, folder=tmp_path, label="x",
          callbacks=[EachEpoch(lambda: float(next(counter)), after)])  # fmt: skip
    assert after == [0, 1, 2, 3, 4, 5, 6, 7]


def test_the_demo_scale_keeps_the_recipe():
    sound = shape_resnet.Config.preset("sound")
    demo = sound.scaled("demo")
    assert demo.depth == 18
    assert replace(demo, depth=50, pixels=sound.pixels, pixel_mm=sound.pixel_mm, planes=sound.planes,
                   slices=sound.slices, epochs=sound.epochs, shift=sound.shift) == sound  # fmt: skip
    assert sound.scaled("paper") == sound
