"""Clinical tables: the published ones cell for cell, every other spelling listed and none guessed."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliolens.case import CaseRow
from gliolens.cohorts.clinical.spellings import READERS, Unclear, is_unknown
from gliolens.cohorts.clinical.table import Clinical, join, read_clinical, rows_of
from gliolens.cohorts.identity import UCSF_SAME_PATIENT
from gliolens.cohorts.layouts.registry import read_layout
from gliolens.errors import CohortError, ConfigError
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.labels import TARGETS

IDH_MUTANT = ("IDH1 p.R132H", "mutated (NOS)", "IDH1 p.R132C", "IDH1 p.R132G", "IDH1 p.R132S", "IDH2 p.R172K",
              "IDH2 p.Arg172Trp", "IDH1 p.Arg132His")  # fmt: skip


@pytest.fixture(scope="module")
def ucsf(shared_data: Path) -> Clinical:
    return read_clinical(shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv")


def table(folder: Path, *lines: str, name: str = "clinical.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def count(rows: Iterable[CaseRow], target: str) -> dict[str | None, int]:
    return Counter(row.targets.get(target) for row in rows)


# --- the published tables ----------------------------------------------------------------------------------------


def test_ucsf_counts(ucsf: Clinical) -> None:
    rows = rows_of(ucsf)
    assert len(rows) == 501
    assert count(rows, "idh") == {"mutant": 103, "wildtype": 398}
    assert count(rows, "codel_1p19q") == {"intact": 395, "codeleted": 9, None: 97}
    assert count(rows, "who_grade") == {"4": 402, "3": 43, "2": 56}
    assert count(rows, "grade") == {None: 501}, "LGG and HGG are never derived from a WHO grade"
    assert Counter(r.sex for r in rows) == {"M": 299, "F": 202}
    assert Counter(r.os_event for r in rows) == {False: 250, True: 251}
    assert sum(r.os_days is not None for r in rows) == 500
    assert sum(len(r.aliases) for r in rows) == 298
    assert {r.label_scheme for r in rows} == {"who2021"}


def test_ucsf_lists_what_it_leaves_unknown(ucsf: Clinical) -> None:
    assert [(u.column, u.value) for u in ucsf.unread] == [("1p/19q", "relative co-deletion")] * 6
    assert all("ambiguous" in u.reason for u in ucsf.unread)
    assert any(n.startswith("columns not read: ") and "MGMT status" in n for n in ucsf.notes)


def test_ucsf_every_cell_is_told_empty_or_listed(ucsf: Clinical, shared_data: Path) -> None:
    raw = pd.read_csv(shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv", dtype=str, keep_default_na=False)
    listed = {(u.row, u.column) for u in ucsf.unread}
    for cells in raw.to_dict("records"):
        row = ucsf.rows[cells["ID"]]
        for column, target in (("IDH", "idh"), ("1p/19q", "codel_1p19q"), ("WHO CNS Grade", "who_grade")):
            assert (target in row.targets) == (cells[column] != "" and (cells["ID"], column) not in listed)
        assert row.age == float(cells["Age at MRI"])
        assert row.os_days == (float(cells["OS"]) if cells["OS"] else None)


def test_ucsf_survival_agrees_with_the_published_medians(ucsf: Clinical) -> None:
    """Deaths by IDH status as the data's own notes count them: 239 of 397 wildtype, 11 of 103 mutant."""
    deaths = {status: [r.os_event for r in ucsf.rows.values() if r.targets["idh"] == status and r.os_days is not None]
              for status in TARGETS["idh"]}  # fmt: skip
    assert (len(deaths["wildtype"]), sum(map(bool, deaths["wildtype"]))) == (397, 239)
    assert (len(deaths["mutant"]), sum(map(bool, deaths["mutant"]))) == (103, 11)


