"""Names of cases and patients: which exams are one patient's, what site an id names, which spellings agree."""

import re
from types import MappingProxyType
from typing import Final

from gliolens.case import CaseRow

UCSF_SAME_PATIENT: Final = MappingProxyType({138: 429, 175: 396, 181: 409, 278: 431, 289: 391, 315: 433})
"""Exams of UCSF-PDGM that its first releases number as patients of their own, and the patient they belong to.

The collection holds 501 exams of 495 patients. Later releases name these six `UCSF-PDGM-0433_FU007d` and so
on (doi 10.7937/tcia.bdgf-8v37); in the second metadata table each agrees with its patient's row in age, sex,
grade, molecular markers, extent of resection and survival, and no other two rows do.
"""

_TCGA = re.compile(r"(TCGA-([A-Z0-9]{2})-[A-Z0-9]{4})(?:-.*)?", re.IGNORECASE)
_UCSF = re.compile(r"(UCSF-PDGM-)(\d+)(?:_FU\d+d)?(?:_nifti)?", re.IGNORECASE)
_EXAMS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(UPENN-GBM-\d+)_\d+",
        r"(BraTS-[A-Za-z]+-\d+)-\d+",
        r"(IXI\d+)-.+",
        r"(sub-[^_]+)_ses-.+",
    )
)
_BRATS_SITE = re.compile(r"brats1[789]_(CBICA|TCIA\d+|2013|TMC)_.*", re.IGNORECASE)


_RELEASES: Final = (
    ("TCGA", re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}.*", re.IGNORECASE)),
    ("UCSF-PDGM", re.compile(r"UCSF-PDGM-\d+.*", re.IGNORECASE)),
    ("UPENN-GBM", re.compile(r"UPENN-GBM-\d+.*", re.IGNORECASE)),
    ("BraTS 2017 to 2020", re.compile(r"BraTS(17|18|19|20)_.*", re.IGNORECASE)),
    ("BraTS 2021", re.compile(r"BraTS2021_\d+", re.IGNORECASE)),
    ("BraTS 2023 and later", re.compile(r"BraTS-GLI-\d+-\d+", re.IGNORECASE)),
)
OVERLAPS: Final = (
    ("TCGA", "BraTS 2017 to 2020"),
    ("TCGA", "BraTS 2021"),
    ("UCSF-PDGM", "BraTS 2021"),
    ("UPENN-GBM", "BraTS 2021"),
    ("BraTS 2017 to 2020", "BraTS 2021"),
    ("TCGA", "BraTS 2023 and later"),
    ("UCSF-PDGM", "BraTS 2023 and later"),
    ("UPENN-GBM", "BraTS 2023 and later"),
    ("BraTS 2017 to 2020", "BraTS 2023 and later"),
    ("BraTS 2021", "BraTS 2023 and later"),
)
"""Releases of which the second holds patients of the first under other names.

BraTS took from TCGA-GBM and TCGA-LGG (Bakas 2017, doi 10.1038/sdata.2017.117); in 2021 also from UCSF-PDGM, UPENN-GBM
and its own earlier releases (Baid 2021, arXiv 2107.02314; a table of names lies at doi 10.7937/jc8x-9874); its adult
gliomas of 2023 are those of 2021 under new names.
"""


def release_of(case: str) -> str | None:
    """The public release whose ids look like this one, if any.

    >>> release_of("BraTS20_Training_001"), release_of("UCSF-PDGM-0004"), release_of("Mueller 7")
    ('BraTS 2017 to 2020', 'UCSF-PDGM', None)
    """
    return next((name for name, pattern in _RELEASES if pattern.fullmatch(case)), None)


def patient_of(case: str) -> str:
    """The patient that a public data set's exam id names; the id itself where it names none.

    >>> patient_of("UPENN-GBM-00001_11"), patient_of("UCSF-PDGM-0315"), patient_of("Mueller 7")
    ('UPENN-GBM-00001', 'UCSF-PDGM-0433', 'Mueller 7')
    """
    if ucsf := _UCSF.fullmatch(case):
        number = UCSF_SAME_PATIENT.get(int(ucsf[2]), int(ucsf[2]))
        return f"{ucsf[1]}{number:0{len(ucsf[2])}d}"
    if tcga := _TCGA.fullmatch(case):
        return tcga[1]
    for exam in _EXAMS:
        if match := exam.fullmatch(case):
            return match[1]
    return case


def site_of(case: str) -> str | None:
    """Second field of a TCGA barcode, or institution in an id of BraTS 2017 to 2019; None where neither."""
    match = _TCGA.fullmatch(case)
    if match:
        return match[2]
    match = _BRATS_SITE.fullmatch(case)
    return match[1] if match else None


def names(row: CaseRow) -> set[str]:
    """Every name of a row's patient, the case id and aliases among them, as `same_spelling` has them."""
    return {same_spelling(name) for name in (row.case, row.patient, *row.aliases)}


def same_spelling(name: str) -> str:
    """Bring an id to the spelling in which ids that differ only in case, separators or leading zeros agree.

    >>> same_spelling("UCSF-PDGM-004") == same_spelling("UCSF_PDGM_0004")
    True
    """
    name = re.sub(r"^sub-", "", name.strip().casefold())
    name = re.sub(r"[\s_.-]+", "-", name)
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", name)
