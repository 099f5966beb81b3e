"""The command line as a user calls it: help, exit codes, refusals that write nothing."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import gliolens
from gliolens.cli import VERBS, main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.io.store import file_hash
from gliolens.labels import NOTICE, SERIES


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, 4, config=PhantomConfig(spacing_mm=5.0))
    return folder


@pytest.fixture
def case(phantom, tmp_path):
    """A folder of one good case that a test may spoil, under a name that is awkward but allowed."""
    folder = tmp_path / "in" / "Fall 7 – Müller"
    shutil.copytree(phantom / "SIM-0001", folder)
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.replace("SIM-0001_", ""))
    return folder


def test_help_lists_every_command_and_says_research_only(capsys):
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)
    assert NOTICE in shown


def test_cohort_alone_lists_its_verbs(capsys):
    assert main(["cohort"]) == 0
    shown = capsys.readouterr().out
    assert "cohort split" in shown
    assert "bench" not in shown.replace("benchmark", "")


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "train"])
def test_every_command_explains_its_flags(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([*verb.split(), "--help"])
    assert end.value.code == 0
    assert "--" in capsys.readouterr().out


def test_train_lists_methods_and_a_methods_flags_read_like_the_paper(capsys):
    assert main(["train", "--help"]) == 0
    assert "shape-resnet" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", "shape-resnet", "--preset", "paper", "--help"])
    shown = capsys.readouterr().out
    assert "--magnify-rare" in shown
    assert "default: 160" in shown
    with pytest.raises(SystemExit):
        main(["train", "shape-resnet", "--scale", "demo", "--help"])
    assert "default: 18" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["outline"], "no command 'outline'"),
        (["cohort", "mend"], "cohort index"),
        (["train", "resnet"], "no method is called 'resnet'"),
        (
            ["train", "shape-resnet", "x.csv", "--preset", "best", "--target", "idh", "-o", "r"],
            "paper and sound",
        ),
        (["cohort", "index"], "nothing to index"),
        (["train"], "train which method"),
        (["demo", "-n", "3"], "24 patients or more"),
        (["predict", "-o", "out"], "no case"),
        (["bench", "x.csv", "--target", "idh", "--set", "epochs=4"], "METHOD.NAME=VALUE"),
        (["reproduce", "zeng2024", "x.csv", "-o", "out", "--set", "a.epochs=4"], "NAME=VALUE"),
    ],
)
def test_wrong_usage_ends_in_2_and_says_what_there_is(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_flag_that_does_not_exist_ends_in_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", "x.csv", "--target", "idh", "--epoch", "3"])
    assert end.value.code == 2
    assert "--epoch" in capsys.readouterr().err


def test_a_missing_table_is_refused(capsys, tmp_path):
    assert main(["cohort", "check", str(tmp_path / "none.csv")]) == 4
    assert "none.csv" in capsys.readouterr().err


def test_info_is_json_a_program_can_read(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"gliolens", "methods", "packages", "cores"} <= facts.keys()
    assert facts["methods"] == [
        "controls",
        "mts-unet",
        "shape-resnet",
        "segmentation-fusion",
        "spatio-spatial",
        "volume-embedding",
    ]
    weights = Path(gliolens.__file__ or "").parent / "weights"
    for name, said in facts["weights"].items():
        file = weights / name
        assert said == (file_hash(file) if file.is_file() else "not made yet: make weights")
    assert "answers.json" in facts["weights"]


# --- bad input: exit code 4, a text that mends it, nothing written -------------------------------------------------


def rewrite(file, *, data=None, affine=None, **forms):
    old = nib.load(file)
    data = np.asanyarray(old.dataobj) if data is None else data
    image = nib.Nifti1Image(data, old.affine if affine is None else affine)
    for name, (matrix, code) in forms.items():
        getattr(image, f"set_{name}")(matrix, code)
    nib.save(image, file)


def voxels(file):
    return np.asanyarray(nib.load(file).dataobj).astype(np.float32)


def cut_short(folder):
    file = folder / "t2.nii.gz"
    file.write_bytes(file.read_bytes()[:3000])


def not_gzip(folder):
    (folder / "t2.nii.gz").write_bytes(gzip.decompress((folder / "t2.nii.gz").read_bytes()))


def two_d(folder):
    rewrite(folder / "t2.nii.gz", data=voxels(folder / "t2.nii.gz")[:, :, 5])


def four_d(folder):
    rewrite(folder / "t2.nii.gz", data=voxels(folder / "t2.nii.gz")[..., None].repeat(2, axis=3))


def with_nan(folder):
    data = voxels(folder / "t2.nii.gz")
    data[3, 3, 3] = np.nan
    rewrite(folder / "t2.nii.gz", data=data)


def infinite(folder):
    data = voxels(folder / "t2.nii.gz")
    data[3, 3, 3] = np.inf
    rewrite(folder / "t2.nii.gz", data=data)


def empty(folder):
    rewrite(folder / "t2.nii.gz", data=np.zeros_like(voxels(folder / "t2.nii.gz")))


def zero_affine(folder):
    poke(folder / "t2.nii.gz", sform=np.zeros(12))


def nan_affine(folder):
    poke(folder / "t2.nii.gz", sform=np.full(12, np.nan))


def poke(file, *, sform):
    """Write a sform into the header's bytes, past nibabel's own checks (NIfTI-1: srow_x at byte 280)."""
    raw = bytearray(gzip.decompress(file.read_bytes()))
    raw[280:328] = sform.astype("<f4").tobytes()
    raw[252:254] = b"\0\0"  # qform_code
    raw[254:256] = b"\1\0"  # sform_code
    file.write_bytes(gzip.compress(bytes(raw)))


def contradiction(folder):
    affine = nib.load(folder / "t2.nii.gz").affine
    moved = affine.copy()
    moved[0, 3] += 12
    rewrite(folder / "t2.nii.gz", sform=(affine, 1), qform=(moved, 1))


def other_grid(folder):
    affine = nib.load(folder / "t2.nii.gz").affine.copy()
    affine[2, 3] += 3
    rewrite(folder / "t2.nii.gz", affine=affine)


def other_shape(folder):
    rewrite(folder / "t2.nii.gz", data=voxels(folder / "t2.nii.gz")[:-1])


def unknown_label(folder):
    data = voxels(folder / "seg.nii.gz").astype(np.uint8)
    data[0, 0, 0] = 9
    rewrite(folder / "seg.nii.gz", data=data)


def ambiguous_four(folder):
    data = voxels(folder / "seg.nii.gz").astype(np.uint8)
    rewrite(folder / "seg.nii.gz", data=np.where(data == 3, 4, data).astype(np.uint8))


def two_files(folder):
    shutil.copy(folder / "t2.nii.gz", folder / "t2w.nii.gz")


BAD = {
    cut_short: ("t2.nii.gz", "cut short or damaged"),
    not_gzip: ("t2.nii.gz", "not a gzip file"),
    two_d: ("t2.nii.gz", "2-D"),
    four_d: ("t2.nii.gz", "4-D"),
    with_nan: ("t2.nii.gz", "not finite"),
    infinite: ("t2.nii.gz", "not finite"),
    empty: ("t2.nii.gz", "empty image"),
    zero_affine: ("t2.nii.gz", "determinant zero"),
    nan_affine: ("t2.nii.gz", "not finite"),
    contradiction: ("t2.nii.gz", "qform that contradicts the sform"),
    other_grid: ("t2.nii.gz", "different grids"),
    other_shape: ("t2.nii.gz", "shape"),
    unknown_label: ("seg.nii.gz", "9"),
    ambiguous_four: ("seg.nii.gz", "resection cavity"),
    two_files: ("t2w.nii.gz", "t2.nii.gz"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_a_bad_case_is_refused_with_what_mends_it_and_nothing_is_written(spoil, case, tmp_path, capsys):
    spoil(case)
    out = tmp_path / "out"
    assert main(["predict", str(case), "-o", str(out)]) == 4
    said = capsys.readouterr().err
    assert "Fall 7 – Müller" in said
    assert "found:" in said
    assert "to mend:" in said
    for words in BAD[spoil]:
        assert words in said
    assert not out.exists() or list(out.iterdir()) == []


def test_a_missing_series_is_refused_by_a_run_that_needs_it(case, tmp_path, capsys):
    for series in SERIES:
        (case / f"{series}.nii.gz").unlink()
    assert main(["predict", str(case), "-o", str(tmp_path / "out")]) == 4
    assert "to mend:" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["007", "patient 12", "Øystein-Ærø", "脑瘤-3", "a.b,c;d'e"])
def test_ids_that_must_work(name, case, tmp_path, capsys):
    folder = case.rename(case.parent / name)
    assert main(["predict", str(folder), "-o", str(tmp_path / "out")]) == 0
    made = json.loads((tmp_path / "out" / name / "prediction.json").read_text(encoding="utf-8"))
    assert made["case"] == name
    assert str(tmp_path / "out" / name / "report.html") in capsys.readouterr().out


# --- what predict writes --------------------------------------------------------------------------------------


def test_labels_come_back_on_the_inputs_own_grid(case, tmp_path):
    """Even where the input is stored in another orientation than RAS+."""
    for file in case.iterdir():
        image = nib.as_closest_canonical(nib.load(file))
        turned = image.as_reoriented([[1, -1], [2, 1], [0, -1]])
        turned.set_sform(turned.affine, 1)
        turned.set_qform(turned.affine, 1)
        nib.save(turned, file)
    assert main(["predict", str(case), "-o", str(tmp_path / "out")]) == 0
    given, made = nib.load(case / "seg.nii.gz"), nib.load(tmp_path / "out" / case.name / "labels.nii.gz")
    assert np.array_equal(np.asanyarray(given.dataobj), np.asanyarray(made.dataobj))
    assert np.allclose(given.affine, made.affine)


def test_volumes_are_voxels_times_their_size(case, tmp_path):
    assert main(["predict", str(case), "-o", str(tmp_path / "out")]) == 0
    seg = np.asanyarray(nib.load(case / "seg.nii.gz").dataobj)
    made = json.loads((tmp_path / "out" / case.name / "prediction.json").read_text(encoding="utf-8"))
    assert made["volumes_ml"]["whole"] == pytest.approx((seg > 0).sum() * 0.125)
    assert made["volumes_ml"]["enhancing"] == pytest.approx((seg == 3).sum() * 0.125)
    assert made["notice"] == NOTICE


def test_a_binary_mask_leaves_core_unknown_not_zero(case, tmp_path):
    data = voxels(case / "seg.nii.gz") > 0
    rewrite(case / "seg.nii.gz", data=data.astype(np.uint8))
    assert main(["predict", str(case), "-o", str(tmp_path / "out")]) == 0
    made = json.loads((tmp_path / "out" / case.name / "prediction.json").read_text(encoding="utf-8"))
    assert made["volumes_ml"]["core"] is None
    assert "whole tumour only" in made["not_known"]["core"]


def test_files_may_be_named_one_by_one(case, tmp_path):
    words = [w for s in SERIES for w in (f"--{s}", str(case / f"{s}.nii.gz"))]
    words += ["--mask", str(case / "seg.nii.gz"), "--id", "named", "-o", str(tmp_path / "out")]
    assert main(["predict", *words]) == 0
    assert (tmp_path / "out" / "named" / "report.html").is_file()


def test_predict_never_writes_over_the_scans(phantom, tmp_path, capsys):
    """It replaces a case's folder: named so that this is the folder of the scans, it would delete them."""
    shutil.copytree(phantom, tmp_path / "cohort")
    before = sorted(p.name for p in (tmp_path / "cohort").rglob("*.nii.gz"))
    for words in ([str(tmp_path / "cohort" / "SIM-0001")], [str(tmp_path / "cohort" / "cohort.csv")]):
        assert main(["predict", *words, "-o", str(tmp_path / "cohort")]) == 4
        assert "write somewhere else with -o" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "cohort").rglob("*.nii.gz")) == before


