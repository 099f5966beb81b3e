"""Any layout in one line: fields, wildcards, and ids that hold the pattern's own separators."""

from pathlib import Path

import pytest

from gliolens.cohorts.layouts.registry import read_layout
from gliolens.errors import CaseError, ConfigError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_all_fields_and_a_wildcard(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"Köln/P 1/{c}/{w}_bet.nii.gz" for c in ("01", "02") for w in ("t1", "t1ce", "T2", "fla"))
    )
    touch(tmp_path, "Köln/P 1/01/brain_mask.nii.gz", "Köln/P 1/01/t2.json", "loose.nii.gz")
    found = read_layout(tmp_path, pattern="{site}/{patient}/{case}/{series}*.nii.gz")
    assert found.layout == "pattern"
    first, second = found.rows
    assert (first.case, first.patient, first.site) == ("01", "P 1", "Köln")
    assert (second.case, second.patient) == ("02", "P 1")
    assert set(first.files) == set(second.files) == {"t1", "t1ce", "t2", "flair"}
    assert first.brain_mask == tmp_path / "Köln/P 1/01/brain_mask.nii.gz"
    assert (first.mask, second.brain_mask) == (None, None)
    assert found.notes == ("1 NIfTI files were left alone: loose.nii.gz",)


@pytest.mark.parametrize("case", ["A", "p_1", "sub_01_x", "T1_study_7", "7"])
def test_flat_files_split_where_the_words_for_the_series_begin(tmp_path: Path, case: str) -> None:
    words = {"t1": "t1", "t1_ce": "t1ce", "t2w": "t2", "flair": "flair"}
    touch(tmp_path, *(f"{case}_{w}.nii.gz" for w in words))
    touch(tmp_path, f"{case}_brain_mask.nii.gz")
    (row,) = read_layout(tmp_path, pattern="{case}_{series}.nii.gz").rows
    assert row.case == case
    assert {s: f.name for s, f in row.files.items()} == {s: f"{case}_{w}.nii.gz" for w, s in words.items()}
    assert row.brain_mask == tmp_path / f"{case}_brain_mask.nii.gz"


def test_a_repeated_field_must_agree_and_any_folder_may_stand_before(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/X/X_t1.nii.gz", "X/X_t2.nii.gz", "X/Y_flair.nii.gz")
    (row,) = read_layout(tmp_path, pattern="**/{case}/{case}_{series}.nii.gz").rows
    assert set(row.files) == {"t1", "t2"}


def test_patient_alone_names_the_case_and_unknown_series_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, "P1/t1.nii.gz", "P1/swi.nii.gz")
    found = read_layout(tmp_path, pattern="{patient}/{series}.nii.gz")
    assert [(r.case, r.patient) for r in found.rows] == [("P1", "P1")]
    assert any("name no known series: P1/swi.nii.gz" in n for n in found.notes)


def test_two_files_or_two_sites_for_one_case_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x/P1/t1.nii.gz", "x/P1/t1_bet.nii.gz")
    with pytest.raises(CaseError, match="two files for t1"):
        read_layout(tmp_path, pattern="{site}/{case}/{series}*.nii.gz")
    touch(tmp_path, "y/P1/t2.nii.gz")
    (tmp_path / "x/P1/t1_bet.nii.gz").unlink()
    with pytest.raises(CaseError, match="site y, but x"):
        read_layout(tmp_path, pattern="{site}/{case}/{series}*.nii.gz")


@pytest.mark.parametrize(
    "pattern", ["{case}.nii.gz", "{series}.nii.gz", "{case}/{modality}.nii.gz", "{}/{case}/{series}"]
)
def test_patterns_that_say_too_little_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match="--pattern"):
        read_layout(tmp_path, pattern=pattern)
