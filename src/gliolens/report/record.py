"""What a prediction comes to, for a program to read: `prediction.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from gliolens.answers import Answered
from gliolens.case import Case
from gliolens.labels import LABEL_TITLES, NOTICE
from gliolens.report.built_in import Drawn, sureness
from gliolens.report.case_page import Answer, Measured
from gliolens.report.pictures import heat_in_tumour


def record(
    case: Case,
    measured: Measured,
    answers: Sequence[Answer],
    provenance: Mapping[str, str],
    *,
    built_in: Sequence[Answered] = (),
    drawn: Drawn | None = None,
) -> dict[str, Any]:
    """The content of `prediction.json`; the answers of runs and the built-in ones stand apart.

    Args:
        case: the case, with the labels that were measured.
        measured: volumes and shape.
        answers: of runs.
        provenance: files, versions, hashes and dates by name.
        built_in: the built-in answers.
        drawn: the outline's origin where a network drew it.
    """
    given = f"the mask that was given ({case.mask_scheme})"
    return {
        "notice": NOTICE,
        "case": case.id,
        "labels": {
            "file": "labels.nii.gz",
            "values": {"0": "background", **{str(k): v for k, v in LABEL_TITLES.items()}},
            "source": given if drawn is None else f"drawn by {drawn.by}",
        },
        "outline": None if drawn is None else _outline(drawn),
        "volumes_ml": measured.volumes_ml,
        "shape_whole_tumour": measured.shape,
        "not_known": measured.reasons,
        "predictions": [_answer(case, answer) for answer in answers],
        "built_in_answers": [_built_in(answered) for answered in built_in],
        "provenance": provenance,
        "history": case.history,
    }


def _outline(drawn: Drawn) -> dict[str, Any]:
    card = drawn.card
    return {
        "by": drawn.by,
        "found_tumour": drawn.found,
        "sure": sureness(drawn)[1],
        "regions": {
            name: {
                "ml": d.ml,
                "surely_ml": d.low_ml,
                "possibly_ml": d.high_ml,
                "expected_dice": d.own_dice,
                "guess": drawn.guesses.get(name),
            }
            for name, d in drawn.doubts.items()
        },
        "dice_with_given_mask": dict(drawn.agreed) or None,
        "probabilities": {n: f"probabilities/{n}.nii.gz" for n in drawn.probabilities},
        "missing_series": list(drawn.missing),
        "cautions": drawn.cautions,
        "trained_on": card["trained_on"],
        "scores_on_real_cases": list(card.get("scores") or ()),
        "expected_and_real_dice": list(card.get("doubt_check") or ()),
        "precision": drawn.precision,
        "weights_sha256": card["sha256"],
    }


def _answer(case: Case, answer: Answer) -> dict[str, Any]:
    told = answer.prediction
    scores = [
        {"name": s.name, "control": s.is_control, "auc": [s.auc.value, s.auc.low, s.auc.high]}
        for s in answer.scores
    ]
    return {
        "method": told.method,
        "target": answer.target,
        "probabilities": {answer.target: told.probabilities[answer.target]},
        "decisions": {answer.target: told.decisions[answer.target]},
        "cautions": list(answer.cautions),
        "trained_on": answer.trained_on,
        "auc_on_patients_held_out": scores,
        "evidence": told.evidence,
        "heatmaps": {name: f"heatmaps/{name}.nii.gz" for name in told.heatmaps},
        "heat_in_tumour": {name: heat_in_tumour(case, heat) for name, heat in told.heatmaps.items()},
    }


def _built_in(answered: Answered) -> dict[str, Any]:
    return {
        "target": answered.target,
        "probabilities": answered.probabilities,
        "could_be": list(answered.conformal),
        "abstained": answered.abstained or None,
        "evidence_log_odds": answered.evidence,
        "cautions": list(answered.cautions),
        "trained_on": answered.trained_on,
        "scores_on_real_patients": list(answered.scores),
    }
