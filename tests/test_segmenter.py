"""Fusion and its parts: probabilities, shares, draws that go the same way, stages that are kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.errors import ConfigError
from gliolens.fusion import SHARES, Fusion, Weigher, best_share, learn_weight, region_dice, shares_scored
from gliolens.nn.unet import UNet
from gliolens.outline import read_outliner
from gliolens.segmenter import Cubes, Draw, Task, built_in_weights, learn_segmenter, tissue_weights

WIDTHS = (4, 8)


def patient(seed, edge=16):
    """A ball of oedema with an enhancing middle, bright in both series, in a brain that leaves a rim of air."""
    rng = np.random.default_rng(seed)
    at = np.indices((edge,) * 3)
    far = np.linalg.norm(at - rng.uniform(5, edge - 6, 3)[:, None, None, None], axis=0)
    labels = np.where(far < 2.0, 3, np.where(far < 4.0, 2, 0)).astype(np.uint8)
    brain = np.zeros((edge,) * 3, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    labels[~brain] = 0
    image = (
        0.3
        + 0.05 * rng.normal(size=(2, edge, edge, edge))
        + np.stack([0.4 * (labels > 0), 0.5 * (labels == 3)])
    )
    return {"image": (image.clip(0.01, 1) * brain).astype(np.float16), "labels": labels}


def fusion(weight=0.6, tissues=4):
    torch.manual_seed(0)
    return Fusion(UNet(2, tissues, WIDTHS, dims=2).eval(), UNet(2, tissues, WIDTHS).eval(), weight)


def seen(arrays):
    return arrays["image"].astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1))
def test_fused_is_the_weighted_mean_and_a_probability(share):
    image = seen(patient(0))
    made = fusion(share)
    flat, deep = made.branches(image)
    fused = made(image)
    assert fused == pytest.approx(share * flat + (1 - share) * deep, abs=1e-6)
    assert fused.sum(axis=0) == pytest.approx(1, abs=1e-5)


def test_there_is_no_tumour_outside_the_brain():
    image = seen(patient(1))
    outside = ~image.any(axis=0)
    for branch in (*fusion().branches(image), fusion(Weigher(4))(image)):
        assert (branch[0][outside] == 1).all()
        assert (branch[1:, outside] == 0).all()


def test_both_branches_see_the_very_same_voxels(monkeypatch):
    given_to = {}
    plain = UNet.forward

    def spy(self, image):
        given_to[image.ndim] = image.float()
        return plain(self, image)

    monkeypatch.setattr(UNet, "forward", spy)
    image = seen(patient(2))
    fusion().branches(image)
    brain = image.any(axis=(0, 1, 2))  # slices that hold none are not shown one by one
    assert torch.equal(given_to[4].permute(1, 2, 3, 0), given_to[5][0][..., brain])
    assert torch.equal(given_to[5][0], torch.from_numpy(image))


@pytest.mark.parametrize("every", [2, 3, 5, 40])
def test_slices_that_are_not_shown_are_read_between_their_neighbours(every):
    """Against NumPy's interpolation, voxel by voxel."""
    image, dense = seen(patient(6)), fusion(1.0)
    told = replace(dense, every=every)(image)
    heights = np.flatnonzero(image.any(axis=(0, 1, 2)))
    shown = np.unique([*heights[::every], heights[-1]])
    exact = dense(image)
    for d, h in ((4, 5), (9, 9), (12, 3)):
        for k in range(4):
            assert told[k, d, h, heights] == pytest.approx(
                np.interp(heights, shown, exact[k, d, h, shown]), abs=1e-5
            )


@pytest.mark.parametrize(("weight", "idle"), [(1.0, "deep_of"), (0.0, "flat_of")])
def test_a_network_without_weight_is_not_asked(weight, idle, monkeypatch):
    image = seen(patient(7))
    both = fusion(weight).joined(*fusion().branches(image))
    monkeypatch.setattr(Fusion, idle, None)
    assert fusion(weight)(image) == pytest.approx(both, abs=1e-6)


def test_built_in_weights_see_each_series_as_before():
    """Series that are left out, and whether they are there, are zeros to the built-in network; so it is here."""
    net, order = read_outliner().net.cpu(), read_outliner().card["series"]
    series = ("flair", "t1")
    image = torch.randn(1, 2, 8, 8, 8)
    whole = torch.zeros(1, 8, 8, 8, 8)
    for i, name in enumerate(series):
        whole[:, order.index(name)] = image[:, i]
    mine = UNet(2, 4, net_widths := tuple(read_outliner().card["widths"]))
    mine.load_state_dict(built_in_weights(series, net_widths), strict=False)
    assert torch.allclose(mine.stem(image), net.stem(whole), atol=1e-5)
    assert torch.equal(mine.up[0][0][0].weight, net.up[0][0][0].weight)


