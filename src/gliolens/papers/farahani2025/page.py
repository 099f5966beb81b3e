"""The report: Dice and AUCs beside the published ones, what each part adds, and what the network looks at."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from gliolens.about import software
from gliolens.case import Case
from gliolens.io.nifti import write_volume
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import mts_unet
from gliolens.methods.mts_unet import Config
from gliolens.ops.geometry import resample
from gliolens.papers.farahani2025.networks import FULL, SOUND, networks
from gliolens.report.paper_page import Section, png_of, table_section, write_paper_report
from gliolens.stats.intervals import Interval

Results = Mapping[str, Sequence[Mapping[str, Any]]]
_ABLATION: Final = (
    "paper: as published. sound: features and the comparison averaged inside the tumour found, the heads told what it "
    "is made of (composition), classes weighted, series left out and patients varied in training, answers that can be "
    "true together; CMD's attention has no ReLU. alone: one question, or the outline, with nothing else to learn. "
    "Neither: the mean of the deepest stage and one linear layer. Composition alone: neither TAFE nor CMD."
)
_COMPARED: Final = (
    "The same cases, DeLong; p of all rows are one family, corrected after Holm. Networks of the paper's kind stand "
    "against its full network; sound ones, baselines and controls against the full sound one."
)
_SIGN: Final = (
    "How much of what is bright on T2 the FLAIR suppresses, per cent of the tumour without what enhances, in the masks "
    "given: median and quartiles. Cysts and necrosis are suppressed too: read it where nothing enhances. The last row "
    "of a group is the AUC by which the number tells IDH-mutant tumours with intact 1p/19q from the others."
)


def write_page(run: Run, results: Results, test: Cases, config: Config, others: int) -> None:
    """Write `report.html`, and the maps of one test case in `heatmaps/`.

    Args:
        run: its folder is where; target and seed are told.
        results: every table, as rows by name.
        test: patients tested.
        config: of the full network.
        others: how many further cases were learnt from.
    """
    further = f"{others} further cases teach an outline or another target." if others else ""
    published = (
        "Published: 2,249 patients of seven data sets; how they were divided is not known. Learnt from scratch here, "
        "where no file of weights is given (--weights, --set weights_series=...)."
    )
    if config.mismatch == "none":
        published = f"CMD is left out: the cohort has {', '.join(config.series)}. {published}"
    sections = [
        _table("Patients", results["patients"], further),
        _table("Beside the published numbers", results["headline"], published),
        _table("What each part adds", results["ablation"], _ABLATION),
        Section("The same in a picture", figures=[
            ("AUC with 95 % intervals; dashed, chance.", ablation_figure(results["ablation"])),
        ]),
        _table("Compared on the same cases", results["compared"], _COMPARED),
        _table("Baselines, controls and ceilings", results["baselines"]),
        _table("Leave one site out", results["sites"],
                 "Of sites with fewer than five cases of a class no AUC is shown."),
        _table("T2-FLAIR mismatch", results["mismatch"], _SIGN),
        Section("What the network looks at", figures=[(
            "A test case: T2, FLAIR, the outline given (white) and drawn (orange); where TAFE takes its features; "
            "CMD's attention. As NIfTI in heatmaps/.", maps_figure(run, test, config))]),
    ]  # fmt: skip
    told = {
        "divided by": run.target, "series": ", ".join(config.series), "feature size": config.feature_size,
        "cube": f"{config.edge} voxels of {config.voxel_mm} mm", "epochs": config.epochs,
        "weights": config.weights or "none", **software(),
    }  # fmt: skip
    write_paper_report(
        run.folder / "report.html", "Farahani et al. 2025: multi-task Swin UNETR, reproduced", sections,
        {k: str(v) for k, v in told.items()},
    )  # fmt: skip


def ablation_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """AUC of every network, a panel a target: a PNG."""
    targets = [column for column in rows[0] if column.startswith("AUC, ")]
    figure = Figure(figsize=(3.6 * len(targets), 0.32 * len(rows) + 1.2), layout="constrained")
    for ax, target in zip(np.atleast_1d(figure.subplots(1, len(targets), sharey=True)), targets, strict=True):
        for height, row in enumerate(rows):
            value = row[target]
            if isinstance(value, Interval):
                ax.plot([value.low, value.high], [height, height], color="0.6", lw=2, solid_capstyle="round")
                ax.plot(value.value, height, "o", color="C0" if row["group"] == "paper" else "C1", ms=5)
        ax.axvline(0.5, color="0.5", ls="--", lw=1)
        ax.set(xlim=(0, 1.02), title=target)
        ax.set_yticks(range(len(rows)), [row["network"] for row in rows])
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    return png_of(figure)


def maps_figure(run: Run, test: Cases, config: Config) -> bytes:
    """What the full networks of both kinds look at in the first test case: a PNG; the maps are written as NIfTI."""
    case = replace(test, series=config.series, need_mask=True)[0]
    named = {n.name: n.folder for n in networks(config, ())}
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 4)
    for row, name in zip(axes, (FULL, SOUND), strict=True):
        model = mts_unet.load(run.folder / "networks" / named[name] / "model")
        maps = {key.partition("-")[2]: volume for key, volume in model.explain(case).items()}
        for kind, volume in maps.items():
            write_volume(run.folder / "heatmaps" / f"{named[name]}-{kind}.nii.gz", volume, case.source)
        drawn = model.predict(case).labels
        assert drawn is not None
        heat = {kind: resample(volume, case.grid, order=1) for kind, volume in maps.items()}
        _panels(row, name, case, drawn.voxels, heat)
    return png_of(figure)


def _panels(axes: Any, name: str, case: Case, drawn: np.ndarray, heat: Mapping[str, np.ndarray]) -> None:
    assert case.tumour is not None
    height = int((case.tumour > 0).sum(axis=(0, 1)).argmax())
    images = (
        {"T2": case.series["t2"], "FLAIR": case.series["flair"]}
        if {"t2", "flair"} <= set(case.series)
        else {}
    )
    named = {"tafe-weights": "TAFE: weights", "cmd-attention": "CMD: attention"}
    images |= {title: heat[kind] for kind, title in named.items() if kind in heat}
    for ax in axes[len(images) :]:
        ax.set_axis_off()
    for ax, (title, image) in zip(axes, images.items(), strict=False):
        ax.imshow(image[:, :, height].T, origin="lower", cmap="gray" if title in ("T2", "FLAIR") else "magma")
        for mask, colour in ((case.tumour > 0, "white"), (drawn > 0, "orange")):
            if mask[:, :, height].any():
                ax.contour(mask[:, :, height].T, [0.5], colors=[colour], linewidths=1)
        ax.set(title=f"{name}: {title}", xticks=[], yticks=[])


def _shown(column: str, value: object) -> object:
    if column.startswith("p") and isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    return value


_table = partial(table_section, shown=_shown)
