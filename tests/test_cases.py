"""`Cases`: read when asked for, prepared once, chosen with a reason."""

import os
from pathlib import Path

import numpy as np
import pytest

from gliolens.case import CaseRow
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CaseError
from gliolens.io.tables import read_cohort
from gliolens.loader import Cases, select


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    table = write_phantom(tmp_path_factory.mktemp("phantom"), 3, config=PhantomConfig(spacing_mm=5.0))
    return Cases(read_cohort(table))


def brightness(case):
    return {"mean": np.array([image.mean() for image in case.series.values()])}


def test_a_case_is_decoded_once_for_one_recipe(cohort, tmp_path):
    decoded = []

    def prepare(case):
        decoded.append(case.id)
        return brightness(case)

    first = cohort.prepared(prepare, "brightness", tmp_path)
    again = cohort.prepared(prepare, "brightness", tmp_path)
    assert decoded == [row.case for row in cohort.rows]
    assert all(np.array_equal(a["mean"], b["mean"]) for a, b in zip(first, again, strict=True))
    cohort.prepared(prepare, "another recipe", tmp_path)
    assert len(decoded) == 6


def test_a_file_that_changed_is_decoded_again(cohort, tmp_path):
    before = cohort.prepared(brightness, "b", tmp_path)
    os.utime(cohort.rows[0].files["t1"], ns=(1, 1))
    decoded = []
    cohort.prepared(lambda case: decoded.append(case.id) or brightness(case), "b", tmp_path)
    assert decoded == [cohort.rows[0].case]
    assert len(before) == 3


def test_a_case_that_cannot_be_prepared_leaves_nothing_in_the_cache(cohort, tmp_path):
    def refuse(case):
        raise CaseError(case.id, found="x", expected="y", fix="z")

    with pytest.raises(CaseError):
        cohort.prepared(refuse, "b", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prepared_arrays_are_mapped_and_files_do_not_stay_open(cohort, tmp_path):
    made = cohort.prepared(brightness, "b", tmp_path)
    assert all(isinstance(a["mean"], np.memmap) for a in made)
    for _ in range(100):
        assert all(a["mean"].size == 4 for a in made)
    there = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
    assert sum("mean.npy" in name for name in there) < 10  # 300 were opened
    with pytest.raises(KeyError):
        made[0]["median"]


def test_a_healthy_case_has_no_tumour_to_measure():
    row = CaseRow("1", "1", files={"t1": Path("a")}, mask=Path("m"), targets={"grade": "healthy"})
    assert select([row], target="grade", series=())[1] == {"1": "healthy: no tumour to measure"}
    assert select([row], target="grade", series=(), need_mask=False)[1] == {}


def test_only_keeps_the_order_of_rows(cohort):
    ids = [row.case for row in cohort.rows]
    assert [row.case for row in cohort.only([ids[2], ids[0]]).rows] == [ids[0], ids[2]]


def test_what_is_left_out_comes_with_its_reason():
    whole, mask = {"t1": Path("a"), "flair": Path("b")}, Path("m")
    rows = [
        CaseRow("ok", "1", files=whole, mask=mask, targets={"idh": "mutant"}),
        CaseRow("no label", "2", files=whole, mask=mask),
        CaseRow("no series", "3", files={"t1": Path("a")}, mask=mask, targets={"idh": "mutant"}),
        CaseRow("nothing", "4"),
    ]
    usable, left_out = select(rows, target="idh", series=("t1", "flair"))
    assert [row.case for row in usable] == ["ok"]
    assert left_out == {
        "no label": "idh unknown",
        "no series": "no flair",
        "nothing": "no t1, no flair, idh unknown, no tumour mask",
    }