def test_a_prediction_may_be_made_again(case, tmp_path):
    assert main(["predict", str(case), "-o", str(tmp_path / "out")]) == 0
    assert main(["predict", str(case), "-o", str(tmp_path / "out")]) == 0


def test_tables_splits_and_cohorts_are_not_replaced(phantom, tmp_path, capsys):
    table = str(phantom / "cohort.csv")
    split = [
        "cohort",
        "split",
        table,
        "--target",
        "grade",
        "--folds",
        "2",
        "-o",
        str(tmp_path / "splits.json"),
    ]
    labels = tmp_path / "labels.csv"
    labels.write_text("ID,IDH\nSIM-0001,wildtype\n")
    index = ["cohort", "index", "--labels", str(labels), "-o", str(tmp_path / "cohort.csv")]
    made = ["cohort", "phantom", "-n", "1", "--spacing-mm", "6", "-o", str(tmp_path / "ph")]
    for words, file in ((index, "cohort.csv"), (made, "ph/cohort.csv")):
        assert main(words) == 0
        before = (tmp_path / file).read_bytes()
        assert main(words) == 2
        assert "is there already" in capsys.readouterr().err
        assert (tmp_path / file).read_bytes() == before
    (tmp_path / "splits.json").write_text("mine")
    assert main(split) == 2


