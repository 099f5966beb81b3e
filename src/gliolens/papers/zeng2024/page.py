"""The report: the paper's tables and figures, with what is known of the published numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gliolens.about import software
from gliolens.io.store import whole_file
from gliolens.method import Run
from gliolens.methods.shape_resnet import Config
from gliolens.papers.zeng2024.figures import confusion_figure, heat_figure, roc_figure
from gliolens.papers.zeng2024.networks import BEST, TABLES, rows_of
from gliolens.papers.zeng2024.trials import Trial
from gliolens.report.paper_page import Section, write_paper_report
from gliolens.stats.intervals import Interval

_COLUMNS: Final = (
    "Acc: accuracy. APCA: mean of the two classes' accuracies. SEN, SPE, PPV, NPV: sensitivity, specificity and "
    "predictive values. AUC, slices: over single slices instead of cases. AUC, best epoch: of the epoch that is best "
    "on the test cases, as the paper picks its models; optimistic, and nothing else here is chosen by it. Intervals: "
    "95 %; of the AUC DeLong's, or of 2,000 bootstrap draws of patients where one has several cases; of the others "
    "of such draws. The two further AUCs have none."
)
_READ_RIGHT: Final = (
    "In 14 of the paper's 15 rows the columns SEN and SPE hold the PPV and the NPV, as gliolens check finds. Of its "
    "row 2-D, all series it prints .981 and .653: the PPV and NPV of a sensitivity of .860 and a specificity of "
    ".941. Compare with the four columns here. Its positive class is HGG."
)

Results = Mapping[str, Sequence[Mapping[str, Any]]]


def write_page(
    run: Run, results: Results, trials: Mapping[str, Trial], pictures: Sequence[Mapping[str, Any]], config: Config,
    excluded: Mapping[str, Mapping[str, str]],
) -> None:  # fmt: skip
    """Write `report.html` and `figures/`.

    Args:
        run: its folder is where; target, classes and seed are told.
        results: every table, as rows by name.
        trials: every network, by name.
        pictures: what `maps.shown` gives.
        config: the paper's network in this run.
        excluded: why cases are not there, by kind and case.
    """
    every = [trial.network for trial in trials.values()]
    panels = {title: [trials[n.name] for n in rows_of(t, every)] for t, title in TABLES.items()}
    figures = {
        "figure3-roc": roc_figure(panels, seed=run.seed),
        "figure4-confusion": confusion_figure([*trials.values()], run.classes),
        "figure5-heatmaps": heat_figure(pictures),
    }
    for name, png in figures.items():
        with whole_file(run.folder / "figures" / f"{name}.png") as unfinished:
            unfinished.write_bytes(png)
    told = {
        "target": f"{run.target}, positive class {run.classes[1]}", "series": ", ".join(config.series),
        "slices": f"{config.pixels} x {config.pixels} pixels of {config.pixel_mm} mm, ResNet-{config.depth}",
        "volumes": f"{config.planes} x {config.pixels} x {config.pixels} voxels of {config.pixel_mm} mm",
        **software(),
    }  # fmt: skip
    sections = [
        _patients(results, excluded), *_tables(results), _controls(results),
        Section("Figure 3: ROC curves", figures=[("Bands: the middle 95 % of curves of patients drawn anew within "
                                                  "their class.", figures["figure3-roc"])]),
        Section("Figure 4: confusion matrices", figures=[("Test patients; darker is a larger share of the true class.",
                                                          figures["figure4-confusion"])]),
        _heat(results, figures["figure5-heatmaps"]), _survival(run), _cost(results),
        _section("How much the shape should weigh", results["share"],
                 "Gate: the share g that it gives the shape's 14 features, the image's having 1 - g; 0.5 is the "
                 "paper's 14 and 14. The last layer can undo any share, so the second column says what came of it: "
                 "the shape's part of the logit that decides, in absolute size."),
        _section("What the gate adds", results["gate"], "DeLong, the same cases."),
    ]  # fmt: skip
    title = "Zeng et al. 2024: ResNet-50 with explicit tumour size, reproduced"
    write_paper_report(run.folder / "report.html", title, sections, {k: str(v) for k, v in told.items()})


def _patients(results: Results, excluded: Mapping[str, Mapping[str, str]]) -> Section:
    notes = [
        f"{len(cases)} cases {kind}" + (f": {_reasons(cases)}" if cases else "")
        for kind, cases in excluded.items()
    ]
    return _section("Patients", results["patients"], *notes, "Published: 78 LGG and 286 HGG to learn from, 34 and "
                    "121 to test.")  # fmt: skip


def _reasons(cases: Mapping[str, str]) -> str:
    return "; ".join(f"{case}: {why}" for case, why in list(cases.items())[:10]) + (
        "; the others stand in results.json" if len(cases) > 10 else ""
    )


def _tables(results: Results) -> list[Section]:
    best = ", ".join(f"{name} {value}" for name, value in BEST.items())
    more = {
        "1A": (_COLUMNS, _READ_RIGHT),
        "1B": (
            f"Published of the last row: {best}. One error among 155 patients forces an AUC of .9706 or more.",
        ),
        "3": (
            "The first row is that of all series in Table 1B. No augmentation leaves out flips, shift, rotation and "
            "noise; the enlarged crop of the rarer class and its repetition stay.",
        ),
        "ours": (
            "Learned share: a gate weighs shape against image. Whole brain: nothing is blanked. No class magnified: "
            "the paper enlarges the training slices of the rarer class only, which gives the class away; here all "
            "are, within 20 %.",
        ),
    }
    return [_section(title, results[table], *more.get(table, ())) for table, title in TABLES.items()]


def _controls(results: Results) -> Section:
    return _section("Controls", results["controls"], "The same patients to learn from and to test. First the paper's "
                    "network; its AUC divides by the class shares it was given, as those of the others.")  # fmt: skip


def _heat(results: Results, figure: bytes) -> Section:
    caption = (
        "The slice with most tumour of the first test patient of each class; outline of the tumour in white. "
        "Grad-CAM, and by how much the decision's log odds fall where a square is blanked; as a share of the "
        "most. Nothing is drawn where nothing falls. As NIfTI "
        "on the scan's grid in heatmaps/."
    )
    notes = (
        "Heat in the tumour: share of Grad-CAM's heat over the frame; beside it the share it would have were it "
        "even. Likeness: Spearman's correlation, over what is seen, with the maps of the same network with its "
        "weights shuffled, which knows nothing; near 1, the map would show the picture and not what was learnt. A "
        "flat map of shuffled weights counts as 0.",
    )
    section = _section("Figure 5: heatmaps", results["maps"], *notes)
    return Section(section.title, section.notes, section.columns, section.rows, figures=[(caption, figure)])


def _survival(run: Run) -> Section:
    title, folder = "Figure 6: survival by class", run.folder / "survival"
    if (folder / "kaplan-meier.png").is_file():
        caption = "Kaplan-Meier curves of all patients of the cohort whose survival is known; see survival/."
        return Section(title, figures=[(caption, (folder / "kaplan-meier.png").read_bytes())])
    return Section(title, [f"Not drawn: {(folder / 'missing.txt').read_text(encoding='utf-8').strip()}"])


def _cost(results: Results) -> Section:
    return _section(
        "What the third dimension costs", results["cost"],
        "Memory: weights, gradients, Adam's moments and all that the way back needs, in 32 bits, counted tensor by "
        "tensor; a device takes more for itself. Seconds: the same patients, one after the other on this machine.",
    )  # fmt: skip


def _shown(column: str, value: object) -> object:
    """Published numbers with all digits; of an interval without bounds the value; a dash for what is not defined."""
    if column == "published AUC":
        return "" if value is None else f"{value:.4f}"
    if isinstance(value, Interval) and math.isnan(value.low):
        return "\N{EM DASH}" if math.isnan(value.value) else f"{value.value:.2f}"
    return value


def _section(title: str, rows: Sequence[Mapping[str, Any]], *notes: str) -> Section:
    columns = list(rows[0])
    return Section(title, notes, columns, [[_shown(c, row[c]) for c in columns] for row in rows])
