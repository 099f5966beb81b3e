"""Exports: what nnU-Net and MONAI read back is the cohort, and a leaky split never leaves."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from gliolens.case import CaseRow
from gliolens.cohorts.export import export_monai, export_nnunet, shared_series
from gliolens.cohorts.splits import Fold, Split, holdout, kfold
from gliolens.errors import CaseError, CohortError, ConfigError, LeakError

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (6, 7, 5)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = LPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> list[CaseRow]:
    """Eight cases with FLAIR, T1 and T2 (listed in that order), one with T1ce; masks as in BraTS 2020."""
    rng, rows = np.random.default_rng(0), []
    for i in range(8):
        folder = tmp_path / "data" / f"c{i}"
        names = ["flair", "t1", "t2", *(["t1ce"] if i == 3 else [])]
        labels = np.zeros(SHAPE, np.uint8)
        labels[1, 2, 3], labels[2, 2, 3], labels[3, 2, 3] = 1, 2, 4
        rows.append(
            CaseRow(
                f"c{i}",
                f"p{i}",
                files={
                    s: save(folder / f"{s}.nii.gz", rng.integers(0, 900, SHAPE).astype(np.int16))
                    for s in names
                },
                mask=save(folder / "seg.nii.gz", labels),
                mask_scheme="brats2020",
                targets={"idh": "mutant" if i % 2 else "wildtype"},
            )
        )
    return rows


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_nnunet_layout(cohort, tmp_path):
    split, seen = kfold(cohort, "idh", folds=2), []
    dataset = export_nnunet(cohort, tmp_path / "raw", split=split, progress=lambda *done: seen.append(done))
    assert dataset == tmp_path / "raw" / "Dataset501_GlioLens"
    assert sorted(p.name for p in dataset.iterdir()) == [
        "dataset.json", "imagesTr", "labelsTr", "splits_final.json",
    ]  # fmt: skip
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "T1", "1": "T2", "2": "FLAIR"}
    assert sorted(description["labels"].values()) == [0, 1, 2, 3]
    assert description["numTraining"] == len(list((dataset / "labelsTr").iterdir())) == 8
    assert len(list((dataset / "imagesTr").iterdir())) == 24
    for row in cohort:
        for channel, series in enumerate(("t1", "t2", "flair")):
            copied = dataset / "imagesTr" / f"{row.case}_{channel:04d}.nii.gz"
            assert copied.read_bytes() == row.files[series].read_bytes()
        stored, written = nib.load(row.mask), nib.load(dataset / "labelsTr" / f"{row.case}.nii.gz")
        np.testing.assert_allclose(written.affine, stored.affine)
        original = np.asarray(stored.dataobj)
        assert np.array_equal(np.asarray(written.dataobj), np.where(original == 4, 3, original))
    assert seen[-1] == (8, 8)


def test_nnunet_splits_are_the_folds(cohort, tmp_path):
    split = kfold(cohort, "idh", folds=4)
    dataset = export_nnunet(cohort, tmp_path, split=split, dataset_id=7, name="Other")
    folds = json.loads((dataset / "splits_final.json").read_text())
    assert dataset.name == "Dataset007_Other"
    assert [(tuple(f["train"]), tuple(f["val"])) for f in folds] == [(f.train, f.test) for f in split.folds]


def test_ids_that_are_no_file_names_are_mapped_and_stay_apart(cohort, tmp_path):
    cohort = [
        replace(cohort[0], case="a/b"),
        replace(cohort[1], case="a_b"),
        replace(cohort[2], case="a b"),
        replace(cohort[3], case="A_B"),
        replace(cohort[4], case="../up"),
        *cohort[5:],
    ]
    split = holdout(cohort, "idh")
    dataset = export_nnunet(cohort, tmp_path / "raw", split=split)
    ids = json.loads((dataset / "ids.json").read_text())
    assert sorted(ids.values()) == sorted(r.case for r in cohort)
    assert len({file.lower() for file in ids}) == 8
    assert ids["a_b"] == "a_b"
    files = {p.name.removesuffix(".nii.gz") for p in (dataset / "labelsTr").iterdir()}
    assert files == set(ids)
    (fold,) = json.loads((dataset / "splits_final.json").read_text())
    assert {ids[f] for f in fold["val"]} == set(split.folds[0].test)
    assert [p.name for p in (tmp_path / "raw").iterdir()] == [dataset.name]


def test_series_stored_in_other_orientations_are_written_on_one_grid(cohort, tmp_path):
    row = cohort[0]
    turned = nib.load(row.files["t2"]).as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    plain = nib.load(row.files["flair"])
    nib.save(turned, tmp_path / "t2.nii.gz")
    nib.save(plain, tmp_path / "flair.nii")
    other = replace(row, files={**row.files, "t2": tmp_path / "t2.nii.gz", "flair": tmp_path / "flair.nii"})
    dataset = export_nnunet([other], tmp_path / "raw")
    for channel, series in enumerate(("t1", "t2", "flair")):
        written = nib.load(dataset / "imagesTr" / f"c0_{channel:04d}.nii.gz")
        np.testing.assert_allclose(written.affine, LPS)
        assert np.array_equal(np.asarray(written.dataobj), voxels(row.files[series]))
    with pytest.raises(ConfigError, match="cannot be linked"):
        export_nnunet([other], tmp_path / "linked", link=True)


def test_links_point_to_the_images_and_labels_are_still_written(cohort, tmp_path):
    dataset = export_nnunet(cohort, tmp_path / "raw", link=True)
    image = dataset / "imagesTr" / "c1_0002.nii.gz"
    assert image.is_symlink()
    assert image.resolve() == cohort[1].files["flair"].resolve()
    assert not (dataset / "labelsTr" / "c1.nii.gz").is_symlink()


def test_binary_masks_become_one_region_and_do_not_mix(cohort, tmp_path):
    for row in cohort:
        save(row.mask, (voxels(row.mask) > 0).astype(np.uint8))
    binary = [replace(row, mask_scheme="binary") for row in cohort]
    dataset = export_nnunet(binary, tmp_path / "raw")
    assert json.loads((dataset / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "whole_tumour": 1,
    }
    assert set(np.unique(voxels(dataset / "labelsTr" / "c0.nii.gz"))) == {0, 1}
    with pytest.raises(CohortError, match="binary masks beside masks of gliolens"):
        export_nnunet([replace(binary[0], mask_scheme="gliolens"), *binary[1:]], tmp_path / "mixed")


def test_a_failed_export_leaves_nothing(cohort, tmp_path):
    with pytest.raises(CaseError, match="no tumour mask"):
        export_nnunet([*cohort[:3], replace(cohort[3], mask=None)], tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []
    export_nnunet(cohort[:1], tmp_path / "raw")
    with pytest.raises(ConfigError, match="there already"):
        export_nnunet(cohort[:1], tmp_path / "raw")
    for wrong in ({"name": "a b"}, {"dataset_id": 1000}):
        with pytest.raises(ConfigError, match="expected 1 to 999"):
            export_nnunet(cohort, tmp_path / "raw", **wrong)


def test_a_leaky_or_foreign_split_is_not_exported(cohort, tmp_path):
    same = [*cohort[:7], replace(cohort[7], patient="p0")]
    leaky = Split("holdout", "idh", 0, (Fold(("c0", "c1"), ("c7",)),), ())
    for export in (
        lambda rows: export_nnunet(rows, tmp_path / "raw", split=leaky),
        lambda rows: export_monai(rows, tmp_path / "list.json", split=leaky),
    ):
        with pytest.raises(LeakError, match="'p0'"):
            export(same)
        with pytest.raises(CohortError, match="does not have: c7"):
            export(cohort[:7])
    assert not (tmp_path / "raw").exists()
    assert not (tmp_path / "list.json").exists()


def test_only_shared_series_are_channels(cohort):
    assert shared_series(cohort) == ("t1", "t2", "flair")
    with pytest.raises(CohortError, match=r"flair in 1\)"):
        shared_series([replace(cohort[0], files={"t1": cohort[0].files["t1"]}),
                       replace(cohort[1], files={"flair": cohort[1].files["flair"]})])  # fmt: skip
    with pytest.raises(CohortError, match="no series"):
        shared_series([])


def test_monai_reads_the_datalist_back(cohort, tmp_path):
    split = holdout(cohort, "idh", seed=2)
    path = export_monai(cohort, tmp_path / "lists" / "cohort.json", split=split)
    sides = {key: load_decathlon_datalist(path, True, key) for key in ("training", "validation")}
    assert tuple(item["case"] for item in sides["training"]) == split.folds[0].train
    assert tuple(item["case"] for item in sides["validation"]) == split.folds[0].test
    rows = {row.case: row for row in cohort}
    written = json.loads(path.read_text())["training"][0]
    assert written["image"][0] == written["t1"] == f"../data/{written['case']}/t1.nii.gz"
    for item in [*sides["training"], *sides["validation"]]:
        row = rows[item["case"]]
        assert [Path(f).resolve() for f in item["image"]] == [row.files[s] for s in ("t1", "t2", "flair")]
        assert Path(item["label"]).resolve() == row.mask
        assert Path(item["t1"]).resolve() == row.files["t1"]
        assert ("t1ce" in item) == (row.case == "c3")
        assert item["idh"] == row.targets["idh"]


def test_monai_folds_and_no_split(cohort, tmp_path):
    split = kfold(cohort, "idh", folds=4)
    content = json.loads(export_monai(cohort, tmp_path / "a.json", split=split).read_text())
    assert content["split"] == split.hash
    folds = {item["case"]: item["fold"] for item in content["training"]}
    assert folds == {case: n for n, fold in enumerate(split.folds) for case in fold.test}
    every = json.loads(export_monai(cohort, tmp_path / "b.json").read_text())
    assert [item["case"] for item in every["training"]] == [row.case for row in cohort]
    with pytest.raises(ConfigError, match="one repeat"):
        export_monai(cohort, tmp_path / "c.json", split=kfold(cohort, "idh", folds=2, repeats=2))


def test_monai_refuses_what_it_could_not_read(cohort, tmp_path):
    gone = replace(cohort[0], files={**cohort[0].files, "t1": tmp_path / "four.nii.gz#1"})
    with pytest.raises(CohortError, match=r"four.nii.gz#1 is no file"):
        export_monai([gone, *cohort[1:]], tmp_path / "list.json")