def test_built_in_weights_of_other_widths_are_refused():
    with pytest.raises(ConfigError, match="set start to random"):
        built_in_weights(("t1",), (8, 16))


def test_a_cut_network_sees_slices_one_by_one():
    """A slice's answer does not depend on the others; that of the 3-D network does."""
    image = seen(patient(3))
    flat, deep = fusion().branches(image)
    other = image.copy()
    other[..., 8] = image[..., 8][:, ::-1]
    changed_flat, changed_deep = fusion().branches(other)
    rest = [k for k in range(16) if k != 8]
    assert changed_flat[..., rest] == pytest.approx(flat[..., rest], abs=1e-5)
    assert np.abs(changed_deep[..., rest] - deep[..., rest]).max() > 1e-3


def test_a_new_weigher_weighs_both_alike():
    image = seen(patient(4))
    flat, deep = fusion().branches(image)
    assert fusion(Weigher(4))(image) == pytest.approx((flat + deep) / 2, abs=1e-6)


def test_state_is_put_back_whole():
    for weight in (0.3, Weigher(4)):
        first = fusion(weight)
        again = Fusion.made(first.state(), 2, 4, WIDTHS, WIDTHS, first.share)
        image = seen(patient(5))
        assert (again(image) == first(image)).all()


def test_the_share_of_most_dice_is_taken_and_kept(tmp_path, monkeypatch):
    """The 2-D network is right and the 3-D one wrong: all weight goes to the first."""
    patients = [patient(i) for i in range(2)]

    def branches(self, image):
        arrays = next(p for p in patients if (seen(p) == image).all())
        right = np.stack([arrays["labels"] == k for k in range(4)]).astype(np.float32)
        wrong = np.roll(right, 1, axis=0)
        return right, wrong

    monkeypatch.setattr(Fusion, "branches", branches)
    assert best_share(fusion(), patients, tmp_path / "share.json") > 0.5
    told = json.loads((tmp_path / "share.json").read_text())
    assert list(map(float, told["mean_dice"])) == list(SHARES)
    monkeypatch.setattr(Fusion, "branches", None)  # a second call reads the file
    assert best_share(fusion(), patients, tmp_path / "share.json") > 0.5
    monkeypatch.undo()
    monkeypatch.setattr(Fusion, "branches", branches)
    assert shares_scored(fusion(), patients[0])[1.0] == 1
    assert shares_scored(fusion(), patients[0])[0.0] < 0.5


def test_learnt_weights_turn_to_the_branch_that_is_right(tmp_path, monkeypatch):
    patients = [patient(i) for i in range(2)]

    def branches(self, image):
        arrays = next(p for p in patients if (seen(p) == image).all())
        right = np.stack([arrays["labels"] == k for k in range(4)]).astype(np.float32)
        return right, np.roll(right, 1, axis=0)

    monkeypatch.setattr(Fusion, "branches", branches)
    weigher = learn_weight(fusion(), patients, tmp_path, seed=0)
    flat, deep = branches(None, seen(patients[0]))
    with torch.no_grad():
        weight = weigher(torch.from_numpy(flat)[None], torch.from_numpy(deep)[None])
    assert weight.mean() > 0.8


def test_two_tissues_are_one_region():
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[:2] = 1
    half = np.stack([truth == 0, truth == 1]).astype(np.float32)
    assert region_dice(truth, half) == {"whole": 1}
    assert set(region_dice(truth, np.concatenate([half, np.zeros_like(half)]))) == {
        "whole",
        "core",
        "enhancing",
    }


# --- draws -----------------------------------------------------------------------------------------------------


def test_each_epoch_takes_all_patients_in_another_order_and_draws_anew():
    draw = Draw(5, seed=1)
    epochs = []
    for epoch in range(3):
        draw.set_epoch(epoch)
        numbers = list(draw)
        assert sorted(n % 5 for n in numbers) == [0, 1, 2, 3, 4]
        epochs.append(numbers)
    assert len({n for numbers in epochs for n in numbers}) == 15
    cubes = Cubes([patient(i) for i in range(5)], 4, 6, flip=True, vary=False, seed=1)
    first, second = (cubes[n][0] for n in (0, 5))  # the same patient in two epochs
    assert not torch.equal(first, second)
    assert torch.equal(first, cubes[0][0])


