"""The report of one case as a single HTML file that needs nothing beside it.

Pictures, style and text all lie in the file: no script, no font, no address is loaded when it is opened.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gliolens.answers import Answered, quantities_of
from gliolens.case import Case, Prediction
from gliolens.errors import ConfigError
from gliolens.io.store import write_text
from gliolens.labels import REGION_TITLES, SERIES, SERIES_TITLES, TARGET_TITLES
from gliolens.report import pictures
from gliolens.report.built_in import Drawn, answer_card, answer_evidence, outline_section
from gliolens.report.figures import scene
from gliolens.report.scores import Score, on_scale, track, verdict
from gliolens.report.words import figure, in_ml, in_percent, in_words, is_unknown, render, share_of

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

    @property
    def known(self) -> dict[str, float]:
        """Every volume and shape feature that is known, by name."""
        return {
            n: v for n, v in {**self.volumes_ml, **self.shape}.items() if v is not None and not math.isnan(v)
        }

    def __post_init__(self) -> None:
        silent = [n for n, v in self.volumes_ml.items() if is_unknown(v) and not self.reasons.get(n)]
        if silent:
            raise ConfigError(f"volumes {', '.join(silent)} are unknown; each needs its reason in `reasons`")


def write_case_report(
    path: Path,
    case: Case,
    measured: Measured,
    answers: Sequence[Answer],
    provenance: Mapping[str, str],
    notes: Sequence[str] = (),
    *,
    built_in: Sequence[Answered] = (),
    drawn: Drawn | None = None,
) -> None:
    """Write the report of one case, whole or not at all.

    Args:
        path: the HTML file.
        case: scans and, where known, tumour labels; without them the first prediction's labels are shown.
        measured: volumes and shape of the outline.
        answers: of runs, one a target; may be empty.
        provenance: files, versions, runs, hashes and dates by name.
        notes: sentences that stand above the pictures.
        built_in: the built-in answers, to targets that no run answers.
        drawn: the outline's origin where a network drew it; the case's labels are then that outline.

    Raises:
        CaseError: the case has no series, or one is flat.
        ConfigError: an answer belongs to another case, a target is answered twice, or a heatmap is not finite.
    """
    _check_answers(case, answers, built_in)
    predictions = _predictions(answers)
    content: dict[str, Any] = {
        "title": f"Case {case.id}",
        "facts": _facts(case),
        "missing": [SERIES_TITLES[s] for s in SERIES if s not in case.series],
        "notes": notes,
        "drawn": outline_section(drawn),
        "volumes": _volume_rows(measured),
        "shape": _shape_rows(measured),
        "provenance": provenance,
        "history": case.history,
    }
    shown = _pictures(case, predictions, drawn)
    told = _answers(case, measured, answers, built_in, predictions)
    write_text(path, render("case.html", **content, **shown, **told))


def _pictures(
    case: Case, predictions: Sequence[tuple[str, Prediction]], drawn: Drawn | None
) -> dict[str, Any]:
    """What the page shows: the outline, slices, where it is unsure, heatmaps."""
    outline = pictures.outline(case, [p for _, p in predictions], drawn)
    shown = scene(case, outline.labels)
    return {
        "outline": outline,
        "pictures": pictures.slices(case, shown),
        "unsure": pictures.unsure(case, shown, drawn),
        "heatmaps": pictures.heatmaps(case, shown, predictions),
    }


def _answers(
    case: Case,
    measured: Measured,
    answers: Sequence[Answer],
    built_in: Sequence[Answered],
    predictions: Sequence[tuple[str, Prediction]],
) -> dict[str, Any]:
    """A card for each answer, and the numbers they rest on."""
    quantities = _quantities(case, measured)
    return {
        "cards": [
            *(_card(answer, case) for answer in answers),
            *(answer_card(a, case.targets.get(a.target), quantities) for a in built_in),
        ],
        "evidence": [(titles, p.method, _evidence(p)) for titles, p in predictions if p.evidence],
        "contributions": [answer_evidence(a, quantities) for a in built_in if a.evidence],
    }


def _check_answers(case: Case, answers: Sequence[Answer], built_in: Sequence[Answered]) -> None:
    strangers = sorted({a.prediction.case for a in answers} - {case.id})
    if strangers:
        raise ConfigError(f"answers to {', '.join(strangers)} do not belong in the report of {case.id}")
    twice = sorted({a.target for a in answers} & {a.target for a in built_in})
    if twice:
        raise ConfigError(
            f"{', '.join(twice)} answered by a run and by the built-in predictor: leave one out"
        )


def _quantities(case: Case, measured: Measured) -> dict[str, float]:
    """What the built-in answers look at, as measured on this case."""
    age = case.covariates.get("age")
    return {**quantities_of(measured.known), **({} if age is None else {"age": float(age)})}


# --- answers ----------------------------------------------------------------------


def _card(answer: Answer, case: Case) -> dict[str, Any]:
    classes = answer.prediction.probabilities[answer.target]
    decision = answer.prediction.decisions[answer.target]
    level, sentence = verdict(answer.scores)
    return {
        "title": TARGET_TITLES.get(answer.target, answer.target),
        "by": "trained run",
        "abstained": "",
        "rests_on": "",
        "measured_on": "",
        "decision": decision,
        "decided_at": in_percent(classes[decision]) if decision in classes else "",
        "bars": [(c, 100 * p, in_percent(p), c == decision) for c, p in classes.items()],
        "even": 100 / len(classes),
        "against_top": decision != max(classes, key=lambda c: classes[c]),
        "recorded": case.targets.get(answer.target),
        "scores": [(s, in_words(s.auc), track(s.auc)) for s in answer.scores],
        "chance": on_scale(0.5),
        "level": level,
        "verdict": sentence,
        "cautions": answer.cautions,
        "method": answer.prediction.method,
        "trained_on": answer.trained_on,
    }


def _predictions(answers: Iterable[Answer]) -> list[tuple[str, Prediction]]:
    """Each prediction once, with the titles of the targets it answers here."""
    found: dict[int, tuple[list[str], Prediction]] = {}
    for answer in answers:
        titles, _ = found.setdefault(id(answer.prediction), ([], answer.prediction))
        titles.append(TARGET_TITLES.get(answer.target, answer.target))
    return [(", ".join(titles), prediction) for titles, prediction in found.values()]


def _evidence(prediction: Prediction) -> list[tuple[str, str]]:
    return [(n, "not known" if math.isnan(v) else figure(v)) for n, v in prediction.evidence.items()]


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
            rows.append((title, in_ml(value), share_of(value / whole) if whole else "", ""))
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
            rows.append((title, figure(value), unit, meaning))
    return rows
