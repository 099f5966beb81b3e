"""The cohort check: verdicts from real refusals, and each finding on a cohort made to have it."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gliolens.case import CaseRow, Grid, Volume
from gliolens.cohorts.audit.check import check_cohort
from gliolens.cohorts.audit.look import image_hash
from gliolens.cohorts.audit.verdicts import CohortReport, Finding
from gliolens.errors import ConfigError
from gliolens.io.nifti import read_volume, write_volume
from gliolens.io.store import read_json, write_json

GRID = Grid((12, 14, 10), np.diag([1.0, 1.0, 2.0, 1.0]))


def write(path: Path, voxels: np.ndarray, grid: Grid = GRID) -> Path:
    write_volume(path, Volume(voxels, grid.affine), grid)
    return path


def noise(seed: int, shape: tuple[int, int, int] = GRID.shape) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)


def mask(stored: int = 1) -> np.ndarray:
    voxels = np.zeros(GRID.shape, np.uint8)
    voxels[4:7, 5:8, 3:6] = stored
    return voxels


@pytest.fixture
def cohort(tmp_path: Path) -> list[CaseRow]:
    """Four readable cases of two series and a mask."""
    return [
        CaseRow(
            f"c{i}",
            f"c{i}",
            files={
                s: write(tmp_path / f"c{i}_{s}.nii.gz", noise(10 * i + k)) for k, s in enumerate(("t1", "t2"))
            },
            mask=write(tmp_path / f"c{i}_seg.nii.gz", mask()),
        )
        for i in range(4)
    ]


def named(report: CohortReport, name: str) -> list[Finding]:
    return [f for f in report.findings if f.name == name]


def test_a_sound_cohort_has_no_findings(cohort):
    seen = []
    report = check_cohort(cohort, progress=lambda done, total: seen.append((done, total)))
    assert [v.verdict for v in report.verdicts] == ["ok"] * 4
    assert report.findings == ()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.counts["all"] == {"cases": 4, "patients": 4}
    assert report.counts["series"] == {"t1+t2": 4}


def test_two_processes_find_what_one_finds(cohort):
    cohort[1] = replace(cohort[1], files={"t1": Path("nowhere.nii.gz")})
    cohort[2] = replace(cohort[2], files=cohort[3].files)
    assert check_cohort(cohort, jobs=2) == check_cohort(cohort)


# --- one case ---------------------------------------------------------------------------------------------


def spoil_qform(path: Path) -> None:
    image = nib.load(path)
    turned = image.affine.copy()
    turned[:3, 3] += 40
    image.set_qform(turned, 1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)


def ambiguous_four(path: Path) -> None:
    write(path.with_name("c0_seg.nii.gz"), mask(4))


def other_grid(path: Path) -> None:
    write(path, noise(3, (12, 14, 11)), Grid((12, 14, 11), GRID.affine))


def four_volumes(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.stack([noise(1), noise(2)], axis=-1), GRID.affine), path)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def not_finite(path: Path) -> None:
    voxels = noise(1)
    voxels[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(voxels, GRID.affine), path)


def empty_image(path: Path) -> None:
    write(path, np.full(GRID.shape, 7, np.float32))


def no_orientation(path: Path) -> None:
    image = nib.Nifti1Image(noise(1), None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, path)


@pytest.mark.parametrize(
    ("spoil", "verdict", "found", "fix"),
    [
        (spoil_qform, "fixable", "contradicts the sform", "set_qform"),
        (ambiguous_four, "fixable", "label 4", "--mask-scheme brats2020"),
        (other_grid, "fixable", "of shape", "register and resample"),
        (four_volumes, "fixable", "4-D", "#0"),
        (cut_short, "refused", "cut short", "copy or export"),
        (not_finite, "refused", "not finite", "run it again"),
        (empty_image, "refused", "empty image", "export"),
        (no_orientation, "refused", "neither sform nor qform", "convert"),
        (Path.unlink, "refused", "no such file", "correct the path"),
    ],
)
def test_a_case_that_cannot_be_read_is_fixable_where_an_option_or_edit_mends_it(
    cohort, spoil, verdict, found, fix
):
    spoil(cohort[0].files["t2"])
    report = check_cohort(cohort)
    first, *others = report.verdicts
    assert (first.case, first.verdict) == ("c0", verdict)
    assert found in first.findings[0]
    assert fix in first.fix[0]
    assert [v.verdict for v in others] == ["ok"] * 3
    assert [f.cases for f in named(report, "refused cases")] == [("c0",)] * (verdict == "refused")


def test_what_most_of_the_cohort_has_is_missed_and_what_few_have_is_not(cohort):
    cohort[0] = replace(cohort[0], files={"t1": cohort[0].files["t1"]}, mask=None)
    extra = cohort[3].files["t1"].with_name("extra.nii.gz")
    cohort[3] = replace(cohort[3], files={**cohort[3].files, "flair": write(extra, noise(99))})
    report = check_cohort(cohort)
    assert [v.verdict for v in report.verdicts] == ["fixable", "ok", "ok", "ok"]
    assert report.verdicts[0].findings == (
        "no t2, which 3 of 4 cases have",
        "no tumour mask, which 3 of 4 cases have",
    )
    assert report.counts["series"] == {"t1": 1, "t1+t2": 2, "t1+t2+flair": 1}


def test_the_healthy_need_no_tumour_mask(cohort):
    cohort[0] = replace(cohort[0], mask=None, targets={"grade": "healthy"})
    assert [v.verdict for v in check_cohort(cohort).verdicts] == ["ok"] * 4


def test_an_empty_mask_and_a_mask_of_everything_are_found_but_not_in_the_healthy(cohort):
    write(cohort[0].mask, np.zeros(GRID.shape, np.uint8))
    write(cohort[1].mask, np.ones(GRID.shape, np.uint8))
    write(cohort[2].mask, np.zeros(GRID.shape, np.uint8))
    cohort[2] = replace(cohort[2], targets={"grade": "healthy"})
    report = check_cohort(cohort)
    assert [v.verdict for v in report.verdicts] == ["fixable", "fixable", "ok", "ok"]
    assert [f.cases for f in named(report, "empty mask")] == [("c0",)]
    (whole,) = named(report, "mask of everything")
    assert whole.cases == ("c1",)
    assert whole.number > 0.9


# --- duplicates -------------------------------------------------------------------------------------------


def stored_otherwise(source: Path, target: Path) -> Path:
    """The same picture in another type, scale, orientation and compression."""
    image = nib.load(source)
    voxels = np.asarray(image.dataobj)
    counts = np.round((voxels - voxels.min()) * 50).astype(np.int16)
    nib.save(nib.Nifti1Image(counts.astype(np.float64) * 0.37 + 5, image.affine), source)
    other = nib.Nifti1Image(counts, image.affine).as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    other.header.set_slope_inter(0.37, 5)
    nib.save(other, target)
    return target


def test_the_same_image_under_two_patients_is_serious_however_it_is_stored(cohort, tmp_path):
    copy = stored_otherwise(cohort[1].files["t1"], tmp_path / "again.nii")
    cohort[3] = replace(cohort[3], files={"t1": copy, "t2": cohort[3].files["t2"]}, mask=None)
    report = check_cohort(cohort)
    (found,) = named(report, "same image, several patients")
    assert (found.severity, found.cases, found.number) == ("serious", ("c1", "c3"), 1.0)
    assert report.findings[0] == found


def test_the_same_image_twice_of_one_patient_is_a_warning(cohort):
    cohort[3] = replace(cohort[1], case="c3", patient="BraTS-9", aliases=("c1",))
    (found,) = check_cohort(cohort).findings
    assert (found.name, found.severity, found.number) == ("same image, one patient", "warning", 2.0)


def test_one_file_for_two_series_is_serious(cohort):
    cohort[2] = replace(cohort[2], files=dict.fromkeys(("t1", "t2"), cohort[2].files["t1"]))
    report = check_cohort(cohort)
    (found,) = named(report, "same image, two series")
    assert (found.severity, found.cases) == ("serious", ("c2",))
    assert report.verdicts[2].findings == ("t1 and t2 are the same image",)


def test_a_hash_sees_one_changed_voxel_and_not_the_unit():
    image = noise(0)
    changed = image.copy()
    changed[3, 4, 5] += 100
    assert image_hash(image) != image_hash(changed)
    assert image_hash(image) == image_hash(image * np.float32(4))
    assert image_hash(image) != image_hash(image[::-1])
    assert image_hash(np.zeros((2, 3, 4), np.float32)) != image_hash(np.zeros((4, 3, 2), np.float32))


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "axes"),
    [
        (np.uint8, 1, 0, "LIA"),
        (np.int16, 0.37, 5, "RAS"),
        (np.int16, 1e-4, -0.02, "PSL"),
        (np.float32, 12.7, 3000, "LPS"),
        (np.float64, 1 / 3, 0.1, "AIR"),
    ],
)
def test_a_hash_is_blind_to_how_a_large_image_is_stored(tmp_path, stored, slope, intercept, axes):
    """Larger than what is hashed, so that a part is read; every stored value comes back with a rounding error."""
    grid = Grid((70, 60, 50), np.diag([1.0, 1.0, 2.0, 1.0]))
    counts = np.random.default_rng(7).integers(0, 256, grid.shape)
    plain = image_hash(counts.astype(np.float32))
    image = nib.Nifti1Image(counts.astype(stored), grid.affine)
    start = nib.orientations.axcodes2ornt("RAS")
    turned = image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(axes)))
    turned.header.set_slope_inter(slope, intercept)
    nib.save(turned, tmp_path / "x.nii")
    assert image_hash(read_volume(tmp_path / "x.nii", "x").volume.voxels) == plain


def test_a_hash_reads_all_of_an_image_that_is_blank_where_it_looks_first():
    shape = (128, 128, 64)
    one, other = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    one[1, 1, 1], other[1, 1, 3] = 1, 1
    assert image_hash(one) != image_hash(other)


# --- labels -----------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path: Path):
    """Makes a cohort of `n` cases from a function that gives each its fields."""

    def make(n: int, fields) -> list[CaseRow]:
        return [
            CaseRow(
                f"c{i:02d}",
                f"c{i:02d}",
                files={
                    "t1": write(tmp_path / f"c{i:02d}.nii", noise(i, (4, 4, 4)), Grid((4, 4, 4), np.eye(4)))
                },
                **fields(i),
            )
            for i in range(n)
        ]

    return make


def test_site_and_label_are_serious_when_confounded_and_a_note_when_not(labelled):
    rows = labelled(
        40, lambda i: {"site": "AB"[i % 2], "targets": {"idh": "mutant" if i % 2 else "wildtype"}}
    )
    (found,) = named(check_cohort(rows), "site and idh")
    assert (found.severity, found.number) == ("serious", 1.0)
    assert "Cramér's V 1.00" in found.text
    assert "p 0.0005" in found.text
    mixed = [replace(r, site="AB"[(i // 2) % 2]) for i, r in enumerate(rows)]
    (found,) = named(check_cohort(mixed), "site and idh")
    assert found.severity == "note"
    assert found.number == pytest.approx(0.5)
    assert named(check_cohort(mixed, target="codel_1p19q"), "site and idh") == []


def test_age_that_tells_the_label_is_a_warning_with_its_number(labelled):
    rows = labelled(
        24, lambda i: {"age": 30.0 + i, "targets": {"idh": "mutant" if i < 12 or i == 20 else "wildtype"}}
    )
    (found,) = named(check_cohort(rows, target="idh"), "age and idh")
    # Mann-Whitney by hand: of 13 x 11 pairs, the mutant of age 50 is younger than 3 of the 11, all others than all.
    assert found.number == pytest.approx((12 * 11 + 3) / (13 * 11))
    assert found.severity == "warning"
    assert "younger" in found.text
    even = [replace(r, age=30.0 + i % 12) for i, r in enumerate(rows)]
    assert [f.severity for f in named(check_cohort(even, target="idh"), "age and idh")] == ["note"]


def schemes_of(rows: list[CaseRow], target: str | None = None) -> list[tuple[str, tuple[str, ...]]]:
    return [(f.severity, f.cases) for f in named(check_cohort(rows, target=target), "mixed label schemes")]


def test_mixed_label_schemes_are_serious(labelled):
    rows = labelled(
        5, lambda i: {"targets": {"who_grade": "3"}, "label_scheme": "who2016" if i == 4 else "who2021"}
    )
    assert schemes_of(rows) == [("serious", ("c04",))]
    assert schemes_of(rows, "idh") == []
    text = check_cohort(rows, target="who_grade").to_text()
    assert "WHO grade follows who2016 in 1 case, who2021 in 4 cases" in text


@pytest.mark.parametrize("scheme", [None, "brats_lgg_hgg"])
def test_a_who_grade_of_no_stated_scheme_beside_others_is_a_warning(labelled, scheme):
    rows = labelled(
        4, lambda i: {"targets": {"who_grade": "3"}, "label_scheme": scheme if i == 1 else "who2021"}
    )
    assert schemes_of(rows) == [("warning", ("c01",))]
    assert schemes_of([replace(r, label_scheme=None) for r in rows]) == []


def test_a_scheme_matters_only_to_the_grade_it_is_the_scheme_of(labelled):
    fields = [
        {"targets": {"who_grade": "3", "idh": "mutant"}, "label_scheme": "who2021"},
        {"targets": {"idh": "mutant"}},
        {"targets": {"idh": "mutant"}, "label_scheme": "who2016"},
        {"targets": {"grade": "LGG"}, "label_scheme": "brats_lgg_hgg"},
        # The folder says LGG, the clinical table 2, and the scheme is the table's: one division, one WHO grade.
        {"targets": {"grade": "LGG", "who_grade": "2"}, "label_scheme": "who2021"},
    ]
    rows = labelled(5, lambda i: fields[i])
    assert schemes_of(rows) == []
    rows[1] = replace(rows[1], targets={"grade": "HGG"}, label_scheme="brats_lgg_hgg")
    rows[2] = replace(rows[2], targets={"grade": "HGG"})
    assert schemes_of(rows, "grade") == [("serious", ("c02",))]
    assert schemes_of(rows, "who_grade") == []


def test_incoherent_labels_list_their_cases(labelled):
    targets = [
        {"codel_1p19q": "codeleted", "idh": "wildtype"},
        {"codel_1p19q": "codeleted", "idh": "mutant"},
        {"codel_1p19q": "intact", "idh": "wildtype"},
        {"grade": "LGG", "who_grade": "4"},
        {"codel_1p19q": "codeleted", "who_grade": "4"},
    ]
    rows = labelled(5, lambda i: {"targets": targets[i], "label_scheme": "who2021"})
    found = named(check_cohort(rows), "incoherent labels")
    assert [f.cases for f in found] == [("c00",), ("c04",), ("c03",)]
    assert {f.severity for f in found} == {"warning"}


def test_an_unknown_target_is_refused(cohort):
    with pytest.raises(ConfigError, match="mgmt"):
        check_cohort(cohort, target="mgmt")


def test_the_report_goes_to_json_and_back(cohort, tmp_path):
    cohort[0].files["t1"].write_bytes(gzip.compress(b"no image"))
    report = check_cohort(cohort)
    write_json(tmp_path / "check.json", report.to_json())
    content = read_json(tmp_path / "check.json")
    assert [v["verdict"] for v in content["verdicts"]] == [v.verdict for v in report.verdicts]
    assert content["findings"][0]["cases"] == ["c0"]
    assert json.dumps(content["counts"], sort_keys=True) == json.dumps(report.counts, sort_keys=True)


# --- real scans -------------------------------------------------------------------------------------------


def test_real_cases_pass_and_exchanged_files_are_named(shared_data):
    folder = shared_data / "tcga_lgg"
    names = ["TCGA-DU-5852", "TCGA-FG-7637", "TCGA-HT-7605", "TCGA-HT-7690", "TCGA-DU-7302"]
    rows = [
        CaseRow(
            n,
            n,
            files={s: folder / n / f"{n}_{s}.nii.gz" for s in ("t1", "t1ce", "flair")},
            mask=folder / n / f"{n}_seg.nii.gz",
        )
        for n in names
    ]
    first = rows[0].files
    rows.append(
        replace(rows[0], case="swapped", files={**first, "t1ce": first["flair"], "flair": first["t1ce"]})
    )
    report = check_cohort(rows)
    assert [v.verdict for v in report.verdicts] == ["ok"] * 5 + ["fixable"]
    assert "flair and t1ce look exchanged" in report.verdicts[-1].findings[0]
    # The exchanged case is the first one's patient again, and its images say so.
    assert [f.cases for f in named(report, "same image, one patient")] == [("TCGA-DU-5852", "swapped")]
    image = read_volume(first["t1"], "x").volume.voxels
    assert image_hash(image) == image_hash(image.astype(np.float32))