def test_a_place_that_cannot_be_written_to_is_no_traceback(case, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["predict", str(case), "-o", str(tmp_path / "file")]) == 1
    assert "choose another -o" in capsys.readouterr().err


def test_a_table_of_semicolons_says_so(tmp_path, capsys):
    (tmp_path / "cohort.csv").write_text("case;patient\n1;1\n")
    assert main(["cohort", "check", str(tmp_path / "cohort.csv")]) == 4
    assert "semicolons" in capsys.readouterr().err


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("gliolens")


def test_one_bad_case_does_not_stop_the_others(phantom, tmp_path, capsys):
    shutil.copytree(phantom, tmp_path / "cohort")
    cut = tmp_path / "cohort" / "SIM-0002" / "SIM-0002_t1.nii.gz"
    cut.write_bytes(cut.read_bytes()[:2000])
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "cohort" / "cohort.csv"), "-o", str(out)]) == 3
    assert sorted(p.name for p in out.iterdir()) == ["SIM-0001", "SIM-0003", "SIM-0004", "failures.json"]
    assert list(json.loads((out / "failures.json").read_text())) == ["SIM-0002"]
    assert "SIM-0002" in capsys.readouterr().err


def test_an_id_that_would_leave_the_folder_is_refused(case, tmp_path):
    out = tmp_path / "out"
    words = ["predict", str(case), "-o", str(out)]
    assert main([*words, "--id", "../../elsewhere"]) == 4
    assert not (tmp_path / "elsewhere").exists()


