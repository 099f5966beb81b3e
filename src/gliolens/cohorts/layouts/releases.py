"""Readers of public releases by the names of their folders and files, one function a layout."""

import re
from collections.abc import Mapping
from typing import Final

from gliolens.case import CaseRow
from gliolens.cohorts.layouts.folders import BRAIN_MASK, MASK, Cases, Survey, kind_of, stem

_BRATS2020 = re.compile(
    r"(?:(?P<above>.*)/)?(?P<case>[^/]+)/(?P=case)_(?P<word>t1|t1ce|t2|flair|seg)\.nii(?:\.gz)?",
    re.IGNORECASE,
)
_BRATS2023 = re.compile(
    r"(?:.*/)?(?P<case>(?P<patient>BraTS-[A-Za-z]+-\d+)-\d+)/(?P=case)-(?P<word>t1n|t1c|t2w|t2f|seg)\.nii(?:\.gz)?"
)
_UCSF = re.compile(
    r"(?:.*/)?(?P<case>UCSF-PDGM-\d+(?:_FU\d+d)?)(?:_nifti)?/"
    r"UCSF-PDGM-\d+(?:_FU\d+d)?_(?P<word>T1|T1c|T1gad|T2|FLAIR|tumor_segmentation|brain_segmentation)"
    r"(?P<bias>_bias)?\.nii(?:\.gz)?"
)
_UPENN = re.compile(
    r"(?:.*/)?(?P<case>UPENN-GBM-\d+_\d+)_(?P<word>T1|T1GD|T2|FLAIR|segm|automated_approx_segm)\.nii(?:\.gz)?"
)
_IXI = re.compile(r"(?:.*/)?(?P<case>(?P<patient>IXI\d+)-(?P<site>[^-/]+)-\d+)-(?P<word>T1|T2)\.nii(?:\.gz)?")
_BIDS = re.compile(
    r"(?P<above>.*/)?(?P<patient>sub-[^/_]+)/(?:(?P<session>ses-[^/_]+)/)?(?:[^/]+/)?"
    r"(?P<name>(?P=patient)_[^/]+)\.nii(?:\.gz)?"
)
_KINDS: Final[Mapping[str, str]] = {
    word: kind
    for kind, words in {
        "t1": ("t1", "t1n"),
        "t1ce": ("t1ce", "t1c", "t1gd", "t1gad"),
        "t2": ("t2", "t2w"),
        "flair": ("flair", "t2f"),
        MASK: ("seg", "segm", "tumor_segmentation", "automated_approx_segm"),
        BRAIN_MASK: ("brain_segmentation",),
    }.items()
    for word in words
}
_LESION = re.compile(r"tumou?r|lesion|glioma", re.IGNORECASE)


def brats2020(survey: Survey) -> list[CaseRow]:
    """BraTS to 2021 and all that took its names: `X/X_t1.nii.gz`, `_t1ce`, `_t2`, `_flair`, `_seg`.

    A parent folder HGG or LGG (BraTS 2018 and 2019) is the grade.
    """
    cases = Cases()
    for scan in survey.scans:
        if match := _BRATS2020.fullmatch(scan):
            above = (match["above"] or survey.root.resolve().name).upper().split("/")
            grade = next((g for g in ("HGG", "LGG") if g in above), None)
            cases.add(match["case"], _KINDS[match["word"].lower()], survey.root / scan, grade=grade)
    return cases.rows()


def brats2023(survey: Survey) -> list[CaseRow]:
    """BraTS 2023 on: `BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1c.nii.gz`; the last number is the time point."""
    cases = Cases()
    for scan in survey.scans:
        if match := _BRATS2023.fullmatch(scan):
            cases.add(match["case"], _KINDS[match["word"]], survey.root / scan, patient=match["patient"])
    return cases.rows()


def ucsf_pdgm(survey: Survey) -> list[CaseRow]:
    """UCSF-PDGM: `UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_T1.nii.gz`; labels 1, 2, 4.

    The `_bias` twin of a series counts only where the plain file is missing.
    """
    cases = Cases()
    found = [(scan, match) for scan in survey.scans if (match := _UCSF.fullmatch(scan))]
    plain = {(m["case"], m["word"]) for _, m in found if not m["bias"]}
    for scan, match in found:
        if not match["bias"] or (match["case"], match["word"]) not in plain:
            kind = _KINDS[match["word"].lower()]
            cases.add(match["case"], kind, survey.root / scan, mask_scheme="brats2020")
    return cases.rows()


def upenn_gbm(survey: Survey) -> list[CaseRow]:
    """UPENN-GBM: `images_structural/UPENN-GBM-00001_11/UPENN-GBM-00001_11_T1.nii.gz`; labels 1, 2, 4.

    A corrected mask (`images_segm`) goes before an automated one (`automated_segm`).
    """
    cases = Cases()
    found = [(scan, match) for scan in survey.scans if (match := _UPENN.fullmatch(scan))]
    corrected = {m["case"] for _, m in found if m["word"] == "segm"}
    automated = 0
    for scan, match in found:
        kind = _KINDS[match["word"].lower()]
        if match["word"] == "automated_approx_segm":
            if match["case"] in corrected:
                continue
            automated += 1
        cases.add(match["case"], kind, survey.root / scan, mask_scheme="brats2020")
    if automated:
        survey.notes.append(
            f"{automated} of {automated + len(corrected)} masks are automated, not corrected by a reader"
        )
    return cases.rows()


def ixi(survey: Survey) -> list[CaseRow]:
    """IXI, healthy volunteers: `IXI002-Guys-0828-T1.nii.gz` and `-T2`."""
    cases = Cases()
    for scan in survey.scans:
        if match := _IXI.fullmatch(scan):
            told = {"patient": match["patient"], "site": match["site"], "grade": "healthy"}
            cases.add(match["case"], _KINDS[match["word"].lower()], survey.root / scan, **told)
    return cases.rows()


def bids(survey: Survey) -> list[CaseRow]:
    """BIDS: `sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz`; with contrast by the entity `ce-`.

    Masks lie beside the series or in `derivatives`; a mask of the tumour says tumour, lesion or glioma in its
    name. Series in `derivatives` are processed copies and pass.
    """
    cases = Cases()
    for scan in survey.scans:
        match = _BIDS.fullmatch(scan)
        kind = match and _bids_kind(match["name"], scan)
        if match and kind:
            case = "_".join(filter(None, (match["patient"], match["session"])))
            cases.add(case, kind, survey.root / scan, patient=match["patient"])
    return cases.rows()


def _bids_kind(name: str, scan: str) -> str | None:
    *entities, suffix = [e for e in name.split("_") if not e.startswith(("sub-", "ses-"))] or [""]
    words = "_".join([*entities, suffix])
    if suffix in ("dseg", "mask", "roi"):
        if _LESION.search(words):
            return MASK
        return BRAIN_MASK if kind_of(words) == BRAIN_MASK else None
    if "derivatives" in scan.split("/"):
        return None
    if suffix == "T1w":
        return "t1ce" if any(e.startswith("ce-") for e in entities) else "t1"
    return {"T2w": "t2", "FLAIR": "flair"}.get(suffix)


def told_by_number(name: str) -> bool:
    """Whether a file's series is told by nnU-Net's channel number alone."""
    return re.search(r"(?<!\d)000[0-3]$", stem(name)) is not None
