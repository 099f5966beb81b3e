"""WHO 2016 against WHO 2021: on the real table that has both, and on the real one that mixes them."""

import csv

import pytest

from gliolens.case import CaseRow
from gliolens.cohorts.audit.who import change, grade_changes
from gliolens.cohorts.clinical.table import read_clinical, rows_of


def row(case: str, scheme: str | None = "who2016", **targets: str) -> CaseRow:
    return CaseRow(case, case, targets=targets, label_scheme=scheme)


@pytest.mark.parametrize(
    ("grade", "idh", "codel", "expected"),
    [
        ("2", "wildtype", "intact", "to 4"),
        ("3", "wildtype", None, "to 4"),
        ("4", "wildtype", None, "same"),
        ("4", "mutant", "intact", "name"),
        ("3", "mutant", "codeleted", "same"),
        ("2", "mutant", None, "same"),
        ("3", None, "codeleted", "not told"),
        ("4", "mutant", "codeleted", "impossible"),
        ("2", "wildtype", "codeleted", "impossible"),
    ],
)
def test_the_rules(grade, idh, codel, expected):
    assert change(grade, idh, codel) == expected


def test_tcga_lgg_has_both_grades_and_they_agree_but_for_one_astrocytoma(shared_data):
    with (shared_data / "tcga_lgg" / "clinical.csv").open(encoding="utf-8") as stream:
        patients = list(csv.DictReader(stream))
    known = [
        p
        for p in patients
        if p["who_grade_2016"] and p["who_grade_2021"] in {"Grade 2", "Grade 3", "Grade 4"}
    ]
    wrong = []
    for p in known:
        before = p["who_grade_2016"][0]
        told = {"to 4": "4", "same": before, "name": before}[
            change(before, p["idh"] or None, p["codel_1p19q"] or None)
        ]
        if told != p["who_grade_2021"][-1]:
            wrong.append((p["patient"], p["histology"], p["idh"], before, p["who_grade_2021"][-1]))
    assert len(known) == 50
    # Loss of CDKN2A/B, which no table here holds, makes an IDH-mutant astrocytoma grade 4.
    assert wrong == [("TCGA-CS-4943", "astrocytoma", "mutant", "3", "4")]


def test_a_table_of_2016_says_what_would_change(shared_data):
    table = read_clinical(shared_data / "tcga_lgg" / "clinical.csv", label_scheme="who2016")
    (found,) = grade_changes(rows_of(table))
    assert found.name == "grade changes from WHO 2016 to 2021"
    assert found.severity == "warning"
    assert (found.number, len(found.cases)) == (9, 9)
    assert found.text.startswith("52 grades of WHO 2016; under WHO 2021 9 would be grade 4")
    assert "43 stay" in found.text


def test_ucsf_pdgm_grades_wildtype_astrocytomas_as_before(shared_data):
    table = read_clinical(shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv", label_scheme="who2021")
    (found,) = grade_changes(rows_of(table))
    assert found.name == "grade of WHO 2016 under WHO 2021"
    assert found.number == 24  # the rows it calls "Astrocytoma, IDH-wildtype"


def test_every_change_is_counted_and_what_is_not_stated_is_said():
    rows = [
        row("a", None, who_grade="2", idh="wildtype"),
        row("b", None, who_grade="4", idh="mutant"),
        row("c", None, who_grade="3"),
        row("d", None, who_grade="4", idh="mutant", codel_1p19q="codeleted"),
    ]
    (found,) = grade_changes(rows)
    assert "4 grades of no stated edition" in found.text
    assert "1 cannot be told without IDH; 1 are no tumour" in found.text
    assert found.cases == ("a",)


def test_lgg_of_brats_that_is_wildtype():
    rows = [
        row("a", None, grade="LGG", idh="wildtype"),
        row("b", None, grade="LGG"),
        row("c", None, grade="HGG"),
    ]
    (found,) = grade_changes(rows)
    assert (found.name, found.cases) == ("LGG and WHO 2021", ("a",))
    assert found.text.startswith("1 of 2 cases of LGG are IDH-wildtype")


def test_sound_labels_of_2021_say_nothing():
    assert list(grade_changes([row("a", "who2021", who_grade="4", idh="wildtype")])) == []
    (note,) = grade_changes([row("a", "who2016", who_grade="3", idh="mutant")])
    assert note.severity == "note"