def test_ucsf_exams_of_one_patient(ucsf: Clinical, shared_data: Path) -> None:
    """495 patients; and the six pairs are exactly those whose clinical columns agree, by a count of our own."""
    assert len({r.patient for r in rows_of(ucsf)}) == 495
    raw = pd.read_csv(shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv", dtype=str, keep_default_na=False)
    clinical = [c for c in raw if c != "ID" and not c.startswith("BraTS21")]
    pairs = {tuple(int(i[-3:]) for i in group["ID"]) for _, group in raw.groupby(clinical) if len(group) > 1}
    assert pairs == set(UCSF_SAME_PATIENT.items())
    assert ucsf.rows["UCSF-PDGM-315"].patient == ucsf.rows["UCSF-PDGM-433"].patient
    assert any("6 exams are of patients with another exam" in n for n in ucsf.notes)


def test_tcga_lgg(shared_data: Path) -> None:
    clinical = read_clinical(shared_data / "tcga_lgg" / "clinical.csv")
    rows = rows_of(clinical)
    assert len(rows) == 55
    assert count(rows, "idh") == {"mutant": 43, "wildtype": 9, None: 3}
    assert count(rows, "codel_1p19q") == {"codeleted": 13, "intact": 39, None: 3}
    assert count(rows, "who_grade") == {"3": 21, "2": 19, "4": 10, None: 5}
    assert Counter(r.sex for r in rows) == {"M": 28, "F": 26, None: 1}
    assert Counter(r.os_event for r in rows) == {False: 38, True: 17}
    assert Counter(r.site for r in rows) == {"DU": 22, "HT": 17, "CS": 10, "FG": 6}
    assert [(u.column, u.value) for u in clinical.unread] == [("who_grade_2021", "Grade NA")] * 2
    assert any("who2021, not from who_grade_2016" in n for n in clinical.notes)
    older = rows_of(read_clinical(shared_data / "tcga_lgg" / "clinical.csv", label_scheme="who2016"))
    assert count(older, "who_grade") == {"3": 30, "2": 22, None: 3}
    assert {r.label_scheme for r in older} == {"who2016", None}


def test_tcga_lgg_joins_its_scans_and_survives_the_cohort_table(shared_data: Path, tmp_path: Path) -> None:
    found = read_layout(shared_data / "tcga_lgg")
    rows, notes = join(found.rows, read_clinical(shared_data / "tcga_lgg" / "clinical.csv"))
    assert notes == ()
    assert count(rows, "idh") == {"mutant": 43, "wildtype": 9, None: 3}
    assert all(
        r.files == s.files and r.mask_scheme == "binary" for r, s in zip(rows, found.rows, strict=True)
    )
    write_cohort(tmp_path / "cohort.csv", rows)
    assert [(r.case, r.targets, r.age) for r in read_cohort(tmp_path / "cohort.csv")] == [
        (r.case, r.targets, r.age) for r in rows
    ]


def test_brats_tcga_where_os_is_the_event(shared_data: Path) -> None:
    clinical = read_clinical(shared_data / "tables" / "brats_tcga_labels.csv")
    rows = rows_of(clinical)
    assert count(rows, "grade") == {"HGG": 101, "LGG": 37}
    assert count(rows, "who_grade") == {"4": 42, "3": 19, "2": 11, None: 66}
    assert count(rows, "idh") == {"wildtype": 41, "mutant": 32, None: 65}
    assert count(rows, "codel_1p19q") == {"intact": 64, "codeleted": 9, None: 65}
    assert Counter(r.sex for r in rows) == {"M": 80, "F": 57, None: 1}
    assert Counter(r.os_event for r in rows) == {True: 97, False: 40, None: 1}
    assert clinical.rows["TCGA-02-0006"].os_days == 558
    assert {r.label_scheme for r in rows} == {"who2021"}
    assert [(u.column, u.value) for u in clinical.unread] == [("WHO_CNS5_grade", "Grade NA")]


# --- other releases, as they are published -----------------------------------------------------------------------


def test_brats_name_mapping_and_survival(tmp_path: Path) -> None:
    mapping = table(
        tmp_path,
        "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,"
        "BraTS_2020_subject_ID",
        "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001",
        "LGG,NA,NA,TCGA-CS-4941,BraTS19_TCIA09_141_1,BraTS20_Training_002",
    )
    survival = table(
        tmp_path,
        "Brats20ID,Age,Survival_days,Extent_of_Resection",
        "BraTS20_Training_001,60.463,289,GTR",
        "BraTS20_Training_002,52.263,ALIVE (361 days later),STR",
        name="survival_info.csv",
    )
    rows = (CaseRow("BraTS20_Training_001", "BraTS20_Training_001"), CaseRow("TCGA-CS-4941", "TCGA-CS-4941"))
    rows, _ = join(rows, read_clinical(mapping))
    assert [r.targets for r in rows] == [{"grade": "HGG"}, {"grade": "LGG"}]
    assert {r.label_scheme for r in rows} == {"brats_lgg_hgg"}
    assert rows[0].aliases == ("Brats17_CBICA_AAB_1", "Brats18_CBICA_AAB_1", "BraTS19_CBICA_AAB_1")
    assert rows[1].patient == "BraTS20_Training_002", "a case found by alias takes the table's patient"
    rows, _ = join(rows, clinical := read_clinical(survival))
    assert [(r.age, r.os_days, r.os_event) for r in rows] == [(60.463, 289, None), (52.263, 361, False)]
    assert any("os_event stays unknown" in n for n in clinical.notes)


def test_upenn(tmp_path: Path) -> None:
    clinical = read_clinical(table(
        tmp_path,
        "ID,Gender,Age_at_scan_years,Survival_from_surgery_days_UPDATED,Survival_Status,Survival_Censor,IDH1,MGMT",
        "UPENN-GBM-00001_11,M,57.02,1210,Deceased,1,Wildtype,Methylated",
        "UPENN-GBM-00001_21,M,58.5,Not Available,Not Available,,Mutated,Unmethylated",
        "UPENN-GBM-00002_11,F,89+,34,Alive,0,NOS/NEC,Not Available",
    ))  # fmt: skip
    first, second, third = rows_of(clinical)
    assert first.patient == second.patient == "UPENN-GBM-00001"
    assert (first.targets, first.age, first.os_days, first.os_event) == (
        {"idh": "wildtype"},
        57.02,
        1210,
        True,
    )
    assert (second.targets, second.os_days, second.os_event) == ({"idh": "mutant"}, None, None)
    assert (third.targets, third.age, third.sex, third.os_event) == ({}, None, "F", False)
    assert [(u.column, u.value) for u in clinical.unread] == [
        ("Age_at_scan_years", "89+"),
        ("IDH1", "NOS/NEC"),
    ]
    assert any("Survival_Censor" in n for n in clinical.notes)
    assert any("IDH1 alone" in n for n in clinical.notes)


def test_bids_participants(tmp_path: Path) -> None:
    path = table(
        tmp_path, "participant_id\tage\tsex\tgroup", "sub-01\t44\tfemale\tx", name="participants.tsv"
    )
    rows, notes = join((CaseRow("sub-01_ses-2", "sub-01"),), read_clinical(path))
    assert (rows[0].age, rows[0].sex, rows[0].patient) == (44, "F", "sub-01")
    assert notes == ()


# --- spellings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "cells", "told"),
    [("idh", (*IDH_MUTANT, "Mutant", "mutant (maf)", "IDH-mutant", " MUTATED "), {"idh": "mutant"}),
     ("idh", ("wildtype", "WT", "WT (maf)", "wild-type", "Wild type", "IDH-wildtype"), {"idh": "wildtype"}),
     ("codel_1p19q", ("co-deletion", "Co-deletion", "codeleted", "codel"), {"codel_1p19q": "codeleted"}),
     ("codel_1p19q", ("intact", "non-codel", "Non-codeleted"), {"codel_1p19q": "intact"}),
     ("who_grade", ("Grade 4", "4", "IV", "4.0", "G4", "WHO grade IV"), {"who_grade": "4"}),
     ("who_grade", ("3.0", "iii", "Grade III"), {"who_grade": "3"}),
     ("sex", ("M", "male", "MALE"), {"sex": "M"}), ("os_event", ("1", "1.0", "Dead"), {"os_event": True}),
     ("vital", ("Deceased", "dead"), {"os_event": True})],
)  # fmt: skip
def test_known_spellings(column: str, cells: tuple[str, ...], told: dict[str, object]) -> None:
    assert [READERS[column](cell) for cell in cells] == [told] * len(cells)


