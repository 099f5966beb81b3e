"""Layouts that list their files: nnU-Net, Medical Decathlon, MONAI datalists, GaNDLF tables."""

import json
from pathlib import Path

import numpy as np
import pytest

from gliolens.case import Grid, Volume
from gliolens.cohorts.layouts.registry import read_layout
from gliolens.errors import CohortError
from gliolens.io.nifti import write_volume

SERIES_4 = ("t1", "t1ce", "t2", "flair")
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def mask(file: Path, values: tuple[int, ...]) -> None:
    voxels = np.resize(np.array(values, np.uint8), (2, 3, 4))
    write_volume(file, Volume(voxels, np.eye(4)), Grid((2, 3, 4), np.eye(4)))


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def nnunet(root: Path, channels: dict[str, str], labels: object) -> None:
    write(root / "dataset.json", {"channel_names": channels, "labels": labels, "file_ending": ".nii.gz"})
    for case, folder in (("BraTS_1", "imagesTr"), ("007", "imagesTr"), ("BraTS_2", "imagesTs")):
        touch(root, *(f"{folder}/{case}_{int(n):04d}.nii.gz" for n in channels))
    for case in ("BraTS_1", "007"):
        mask(root / f"labelsTr/{case}.nii.gz", (0, 1, 2, 3))


