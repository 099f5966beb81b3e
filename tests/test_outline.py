"""The outline: what the network sees, laws of what it draws, and that weights and cards are kept whole."""

import dataclasses
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from gliolens.case import Case, CaseRow, Grid
from gliolens.cohorts.phantom.anatomy import head_grid
from gliolens.cohorts.phantom.scans import make_scans
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.errors import CaseError, ModelError
from gliolens.foreground import foreground_of, tissue
from gliolens.io.store import content_hash
from gliolens.labels import SERIES
from gliolens.loader import read_case
from gliolens.nn.unet import UNet
from gliolens.outline import Outliner, draw, network_input, read_outliner, write_outliner
from gliolens.stats.segmentation import dice

few = settings(max_examples=25, deadline=None, database=None)
HALF = {"whole": 0.5, "core": 0.5, "enhancing": 0.5}
CARD = {
    "widths": [4, 8, 8],
    "series": list(SERIES),
    "spacing_mm": 2.0,
    "thresholds": HALF,
    "least_ml": 0.0,
    "flips": [0],
    "trained_on": "nothing: random weights",
}


class Bright(UNet):
    """Says tumour where FLAIR is bright, core where T1 with contrast is, and brain all over."""

    def forward(self, image):
        def over(channel):
            return 8 * (image[:, channel] - 2.0)

        flair, contrast = over(SERIES.index("flair")), over(SERIES.index("t1ce"))
        return torch.stack([flair, contrast, contrast, torch.full_like(flair, 9.0)], dim=1)


def random_net() -> UNet:
    torch.manual_seed(3)
    return UNet(inputs=8, outputs=4, widths=CARD["widths"])


def outliner(**changes) -> Outliner:
    return Outliner(random_net().eval(), CARD | changes)


def bright(**changes) -> Outliner:
    return Outliner(Bright(8, 4, (2, 2)).eval(), CARD | {"least_ml": 0.3} | changes)


def head(
    spacing=(2.0, 2.0, 2.0), size_mm=(96, 112, 88), tumour_mm=22.0, names=SERIES
) -> tuple[Case, np.ndarray]:
    """A round head of grey, smooth in world space, with a bright ball left of its middle; and that ball."""
    shape = tuple(round(mm / s) for mm, s in zip(size_mm, spacing, strict=True))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
    at = np.stack(np.indices(shape), -1) * spacing + affine[:3, 3]
    inside = (at**2 / (np.array(size_mm) * 0.42) ** 2).sum(-1) < 1
    ball = np.linalg.norm(at - (-12.0, 8.0, 4.0), axis=-1) < tumour_mm / 2
    grey = 100 + 12 * np.sin(at @ (0.21, 0.11, 0.17)) + 9 * np.cos(at @ (0.05, 0.3, 0.2))
    series = {
        name: np.where(inside, grey + 7 * k + np.where(ball, 150, 0), 0).astype(np.float32)
        for k, name in enumerate(names)
    }
    grid = Grid(shape, affine)
    return Case(id="case 1", grid=grid, source=grid, series=series), np.asarray(ball)


# --- what the network sees -------------------------------------------------------------------------------------


def test_the_network_sees_standardised_series_and_which_there_are():
    rng = np.random.default_rng(0)
    inside = rng.random((5, 6, 7)) < 0.6
    series = {"flair": rng.normal(300, 40, inside.shape), "t1": rng.normal(-2, 0.1, inside.shape)}
    seen = network_input(
        {k: torch.tensor(v) for k, v in series.items()}, torch.tensor(inside), SERIES
    ).numpy()
    assert seen.shape == (8, 5, 6, 7)
    for channel, name in enumerate(SERIES):
        if name not in series:
            assert not seen[channel].any()
            assert not seen[4 + channel].any()
            continue
        values = series[name][inside]
        wanted = np.where(inside, np.clip((series[name] - values.mean()) / values.std(), -5, 5), 0)
        assert np.allclose(seen[channel], wanted)
        assert np.all(seen[4 + channel] == 1)


def test_a_batch_is_what_its_cases_are_one_by_one():
    rng = np.random.default_rng(1)
    series = {name: torch.tensor(rng.normal(size=(3, 4, 5, 6)), dtype=torch.float32) for name in SERIES}
    inside = torch.tensor(rng.random((3, 4, 5, 6)) < 0.7)
    together = network_input(series, inside, SERIES)
    for i in range(3):
        alone = network_input({k: v[i] for k, v in series.items()}, inside[i], SERIES)
        assert torch.allclose(together[i], alone)