@pytest.mark.parametrize(
    ("column", "cells"),
    [("idh", ("NOS/NEC", "1", "positive", "IDH1 p.R132R", "IDH1 p.G105G", "mutant?", "wildtype/mutant")),
     ("codel_1p19q", ("relative co-deletion", "1p deletion", "yes", "partial codel")),
     ("who_grade", ("Grade NA", "1", "5", "2-3", "II/III", "4.5", "LGG")), ("grade", ("4", "low", "Grade 2")),
     ("age", ("80+", "89+", "sixty", "-1", "20880", "60-65", "nan years")), ("sex", ("1", "2", "other", "MF")),
     ("os_days", ("alive", "-3", "12 months")), ("os_event", ("2", "lost")), ("vital", ("1", "0"))],
)  # fmt: skip
def test_unclear_spellings_tell_nothing(column: str, cells: tuple[str, ...]) -> None:
    for cell in cells:
        with pytest.raises(Unclear):
            READERS[column](cell)


@given(st.text(max_size=30), st.sampled_from(["idh", "codel_1p19q", "who_grade", "grade"]))
def test_whatever_stands_in_a_cell_is_a_class_or_unclear(cell: str, column: str) -> None:
    try:
        told = READERS[column](cell)
    except Unclear:
        return
    assert [told[column] in TARGETS[column]] == [True] * len(told)


