"""What a network sees of a patient who lacks series, mask or labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.cohorts.phantom.cohort import simulate_case
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.crops import NO_PLACE, Crops, Draws, brain_volume, crop_around, middle_of
from gliolens.cube import grid_of
from gliolens.errors import CaseError
from gliolens.labels import SERIES
from gliolens.tasks import UNKNOWN

PLAIN = Draws(64, flip=False, vary=False)


@pytest.fixture(scope="module")
def case():
    config = PhantomConfig(spacing_mm=4.0)
    return simulate_case(draw_cohort(1, 2, config)[0], config)


def test_the_brain_is_standardised_and_the_air_is_zero(case):
    made = brain_volume(case, SERIES, 4.0)
    inside = made["image"].astype(np.float32)
    brain = inside.any(axis=0)
    for series in inside:
        assert abs(series[brain].mean()) < 0.1
        assert series[brain].std() == pytest.approx(1, abs=0.15)
    assert made["there"].all()
    assert made["has_mask"]
    assert grid_of(made["grid"]).matches(case.grid)
    tumour_ml = (made["labels"] > 0).sum() * 0.064
    assert tumour_ml == pytest.approx((case.tumour > 0).sum() * case.grid.voxel_ml, rel=0.1)
    world = made["affine"] @ [*made["middle"], 1]
    middle = case.grid.affine @ [*middle_of(case.tumour), 1]
    assert np.linalg.norm((world - middle)[:3]) < 8


def test_a_missing_series_is_told_and_empty(case):
    two = replace(case, series={s: case.series[s] for s in ("t2", "flair")}, tumour=None)
    made = brain_volume(two, SERIES, 4.0)
    assert made["there"].tolist() == [False, False, True, True]
    assert not made["image"][:2].any()
    assert made["image"][2:].any()
    assert not made["has_mask"]
    assert made["middle"].tolist() == [NO_PLACE] * 3


def test_a_case_without_any_of_the_series_is_refused(case):
    with pytest.raises(CaseError, match="one of flair at least"):
        brain_volume(replace(case, series={"t1": case.series["t1"]}), ("flair",), 4.0)


def test_a_look_without_changes_is_the_patient(case):
    made = brain_volume(case, SERIES, 4.0)
    image, there, labels, has_mask, truth = Crops([made], np.array([[1, UNKNOWN]]), 4, PLAIN, 0)[0]
    assert image.shape == (4, 64, 64, 64)
    assert there.all()
    assert has_mask is True
    assert truth.tolist() == [1, UNKNOWN]
    assert image.abs().sum().item() == pytest.approx(
        float(np.abs(made["image"].astype(np.float32)).sum()), rel=1e-4
    )
    assert torch.bincount(labels.flatten(), minlength=4)[1:].tolist() == np.bincount(
        made["labels"].ravel(), minlength=4
    )[1:].tolist()  # fmt: skip
    binary = Crops([made], np.zeros((1, 1), int), 2, PLAIN, 0)[0][2]
    assert binary.max() == 1


def test_no_class_is_learnt_where_the_cube_may_miss_the_tumour(case):
    near = brain_volume(replace(case, tumour=None), SERIES, 2.0)  # the brain is wider than 64 voxels
    assert max(near["labels"].shape) > 64
    assert Crops([near], np.array([[1]]), 4, PLAIN, 0)[0][4].tolist() == [UNKNOWN]
    far = brain_volume(replace(case, tumour=None), SERIES, 4.0)
    assert Crops([far], np.array([[1]]), 4, PLAIN, 0)[0][4].tolist() == [1]


def test_looks_vary_and_repeat_by_their_number(case):
    made = brain_volume(case, SERIES, 4.0)
    crops = Crops([made], np.zeros((1, 1), int), 4, Draws(64, drop=0.5), 3)
    assert torch.equal(crops[0][0], crops[0][0])
    assert not torch.equal(crops[0][0], crops[1][0])
    kept = [tuple(crops[i][1].tolist()) for i in range(20)]
    assert len(set(kept)) > 4
    assert all(any(k) for k in kept)
    for i in range(6):
        image, there, *_ = crops[i]
        assert [bool(x.any()) for x in image] == there.tolist()


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(0, 120)] * 3), st.tuples(*[st.integers(8, 121)] * 3), st.sampled_from([32, 64])
)
def test_a_cube_lies_in_the_image_and_holds_its_middle(middle, size, edge):
    middle = tuple(min(m, n - 1) for m, n in zip(middle, size, strict=True))
    for where, m, n in zip(crop_around(np.array(middle), size, edge), middle, size, strict=True):
        assert 0 <= where.start <= m < where.stop <= n
        assert where.stop - where.start == min(edge, n)
