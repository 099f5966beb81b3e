"""The protocol every method runs under: who can be used, fit on one side of a split, answer on the other, score.

A table of scores is made here and nowhere else, and it always holds every control.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from gliolens.case import CaseRow, Prediction
from gliolens.errors import CaseError, CohortError
from gliolens.io.store import read_json, write_json, write_text
from gliolens.labels import SERIES, TARGETS
from gliolens.loader import Cases, select
from gliolens.method import Run, find_method
from gliolens.methods.controls import KINDS, MEASURE, measure
from gliolens.methods.controls import Config as Control
from gliolens.progress import Tick, say
from gliolens.stats.classification import SCORE_TITLES, class_scores
from gliolens.stats.intervals import Interval, delong

SCORES: Final = ("auc", "balanced_accuracy", "sensitivity", "specificity", "brier")
"""Scores of every table, in order."""


@dataclass(frozen=True)
class Entrant:
    """One row of a table of scores: a method with its settings.

    Attributes:
        name: what the table calls it.
        method: name from `method.METHODS`.
        config: the method's settings.
        is_control: whether it is there to unmask a fake.
    """

    name: str
    method: str
    config: Any
    is_control: bool = False

    @property
    def folder(self) -> str:
        """Name of its folder in a run."""
        return self.name.replace(" ", "-")


def controls() -> tuple[Entrant, ...]:
    """Every control."""
    return tuple(
        Entrant(title, "controls", Control(kind=kind), is_control=True) for kind, title in KINDS.items()
    )


@dataclass(frozen=True)
class Usable:
    """A cohort divided by what can be used for a target.

    Attributes:
        cases: those that can.
        classes: the target's classes that occur, in order; the last is the positive one of two.
        left_out: why each other case cannot (its label, series or mask is not there).
        failures: what was wrong with cases that should have been usable.
    """

    cases: Cases
    classes: tuple[str, ...]
    left_out: Mapping[str, str]
    failures: Mapping[str, str]


def usable_cases(
    rows: Sequence[CaseRow], *, target: str, series: Sequence[str], cache: Path, tick: Tick | None = None
) -> Usable:
    """Find the cases that can be used, reading each once; say on stderr what is left out and why.

    Raises:
        CohortError: fewer than two classes of the target remain.
    """
    chosen, left_out = select(rows, target=target, series=series)
    cases, failures = Cases(chosen, tuple(series)), {}
    for i, row in enumerate(chosen):
        try:
            cases.only([row.case]).prepared(measure, MEASURE, cache)
        except CaseError as error:
            failures[row.case] = str(error)
        if tick:
            tick(i + 1, len(chosen))
    cases = cases.only([row.case for row in chosen if row.case not in failures])
    _say_left_out(left_out, failures)
    present = set(cases.classes(target))
    if len(present) < 2:
        raise CohortError(
            f"{target}: {len(cases)} of {len(rows)} cases can be used and hold {len(present)} of its classes "
            f"({', '.join(present) or 'none'}); two are needed. Left out: {_reasons(left_out)}"
        )
    return Usable(cases, tuple(c for c in TARGETS[target] if c in present), left_out, failures)


def _say_left_out(left_out: Mapping[str, str], failures: Mapping[str, str]) -> None:
    if left_out:
        say(f"{len(left_out)} cases left out: {_reasons(left_out)}")
    for error in failures.values():
        say(f"refused: {error}")


def _reasons(left_out: Mapping[str, str]) -> str:
    counts = pd.Series(list(left_out.values()), dtype=str).value_counts()
    return "; ".join(f"{n} {reason}" for reason, n in counts.items()) or "none"


def common_series(rows: Sequence[CaseRow]) -> tuple[str, ...]:
    """The series that every case has."""
    return tuple(s for s in SERIES if all(s in row.files for row in rows))


# --- fit on one side, answer on the other ----------------------------------------------------------------------


def compete(
    entrant: Entrant, train: Cases, test: Cases, run: Run, *, keep_model: Path | None = None
) -> pd.DataFrame:
    """Fit an entrant on one side of a split and let it answer the other.

    What was answered before is read back, so that a stopped bench goes on.

    Returns:
        One row a test case: see `answer_rows`.
    """
    answered = run.folder / "predictions.csv"
    if answered.is_file():
        return pd.read_csv(
            answered,
            dtype={"case": str, "patient": str, "site": str},
            keep_default_na=False,
            float_precision="round_trip",
        )
    model = find_method(entrant.method).fit(train, entrant.config, run)
    if keep_model:
        model.save(keep_model)
    predictions = [model.predict(case) for case in test]
    table = answer_rows(entrant, predictions, test.rows, train.classes(run.target), run)
    write_text(answered, table.to_csv(index=False))
    return table


def answer_rows(
    entrant: Entrant,
    predictions: Sequence[Prediction],
    rows: Sequence[CaseRow],
    trained: Sequence[str],
    run: Run,
) -> pd.DataFrame:
    """Predictions beside the truth.

    Returns:
        Columns `method, control, case, patient, site, truth, decision`, then `p_CLASS`, the probability of each
        class, and `prior_CLASS`, its share among the training cases.
    """
    prior = {c: trained.count(c) / len(trained) for c in run.classes}
    out = []
    for row, prediction in zip(rows, predictions, strict=True):
        p = prediction.probabilities[run.target]
        out.append(
            {
                "method": entrant.name,
                "control": entrant.is_control,
                "case": row.case,
                "patient": row.patient,
                "site": row.site or "",
                "truth": row.targets.get(run.target, ""),
                "decision": prediction.decisions[run.target],
                **{f"p_{c}": p[c] for c in run.classes},
                **{f"prior_{c}": prior[c] for c in run.classes},
            }
        )
    return pd.DataFrame(out)


# --- scores ----------------------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, classes: Sequence[str], *, seed: int = 0) -> list[dict[str, Any]]:
    """Score every entrant over all its answers, with patient-level intervals.

    Probabilities enter the Brier score as they are; the AUC ranks by `p / prior`, so that folds whose training
    shares differ can be pooled: otherwise a method that knows nothing but the training share scores below chance.

    Returns:
        One row an entrant: `method`, `control`, `n`, and for each of `SCORES` an `Interval`.

    Raises:
        CohortError: a control is missing.
    """
    missing = set(KINDS.values()) - set(answers.loc[answers["control"], "method"])
    if missing:
        raise CohortError(f"a table of scores needs every control; missing: {', '.join(sorted(missing))}")
    out = []
    for name, mine in answers.groupby("method", sort=False):
        p = mine[[f"p_{c}" for c in classes]].to_numpy(dtype=float)
        q = p / mine[[f"prior_{c}" for c in classes]].to_numpy(dtype=float)
        truth = np.array([classes.index(c) for c in mine["truth"]])
        decided = np.array([classes.index(c) for c in mine["decision"]])
        patients = list(mine["patient"])
        scores = class_scores(truth, p, decided, patients, seed=seed)
        row: dict[str, Any] = {"method": name, "control": bool(mine["control"].iloc[0]), "n": len(mine)}
        auc = _auc(truth, q / q.sum(axis=1, keepdims=True), decided, patients, seed)
        out.append(row | {s: scores[s] for s in SCORES} | {"auc": auc})
    return out


def _auc(truth: np.ndarray, q: np.ndarray, decided: np.ndarray, patients: list[str], seed: int) -> Interval:
    """DeLong's interval where each patient has one case: with few of a class the bootstrap's is too narrow."""
    if q.shape[1] == 2 and len(set(patients)) == len(patients):
        return delong(truth, q[:, 1])
    return class_scores(truth, q, decided, patients, seed=seed)["auc"]


def print_scores(table: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of scores on stdout, each with its 95 % interval."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "n", *(SCORE_TITLES[s] for s in SCORES)):
        shown.add_column(title, no_wrap=True)
    for i, row in enumerate(table):
        if row["control"] and (i == 0 or not table[i - 1]["control"]):
            shown.add_row("controls:", style="dim")
        cells = [f"{row[s].value:.2f} ({row[s].low:.2f} to {row[s].high:.2f})" for s in SCORES]
        shown.add_row(("  " if row["control"] else "") + str(row["method"]), str(row["n"]), *cells)
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def plain_scores(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scores as JSON or CSV holds them: `auc`, `auc_low`, `auc_high`, `auc_reason` and so on."""
    out = []
    for row in table:
        plain = {k: v for k, v in row.items() if not isinstance(v, Interval)}
        for s in SCORES:
            i = row[s]
            plain |= {s: i.value, f"{s}_low": i.low, f"{s}_high": i.high}
            if i.reason:
                plain[f"{s}_reason"] = i.reason
        out.append(plain)
    return out


def settings_match(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a run folder was made with these settings; writes them where it is new.

    Raises:
        CohortError: the folder holds a run with other settings.
    """
    if not path.is_file():
        write_json(path, {"settings": settings})
        return False
    found = read_json(path).get("settings", {})
    other = [k for k, v in settings.items() if found.get(k) != _as_stored(v)]
    if other:
        raise CohortError(
            f"{path.parent} holds a run with another {', '.join(other)}; choose another -o, or delete the folder"
        )
    return True


def _as_stored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _as_stored(v) for k, v in value.items()}
    return [_as_stored(v) for v in value] if isinstance(value, list | tuple) else value
