"""The protocol every method runs under: fit on one side of a split, answer on the other, score.

A table of scores is made here and nowhere else, and it always holds every control; that of a simulated cohort also
holds its ceilings.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.case import CaseRow, Prediction
from gliolens.cohorts.phantom.ceiling import CEILINGS, Truth, ceiling_note, ceiling_rows
from gliolens.errors import CohortError, ConfigError
from gliolens.io.store import content_hash, read_json, write_json, write_text
from gliolens.loader import Arrays, Cases, fingerprint, unlabelled
from gliolens.method import Model, Run, find_method, identity_of
from gliolens.methods.controls import KINDS, needs_mask, titled
from gliolens.methods.controls import Config as Control
from gliolens.outline_scores import outline_rows
from gliolens.progress import say
from gliolens.stats.classification import SCORE_TITLES, class_scores, score_range
from gliolens.stats.intervals import Interval, delong, over_folds

OUTLINES: Final = "outlines.csv"
"""Beside the answers of an entrant that draws outlines: how well they match the masks."""
SCORES: Final = ("auc", "balanced_accuracy", "sensitivity", "specificity", "brier")
"""Scores that every table shows, in order; files hold all of `stats.classification.SCORE_TITLES`."""


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
        return self.name.replace(": ", "-").replace(" ", "-")


def entrant_of(method: str, config: Any) -> Entrant:
    """A method as a row of the table; a control that is asked for by name keeps its title."""
    return Entrant(f"controls: {titled(config.kind)}" if method == "controls" else method, method, config)


def controls(*, healthy: bool = False) -> tuple[Entrant, ...]:
    """Every control; of cases among which are healthy ones, those that do not measure a tumour."""
    return tuple(
        Entrant(title, "controls", Control(kind=kind), is_control=True)
        for kind, title in KINDS.items()
        if not (healthy and needs_mask(kind))
    )


# --- fit on one side, answer on the other ----------------------------------------------------------------------


def compete(
    entrant: Entrant, train: Cases, test: Cases, run: Run, *, keep_model: Path | None = None
) -> pd.DataFrame:
    """Fit an entrant on one side of a split and let it answer the other, of which it is shown no label.

    What was answered before is read back, so that a stopped bench goes on, but only where settings, cases and files
    are still the same; else it is thrown away and done again.

    Returns:
        One row a test case: see `answer_rows`.

    Raises:
        CohortError: a class has no training case.
    """
    absent = [c for c in run.classes if c not in train.classes(run.target)]
    if absent:
        raise CohortError(
            f"{entrant.name}: no training case is {' or '.join(absent)}; use fewer folds, or another split"
        )
    answered = run.folder / "predictions.csv"
    _start_over_if_changed(run.folder, _identity(entrant, train, test, run), entrant.name)
    if answered.is_file() and (keep_model is None or keep_model.is_dir()):
        return read_answers(answered)
    method = find_method(entrant.method)
    model = method.fit(train, entrant.config, run)
    if keep_model:
        model.save(keep_model)
    made = method.ready(test.unlabelled(), entrant.config, run.cache)
    table = answer_rows(entrant, model, test, made, run, outlines=run.folder / OUTLINES)
    write_text(answered, table.to_csv(index=False))
    return table


def _identity(entrant: Entrant, train: Cases, test: Cases, run: Run) -> str:
    """A hash of all that the answers depend on."""
    sides = [
        [
            (r.case, r.patient, sorted(r.targets.items()), r.age, r.sex, r.site, fingerprint(r))
            for r in side.rows
        ]
        for side in (train, test)
    ]
    made = [identity_of(find_method(entrant.method), entrant.config), asdict(entrant.config), train.series]
    others = (
        [[(row.case, sorted(row.targets.items()), fingerprint(row)) for row in run.others]]
        if run.others
        else []
    )
    return content_hash([entrant.method, made, run.target, run.classes, run.seed, sides, *others])


def _start_over_if_changed(folder: Path, identity: str, name: str) -> None:
    mark = folder / "identity.json"
    if folder.is_dir() and (not mark.is_file() or read_json(mark).get("sha256") != identity):
        say(f"{name}: settings, cases or files changed since {folder} was made; it is made again")
        shutil.rmtree(folder)
    write_json(mark, {"sha256": identity})


def read_answers(path: Path) -> pd.DataFrame:
    """Read `predictions.csv` back as it was written."""
    words = dict.fromkeys(("method", "case", "patient", "site", "truth", "decision"), str)
    return pd.read_csv(path, dtype=words, keep_default_na=False, float_precision="round_trip")


def answer_rows(
    entrant: Entrant,
    model: Model,
    cases: Cases,
    made: Sequence[Arrays],
    run: Run,
    outlines: Path | None = None,
) -> pd.DataFrame:
    """Answers beside the truth.

    Args:
        entrant: who answers.
        model: its fitted model.
        cases: what is asked.
        made: what its `ready` made of them.
        run: target and classes.
        outlines: where the scores of the outlines it draws are written, if it draws any and the cases have masks.

    Returns:
        Columns `method, control, case, patient, site, truth, decision`, then `p_CLASS`, the probability of each
        class, and `prior_CLASS`, the class share that the model put into it.
    """
    out, drawn = [], []
    for row, ready in zip(cases.rows, made, strict=True):
        answer = model.answer(unlabelled(row), ready)
        if answer.labels is not None and outlines is not None and row.mask is not None:
            drawn += outline_rows(entrant.name, row, answer.labels, drawn_scheme=answer.labels_scheme)
        out.append(answer_row(entrant, row, answer, run.target, run.classes, model.prior))
    if outlines is not None and drawn:
        write_text(outlines, pd.DataFrame(drawn).to_csv(index=False))
    return pd.DataFrame(out)


def answer_row(
    entrant: Entrant,
    row: CaseRow,
    answer: Prediction,
    target: str,
    classes: Sequence[str],
    prior: Sequence[float],
) -> dict[str, Any]:
    """One answer beside the truth; the columns are those of `answer_rows`."""
    p = answer.probabilities[target]
    return {
        "method": entrant.name,
        "control": entrant.is_control,
        "case": row.case,
        "patient": row.patient,
        "site": row.site or "",
        "truth": row.targets[target],
        "decision": answer.decisions[target],
        **{f"p_{c}": p[c] for c in classes},
        **{f"prior_{c}": share for c, share in zip(classes, prior, strict=True)},
    }


# --- scores ----------------------------------------------------------------------------------------------------


def score(
    answers: pd.DataFrame,
    classes: Sequence[str],
    *,
    seed: int = 0,
    healthy: bool = False,
) -> list[dict[str, Any]]:
    """Score every entrant over all its answers, with patient-level intervals.

    Probabilities enter the Brier score as they are; the AUC ranks by `p / prior`, so that folds whose training
    shares differ can be pooled: otherwise a method that knows nothing but the training share scores below chance.
    `prior` is what the model itself put in: dividing by shares that are not in `p` would let a split be guessed.
    Where a column `fold` tells several apart, intervals are widened for what folds share
    (`stats.intervals.over_folds`); not those of ceilings, which learn nothing.

    Args:
        answers: of every entrant.
        classes: among which.
        seed: of the intervals.
        healthy: whether there are healthy cases, about whom fewer controls can be asked; see `controls`.

    Returns:
        One row an entrant: `method`, `control`, `ceiling`, `n`, and for each of `SCORE_TITLES` an `Interval`.

    Raises:
        CohortError: a control is missing.
    """
    needed = {control.name for control in controls(healthy=healthy)}
    missing = needed - set(answers.loc[answers["control"], "method"])
    if missing:
        raise CohortError(f"a table of scores needs every control; missing: {', '.join(sorted(missing))}")
    out = []
    for name, mine in answers.groupby("method", sort=False):
        row: dict[str, Any] = {
            "method": name,
            "control": bool(mine["control"].iloc[0]),
            "ceiling": name in CEILINGS,
            "n": mine["case"].nunique(),
        }
        out.append(row | scores_of(mine, classes, seed, folds=1 if row["ceiling"] else folds_in(mine)))
    return out


def scores_of(mine: pd.DataFrame, classes: Sequence[str], seed: int, *, folds: int) -> dict[str, Interval]:
    """Every score of one entrant's answers, as `score` has them, pooled from so many folds."""
    p = mine[[f"p_{c}" for c in classes]].to_numpy(dtype=float)
    q = p / mine[[f"prior_{c}" for c in classes]].to_numpy(dtype=float)
    truth = np.array([classes.index(c) for c in mine["truth"]])
    decided = np.array([classes.index(c) for c in mine["decision"]])
    patients = list(mine["patient"])
    found = class_scores(truth, p, decided, patients, seed=seed)
    found["auc"] = auc_of(truth, q / q.sum(axis=1, keepdims=True), decided, patients, seed)
    return {name: over_folds(i, folds, **score_range(name, len(classes))) for name, i in found.items()}


