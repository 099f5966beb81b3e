"""The same patients in one cohort and in two: by name, by image, by likeness; releases that hold one another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from gliolens.case import CaseRow, Grid, Volume
from gliolens.cli import main
from gliolens.cohorts.audit.check import check_cohort
from gliolens.cohorts.audit.containment import patients_again, shared_releases
from gliolens.cohorts.audit.fingerprint import SHAPE, Fingerprint
from gliolens.cohorts.audit.look import Look
from gliolens.cohorts.clinical.table import read_clinical, rows_of
from gliolens.cohorts.identity import OVERLAPS, release_of
from gliolens.cohorts.splits import patients
from gliolens.errors import ConfigError
from gliolens.io.nifti import write_volume
from gliolens.io.tables import write_cohort

INSIDE = np.zeros(SHAPE, bool)
INSIDE[8:-8, 8:-8, 8:-8] = True


def look(case: str, seed: int | None, image: str = "") -> Look:
    """What is kept of a case; of no scan, where there is no seed."""
    if seed is None:
        return Look(case, error=("found", "fix"))
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.2)
    stored = np.where(INSIDE, np.clip(42 * field / field.std(), -127, 127), 0).astype(np.int8)
    return Look(
        case, hashes={"t1": image or f"{case}{seed}"}, print=Fingerprint(case, {"t1": stored}, INSIDE)
    )


def rows_of_names(*names: str) -> list[CaseRow]:
    return [CaseRow(n, n) for n in names]


def found(rows, looks, other=(), other_looks=()):  # type: ignore[no-untyped-def]
    return {f.name: f for f in patients_again(rows, looks, patients(rows), other, other_looks)}


def test_one_brain_under_two_patients_is_serious_and_under_one_is_not():
    rows = rows_of_names("a", "b", "c")
    looks = [look("a", 1), look("b", 2), look("c", 1)]
    pair = found(rows, looks)["same brain, two patients"]
    assert (pair.severity, pair.cases) == ("serious", ("a", "c"))
    assert pair.number == pytest.approx(1, abs=0.01)
    assert "aliases" in pair.text
    rows[2] = replace(rows[2], aliases=("a",))
    assert "same brain, two patients" not in found(rows, looks)


def test_cases_that_were_not_compared_are_counted():
    rows = rows_of_names("a", "b")
    told = found(rows, [look("a", 1), look("b", None)])["patients compared"]
    assert (told.severity, told.number) == ("warning", 1)
    assert told.text.startswith("1 of 2 cases compared")


def test_a_cohort_contained_in_another_by_name_by_image_and_by_likeness():
    rows = rows_of_names("UCSF-PDGM-004", "b", "c", "d")
    other = [
        CaseRow("BraTS2021_00097", "BraTS2021_00097", aliases=("ucsf_pdgm_0004",)),
        *rows_of_names("y", "z", "q"),
    ]
    looks = [look("UCSF-PDGM-004", 1), look("b", 2, "same"), look("c", 3), look("d", 4)]
    others = [look("BraTS2021_00097", 9), look("y", 8, "same"), look("z", 3), look("q", 7)]
    told = found(rows, looks, other, others)["contained in the other cohort"]
    assert (told.severity, told.number) == ("serious", 0.75)
    assert told.cases == ("UCSF-PDGM-004", "b", "c")
    assert told.text.startswith(
        "3 of 4 patients (75%) are in the other cohort too: 1 by name or alias, 1 by the same image"
    )
    assert "1 by likeness (1 by it alone)" in told.text
    assert "UCSF-PDGM-004 = BraTS2021_00097" in told.text
    apart = found(rows[3:], looks[3:], other, others)["contained in the other cohort"]
    assert (apart.severity, apart.number) == ("note", 0.0)


def test_the_same_case_id_in_two_cohorts_is_told_by_its_scan_too():
    rows = rows_of_names("a", "b")
    told = found(rows, [look("a", 1), look("b", 2)], rows_of_names("b", "e"), [look("b", 5), look("e", 1)])
    assert told["contained in the other cohort"].cases == ("a", "b")


def test_releases_that_share_patients_count_what_no_alias_joins(shared_data):
    table = rows_of(read_clinical(shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv"))
    named = [row for row in table if any(release_of(a) == "BraTS 2021" for a in row.aliases)]
    brats = rows_of_names(*{a for row in named for a in row.aliases if release_of(a) == "BraTS 2021"})
    (told,) = shared_releases(table, brats)
    assert len(named) > 250
    assert told.number == len(table) - len(named)
    (loose,) = shared_releases([replace(row, aliases=()) for row in table], brats)
    assert loose.number == len(table)
    assert list(shared_releases(table)) == []


def test_overlaps_name_known_releases():
    known = {
        release_of(case)
        for case in ("TCGA-DU-7294", "UCSF-PDGM-0004", "UPENN-GBM-00001_11", "BraTS19_CBICA_AAB_1", "BraTS2021_00097",
                     "BraTS-GLI-00001-000")
    }  # fmt: skip
    assert {name for pair in OVERLAPS for name in pair} == known
    assert release_of("Mueller 7") is None
    assert release_of("BraTS-MET-00001-000") is None


# --- as a user calls it -----------------------------------------------------------------------------------


GRID = Grid((44, 52, 44), np.diag([3.5, 3.5, 3.5, 1.0]))


def scans(folder: Path, name: str, seed: int, gain: float = 1.0) -> CaseRow:
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in GRID.shape], indexing="ij"))
    image = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=GRID.shape), 2.0)
    head = np.where((axes**2).sum(axis=0) < 0.9, gain * np.exp(3 * image / image.std() / 4) + 1, 0)
    file = folder / f"{name}.nii.gz"
    write_volume(file, Volume(head.astype(np.float32), GRID.affine), GRID)
    return CaseRow(name, name, files={"t1": file}, targets={"who_grade": "2", "idh": "wildtype"})


@pytest.fixture(scope="module")
def two_tables(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cohorts")
    one = [scans(folder, "a", 1), scans(folder, "b", 2)]
    two = [scans(folder, "x", 3), scans(folder, "y", 2, gain=7.0)]
    write_cohort(folder / "one.csv", one)
    write_cohort(folder / "two.csv", two)
    return folder / "one.csv", folder / "two.csv"


def test_the_command_finds_a_patient_in_another_cohort(two_tables, capsys):
    one, two = two_tables
    assert main(["cohort", "check", str(one), "--deep", "--against", str(two), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    told = {f["name"]: f for f in said["findings"]}
    assert told["contained in the other cohort"]["cases"] == ["b"]
    assert told["contained in the other cohort"]["number"] == 0.5
    assert "b = y" in told["contained in the other cohort"]["text"]
    assert told["grade changes from WHO 2016 to 2021"]["number"] == 2
    assert [v["case"] for v in said["verdicts"]] == ["a", "b"]
    assert main(["cohort", "check", str(one)]) == 0
    assert "patients compared" not in capsys.readouterr().out


def test_another_cohort_without_deep_is_refused(two_tables):
    rows = [CaseRow("a", "a")]
    with pytest.raises(ConfigError, match="--deep"):
        check_cohort(rows, against=rows)