@few
@given(factor=st.floats(0.01, 100), offset=st.floats(-500, 500), seed=st.integers(0, 9))
def test_scale_and_offset_of_a_series_do_not_matter(factor, offset, seed):
    rng = np.random.default_rng(seed)
    image = torch.tensor(rng.normal(size=(5, 5, 5)))
    inside = torch.tensor(rng.random((5, 5, 5)) < 0.7)
    first = network_input({"t2": image}, inside, SERIES)
    assert torch.allclose(network_input({"t2": image * factor + offset}, inside, SERIES), first, atol=1e-6)
    noise = torch.where(inside, image, 1e4)
    assert torch.equal(network_input({"t2": noise}, inside, SERIES), first)


def test_outliers_are_clipped_and_a_flat_series_is_zero():
    image = torch.zeros(9, 9, 9)
    image[4, 4, 4] = 1e6
    inside = torch.ones(9, 9, 9, dtype=torch.bool)
    seen = network_input({"t1": image, "t2": torch.full_like(image, 7.0)}, inside, SERIES)
    assert seen.max() == 5
    assert not seen[SERIES.index("t2")].any()


@pytest.mark.parametrize("background", [0.0, -7.0, -1000.0, 5.0, 1e5])
def test_tissue_is_found_whatever_the_background_was_set_to(background):
    case, _ = head()
    image = case.series["t1"]
    inside = image > 0
    scaled = np.where(inside, (image - image[inside].mean()) / 30, background).astype(np.float32)
    found = tissue(scaled)
    assert np.count_nonzero(found != inside) <= 1e-3 * inside.sum()


@pytest.mark.parametrize("place", [0, 1])
def test_a_head_in_its_skull_holds_the_ventricles_and_not_the_air(place):
    patient, grid = draw_cohort(2, 1, PhantomConfig(spacing_mm=4.0))[place], head_grid(4.0)
    with torch.inference_mode():
        scans = make_scans([patient], grid, skull=[True])
    series = {name: scans.series[0, SERIES.index(name)].numpy() for name in ("t1", "flair")}
    brain, air, t1 = scans.brain[0].numpy(), ~scans.kept[0].numpy(), series["t1"]
    assert np.unique(t1[air]).size > 10  # noise, not one value
    deep = ndimage.binary_erosion(brain, iterations=3)
    ventricles = deep & (t1 < np.quantile(t1[brain], 0.05))  # fluid is dark without T2
    found = foreground_of(Case(id="case 1", grid=grid, source=grid, series=series))
    above_otsu = tissue(t1) | tissue(series["flair"])
    assert ventricles.sum() > 100
    assert above_otsu[ventricles].mean() < 0.05  # the threshold alone would lose them
    assert found[ventricles].mean() > 0.98
    assert found[brain].mean() > 0.99
    assert found[air].mean() < 0.04


def test_zeros_inside_a_blanked_head_belong_to_it():
    """A head in its skull whose air was set to zero, and its dark bone and fluid with it."""
    patient, grid = draw_cohort(1, 1, PhantomConfig(spacing_mm=4.0))[0], head_grid(4.0)
    scans = make_scans([patient], grid, skull=[True])
    kept, t1 = scans.kept[0].numpy(), scans.series[0, SERIES.index("t1")].numpy()
    dark = kept & (t1 < np.quantile(t1[kept], 0.2))
    t1 = np.pad(np.where(kept & ~dark, t1, np.float32(0)), 6)
    shape = (t1.shape[0], t1.shape[1], t1.shape[2])
    found = foreground_of(Case(id="case 1", grid=Grid(shape, grid.affine), source=grid, series={"t1": t1}))
    deep = np.pad(ndimage.binary_erosion(scans.brain[0].numpy(), iterations=3), 6)
    assert (t1[deep] == 0).mean() > 0.01
    assert found[deep].mean() > 0.98
    assert found[np.pad(~kept, 6, constant_values=True)].mean() < 0.04


# --- laws of what is drawn -------------------------------------------------------------------------------------


def same(first, second, at_most=1e-3) -> bool:
    """Equal but for voxels that rounding pushed over a threshold; and not because nothing was drawn."""
    assert 0.02 < (first > 0).mean() < 0.9
    return np.count_nonzero(first != second) <= at_most * np.count_nonzero(first)