# --- cohort ----------------------------------------------------------------------------------------------------


def test_index_check_split_export(phantom, tmp_path, capsys):
    table, split = tmp_path / "cohort.csv", tmp_path / "splits.json"
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "ID,IDH\nSIM-0001,IDH1 p.R132H\nSIM-0002,wildtype\nSIM-0003,mutated (NOS)\nSIM-0004,perhaps\n"
    )
    assert main(["cohort", "index", str(phantom), "--labels", str(labels), "-o", str(table)]) == 0
    shown = capsys.readouterr().out
    assert "4 cases" in shown
    assert "perhaps" in shown
    assert main(["cohort", "check", str(table), "--json"]) == 0
    assert {v["verdict"] for v in json.loads(capsys.readouterr().out)["verdicts"]} == {"ok"}
    assert main(["cohort", "split", str(table), "--target", "idh", "--kind", "holdout", "--test", "0.5", "-o",
                 str(split)]) == 4  # fmt: skip
    assert "wildtype" in capsys.readouterr().err  # one wildtype cannot be on both sides
    assert main(["cohort", "export", str(table), "--format", "monai", "-o", str(tmp_path / "list.json")]) == 0
    assert main(["cohort", "export", str(table), "-o", str(tmp_path / "nnunet")]) == 0
    assert len(list((tmp_path / "nnunet").rglob("*_0003.nii.gz"))) == 4


def test_the_program_itself_ends_in_130_when_interrupted(tmp_path):
    script = """
import gliolens.cli as cli
def stop(*words):
    raise KeyboardInterrupt
cli._run = stop
raise SystemExit(cli.main(["info"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130
    assert "goes on" in done.stderr


def test_the_installed_command_runs():
    command = Path(sys.executable).with_name("gliolens")
    done = subprocess.run(
        [command, "info"], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0
    assert "shape-resnet" in done.stdout
