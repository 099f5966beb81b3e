"""Targets that a method tells beside the one it was asked for, scored on the same patients beside every control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from gliolens.case import CaseRow, Prediction
from gliolens.cohorts.phantom.ceiling import Truth
from gliolens.io.store import write_json, write_text
from gliolens.loader import Arrays, Cases, unlabelled
from gliolens.method import Run
from gliolens.progress import say
from gliolens.protocol import Entrant, answer_row, compete, controls, metrics_of, score_beside_ceilings


@dataclass(frozen=True, eq=False)
class Further:
    """How well a further target is told.

    Attributes:
        classes: those told apart.
        answers: of the method and every control, as of `protocol.answer_rows`.
        table: their scores, as of `protocol.score`.
    """

    classes: tuple[str, ...]
    answers: pd.DataFrame
    table: Sequence[Mapping[str, Any]]


def further_targets(model: Any) -> tuple[str, ...]:
    """What a fitted method tells beside its target: nothing, where it has no `also`."""
    return tuple(getattr(model, "also", ()))


def predictions_of(model: Any, cases: Cases, made: Sequence[Arrays]) -> dict[str, Prediction]:
    """Answers to all targets at once, by case."""
    return {
        row.case: model.answer(unlabelled(row), ready) for row, ready in zip(cases.rows, made, strict=True)
    }


def score_further(
    entrant: Entrant,
    model: Any,
    told: Mapping[str, Prediction],
    train: Cases,
    test: Cases,
    run: Run,
    truths: Mapping[str, Truth | None],
) -> dict[str, Further]:
    """Score the further targets of a fitted method where they are known, and fit the controls to them.

    A target of which the patients learnt from or tested do not show every class is passed over, and said.

    Args:
        entrant: the method.
        model: fitted.
        told: its answers to the patients tested.
        train: patients the controls learn from.
        test: patients tested.
        run: folder and seed.
        truths: of a simulated cohort, by target.
    """
    out = {}
    for target in further_targets(model):
        asked = replace(model, target=target)
        sides = [_known(cases, target, asked.classes) for cases in (train, test)]
        if lacking := [c for side in sides for c in asked.classes if c not in side.classes(target)]:
            say(f"{target} is told too, but not scored: no patient on one side of the split is {lacking[0]}")
            continue
        rows = [
            answer_row(entrant, row, told[row.case], target, asked.classes, asked.prior)
            for row in sides[1].rows
        ]
        folder = run.folder / "further" / target
        mine = [
            compete(c, sides[0], sides[1], Run(target, asked.classes, folder / c.folder, run.cache, run.seed))
            for c in controls()
        ]
        answers, table = score_beside_ceilings(
            pd.concat([pd.DataFrame(rows), *mine], ignore_index=True), truths.get(target), target, asked.classes,
            seed=run.seed,
        )  # fmt: skip
        out[target] = Further(asked.classes, answers, table)
    return out


def _known(cases: Cases, target: str, classes: Sequence[str]) -> Cases:
    def is_known(row: CaseRow) -> bool:
        return row.targets.get(target) in classes

    return replace(cases, rows=tuple(row for row in cases.rows if is_known(row)))


def write_further(run: Run, found: Mapping[str, Further]) -> None:
    """Write `further/TARGET/predictions.csv` and `metrics.json` of each further target."""
    for target, further in found.items():
        folder = run.folder / "further" / target
        write_text(folder / "predictions.csv", further.answers.to_csv(index=False))
        write_json(folder / "metrics.json", metrics_of(further.table))
