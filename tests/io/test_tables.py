"""Tables: every cell as it is, every row back as it was, every bad value named by row and column."""

import os
import shutil
import unicodedata
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gliolens.case import CaseRow
from gliolens.errors import CohortError
from gliolens.io.tables import COLUMNS, read_cohort, read_text_table, write_cohort
from gliolens.labels import LABEL_SCHEMES, MASK_SCHEMES, SERIES, TARGETS

few = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# --- any CSV ---------------------------------------------------------------------------------------------------


def text(folder: Path, content: str | bytes, name="table.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_cell_stays_text(tmp_path):
    path = text(tmp_path, 'id,x,y\r\n007,NA,1.50\r\n"a,""b""", null ,\r\n\r\n,,\r\n"two\nlines",1e5,TRUE\r\n')
    table = read_text_table(path)
    assert table.to_dict("list") == {
        "id": ["007", 'a,"b"', "two\nlines"],
        "x": ["NA", " null ", "1e5"],
        "y": ["1.50", "", "TRUE"],
    }


def test_excels_mark_blanks_in_the_header_and_tabs_are_understood(tmp_path):
    table = read_text_table(text(tmp_path, "\ufeff id \tage,years\t\n007\t40,5\tx\n", "t.tsv"))
    assert table.to_dict("list") == {"id": ["007"], "age,years": ["40,5"], "Unnamed: 2": ["x"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,x\n1,2\n3\n", "line 3 has 1 cells, the header 2"),
        ("id,x\n1,2,3\n", "line 2 has 3 cells, the header 2"),
        ('id,x\n"two\nlines",2\n1,2,3\n', "line 4 has 3 cells"),
        ("id,x,id\n1,2,3\n", "columns that stand in it twice: id"),
        ('id,x\n"open,2\n', "line 2"),
        ('id,x\n"a"b,2\n', "line 2"),
        ("id,x\nMüller,2\n".encode("latin-1"), "not UTF-8"),
        ("id,x\n1,2\n".encode("utf-16"), "not UTF-8"),
        ("", "an empty file"),
        ("\n\n , \n", "an empty file"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path, content, says):
    path = text(tmp_path, content)
    with pytest.raises(CohortError, match=says) as refused:
        read_text_table(path)
    assert str(path) in str(refused.value)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(CohortError, match="cannot be read as a table"):
            read_text_table(path)


@pytest.mark.parametrize("name", [
    "ucsf_pdgm_metadata_v2.csv", "brats_tcga_labels.csv", "TCGA_LGG_radiomicFeatures.csv",
    "ucsf_pdgm_pyradiomics_t1gd_whole_tumour.csv",
])  # fmt: skip
def test_published_tables_are_read_as_pandas_reads_them(shared_data, name):
    path = shared_data / "tables" / name
    theirs = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig").rename(
        columns=str.strip
    )
    pd.testing.assert_frame_equal(read_text_table(path), theirs)


# --- the cohort table ------------------------------------------------------------------------------------------

letters = st.characters(exclude_categories=("Cs", "Cc"))
ids = st.text(letters, min_size=1, max_size=12).filter(lambda s: s == s.strip())
aliases = ids.filter(lambda s: ";" not in s)
names = st.text(letters.filter(lambda c: c != "/"), min_size=1, max_size=8).filter(
    lambda s: s.strip() and s not in (".", "..")
)


@st.composite
def known(draw, folder: Path) -> dict[str, object]:
    """What a row is made of."""

    def maybe(strategy: st.SearchStrategy):
        return draw(st.none() | strategy)

    files = names.map(lambda name: folder / "scans" / f"{name}.nii.gz")
    return {
        "case": draw(ids),
        "patient": draw(ids),
        "aliases": tuple(draw(st.lists(aliases, max_size=3))),
        "files": {s: file for s in SERIES if (file := maybe(files))},
        "mask": maybe(files),
        "mask_scheme": maybe(st.sampled_from(tuple(MASK_SCHEMES))),
        "brain_mask": maybe(files),
        "site": maybe(ids),
        "age": maybe(st.floats(0, 130) | st.integers(0, 130).map(float)),
        "sex": maybe(st.sampled_from(("M", "F"))),
        "targets": {t: c for t, classes in TARGETS.items() if (c := maybe(st.sampled_from(classes)))},
        "label_scheme": maybe(st.sampled_from(LABEL_SCHEMES)),
        "os_days": maybe(st.floats(0, 9999) | st.integers(0, 9999).map(float)),
        "os_event": maybe(st.booleans()),
    }


@few
@given(data=st.data())
def test_rows_come_back_as_they_went(tmp_path, data):
    drawn = data.draw(st.lists(known(tmp_path.resolve()), max_size=4, unique_by=lambda row: row["case"]))
    given = [CaseRow(**row) for row in drawn]
    write_cohort(tmp_path / "cohort.csv", given)
    assert list(read_cohort(tmp_path / "cohort.csv")) == given
    before = (tmp_path / "cohort.csv").read_bytes()
    write_cohort(tmp_path / "cohort.csv", read_cohort(tmp_path / "cohort.csv"))
    assert (tmp_path / "cohort.csv").read_bytes() == before


NASTY = ["007", "0", "1e5", "NA", "null", "nan", "a b", "ä", "患者", "a,b", 'say "hi"', "-", "=1+1", "#3", "p\nq",
         unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "TRUE", "1.0", "a;b",
         "👩🏽‍⚕️"]  # fmt: skip


def test_nasty_ids_are_opaque(tmp_path):
    given = [CaseRow(case=name, patient=name, site=name) for name in NASTY]
    write_cohort(tmp_path / "c.csv", given)
    assert list(read_cohort(tmp_path / "c.csv")) == given
    assert len({row.case for row in read_cohort(tmp_path / "c.csv")}) == len(NASTY), "NFC and NFD are two ids"


@pytest.mark.parametrize("value", [40.5, 0.1, 1 / 3, 63.999999999999, 0.0, 1e-7, np.float64(40.1)])
def test_numbers_are_not_changed(tmp_path, value):
    write_cohort(tmp_path / "c.csv", [CaseRow("1", "1", age=value, os_days=value)])
    row = read_cohort(tmp_path / "c.csv")[0]
    assert (row.age, row.os_days) == (value, value)


def test_plain_numbers_stay_plain_in_the_file(tmp_path):
    write_cohort(tmp_path / "c.csv", [CaseRow("1", "1", age=40.0, os_days=365.0)])
    line = dict(zip(COLUMNS, (tmp_path / "c.csv").read_text().splitlines()[1].split(","), strict=True))
    assert (line["age"], line["os_days"]) == ("40", "365")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (CaseRow("", ""), "no case"),
        (CaseRow(" 7", "7"), "case ' 7'"),
        (CaseRow("7", "7 "), "patient '7 '"),
        (CaseRow("7", ""), "patient ''"),
        (CaseRow("7", "7", site=""), "site ''"),
        (CaseRow("7", "7", aliases=("a;b",)), "aliases"),
        (CaseRow("7", "7", aliases=("",)), "aliases"),
        (CaseRow("7", "7", age=float("nan")), "age is 'nan'"),
        (CaseRow("7", "7", age=-1.0), "age is '-1'"),
        (CaseRow("7", "7", sex="male"), "sex is 'male'"),
        (CaseRow("7", "7", files={"T1": Path("t1.nii.gz")}), "files"),
        (CaseRow("7", "7", targets={"mgmt": "methylated"}), "targets"),
        (CaseRow("7", "7", targets={"idh": "Mutant"}), "idh is 'Mutant'"),
        (CaseRow("7", "7", mask_scheme="mine"), "mask_scheme is 'mine'"),
        (CaseRow("a\rb", "7"), "carriage return"),
    ],
)
def test_what_a_table_cannot_hold_is_refused_and_the_old_one_stays(tmp_path, row, says):
    path = tmp_path / "c.csv"
    write_cohort(path, [CaseRow("old", "old")])
    with pytest.raises(CohortError, match=says):
        write_cohort(path, [CaseRow("1", "1"), row])
    assert read_cohort(path) == (CaseRow("old", "old"),)
    assert [p.name for p in tmp_path.iterdir()] == ["c.csv"]


