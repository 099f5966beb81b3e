"""From a row to a case: all on one grid, or a refusal that says which file and how to mend it."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gliolens.case import Case, CaseRow
from gliolens.errors import CaseError
from gliolens.io.nifti import write_volume
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.loader import Cases, read_case, select
from gliolens.types import Image

SHAPE = (6, 7, 8)
LPS = np.array([[-1.0, 0, 0, 90], [0, -1.2, 0, 100], [0, 0, 2.0, -50], [0, 0, 0, 1]])


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = LPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = nib.Nifti1Image(voxels, affine)
    made.set_qform(affine, code=1)
    made.set_sform(affine, code=1)
    nib.save(made, path)
    return path


def scan(seed: int, shape: tuple[int, ...] = SHAPE) -> Image:
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.fixture
def row(tmp_path) -> CaseRow:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 2
    labels[2, 2, 2:4] = [1, 4]
    return CaseRow(
        case="Müller 007",
        patient="P1",
        files={
            s: save(tmp_path / f"{s}.nii.gz", scan(k)) for k, s in enumerate(("t1", "t1ce", "t2", "flair"))
        },
        mask=save(tmp_path / "seg.nii.gz", labels),
        mask_scheme="brats2020",
        brain_mask=save(tmp_path / "brain.nii.gz", np.ones(SHAPE, np.uint8)),
        age=40.5,
        site="A",
        targets={"idh": "mutant"},
        label_scheme="who2021",
    )


def test_a_row_becomes_a_case_on_one_ras_grid(row):
    case = read_case(row, need_mask=True)
    assert (case.id, case.patient, case.site) == ("Müller 007", "P1", "A")
    assert dict(case.covariates) == {"age": 40.5}, "what is unknown is absent"
    assert list(case.series) == ["t1", "t1ce", "t2", "flair"]
    assert nib.aff2axcodes(case.grid.affine) == ("R", "A", "S")
    np.testing.assert_allclose(case.source.affine, LPS, atol=1e-6)
    for k, name in enumerate(case.series):
        np.testing.assert_array_equal(case.series[name], scan(k)[::-1, ::-1])
    assert {name: int(case.region(name).sum()) for name in ("whole", "core", "enhancing")} == {
        "whole": 8, "core": 2, "enhancing": 1,
    }  # fmt: skip
    assert case.brain is not None
    assert case.brain.all()
    assert case.history == ("read t1, t1ce, t2, flair", "mask read as brats2020")


def test_only_the_series_asked_for_are_read_in_the_order_asked(row):
    broken = replace(row, files={**row.files, "t2": Path("none.nii.gz")})
    assert list(read_case(broken, ("flair", "t1")).series) == ["flair", "t1"]


def test_labels_go_back_into_the_grid_of_the_input(row, tmp_path):
    case = read_case(row)
    write_volume(tmp_path / "out.nii.gz", replace_voxels(case), case.source)
    back, given = nib.load(tmp_path / "out.nii.gz"), nib.load(row.mask)
    np.testing.assert_allclose(back.affine, given.affine, atol=1e-5)
    np.testing.assert_array_equal(back.get_fdata() == 3, given.get_fdata() == 4)


def replace_voxels(case: Case):
    return replace(case.volume("t1"), voxels=case.tumour)


def test_one_grid_stored_in_two_orientations_is_one_grid(row, tmp_path):
    turned = nib.as_closest_canonical(nib.load(row.files["t2"]))
    nib.save(turned, tmp_path / "ras.nii.gz")
    mixed = read_case(replace(row, files={**row.files, "t2": tmp_path / "ras.nii.gz"}))
    np.testing.assert_array_equal(mixed.series["t2"], read_case(row).series["t2"])


def test_a_difference_no_eye_can_see_is_none(row, tmp_path):
    affine = LPS.copy()
    affine[0, 3] += 0.02
    near = replace(row, files={**row.files, "t2": save(tmp_path / "near.nii.gz", scan(2), affine)})
    assert read_case(near).grid.matches(read_case(row).grid)


def shifted() -> np.ndarray:
    affine = LPS.copy()
    affine[1, 3] += 1.0
    return affine


def rotated() -> np.ndarray:
    affine = LPS.copy()
    affine[:3, :3] = Rotation.from_euler("z", 5, degrees=True).as_matrix() @ affine[:3, :3]
    return affine


@pytest.mark.parametrize("which", ["t2", "mask", "brain mask"])
@pytest.mark.parametrize(
    ("affine", "shape", "found"),
    [
        (shifted(), SHAPE, "1.00 mm apart"),
        (rotated(), SHAPE, "mm apart"),
        (LPS @ np.diag([1, 1, 1.1, 1]), SHAPE, "mm apart"),
        (LPS, (6, 7, 9), "of shape (6, 7, 9), t1 of shape (6, 7, 8)"),
    ],
    ids=["shifted by 1 mm", "rotated by 5 degrees", "other voxel size", "other shape"],
)
def test_files_on_different_grids_are_refused(row, tmp_path, which, affine, shape, found):
    voxels = scan(5, shape) if which == "t2" else (scan(5, shape) > 0.5).astype(np.uint8)
    file = save(tmp_path / "elsewhere.nii.gz", voxels, affine)
    changes = {
        "t2": {"files": {**row.files, "t2": file}},
        "mask": {"mask": file},
        "brain mask": {"brain_mask": file},
    }
    with pytest.raises(CaseError) as refused:
        read_case(replace(row, **changes[which]))
    text = str(refused.value)
    for part in ("'Müller 007'", "elsewhere.nii.gz", which, found, "one grid", "resample"):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "asked", "found", "mend"),
    [
        ({"files": {}}, {}, "series none", "add the file"),
        ({}, {"series": ("t1", "t3")}, "series t1, t1ce, t2, flair", "--series"),
        ({"mask": None}, {"need_mask": True}, "no tumour mask", "--mask FILE"),
        ({"mask_scheme": None}, {}, "label 4", "--mask-scheme brats2020"),
        ({"files": {"t1": Path("none.nii.gz")}}, {}, "no such file", "correct the path"),
        ({"brain_mask": Path("none.nii.gz")}, {}, "no such file", "correct the path"),
        ({"targets": {"idh": "yes"}}, {}, "idh=yes", "gliolens.labels"),
    ],
)
def test_what_is_missing_or_wrong_is_refused_by_name(row, changes, asked, found, mend):
    with pytest.raises(CaseError) as refused:
        read_case(replace(row, **changes), **asked)
    text = str(refused.value)
    assert "'Müller 007'" in text
    assert found in text
    assert mend in text


def test_a_missing_series_is_named(row):
    files = {s: f for s, f in row.files.items() if s != "flair"}
    with pytest.raises(CaseError, match="flair too"):
        read_case(replace(row, files=files), ("t1", "flair"))


def test_a_case_without_mask_or_with_an_empty_one_is_a_case(row, tmp_path):
    assert read_case(replace(row, mask=None)).tumour is None
    healthy = replace(row, mask=save(tmp_path / "none.nii.gz", np.zeros(SHAPE, np.uint8)), mask_scheme=None)
    case = read_case(healthy, need_mask=True)
    assert not case.region("whole").any()
    assert not case.region("enhancing").any(), "no tumour is no enhancing tumour: known, not unknown"


@pytest.mark.parametrize("name", ["007", "a b #2", "患者", unicodedata.normalize("NFD", "é"), "T1, seg"])
def test_ids_and_file_names_survive_table_and_reading(tmp_path, name):
    file = save(tmp_path / name / f"{name}_t1.nii.gz", scan(1))
    write_cohort(tmp_path / "c.csv", [CaseRow(name, name, files={"t1": file})])
    case = read_case(read_cohort(tmp_path / "c.csv")[0])
    assert (case.id, case.patient) == (name, name)


def test_channels_of_a_4d_file_are_series(tmp_path):
    four = save(tmp_path / "BRATS_001.nii.gz", np.stack([scan(k) for k in range(4)], axis=-1))
    files = {s: Path(f"{four}#{k}") for k, s in enumerate(("flair", "t1", "t1ce", "t2"))}
    write_cohort(tmp_path / "c.csv", [CaseRow("1", "1", files=files)])
    case = read_case(read_cohort(tmp_path / "c.csv")[0])
    for k, name in enumerate(files):
        np.testing.assert_array_equal(case.series[name], scan(k)[::-1, ::-1])


# --- many cases ------------------------------------------------------------------------------------------------


def mean(case: Case) -> dict[str, np.ndarray]:
    return {"mean": np.array([image.mean() for image in case.series.values()])}


def test_cases_are_read_when_asked_for_and_prepared_once(row, tmp_path):
    cases = Cases((row, replace(row, case="b", files={"t1": row.files["t2"]})), ("t1",))
    assert [case.id for case in cases] == ["Müller 007", "b"]
    assert cases.only(["b"]).rows == cases.rows[1:]
    asked = []

    def prepare(case: Case) -> dict[str, np.ndarray]:
        asked.append(case.id)
        return mean(case)

    for _ in range(2):
        found = cases.prepared(prepare, "mean", tmp_path / "cache")
    assert asked == ["Müller 007", "b"], "the second time nothing is decoded"
    assert found[0]["mean"][0] == pytest.approx(scan(0).mean(), rel=1e-5)
    cases.prepared(prepare, "another recipe", tmp_path / "cache")
    assert len(asked) == 4


def test_what_was_prepared_keeps_no_file_open(row, tmp_path):
    """A system may allow 1,024 open files, and a cohort have more cases."""
    cases = Cases(tuple(replace(row, case=f"c{i}") for i in range(30)), ("t1",))
    kept = cases.prepared(mean, "mean", tmp_path / "cache")
    before = len(list(Path("/proc/self/fd").iterdir()))
    read = [p["mean"][0] for p in kept]
    assert len(read) == 30
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 5


def test_what_is_kept_of_one_volume_of_a_4d_file_is_not_taken_for_anothers(tmp_path):
    rows = []
    for name in ("a", "b"):
        four = save(tmp_path / f"{name}.nii.gz", np.stack([scan(k + 2 * ord(name)) for k in (0, 1)], axis=-1))
        rows += [CaseRow(f"{name}{k}", name, files={"t1": Path(f"{four}#{k}")}) for k in (0, 1)]
    cases = Cases(tuple(rows), ("t1",), need_mask=False)
    kept = [float(p["mean"][0]) for p in cases.prepared(mean, "mean", tmp_path / "cache")]
    assert kept == pytest.approx([float(mean(case)["mean"][0]) for case in cases])
    assert len(set(kept)) == 4


def test_a_changed_file_is_prepared_again(row, tmp_path):
    cases = Cases((row,), ("t1",))
    before = float(cases.prepared(mean, "mean", tmp_path / "cache")[0]["mean"][0])
    save(row.files["t1"], scan(0) + 1)
    after = float(cases.prepared(mean, "mean", tmp_path / "cache")[0]["mean"][0])
    assert after == pytest.approx(before + 1, rel=1e-5)


def test_cases_that_cannot_be_used_are_named_with_the_reason(row):
    rows = [row, replace(row, case="b", targets={}), replace(row, case="c", mask=None, files={})]
    kept, left_out = select(rows, target="idh", series=("t1",))
    assert kept == (row,)
    assert left_out == {"b": "idh unknown", "c": "no t1, no tumour mask"}


# --- real cases ------------------------------------------------------------------------------------------------


def test_the_real_cases_are_read_whole(shared_data):
    lgg, hgg = shared_data / "case_lgg_sri24", shared_data / "case_hgg_brats2023"
    names = {"t1": ("t1", "t1n"), "t1ce": ("t1c", "t1c"), "t2": ("t2", "t2w"), "flair": ("fla", "t2f")}
    first = CaseRow(
        "TCGA-DU-7294",
        "TCGA-DU-7294",
        files={s: lgg / f"TCGA-DU-7294_{n}_bet_normalized.nii.gz" for s, (n, _) in names.items()},
        mask=lgg / "seg_fusion_simple.nii.gz",
        mask_scheme="brats2020",
        brain_mask=lgg / "TCGA-DU-7294_hdbet_mask_brats.nii.gz",
    )
    second = CaseRow(
        "hgg",
        "hgg",
        files={s: hgg / f"{n}.nii.gz" for s, (_, n) in names.items()},
        mask=hgg / "segmentation.nii.gz",
    )
    for row in (first, second):
        case = read_case(row, need_mask=True)
        assert case.grid.spacing == pytest.approx((1, 1, 1))
        volumes = [float(case.region(r).sum()) * case.grid.voxel_ml for r in ("whole", "core", "enhancing")]
        assert 5 < volumes[0] < 300
        assert volumes == sorted(volumes, reverse=True)
        inside = [image[case.region("whole")].mean() / image[image > image.min()].mean() for image in
                  (case.series["flair"], case.series["t2"])]  # fmt: skip
        assert min(inside) > 1.1, "FLAIR and T2 are bright in the tumour: image and mask lie on one another"
