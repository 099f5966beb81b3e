"""The report: what stands in it, that it needs nothing beside it, and that left is on the right."""

import base64
import dataclasses
import io
import math
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from gliolens.case import Case, CaseRow, Grid, Prediction, Volume
from gliolens.errors import CaseError, ConfigError
from gliolens.labels import NOTICE, REGIONS
from gliolens.loader import read_case
from gliolens.report import figures
from gliolens.report.case_page import Answer, Measured, Score, verdict, write_case_report
from gliolens.report.figures import COLOURS, Cut, display, pixel_mm
from gliolens.report.page import write_bench_report
from gliolens.report.pictures import heat_in_tumour
from gliolens.report.words import in_ml, in_percent
from gliolens.stats.intervals import Interval, unknown

VOID = {"meta", "br", "img", "link", "hr", "input"}
NOTHING = Measured({}, {}, {}, {})


class Page(HTMLParser):
    """A parsed page: its text, tags and attributes; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"tags that never close: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def make_case(spacing=(1.0, 1.0, 3.0), shape=(44, 52, 18), **changes) -> Case:
    """A round head of noise with a bright tumour on the patient's left, anterior and superior."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-s * n / 2 for s, n in zip(spacing, shape, strict=True)]
    centred = np.stack(np.indices(shape), -1) / (np.array(shape) - 1) * 2 - 1
    head = (centred**2).sum(-1) < 0.8
    image = np.where(head, np.random.default_rng(0).uniform(80, 120, shape), 0).astype(np.float32)
    tumour = np.zeros(shape, np.uint8)
    d, h, w = shape
    tumour[d // 5 : d // 3, 3 * h // 5 : 3 * h // 4, 3 * w // 5 : 3 * w // 4] = 2
    tumour[d // 4 : d // 3, 2 * h // 3 : 3 * h // 4, 2 * w // 3 : 3 * w // 4] = 3
    image[tumour > 0] = 400
    grid = Grid(shape, affine)
    given = {"id": "case 1", "series": {"flair": image}, "tumour": tumour}
    return Case(grid=grid, source=grid, **given | changes)


def measure(case: Case) -> Measured:
    volumes, reasons = {}, {}
    for name in REGIONS:
        region = case.region(name)
        volumes[name] = None if region is None else float(np.count_nonzero(region)) * case.grid.voxel_ml
        if region is None:
            reasons[name] = "the mask is binary: it marks the whole tumour only"
    shape = {"Sphericity": 0.5, "MeshVolume": 1234.5, "Elongation": math.nan}
    return Measured(volumes, reasons | {"Elongation": "a single voxel"}, shape, {"MeshVolume": "mm^3"})


def predict(case: Case, /, **changes) -> Prediction:
    given = {
        "case": case.id,
        "method": "shape-resnet",
        "probabilities": {"idh": {"wildtype": 0.266, "mutant": 0.734}},
        "decisions": {"idh": "mutant"},
    }
    return Prediction(**given | changes)


def answer(prediction: Prediction) -> Answer:
    scores = [
        Score("shape-resnet", Interval(0.84, 0.78, 0.90)),
        Score("age alone", Interval(0.80, 0.74, 0.86), is_control=True),
    ]
    return Answer("idh", prediction, "55 patients", scores, ["this patient was in the training set"])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Page]:
    def write(case, measured=NOTHING, answers=(), provenance=None, notes=()) -> Page:
        path = tmp_path / "report.html"
        write_case_report(path, case, measured, answers, provenance or {}, notes)
        return Page(path.read_text(encoding="utf-8"))

    return write


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(png)).convert("RGB")).astype(int)


# --- the page ------------------------------------------------------------------------


def test_page_is_whole_without_anything_beside_it(write):
    case = make_case()
    heat = Volume(case.series["flair"], case.grid.affine)
    page = write(case, measure(case), [answer(predict(case, heatmaps={"Grad-CAM": heat}))], {"GlioLens": "0"})
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert ("meta", {"charset": "utf-8"}) in page.tags
    for _, attributes in page.tags:
        assert not {name for name in attributes if name.startswith("on")}
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert "url(" not in (attributes.get("style") or "")
    for image in page.images:
        assert image["alt"]
        png = base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,"), validate=True)
        assert pixels(png).std() > 5
    assert len(page.images) == 1 + 2 + 1 + 1  # one series, two other planes, the strip, the heatmap


