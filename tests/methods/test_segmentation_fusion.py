"""The method as a whole: outlines on the case's own grid, stages that go on, masks that tell less."""

from dataclasses import replace

import numpy as np
import pytest

from gliolens.case import Grid
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.cube import drawn_labels
from gliolens.errors import ConfigError, ModelError
from gliolens.io.nifti import read_volume, write_volume
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import segmentation_fusion as method
from gliolens.outline_scores import outline_rows
from gliolens.stats.segmentation import dice

QUICK = replace(
    method.Config.preset("sound").scaled("demo"), edge=32, voxel_mm=6.0, widths_2d=(8, 16), widths_3d=(8, 16),
    epochs_2d=15, epochs_3d=15, epochs_slices=2, slices=8, rate=5e-3,
    loss="focal", vary=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    config = PhantomConfig(spacing_mm=5.0)
    return Cases(read_cohort(write_phantom(folder, 10, seed=3, config=config)), SERIES)


@pytest.fixture(scope="module")
def fitted(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return method.fit(cases, QUICK, Run("grade", ("LGG", "HGG"), folder, folder / "cache")), folder


def test_outlines_lie_on_the_cases_own_grid_and_on_the_tumour(cases, fitted):
    model, _ = fitted
    scores = []
    for case in cases:
        answer = model.predict(case)
        assert answer.labels.voxels.shape == case.grid.shape
        assert (answer.labels.affine == case.grid.affine).all()
        assert set(np.unique(answer.labels.voxels)) <= {0, 1, 2, 3}
        scores.append(dice(case.tumour, answer.labels.voxels))
        shares = {k: v for k, v in answer.evidence.items() if k.startswith("share of slices")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert np.mean(scores) > 0.5  # of patients it has learnt from


def test_what_it_answers_does_not_depend_on_the_labels_it_is_handed(cases, fitted):
    model, folder = fitted
    ready = dict(method.ready(cases.only([cases.rows[0].case]), QUICK, folder / "cache")[0])
    with_labels = model.answer(cases.rows[0], ready)
    without = model.answer(cases.rows[0], {**ready, "labels": np.zeros_like(ready["labels"])})
    assert with_labels.probabilities == without.probabilities
    assert (with_labels.labels.voxels == without.labels.voxels).all()
    assert with_labels.probabilities["grade"] == pytest.approx(model.predict(cases[0]).probabilities["grade"])


def test_maps_are_shares_and_where_networks_agree_there_is_nought(cases, fitted):
    model, _ = fitted
    maps = model.explain(cases[0])
    assert set(maps) == {"grade-slices", "grade-networks-apart"}
    for volume in maps.values():
        assert 0 <= volume.voxels.min() <= volume.voxels.max() <= 1
    assert maps["grade-networks-apart"].voxels.max() > 0.05
    image = method._image(cases[0], QUICK)[1].astype(np.float32)
    flat, deep = model.fusion.branches(image)
    assert maps["grade-networks-apart"].voxels == pytest.approx(
        np.abs(flat[1:].sum(0) - deep[1:].sum(0)), abs=1e-5
    )


def test_each_stage_is_kept_and_a_second_fit_takes_none_again(cases, fitted, monkeypatch):
    model, folder = fitted
    for stage in ("2d", "3d", "slices"):
        assert (folder / stage / "weights.safetensors").is_file()
    monkeypatch.setattr("gliolens.segmenter.train", None)
    monkeypatch.setattr("gliolens.slice_namer.train", None)
    again = method.fit(cases, QUICK, Run("grade", ("LGG", "HGG"), folder, folder / "cache"))
    assert again.predict(cases[0]).probabilities == model.predict(cases[0]).probabilities


def test_one_mask_that_tells_the_whole_tumour_only_makes_networks_that_do(cases, tmp_path, capsys):
    first, *rest = cases.rows
    mask = read_volume(first.mask, first.case).volume
    write_volume(
        file := tmp_path / "mask.nii.gz", replace(mask, voxels=(mask.voxels > 0).astype(np.uint8)), mask.grid
    )
    mixed = replace(cases, rows=(replace(first, mask=file, mask_scheme="binary"), *rest))
    quick = replace(QUICK, epochs_2d=1, epochs_3d=1, epochs_slices=1)
    model = method.fit(mixed, quick, Run("grade", ("LGG", "HGG"), tmp_path, tmp_path / "cache"))
    assert "1 of 10 masks tell the whole tumour only" in capsys.readouterr().err
    answer = model.predict(cases[0])
    assert set(answer.evidence) == {"share of slices: none", "share of slices: tumour"}
    assert set(np.unique(answer.labels.voxels)) <= {0, 2}
    scored = outline_rows(
        "m", cases.rows[1], model.predict(cases[1]).labels, drawn_scheme=answer.labels_scheme
    )
    assert [row["region"] for row in scored] == ["whole"]


def test_a_series_it_did_not_learn_from_changes_nothing(cases, fitted, tmp_path):
    two = replace(QUICK, series=("t1ce", "flair"), epochs_2d=1, epochs_3d=1, epochs_slices=1)
    some = replace(cases, series=two.series)
    model = method.fit(some, two, Run("grade", ("LGG", "HGG"), tmp_path, tmp_path / "cache"))
    four, only = replace(cases[0], brain=None), replace(some[0], brain=None)
    assert set(four.series) > set(only.series)
    assert model.predict(four).probabilities == model.predict(only).probabilities


def test_weights_it_starts_from_belong_to_its_identity():
    assert method.identity(replace(QUICK, start="built-in")) != method.identity(QUICK)


def test_tumour_that_a_crop_loses_is_counted(cases):
    narrow = replace(QUICK, centre="image", voxel_mm=2.0)  # a cube of 64 mm
    lost = [int(method.prepare(case, narrow)["lost"]) for case in cases]
    whole = [int(method.prepare(case, QUICK)["lost"]) for case in cases]
    assert max(lost) > 10
    assert max(whole) == 0


def test_thick_slices_make_a_flatter_cube_that_reaches_as_far(cases):
    thick = replace(QUICK, edge=64, voxel_mm=3.0, slice_mm=5.0)
    (d, h, w), spacing = thick.cube
    assert (d, h, w, spacing) == (64, 64, 40, (3.0, 3.0, 5.0))  # 200 mm; two levels divide by 2
    made = method.prepare(cases[0], thick)
    assert made["image"].shape == (4, 64, 64, 40)
    drawn = drawn_labels(np.stack([made["labels"] == k for k in range(4)]).astype(np.float32),
                         Grid((64, 64, 40), made["affine"]), cases[0].grid)  # fmt: skip
    assert dice(cases[0].tumour, drawn) > 0.85
    assert replace(QUICK, slice_mm=None).cube == ((32, 32, 32), (6.0, 6.0, 6.0))


def test_settings_that_cannot_be_are_refused():
    for wrong, words in (
        ({"edge": 36}, "multiple of 16"), ({"share": 1.5}, "share"), ({"slices": 1}, "slices"),
        ({"voxel_mm": 0.0}, "voxel_mm"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            method.Config(**wrong)
    with pytest.raises(ConfigError, match="paper and sound"):
        method.Config.preset("fast")


def test_weights_that_are_not_those_of_the_card_are_refused(fitted, tmp_path):
    fitted[0].save(tmp_path)
    assert method.load(tmp_path).prior == fitted[0].prior
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="not the file its card describes"):
        method.load(tmp_path)