def test_one_case_twice_is_refused_on_both_ways(tmp_path):
    with pytest.raises(CohortError, match="twice: 7"):
        write_cohort(tmp_path / "c.csv", [CaseRow("7", "7"), CaseRow("7", "8")])
    with pytest.raises(CohortError, match="twice: 7"):
        read_cohort(text(tmp_path, "case\n7\n8\n 7 \n"))


# --- paths -----------------------------------------------------------------------------------------------------


def cohort(folder: Path) -> Path:
    scan = folder / "a b" / "t1,é.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.write_text("here")
    row = CaseRow("1", "1", files={"t1": scan, "t2": Path(f"{scan}#2")}, mask=scan, brain_mask=scan)
    write_cohort(folder / "cohort.csv", [row])
    return folder / "cohort.csv"


def test_a_folder_moved_with_its_table_still_works(tmp_path):
    path = cohort(tmp_path / "one")
    shutil.move(path.parent, tmp_path / "elsewhere")
    row = read_cohort(tmp_path / "elsewhere" / "cohort.csv")[0]
    for file in (row.files["t1"], row.mask, row.brain_mask):
        assert file is not None
        assert file.read_text() == "here"
    assert str(row.files["t2"]) == f"{row.files['t1']}#2"


def test_it_is_all_one_from_which_folder_one_looks(tmp_path, monkeypatch):
    path = cohort(tmp_path / "one")
    expected = read_cohort(path)
    monkeypatch.chdir(path.parent)
    assert read_cohort(Path("cohort.csv")) == expected
    monkeypatch.chdir(path.parent / "a b")
    assert read_cohort(Path("../cohort.csv")) == expected
    near = CaseRow("1", "1", files={"t1": Path("t1,é.nii.gz")})
    write_cohort(Path("../near.csv"), [near])
    assert read_cohort(path.parent / "near.csv")[0].files["t1"] == path.parent / "a b" / "t1,é.nii.gz"