def test_style_loads_nothing(write, tmp_path):
    write(make_case())
    style = (tmp_path / "report.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "@media print" in style
    assert "url(" not in style
    assert "@import" not in style


def test_notice_stands_at_head_and_foot(write):
    text = write(make_case()).text
    assert text.count(NOTICE) == 2
    assert "research use only" in NOTICE
    assert text.index(NOTICE) < text.index("Answers at a glance")
    assert text.endswith(NOTICE)


def test_hostile_names_are_shown_and_not_run(write):
    hostile = "<script>alert('x')</script> & \"Ünï/ø\" 症例"
    case = make_case(id=hostile, site="<img src=http://a>", history=("<b>bold</b>",))
    given = predict(case, method="<i>m</i>", evidence={"<u>e</u>": 1.0})
    page = write(case, measure(case), [answer(given)], {"<a href=http://b>": "</td>"}, ["<hr>"])
    assert f"Case {hostile}" in page.text
    for shown in ("<img src=http://a>", "<b>bold</b>", "<i>m</i>", "<u>e</u>", "<a href=http://b>", "<hr>"):
        assert shown in page.text
    assert not {"script", "hr", "a"} & {tag for tag, _ in page.tags}
    assert all((image["src"] or "").startswith("data:") for image in page.images)


def test_volumes_are_counts_times_voxel_volume(write):
    case = make_case((2.0, 1.5, 5.0))
    text = write(case, measure(case)).text
    voxel_ml = 2.0 * 1.5 * 5.0 / 1000
    assert case.tumour is not None
    whole = np.count_nonzero(case.tumour) * voxel_ml
    core = np.count_nonzero(case.tumour == 3) * voxel_ml
    assert f"Whole tumour {whole:.1f} 100 %" in text
    assert f"Tumour core {core:.1f} {100 * core / whole:.0f} %" in text
    assert whole > core > 0.1


def test_binary_mask_says_that_core_is_not_known(write):
    case = make_case(mask_scheme="binary")
    text = write(case, measure(case)).text
    for region in ("Tumour core", "Enhancing tumour"):
        assert f"{region} not known the mask is binary" in text
    assert "It marks the whole tumour only: core and enhancing tumour are not known." in text
    assert "necrotic or non-enhancing core" not in text.split("Pictures")[1].split("Axial slice")[0]


def test_unknown_shape_says_why(write):
    case = make_case()
    text = write(case, measure(case)).text
    assert "Elongation not known a single voxel" in text
    assert "Volume of the surface mesh 1,234 mm³" in text


def test_unknown_volume_needs_a_reason():
    for missing in (None, math.nan):
        with pytest.raises(ConfigError, match="core"):
            Measured({"whole": 1.0, "core": missing}, {}, {}, {})


def test_one_series_and_no_mask_says_so(write):
    case = make_case(tumour=None)
    page = write(dataclasses.replace(case, series={"t1ce": case.series["flair"]}))
    assert "No tumour outline was given or drawn" in page.text
    assert "Not given: T1, T2, FLAIR." in page.text
    assert "No volume was measured" in page.text
    assert "No trained run was named and no built-in answer" in page.text
    assert "--run RUN" in page.text
    assert len(page.images) == 1 + 2 + 1
    assert "(most tumour)" not in page.text


def test_empty_mask_says_so(write):
    case = make_case(tumour=np.zeros((44, 52, 18), np.uint8))
    assert "is empty: no voxel is marked" in write(case).text


def test_answer_shows_probabilities_decision_score_and_caution(write):
    case = make_case(targets={"idh": "wildtype"})
    text = write(case, measure(case), [answer(predict(case))]).text
    assert "IDH status trained run mutant at a probability of 73 %" in text
    assert "wildtype 27 % mutant 73 %" in text
    assert "0.84 (0.78 to 0.90)" in text
    assert "age alone (control) 0.80 (0.74 to 0.86)" in text
    assert "not clearly better than the control “age alone”" in text
    assert "this patient was in the training set" in text
    assert "On record for this case: wildtype ." in text
    assert "No trained run was named and no built-in answer" not in text


def test_decision_against_the_highest_probability_is_pointed_out(write):
    case = make_case()
    turned = predict(case, decisions={"idh": "wildtype"})
    words = "decides otherwise than the highest probability"
    assert words in write(case, answers=[answer(turned)]).text
    assert words not in write(case, answers=[answer(predict(case))]).text


def test_evidence_of_a_prediction_shared_by_two_answers_stands_once(write):
    case = make_case()
    both = {"idh": {"wildtype": 0.5, "mutant": 0.5}, "grade": {"LGG": 0.3, "HGG": 0.7}}
    decided = {"idh": "mutant", "grade": "HGG"}
    shared = predict(case, probabilities=both, decisions=decided, evidence={"age in years": -61.5})
    text = write(case, answers=[Answer(t, shared, "55 patients") for t in both]).text
    assert text.count("age in years −61.5") == 1
    assert "IDH status, Grade, shape-resnet" in text


def test_answers_that_do_not_fit_are_refused(tmp_path):
    case = make_case()
    with pytest.raises(ConfigError, match="idh, not grade"):
        Answer("grade", predict(case), "55 patients")
    stranger = answer(predict(case, case="another"))
    with pytest.raises(ConfigError, match="another"):
        write_case_report(tmp_path / "r.html", case, NOTHING, [stranger], {})
    assert list(tmp_path.iterdir()) == []


def test_flat_or_missing_series_is_refused(write):
    case = make_case()
    with pytest.raises(CaseError, match="all 0"):
        write(dataclasses.replace(case, series={"t1": np.zeros(case.grid.shape, np.float32)}))
    with pytest.raises(CaseError, match="no series"):
        write(dataclasses.replace(case, series={}))


def test_outline_drawn_on_another_grid_is_shown(write):
    case = make_case()
    assert case.tumour is not None
    coarse = Volume(case.tumour[::2, ::2, ::2], case.grid.affine @ np.diag([2.0, 2, 2, 1]))
    page = write(dataclasses.replace(case, tumour=None), answers=[answer(predict(case, labels=coarse))])
    assert "Outline: drawn by shape-resnet." in page.text
    assert "(most tumour)" in page.text


def test_heatmaps_that_show_nothing_or_are_too_many_are_named(write):
    case = make_case()
    empty = Volume(np.zeros(case.grid.shape, np.float32), case.grid.affine)
    some = Volume(case.series["flair"], case.grid.affine)
    maps = {"empty": empty, "a": some, "also empty": empty, "still empty": empty, "fifth": some}
    page = write(case, answers=[answer(predict(case, heatmaps=maps))])
    assert "empty: the map is zero everywhere" in page.text
    assert "fifth: not shown here" in page.text
    assert len(page.images) == 4 + 1
    broken = Volume(np.full(case.grid.shape, np.nan, np.float32), case.grid.affine)
    with pytest.raises(ConfigError, match="finite"):
        write(case, answers=[answer(predict(case, heatmaps={"broken": broken}))])


def test_the_share_of_the_heat_in_the_tumour_is_told(write):
    case = make_case()
    whole = case.region("whole")
    heat = np.where(whole, 3.0, 0.0).astype(np.float32)
    heat[~whole] -= 1.0  # what speaks against the answer is no heat
    heat[np.unravel_index(np.flatnonzero(~whole)[0], whole.shape)] = whole.sum()
    volume = Volume(heat, case.grid.affine)
    assert heat_in_tumour(case, volume) == pytest.approx(0.75)
    page = write(case, answers=[answer(predict(case, heatmaps={"Grad-CAM": volume}))])
    assert "75 % of the heat lies in the tumour" in page.text
    assert heat_in_tumour(dataclasses.replace(case, tumour=None), volume) is None
    assert heat_in_tumour(case, Volume(np.zeros_like(heat), case.grid.affine)) is None


# --- words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "control", "level", "word"),
    [
        (Interval(0.9, 0.85, 0.95), Interval(0.6, 0.5, 0.7), "good", "than every control"),
        (Interval(0.8, 0.7, 0.9), Interval(0.75, 0.65, 0.85), "weak", "overlap"),
        (Interval(0.8, 0.7, 0.9), Interval(0.85, 0.75, 0.9), "weak", "no better than the control"),
        (Interval(0.6, 0.45, 0.75), Interval(0.5, 0.4, 0.6), "weak", "chance"),
        (Interval(0.8, 0.7, 0.9), None, "unknown", "no control"),
        (Interval(0.8, 0.7, 0.9), unknown("one site"), "unknown", "no control"),
        (unknown("one class"), Interval(0.5, 0.4, 0.6), "unknown", "not known"),
        (unknown("one patient", 0.8), Interval(0.5, 0.4, 0.6), "unknown", "no interval"),
    ],
)
def test_verdict(run, control, level, word):
    scores = [Score("run", run)] + ([Score("age", control, is_control=True)] if control else [])
    found, sentence = verdict(scores)
    assert found == level
    assert word in sentence


