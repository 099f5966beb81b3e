"""The vocabulary against the names that public sets and hospitals give their files."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.labels import (
    LABEL_TITLES,
    MASK_SCHEMES,
    REGION_TITLES,
    REGIONS,
    SERIES,
    SERIES_TITLES,
    TARGET_TITLES,
    TARGETS,
    guess_mask_scheme,
    is_brain_mask,
    is_tumour_mask,
    regions_known,
    series_in,
)

T1, T1CE, T2, FLAIR, NONE = "t1", "t1ce", "t2", "flair", None

NAMES = {
    "BraTS to 2020": {
        "Brats17_TCIA_201_1_t1.nii.gz": T1, "Brats17_TCIA_201_1_t1ce.nii.gz": T1CE,
        "BraTS19_2013_0_1_t2.nii.gz": T2, "BraTS20_Training_001_flair.nii.gz": FLAIR,
        "BraTS20_Training_001_seg.nii.gz": "tumour", "BraTS20_Training_003_t1ce.nii": T1CE,
        "TCGA-02-0003_1998.06.08_t1.nii.gz": T1, "TCGA-02-0003_1998.06.08_t1Gd.nii.gz": T1CE,
        "TCGA-02-0003_1998.06.08_flair.nii.gz": FLAIR, "TCGA-02-0003_1998.06.08_t2.nii.gz": T2,
        "TCGA-02-0003_1998.06.08_GlistrBoost_ManuallyCorrected.nii.gz": "tumour",
        "TCGA-CS-4941_t1ce.nii.gz": T1CE, "TCGA-CS-4941_seg.nii.gz": "tumour",
    },
    "BraTS 2021": {
        "BraTS2021_00000_t1.nii.gz": T1, "BraTS2021_00003_t1ce.nii.gz": T1CE,
        "BraTS2021_00002_t2.nii.gz": T2, "BraTS2021_00001_flair.nii.gz": FLAIR,
        "BraTS2021_00000_seg.nii.gz": "tumour",
    },
    "BraTS 2023 and 2024": {
        "BraTS-GLI-00000-000-t1n.nii.gz": T1, "BraTS-GLI-00000-000-t1c.nii.gz": T1CE,
        "BraTS-GLI-00003-101-t2w.nii.gz": T2, "BraTS-GLI-00001-001-t2f.nii.gz": FLAIR,
        "BraTS-GLI-00000-000-seg.nii.gz": "tumour", "t2f.nii.gz": FLAIR, "segmentation.nii.gz": "tumour",
    },
    "UCSF-PDGM": {
        "UCSF-PDGM-0004_T1.nii.gz": T1, "UCSF-PDGM-0004_T1_bias.nii.gz": T1,
        "UCSF-PDGM-0004_T1c.nii.gz": T1CE, "UCSF-PDGM-0004_T1c_bias.nii.gz": T1CE,
        "UCSF-PDGM-0004_T2.nii.gz": T2, "UCSF-PDGM-0004_FLAIR_bias.nii.gz": FLAIR,
        "UCSF-PDGM-0004_tumor_segmentation.nii.gz": "tumour",
        "UCSF-PDGM-0004_brain_segmentation.nii.gz": "brain",
        "UCSF-PDGM-0004_brain_parenchyma_segmentation.nii.gz": "brain",
        "UCSF-PDGM-0004_ADC.nii.gz": NONE, "UCSF-PDGM-0004_SWI.nii.gz": NONE,
        "UCSF-PDGM-0004_DTI_eddy_FA.nii.gz": NONE, "UCSF-PDGM-0004_ASL.nii.gz": NONE,
    },
    "UPENN-GBM": {
        "UPENN-GBM-00001_11_T1.nii.gz": T1, "UPENN-GBM-00001_11_T1GD.nii.gz": T1CE,
        "UPENN-GBM-00001_11_T2.nii.gz": T2, "UPENN-GBM-00001_11_FLAIR.nii.gz": FLAIR,
        "UPENN-GBM-00001_11_T1GD_unstripped.nii.gz": T1CE, "UPENN-GBM-00001_11_segm.nii.gz": "tumour",
        "UPENN-GBM-00001_11_automated_approx_segm.nii.gz": "tumour",
        "UPENN-GBM-00001_11_DSC_ap-rCBV.nii.gz": NONE,
    },
    "IXI": {
        "IXI002-Guys-0828-T1.nii.gz": T1, "IXI012-HH-1211-T2.nii.gz": T2, "IXI012-HH-0002-T2.nii.gz": T2,
        "IXI012-HH-0001-PD.nii.gz": NONE, "IXI025-Guys-0852-MRA.nii.gz": NONE,
        "IXI002-Guys-0828-DTI-00.nii.gz": NONE,
    },
    "BIDS": {
        "sub-01_T1w.nii.gz": T1, "sub-01_ses-1_T2w.nii.gz": T2, "sub-01_FLAIR.nii.gz": FLAIR,
        "sub-01_ce-GADOLINIUM_T1w.nii.gz": T1CE, "sub-01_ce-gadavist_run-1_T1w.nii.gz": T1CE,
        "sub-01_acq-FLAIR_T2w.nii.gz": FLAIR, "sub-01_space-T1w_FLAIR.nii.gz": FLAIR,
        "sub-01_space-T1w_desc-brain_mask.nii.gz": "brain", "sub-01_space-T1w_dseg.nii.gz": "tumour",
        "sub-01_space-T1w_label-lesion_mask.nii.gz": "tumour", "sub-0001_dwi.nii.gz": NONE,
        "sub-0001_T1w.nii.gz": T1, "sub-0002_ce-gd_T1w.nii.gz": T1CE, "sub-01_T1map.nii.gz": NONE,
        "sub-01_T2star.nii.gz": NONE, "sub-01_T2starw.nii.gz": NONE, "sub-01_desc-T1w_T2w.nii.gz": T2,
    },
    "nnU-Net": {
        "BRATS_001_0000.nii.gz": T1, "BRATS_001_0001.nii.gz": T1CE, "BRATS_001_0002.nii.gz": T2,
        "BRATS_001_0003.nii.gz": FLAIR, "BRATS_001_0004.nii.gz": NONE, "BRATS_0001.nii": T1CE,
        "BRATS_0003_0001.nii.gz": T1CE, "patient_0002_x.nii.gz": NONE, "T1_0003.nii.gz": NONE,
        "T1_0000.nii.gz": T1,
    },
    "MSD": {"BRATS_484.nii.gz": NONE},
    "SRI24 tools": {
        "TCGA-DU-7294_fla_bet_normalized.nii.gz": FLAIR, "TCGA-DU-7294_t1c_bet_normalized.nii.gz": T1CE,
        "TCGA-DU-7294_brainmask.nii.gz": "brain", "TCGA-DU-7294_hdbet_mask_brats.nii.gz": "brain",
        "seg_fusion_simple.nii.gz": "tumour", "t1_hdbet.nii.gz": T1, "t1_bet_mask.nii.gz": "brain",
        "case_hdbet.nii.gz": "brain", "t1_brain.nii.gz": T1, "T1_brain_mask.nii.gz": "brain",
    },
    "hospitals": {
        "T2_FLAIR": FLAIR, "FLAIR_T2": FLAIR, "t2flair": FLAIR, "Ax T2 FLAIR 3mm": FLAIR,
        "t2_tirm_tra_dark-fluid": FLAIR, "FLAIR_t2_space": FLAIR, "flair_to_t1": FLAIR, "t2_to_t1": T2,
        "t1_gd": T1CE, "T1_post": T1CE, "T1-Gd": T1CE, "T1+C": T1CE, "T1 post contrast": T1CE, "ceT1": T1CE,
        "gd_t1": T1CE, "post_contrast_T1": T1CE, "contrast_enhanced_T1w": T1CE, "T1_postcontrast": T1CE,
        "t1_mprage_sag_gd": T1CE, "pre-op_T1_post_contrast": T1CE, "T1_axial_ce": T1CE,
        "T1_pre": T1, "T1_pre_contrast": T1, "t1_precontrast": T1, "T1_without_contrast": T1,
        "non-contrast_T1": T1, "t1_native": T1, "t1_no_gd": T1, "t1_post_op": T1, "post-op_001_t1": T1,
        "t1_mprage": T1, "T1-weighted": T1, "t2*": NONE, "t2_star": NONE, "swi": NONE, "adc": NONE,
        "case_t1_seg": "tumour", "t1_tumor": "tumour", "mask_T1": "tumour", "flair_lesion": "tumour",
        "brain_tumor_seg": "tumour", "brain_tumour_mask": "tumour", "brain lesion mask": "tumour",
        "lesion_study_T1": T1, "tumor_007_flair": FLAIR, "glioma-12_t2": T2,
        "T1_study_001_flair": FLAIR, "T1-0042_t2": T2, "P01_T1_t1ce": T1CE, "P01_T2_t1": T1,
        "study_C_001_t1": T1, "CE_001_T1": T1, "FLAIRstudy_t2": T2, "FLAIR-study_001_t2": T2,
        "scan": NONE, "": NONE, "T12": NONE, "at1": NONE, "brain": NONE,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "speaks_of"), [(n, s) for names in NAMES.values() for n, s in names.items()]
)
def test_a_name_is_read_as_its_makers_meant_it(name, speaks_of):
    kinds = {"tumour": is_tumour_mask(name), "brain": is_brain_mask(name)}
    expected = {"tumour": speaks_of == "tumour", "brain": speaks_of == "brain"}
    assert kinds == expected
    assert series_in(name) == (speaks_of if speaks_of in SERIES else None)


@pytest.mark.parametrize(
    ("name", "speaks_of"), [(n, s) for names in NAMES.values() for n, s in names.items()]
)
def test_capitals_and_the_ending_do_not_matter(name, speaks_of):
    bare = name.removesuffix(".gz").removesuffix(".nii")
    assert series_in(bare.upper()) == series_in(bare.lower()) == series_in(f"{bare}.nii") == series_in(name)


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.text(alphabet=st.sampled_from("tT12cCeE_-. fFlLaAiIrRgGdDwWnN03éß\n"), max_size=24)
    | st.text(max_size=24)
)
def test_any_name_is_one_kind_at_most(name):
    kinds = [series_in(name) is not None, is_tumour_mask(name), is_brain_mask(name)]
    assert sum(kinds) <= 1
    assert series_in(name) in (None, *SERIES)


def test_the_scheme_of_every_set_of_values():
    for n in range(6):
        for values in combinations(range(5), n):
            present = set(values) - {0}
            if not present:
                expected = "gliolens"
            elif 4 in present:
                expected = "brats2024" if 3 in present else None
            else:
                expected = "binary" if present == {1} else "brats2023"
            assert guess_mask_scheme(values) == expected, values
            if expected:
                assert set(values) <= set(MASK_SCHEMES[expected]), (
                    "the scheme knows all the values it is guessed by"
                )


@pytest.mark.parametrize("values", [{5}, {-1, 0}, {0, 1, 2, 3, 4, 5}, {255}, {0, 255}])
def test_other_values_mean_no_scheme(values):
    assert guess_mask_scheme(values) is None


def test_a_mask_without_tumour_knows_every_region_and_a_binary_one_only_the_whole():
    assert regions_known(guess_mask_scheme({0}) or "") == tuple(REGIONS)
    assert regions_known("binary") == ("whole",)


@pytest.mark.parametrize("scheme", MASK_SCHEMES)
def test_a_scheme_keeps_the_background_and_leads_only_to_labels(scheme):
    mapping = MASK_SCHEMES[scheme]
    assert mapping[0] == 0
    assert set(mapping.values()) <= {0, *LABEL_TITLES}
    inside = [label for stored, label in mapping.items() if label]
    assert len(inside) == len(set(inside)), "two stored values never become one label"


def test_regions_are_nested_as_brats_scores_them():
    assert set(REGIONS["enhancing"]) < set(REGIONS["core"]) < set(REGIONS["whole"]) == set(LABEL_TITLES)


def test_everything_named_has_a_title():
    assert set(SERIES_TITLES) == set(SERIES)
    assert set(REGION_TITLES) == set(REGIONS)
    assert set(TARGET_TITLES) == set(TARGETS)
