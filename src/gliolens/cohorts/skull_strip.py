"""Brain masks for a cohort, all by one tool that the user has: FSL's BET or FreeSurfer's SynthStrip.

A class that was stripped by another tool than the others can be told by that alone, so every case without a brain mask
gets one in the same way. What was stripped before keeps the marks of its first strip. GlioLens strips no skull of its
own.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from gliolens.case import Case, CaseRow, Volume
from gliolens.errors import CaseError, CohortError, ConfigError
from gliolens.io.nifti import read_mask, write_volume
from gliolens.io.store import read_json, write_json
from gliolens.io.tables import write_cohort
from gliolens.labels import SERIES
from gliolens.loader import read_case
from gliolens.progress import Tick, say

MASK_NAME: Final = "{case}_brain.nii.gz"
BRAIN_ML: Final = (500.0, 2500.0)
"""Of a head's inside; another volume means that the tool went astray."""
TOOLS: Final[Mapping[str, Callable[[str, Path], list[str]]]] = MappingProxyType({
    "bet": lambda scan, stem: ["bet", scan, str(stem), "-m", "-n"],
    "mri_synthstrip": lambda scan, stem: ["mri_synthstrip", "-i", scan, "-m", f"{stem}_mask.nii.gz"],
})  # fmt: skip
"""How each is called for a mask at STEM_mask.nii.gz: BET (Smith 2002, doi 10.1002/hbm.10062; Chatterjee et al. 2022
took it) and SynthStrip (Hoopes et al. 2022, doi 10.1016/j.neuroimage.2022.119474)."""


@dataclass(frozen=True)
class Stripped:
    """What came of a cohort.

    Attributes:
        table: the new cohort table.
        masks: brain masks made or found made before.
        failures: why each other case got none; they are not in the table.
    """

    table: Path
    masks: int
    failures: Mapping[str, CaseError]


def strip_skulls(
    rows: Sequence[CaseRow], out: Path, *, tool: str | None = None, tick: Tick | None = None
) -> Stripped:
    """Make a brain mask of every case that has none, and write a cohort table that names it.

    Args:
        rows: the cohort.
        out: folder for `CASE_brain.nii.gz` and `cohort.csv`; masks that lie there already are kept.
        tool: name from `TOOLS`; the first that is there where not given.
        tick: progress.

    Raises:
        ConfigError: the tool is not there, or the folder holds masks of the other.
        CohortError: no case could be stripped.
    """
    tool = found_tool(tool)
    _check_same_tool(out, tool)
    given = sum(row.brain_mask is not None for row in rows)
    if 0 < given < len(rows):
        say(
            f"{given} of {len(rows)} cases bring a brain mask of their own: a class may be told by who made its masks"
        )
    done, failures = [], {}
    for i, row in enumerate(rows):
        try:
            done.append(row if row.brain_mask is not None else _stripped(row, out, tool))
        except CaseError as error:
            failures[row.case] = error
            say(f"refused: {error}")
        if tick:
            tick(i + 1, len(rows))
    if not done:
        raise CohortError(f"none of {len(rows)} cases could be stripped; the first error stands above")
    write_cohort(out / "cohort.csv", done)
    made = sum(row.brain_mask is None for row in rows) - len(failures)
    return Stripped(out / "cohort.csv", made, failures)


def _check_same_tool(out: Path, tool: str) -> None:
    mark = out / "tool.json"
    before = read_json(mark)["tool"] if mark.is_file() else tool
    if before != tool:
        raise ConfigError(
            f"{out} holds masks by {before}, not {tool}: choose another folder, or the same tool"
        )
    write_json(mark, {"tool": tool})


def found_tool(tool: str | None) -> str:
    """The tool asked for, or the first of `TOOLS` that is there.

    Raises:
        ConfigError: it is not on PATH, or none is.
    """
    if tool is not None and tool not in TOOLS:
        raise ConfigError(f"{tool}: no tool for skulls is called so; there are {', '.join(TOOLS)}")
    for name in [tool] if tool else list(TOOLS):
        if shutil.which(name):
            return name
    raise ConfigError(
        f"{tool or ' and '.join(TOOLS)}: not found on PATH; install FSL (bet) or FreeSurfer (mri_synthstrip), or name "
        "brain masks of your own in the cohort table's column brain_mask"
    )


def _stripped(row: CaseRow, out: Path, tool: str) -> CaseRow:
    file = out / MASK_NAME.format(case=row.case)
    if not file.is_file():
        name = next((s for s in SERIES if s in row.files), None)
        case = read_case(row, (name,) if name else ())
        brain = _brain_by(tool, case)
        write_volume(file, Volume(brain, case.grid.affine), case.source)
    return replace(row, brain_mask=file)


def _brain_by(tool: str, case: Case) -> np.ndarray:
    """The brain on the case's grid, from its only series."""
    ((name, image),) = case.series.items()
    with tempfile.TemporaryDirectory() as place:
        scan, stem = Path(place) / "scan.nii.gz", Path(place) / "brain"
        write_volume(scan, Volume(image, case.grid.affine), case.source)
        words = TOOLS[tool](str(scan), stem)
        ran = subprocess.run(words, capture_output=True, text=True, check=False, env=_environment())
        made = Path(f"{stem}_mask.nii.gz")
        if ran.returncode or not made.is_file():
            last = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or ["it said nothing"]
            raise _astray(case, f"{tool} made no mask from {name}: {last[0]}")
        brain = read_mask(made, case.id).volume
    if not brain.grid.matches(case.grid):
        raise _astray(case, f"{tool}'s mask from {name} lies on another grid")
    volume_ml = float(brain.voxels.sum() * case.grid.voxel_ml)
    if not BRAIN_ML[0] <= volume_ml <= BRAIN_ML[1]:
        raise _astray(case, f"{tool} calls {volume_ml:.0f} ml of {name} brain")
    return np.asarray(brain.voxels, bool)


def _environment() -> dict[str, str]:
    return {**os.environ, "FSLOUTPUTTYPE": "NIFTI_GZ"}


def _astray(case: Case, found: str) -> CaseError:
    return CaseError(
        case.id,
        found=found,
        expected=f"a brain mask of {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f} ml on the series' grid",
        fix="look at the scan; make a mask with another tool and name it in the column brain_mask",
    )
