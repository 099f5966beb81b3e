"""What the report says in words, and that it stays short however large the cohort."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gliolens.case import CaseRow, Grid, Volume
from gliolens.cohorts.audit.check import check_cohort
from gliolens.cohorts.audit.verdicts import CohortReport, Finding, Verdict
from gliolens.io.nifti import write_volume

GRID = Grid((12, 12, 12), np.eye(4))
MEND = "copy or export the file again"


@pytest.fixture
def rows(tmp_path: Path) -> list[CaseRow]:
    """Six readable cases of T1 and FLAIR."""

    def write(case: int, series: str) -> Path:
        rng = np.random.default_rng([case, len(series)])
        path = tmp_path / f"c{case}_{series}.nii.gz"
        write_volume(path, Volume(rng.normal(100, 10, GRID.shape).astype(np.float32), GRID.affine), GRID)
        return path

    return [
        CaseRow(f"c{i}", f"p{i}", files={s: write(i, s) for s in ("t1", "flair")}, site="AB"[i % 2])
        for i in range(6)
    ]


def test_a_broken_a_lacking_and_a_doubled_case_are_named_with_what_mends_them(rows):
    broken, kept = rows[0].files["t1"], rows[1].files
    broken.write_bytes(broken.read_bytes()[:200])
    shutil.copy(kept["t1"], rows[4].files["t1"])
    rows[2] = replace(rows[2], files={"t1": rows[2].files["t1"]})
    lines = check_cohort(rows).to_text().splitlines()
    assert lines[0] == "6 cases of 6 patients: 4 ok, 1 fixable, 1 refused"
    assert "  series: t1+flair (5), t1 (1)" in lines
    assert "  site: A (3), B (3)" in lines
    (doubled,) = (line for line in lines if "same image" in line)
    assert doubled.startswith(
        "serious: same image, several patients: 1 image stands under 2 cases of 2 patients (p1, p4)"
    )
    assert "column aliases" in doubled
    assert doubled.endswith("[c1, c4]")
    refused = lines.index(f"refused, 1 case; to mend: {MEND}")
    assert lines[refused + 1].startswith(f"  c0: {broken}: a gzip file cut short")
    fixable = lines.index(
        "fixable, 1 case; to mend: fill in the column flair, or ask for fewer series with --series"
    )
    assert lines[fixable + 1] == "  c2: no flair, which 5 of 6 cases have"
    assert refused < fixable


def test_a_sound_cohort_is_said_to_be_sound(rows):
    text = check_cohort([replace(r, site=None) for r in rows]).to_text()
    assert text.startswith("6 cases of 6 patients: 6 ok, 0 fixable, 0 refused\n")
    assert text.endswith("no findings about the cohort as a whole")
    assert "to mend" not in text


def test_what_else_is_wrong_with_a_refused_case_does_not_refuse_it():
    found = Verdict("c", "refused", ("cut short", "no t2, which 9 of 10 cases have"), (MEND, "fill in t2"))
    first = Verdict("b", "fixable", ("no t2, which 9 of 10 cases have",), ("fill in t2",))
    assert CohortReport((first, found), ()).to_text().splitlines()[-6:] == [
        f"refused, 1 case; to mend: {MEND}",
        "  c: cut short",
        "",
        "fixable, 2 cases; to mend: fill in t2",
        "  b: no t2, which 9 of 10 cases have",
        "  c: no t2, which 9 of 10 cases have",
    ]


def test_five_hundred_cases_with_much_wrong_fit_a_screen_or_two_and_are_all_counted():
    names = [f"c{i:03d}" for i in range(500)]
    verdicts = tuple(Verdict(n, "refused", (f"{n}.nii.gz: cut short",), (MEND,)) for n in names)
    pairs = [
        Finding("same image, several patients", "serious", "1 image stands twice", (a, b), 1.0)
        for a, b in zip(names[::2], names[1::2], strict=True)
    ]
    counts = {"all": {"cases": 500, "patients": 500}, "site": {f"s{i:02d}": i + 1 for i in range(30)}}
    every = Finding("refused cases", "warning", "500 of 500 cases cannot be read", tuple(names), 500.0)
    text = CohortReport(verdicts, (*pairs, every), counts).to_text()
    assert len(text.splitlines()) < 40
    assert len(text) < 4000
    assert f"refused, 500 cases; to mend: {MEND}" in text
    assert "  and 490 more (the JSON has all)" in text
    assert "same image, several patients: 245 more like these (the JSON has all)" in text
    assert "[c000, c001, c002, c003, c004, c005, c006, c007, c008, c009 and 490 more]" in text
    # Sites by size, the largest first.
    assert "site: s29 (30), s28 (29)" in text
    assert "s22 (23) and 22 more" in text


def test_a_report_without_counts_is_told_too():
    assert CohortReport((Verdict("c", "ok"),), ()).to_text().splitlines()[0] == (
        "1 case: 1 ok, 0 fixable, 0 refused"
    )
