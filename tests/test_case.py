"""The data model refuses what does not fit together, and travels between processes."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.case import Case, Grid, Prediction, Volume
from gliolens.errors import CaseError

few = settings(max_examples=50, deadline=None, database=None)
SHAPE = (3, 4, 5)
GRID = Grid(SHAPE, np.diag([1.0, 2.0, 3.0, 1.0]))


def case(**changes: object) -> Case:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, :4] = [0, 1, 2, 3]
    given = {
        "id": "007",
        "grid": GRID,
        "source": GRID,
        "series": {"t1": np.ones(SHAPE, np.float32)},
        "tumour": labels,
        "targets": {"idh": "mutant"},
        "covariates": {"age": 40.5},
    }
    return Case(**{**given, **changes})


# --- grid and volume -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a * np.nan, "finite"),
        (lambda a: a * [[1], [1], [1], [2]], "last row"),
        (lambda a: a * [0, 1, 1, 1], "no volume"),
        (lambda a: a[[0, 0, 2, 3]], "no volume"),
        (lambda a: a @ np.array([[1, 1, 0, 0], [0, 1e-9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "no volume"),
    ],
)
def test_an_affine_that_places_nothing_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        Grid(SHAPE, change(np.diag([1.0, 2.0, 3.0, 1.0])))
    with pytest.raises(ValueError, match=says):
        Volume(np.zeros(SHAPE), change(np.diag([1.0, 2.0, 3.0, 1.0])))


def test_small_voxels_are_voxels():
    tiny = Grid(SHAPE, np.diag([1e-4, 1e-4, 1e-4, 1.0]))
    assert tiny.voxel_ml == pytest.approx(1e-15)


@few
@given(signs=st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3), order=st.permutations(range(3)))
def test_volume_and_edges_of_a_voxel_are_positive_in_every_orientation(signs, order):
    affine = np.diag([*(np.array(signs) * [0.5, 2.0, 3.0]), 1.0])[[*order, 3]]
    grid = Grid(SHAPE, affine)
    assert grid.voxel_ml == pytest.approx(0.003)
    assert grid.spacing == pytest.approx((0.5, 2.0, 3.0))


def test_corners_are_the_outermost_voxel_centres():
    found = {tuple(corner) for corner in GRID.corners()}
    assert found == {(x, y, z) for x in (0, 2) for y in (0, 6) for z in (0, 12)}


@few
@given(shift=st.tuples(*[st.floats(-2, 2)] * 3), tolerance=st.floats(0.001, 2))
def test_grids_match_by_the_straight_distance_of_their_corners(shift, tolerance):
    affine = GRID.affine.copy()
    affine[:3, 3] += shift
    other = Grid(SHAPE, affine)
    apart = float(np.linalg.norm(shift))
    assert GRID.distance(other) == pytest.approx(apart, abs=1e-9)
    if abs(apart - tolerance) > 1e-9:
        assert GRID.matches(other, tolerance) == (apart <= tolerance) == other.matches(GRID, tolerance)
    assert not GRID.matches(Grid((3, 4, 6), GRID.affine), 1e9)


def test_mirrored_grids_of_one_extent_do_not_match():
    mirrored = GRID.affine @ np.array([[-1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert not GRID.matches(Grid(SHAPE, mirrored))


# --- case ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"series": {"t1": np.ones((3, 4, 6), np.float32)}, "tumour": None}, r"t1 of shape \(3, 4, 6\)"),
        ({"series": {}, "tumour": np.zeros((4, 3, 5), np.uint8)}, r"tumour labels of shape \(4, 3, 5\)"),
        ({"series": {}, "tumour": None, "brain": np.ones((1, 1, 1), bool)}, r"brain mask of shape"),
        ({"series": {"T1": np.ones(SHAPE, np.float32)}}, "T1"),
        ({"targets": {"idh": "Mutant"}}, "idh=Mutant"),
        ({"targets": {"mgmt": "methylated"}}, "mgmt=methylated"),
        ({"label_scheme": "who1979"}, "label_scheme=who1979"),
        ({"mask_scheme": "brats1999"}, "mask_scheme=brats1999"),
    ],
)
def test_what_does_not_fit_the_case_is_refused(changes, says):
    with pytest.raises(CaseError, match=says) as refused:
        case(**changes)
    assert "'007'" in str(refused.value)
    assert "to mend" in str(refused.value)


def test_a_case_cannot_be_changed():
    made = case()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.id = "8"
    with pytest.raises(TypeError):
        made.targets["idh"] = "wildtype"
    given = {"age": 40.5}
    made = case(covariates=given)
    given["age"] = 99.0
    assert made.covariates["age"] == 40.5, "the case keeps its own copy"


@pytest.mark.parametrize("travel", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy])
def test_a_case_travels_to_another_process_whole(travel):
    made, back = case(history=("read t1",), site="A"), travel(case(history=("read t1",), site="A"))
    for field in dataclasses.fields(Case):
        ours, theirs = getattr(made, field.name), getattr(back, field.name)
        if field.name in ("grid", "source"):
            assert ours.matches(theirs, 0.0)
        elif field.name == "series":
            np.testing.assert_array_equal(ours["t1"], theirs["t1"])
        elif field.name == "tumour":
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs, field.name
    with pytest.raises(TypeError):
        back.targets["idh"] = "wildtype"


def test_the_patient_is_the_case_where_no_other_is_named():
    assert case().patient == "007"
    assert dataclasses.replace(case(patient="9"), id="8").patient == "9"


def test_regions_are_unions_of_labels_and_unknown_where_the_mask_cannot_tell():
    made = case()
    sizes = {name: int(made.region(name).sum()) for name in ("whole", "core", "enhancing")}
    assert sizes == {"whole": 3, "core": 2, "enhancing": 1}
    binary = case(mask_scheme="binary", tumour=np.full(SHAPE, 2, np.uint8))
    assert binary.region("whole").all()
    assert binary.region("core") is None
    assert case(tumour=None).region("whole") is None


# --- prediction ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "classes",
    [
        {"wildtype": 0.5, "mutant": 0.6},
        {"wildtype": 1.5, "mutant": -0.5},
        {"wildtype": np.nan, "mutant": 0.5},
        {},
    ],
)
def test_probabilities_that_are_none_are_refused(classes):
    with pytest.raises(ValueError, match="idh for case 007"):
        Prediction("007", "controls", {"idh": classes}, {"idh": "mutant"})


@few
@given(weights=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4).filter(lambda w: sum(w) > 0.01))
def test_float32_softmax_is_close_enough(weights):
    p = np.array(weights, np.float32) / np.float32(sum(weights))
    shares = {str(i): float(v) for i, v in enumerate(p)}
    assert (
        Prediction("p", "m", {"who_grade": shares}, {"who_grade": "0"}).probabilities["who_grade"] == shares
    )
