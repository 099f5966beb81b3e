"""The simulated cohort: drawn patients, scans of them on real anatomy, and what is true of them.

What is true of a patient (`traits`) is drawn first; the scans follow from it. So every answer is known, and how well
the best possible method could do (`ceiling`). These pictures test methods and train the built-in outline; they are no
evidence about patients.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch

from gliolens.case import Case, CaseRow, Volume
from gliolens.cohorts.phantom.anatomy import head_grid
from gliolens.cohorts.phantom.ceiling import write_truth
from gliolens.cohorts.phantom.scans import make_scans
from gliolens.cohorts.phantom.traits import PhantomConfig, PhantomTraits, draw_cohort
from gliolens.io.nifti import write_volume
from gliolens.io.tables import write_cohort
from gliolens.labels import SERIES

Progress: TypeAlias = Callable[[int, int], None] | None
LABEL_SCHEME: Final = "brats_lgg_hgg"
DEFAULT: Final = PhantomConfig()


@torch.inference_mode()
def simulate_case(traits: PhantomTraits, config: PhantomConfig) -> Case:
    """Make the four scans of one patient; the same arguments give the same voxels.

    Returns:
        The case: whole-number intensities in the site's unit, at least 1 in what the skull strip kept and exactly 0
        outside; brain mask; tumour labels (empty in the healthy); the targets that are written down.
    """
    grid = head_grid(config.spacing_mm)
    scans = make_scans([traits], grid)
    return Case(
        id=traits.case, grid=grid, source=grid, series=dict(zip(SERIES, scans.series[0].numpy(), strict=True)),
        brain=scans.kept[0].numpy(), tumour=scans.labels[0].numpy(), mask_scheme="brats2023",
        targets=traits.targets, label_scheme=LABEL_SCHEME, site=traits.site,
        covariates={"age": traits.age, "sex": traits.sex},
        history=(f"simulated with seed {traits.seed[0]}, number {traits.seed[1]}",),
    )  # fmt: skip


def write_phantom(
    folder: Path, n: int, *, seed: int = 0, config: PhantomConfig = DEFAULT, progress: Progress = None
) -> Path:
    """Write n simulated cases under BraTS names (`SIM-0001/SIM-0001_t1ce.nii.gz`), and two tables beside them.

    `folder/cohort.csv` is the cohort; `folder/truth.csv` what is true of each patient and what the best possible
    method would answer. The same seed gives the same bytes. Files of an earlier cohort are overwritten; its table
    goes first, so that it never speaks for new scans. `progress` is told the number of cases done, and n, after each.
    Returns the path of the cohort table. Raises ConfigError where n < 1 or seed < 0.
    """
    cohort, table, rows = draw_cohort(n, seed, config), folder / "cohort.csv", []
    table.unlink(missing_ok=True)
    for done, traits in enumerate(cohort, start=1):
        rows.append(_write_case(folder / traits.case, traits, config))
        if progress is not None:
            progress(done, n)
    write_truth(folder, cohort, config)
    write_cohort(table, rows)
    return table


def _write_case(folder: Path, traits: PhantomTraits, config: PhantomConfig) -> CaseRow:
    case = simulate_case(traits, config)
    files = {name: folder / f"{case.id}_{name}.nii.gz" for name in (*SERIES, "seg")}
    for name, voxels in {**case.series, "seg": case.tumour}.items():
        stored = np.asarray(voxels, np.uint8 if name == "seg" else np.int16)
        write_volume(files[name], Volume(stored, case.grid.affine), case.grid)
    return CaseRow(
        case=case.id, patient=case.patient, files={s: files[s] for s in SERIES}, mask=files["seg"],
        mask_scheme=case.mask_scheme, site=case.site, age=traits.age, sex=traits.sex, targets=case.targets,
        label_scheme=case.label_scheme, os_days=traits.os_days, os_event=traits.os_event,
    )  # fmt: skip