@pytest.mark.parametrize("axes", ["LPS", "RPI", "ASL", "SRA"])
def test_orientation_of_the_files_does_not_matter(axes, tmp_path):
    case, _ = head()
    wanted = outliner().outline(case)
    files = {}
    for name, image in case.series.items():
        stored = nib.Nifti1Image(image, case.grid.affine)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        turned = stored.as_reoriented(turn)
        files[name] = tmp_path / f"{name}.nii.gz"
        nib.save(turned, files[name])
    read = read_case(CaseRow("case 1", "case 1", files=files))
    found = outliner().outline(read)
    assert found.labels.shape == wanted.labels.shape
    assert same(wanted.labels, found.labels)


def test_left_and_right_change_places_with_the_head():
    case, _ = head()
    mirrored = dataclasses.replace(case, series={k: v[::-1].copy() for k, v in case.series.items()})
    first, second = outliner().outline(case), outliner().outline(mirrored)
    assert same(first.labels, second.labels[::-1], at_most=0.01)


@pytest.mark.parametrize(("factor", "offset"), [(4.0, 0.0), (0.013, 0.0), (1.0, 900.0), (0.5, -120.0)])
def test_scale_and_offset_of_intensities_do_not_matter(factor, offset):
    case, _ = head()
    changed = {
        name: np.where(image > 0, image * factor + offset, 0).astype(np.float32)
        for name, image in case.series.items()
    }
    found = outliner().outline(dataclasses.replace(case, series=changed))
    assert same(outliner().outline(case).labels, found.labels, at_most=0.02)


def test_where_the_scanner_put_its_origin_does_not_matter():
    case, _ = head()
    affine = case.grid.affine.copy()
    affine[:3, 3] += (400.0, -37.0, 3.5)
    moved = Grid(case.grid.shape, affine)
    found = outliner().outline(dataclasses.replace(case, grid=moved, source=moved))
    assert same(outliner().outline(case).labels, found.labels)


def test_air_around_the_head_does_not_matter():
    case, _ = head()
    wide = {name: np.pad(image, ((3, 40), (0, 9), (17, 2))) for name, image in case.series.items()}
    affine = case.grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ (3, 0, 17)
    grid = Grid(next(iter(wide.values())).shape, affine)
    found = outliner().outline(dataclasses.replace(case, series=wide, grid=grid, source=grid)).labels
    d, h, w = case.grid.shape
    part = found[3 : 3 + d, :h, 17 : 17 + w]
    assert np.count_nonzero(found) == np.count_nonzero(part)
    assert same(outliner().outline(case).labels, part)


@pytest.mark.parametrize(
    "spacing",
    [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (0.8, 0.8, 5.0), (6.0, 1.0, 1.2), (3.0, 2.5, 1.5), (4.0,) * 3],
)
def test_a_bright_ball_is_drawn_on_any_grid(spacing):
    case, ball = head(spacing)
    found = bright().outline(case)
    assert dice(ball, found.labels > 0) > (0.9 if max(spacing) <= 3 else 0.8)
    assert set(np.unique(found.labels)) == {0, 3}
    assert found.probabilities["whole"].dtype == np.float32
    assert found.probabilities["whole"].shape == found.brain.shape == case.grid.shape
    assert found.missing == ()


def test_one_thick_slice_can_be_read():
    case, _ = head((2.0, 2.0, 2.0))
    k = case.grid.shape[2] // 2
    flat = {name: image[:, :, k : k + 1] for name, image in case.series.items()}
    grid = Grid(next(iter(flat.values())).shape, case.grid.affine)
    found = bright(least_ml=0.0).outline(dataclasses.replace(case, series=flat, grid=grid, source=grid))
    assert found.labels.any()


@pytest.mark.parametrize("names", [("flair",), ("flair", "t1"), ("t1ce", "t2", "flair")])
def test_missing_series_are_named(names):
    case, ball = head(names=names)
    found = bright().outline(case)
    assert found.missing == tuple(s for s in SERIES if s not in names)
    assert dice(ball, found.labels > 0) > 0.9
    assert bool((found.labels == 3).any()) == ("t1ce" in names)


def test_no_tumour_is_no_label():
    case, _ = head(tumour_mm=0.0)
    found = bright().outline(case)
    assert not found.labels.any()
    assert found.brain.any()
    assert found.probabilities["whole"].max() < 0.5


def test_a_brain_mask_hides_all_around_it():
    case, _ = head()
    brain = case.series["t1"] > 0
    noise = np.random.default_rng(0).uniform(0, 900, brain.shape).astype(np.float32)
    skull = {name: np.where(brain, image, noise) for name, image in case.series.items()}
    found = outliner().outline(dataclasses.replace(case, series=skull, brain=brain))
    assert not found.labels[~brain].any()
    assert not found.brain[~brain].any()
    assert same(outliner().outline(case).labels, found.labels)


