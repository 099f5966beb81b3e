"""Who can be used: one scheme of grades, the same series, no patient twice."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gliolens.case import CaseRow
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CohortError
from gliolens.io.tables import read_cohort
from gliolens.method import find_method
from gliolens.protocol import Entrant
from gliolens.tasks import check_schemes
from gliolens.usable import common_series, usable_cases


def grades(schemes):
    return [
        CaseRow(str(i), str(i), targets={"who_grade": "234"[i % 3]}, label_scheme=s)
        for i, s in enumerate(schemes)
    ]


def test_grades_of_two_schemes_are_never_pooled():
    check_schemes(grades(["who2021"] * 3 + [None]), "who_grade")
    check_schemes(grades(["who2016", "who2021"]), "idh")
    with pytest.raises(CohortError, match="who2016 and who2021"):
        check_schemes(grades(["who2016", "who2021"]), "who_grade")


def test_the_series_that_all_usable_cases_share():
    files = {"t1": Path("a"), "flair": Path("b"), "t2": Path("c")}
    known = {"mask": Path("m"), "targets": {"idh": "mutant"}}
    some = [CaseRow("1", "1", files=files, **known),
            CaseRow("2", "2", files={"flair": Path("b"), "t1": Path("d")}, **known),
            CaseRow("unlabelled", "3", files={"t2": Path("c")})]  # fmt: skip
    assert common_series(some, "idh") == ("t1", "flair")
    with pytest.raises(CohortError, match="--series"):
        common_series([some[0], CaseRow("4", "4", files={"t1ce": Path("x")}, **known)], "idh")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return read_cohort(
        write_phantom(tmp_path_factory.mktemp("phantom"), 6, seed=3, config=PhantomConfig(spacing_mm=6.0))
    )


def under_another_name(row, folder):
    """The same scans in files of other names, as a later release of a collection has them."""
    files = {s: Path(shutil.copy(f, folder / f"renamed-{s}.nii.gz")) for s, f in row.files.items()}
    return replace(row, case="renamed", patient="renamed", aliases=(), files=files)


@pytest.mark.parametrize("name", ["shape-resnet", "segmentation-fusion", "volume-embedding"])
def test_scans_that_two_patients_share_are_refused(cohort, tmp_path, name):
    settings = {"encoder": "histogram"} if name == "volume-embedding" else {}
    config = replace(find_method(name).Config.preset("sound").scaled("demo"), **settings)
    asked = {
        "target": "grade", "series": config.series, "entrants": (Entrant(name, name, config),),
        "cache": tmp_path / "cache",
    }  # fmt: skip
    again = under_another_name(cohort[0], tmp_path)
    assert len(usable_cases(cohort, **asked).cases) == 6
    with pytest.raises(CohortError, match=f"{cohort[0].case} and renamed.*column aliases"):
        usable_cases((*cohort, again), **asked)
    known = replace(again, aliases=(cohort[0].case,))
    assert len(usable_cases((*cohort, known), **asked).cases) == 7  # one patient: on one side of every split
