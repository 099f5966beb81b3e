"""shape-resnet: the published network, what it sees, and what it does to it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.models import resnet18

from gliolens.case import Case, Grid
from gliolens.cohorts.phantom.cohort import simulate_case, write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.errors import CaseError, ConfigError, ModelError
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods.shape_resnet import IMAGE, Config, Model, _Task, augmented, fit, identity, load, prepare
from gliolens.nn.resnet import ShapeResNet
from gliolens.radiomics.shape import FEATURES
from gliolens.slices import mean_over_slices
from gliolens.stats.scaling import Scaling

STILL = replace(Config(), flip=0.0, shift=0, rotate=0.0, noise=0.0, zoom=0.0)


@pytest.fixture(scope="module")
def case():
    config = PhantomConfig(spacing_mm=3.0)
    return simulate_case(draw_cohort(1, 5, config)[0], config)


def untrained(config, classes=("LGG", "HGG")):
    torch.manual_seed(0)
    net = ShapeResNet(
        len(config.series), len(classes), depth=config.depth, dims=config.dims, join=config.join
    ).eval()
    scaling = Scaling((0.0,) * 14, (1.0,) * 14, tuple(range(10)))
    return Model("grade", classes, config, net, scaling, (0.25, 0.75), 1)


def test_the_published_network_has_the_published_number_of_parameters():
    count = sum(p.numel() for p in ShapeResNet(4, 2, shapes=14, neck=14, depth=50).parameters())
    assert count == 23_539_912


def test_paper_holds_the_published_numbers():
    paper = Config.preset("paper")
    assert (paper.depth, paper.pixels, paper.pixel_mm, paper.epochs, paper.batch) == (50, 160, 1.0, 20, 16)
    assert (paper.rate, paper.decay, paper.magnify_rare, paper.balance) == (1e-3, 5e-4, True, "repeat")
    assert (paper.planes, paper.slices, paper.choose_epochs, paper.rotate) == (128, 0, False, 180)
    net = ShapeResNet(4, 2)
    assert (net.backbone.fc.in_features, net.backbone.fc.out_features) == (2048, 14)
    assert (net.head.in_features, net.head.out_features) == (28, 2)
    (group,) = _Task(net, np.ones(2), 0, paper).configure_optimizers().param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.99), 5e-4)
    assert FEATURES == (
        "MeshVolume", "VoxelVolume", "SurfaceArea", "SurfaceVolumeRatio", "Sphericity", "Maximum3DDiameter",
        "Maximum2DDiameterSlice", "Maximum2DDiameterColumn", "Maximum2DDiameterRow", "MajorAxisLength",
        "MinorAxisLength", "LeastAxisLength", "Elongation", "Flatness",
    )  # fmt: skip
    assert Config.preset("sound").magnify_rare is False
    with pytest.raises(ConfigError, match="paper and sound"):
        Config.preset("best")


def test_slices_hold_the_tumour_and_nothing_else(case):
    config = replace(Config(), pixels=64, pixel_mm=3.0)
    ready = prepare(case, config)
    slices = ready["slices"]
    assert slices.shape[1:] == (4, 64, 64)
    tumour = case.region("whole")
    for i, affine in enumerate(ready["affines"]):
        at = np.linalg.inv(case.grid.affine) @ affine @ [32, 32, 0, 1]
        k = round(at[2])
        seen = (slices[i] != 0).any(axis=0)
        assert seen.sum() == pytest.approx(tumour[:, :, k].sum(), rel=0.1, abs=4)
    areas = tumour.sum(axis=(0, 1)) * 9.0
    assert len(slices) == (areas >= config.min_mm2).sum()


def test_a_slice_lies_where_its_affine_says(case):
    ready = prepare(case, replace(Config(), series=("flair",), pixels=64, pixel_mm=3.0))
    slice_, affine = ready["slices"][0][0].astype(float), ready["affines"][0]
    found = np.argwhere(slice_ != 0)
    world = np.array([affine @ [x, y, 0, 1] for x, y in found])
    index = np.round((np.linalg.inv(case.grid.affine) @ world.T)[:3]).astype(int)
    within_a_voxel = ndimage.binary_dilation(case.region("whole"))
    assert within_a_voxel[tuple(index)].all()
    assert index.std(axis=1)[:2].min() > 1  # and not all at one place


def test_shape_features_come_in_the_papers_order(case):
    shape = prepare(case, Config())["shape"]
    assert shape[FEATURES.index("VoxelVolume")] == pytest.approx(case.region("whole").sum() * 27.0)


def test_a_case_without_tumour_is_refused(case):
    with pytest.raises(CaseError, match="mask without tumour"):
        prepare(replace(case, tumour=np.zeros_like(case.tumour)), Config())


def test_a_flat_series_is_refused():
    tumour = np.zeros((8, 8, 8), np.uint8)
    tumour[3:6, 3:6, 3:6] = 1
    grid = Grid((8, 8, 8), np.eye(4))
    ramp = np.arange(512, dtype=np.float32).reshape(8, 8, 8)
    flat = Case("a", grid, {"t1": ramp, "flair": np.ones((8, 8, 8), np.float32)}, grid, tumour=tumour,
                brain=np.ones((8, 8, 8), bool))  # fmt: skip
    with pytest.raises(CaseError, match="flair"):
        prepare(flat, replace(Config(), series=("t1", "flair")))


def test_augmentation_of_nothing_changes_nothing():
    image = torch.rand(3, 4, 32, 32)
    assert torch.allclose(augmented(image, torch.zeros(3, dtype=torch.bool), STILL), image, atol=1e-5)


def test_a_full_turn_of_half_a_circle_is_two_flips():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 32, 32)
    flipped = augmented(image, torch.zeros(1, dtype=torch.bool), replace(STILL, flip=1.0))
    assert torch.allclose(flipped, image.flip(-1), atol=1e-5)


def test_the_cyclic_shift_loses_no_pixel():
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32)
    moved = augmented(image, torch.zeros(2, dtype=torch.bool), replace(STILL, shift=9))
    assert not torch.equal(moved, image)
    assert torch.allclose(moved.flatten(2).sort().values, image.flatten(2).sort().values, atol=1e-5)


def test_only_the_rare_class_is_magnified_and_only_under_paper():
    disc = torch.zeros(2, 1, 160, 160)
    y, x = torch.meshgrid(torch.arange(160), torch.arange(160), indexing="ij")
    disc[:] = ((x - 79.5) ** 2 + (y - 79.5) ** 2 < 15**2).float()
    rare = torch.tensor([True, False])
    paper = replace(STILL, magnify_rare=True)
    torch.manual_seed(0)
    seen = augmented(disc, rare, paper).flatten(1).sum(1) / disc.flatten(1).sum(1)
    assert seen[0] == pytest.approx((448 / 240) ** 2, rel=0.02)
    assert seen[1] == pytest.approx(1.0, rel=0.001)
    assert torch.allclose(augmented(disc, rare, STILL), disc, atol=1e-5)


def test_the_rare_crop_stays_within_the_224_pixels_it_is_cut_from():
    point = torch.zeros(400, 1, 160, 160)
    point[:, :, 76:84, 76:84] = 1.0
    torch.manual_seed(0)
    seen = augmented(point, torch.ones(400, dtype=torch.bool), replace(STILL, magnify_rare=True))
    where = torch.stack([s[0].nonzero().float().mean(0) - 79.5 for s in seen])
    assert 28 < where.abs().max() <= 32.5  # 224 - 160 pixels, half to either side


def test_probabilities_put_the_class_shares_back_and_decide_without_them(case):
    config = replace(Config().scaled("demo"), series=tuple(case.series))
    model = untrained(config)
    answer = model.predict(case)
    balanced = replace(model, prior=(0.5, 0.5)).predict(case)
    odds = answer.probabilities["grade"]["HGG"] / answer.probabilities["grade"]["LGG"]
    even = balanced.probabilities["grade"]["HGG"] / balanced.probabilities["grade"]["LGG"]
    assert odds == pytest.approx(3 * even, rel=1e-6)
    assert answer.decisions == balanced.decisions


def test_the_evidence_adds_up_to_the_difference_of_logits(case):
    model = untrained(replace(Config().scaled("demo"), series=tuple(case.series)))
    ready = prepare(case, model.config)
    z = model.scaling(ready["shape"][None])
    with torch.no_grad():
        images = torch.from_numpy(ready["slices"].astype(np.float32))
        logits = model.net(images, torch.from_numpy(z).expand(len(images), -1)).mean(0)
    decided = model.classes.index(model.predict(case).decisions["grade"])
    difference = float(logits[decided] - logits[1 - decided])
    bias = model.net.head.bias.detach()
    parts = sum(model.predict(case).evidence.values()) + float(bias[decided] - bias[1 - decided])
    assert parts == pytest.approx(difference, rel=1e-3, abs=1e-4)


def test_the_map_lies_on_the_tumours_slices(case):
    model = untrained(replace(Config().scaled("demo"), series=tuple(case.series)))
    heat = model.explain(case)["grade"]
    z = (np.linalg.inv(case.grid.affine) @ heat.affine @ [0, 0, 0, 1])[2]
    first = np.flatnonzero(case.region("whole").any(axis=(0, 1)))[0]
    assert first <= round(z) <= first + 3
    assert 0 <= heat.voxels.min() <= heat.voxels.max() <= 1


def in_three_dimensions(case, **settings):
    demo = Config().scaled("demo")
    return replace(demo, series=tuple(case.series), dims=3, pixels=36, planes=33, pixel_mm=5.0, **settings)


def test_a_volume_holds_what_the_slices_hold(case):
    """Planes first, then the axes of a slice, each voxel where the affine says."""
    config = in_three_dimensions(case)
    ready = prepare(case, config)
    assert ready["slices"].shape == (1, 4, 33, 36, 36)
    assert ready["tumour"].shape == (1, 33, 36, 36)
    volume = ready["tumour"].sum() * 5.0**3
    assert volume == pytest.approx(case.region("whole").sum() * 27.0, rel=0.15)
    (affine,), seen = ready["affines"], ready["tumour"][0].transpose(1, 2, 0)
    centre = affine @ [*ndimage.center_of_mass(seen), 1]
    own = case.grid.affine @ [*ndimage.center_of_mass(case.region("whole")), 1]
    assert np.abs(centre - own).max() < 2.0


def test_the_whole_brain_can_be_shown_instead(case):
    tumour, brain = (
        prepare(case, replace(Config(), pixels=64, pixel_mm=3.0, sees=s)) for s in ("tumour", "brain")
    )
    assert np.array_equal(tumour["tumour"], brain["tumour"])
    inside = brain["tumour"][:, None]
    assert np.array_equal(tumour["slices"], np.where(inside, brain["slices"], 0))
    assert (brain["slices"] != 0).any(axis=1).sum() > 2 * inside.sum()


@pytest.mark.parametrize(
    "settings", [{"dims": 3}, {"dims": 3, "join": "none"}, {"join": "gated"}, {"join": "none"}]
)
def test_every_network_of_the_paper_is_a_setting(case, settings, tmp_path):
    config = replace(in_three_dimensions(case), **{"dims": 2, **settings})
    model = untrained(config)
    model.save(tmp_path)
    assert load(tmp_path).predict(case).probabilities == model.predict(case).probabilities
    whole = model.explain(case)["grade"]
    at = np.linalg.inv(case.grid.affine) @ whole.affine
    assert whole.voxels.max() == 1
    assert np.isfinite(at).all()
    shown = [f for f in model.predict(case).evidence if f != IMAGE]
    assert len(shown) == (0 if config.join == "none" else 14)


def test_a_patient_too_small_for_the_paper_is_excluded_and_named(case):
    few = np.zeros_like(case.tumour)
    few[20:22, 20:22, 10] = 1  # 36 mm²
    small = replace(case, tumour=few)
    with pytest.raises(CaseError, match="36 mm² in its largest slice"):
        prepare(small, Config.preset("paper").scaled("demo"))
    assert len(prepare(small, Config())["slices"]) == 1


def test_the_map_of_what_falls_lies_within_the_tumour(case):
    model = untrained(replace(Config().scaled("demo"), series=tuple(case.series)))
    maps = model.explain(case)
    assert set(maps) == {"grade", "grade-occlusion"}
    assert maps["grade-occlusion"].voxels.shape == maps["grade"].voxels.shape
    assert 0 <= maps["grade-occlusion"].voxels.min() <= maps["grade-occlusion"].voxels.max() <= 1


def test_training_starts_from_the_weights_of_a_file(tmp_path):
    """Trained so slowly that nothing moves, it still holds them, the first layer widened to the series."""
    torch.manual_seed(3)
    pretrained = resnet18(weights=None).state_dict()
    torch.save(pretrained, tmp_path / "weights.pth")
    table = write_phantom(tmp_path / "p", 6, seed=3, config=PhantomConfig(spacing_mm=6.0))
    cases = Cases(read_cohort(table), SERIES)
    config = replace(
        Config().scaled("demo"), weights=str(tmp_path / "weights.pth"), rate=1e-12, decay=0.0, epochs=1, slices=1,
        choose_epochs=False,
    )  # fmt: skip
    model = fit(cases, config, Run("grade", ("LGG", "HGG"), tmp_path / "run", tmp_path / "cache"))
    held = model.net.backbone.state_dict()
    for name in ("layer1.0.conv1.weight", "layer4.1.conv2.weight"):
        assert torch.allclose(held[name], pretrained[name], atol=1e-6)
    first = held["conv1.weight"]
    assert torch.allclose(first.sum(1), pretrained["conv1.weight"].sum(1), atol=1e-4)
    assert torch.allclose(first[:, 0], first[:, 3], atol=1e-6)
    other = replace(config, weights=None)
    assert identity(config) != identity(other)
    with pytest.raises(ConfigError, match="no weights where dims is 3"):
        replace(config, dims=3)


def test_of_volumes_each_is_taken_once_an_epoch(tmp_path, monkeypatch):
    table = write_phantom(tmp_path / "p", 6, seed=3, config=PhantomConfig(spacing_mm=6.0))
    steps, step = [], _Task.training_step
    monkeypatch.setattr(
        _Task, "training_step", lambda self, batch, i: steps.append(len(batch[0])) or step(self, batch, i)
    )
    config = replace(
        Config().scaled("demo"), dims=3, join="none", batch=2, pixels=36, planes=33, pixel_mm=6.0, epochs=1,
        choose_epochs=False, slices=8,
    )  # fmt: skip
    fit(
        Cases(read_cohort(table), SERIES),
        config,
        Run("grade", ("LGG", "HGG"), tmp_path / "run", tmp_path / "cache"),
    )
    assert steps == [2, 2, 2]


def test_a_volume_is_augmented_alike_in_all_planes_and_channels():
    torch.manual_seed(0)
    plane = torch.rand(2, 1, 1, 36, 36)
    volume = plane.expand(-1, 3, 5, -1, -1).clone()
    seen = augmented(volume, torch.tensor([True, False]), replace(Config(), magnify_rare=True))
    assert seen.shape == volume.shape
    assert torch.allclose(seen, seen[:, :1, :1].expand_as(seen), atol=1e-6)
    assert not torch.allclose(seen, volume, atol=1e-2)
    order = torch.arange(15.0).reshape(1, 3, 5, 1, 1).expand(2, 3, 5, 36, 36).contiguous()
    assert torch.allclose(augmented(order, torch.tensor([True, False]), STILL), order, atol=1e-4)


def test_an_unweighted_answer_is_left_as_it_is(case):
    """Without balancing, class shares are in the network's answers already."""
    config = replace(Config().scaled("demo"), series=tuple(case.series), balance="none")
    model = untrained(config)
    same = replace(model, prior=(0.5, 0.5))
    assert model.predict(case).probabilities == same.predict(case).probabilities


def test_the_papers_answer_is_the_balanced_one(case):
    """It repeats the rarer class and puts no shares back; ranking divides by what the model says it put in."""
    paper = replace(Config.preset("paper").scaled("demo"), series=tuple(case.series))
    model = replace(untrained(paper), prior=(0.5, 0.5))
    ready = prepare(case, paper)
    q = mean_over_slices(model.net, ready["slices"], model.scaling(ready["shape"][None])[0])
    assert list(model.predict(case).probabilities["grade"].values()) == pytest.approx(q.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 1},
        {"series": ()},
        {"pixel_mm": 0.0},
        {"slices": -1},
        {"dims": 3, "pixels": 32},
        {"dims": 3, "planes": 32},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        Config(**wrong)


def test_saved_and_loaded_it_answers_the_same(case, tmp_path):
    model = untrained(replace(Config().scaled("demo"), series=tuple(case.series)))
    model.save(tmp_path)
    assert load(tmp_path).predict(case).probabilities == model.predict(case).probabilities


def test_weights_that_are_not_the_cards_are_refused(case, tmp_path):
    untrained(Config().scaled("demo")).save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match="not the file its card"):
        load(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(card | {"version": 99}))
    with pytest.raises(ModelError, match="version 99"):
        load(tmp_path)