@given(st.floats(0, 1))
def test_per_cent_never_claims_certainty(share):
    text = in_percent(share)
    assert text not in ("0 %", "100 %")
    if text[0].isdigit():
        assert abs(int(text.removesuffix(" %")) - 100 * share) <= 0.5 + 1e-9


@given(st.floats(0, 2000))
def test_millilitres_have_one_decimal_and_something_is_never_nothing(volume):
    text = in_ml(volume)
    if text == "<0.1":
        assert 0 < volume < 0.05
    else:
        assert text == f"{volume:.1f}"
        assert (text == "0.0") == (volume == 0)


# --- pictures ------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 6)] * 3), st.data())
def test_display_puts_left_right_and_up_top(shape, data):
    i, j, k = (data.draw(st.integers(0, n - 1)) for n in shape)
    voxels = np.zeros(shape)
    voxels[i, j, k] = 1
    # Voxels are counted from the patient's left, posterior and inferior.
    from_right, from_front, from_top = (n - 1 - v for n, v in zip(shape, (i, j, k), strict=True))
    assert np.argwhere(display(voxels, "axial", k)).tolist() == [[from_front, from_right]]
    assert np.argwhere(display(voxels, "coronal", j)).tolist() == [[from_top, from_right]]
    assert np.argwhere(display(voxels, "sagittal", i)).tolist() == [[from_top, from_front]]


