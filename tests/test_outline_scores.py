"""Outlines of a method scored beside the built-in network's, from single cases to the command line."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from gliolens import outline_scores
from gliolens.case import Volume
from gliolens.cli import main
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig
from gliolens.io.nifti import read_labels
from gliolens.io.tables import read_cohort
from gliolens.loader import read_case
from gliolens.outline_scores import outline_rows, plain_outlines, summary, write_outlines
from gliolens.report.terminal import print_outlines

QUICK = [
    "--scale", "demo", "--edge", "32", "--voxel-mm", "6", "--widths-2d", "8", "16", "--widths-3d", "8", "16",
    "--epochs-2d", "6", "--epochs-3d", "6", "--epochs-slices", "1", "--slices", "6", "--rate", "5e-3",
]  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("p"), 16, seed=2, config=PhantomConfig(spacing_mm=5.0))


def scores(method, patient, region, value):
    row = {"method": method, "case": f"{patient} at noon", "patient": patient, "region": region}
    return {
        **row,
        "dice": value,
        "iou": value,
        "hd95_mm": 3.0,
        "surface_dice": value,
        "lesionwise_dice": value,
    }


def test_an_outline_is_scored_where_it_and_the_mask_can_tell(cohort):
    row = read_cohort(cohort)[0]
    case = read_case(row)
    drawn = Volume(case.tumour, case.grid.affine)
    rows = outline_rows("me", row, drawn)
    assert [(r["region"], r["dice"], r["hd95_mm"]) for r in rows][:2] == [("whole", 1, 0), ("core", 1, 0)]
    assert [r["region"] for r in outline_rows("me", row, drawn, drawn_scheme="binary")] == ["whole"]


def test_means_are_over_the_cases_that_count():
    table = pd.DataFrame([
        scores("me", "a", "whole", 0.5), scores("me", "b", "whole", 0.9), scores("me", "c", "whole", math.nan),
        scores("me", "a", "enhancing", math.nan),
    ])  # fmt: skip
    whole, enhancing = summary(table, seed=0)
    assert (whole["n"], whole["dice"].value) == (2, pytest.approx(0.7))
    assert whole["dice"].low == pytest.approx(0.5)
    assert enhancing["n"] == 0
    assert math.isnan(enhancing["dice"].value)
    plain = plain_outlines([whole, enhancing])
    assert plain[1]["dice_reason"] == "no case holds it, and none was drawn"
    assert plain[0]["hd95_mm"] == 3


def test_what_is_not_known_is_shown_with_its_reason(capsys):
    table = pd.DataFrame([scores("me", "a", "whole", 0.5), scores("me", "a", "core", math.nan)])
    print_outlines(summary(table, seed=0))
    shown = " ".join(capsys.readouterr().out.split())
    assert "0.50 (bounds not known)" in shown
    assert "not known" in shown
    assert "nan" not in shown


def test_a_case_called_na_keeps_its_name_and_the_built_in_network_is_asked_once(
    cohort, tmp_path, monkeypatch
):
    rows = read_cohort(cohort)[:2]
    drawn = pd.DataFrame([scores("me", "NA", "whole", 0.5), scores("me", rows[0].case, "whole", math.nan)])
    drawn["case"] = ["NA", rows[0].case]
    drawn.to_csv(tmp_path / "mine.csv", index=False)
    means = write_outlines(tmp_path, [tmp_path / "mine.csv", tmp_path / "absent.csv"], rows, seed=0)
    assert [(m["method"], m["region"], m["n"]) for m in means][:2] == [
        ("me", "whole", 1),
        ("built-in outline", "whole", 1),
    ]
    kept = pd.read_csv(tmp_path / "outlines.csv", keep_default_na=False)
    assert kept["case"].tolist()[:2] == ["NA", rows[0].case]
    monkeypatch.setattr(outline_scores, "read_case", None)
    again = write_outlines(tmp_path, [tmp_path / "mine.csv"], rows, seed=0)
    assert plain_outlines(again) == plain_outlines(means)


def test_where_no_outline_was_drawn_nothing_is_written(cohort, tmp_path):
    assert write_outlines(tmp_path, [tmp_path / "absent.csv"], read_cohort(cohort), seed=0) == []
    assert list(tmp_path.iterdir()) == []


def test_train_scores_outlines_and_predict_writes_them(cohort, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    words = ["train", "segmentation-fusion", str(cohort), "--target", "grade", "-o", str(run), *QUICK]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "built-in outline" in shown
    assert "lesion-wise Dice" in shown
    means = json.loads((run / "outlines.json").read_text())["means"]
    held_out = set(json.loads((run / "splits.json").read_text())["folds"][0]["test"])
    table = pd.read_csv(run / "outlines.csv")
    assert set(table["case"]) == held_out
    mine = table[(table["method"] == "segmentation-fusion") & (table["region"] == "whole")]
    assert means[0]["dice"] == pytest.approx(mine["dice"].mean())
    row = next(r for r in read_cohort(cohort) if r.case in held_out)
    assert main(["predict", str(cohort.parent / row.case), "-o", str(out), "--run", str(run)]) == 0
    drawn, _ = read_labels(out / row.case / "outlines" / "grade.nii.gz", row.case)
    case = read_case(row)
    assert drawn.volume.grid.shape == case.grid.shape
    overlap = outline_rows("again", row, drawn.volume)[0]["dice"]
    assert overlap == pytest.approx(mine.set_index("case").loc[row.case, "dice"], abs=0.02)
    assert {f.name for f in (out / row.case / "heatmaps").iterdir()} == {
        "grade-slices.nii.gz", "grade-networks-apart.nii.gz",
    }  # fmt: skip
    assert np.isin(drawn.volume.voxels, (0, 1, 2, 3)).all()
