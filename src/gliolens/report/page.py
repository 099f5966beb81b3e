"""The report of one case, and of one bench, as a single HTML file that needs nothing beside it.

Pictures, style and text all lie in the file: no script, no font, no address is loaded when it is opened.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gliolens.case import Case, Prediction
from gliolens.errors import ConfigError
from gliolens.io.store import write_text
from gliolens.labels import NOTICE, REGION_TITLES, SERIES, SERIES_TITLES, TARGET_TITLES
from gliolens.report import pictures
from gliolens.report.figures import scene
from gliolens.stats.intervals import Interval

VOLUME_TITLES: Final = MappingProxyType(
    {**REGION_TITLES, "necrotic": "Necrotic or non-enhancing core", "oedema": "Oedema"}
)
"""Names that `Measured.volumes_ml` uses, in the order of the table; other names are shown as they are."""
SHAPE_MEANINGS: Final = MappingProxyType(
    {
        "MeshVolume": ("Volume of the surface mesh", "space inside the smoothed surface"),
        "VoxelVolume": ("Volume of the voxels", "number of voxels times the volume of one"),
        "SurfaceArea": ("Surface area", "area of the surface mesh"),
        "SurfaceVolumeRatio": ("Surface to volume", "large for small or ragged tumours"),
        "Sphericity": ("Sphericity", "1 is a ball; less the more ragged or stretched"),
        "Maximum3DDiameter": ("Largest diameter", "between any two points of the surface"),
        "Maximum2DDiameterSlice": ("Largest axial diameter", "within one axial slice"),
        "Maximum2DDiameterColumn": ("Largest coronal diameter", "within one coronal slice"),
        "Maximum2DDiameterRow": ("Largest sagittal diameter", "within one sagittal slice"),
        "MajorAxisLength": ("Major axis", "longest axis of the ellipsoid that fits the voxels"),
        "MinorAxisLength": ("Minor axis", "second axis of that ellipsoid"),
        "LeastAxisLength": ("Least axis", "shortest axis of that ellipsoid"),
        "Elongation": ("Elongation", "second to longest axis: 1 is round, 0 is a line"),
        "Flatness": ("Flatness", "shortest to longest axis: 1 is a ball, 0 is flat"),
    }
)
"""Title and plain meaning of each feature of `radiomics.shape`."""

_AUC_SCALE = (0.2, 1.0)  # ends of the drawn scale


@dataclass(frozen=True)
class Score:
    """One row of how far to trust an answer: an AUC with its interval, of the run or of a control."""

    name: str
    auc: Interval
    is_control: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """One target answered by one trained run.

    Attributes:
        target: name from `labels.TARGETS`.
        prediction: the run's answer to this case.
        trained_on: what the run learned from, in words.
        scores: AUC of the run and of its controls on patients held out.
        cautions: what limits this answer, e.g. that the patient was in the training set.

    Raises:
        ConfigError: the prediction does not answer the target.
    """

    target: str
    prediction: Prediction
    trained_on: str
    scores: Sequence[Score] = ()
    cautions: Sequence[str] = ()

    def __post_init__(self) -> None:
        answered = self.prediction.probabilities.keys() & self.prediction.decisions.keys()
        if self.target not in answered:
            raise ConfigError(
                f"{self.prediction.method} answers {', '.join(sorted(answered)) or 'nothing'}, "
                f"not {self.target}"
            )


@dataclass(frozen=True)
class Measured:
    """What was measured on the outline.

    Attributes:
        volumes_ml: millilitres by the names of `VOLUME_TITLES`; None (or NaN) is unknown.
        reasons: why a volume or shape feature is unknown, by its name.
        shape: features of `radiomics.shape`.
        shape_units: their units; empty where they have none.

    Raises:
        ConfigError: a volume is unknown without a reason.
    """

    volumes_ml: Mapping[str, float | None]
    reasons: Mapping[str, str]
    shape: Mapping[str, float]
    shape_units: Mapping[str, str]

    def __post_init__(self) -> None:
        silent = [n for n, v in self.volumes_ml.items() if _unknown(v) and not self.reasons.get(n)]
        if silent:
            raise ConfigError(f"volumes {', '.join(silent)} are unknown; each needs its reason in `reasons`")


def write_case_report(
    path: Path,
    case: Case,
    measured: Measured,
    answers: Sequence[Answer],
    provenance: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write the report of one case, whole or not at all.

    Args:
        path: the HTML file.
        case: scans and, where known, tumour labels; without them the first prediction's labels are shown.
        measured: volumes and shape of the outline.
        answers: one a target; may be empty.
        provenance: files, versions, runs, hashes and dates by name.
        notes: sentences that stand above the pictures.

    Raises:
        CaseError: the case has no series, or one is flat.
        ConfigError: an answer belongs to another case, or a heatmap is not finite.
    """
    strangers = sorted({a.prediction.case for a in answers} - {case.id})
    if strangers:
        raise ConfigError(f"answers to {', '.join(strangers)} do not belong in the report of {case.id}")
    predictions = _predictions(answers)
    outline = pictures.outline(case, [p for _, p in predictions])
    shown = scene(case, outline.labels)
    page = _render(
        "case.html",
        title=f"Case {case.id}",
        facts=_facts(case),
        missing=[SERIES_TITLES[s] for s in SERIES if s not in case.series],
        cards=[_card(answer, case) for answer in answers],
        notes=notes,
        outline=outline,
        pictures=pictures.slices(case, shown),
        heatmaps=pictures.heatmaps(case, shown, predictions),
        volumes=_volume_rows(measured),
        shape=_shape_rows(measured),
        evidence=[(titles, p.method, _evidence(p)) for titles, p in predictions if p.evidence],
        provenance=provenance,
        history=case.history,
    )
    write_text(path, page)