def test_nnunet_channels_are_read_by_name_not_by_number(tmp_path: Path) -> None:
    nnunet(tmp_path, {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, REGIONS)
    found = read_layout(tmp_path)
    assert found.layout == "nnunet"
    assert [r.case for r in found.rows] == ["007", "BraTS_1", "BraTS_2"]
    row = found.rows[1]
    assert {s: f.name for s, f in row.files.items()} == {
        "t1": "BraTS_1_0001.nii.gz", "t1ce": "BraTS_1_0002.nii.gz",
        "t2": "BraTS_1_0003.nii.gz", "flair": "BraTS_1_0000.nii.gz",
    }  # fmt: skip
    assert row.mask == tmp_path / "labelsTr/BraTS_1.nii.gz"
    assert found.rows[2].mask is None
    assert [r.mask_scheme for r in found.rows] == ["nnunet137", "nnunet137", None]


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [(REGIONS, "nnunet137"), ({**REGIONS, "tumor core": [1, 3]}, "brats2023"),
     ({"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}, "nnunet137"),
     ({"background": 0, "necrosis": 1, "oedema": 2, "enhancing": 3}, "brats2023"),
     ({"background": 0, "NCR": 1, "ED": 2, "ET": 4}, "brats2020"), ({"background": 0, "tumour": 1}, "binary"),
     # Without names the values decide, which here hold 0 to 3.
     ({"background": 0, "a": 1, "b": 2, "c": 3}, "brats2023"), ({}, "brats2023")],
)  # fmt: skip
def test_the_names_of_labels_tell_the_scheme(tmp_path: Path, labels: dict[str, object], scheme: str) -> None:
    nnunet(tmp_path, {"0": "T1", "1": "T1ce"}, labels)
    found = read_layout(tmp_path)
    assert found.rows[0].mask_scheme == scheme
    assert any("read as brats2023" in n for n in found.notes) == (len(labels) == 0 or "a" in labels)


def test_nameless_channels_need_the_series_order(tmp_path: Path) -> None:
    nnunet(tmp_path, {"0": "noNorm", "1": "noNorm"}, REGIONS)
    with pytest.raises(CohortError, match="--series-order"):
        read_layout(tmp_path)
    with pytest.raises(CohortError, match="2 channels, but the series order names 4"):
        read_layout(tmp_path, series_order=SERIES_4)
    (row, *_) = read_layout(tmp_path, series_order=("flair", "t1")).rows
    assert {s: f.name for s, f in row.files.items()} == {"t1": "007_0001.nii.gz", "flair": "007_0000.nii.gz"}


def decathlon(root: Path) -> None:
    touch(root, "imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz", "imagesTs/BRATS_485.nii.gz")
    entry = {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}
    absent = {"image": "./imagesTr/BRATS_002.nii.gz", "label": "./labelsTr/BRATS_002.nii.gz"}
    write(root / "dataset.json", {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "training": [entry, absent], "test": ["./imagesTs/BRATS_485.nii.gz"],
    })  # fmt: skip


def test_decathlon_addresses_the_volumes_of_4d_files(tmp_path: Path) -> None:
    decathlon(tmp_path)
    found = read_layout(tmp_path)
    assert found.layout == "msd"
    first, second = found.rows
    assert (first.case, second.case) == ("BRATS_001", "BRATS_485")
    assert first.files["t1ce"] == Path(f"{tmp_path}/imagesTr/BRATS_001.nii.gz#2")
    assert first.files["flair"] == Path(f"{tmp_path}/imagesTr/BRATS_001.nii.gz#0")
    assert (first.mask, first.mask_scheme) == (tmp_path / "labelsTr/BRATS_001.nii.gz", "msd")
    assert (second.mask, second.mask_scheme) == (None, None)
    assert len(found.notes) == 1
    assert "BRATS_002" in found.notes[0]
    assert read_layout(tmp_path / "dataset.json").rows == found.rows


def test_monai_lists_of_paths_one_path_and_keys(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{c}_{w}.nii.gz" for c in ("A 1", "B") for w in ("t1", "t1c", "seg", "flair")))
    touch(tmp_path, "flat/7_t2.nii.gz")
    write(tmp_path / "list.json", {
        "training": [
            {"image": ["A 1/A 1_flair.nii.gz", "A 1/A 1_t1c.nii.gz"], "label": "A 1/A 1_seg.nii.gz", "fold": 0}
        ],
        "validation": [{"t1": "B/B_t1.nii.gz", "t1ce": "B/B_t1c.nii.gz", "t2": "B/B_t2.nii.gz"}],
        "test": ["flat/7_t2.nii.gz"],
    })  # fmt: skip
    found = read_layout(tmp_path / "list.json")
    assert found.layout == "monai"
    assert {r.case: sorted(r.files) for r in found.rows} == {
        "7": ["t2"],
        "A 1": ["flair", "t1ce"],
        "B": ["t1", "t1ce"],
    }
    assert found.rows[1].mask == tmp_path / "A 1/A 1_seg.nii.gz"
    assert any("B_t2.nii.gz" in n and n.startswith("1 listed files are not there") for n in found.notes)


def test_monai_untold_series_need_an_order(tmp_path: Path) -> None:
    touch(tmp_path, "a/X_0000.nii.gz", "a/X_0001.nii.gz", "b/Y.nii.gz")
    write(tmp_path / "list.json", {"training": [{"image": ["a/X_0000.nii.gz", "a/X_0001.nii.gz"]}]})
    with pytest.raises(CohortError, match=r"do not tell the series apart.*--series-order"):
        read_layout(tmp_path)
    (row,) = read_layout(tmp_path, series_order=("flair", "t1ce")).rows
    assert (row.case, row.files["flair"].name, row.files["t1ce"].name) == (
        "X",
        "X_0000.nii.gz",
        "X_0001.nii.gz",
    )
    write(tmp_path / "list.json", {"training": [{"image": "b/Y.nii.gz"}]})
    (row,) = read_layout(tmp_path, series_order=SERIES_4).rows
    assert (row.case, row.files["t2"]) == ("Y", Path(f"{tmp_path}/b/Y.nii.gz#2"))


def test_monai_refusals(tmp_path: Path) -> None:
    touch(tmp_path, "a/X_t1.nii.gz", "b/X_t1.nii.gz")
    write(tmp_path / "list.json", {"training": [{"image": "a/X_t1.nii.gz"}, {"image": "b/X_t1.nii.gz"}]})
    with pytest.raises(CohortError, match="'X' is listed twice"):
        read_layout(tmp_path)
    write(tmp_path / "list.json", {"training": [{"image": [3]}]})
    with pytest.raises(CohortError, match="found int where the path"):
        read_layout(tmp_path)
    (tmp_path / "list.json").write_text("{", encoding="utf-8")
    with pytest.raises(CohortError, match="not a readable JSON"):
        read_layout(tmp_path)


def test_gandlf_tables(tmp_path: Path) -> None:
    touch(tmp_path, *(f"007/007_{w}.nii.gz" for w in ("t1", "t1gd")))
    mask(tmp_path / "007/007_seg.nii.gz", (0, 1, 2, 4))
    (tmp_path / "train.csv").write_text(
        "SubjectID,Channel_0,Channel_1,Label,ValueToPredict\n"
        "007,007/007_t1gd.nii.gz,007/007_t1.nii.gz,007/007_seg.nii.gz,1\n"
        "8,8/8_t1gd.nii.gz,,,0\n",
        encoding="utf-8",
    )
    for folder in (tmp_path, tmp_path / "train.csv"):
        found = read_layout(folder, layout="gandlf")
        (row,) = found.rows
        assert (row.case, row.files["t1ce"].name, row.files["t1"].name) == (
            "007",
            "007_t1gd.nii.gz",
            "007_t1.nii.gz",
        )
        assert row.mask == tmp_path / "007/007_seg.nii.gz"
        assert row.targets == {}
        assert any("ValueToPredict" in n for n in found.notes)
        assert any("8_t1gd" in n for n in found.notes)
