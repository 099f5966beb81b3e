"""From cases to vectors: what the encoder sees, what is kept, and how slices become a volume."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gliolens.case import Case, Grid
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.embedding import (
    FRAME_MM,
    POOLINGS,
    by_series,
    embed,
    encode,
    joined,
    means_of,
    pictures_of,
    pooled,
    pools_of,
    without_each,
)
from gliolens.encoders.catalogue import find_encoder
from gliolens.encoders.encoder import Encoder, EncoderCard
from gliolens.errors import CaseError
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases


class Counting(nn.Module):
    """Mean and maximum of a picture; counts the pictures it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.shown = 0

    def forward(self, x):
        self.shown += len(x)
        return torch.stack([x.flatten(1).mean(1), x.flatten(1).amax(1)], dim=1) * self.weight


def counting(**changes):
    card = EncoderCard("counting", 2, 32, (0.0,), (1.0,), "none", "a test")
    return Encoder(replace(card, **changes), Counting())


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    return Cases(read_cohort(write_phantom(folder, 3, seed=5, config=PhantomConfig(spacing_mm=5.0))), SERIES)


# --- what is seen ----------------------------------------------------------------------------------------------


def ball(spacing=(2.0, 2.0, 4.0), shape=(60, 70, 30)):
    """A bright ball of 40 mm with a brighter spot in front of its middle, on the patient's left."""
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    at = np.stack(
        np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    )
    middle = np.array([60.0, 70.0, 60.0])[:, None, None, None]
    far = np.sqrt(((at - middle) ** 2).sum(axis=0))
    spot = np.sqrt(((at - middle - np.array([-18.0, 20.0, 0.0])[:, None, None, None]) ** 2).sum(axis=0)) < 8
    image = np.where(far < 40, 100.0 + 0.2 * far, 0.0) + 100.0 * spot
    return Case(id="ball", grid=grid, source=grid, series={"t1": image.astype(np.float32)})


