"""A cohort for other tools: nnU-Net v2's raw layout and MONAI's datalist, with the split that cannot leak."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gliolens.case import Case, CaseRow, Volume
from gliolens.cohorts.splits import Split, check_leak, patients
from gliolens.errors import CohortError, ConfigError
from gliolens.io.nifti import read_grid, write_volume
from gliolens.io.store import write_json, write_text
from gliolens.labels import ENHANCING, NECROTIC, OEDEMA, SERIES, SERIES_TITLES
from gliolens.loader import read_case

_LABELS = {"background": 0, "necrotic_core": NECROTIC, "oedema": OEDEMA, "enhancing": ENHANCING}
_BINARY_LABELS = {"background": 0, "whole_tumour": 1}


def export_nnunet(
    rows: Sequence[CaseRow],
    folder: Path,
    *,
    split: Split | None = None,
    name: str = "GlioLens",
    dataset_id: int = 501,
    link: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a cohort as an nnU-Net v2 raw dataset, whole or not at all.

    Channels are the series that all cases share, in the order T1, T1 with contrast, T2, FLAIR. Images are copied as
    they lie; where a case's files are stored in different orientations, or are no `.nii.gz`, they are written anew
    in the grid of the first. Labels are GlioLens' own, 0 to 3, or 0 and 1 where every mask is binary.
    `splits_final.json` belongs into nnU-Net's preprocessed folder of the dataset; `ids.json` (file name to case) is
    there where a case's id could not be a file name.

    Args:
        rows: the cohort; every case needs a tumour mask.
        folder: nnU-Net's raw folder; `DatasetXXX_NAME` is made in it.
        split: folds to write, checked for leaks first; none, where None.
        name: name of the dataset: letters, digits and `_`.
        dataset_id: 1 to 999.
        link: link images (symbolic links to absolute paths) instead of copying them.
        progress: called with the number of cases done and the number of all.

    Returns:
        The dataset's folder.

    Raises:
        ConfigError: a name or number nnU-Net would not read, the folder is there already, or a link is asked for
            where the image must be written anew.
        CohortError: no series that all cases share, or binary masks beside others.
        LeakError: the split would put one patient on both sides.
        CaseError: a case cannot be read or has no mask.
    """
    if not re.fullmatch(r"\w+", name, re.ASCII) or not 1 <= dataset_id <= 999:
        raise ConfigError(
            f"dataset {dataset_id}, {name!r}: expected 1 to 999 and letters, digits and _ alone"
        )
    names = _file_names(rows)
    folds = [] if split is None else _nnunet_folds(split, rows, names)
    series = shared_series(rows)
    dataset = folder / f"Dataset{dataset_id:03d}_{name}"
    with _whole_folder(dataset) as unfinished:
        schemes = set()
        for done, row in enumerate(rows, start=1):
            schemes.add(_write_case(row, unfinished, names[row.case], series, link))
            if progress is not None:
                progress(done, len(rows))
        write_json(unfinished / "dataset.json", _dataset(series, schemes, len(rows), name))
        if split is not None:
            write_text(unfinished / "splits_final.json", json.dumps(folds, indent=2) + "\n")
        if any(case != file for case, file in names.items()):
            write_json(unfinished / "ids.json", {file: case for case, file in names.items()})
    return dataset


def export_monai(rows: Sequence[CaseRow], path: Path, *, split: Split | None = None) -> Path:
    """Write a cohort as a MONAI datalist (JSON), whole or not at all; no image is copied.

    Each entry has the series by name, `image` (the series that all cases share, as a list in the order T1, T1 with
    contrast, T2, FLAIR), `label` where a mask is known (values as stored; `mask_scheme` says what they mean), the
    targets, and the patient. Paths are relative to the file. Without a split all cases are `training`; a holdout
    gives `training` and `validation`; several folds give each `training` entry the number of the `fold` that tests
    it.

    Returns:
        `path`.

    Raises:
        ConfigError: a split that tests a case more than once (repeats), which a datalist cannot say.
        CohortError: no series that all cases share, or a path into a 4-D file.
        LeakError: the split would put one patient on both sides.
    """
    series, group = shared_series(rows), patients(rows)
    items = {row.case: _item(row, series, path.absolute().parent, group[row.case]) for row in rows}
    content: dict[str, Any] = {"name": path.stem, "series": list(series)}
    if split is None:
        content["training"] = list(items.values())
    else:
        check_leak(split, rows)
        content |= {"split": split.hash, **_monai_sides(split, items)}
    write_json(path, content)
    return path