def test_a_case_that_shows_nothing_is_refused():
    case, _ = head()
    nothing = np.zeros(case.grid.shape, bool)
    with pytest.raises(CaseError, match="empty brain mask"):
        outliner().outline(dataclasses.replace(case, brain=nothing))
    with pytest.raises(CaseError, match="no series"):
        outliner().outline(dataclasses.replace(case, series={}))
    flat = {**case.series, "t2": np.full(case.grid.shape, 3, np.float32)}
    with pytest.raises(CaseError, match="t2 without contrast"):
        outliner().outline(dataclasses.replace(case, series=flat, brain=case.series["t1"] > 0))


shares = arrays(np.float32, (4, 5, 6), elements=st.floats(0, 1, width=32))


@few
@given(
    whole=shares,
    core=shares,
    enhancing=shares,
    cuts=st.tuples(*[st.floats(0.1, 0.9)] * 3),
    least=st.floats(0, 9),
)
def test_labels_nest_and_keep_the_thresholds(whole, core, enhancing, cuts, least):
    probabilities = {"whole": whole, "core": core, "enhancing": enhancing}
    thresholds = dict(zip(probabilities, cuts, strict=True))
    within = np.random.default_rng(0).random(whole.shape) < 0.8
    labels = draw(probabilities, within, thresholds, least)
    assert not labels[~within].any()
    assert (whole[labels > 0] >= cuts[0]).all()
    assert (core[np.isin(labels, (1, 3))] >= cuts[1]).all()
    assert (enhancing[labels == 3] >= cuts[2]).all()
    assert (core[labels == 2] < cuts[1]).all()
    assert (enhancing[labels == 1] < cuts[2]).all()
    pieces, n = ndimage.label(labels > 0, np.ones((3, 3, 3)))
    assert all((pieces == i).sum() >= least for i in range(1, n + 1))
    kept = draw(probabilities, within, thresholds)
    assert np.array_equal(kept > 0, within & (whole >= cuts[0]))
    assert np.array_equal(labels[labels > 0], kept[labels > 0])


# --- weights and card ------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path) -> Path:
    write_outliner(tmp_path / "net", random_net(), CARD)
    return tmp_path / "net"


def test_weights_come_back_as_they_were(kept):
    image = torch.randn(1, 8, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    read = read_outliner(kept)
    with torch.inference_mode():
        assert torch.equal(read.net.cpu()(image), random_net().half().float()(image))
        assert torch.allclose(read.net.cpu()(image), random_net()(image), atol=0.02)
    assert {k: read.card[k] for k in CARD} == CARD
    write_outliner(kept, read.net, read.card)
    assert read_outliner(kept).card == read.card


def spoil_weights(folder):
    raw = bytearray((folder / "weights.safetensors").read_bytes())
    raw[-5] ^= 1
    (folder / "weights.safetensors").write_bytes(raw)


def lose_weights(folder):
    (folder / "weights.safetensors").unlink()


def swap_weights(folder):
    torch.manual_seed(9)
    write_outliner(folder / "other", UNet(8, 4, CARD["widths"]), CARD)
    shutil.copy(folder / "other" / "weights.safetensors", folder)


def lower_a_threshold(folder):
    card = json.loads((folder / "card.json").read_text())
    card["thresholds"]["whole"] = 0.1
    (folder / "card.json").write_text(json.dumps(card))


def praise(folder):
    card = json.loads((folder / "card.json").read_text())
    card["scores"] = [{"cohort": "all", "region": "whole", "n": 999, "dice": 1.0}]
    (folder / "card.json").write_text(json.dumps(card))


def lose_card(folder):
    (folder / "card.json").unlink()


def break_card(folder):
    (folder / "card.json").write_text("{")


def other_kind(folder):
    (folder / "card.json").write_text('{"format": "shape-resnet", "version": 1}')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_weights, "sha256"),
        (lose_weights, "no weights"),
        (swap_weights, "sha256"),
        (lower_a_threshold, "changed after it was written"),
        (praise, "changed after it was written"),
        (lose_card, "card.json"),
        (break_card, "JSON"),
        (other_kind, "gliolens-outline"),
    ],
)
def test_what_was_tampered_with_is_refused(spoil, said, kept):
    spoil(kept)
    with pytest.raises(ModelError, match=said):
        read_outliner(kept)


