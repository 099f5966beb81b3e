"""Brain masks by the user's own tool: stand-ins on PATH take the words of the real ones and leave the same file."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from gliolens.case import Volume
from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.cohorts.skull_strip import found_tool, strip_skulls
from gliolens.errors import CohortError, ConfigError
from gliolens.io.nifti import read_mask, read_volume, write_volume
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.loader import read_case

BET = """#!{python}
# bet INPUT OUTPUT -m -n: OUTPUT_mask.nii.gz, where FSLOUTPUTTYPE says so
import os, sys
import nibabel as nib
scan, stem, *flags = sys.argv[1:]
assert flags == ["-m", "-n"] and os.environ["FSLOUTPUTTYPE"] == "NIFTI_GZ"
image = nib.load(scan)
data = image.get_fdata()
if data.shape[0] == 7:
    sys.exit("error: no head in here")
nib.save(nib.Nifti1Image((data > {above}).astype("uint8"), image.affine), stem + "_mask.nii.gz")
"""
SYNTHSTRIP = """#!{python}
import sys
import nibabel as nib
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
image = nib.load(words["-i"])
nib.save(nib.Nifti1Image((image.get_fdata() > 0).astype("uint8"), image.affine), words["-m"])
"""


@pytest.fixture
def cohort(tmp_path):
    return write_phantom(tmp_path / "sim", 2, seed=4, config=PhantomConfig(spacing_mm=5.0))


def stand_in(folder, monkeypatch, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def bet(tmp_path, monkeypatch):
    stand_in(tmp_path / "bin", monkeypatch, "bet", BET.format(python=sys.executable, above=0))


@pytest.mark.usefixtures("bet")
def test_every_case_gets_the_mask_that_the_tool_makes(cohort, tmp_path, capsys):
    assert main(["cohort", "strip", str(cohort), "-o", str(tmp_path / "out")]) == 0
    assert "2 of 2 cases, 2 masks by the tool" in capsys.readouterr().out
    for before, row in zip(read_cohort(cohort), read_cohort(tmp_path / "out" / "cohort.csv"), strict=True):
        case = read_case(row)
        assert np.array_equal(case.brain, case.series["t1"] > 0)
        same = {"brain_mask": None, "files": {}, "mask": None}
        assert replace(row, **same) == replace(before, **same)
        assert row.files["flair"].resolve() == before.files["flair"].resolve()


@pytest.mark.usefixtures("bet")
def test_masks_that_are_there_stay(cohort, tmp_path, capsys):
    rows = read_cohort(cohort)
    case = read_case(rows[0])
    own = np.zeros(case.grid.shape, bool)
    own[3:9, 3:9, 3:9] = True
    write_volume(tmp_path / "own.nii.gz", Volume(own, case.grid.affine), case.source)
    done = strip_skulls([replace(rows[0], brain_mask=tmp_path / "own.nii.gz"), rows[1]], tmp_path / "out")
    assert done.masks == 1
    assert "1 of 2 cases bring a brain mask of their own" in capsys.readouterr().err
    assert np.array_equal(read_case(read_cohort(done.table)[0]).brain, own)
    made = tmp_path / "out" / f"{rows[1].case}_brain.nii.gz"
    write_volume(made, Volume(own, case.grid.affine), case.source)  # a second call makes it no more
    strip_skulls(rows, tmp_path / "out")
    assert read_mask(made, "x").volume.voxels.sum() == own.sum()


def test_the_other_tool_is_called_in_its_own_words(cohort, tmp_path, monkeypatch):
    stand_in(tmp_path / "bin", monkeypatch, "mri_synthstrip", SYNTHSTRIP.format(python=sys.executable))
    assert found_tool(None) == "mri_synthstrip"
    assert strip_skulls(read_cohort(cohort), tmp_path / "out").masks == 2
    with pytest.raises(ConfigError, match="bet: not found on PATH"):
        strip_skulls(read_cohort(cohort), tmp_path / "out", tool="bet")
    (tmp_path / "bin" / "bet").write_text((tmp_path / "bin" / "mri_synthstrip").read_text())
    (tmp_path / "bin" / "bet").chmod(0o755)
    with pytest.raises(ConfigError, match="masks by mri_synthstrip, not bet"):
        strip_skulls(read_cohort(cohort), tmp_path / "out", tool="bet")


def test_without_a_tool_it_is_said_what_to_install(cohort, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["cohort", "strip", str(cohort), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "FSL" in told
    assert "brain_mask" in told
    with pytest.raises(ConfigError, match="no tool for skulls"):
        found_tool("hammer")


@pytest.mark.usefixtures("bet")
def test_a_case_that_the_tool_fails_on_is_left_out_and_named(cohort, tmp_path, capsys):
    rows = read_cohort(cohort)
    grid = read_case(rows[1]).source
    tiny = replace(grid, shape=(7, 7, 7))
    write_volume(
        tmp_path / "tiny.nii.gz",
        Volume(np.arange(343, dtype=np.float32).reshape(7, 7, 7), tiny.affine), tiny,
    )  # fmt: skip
    bad = replace(rows[1], files={"t1": tmp_path / "tiny.nii.gz"}, mask=None)
    write_cohort(tmp_path / "some.csv", [rows[0], bad])
    assert main(["cohort", "strip", str(tmp_path / "some.csv"), "-o", str(tmp_path / "out")]) == 3
    assert "no head in here" in capsys.readouterr().err
    assert [row.case for row in read_cohort(tmp_path / "out" / "cohort.csv")] == [rows[0].case]
    with pytest.raises(CohortError, match="none of 1"):
        strip_skulls([bad], tmp_path / "other")


def test_a_mask_of_half_a_head_is_refused(cohort, tmp_path, monkeypatch, capsys):
    rows = read_cohort(cohort)[:1]
    most = float(np.percentile(read_volume(rows[0].files["t1"], "x").volume.voxels, 99.5))
    stand_in(tmp_path / "bin", monkeypatch, "bet", BET.format(python=sys.executable, above=most))
    with pytest.raises(CohortError):
        strip_skulls(rows, tmp_path / "out")
    assert "ml of t1 brain" in capsys.readouterr().err
