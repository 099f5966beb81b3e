"""How surely the audit knows a patient by the scans: likeness of different patients, and of changed copies of each.

Copies are made as releases make them: another unit, another voxel size, turned and scaled into another space, another
mask, slices cut off. Writes `docs/tables/same_patient.md`. About six CPU minutes for the 55 patients of TCGA-LGG.

    python benchmarks/same_patient.py [COHORT.csv PATIENTS ...]

COHORT.csv may be any cohort, PATIENTS how many of it to copy; without arguments the real set in ../shared/data.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from gliolens.case import Case, CaseRow, Grid, Volume
from gliolens.cohorts.audit.fingerprint import Fingerprint, fingerprint
from gliolens.cohorts.audit.likeness import SAME, likeness
from gliolens.foreground import foreground_of
from gliolens.io.store import write_text
from gliolens.io.tables import read_cohort
from gliolens.loader import read_case
from gliolens.ops.geometry import resample
from gliolens.progress import say
from gliolens.types import Mask

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "tables" / "same_patient.md"
REAL = ROOT.parent / "shared" / "data" / "tcga_lgg"
COPIED = 20


def copies() -> dict[str, Callable[[Case, Mask, np.random.Generator], Case]]:
    return {
        "another unit (square root), 5 % noise": unit,
        "2.5 x 1.5 x 3 mm voxels": lambda case, mask, rng: moved(case, mask, rng, (2.5, 1.5, 3.0), 0.0, 0.0),
        "turned by 10 degrees": lambda case, mask, rng: moved(case, mask, rng, case.grid.spacing, 10.0, 0.0),
        "mask less 10 mm all around": lambda case, mask, rng: stripped(case, mask, 10.0),
        "lowest seventh of the slices cut off": cut_off,
        "turned, scaled by up to 8 %, 2 mm voxels, stripped": lambda case, mask, rng: stripped(
            *(lambda c: (c, foreground_of(c)))(moved(case, mask, rng, (2.0, 2.0, 2.0), 6.0, 0.08)), 8.0
        ),
    }


def unit(case: Case, mask: Mask, rng: np.random.Generator) -> Case:
    made = {}
    for name, image in case.series.items():
        noise = rng.normal(0, 0.05 * image[mask].std(), image.shape)
        made[name] = (37 * np.sqrt(np.maximum(image + noise, 0)) + 5).astype(np.float32)
    return Case(case.id, case.grid, made, case.grid, brain=mask)


def moved(
    case: Case, mask: Mask, rng: np.random.Generator, mm: tuple[float, ...], degrees: float, scale: float
) -> Case:
    """The head turned about a random axis, scaled along its axes, shifted by some millimetres, on other voxels."""
    old, affine = case.grid, case.grid.affine
    shape = np.ceil(np.array(old.shape) * old.spacing / mm).astype(int)
    middle = (affine @ [*((np.array(old.shape) - 1) / 2), 1.0])[:3]
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    turn = turn @ np.diag(rng.uniform(1 - scale, 1 + scale, 3))
    world, new = np.eye(4), np.diag([*mm, 1.0])
    new[:3, 3] = middle - np.array(mm) * (shape - 1) / 2
    world[:3, :3], world[:3, 3] = turn, middle - turn @ middle + rng.normal(0, 6, 3) * (degrees > 0)
    read = Grid(tuple(int(n) for n in shape), world @ new)
    images = {
        s: np.asarray(resample(Volume(image, affine), read), np.float32) for s, image in case.series.items()
    }
    grid = Grid(read.shape, new)
    brain = resample(Volume(mask.astype(np.uint8), affine), read, order=0) > 0
    return Case(case.id, grid, images, grid, brain=brain)


def stripped(case: Case, mask: Mask, mm: float) -> Case:
    padded = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=case.grid.spacing)
    brain = np.asarray(padded)[1:-1, 1:-1, 1:-1] > mm
    images = {s: np.where(brain, image, 0).astype(np.float32) for s, image in case.series.items()}
    return Case(case.id, case.grid, images, case.grid, brain=brain)


def cut_off(case: Case, mask: Mask, rng: np.random.Generator) -> Case:
    k = case.grid.shape[2] // 7
    affine = case.grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * k
    grid = Grid((*case.grid.shape[:2], case.grid.shape[2] - k), affine)
    return Case(case.id, grid, {s: image[:, :, k:] for s, image in case.series.items()}, grid)


def prints_of(rows: list[CaseRow]) -> Iterator[tuple[Case, Fingerprint]]:
    for row in rows:
        case = read_case(row)
        made = fingerprint(case)
        if made is not None:
            yield case, made


def spread(values: list[float]) -> str:
    return f"{min(values):.2f} | {np.median(values):.2f} | {max(values):.2f}"


def measured(rows: list[CaseRow], n: int) -> list[str]:
    known = list(prints_of(rows))
    prints = [made for _, made in known]
    say(f"{len(prints)} fingerprints")
    pairs = [(a, b) for a in range(len(prints)) for b in range(a)]
    apart = [found[0] if (found := likeness(prints[a], prints[b])) else 0.0 for a, b in pairs]
    same = sum(x >= SAME for x in apart)
    lines = [
        "| | pairs | called one patient | likeness: lowest | median | highest |", "|---|---|---|---|---|---|",
        f"| different patients | {len(pairs)} | {same} | {spread(apart)} |",
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for name, change in copies().items():
        found, lost = [], 0
        for case, made in known[:n]:
            copy = fingerprint(change(case, foreground_of(case), rng))
            if copy is None:
                lost += 1
            else:
                found.append(likeness(made, copy)[0])
        told = sum(x >= SAME for x in found)
        left = f" ({lost} too little brain)" if lost else ""
        lines.append(f"| copies: {name} | {len(found)}{left} | {told} | {spread(found)} |")
        say(lines[-1])
    return lines


def main():
    given = sys.argv[1:]
    if given:
        lines = measured(list(read_cohort(Path(given[0]))), int(given[1]))
        print("\n".join(lines))
        return
    folders = sorted(p for p in REAL.iterdir() if p.is_dir())
    files = [{s: p / f"{p.name}_{s}.nii.gz" for s in ("t1", "t1ce", "flair")} for p in folders]
    rows = [
        CaseRow(p.name, p.name, files={s: f for s, f in named.items() if f.is_file()})
        for p, named in zip(folders, files, strict=True)
    ]
    lines = measured(rows, COPIED)
    print("\n".join(lines))
    write_text(TABLE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