def test_weights_of_another_network_are_refused(tmp_path):
    write_outliner(tmp_path, UNet(8, 4, (2, 4)), CARD)
    with pytest.raises(ModelError, match="does not fit the card"):
        read_outliner(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"thresholds": {"whole": 0.5}}, "thresholds"),
        ({"thresholds": HALF | {"core": 1.5}}, "thresholds"),
        ({"series": ["t1", "t1", "t2", "flair"]}, "series"),
        ({"spacing_mm": 0.0}, "spacing_mm"),
        ({"least_ml": -1.0}, "least_ml"),
        ({"flips": [3]}, "flips"),
        ({"widths": []}, "widths"),
        ({"widths": 8}, "widths"),
        ({"series": None}, "series"),
        ({"spacing_mm": "2 mm"}, "spacing_mm"),
        ({"thresholds": [0.5, 0.5, 0.5]}, "thresholds"),
        ({"trained_on": 7}, "trained_on"),
    ],
)
def test_a_card_that_makes_no_sense_is_not_written(change, said, tmp_path):
    with pytest.raises(ModelError, match=f"{said}.*; correct the card"):
        write_outliner(tmp_path, random_net(), CARD | change)
    with pytest.raises(ModelError, match=f"{said}.*; correct the card"):
        write_outliner(tmp_path, random_net(), {k: v for k, v in CARD.items() if k != said})
    assert list(tmp_path.iterdir()) == []


ROW = {"cohort": "real", "region": "core", "n": 3, "dice": 0.5}
OWN = {"case": "case 1", "own": 0.9, "real": None}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hours": "6 h"}, "hours"),
        ({"hours": -1.0}, "hours"),
        ({"steps": 12.5}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"scores": 0.8}, "scores"),
        ({"scores": ["whole 0.8"]}, "scores"),
        ({"scores": [{k: v for k, v in ROW.items() if k != "cohort"}]}, "scores"),
        ({"scores": [{k: v for k, v in ROW.items() if k != "dice"}]}, "scores"),
        ({"scores": [ROW | {"region": "skull"}]}, "scores"),
        ({"scores": [ROW | {"n": "3"}]}, "scores"),
        ({"scores": [ROW | {"dice": 80.0}]}, "scores"),
        ({"scores": [ROW | {"low": "0.4"}]}, "scores"),
        ({"scores_note": 3}, "scores_note"),
        ({"doubt_check": [OWN | {"own": "0.9"}]}, "doubt_check"),
        ({"doubt_check": [{"case": "case 1", "own": 0.9}]}, "doubt_check"),
    ],
)
def test_what_a_card_tells_of_itself_must_be_of_its_kind(change, said, tmp_path):
    with pytest.raises(ModelError, match=rf"found {said} .*, not .*; correct the card"):
        write_outliner(tmp_path, random_net(), CARD | change)
    assert list(tmp_path.iterdir()) == []


def test_a_card_whose_type_is_wrong_on_disk_says_what_to_do(tmp_path):
    good = {"hours": 6, "steps": 20, "scores": [ROW, ROW | {"dice": None}], "doubt_check": [OWN]}
    write_outliner(tmp_path, random_net(), CARD | good)
    card = read_outliner(tmp_path).card
    assert [card[name] for name in good] == list(good.values())
    changed = {k: v for k, v in card.items() if k != "sha256_card"} | {"hours": "long"}
    changed["sha256_card"] = content_hash(changed)
    (tmp_path / "card.json").write_text(json.dumps(changed))
    with pytest.raises(
        ModelError, match="hours long, not hours, 0 or more; name another folder with --outline"
    ):
        read_outliner(tmp_path)


def test_weights_that_are_not_built_yet_say_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setattr("gliolens.outline.BUILT_IN", tmp_path)
    with pytest.raises(ModelError, match="make weights"):
        read_outliner()


def test_the_built_in_outline_is_what_the_network_says_of_an_image_as_in_training():
    """The whole grid of the training at once: no crop, no padding.

    Zeros in the padding of the channels that say which series are there once cost a fifth of the Dice, unseen.
    """
    grid, drawer = head_grid(2.0), read_outliner()
    scans = make_scans(draw_cohort(5, 11, PhantomConfig())[4:], grid)
    series, kept = dict(zip(SERIES, scans.series[0], strict=True)), scans.kept[0]
    with torch.inference_mode():
        wanted = drawer.net(network_input(series, kept, SERIES)[None])[0, 0] > 0
    images = {name: volume.numpy() for name, volume in series.items()}
    found = drawer.outline(Case(id="seen", grid=grid, source=grid, series=images, brain=kept.numpy()))
    assert dice(wanted.numpy(), found.labels > 0) > 0.9
    assert dice(scans.labels[0].numpy() > 0, found.labels > 0) > 0.7
