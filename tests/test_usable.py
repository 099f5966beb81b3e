"""Who can be used: one scheme of grades, the same series, no patient twice."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gliolens.case import CaseRow, Volume
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.cohorts.splits import Fold, Split
from gliolens.errors import CohortError
from gliolens.io.nifti import read_labels, write_volume
from gliolens.io.tables import read_cohort
from gliolens.method import find_method
from gliolens.protocol import Entrant, controls
from gliolens.tasks import check_schemes
from gliolens.usable import common_series, some_without_tumour, usable_cases


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


def test_where_a_series_is_missing_everywhere_it_says_how_to_do_without(cohort, tmp_path):
    rows = [replace(row, files={s: f for s, f in row.files.items() if s != "t2"}) for row in cohort]
    config = find_method("mts-unet").Config.preset("sound").scaled("demo")
    asked = {"target": "grade", "series": config.series, "cache": tmp_path,
             "entrants": (Entrant("a", "mts-unet", config),)}  # fmt: skip
    with pytest.raises(CohortError, match="6 no t2; name series that are there with --series"):
        usable_cases(rows, **asked)
    unknown = [replace(row, targets={}) for row in rows]  # of whom other series would not help
    with pytest.raises(CohortError, match=r"6 no t2, grade unknown$"):
        usable_cases(unknown, **asked)


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


# --- cases without the target, that teach something else


def teaching(cohort, tmp_path, **changes):
    """The cohort with one more row: the first patient's scans again, changed; and who may learn from it."""
    config = find_method("mts-unet").Config.preset("sound").scaled("demo")
    both = [Entrant(n, "mts-unet", replace(config, voxel_mm=mm)) for n, mm in (("a", 3.0), ("b", 4.0))]
    entrants = (
        *both,
        Entrant("c", "shape-resnet", find_method("shape-resnet").Config.preset("sound").scaled("demo")),
    )
    rows = (*cohort, replace(under_another_name(cohort[0], tmp_path), **changes))
    asked = {"target": "grade", "series": config.series, "entrants": entrants, "cache": tmp_path / "cache"}
    return rows, asked


def split_of(cases, test, kind="holdout"):
    train = tuple(row.case for row in cases.rows if row.case not in test)
    return Split(kind, "grade", 0, (Fold(train, tuple(test)),), ())


def test_a_tested_patients_scans_under_another_name_are_not_learnt_from_in_secret(cohort, tmp_path):
    """Without mask or label they are no case to be tested; one method sees them, another does not."""
    rows, asked = teaching(cohort, tmp_path, mask=None, targets={"idh": "mutant"})
    with pytest.raises(CohortError, match=f"{cohort[0].case} and renamed"):
        usable_cases(rows, **asked)


def test_others_of_a_tested_patient_or_site_are_left_out(cohort, tmp_path):
    """The further case is of the first one's patient and site: another patient of that site, and one of another."""
    first, here, other = (replace(row, site=site) for row, site in zip(cohort, "AAB", strict=False))
    cohort = (first, here, other)
    rows, asked = teaching(cohort, tmp_path, mask=None, targets={"idh": "mutant"}, aliases=("between",))
    between = CaseRow(
        "link", "between", aliases=(first.case,)
    )  # says that the two are one, and is no case itself
    rows = (*rows, between)
    found = usable_cases(rows, **asked)
    assert [row.case for row in found.others] == ["renamed"]
    assert found.others_beside(split_of(found.cases, [first.case]), 0, rows) == ()
    beside = [
        [r.case for r in found.others_beside(split_of(found.cases, tested, scheme), 0, rows)]
        for tested, scheme in (
            ([other.case], "kfold"), ([here.case], "leave_one_site_out"), ([other.case], "leave_one_site_out"),
        )
    ]  # fmt: skip
    assert beside == [["renamed"], [], ["renamed"]]


def test_who_is_one_patient_by_the_alias_of_a_row_left_out_stays_one(cohort, tmp_path):
    _, asked = teaching(cohort, tmp_path)
    a, b = (row.case for row in cohort[:2])
    found = usable_cases((*cohort, CaseRow("link", "link", aliases=(a, b))), **asked)
    assert {a, b} <= {row.case for row in found.cases.rows}
    assert len({row.patient for row in found.cases.rows if row.case in (a, b)}) == 1


def test_a_refused_case_teaches_nothing(cohort, tmp_path):
    empty = tmp_path / "empty.nii.gz"
    stored, _ = read_labels(cohort[1].mask, "x")
    write_volume(empty, Volume(stored.volume.voxels * 0, stored.volume.affine), stored.volume.grid)
    rows = (*cohort[:1], replace(cohort[1], mask=empty), *cohort[2:])
    _, asked = teaching(cohort, tmp_path)
    found = usable_cases(rows, **{**asked, "entrants": (*asked["entrants"], *controls())})
    assert set(found.failures) == {cohort[1].case}
    assert found.others == ()


def test_some_are_without_a_tumour_only_where_the_target_is_known():
    row = CaseRow("a", "a", targets={"grade": "healthy"}, mask=Path("a.nii.gz"))
    other = CaseRow("b", "b", targets={"grade": "HGG", "idh": "mutant"}, mask=Path("b.nii.gz"))
    assert some_without_tumour([row, other], "grade")
    assert not some_without_tumour([row, other], "idh")
    assert some_without_tumour([replace(other, mask=None)], "idh")