@pytest.mark.parametrize(
    ("plane", "to_right", "to_top"),
    [("axial", True, True), ("coronal", True, True), ("sagittal", False, True)],
)
def test_tumour_on_the_left_front_and_top_lies_there_in_the_picture(plane, to_right, to_top):
    case = make_case(tumour=None)
    scene = figures.scene(case, None)
    where = np.argwhere(case.series["flair"] > 300).mean(axis=0)
    cut = Cut(plane, int(where[figures.PLANES[plane]]))
    grey = pixels(figures.series_picture(scene, "flair", cut)).min(axis=2)
    grey[:, :12] = grey[:, -40:] = grey[:40] = grey[-60:] = 0  # the letters and the scale bar
    rows, columns = np.nonzero(grey > 230)
    assert rows.size > 100
    assert (columns.mean() > grey.shape[1] / 2) == to_right
    assert (rows.mean() < grey.shape[0] / 2) == to_top


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_ball_in_millimetres_is_round_in_the_picture(plane):
    spacing, shape = (1.0, 1.5, 5.0), (100, 66, 20)
    mm = np.stack(np.indices(shape), -1) * spacing - np.array([50.0, 50, 50])
    radius = np.sqrt((mm**2).sum(-1))
    image = np.where(radius < 42, np.where(radius < 25, 900, 100 - radius), 0).astype(np.float32)
    case = make_case(spacing, shape, series={"t1": image}, tumour=None)
    assert pixel_mm(spacing, plane) == {"axial": (1.5, 1), "coronal": (5, 1), "sagittal": (5, 1.5)}[plane]
    scene = figures.scene(case, None)
    png = pixels(figures.series_picture(scene, "t1", figures.central_cut(scene, plane)))
    size = [(s.stop - s.start) * mm for s, mm in zip(scene.box, spacing, strict=True)]
    across, up = (n for axis, n in enumerate(size) if axis != figures.PLANES[plane])
    assert png.shape[1] / png.shape[0] == pytest.approx(across / up, rel=0.01)
    middle = png.min(axis=2)[png.shape[0] // 2], png.min(axis=2)[:, png.shape[1] // 2]
    wide, high = (np.count_nonzero(line[40:-40] > 128) for line in middle)
    assert wide == pytest.approx(high, rel=0.15)
    assert wide == pytest.approx(50 / across * png.shape[1], rel=0.15)


def test_overlay_has_the_colours_of_the_legend_and_the_plain_slice_has_none():
    case = make_case()
    scene = figures.scene(case, case.tumour)
    png = pixels(figures.series_picture(scene, "flair", Cut("axial", 12)))
    plain, marked = np.array_split(png, 2, axis=1)
    for label in (2, 3):
        colour = np.array([int(COLOURS[label][n : n + 2], 16) for n in (1, 3, 5)])
        assert (np.abs(marked - colour).max(axis=2) < 12).sum() > 50
        assert (np.abs(plain - colour).max(axis=2) < 12).sum() == 0


def test_central_slice_has_most_tumour_and_the_strip_runs_across_it():
    case = make_case()
    assert case.tumour is not None
    tumour = np.zeros_like(case.tumour)
    tumour[10:14, 20:24, 3:17] = 2
    tumour[8:20, 18:30, 11] = 2
    scene = figures.scene(case, tumour)
    assert figures.central_cut(scene, "axial").index == 11
    cuts = [cut.index for cut in figures.strip_cuts(scene)]
    assert len(cuts) == 6
    assert cuts == sorted(cuts)
    assert 3 <= cuts[0] < cuts[-1] <= 16
    tumour[...] = 0
    tumour[9, 9, 4:6] = 1
    assert [cut.index for cut in figures.strip_cuts(figures.scene(case, tumour))] == [4, 5]


def test_of_equally_strong_voxels_one_in_the_middle_is_cut_through():
    """A map of one number a slice is as strong at the edge of the image as in the head."""
    heat = np.zeros((21, 31, 9), np.float32)
    heat[..., 6] = -1.0
    assert {cut.plane: cut.index for cut in figures.heat_cuts(heat)} == {
        "axial": 6,
        "coronal": 15,
        "sagittal": 10,
    }


def test_heatmap_is_cut_at_its_strongest_voxel_and_signed_maps_are_centred():
    heat = np.zeros((6, 7, 8), np.float32)
    heat[1, 2, 3], heat[4, 4, 4] = -5, 2
    assert figures.heat_cuts(heat) == [Cut("axial", 3), Cut("coronal", 2), Cut("sagittal", 1)]
    _, scale = figures.heat_scale(heat)
    assert (scale.vmin, scale.vmax) == (-5, 5)
    _, scale = figures.heat_scale(np.abs(heat))
    assert (scale.vmin, scale.vmax) == (0, 5)


# --- the bench's page ------------------------------------------------------------------------


def test_bench_page_shows_table_figures_and_controls(tmp_path):
    case = make_case()
    png = figures.series_picture(figures.scene(case, None), "flair", Cut("axial", 9))
    table = [
        {"method": "<b>m</b>", "AUC": Interval(0.84, 0.78, 0.9), "folds": 5, "is_control": False},
        {"method": "site alone", "AUC": math.nan, "why": "one site", "is_control": True},
    ]
    path = tmp_path / "bench.html"
    write_bench_report(path, "A & B", table, [("Curves <1>", png)], {"GlioLens": "0"}, ["a < b"])
    page = Page(path.read_text(encoding="utf-8"))
    assert "<b>m</b> 0.84 (0.78 to 0.90) 5" in page.text
    assert "site alone not known one site" in page.text
    assert "is_control" not in page.text
    assert "Shaded rows are controls" in page.text
    assert [image["alt"] for image in page.images] == ["Curves <1>"]
    assert page.text.count(NOTICE) == 2
    assert ("tr", {"class": "control"}) in page.tags


def test_bench_figure_that_is_no_png_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no PNG"):
        write_bench_report(tmp_path / "b.html", "t", [], [("c", b"GIF89a")], {}, [])
    assert list(tmp_path.iterdir()) == []


# --- real scans ------------------------------------------------------------------------


def hgg(folder: Path) -> CaseRow:
    names = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
    scans = folder / "case_hgg_brats2023"
    files = {series: scans / f"{name}.nii.gz" for series, name in names.items()}
    return CaseRow("hgg", "hgg", files, mask=scans / "segmentation.nii.gz")


def lower_grade(folder: Path) -> CaseRow:
    name = "TCGA-CS-4941"
    scans = folder / "tcga_lgg" / name
    files = {series: scans / f"{name}_{series}.nii.gz" for series in ("t1", "t1ce", "flair")}
    return CaseRow(name, name, files, mask=scans / f"{name}_seg.nii.gz", mask_scheme="binary")


@pytest.mark.parametrize("row", [hgg, lower_grade])
def test_real_case_fits_in_four_megabytes(shared_data, tmp_path, row):
    case = read_case(row(shared_data))
    assert case.tumour is not None
    heat = Volume((case.tumour > 0).astype(np.float32), case.grid.affine)
    many = predict(case, heatmaps={str(n): heat for n in range(6)})
    path = tmp_path / "report.html"
    write_case_report(path, case, measure(case), [answer(many)], {})
    assert path.stat().st_size < 4e6
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.images) == len(case.series) + 2 + 1 + 4


def test_report_needs_no_torch():
    code = "import sys, gliolens.report.page, gliolens.report.case_page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