def write_bench_report(
    path: Path,
    title: str,
    table: Sequence[Mapping[str, Any]],
    figures: Sequence[tuple[str, bytes]],
    provenance: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write a table with its figures as one page, whole or not at all.

    Args:
        path: the HTML file.
        title: the page's title.
        table: one mapping a row; columns are all keys in order of appearance; a row whose `is_control` is
            true is set apart, and that column itself is not shown. None and NaN are shown as not known.
        figures: caption and PNG of each figure.
        provenance: versions, runs, hashes and dates by name.
        notes: sentences that stand above the table.

    Raises:
        ConfigError: a figure is no PNG.
    """
    names = [c for c in dict.fromkeys(key for row in table for key in row) if c != "is_control"]
    rows = [(bool(row.get("is_control")), [_cell(row.get(name, "")) for name in names]) for row in table]
    page = _render(
        "bench.html",
        title=title,
        columns=[(name, any(_is_number(row.get(name)) for row in table)) for name in names],
        rows=rows,
        pictures=[pictures.picture(png, caption) for caption, png in figures],
        provenance=provenance,
        notes=notes,
    )
    write_text(path, page)


def _render(template: str, **content: object) -> str:
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return pages.get_template(template).render(notice=NOTICE, **content)


# --- numbers in words ----------------------------------------------------------------------


def _unknown(value: float | None) -> bool:
    return value is None or math.isnan(value)


def in_ml(volume: float) -> str:
    """Millilitres with one decimal; what would round to nothing is `<0.1`."""
    return "<0.1" if 0 < volume < 0.05 else f"{volume:.1f}"


def in_percent(share: float) -> str:
    """Whole per cent; certainty is not claimed at either end.

    >>> in_percent(0.734), in_percent(0.9991), in_percent(0.0)
    ('73 %', '>99 %', '<1 %')
    """
    if share < 0.01:
        return "<1 %"
    return ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def in_words(auc: Interval) -> str:
    """An AUC with its interval, two decimals; what is unknown says why."""
    if math.isnan(auc.value):
        return f"not known: {auc.reason}"
    if math.isnan(auc.low):
        return f"{auc.value:.2f} (no interval: {auc.reason})"
    return f"{auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})"


def _share(share: float) -> str:
    """Whole per cent of something measured."""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _figure(value: float) -> str:
    """A measured number with three figures or more."""
    if value == 0 or 0.001 <= abs(value) < 1:
        text = f"{value:.3f}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number | Interval) and not isinstance(value, bool)


def _cell(value: object) -> str:
    """Text of a table's cell."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "not known"
    if isinstance(value, Interval):
        return in_words(value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return _figure(float(value))
    return str(value)


# --- answers ----------------------------------------------------------------------


def verdict(scores: Sequence[Score]) -> tuple[str, str]:
    """How far the run's score can be trusted: `good`, `weak` or `unknown`, and a sentence.

    Chance is an AUC of 0.5. Intervals are compared by whether they overlap, which is no formal test and errs
    towards doubt.
    """
    runs = [s.auc for s in scores if not s.is_control and not math.isnan(s.auc.value)]
    controls = [s for s in scores if s.is_control and not math.isnan(s.auc.value)]
    if not runs:
        return (
            "unknown",
            "No score on patients held out is known for this run: how far to trust it is not known.",
        )
    run = max(runs, key=lambda auc: auc.value)
    if math.isnan(run.low):
        return "unknown", "The run's AUC has no interval: it cannot be told from chance (0.50)."
    if run.low <= 0.5:
        return "weak", "Not shown to be better than chance: the interval reaches an AUC of 0.50."
    if not controls:
        return "unknown", "Better than chance (AUC 0.50), but no control stands beside it."
    best = max(controls, key=lambda s: s.auc.value)
    if best.auc.value >= run.value:
        return "weak", f"Better than chance, but no better than the control “{best.name}”."
    if not best.auc.high < run.low:
        return (
            "weak",
            f"Better than chance; not clearly better than the control “{best.name}” (intervals overlap).",
        )
    return "good", "Better than chance and than every control: the intervals do not overlap."


def _card(answer: Answer, case: Case) -> dict[str, object]:
    classes = answer.prediction.probabilities[answer.target]
    decision = answer.prediction.decisions[answer.target]
    level, sentence = verdict(answer.scores)
    return {
        "title": TARGET_TITLES.get(answer.target, answer.target),
        "decision": decision,
        "decided_at": in_percent(classes[decision]) if decision in classes else "",
        "bars": [(c, 100 * p, in_percent(p), c == decision) for c, p in classes.items()],
        "even": 100 / len(classes),
        "against_top": decision != max(classes, key=lambda c: classes[c]),
        "recorded": case.targets.get(answer.target),
        "scores": [(s, in_words(s.auc), _track(s.auc)) for s in answer.scores],
        "chance": _on_scale(0.5),
        "level": level,
        "verdict": sentence,
        "cautions": answer.cautions,
        "method": answer.prediction.method,
        "trained_on": answer.trained_on,
    }


def _on_scale(auc: float) -> float:
    low, high = _AUC_SCALE
    return 100 * (min(max(auc, low), high) - low) / (high - low)


def _track(auc: Interval) -> tuple[float, float, float] | None:
    """Left end, width and middle of an interval on the drawn scale, in per cent; None where it is unknown."""
    if math.isnan(auc.value):
        return None
    low, high = (auc.value, auc.value) if math.isnan(auc.low) else (auc.low, auc.high)
    return _on_scale(low), _on_scale(high) - _on_scale(low), _on_scale(auc.value)


def _predictions(answers: Iterable[Answer]) -> list[tuple[str, Prediction]]:
    """Each prediction once, with the titles of the targets it answers here."""
    found: dict[int, tuple[list[str], Prediction]] = {}
    for answer in answers:
        titles, _ = found.setdefault(id(answer.prediction), ([], answer.prediction))
        titles.append(TARGET_TITLES.get(answer.target, answer.target))
    return [(", ".join(titles), prediction) for titles, prediction in found.values()]


def _evidence(prediction: Prediction) -> list[tuple[str, str]]:
    return [(n, "not known" if math.isnan(v) else _figure(v)) for n, v in prediction.evidence.items()]


# --- tables ----------------------------------------------------------------------


def _facts(case: Case) -> list[tuple[str, str]]:
    voxels, sizes = " × ".join(map(str, case.grid.shape)), " × ".join(f"{s:.4g}" for s in case.grid.spacing)
    age = case.covariates.get("age")
    facts = [
        ("Patient", case.patient),
        ("Site", case.site or "not known"),
        ("Age", "not known" if age is None else f"{age:.0f} years"),
        ("Sex", str(case.covariates.get("sex", "not known"))),
        ("Series", ", ".join(SERIES_TITLES[s] for s in SERIES if s in case.series)),
        ("Grid", f"{voxels} voxels of {sizes} mm"),
    ]
    if case.targets:
        known = ", ".join(f"{TARGET_TITLES[t]} {c}" for t, c in case.targets.items())
        facts.append(("On record", known + (f" ({case.label_scheme})" if case.label_scheme else "")))
    return facts


def _volume_rows(measured: Measured) -> list[tuple[str, str, str, str]]:
    """Title, millilitres, share of the whole tumour, and reason where unknown."""
    volumes = measured.volumes_ml
    order = [n for n in VOLUME_TITLES if n in volumes] + [n for n in volumes if n not in VOLUME_TITLES]
    whole = volumes.get("whole")
    rows = []
    for name in order:
        value, title = volumes[name], VOLUME_TITLES.get(name, name)
        if value is None or math.isnan(value):
            rows.append((title, "not known", "", measured.reasons[name]))
        else:
            rows.append((title, in_ml(value), _share(value / whole) if whole else "", ""))
    return rows


def _shape_rows(measured: Measured) -> list[tuple[str, str, str, str]]:
    """Title, value, unit and meaning of each feature."""
    rows = []
    for name, value in measured.shape.items():
        title, meaning = SHAPE_MEANINGS.get(name, (name, ""))
        unit = measured.shape_units.get(name, "").replace("^3", "³").replace("^2", "²")
        if math.isnan(value):
            rows.append((title, "not known", "", measured.reasons.get(name, meaning)))
        else:
            rows.append((title, _figure(value), unit, meaning))
    return rows
