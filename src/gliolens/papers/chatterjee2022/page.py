"""The report: Tables 1 to 5 and Figures 4 to 7 beside the published numbers, and what the third class was worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gliolens.about import software
from gliolens.papers.chatterjee2022.networks import NAMES, PARAMETERS, contradictions
from gliolens.papers.chatterjee2022.tables import confusion
from gliolens.report.paper_page import Section, png_of, table_section, write_paper_report

Results = Mapping[str, Sequence[Mapping[str, Any]]]
_F1: Final = (
    "Mean and standard deviation of F1 over three folds, as the paper prints them; then the macro F1 over the tests of "
    "all folds with its interval over patients. Published: F1 of LGG, HGG and healthy, macro and weighted, of the "
    "paper and of its retelling; both on BraTS 2019 and IXI. The paper's pretrained MC3 has an accuracy of .9698. "
    "Pretrained networks that start from simulated tumours are not those that were published."
)
_LITERATURE: Final = (
    "Accuracy as published, every paper on patients of its own: higher is not better. With healthy people among them "
    "accuracy is of three classes; of LGG against HGG, whoever calls every tumour the commonest has the last row's."
)


def write_page(
    out: Path, results: Results, answers: Mapping[str, Sequence[pd.DataFrame]], classes: Sequence[str],
    about: Mapping[str, str], verdict: str,
) -> None:  # fmt: skip
    """Write `report.html`.

    Args:
        out: where.
        results: every table, as rows by name.
        answers: of each network, one table a fold.
        classes: those told apart.
        about: what the provenance says beside the software.
        verdict: what the third class was worth; empty where there is none.
    """
    sections = [
        table_section("Patients", results["patients"]),
        table_section("Parameters (Table 1)", results["parameters"], "One channel and three classes."),
        table_section("F1 (Tables 2 to 5)", results["f1"], _F1),
        Section("Where published numbers contradict each other", contradictions()),
        Section("Confusion matrices (Figures 4 to 6)", ["The tests of all folds."],
                figures=[("Rows are true classes, columns what was decided.", confusion_figure(answers, classes))]),
        Section("Precision, recall, specificity and F1 (Figure 7)",
                figures=[("The tests of all folds.", heat_figure(results["scores"]))]),
        table_section("Light against heavy augmentation", results["distortion"]),
        table_section("Beside the literature (Table 6)", results["literature"], _LITERATURE)
        if results["literature"] else None,
        table_section("Is the healthy class free?", results["free"], verdict) if results["free"] else None,
        table_section("Controls and ceilings", results["controls"]),
    ]  # fmt: skip
    write_paper_report(
        out / "report.html", "Chatterjee et al. 2022: spatio-spatial networks, reproduced",
        [s for s in sections if s is not None], {**about, **software()},
    )  # fmt: skip


def parameters() -> list[dict[str, Any]]:
    """Table 1: counted here, and as the retelling has them."""
    return [
        {"network": NAMES[kind], "parameters": f"{mine:,}", "retelling": f"{theirs:,}"}
        for kind, (mine, theirs) in PARAMETERS.items()
    ]


def confusion_figure(answers: Mapping[str, Sequence[pd.DataFrame]], classes: Sequence[str]) -> bytes:
    """Confusion matrices of every network: a PNG."""
    wide = 3
    figure = Figure(figsize=(3 * wide, 2.9 * -(-len(answers) // wide)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(-(-len(answers) // wide), wide)).ravel()
    for ax in axes[len(answers) :]:
        ax.set_axis_off()
    for ax, (name, folds) in zip(axes, answers.items(), strict=False):
        counts = confusion(pd.concat(folds, ignore_index=True), classes)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (i, j), n in np.ndenumerate(counts):
            ax.text(j, i, str(n), ha="center", va="center", color="white" if share[i, j] > 0.6 else "black")
        ax.set(title=name, xticks=range(len(classes)), yticks=range(len(classes)))
        ax.set_xticklabels(classes), ax.set_yticklabels(classes)
    return png_of(figure)


def heat_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Scores of every class by network, one colour for each value: a PNG."""
    columns = [c for c in rows[0] if c != "network"]
    values = np.array([[row[c] for c in columns] for row in rows], float)
    figure = Figure(figsize=(0.72 * len(columns) + 2, 0.5 * len(rows) + 1.8), layout="constrained")
    ax = figure.subplots()
    ax.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (i, j), v in np.ndenumerate(values):
        ax.text(
            j,
            i,
            "–" if np.isnan(v) else f"{v:.2f}",
            ha="center",
            va="center",
            color="white" if v < 0.6 else "black",
        )
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    ax.set_yticks(range(len(rows)), [row["network"] for row in rows])
    return png_of(figure)