def test_half_of_the_slices_hold_tumour_and_all_hold_brain():
    cubes = Cubes([patient(3)], 4, 8, flip=False, vary=False, seed=0)
    for n in range(10):
        image, labels = cubes[n]
        assert image.shape == (8, 2, 16, 16)
        assert labels.shape == (8, 1, 16, 16)
        assert image.flatten(1).any(dim=1).all()
        assert labels.flatten(1).any(dim=1).sum() >= 4


def test_image_and_labels_are_flipped_together():
    arrays = patient(6)
    for n in range(6):
        image, labels = Cubes([arrays], 4, 0, flip=True, vary=False, seed=0)[n]
        bright = image[0, 1] > 0.6
        assert (labels[0, 0][bright] == 3).float().mean() > 0.95


@pytest.mark.parametrize("slices", [0, 6])
def test_varied_heads_keep_labels_on_what_they_label(slices):
    """The enhancing middle stays the bright one, the air stays nought, sizes change within bounds."""
    cubes = Cubes([patient(6, edge=32)], 4, slices, flip=False, vary=True, seed=0)
    plain = Cubes([patient(6, edge=32)], 4, slices, flip=False, vary=False, seed=0)
    volumes = []
    for n in range(8):
        (image, labels), (before, old) = cubes[n], plain[n]
        assert image.shape == before.shape
        assert labels.shape == old.shape
        tumour, air = labels[:, 0] > 0, ~image.any(dim=1)
        assert image[:, 0][tumour].mean() > image[:, 0][~tumour & ~air].mean() + 0.1
        assert not labels[:, 0][air].any()
        volumes.append(float((labels > 0).sum() / (old > 0).sum()))
    assert 0.4 < min(volumes) < 0.95
    assert 1.05 < max(volumes) < 2.2


def test_rare_tissues_weigh_more_and_one_that_is_nowhere_drowns_no_other():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[0, 0, :9] = 3  # 9 voxels of 1000
    labels[1:6] = 2  # 500
    weights = tissue_weights([{"labels": labels}], 4).numpy()
    assert weights[3] / weights[2] == pytest.approx(np.sqrt(500 / 9), rel=1e-5)
    assert weights[[0, 2, 3]].mean() == pytest.approx(1)
    assert weights[1] == 1


# --- learning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("loss", ["focal", "cross-entropy", "dice+cross-entropy"])
def test_a_network_learns_to_outline_balls(dims, loss, tmp_path):
    patients = [patient(i) for i in range(6)]
    net = learn_segmenter(
        patients, 4, dims, widths=(8, 16), loss=loss, epochs=25, slices=8, rate=1e-2, flip=True, vary=False,
        folder=tmp_path, seed=0,
    )  # fmt: skip
    other = UNet(2, 4, WIDTHS, dims=5 - dims).eval()
    new = patient(50)
    drawn = Fusion(net, other, 1.0) if dims == 2 else Fusion(other, net, 0.0)
    assert region_dice(new["labels"], drawn(seen(new)))["whole"] > 0.8


def test_a_stage_that_is_done_is_read_and_not_learnt_again(tmp_path):
    recipe = {
        "widths": WIDTHS,
        "loss": "focal",
        "epochs": 1,
        "slices": 4,
        "rate": 1e-3,
        "flip": False,
        "vary": False,
        "seed": 0,
    }
    first = learn_segmenter([patient(0)], 4, 2, folder=tmp_path, **recipe)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["weights.safetensors"]
    again = learn_segmenter([patient(1)], 4, 2, folder=tmp_path, **recipe)  # another patient is not looked at
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_stopped_network_ends_as_one_that_was_not(dims, tmp_path, monkeypatch):
    """Every epoch has its own order and draws, also the first after a restart."""
    patients = [patient(i) for i in range(4)]
    recipe = {
        "widths": WIDTHS,
        "loss": "focal",
        "epochs": 8,
        "slices": 4,
        "rate": 1e-2,
        "flip": True,
        "vary": True,
        "seed": 0,
    }
    whole = learn_segmenter(patients, 4, dims, folder=tmp_path / "whole", **recipe)
    starts, plain = [], Task.on_train_epoch_start

    def stop_once(self):
        starts.append(self.current_epoch)
        if len(starts) == 6:
            raise KeyboardInterrupt
        plain(self)

    monkeypatch.setattr(Task, "on_train_epoch_start", stop_once)
    with pytest.raises(KeyboardInterrupt):
        learn_segmenter(patients, 4, dims, folder=tmp_path / "stopped", **recipe)
    again = learn_segmenter(patients, 4, dims, folder=tmp_path / "stopped", **recipe)
    assert starts == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]  # a checkpoint every two epochs
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