def test_slices_are_square_in_millimetres_and_lie_as_radiology_shows_them():
    slices, frames = pictures_of(ball(), ("t1",))
    image = slices["t1"]
    assert image.shape[1:] == (FRAME_MM, FRAME_MM)
    assert len(image) == len(frames)
    middle = image[len(image) // 2]
    rows, columns = torch.nonzero(middle > 0).unbind(1)
    assert abs(int(rows.max() - rows.min()) - int(columns.max() - columns.min())) <= 2
    assert 76 <= int(rows.max() - rows.min()) <= 82
    bright = torch.nonzero(middle >= 0.99)
    assert float(bright[:, 0].float().mean()) < FRAME_MM / 2 - 15, "front above: rows count from there"
    assert float(bright[:, 1].float().mean()) > FRAME_MM / 2 + 13, "the patient's left on the right"


def test_the_voxel_size_does_not_matter():
    thin, thick = (
        pictures_of(ball((s, s, 4.0), (int(120 / s), int(140 / s), 30)), ("t1",))[0]["t1"] for s in (1.0, 2.0)
    )
    assert float((thin - thick).abs().mean()) < 0.01


def test_slices_with_little_brain_are_left_out():
    """Of a ball of 40 mm, those within sqrt(40^2 - 576 / pi) = 37.6 mm of its middle: 576 mm2 is one per cent."""
    slices, frames = pictures_of(ball(), ("t1",))
    heights = np.array([f.affine[2, 3] for f in frames])
    assert np.abs(heights - 60).max() <= 37.7
    assert len(slices["t1"]) == len(frames) == 19


@settings(deadline=None, max_examples=10)
@given(st.floats(0.1, 50), st.floats(-100, 100))
def test_scale_and_offset_of_intensities_do_not_matter(factor, offset):
    case = ball()
    image = case.series["t1"]
    other = np.where(image > 0, image * factor + offset, min(0.0, offset) - 1.0).astype(np.float32)
    brain = image > 0
    first, second = (
        pictures_of(replace(case, series={"t1": x}, brain=brain), ("t1",))[0]["t1"] for x in (image, other)
    )
    assert float((first - second).abs().max()) <= 1.5 / 255


def test_a_series_without_contrast_is_named():
    case = ball()
    flat = {"t1": case.series["t1"], "t2": np.full(case.grid.shape, 3.0, np.float32)}
    with pytest.raises(CaseError, match="t2"):
        pictures_of(replace(case, series=flat, brain=case.series["t1"] > 0), ("t1", "t2"))


def test_a_cube_holds_the_brain():
    volumes, frames = pictures_of(ball(), ("t1",), cube=32)
    inside = volumes["t1"][0] > 0
    assert volumes["t1"].shape == (1, 32, 32, 32)
    assert frames[0].spacing == pytest.approx((78 / 32,) * 3, rel=0.03)
    assert float(inside.float().mean()) == pytest.approx(
        np.pi / 6, rel=0.25
    )  # a ball in its box, with its edge


def test_a_file_that_is_not_there_is_told_of_its_case(cases, tmp_path):
    row = replace(cases.rows[0], files=cases.rows[0].files | {"t2": tmp_path / "gone.nii.gz"})
    with pytest.raises(CaseError, match="gone"):
        embed(Cases((row,), SERIES, need_mask=False), counting(), tmp_path)
    lacking = replace(row, files={s: f for s, f in cases.rows[0].files.items() if s != "t2"})
    with pytest.raises(CaseError, match="t2"):
        embed(Cases((lacking,), SERIES, need_mask=False), counting(), tmp_path)


# --- what is kept ----------------------------------------------------------------------------------------------


def test_a_second_run_encodes_nothing_and_reads_the_same(cases, tmp_path):
    first, second = counting(), counting()
    made = embed(cases, first, tmp_path)
    again = embed(cases, second, tmp_path)
    assert first.net.shown > 0
    assert second.net.shown == 0
    for a, b in zip(made, again, strict=True):
        assert all(np.array_equal(a[s], b[s]) for s in (*SERIES, "affines"))
        assert {len(a[s]) for s in SERIES} == {len(a["affines"])}


def test_the_same_scans_elsewhere_are_known_and_changed_ones_are_not(cases, tmp_path):
    embed(cases, counting(), tmp_path / "cache")
    row = cases.rows[0]
    moved = {s: shutil.copy(f, tmp_path / f"copy_{s}.nii.gz") for s, f in row.files.items()}
    same, other = counting(), counting()
    embed(replace(cases, rows=(replace(row, files=moved),)), same, tmp_path / "cache")
    assert same.net.shown == 0
    swapped = {**moved, "t1": moved["t2"]}
    embed(replace(cases, rows=(replace(row, files=swapped),)), other, tmp_path / "cache")
    assert other.net.shown > 0


def test_another_encoder_is_another_entry(cases, tmp_path):
    one = replace(cases, rows=cases.rows[:1])
    embed(one, counting(), tmp_path)
    changed = counting()
    changed.net.weight.data += 1
    sized = counting(input_size=16)
    for encoder in (changed, sized):
        embed(one, encoder, tmp_path)
        assert encoder.net.shown > 0


def test_pictures_are_encoded_a_few_at_a_time_to_the_same_vectors():
    encoder, pictures = find_encoder("random"), torch.rand(70, 40, 40)
    one_by_one = torch.cat([encoder.encode(p[None]) for p in pictures])
    assert torch.allclose(
        encode(encoder, pictures), one_by_one, atol=0.05, rtol=0.05
    )  # bfloat16 sums in another order


# --- from slices to volumes ------------------------------------------------------------------------------------


def test_poolings_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=(7, 5))
    assert np.array_equal(pooled(x, "mean"), x.mean(axis=0))
    assert np.array_equal(pooled(x, "max"), x.max(axis=0))
    assert np.array_equal(pooled(x, "median"), np.median(x, axis=0))


@pytest.mark.parametrize("how", POOLINGS)
def test_leaving_a_slice_out_is_pooling_the_others(how):
    x = np.random.default_rng(1).normal(size=(6, 4))
    for i, row in enumerate(without_each(x, how)):
        assert np.allclose(row, pooled(np.delete(x, i, axis=0), how))


def test_series_stand_in_the_order_asked_for():
    embedded = {"t1": np.ones((3, 2)), "t2": np.full((3, 2), 2.0)}
    assert by_series(embedded, ("t2", "t1"))[0].tolist() == [2, 2, 1, 1]
    series = ("t1", "t2")
    assert joined(pools_of([embedded, embedded], series), series, "max").tolist() == [[1, 1, 2, 2]] * 2


def test_means_over_slices_are_those_of_what_is_kept_and_a_case_that_cannot_be_read_has_none(
    cases, tmp_path, capsys
):
    encoder = find_encoder("histogram")
    gone = replace(cases.rows[1], files={"t1": tmp_path / "gone.nii.gz"})
    found = means_of([cases.rows[0], gone], encoder)
    assert list(found) == [cases.rows[0].case]
    assert f"{gone.case}: left out of the embeddings" in capsys.readouterr().err
    (kept,) = embed(cases.only([cases.rows[0].case]), encoder, tmp_path)
    for name, vector in found[cases.rows[0].case].items():
        assert vector == pytest.approx(kept[name].mean(axis=0), abs=1e-6)