def folds_in(answers: pd.DataFrame) -> int:
    """How many folds the answers are of; one where they bear none."""
    return answers["fold"].nunique() if "fold" in answers else 1


def score_beside_ceilings(
    answers: pd.DataFrame,
    truth: Truth | None,
    target: str,
    classes: Sequence[str],
    *,
    seed: int = 0,
    healthy: bool = False,
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Score every entrant and, where the cohort is simulated, what the best of all methods can reach on these patients.

    Args:
        answers: of every entrant.
        truth: of a simulated cohort; None where it is a real one.
        target: what was told.
        classes: among which.
        seed: of the intervals.
        healthy: see `score`.

    Returns:
        The answers with those of each ceiling below them, and the table of `score`; a ceiling's row also has
        `expected_auc`, its AUC over very many patients, or None where other classes are told apart than were drawn.

    Raises:
        CohortError: a control is missing.
    """
    if truth is None:
        return answers, score(answers, classes, seed=seed, healthy=healthy)
    asked = answers[answers["method"] == answers["method"].iloc[0]]
    answers = pd.concat([answers, ceiling_rows(truth, asked, target, classes)], ignore_index=True)
    table = score(answers, classes, seed=seed, healthy=healthy)
    for row in table:
        if row["ceiling"]:
            row["expected_auc"] = truth.expected(target, classes, row["method"])
    return answers, table


def auc_of(truth: np.ndarray, q: np.ndarray, decided: np.ndarray, patients: list[str], seed: int) -> Interval:
    """DeLong's interval where each patient has one case: with few of a class the bootstrap's is too narrow."""
    if q.shape[1] == 2 and len(set(patients)) == len(patients):
        return delong(truth, q[:, 1])
    return class_scores(truth, q, decided, patients, seed=seed)["auc"]


def plain_scores(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scores as JSON or CSV holds them: `auc`, `auc_low`, `auc_high`, `auc_reason` and so on."""
    out = []
    for row in table:
        plain = {k: v for k, v in row.items() if not isinstance(v, Interval)}
        for s in (s for s in SCORE_TITLES if s in row):
            i = row[s]
            plain |= {s: i.value, f"{s}_low": i.low, f"{s}_high": i.high}
            if i.reason:
                plain[f"{s}_reason"] = i.reason
        out.append(plain)
    return out


def metrics_of(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A table of scores as JSON holds it: `scores` of methods and controls; `ceilings` apart, where there are any."""
    plain = plain_scores(table)
    metrics: dict[str, Any] = {"scores": [row for row in plain if not row["ceiling"]]}
    if ceilings := [row for row in plain if row["ceiling"]]:
        metrics |= {"ceilings": ceilings, "about_ceilings": ceiling_note(table)}
    return metrics


def check_settings(path: Path, settings: Mapping[str, Any], option: str = "-o") -> None:
    """Refuse to write over a run of other settings: a ConfigError names what differs and the `option` of the folder."""
    found = read_json(path).get("settings", {}) if path.is_file() else settings
    other = [k for k, v in settings.items() if _as_stored(found.get(k)) != _as_stored(v)]
    if other:
        raise ConfigError(
            f"{path.parent} holds a run with another {', '.join(other)}; choose another {option}, or delete the folder"
        )


def _as_stored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _as_stored(v) for k, v in value.items()}
    return [_as_stored(v) for v in value] if isinstance(value, list | tuple) else value
