"""Folders of every known layout to rows: names as the releases publish them, masks by their values."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliolens.case import Grid, Volume
from gliolens.cohorts.identity import patient_of, same_spelling, site_of
from gliolens.cohorts.layouts.folders import kind_of
from gliolens.cohorts.layouts.registry import LAYOUTS, Indexed, read_case_folder, read_layout
from gliolens.errors import CaseError, CohortError, ConfigError
from gliolens.io.nifti import write_volume
from gliolens.io.tables import read_cohort, write_cohort

ALL = {"t1", "t1ce", "t2", "flair"}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def mask(file: Path, values: Sequence[int]) -> None:
    """Write a mask that holds these values."""
    voxels = np.resize(np.array(values, np.uint8), (2, 3, 4))
    write_volume(file, Volume(voxels, np.eye(4)), Grid((2, 3, 4), np.eye(4)))


def brats(
    root: Path, case: str, values: Sequence[int] | None = None, words: str = "t1 t1ce t2 flair"
) -> None:
    touch(root, *(f"{case}/{case}_{w}.nii.gz" for w in words.split()))
    if values is not None:
        mask(root / case / f"{case}_seg.nii.gz", values)


def names(indexed: Indexed) -> list[str]:
    return [row.case for row in indexed.rows]


# --- public releases ---------------------------------------------------------------------------------------------


def test_brats2020_names(tmp_path: Path) -> None:
    brats(tmp_path, "BraTS20_Training_001", (0, 1, 2, 4))
    brats(tmp_path, "BraTS2021_00000", (0, 1), words="t1 t2 flair")
    found = read_layout(tmp_path)
    assert found.layout == "brats2020"
    first, second = found.rows
    assert (first.case, second.case) == ("BraTS2021_00000", "BraTS20_Training_001")
    assert set(first.files) == {"t1", "t2", "flair"}, "a missing series is absent, nothing else"
    assert second.files["t1ce"] == tmp_path / "BraTS20_Training_001/BraTS20_Training_001_t1ce.nii.gz"
    assert {r.mask_scheme for r in found.rows} == {"brats2020"}, (
        "the cohort's 4 tells of the mask with only 0 and 1"
    )


def test_brats2019_parent_folders_are_the_grade_and_ids_name_the_site(tmp_path: Path) -> None:
    brats(tmp_path / "HGG", "BraTS19_CBICA_AAB_1")
    brats(tmp_path / "LGG", "BraTS19_TCIA09_141_1")
    found = read_layout(tmp_path)
    assert [(r.targets, r.label_scheme, r.site) for r in found.rows] == [
        ({"grade": "HGG"}, "brats_lgg_hgg", "CBICA"),
        ({"grade": "LGG"}, "brats_lgg_hgg", "TCIA09"),
    ]
    assert read_layout(tmp_path / "LGG").rows[0].targets == {"grade": "LGG"}


def test_brats2023_time_points_share_a_patient(tmp_path: Path) -> None:
    for case in ("BraTS-GLI-00005-100", "BraTS-GLI-00005-101"):
        touch(tmp_path, *(f"training/{case}/{case}-{w}.nii.gz" for w in ("t1n", "t1c", "t2w", "t2f")))
        mask(tmp_path / f"training/{case}/{case}-seg.nii.gz", (0, 1, 2, 3))
    found = read_layout(tmp_path)
    assert found.layout == "brats2023"
    assert names(found) == ["BraTS-GLI-00005-100", "BraTS-GLI-00005-101"]
    assert {r.patient for r in found.rows} == {"BraTS-GLI-00005"}
    assert all(set(r.files) == ALL and r.mask_scheme == "brats2023" for r in found.rows)
    assert found.rows[0].files["t1ce"].name == "BraTS-GLI-00005-100-t1c.nii.gz"


def ucsf(root: Path, exam: str, words: str = "T1 T1c T2 FLAIR") -> None:
    folder = f"{exam}_nifti"
    series = words.split()
    touch(root, *(f"{folder}/{exam}_{w}.nii.gz" for w in [*series, *(f"{s}_bias" for s in series)]))
    others = ("SWI", "DWI", "ADC", "ASL", "SWI_bias", "DTI_eddy_FA", "brain_parenchyma_segmentation")
    touch(
        root, *(f"{folder}/{exam}_{w}.nii.gz" for w in (*others, "tumor_segmentation", "brain_segmentation"))
    )


def test_ucsf_pdgm(tmp_path: Path) -> None:
    ucsf(tmp_path, "UCSF-PDGM-0004")
    ucsf(tmp_path, "UCSF-PDGM-0429")
    ucsf(tmp_path, "UCSF-PDGM-0429_FU003d")
    ucsf(tmp_path, "UCSF-PDGM-0138", words="T1 T1gad T2 FLAIR")
    found = read_layout(tmp_path)
    assert found.layout == "ucsf-pdgm"
    assert {r.case: r.patient for r in found.rows} == {
        "UCSF-PDGM-0004": "UCSF-PDGM-0004",
        "UCSF-PDGM-0138": "UCSF-PDGM-0429",
        "UCSF-PDGM-0429": "UCSF-PDGM-0429",
        "UCSF-PDGM-0429_FU003d": "UCSF-PDGM-0429",
    }
    row = found.rows[0]
    assert {s: f.name.removeprefix("UCSF-PDGM-0004_") for s, f in row.files.items()} == {
        "t1": "T1.nii.gz", "t1ce": "T1c.nii.gz", "t2": "T2.nii.gz", "flair": "FLAIR.nii.gz",
    }  # fmt: skip
    assert row.mask is not None
    assert row.mask.name == "UCSF-PDGM-0004_tumor_segmentation.nii.gz"
    assert row.brain_mask is not None
    assert row.brain_mask.name == "UCSF-PDGM-0004_brain_segmentation.nii.gz"
    assert row.mask_scheme == "brats2020"


def test_ucsf_bias_counts_only_where_it_is_alone(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_{w}.nii.gz" for w in ("T1_bias", "T2", "T2_bias"))
    )
    (row,) = read_layout(tmp_path).rows
    assert [f.name for f in row.files.values()] == [
        "UCSF-PDGM-0004_T1_bias.nii.gz",
        "UCSF-PDGM-0004_T2.nii.gz",
    ]


def test_upenn_prefers_the_corrected_mask(tmp_path: Path) -> None:
    for case in ("UPENN-GBM-00001_11", "UPENN-GBM-00002_21"):
        folder = f"images_structural/{case}"
        touch(tmp_path, *(f"{folder}/{case}_{w}.nii.gz" for w in ("T1", "T1GD", "T2", "FLAIR")))
        touch(tmp_path, f"automated_segm/{case}_automated_approx_segm.nii.gz")
    touch(tmp_path, "images_segm/UPENN-GBM-00001_11_segm.nii.gz")
    touch(tmp_path, "images_structural_unstripped/UPENN-GBM-00001_11/UPENN-GBM-00001_11_T1_unstripped.nii.gz")
    found = read_layout(tmp_path)
    assert found.layout == "upenn-gbm"
    first, second = found.rows
    assert (first.patient, second.patient) == ("UPENN-GBM-00001", "UPENN-GBM-00002")
    assert set(first.files) == ALL
    assert first.mask == tmp_path / "images_segm/UPENN-GBM-00001_11_segm.nii.gz"
    assert second.mask == tmp_path / "automated_segm/UPENN-GBM-00002_21_automated_approx_segm.nii.gz"
    assert any("1 of 2 masks are automated" in n for n in found.notes)


def test_ixi_is_healthy(tmp_path: Path) -> None:
    words = ("T1", "T2", "PD", "MRA", "DTI-00")
    touch(tmp_path, *(f"IXI-{w[:3]}/IXI002-Guys-0828-{w}.nii.gz" for w in words))
    found = read_layout(tmp_path)
    (row,) = found.rows
    assert (row.case, row.patient, row.site) == ("IXI002-Guys-0828", "IXI002", "Guys")
    assert (row.targets, row.label_scheme) == ({"grade": "healthy"}, "brats_lgg_hgg")
    assert set(row.files) == {"t1", "t2"}
    assert any(n.startswith("3 NIfTI files were left alone") for n in found.notes)


def test_bids(tmp_path: Path) -> None:
    anat = "sub-tumor01/ses-1/anat/sub-tumor01_ses-1"
    touch(tmp_path, f"{anat}_T1w.nii.gz", f"{anat}_ce-gadolinium_T1w.nii.gz", f"{anat}_FLAIR.nii.gz")
    touch(tmp_path, f"{anat}_PDw.nii.gz", "sub-tumor01/ses-1/dwi/sub-tumor01_ses-1_dwi.nii.gz")
    touch(tmp_path, "sub-02/anat/sub-02_T2w.nii.gz", "sub-02/anat/sub-02_label-lesion_mask.nii.gz")
    made = "derivatives/seg/sub-tumor01/ses-1/anat/sub-tumor01_ses-1"
    touch(tmp_path, f"{made}_space-T1w_desc-tumor_dseg.nii.gz", f"{made}_desc-brain_mask.nii.gz")
    touch(tmp_path, f"{made}_dseg.nii.gz", f"{made}_desc-preproc_T1w.nii.gz")
    found = read_layout(tmp_path)
    assert found.layout == "bids"
    second, first = found.rows
    assert (first.case, first.patient, second.case) == ("sub-tumor01_ses-1", "sub-tumor01", "sub-02")
    assert set(first.files) == {"t1", "t1ce", "flair"}
    assert first.files["t1"] == tmp_path / f"{anat}_T1w.nii.gz"
    assert first.mask == tmp_path / f"{made}_space-T1w_desc-tumor_dseg.nii.gz"
    assert first.brain_mask == tmp_path / f"{made}_desc-brain_mask.nii.gz"
    assert second.mask == tmp_path / "sub-02/anat/sub-02_label-lesion_mask.nii.gz"


# --- ids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["007", "Müller 3", "患者一", "a b_c", "tumor_T1_mask", "x.y", "it's (2)"])
def test_any_id_works_and_stays_a_string(tmp_path: Path, case: str) -> None:
    brats(tmp_path, case)
    found = read_layout(tmp_path)
    assert names(found) == [case]
    write_cohort(tmp_path / "cohort.csv", found.rows)
    (row,) = read_cohort(tmp_path / "cohort.csv")
    assert (row.case, row.patient) == (case, case)
    alone, _ = read_case_folder(tmp_path / case)
    assert (alone.case, set(alone.files)) == (case, ALL)


def test_patients_and_sites_that_ids_name() -> None:
    assert patient_of("TCGA-CS-4941-01A") == "TCGA-CS-4941"
    assert site_of("TCGA-CS-4941") == "CS"
    assert (patient_of("BraTS20_Training_001"), site_of("BraTS20_Training_001")) == (
        "BraTS20_Training_001",
        None,
    )
    assert patient_of("UCSF-PDGM-0433_FU007d") == patient_of("UCSF-PDGM-0315") == "UCSF-PDGM-0433"
    assert patient_of("UCSF-PDGM-315") == "UCSF-PDGM-433"


@given(st.integers(0, 99999), st.integers(5, 8), st.sampled_from("-_ ."))
def test_zeros_and_separators_do_not_change_a_spelling(number: int, width: int, separator: str) -> None:
    padded = f"UCSF{separator}PDGM{separator}{number:0{width}d}"
    assert same_spelling(padded) == same_spelling(f"ucsf-pdgm-{number}")
    assert same_spelling(padded) != same_spelling(f"ucsf-pdgm-{number + 1}")


@pytest.mark.parametrize(
    ("words", "kind"),
    [("t1_bet", "t1"), ("fla_bet_normalized", "flair"), ("hdbet_mask_brats", "brain_mask"), ("brainmask", "brain_mask"),
     ("seg_fusion_simple", "mask"), ("tumor_segmentation", "mask"), ("SWI", None)],
)  # fmt: skip
def test_kind_of(words: str, kind: str | None) -> None:
    assert kind_of(words) == kind


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["X/X_t1.nii", "more/X/X_t1.nii.gz"])
def test_two_files_for_one_series_are_refused_and_both_named(tmp_path: Path, second: str) -> None:
    brats(tmp_path, "X")
    touch(tmp_path, second)
    with pytest.raises(CaseError, match="two files for t1") as refused:
        read_layout(tmp_path)
    assert str(tmp_path / "X/X_t1.nii.gz") in str(refused.value)
    assert str(tmp_path / second) in str(refused.value)


def test_no_layout_fits(tmp_path: Path) -> None:
    touch(tmp_path, "scan one.nii.gz")
    with pytest.raises(CohortError, match="no known layout fits") as refused:
        read_layout(tmp_path)
    assert all(name in str(refused.value) for name in (*LAYOUTS, "{case}_{series}.nii.gz", "scan one.nii.gz"))
    with pytest.raises(CohortError, match="do not lie as bids"):
        read_layout(tmp_path, layout="bids")
    with pytest.raises(CohortError, match="no such folder"):
        read_layout(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "match"),
    [({"layout": "brats"}, "--layout"), ({"layout": "bids", "pattern": "{case}/{series}"}, "exclude"),
     ({"layout": "pattern"}, "needs --pattern"), ({"mask_scheme": "brats"}, "--mask-scheme"),
     ({"series_order": ("t1", "t1")}, "--series-order"), ({"series_order": ("pd",)}, "--series-order")],
)  # fmt: skip
def test_wrong_options(tmp_path: Path, options: dict[str, str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_layout(tmp_path, **options)  # type: ignore[arg-type]


def test_hidden_files_and_links_in_a_ring_are_passed_over(tmp_path: Path) -> None:
    brats(tmp_path, "X")
    touch(tmp_path, "X/._X_t1.nii.gz", ".trash/X/X_t1.nii.gz")
    (tmp_path / "X" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert names(read_layout(tmp_path)) == ["X"]


# --- mask schemes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "scheme", "noted"),
    [(((0, 1), (0,)), "binary", "2 masks hold only 0 and 1"), (((0, 1), (0, 2)), "brats2020", None),
     (((0, 1), (0, 1, 2, 4)), "brats2020", None), (((0, 1), (0, 1, 2, 3)), "brats2023", None),
     (((0, 3), (0, 4)), None, "has no 3"), (((0, 1), (0, 7)), None, "no known scheme")],
)  # fmt: skip
def test_schemes_of_names_to_2021(
    tmp_path: Path, values: tuple[tuple[int, ...], ...], scheme: str | None, noted: str | None
) -> None:
    for number, held in enumerate(values):
        brats(tmp_path, f"X{number}", held)
    found = read_layout(tmp_path)
    assert {r.mask_scheme for r in found.rows} == {scheme}
    assert [n for n in found.notes if "hold" in n] == [n for n in found.notes if noted and noted in n]
    assert bool(found.notes) == bool(noted)


def test_a_4_without_a_3_is_a_cavity_in_dashed_names(tmp_path: Path) -> None:
    case = "BraTS-GLI-00005-100"
    touch(tmp_path, f"{case}/{case}-t1c.nii.gz")
    mask(tmp_path / f"{case}/{case}-seg.nii.gz", (0, 1, 2, 4))
    assert read_layout(tmp_path).rows[0].mask_scheme == "brats2024"


def test_a_4_without_a_3_stays_open_in_unknown_names(tmp_path: Path) -> None:
    touch(tmp_path, "a/t1.nii.gz")
    mask(tmp_path / "a/mask.nii.gz", (0, 1, 2, 4))
    found = read_layout(tmp_path, pattern="{case}/{series}.nii.gz")
    assert found.rows[0].mask_scheme is None
    assert any("--mask-scheme brats2020" in n and "--mask-scheme brats2024" in n for n in found.notes)
    assert read_layout(tmp_path, pattern="{case}/{series}.nii.gz", mask_scheme="brats2024").rows[
        0
    ].mask_scheme == ("brats2024")


def test_a_broken_mask_does_not_stop_indexing(tmp_path: Path) -> None:
    brats(tmp_path, "X", (0, 1, 2, 4))
    brats(tmp_path, "Y")
    (tmp_path / "Y/Y_seg.nii.gz").write_bytes(b"no NIfTI")
    seen: list[tuple[int, int]] = []
    found = read_layout(tmp_path, progress=lambda done, n: seen.append((done, n)))
    assert [r.mask_scheme for r in found.rows] == ["brats2020", None]
    assert found.rows[1].mask is not None
    assert any("'Y'" in n and "cannot be read" in n for n in found.notes)
    assert seen == [(1, 2), (2, 2)]


def test_the_users_scheme_wins_and_no_mask_is_read(tmp_path: Path) -> None:
    brats(tmp_path, "X")
    (tmp_path / "X/X_seg.nii.gz").write_bytes(b"no NIfTI")
    brats(tmp_path, "Y")
    found = read_layout(tmp_path, mask_scheme="brats2023")
    assert [r.mask_scheme for r in found.rows] == ["brats2023", None]
    assert found.notes == ()


# --- one case ----------------------------------------------------------------------------------------------------


def test_a_flat_ucsf_folder_takes_the_plain_files(tmp_path: Path) -> None:
    ucsf(tmp_path, "UCSF-PDGM-0004")
    (tmp_path / "UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_brain_parenchyma_segmentation.nii.gz").unlink()
    row, notes = read_case_folder(tmp_path / "UCSF-PDGM-0004_nifti")
    assert set(row.files) == ALL
    assert not any("bias" in f.name for f in row.files.values())
    assert row.mask is not None
    assert row.brain_mask is not None
    assert notes == ()


def test_a_flat_folder_of_contrast_words_and_of_channels(tmp_path: Path) -> None:
    touch(tmp_path, "a/T1_pre.nii.gz", "a/T1_post.nii.gz", "b/case_0000.nii.gz", "b/case_0003.nii.gz")
    row, notes = read_case_folder(tmp_path / "a")
    assert {s: f.name for s, f in row.files.items()} == {"t1": "T1_pre.nii.gz", "t1ce": "T1_post.nii.gz"}
    assert notes == ()
    row, notes = read_case_folder(tmp_path / "b")
    assert {s: f.name for s, f in row.files.items()} == {
        "t1": "case_0000.nii.gz",
        "flair": "case_0003.nii.gz",
    }
    assert len(notes) == 2
    assert all("nnU-Net's BraTS order" in n for n in notes)


def test_a_case_folder_that_cannot_be_one(tmp_path: Path) -> None:
    touch(tmp_path, "dup/t1.nii.gz", "dup/x_t1.nii", "none/readme.txt", "other/swi.nii.gz")
    with pytest.raises(CaseError, match=r"(?s)t1\.nii\.gz.*x_t1\.nii"):
        read_case_folder(tmp_path / "dup")
    with pytest.raises(CaseError, match="no NIfTI file"):
        read_case_folder(tmp_path / "none")
    with pytest.raises(CaseError, match=r"1 NIfTI files: swi\.nii\.gz"):
        read_case_folder(tmp_path / "other")
    with pytest.raises(CaseError, match="no such folder"):
        read_case_folder(tmp_path / "nowhere")


# --- real scans --------------------------------------------------------------------------------------------------


def test_the_real_tcga_cohort(shared_data: Path) -> None:
    found = read_layout(shared_data / "tcga_lgg")
    assert (found.layout, len(found.rows)) == ("brats2020", 55)
    assert Counter(s for r in found.rows for s in r.files) == {"flair": 55, "t1": 54, "t1ce": 52}
    assert {r.mask_scheme for r in found.rows} == {"binary"}
    assert Counter(r.site for r in found.rows) == {"DU": 22, "HT": 17, "CS": 10, "FG": 6}
    assert found.notes == (
        "55 masks hold only 0 and 1: read as binary whole-tumour masks; name it with --mask-scheme if not",
    )


def test_the_real_single_cases(shared_data: Path) -> None:
    high, notes = read_case_folder(shared_data / "case_hgg_brats2023")
    assert (high.case, notes) == ("case_hgg_brats2023", ())
    assert {s: f.name for s, f in high.files.items()} == {
        "t1": "t1n.nii.gz", "t1ce": "t1c.nii.gz", "t2": "t2w.nii.gz", "flair": "t2f.nii.gz",
    }  # fmt: skip
    assert high.mask is not None
    low, notes = read_case_folder(shared_data / "case_lgg_sri24")
    assert set(low.files) == ALL
    assert low.mask == shared_data / "case_lgg_sri24/seg_fusion_simple.nii.gz"
    assert low.brain_mask is None
    assert len(notes) == 1
    assert "brainmask" in notes[0]
    assert "hdbet_mask" in notes[0]