def shared_series(rows: Sequence[CaseRow]) -> tuple[str, ...]:
    """The series that every case has, in the order of `labels.SERIES`.

    Raises:
        CohortError: there is none.
    """
    shared = tuple(s for s in SERIES if rows and all(s in row.files for row in rows))
    if not shared:
        counts = ", ".join(f"{s} in {sum(s in row.files for row in rows)}" for s in SERIES)
        raise CohortError(
            f"no series that all {len(rows)} cases share ({counts}); leave out the cases that lack one"
        )
    return shared


# --- nnU-Net ----------------------------------------------------------------------------------------------


def _file_names(rows: Sequence[CaseRow]) -> dict[str, str]:
    """A name that is safe as a file's for each case, its id where that is safe; unique whatever the capitals."""
    safe = {row.case: re.sub(r"[^A-Za-z0-9_-]+", "_", row.case) for row in rows}
    taken = {file.lower() for case, file in safe.items() if case == file}
    names: dict[str, str] = {}
    used: set[str] = set()
    for case, file in safe.items():
        name, n = file, 1
        while name.lower() in used or (name != case and name.lower() in taken):
            n += 1
            name = f"{file}_{n}"
        names[case] = name
        used.add(name.lower())
    return names


def _nnunet_folds(
    split: Split, rows: Sequence[CaseRow], names: Mapping[str, str]
) -> list[dict[str, list[str]]]:
    check_leak(split, rows)
    return [
        {"train": [names[c] for c in fold.train], "val": [names[c] for c in fold.test]}
        for fold in split.folds
    ]


def _write_case(row: CaseRow, dataset: Path, name: str, series: Sequence[str], link: bool) -> str:
    case = read_case(row, series, need_mask=True)
    for channel, s in enumerate(series):
        _write_image(case, s, row.files[s], dataset / "imagesTr" / f"{name}_{channel:04d}.nii.gz", link)
    assert case.tumour is not None  # read_case was told to need it
    binary = case.mask_scheme == "binary"
    labels = (case.tumour > 0).astype(np.uint8) if binary else case.tumour
    write_volume(dataset / "labelsTr" / f"{name}.nii.gz", Volume(labels, case.grid.affine), case.source)
    return case.mask_scheme


def _write_image(case: Case, series: str, source: Path, target: Path, link: bool) -> None:
    plain = str(source).endswith(".nii.gz") and source.is_file()
    as_it_lies = plain and read_grid(source, case.id).matches(case.source)
    if link and not as_it_lies:
        raise ConfigError(
            f"case {case.id!r}: {source} must be written anew (no .nii.gz, or another orientation than the case's "
            "first series) and cannot be linked; leave out --link"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(source.resolve())
    elif as_it_lies:
        shutil.copyfile(source, target)
    else:
        write_volume(target, case.volume(series), case.source)


def _dataset(series: Sequence[str], schemes: set[str], n: int, name: str) -> dict[str, Any]:
    if "binary" in schemes and len(schemes) > 1:
        others = ", ".join(sorted(schemes - {"binary"}))
        raise CohortError(
            f"binary masks beside masks of {others}: one dataset cannot hold both, as a binary mask does not tell core "
            "from oedema. Export the two apart, or name the masks' scheme in the column mask_scheme"
        )
    return {
        "name": name,
        "channel_names": {str(k): SERIES_TITLES[s] for k, s in enumerate(series)},
        "labels": _BINARY_LABELS if schemes == {"binary"} else _LABELS,
        "numTraining": n,
        "file_ending": ".nii.gz",
    }


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`, and rename it to `path` once the block ends without an error."""
    if path.exists():
        raise ConfigError(f"{path} is there already; remove it, or choose another name or number")
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


# --- MONAI ------------------------------------------------------------------------------------------------


def _item(row: CaseRow, series: Sequence[str], folder: Path, patient: str) -> dict[str, Any]:
    def relative(file: Path) -> str:
        if not file.is_file():
            raise CohortError(
                f"case {row.case!r}: {file} is no file of its own; MONAI reads whole files: correct the path, or save "
                "the volume of a 4-D file alone"
            )
        return Path(os.path.relpath(file.absolute(), folder)).as_posix()

    files = {s: relative(row.files[s]) for s in SERIES if s in row.files}
    item: dict[str, Any] = {
        "case": row.case,
        "patient": patient,
        **files,
        "image": [files[s] for s in series],
    }
    if row.mask is not None:
        item |= {"label": relative(row.mask), "mask_scheme": row.mask_scheme}
    return {**item, **row.targets}


def _monai_sides(split: Split, items: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    if len(split.folds) == 1:
        (fold,) = split.folds
        return {
            "training": [items[c] for c in fold.train],
            "validation": [items[c] for c in fold.test],
        }
    tested = [(c, number) for number, fold in enumerate(split.folds) for c in fold.test]
    if len({c for c, _ in tested}) < len(tested):
        raise ConfigError("a datalist gives each case one fold: make the split with one repeat")
    return {"training": [{**items[c], "fold": number} for c, number in tested]}
