"""Simulated and real patients side by side: makes the pictures of docs/simulator.md and docs/outline.md.

python benchmarks/pictures.py ../shared/data docs/pictures

The real patients are the examples of BrainLesion (Apache-2.0) and TCGA-DU-7294 of TCGA-LGG.
"""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from gliolens.cohorts.layouts.registry import read_case_folder
from gliolens.cohorts.phantom.cohort import simulate_case
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.foreground import foreground_of
from gliolens.labels import LABEL_TITLES, SERIES, SERIES_TITLES
from gliolens.loader import read_case
from gliolens.ops.geometry import bounding_box
from gliolens.outline import read_outliner

REAL = {"case_hgg_brats2023": "brats2023", "case_lgg_sri24": "brats2020"}
SIMULATED = (0, 1, 4)
"""Places in the cohort of seed 11, taken before anyone looked at them."""
COLOURS = ListedColormap(["#4fb3d9", "#f2d64b", "#d9482f"])
HEAD = {"color": "white", "fontsize": 11}


def patients(data):
    cohort, config = draw_cohort(max(SIMULATED) + 1, 11, PhantomConfig()), PhantomConfig()
    for i in SIMULATED:
        yield f"simulated: {cohort[i].grade}, {cohort[i].idh}", simulate_case(cohort[i], config)
    for name, scheme in REAL.items():
        row, _ = read_case_folder(data / name)
        yield f"real: {name}", read_case(replace(row, mask_scheme=scheme), need_mask=True)


def draw_row(axes, title, case, drawn):
    box = bounding_box(foreground_of(case))
    k = int((case.tumour > 0).sum(axis=(0, 1)).argmax())

    def cut(volume):
        return volume[box[0], box[1], k].T[::-1]

    inside = cut(foreground_of(case))
    for ax, name in zip(axes, SERIES, strict=False):
        image = cut(case.series[name])
        ax.imshow(image, cmap="gray", vmin=0, vmax=np.quantile(image[inside], 0.995))
    for ax, labels in zip(axes[4:], (case.tumour, drawn), strict=True):
        image = cut(case.series["flair"])
        ax.imshow(image, cmap="gray", vmin=0, vmax=np.quantile(image[inside], 0.995))
        ax.imshow(np.ma.masked_equal(cut(labels), 0), cmap=COLOURS, vmin=1, vmax=3, alpha=0.55)
    axes[0].text(0.02, 0.98, title, transform=axes[0].transAxes, va="top", **HEAD)


def main(data, out):
    out.mkdir(parents=True, exist_ok=True)
    outliner, everyone = read_outliner(), list(patients(data))
    figure, axes = plt.subplots(
        len(everyone), 6, figsize=(15, 3.0 * len(everyone)), facecolor="black", squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    for row, (title, case) in zip(axes, everyone, strict=True):
        draw_row(row, title, case, outliner.outline(replace(case, tumour=None, brain=None)).labels)
    heads = [*SERIES_TITLES.values(), "reference", "built-in outline"]
    for ax, title in zip(axes[0], heads, strict=True):
        ax.set_title(title, **HEAD)
    legend = ", ".join(
        f"{colour}: {LABEL_TITLES[i]}" for i, colour in enumerate(("blue", "yellow", "red"), 1)
    )
    figure.text(0.5, 0.005, legend, ha="center", **HEAD)
    figure.subplots_adjust(0.005, 0.02, 0.995, 0.965, 0.02, 0.03)
    figure.savefig(out / "simulated_and_real.jpg", dpi=70, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