@pytest.mark.parametrize("through", ["table", "files", "both"])
def test_a_linked_folder_does_not_tie_the_table_to_its_place(tmp_path, through):
    (tmp_path / "deep" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "real")
    real, link = tmp_path / "deep" / "real", tmp_path / "link"
    (real / "t1.nii.gz").write_text("here")
    file = (link if through != "table" else real) / "t1.nii.gz"
    write_cohort((link if through != "files" else real) / "c.csv", [CaseRow("1", "1", files={"t1": file})])
    shutil.move(real, tmp_path / "moved")
    assert read_cohort(tmp_path / "moved" / "c.csv")[0].files["t1"].read_text() == "here"


def test_scans_linked_into_the_folder_stay_named_by_their_link(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "t1.nii.gz").write_text("here")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "scans").symlink_to(tmp_path / "archive")
    row = CaseRow("1", "1", files={"t1": tmp_path / "study" / "scans" / "t1.nii.gz"})
    write_cohort(tmp_path / "study" / "c.csv", [row])
    assert ",scans/t1.nii.gz," in (tmp_path / "study" / "c.csv").read_text()


def test_scans_outside_the_folder_are_reached_from_a_linked_one(tmp_path):
    (tmp_path / "deep" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "real")
    (tmp_path / "t1.nii.gz").write_text("here")
    write_cohort(tmp_path / "link" / "c.csv", [CaseRow("1", "1", files={"t1": tmp_path / "t1.nii.gz"})])
    assert read_cohort(tmp_path / "link" / "c.csv")[0].files["t1"].read_text() == "here"
    assert os.sep + "deep" not in (tmp_path / "deep" / "real" / "c.csv").read_text()


# --- reading by hand-made tables -------------------------------------------------------------------------------


def test_a_table_of_one_column_is_a_cohort_with_nothing_known(tmp_path):
    assert read_cohort(text(tmp_path, "case\n 007 \n")) == (CaseRow("007", "007"),)
    assert read_cohort(text(tmp_path, "case\n")) == ()


def test_blanks_around_a_patient_do_not_make_two_of_one(tmp_path):
    a, b = read_cohort(text(tmp_path, "case,patient,site,aliases\n1,P1 ,A, X ; Y;\n2, P1,A ,\n"))
    assert (a.patient, a.site, a.aliases) == (b.patient, b.site, ("X", "Y")) == ("P1", "A", ("X", "Y"))


def test_an_unknown_value_is_none_and_never_a_guess(tmp_path):
    row = read_cohort(text(tmp_path, f"{','.join(COLUMNS)}\n7{',' * (len(COLUMNS) - 1)}\n"))[0]
    assert row == CaseRow("7", "7")
    assert all(not getattr(row, f.name) for f in fields(row) if f.name not in ("case", "patient"))


BAD_VALUES = [
    ("age", "40,5"), ("age", "forty"), ("age", "nan"), ("age", "inf"), ("age", "-3"), ("age", "14600"),
    ("age", "40_5"), ("age", "٤٠"), ("age", "40 y"), ("age", "0x20"), ("os_days", "12 months"),
    ("os_days", "1e9"), ("os_event", "yes"), ("os_event", "2"), ("sex", "m"), ("sex", "Female"),
    ("grade", "hgg"), ("who_grade", "IV"), ("who_grade", "1"), ("idh", "1"), ("codel_1p19q", "yes"),
    ("label_scheme", "who2017"), ("mask_scheme", "brats"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), BAD_VALUES)
def test_a_bad_value_is_refused_with_table_row_column_and_what_fits(tmp_path, column, value):
    path = text(tmp_path, f'case,{column}\nfirst,\n"Patient é 7","{value}"\n')
    with pytest.raises(CohortError) as refused:
        read_cohort(path)
    said = str(refused.value)
    for part in (str(path), "'Patient é 7'", f"{column} is {value!r}", "expected", "empty"):
        assert part in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,t1\n1,a\n", "no column 'case' but id, t1.*gliolens cohort index"),
        ("case;t1\n1;a\n", "semicolons"),
        ("case,T1,mgmt\n1,a,b\n", r"unknown columns \['T1', 'mgmt'\].*known are case, patient"),
        ("case,age\n1,40\n,50\n", "row 2 below the header has no case"),
    ],
)
def test_a_table_that_is_no_cohort_is_refused(tmp_path, content, says):
    with pytest.raises(CohortError, match=says):
        read_cohort(text(tmp_path, content))


def test_replacing_a_field_of_a_row_is_seen_in_the_table(tmp_path):
    row = CaseRow("7", "7", age=40.5, sex="F", targets={"idh": "mutant"}, os_event=False)
    for changed in (replace(row, age=41.0), replace(row, targets={}), replace(row, os_event=True)):
        write_cohort(tmp_path / "c.csv", [changed])
        assert read_cohort(tmp_path / "c.csv") == (changed,)