def test_empty_cells_are_unknown_and_not_listed(tmp_path: Path) -> None:
    clinical = read_clinical(table(tmp_path, "ID,Age,IDH,Sex", "1,,NA,unknown", "2,n/a,Not Available, "))
    assert clinical.unread == ()
    assert all((r.age, r.sex, r.targets) == (None, None, {}) for r in rows_of(clinical))
    assert is_unknown(" NaN ")
    assert not is_unknown("0")


# --- columns -----------------------------------------------------------------------------------------------------


def test_a_grade_without_an_edition_is_kept_and_said(tmp_path: Path) -> None:
    path = table(tmp_path, "patient,grade", "P1,III", "P2,4")
    clinical = read_clinical(path)
    assert [(r.targets, r.label_scheme) for r in rows_of(clinical)] == [
        ({"who_grade": "3"}, None), ({"who_grade": "4"}, None),
    ]  # fmt: skip
    assert any("--label-scheme" in n for n in clinical.notes)
    assert {r.label_scheme for r in rows_of(read_clinical(path, label_scheme="who2016"))} == {"who2016"}


def test_a_contradicted_edition_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "ID,who_grade_2021", "A,4")
    with pytest.raises(CohortError, match="never pooled"):
        read_clinical(path, label_scheme="who2016")
    with pytest.raises(ConfigError, match="--label-scheme"):
        read_clinical(path, label_scheme="who2007")


def test_lgg_hgg_beside_a_who_grade(tmp_path: Path) -> None:
    path = table(tmp_path, "ID,y,WHO grade 2021", "A,LGG,4", "B,HGG,")
    first, second = rows_of(read_clinical(path))
    assert (first.targets, second.targets) == ({"grade": "LGG", "who_grade": "4"}, {"grade": "HGG"})
    assert first.label_scheme == second.label_scheme == "who2021"
    first, _ = rows_of(read_clinical(path, label_scheme="brats_lgg_hgg"))
    assert (first.targets, first.label_scheme) == ({"grade": "LGG"}, "brats_lgg_hgg")


def test_a_bare_os_of_zeros_and_ones_is_not_guessed(tmp_path: Path) -> None:
    clinical = read_clinical(table(tmp_path, "ID,OS", "A,1", "B,0"))
    assert all((r.os_days, r.os_event) == (None, None) for r in rows_of(clinical))
    assert any(n == "columns not read: OS" for n in clinical.notes)


def test_two_columns_that_disagree_leave_the_answer_unknown(tmp_path: Path) -> None:
    clinical = read_clinical(table(tmp_path, "ID,IDH,IDH status", "A,wildtype,mutant", "B,WT,wildtype"))
    assert [r.targets for r in rows_of(clinical)] == [{}, {"idh": "wildtype"}]
    assert [(u.row, u.value) for u in clinical.unread] == [("A", "mutant")]


def test_duplicate_ids(tmp_path: Path) -> None:
    agree = read_clinical(table(tmp_path, "ID,Age,IDH", "A,50,WT", "A,50.0,", "B,3,"))
    assert [(r.case, r.age, r.targets) for r in rows_of(agree)] == [
        ("A", 50, {"idh": "wildtype"}),
        ("B", 3, {}),
    ]
    with pytest.raises(CohortError, match=r"rows of 'A' disagree: age is 50\.0 and 51\.0"):
        read_clinical(table(tmp_path, "ID,Age", "A,50", "A,51"))


