"""`gliolens predict` where nothing but scans is given: outline, answers, and what the report says of both."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from gliolens.cli import main
from gliolens.cohorts.named import named_rows
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.errors import CohortError, ConfigError
from gliolens.infer import measure, predict
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.labels import NOTICE, SERIES, TARGETS
from gliolens.loader import read_case
from gliolens.nn.unet import UNet
from gliolens.outline import OUTPUTS, read_outliner, write_outliner

SCORES = [{"cohort": "cases of a test", "region": "whole", "n": 7, "dice": 0.62, "low": 0.5, "high": 0.7}]
CARD = {
    "widths": [4, 8, 8],
    "series": list(SERIES),
    "spacing_mm": 2.0,
    "thresholds": {"whole": 0.5, "core": 0.5, "enhancing": 0.5},
    "least_ml": 0.1,
    "flips": [0],
    "trained_on": "simulated images of a test",
    "steps": 1234,
    "finished": "2020-02-02",
    "scores": SCORES,
}


def write_net(folder: Path, **changes) -> Path:
    """A network with random weights, which draws something in every head."""
    torch.manual_seed(3)
    write_outliner(folder, UNet(8, len(OUTPUTS), CARD["widths"]), CARD | changes)
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    return write_net(tmp_path_factory.mktemp("net") / "draws")


@pytest.fixture(scope="module")
def blind(tmp_path_factory) -> Path:
    """A network that never finds a tumour."""
    torch.manual_seed(3)
    found = UNet(8, len(OUTPUTS), CARD["widths"])
    with torch.no_grad():
        found.head.weight.zero_()
        found.head.bias.copy_(torch.tensor([-9.0, -9.0, -9.0, 9.0]))
    folder = tmp_path_factory.mktemp("net") / "blind"
    write_outliner(folder, found, CARD)
    return folder


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, 2, config=PhantomConfig(spacing_mm=4.0))
    return folder


@pytest.fixture
def scans(phantom, tmp_path) -> Path:
    """A folder of one case without a mask."""
    folder = tmp_path / "in" / "SIM-0001"
    shutil.copytree(phantom / "SIM-0001", folder)
    next(folder.glob("*seg*")).unlink()
    return folder


def predicted(out: Path, *words: object) -> dict:
    """Call predict, and read what it wrote."""
    assert main(["predict", *map(str, words), "-o", str(out)]) == 0
    case = next(f for f in out.iterdir() if f.is_dir())
    made = json.loads((case / "prediction.json").read_text(encoding="utf-8"))
    return made | {"folder": case, "page": (case / "report.html").read_text(encoding="utf-8")}


def voxels(file: Path) -> np.ndarray:
    return np.asanyarray(nib.load(file).dataobj)


def test_a_case_without_a_mask_gets_an_outline_on_its_own_grid(scans, net, tmp_path):
    for file in scans.iterdir():
        turned = nib.as_closest_canonical(nib.load(file)).as_reoriented([[1, -1], [2, 1], [0, -1]])
        turned.set_sform(turned.affine, 1)
        turned.set_qform(turned.affine, 1)
        nib.save(turned, file)
    made = predicted(tmp_path / "out", scans, "--outline", net)
    given = nib.load(next(scans.iterdir()))
    labels = nib.load(made["folder"] / "labels.nii.gz")
    assert labels.shape == given.shape
    assert np.allclose(labels.affine, given.affine)
    assert made["labels"]["source"] == "drawn by the network in draws"
    rows = named_rows([scans], {}, None, None)
    wanted = read_outliner(net).outline(read_case(rows[0])).labels
    again = nib.as_closest_canonical(labels)
    assert np.array_equal(np.asanyarray(again.dataobj), wanted)
    assert np.count_nonzero(wanted) > 0


def test_volumes_are_those_of_the_outline_and_probabilities_are_per_cent(scans, net, tmp_path):
    made = predicted(tmp_path / "out", scans, "--outline", net)
    labels, ml = voxels(made["folder"] / "labels.nii.gz"), 0.064
    assert made["volumes_ml"]["whole"] == pytest.approx(np.count_nonzero(labels) * ml, rel=1e-5)
    assert made["volumes_ml"]["enhancing"] == pytest.approx(np.count_nonzero(labels == 3) * ml, rel=1e-5)
    regions = made["outline"]["regions"]
    assert regions["whole"]["ml"] == pytest.approx(made["volumes_ml"]["whole"])
    assert regions["whole"]["surely_ml"] <= regions["whole"]["ml"] <= regions["whole"]["possibly_ml"]
    for name, labelled in (
        ("whole", labels > 0),
        ("core", np.isin(labels, (1, 3))),
        ("enhancing", labels == 3),
    ):
        share = voxels(made["folder"] / "probabilities" / f"{name}.nii.gz")
        assert share.dtype == np.uint8
        assert share.max() <= 100
        assert share[labelled].min() >= 50


def test_the_report_says_who_drew_the_outline_and_how_well_he_does(scans, net, tmp_path):
    made = predicted(tmp_path / "out", scans, "--outline", net)
    for words in (
        "the network in draws drew the outline",
        "simulated images of a test",
        "1,234 steps",
        "finished 2020-02-02",
        "cases of a test",
        "0.62 (0.50 to 0.70)",
        "No radiologist has seen this outline",
        "Where the outline is unsure",
        NOTICE,
    ):
        assert words in made["page"]
    assert made["outline"]["scores_on_real_cases"] == SCORES
    assert made["outline"]["weights_sha256"][:16] in made["provenance"]["outline"]
    assert any("outline drawn by the network in draws from t1, t1ce" in step for step in made["history"])


def test_missing_series_are_named(scans, net, tmp_path):
    for name in ("t1ce", "t1"):
        next(scans.glob(f"*_{name}.nii.gz")).unlink()
    made = predicted(tmp_path / "out", scans, "--outline", net)
    assert made["outline"]["missing_series"] == ["t1", "t1ce"]
    assert "Without T1 and T1 with contrast the outline is less sure" in made["page"]
    assert any("without t1, t1ce, which it was trained with" in step for step in made["history"])


def by_target(made: dict) -> dict:
    return {answer["target"]: answer for answer in made["built_in_answers"]}


def test_parts_that_need_contrast_are_not_known_without_it(scans, net, tmp_path):
    for name in ("t1ce", "t2"):
        next(scans.glob(f"*_{name}.nii.gz")).unlink()
    made = predicted(tmp_path / "out", scans, "--outline", net, "--age", "50")
    answers, parts = by_target(made), ("core", "enhancing", "necrotic", "oedema")
    assert voxels(made["folder"] / "labels.nii.gz").any()
    assert made["volumes_ml"]["whole"] > 0
    for name in parts:
        assert made["volumes_ml"][name] is None
        assert "without T1 with contrast" in made["not_known"][name]
    for target in ("grade", "codel_1p19q"):
        assert answers[target]["probabilities"] == {}
        assert "drawn without T1 with contrast" in answers[target]["abstained"]
    for target in ("idh", "who_grade"):
        assert "contrast" not in (answers[target]["abstained"] or "")
    assert "a guess here: tumour core, enhancing tumour" in made["page"]
    volumes = made["page"].split("<h2>Volumes</h2>")[1].split("</section>")[0]
    assert volumes.count("drawn without T1 with contrast") == len(parts)
    assert volumes.count("not known") == len(parts)


def test_without_flair_and_t2_the_whole_tumour_is_not_known(scans, net, tmp_path):
    for name in ("flair", "t2"):
        next(scans.glob(f"*_{name}.nii.gz")).unlink()
    made = predicted(tmp_path / "out", scans, "--outline", net, "--age", "50")
    assert made["volumes_ml"]["whole"] is None
    assert made["volumes_ml"]["enhancing"] is not None
    assert set(made["shape_whole_tumour"].values()) == {None}
    for name in ("whole", "oedema", "Sphericity", "VoxelVolume"):
        assert "without FLAIR and T2" in made["not_known"][name]
    for target in ("grade", "idh", "who_grade"):
        answer = by_target(made)[target]
        assert answer["probabilities"] == {}
        assert "drawn without FLAIR and T2" in answer["abstained"]
    assert "there is no tumour outline" not in made["page"]


def test_a_single_series_is_read(scans, net, tmp_path):
    flair = next(scans.glob("*_flair.nii.gz"))
    made = predicted(tmp_path / "out", "--flair", flair, "--id", "one", "--outline", net)
    assert made["outline"]["missing_series"] == ["t1", "t1ce", "t2"]
    assert voxels(made["folder"] / "labels.nii.gz").shape == voxels(flair).shape
    assert made["volumes_ml"]["whole"] > 0
    assert made["volumes_ml"]["core"] is None


@pytest.mark.parametrize("bfloat16", [True, False])
def test_the_precision_stands_beside_the_weights(bfloat16, scans, net, tmp_path, monkeypatch):
    monkeypatch.setattr("gliolens.outline.has_bfloat16", lambda: bfloat16)
    made = predicted(tmp_path / "out", scans, "--outline", net)
    kind = "bfloat16" if bfloat16 else "float32"
    assert f"computed in {kind} on " in made["provenance"]["outline"]
    assert made["outline"]["precision"].startswith(kind)
    assert f"computed in {kind} on " in made["page"]


# --- several cases ---------------------------------------------------------------------------------------------


@pytest.fixture
def cohort(phantom, tmp_path) -> Path:
    """A cohort table of two cases without masks; their scans may be spoilt."""
    shutil.copytree(phantom, tmp_path / "cohort")
    table = tmp_path / "cohort" / "cohort.csv"
    write_cohort(table, [replace(row, mask=None, mask_scheme=None) for row in read_cohort(table)])
    return table


def spoil(table: Path, case: str) -> Path:
    file = table.parent / case / f"{case}_t1.nii.gz"
    file.write_bytes(file.read_bytes()[:500])
    return file


def test_of_a_table_the_case_that_fails_is_listed_and_the_other_answered(cohort, net, tmp_path, capsys):
    file, out = spoil(cohort, "SIM-0001"), tmp_path / "out"
    whole = (cohort.parent / "SIM-0002" / "SIM-0002_t1.nii.gz").read_bytes()
    words = ["predict", str(cohort), "--outline", str(net), "-o", str(out), "--json"]
    assert main(words) == 3
    told = json.loads(capsys.readouterr().out)
    assert list(told["reports"]) == ["SIM-0002"]
    assert list(told["failures"]) == ["SIM-0001"]
    assert sorted(f.name for f in out.iterdir()) == ["SIM-0002", "failures.json"]
    failures = json.loads((out / "failures.json").read_text(encoding="utf-8"))
    assert failures.keys() == {"SIM-0001"}
    assert file.name in failures["SIM-0001"]
    made = json.loads((out / "SIM-0002" / "prediction.json").read_text(encoding="utf-8"))
    assert made["labels"]["source"] == "drawn by the network in draws"
    file.write_bytes(whole)
    assert main(words) == 0
    assert sorted(f.name for f in out.iterdir()) == ["SIM-0001", "SIM-0002"]


def test_where_all_cases_fail_they_are_listed_too(cohort, net, tmp_path):
    out = tmp_path / "out"
    for case in ("SIM-0001", "SIM-0002"):
        spoil(cohort, case)
    assert main(["predict", str(cohort), "--outline", str(net), "-o", str(out)]) == 4
    assert [f.name for f in out.iterdir()] == ["failures.json"]
    assert json.loads((out / "failures.json").read_text(encoding="utf-8")).keys() == {"SIM-0001", "SIM-0002"}


def test_a_strange_age_of_one_case_does_not_stop_the_others(phantom, tmp_path):
    first, second = read_cohort(phantom / "cohort.csv")
    done = predict([replace(first, age=float("inf")), second], tmp_path / "out")
    assert list(done.reports) == ["SIM-0002"]
    assert "age inf" in str(done.failures["SIM-0001"])
    assert done.failures["SIM-0001"].case == "SIM-0001"


def test_where_no_tumour_is_found_the_report_says_so_and_nothing_is_answered(scans, blind, tmp_path):
    made = predicted(tmp_path / "out", scans, "--outline", blind)
    assert not voxels(made["folder"] / "labels.nii.gz").any()
    assert made["volumes_ml"]["whole"] == 0
    assert made["outline"]["found_tumour"] is False
    assert "No tumour was found" in made["page"]
    assert {a["target"] for a in made["built_in_answers"]} >= {"idh", "codel_1p19q"}
    for answer in made["built_in_answers"]:
        assert answer["probabilities"] == {}
        assert "no tumour" in answer["abstained"]
    assert "Why: no tumour found" in made["page"]


def test_a_mask_that_is_given_is_used_and_no_network_asked(phantom, tmp_path, capsys):
    made = predicted(tmp_path / "out", phantom / "SIM-0001", "--outline", tmp_path / "nowhere")
    given = voxels(next((phantom / "SIM-0001").glob("*seg*")))
    assert np.array_equal(voxels(made["folder"] / "labels.nii.gz"), given)
    assert made["outline"] is None
    assert "the mask that was given" in made["labels"]["source"]
    assert "drew the outline" not in made["page"]
    assert not (made["folder"] / "probabilities").exists()
    assert "--outline is not used" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_a_network_is_refused(name, scans, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(scans), "--outline", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 1
    assert "card.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- the built-in answers --------------------------------------------------------------------------------------


def test_every_target_is_answered_with_its_source_and_scores(phantom, tmp_path):
    made = predicted(tmp_path / "out", phantom / "SIM-0001", "--age", "61")
    answers = made["built_in_answers"]
    assert {a["target"] for a in answers} >= {"who_grade", "idh", "codel_1p19q"}
    assert made["predictions"] == []
    for answer in answers:
        assert answer["trained_on"]
        assert answer["trained_on"] in made["page"]
        assert any(row["control"] for row in answer["scores_on_real_patients"])
        assert set(answer["could_be"]) <= set(TARGETS[answer["target"]])
        if answer["abstained"]:
            assert answer["probabilities"] == {}
            assert answer["could_be"] == []
        else:
            assert sum(answer["probabilities"].values()) == pytest.approx(1)
            assert answer["evidence_log_odds"]
    assert any(not a["abstained"] for a in answers)
    assert "real patients" in made["page"]


def test_age_is_used_from_the_flag_or_the_table_and_asked_for_without(phantom, tmp_path):
    def idh(out, *words) -> dict:
        return next(a for a in predicted(tmp_path / out, *words)["built_in_answers"] if a["target"] == "idh")

    case = phantom / "SIM-0001"
    young, old, none = idh("a", case, "--age", 25), idh("b", case, "--age", 80), idh("c", case)
    assert young["probabilities"]["mutant"] > old["probabilities"]["mutant"]
    assert any("age" in name for name in young["evidence_log_odds"])
    assert not any("age" in name for name in none["evidence_log_odds"])
    assert any("age is not known" in caution for caution in none["cautions"])
    row = next(r for r in read_cohort(phantom / "cohort.csv") if r.case == "SIM-0001")
    table = phantom / "one.csv"
    write_cohort(table, [type(row)(**{**row.__dict__, "age": 25.0})])
    assert idh("d", table)["probabilities"] == young["probabilities"]


@pytest.mark.parametrize("age", [-1.0, 131.0, float("nan")])
def test_no_age_of_a_person_is_refused(age, phantom):
    with pytest.raises(ConfigError, match="0 to 130"):
        named_rows([phantom / "SIM-0001"], {}, None, None, age)
    with pytest.raises(ConfigError, match="an age for one"):
        named_rows([phantom / "cohort.csv"], {}, None, None, 54.0)


def test_the_flag_and_the_table_take_the_same_ages(phantom):
    oldest = named_rows([phantom / "SIM-0001"], {}, None, None, 130.0)[0]
    write_cohort(phantom / "oldest.csv", [oldest])
    assert read_cohort(phantom / "oldest.csv")[0].age == 130.0
    with pytest.raises(CohortError, match="0 to 130"):
        write_cohort(phantom / "older.csv", [replace(oldest, age=131.0)])


def test_what_is_measured_is_what_the_answers_are_asked_with(phantom):
    case = read_case(named_rows([phantom / "SIM-0001"], {}, None, None)[0])
    known = measure(case).known
    assert known["whole"] == pytest.approx(known["VoxelVolume"] / 1000, rel=1e-4)
    assert known["whole"] == pytest.approx(known["core"] + known["oedema"])
    assert known["core"] == pytest.approx(known["necrotic"] + known["enhancing"])


def test_a_run_answers_its_target_and_the_built_in_predictors_the_others(
    phantom, net, blind, scans, tmp_path
):
    write_phantom(tmp_path / "cohort", 24, config=PhantomConfig(spacing_mm=6.0))
    run = tmp_path / "my-run"
    words = [
        "train",
        "controls",
        str(tmp_path / "cohort" / "cohort.csv"),
        "--target",
        "idh",
        "--kind",
        "volume",
    ]
    assert main([*words, "-o", str(run)]) == 0
    made = predicted(tmp_path / "out", scans, "--outline", net, "--run", run)
    assert [set(p["probabilities"]) for p in made["predictions"]] == [{"idh"}]
    assert "idh" not in {a["target"] for a in made["built_in_answers"]}
    assert "codel_1p19q" in {a["target"] for a in made["built_in_answers"]}
    assert "trained and scored on masks that were given" in made["page"]
    nothing = predicted(tmp_path / "none", scans, "--outline", blind, "--run", run)
    assert nothing["predictions"] == []
    assert "my-run (idh) was not asked: no tumour was found" in nothing["page"]


# --- a real case -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory) -> Path:
    """The scans of a real high-grade case without its mask."""
    folder = tmp_path_factory.mktemp("real") / "patient"
    shutil.copytree(shared_data / "case_hgg_brats2023", folder)
    (folder / "segmentation.nii.gz").unlink()
    return folder


def test_a_real_case_is_read_from_files_to_report(real, net, tmp_path):
    made = predicted(tmp_path / "out", real, "--outline", net, "--age", "54")
    labels = nib.load(made["folder"] / "labels.nii.gz")
    given = nib.load(real / "t1c.nii.gz")
    assert labels.shape == given.shape
    assert np.allclose(labels.affine, given.affine)
    assert not np.asanyarray(labels.dataobj)[np.asanyarray(given.dataobj) == 0].mean() > 0.01
    sizes = [f.stat().st_size for f in (made["folder"] / "probabilities").iterdir()]
    assert len(sizes) == 3
    assert sum(sizes) < 4e6
    assert "54 years" in made["page"]


def test_redrawn_beside_a_mask_it_says_how_well_the_two_agree(phantom, net, tmp_path):
    given = predicted(tmp_path / "given", phantom / "SIM-0001")
    assert given["outline"] is None
    made = predicted(tmp_path / "out", phantom / "SIM-0001", "--redraw", "--outline", net)
    drawn = voxels(made["folder"] / "labels.nii.gz") > 0
    mask = voxels(phantom / "SIM-0001" / "SIM-0001_seg.nii.gz") > 0
    assert not np.array_equal(drawn, mask)
    dice = 2 * np.count_nonzero(drawn & mask) / (np.count_nonzero(drawn) + np.count_nonzero(mask))
    assert made["outline"]["dice_with_given_mask"]["whole"] == pytest.approx(dice, abs=1e-6)
    assert f"whole tumour {dice:.2f}" in made["page"]
    assert made["labels"]["source"] == "drawn by the network in draws"


def test_without_out_it_writes_into_predictions(phantom, net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(phantom / "SIM-0002"), "--outline", str(net)]) == 0
    assert (tmp_path / "predictions" / "SIM-0002" / "report.html").is_file()