def test_a_table_without_ids_and_a_row_without_one(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no column holds the ids"):
        read_clinical(table(tmp_path, "Age,Sex", "50,M"))
    clinical = read_clinical(table(tmp_path, "ID,Age", ",50", "B,60"))
    assert [r.case for r in rows_of(clinical)] == ["B"]
    assert clinical.unread[0].row == "line 2"
    with pytest.raises(CohortError, match="cannot be read as a table"):
        read_clinical(tmp_path / "nowhere.csv")


def test_rows_that_look_like_one_patient_are_pointed_out_not_merged(tmp_path: Path) -> None:
    path = table(tmp_path, "ID,Age,Sex,os_days,os_event", "A,50,M,312,1", "B,50,M,312,1", "C,50,M,313,1")
    clinical = read_clinical(path)
    assert [r.patient for r in rows_of(clinical)] == ["A", "B", "C"]
    assert any("perhaps one patient: A and B" in n for n in clinical.notes)


# --- joining -----------------------------------------------------------------------------------------------------


def test_join_by_case_patient_alias_and_spelling(ucsf: Clinical) -> None:
    rows, notes = join(
        (
            CaseRow("UCSF-PDGM-0004", "UCSF-PDGM-0004"),
            CaseRow("BraTS2021_00103", "BraTS2021_00103"),
            CaseRow("scan 9", "UCSF-PDGM-009"),
            CaseRow("UCSF-PDGM-0433_FU007d", "UCSF-PDGM-0433"),
            CaseRow("BraTS2021_00758", "BraTS2021_00758"),
            CaseRow("elsewhere", "elsewhere"),
        ),
        ucsf,
    )
    assert [r.age for r in rows] == [66, 70, 68, 65, 65, None]
    assert [r.patient for r in rows] == [
        "UCSF-PDGM-0004", "UCSF-PDGM-007", "UCSF-PDGM-009", "UCSF-PDGM-0433", "UCSF-PDGM-433", "elsewhere",
    ]  # fmt: skip
    assert rows[0].aliases == ("BraTS2021_00097", "UCSF-PDGM-004")
    assert rows[1].case == "BraTS2021_00103"
    assert any("1 of 6 cases have no row in the table: elsewhere" in n for n in notes)
    assert any(n.startswith("496 of 501 rows of the table have no scans") for n in notes)
    assert any("another spelling" in n for n in notes)


def test_join_never_picks_one_of_several(tmp_path: Path) -> None:
    clinical = read_clinical(table(tmp_path, "ID,Age", "case-01,50", "case_1,60"))
    rows, notes = join((CaseRow("case 001", "case 001"), CaseRow("case_1", "case_1")), clinical)
    assert [r.age for r in rows] == [None, 60]
    assert any("fit several rows and were joined with none: case 001" in n for n in notes)


def test_join_leaves_unknown_what_folder_and_table_tell_differently(tmp_path: Path) -> None:
    clinical = read_clinical(table(tmp_path, "ID,Grade,Age", "A,LGG,40"))
    row = CaseRow("A", "A", targets={"grade": "HGG"}, label_scheme="brats_lgg_hgg", age=41.0)
    (joined,), notes = join((row,), clinical)
    assert (joined.targets, joined.age) == ({}, 41)
    assert any("grade is HGG" in n and "LGG" in n for n in notes)
    assert any("41.0 is kept" in n for n in notes)


def test_join_never_pools_two_editions(tmp_path: Path) -> None:
    clinical = read_clinical(table(tmp_path, "ID,who_grade_2021", "A,4"))
    row = CaseRow("A", "A", targets={"who_grade": "3"}, label_scheme="who2016")
    with pytest.raises(CohortError, match="never pooled"):
        join((row,), clinical)


def test_the_tables_patient_column_groups_cases(tmp_path: Path) -> None:
    clinical = read_clinical(table(tmp_path, "case,patient,site,Age", "s1,P,Ulm,50", "s2,P,Ulm,51"))
    rows, _ = join((CaseRow("s1", "s1"), CaseRow("s2", "s2")), clinical)
    assert [(r.patient, r.site, r.age, r.aliases) for r in rows] == [
        ("P", "Ulm", 50, ()),
        ("P", "Ulm", 51, ()),
    ]
