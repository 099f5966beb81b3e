"""What a run's files know of how well its methods do: every score beside its interval, and every control beside it.

Each function answers one kind of question in a few sentences, or raises NotKnownError.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from gliolens.cohorts.phantom.ceiling import CEILINGS
from gliolens.protocol import SCORES
from gliolens.report.run.about_cohort import classes, cohort_of, elsewhere, folds, is_simulated, shuffled
from gliolens.report.run.files import METRICS, PREDICTIONS, SUBGROUPS, NotKnownError, RunFiles
from gliolens.report.scores import Score, verdict
from gliolens.report.words import in_words
from gliolens.stats.classification import SCORE_TITLES
from gliolens.stats.intervals import Interval

_DIAGNOSTIC: Final = ("sensitivity", "specificity", "ppv", "npv")
FEW: Final = 100
"""Cases tested, below which a caution is said: intervals are then wide, and resampling errs."""


def interval_of(row: Mapping[str, Any], score: str) -> Interval:
    """A score of one row of `metrics.json`; one that the row lacks is NaN with that reason."""
    value, low, high = (_number(row.get(f"{score}{end}")) for end in ("", "_low", "_high"))
    reason = str(row.get(f"{score}_reason") or "")
    return Interval(value, low, high, reason or ("not in the file" if math.isnan(value + low + high) else ""))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def score_rows(run: RunFiles, file: str = METRICS) -> list[Mapping[str, Any]]:
    """Every row of a table of scores: methods, then controls; then ceilings, where there are any."""
    return [*run.ask(file, "scores"), *run.contents[file].get("ceilings", ())]


def best_first(run: RunFiles, file: str = METRICS) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Rows of the methods, and rows of the controls by falling AUC."""
    rows = run.ask(file, "scores")
    controls = [row for row in rows if row["control"]]
    return [r for r in rows if not r["control"]], sorted(controls, key=lambda r: -(r.get("auc") or 0.0))


def _told(row: Mapping[str, Any], scores: Sequence[str]) -> str:
    return ", ".join(f"{SCORE_TITLES[s]} {in_words(interval_of(row, s))}" for s in scores)


def _of_methods(run: RunFiles, scores: Sequence[str], file: str = METRICS) -> str:
    mine, controls = best_first(run, file)
    return " ".join(f"{row['method']} (n = {row['n']}): {_told(row, scores)}." for row in mine or controls)


# --- how it was measured ---------------------------------------------------------------------------------------


def metrics(run: RunFiles) -> str:
    """Which scores the files hold."""
    first = run.ask(METRICS, "scores")[0]
    plots = [
        name for name in ("roc", "calibration", "decision") if (run.folder / f"figures/{name}.png").is_file()
    ]
    drawn = f" Plots: {', '.join(plots)}." if plots else ""
    return f"{', '.join(title for name, title in SCORE_TITLES.items() if name in first)}.{drawn}"


def intervals(run: RunFiles) -> str:
    """How uncertainty was measured."""
    if not any(key.endswith("_low") for key in run.ask(METRICS, "scores")[0]):
        raise NotKnownError(f"{run.folder / METRICS}: no interval")
    widened = "; widened for what folds share (Nadeau and Bengio 2003)" if len(folds(run)) > 1 else ""
    return (
        "95 % intervals over patients: DeLong's for the AUC where there are two classes and a case a patient; else, "
        f"and for the other scores, a bootstrap of patients within each class (2,000 draws){widened}. The verdict "
        "rests on no p-value: a method counts as better than a control where their intervals do not overlap, which "
        "errs towards doubt."
    )


def controls(run: RunFiles) -> str:
    """The controls beside the methods."""
    told = [f"{row['method']} {in_words(interval_of(row, 'auc'))}" for row in best_first(run)[1]]
    return f"AUC of what looks at no image, or learnt shuffled labels: {', '.join(told)}."


# --- what came out ---------------------------------------------------------------------------------------------


def performance(run: RunFiles) -> str:
    """The scores that every table shows, of each method."""
    return _of_methods(run, SCORES)


def diagnostic(run: RunFiles) -> str:
    """Sensitivity, specificity and predictive values."""
    order = classes(run)
    positive = (
        f"{order[-1]} is positive. " if len(order) == 2 else "Means over classes, each against the rest. "
    )
    return positive + _of_methods(run, _DIAGNOSTIC)


def internal(run: RunFiles) -> str:
    """How the methods did on patients held out of the same cohort."""
    return f"Patients held out of the same cohort table. {_of_methods(run, ('auc',))}"


def performance_in_groups(run: RunFiles) -> str:
    """The scores of each method, over all and within parts of the patients."""
    return f"{performance(run)} {groups(run)}"


def groups(run: RunFiles) -> str:
    """The AUC of each method within ages, sexes, sites and grades, where both classes are there."""
    names = ("method", "control", "by", "part", "n", "auc", "auc_low", "auc_high")
    table = pd.DataFrame({name: run.ask(SUBGROUPS, name) for name in names})
    mine = table[~table["control"] & table["auc_low"].notna()]
    if mine.empty:
        raise NotKnownError(f"{run.folder / SUBGROUPS}: no method has an AUC with an interval in any part")
    told = [
        f"{name}: "
        + "; ".join(
            f"{row.by} {row.part} (n = {row.n}) {row.auc:.2f} ({row.auc_low:.2f} to {row.auc_high:.2f})"
            for row in parts.itertuples()
        )
        for name, parts in mine.groupby("method", sort=False)
    ]
    return f"AUC within parts of the patients, not corrected for their number. {'. '.join(told)}."


def external(run: RunFiles) -> str:
    """How the model did on other cohorts."""
    folders = elsewhere(run)
    if not folders:
        raise NotKnownError(f"{run.folder}: no other cohort was tested")
    return " ".join(
        f"{cohort_of(run, folder)}: {_of_methods(run, ('auc',), f'{folder}/metrics.json')}"
        for folder in folders
    )


def errors(run: RunFiles) -> str:
    """How many cases each method answered wrongly, by class."""
    names = ("method", "control", "truth", "decision")
    table = pd.DataFrame({name: run.ask(PREDICTIONS, name) for name in names})
    asked = table[~table["control"] & ~table["method"].isin(CEILINGS)]
    asked = asked if len(asked) else table[table["control"]]
    return " ".join(_wrong(str(name), mine) for name, mine in asked.groupby("method", sort=False))


def _wrong(name: str, mine: pd.DataFrame) -> str:
    wrong = mine[mine["truth"] != mine["decision"]]
    pairs = sorted(Counter(zip(wrong["truth"], wrong["decision"], strict=True)).items())
    told = ", ".join(f"{n} {truth} called {said}" for (truth, said), n in pairs)
    return f"{name}: {len(wrong)} of {len(mine)} wrong{f' ({told})' if told else ''}."


# --- what it comes to ------------------------------------------------------------------------------------------


def verdict_of(row: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> str:
    """Whether a method is told from chance and from its best control, in a sentence."""
    scores = [Score(str(r["method"]), interval_of(r, "auc"), bool(r["control"])) for r in (row, *controls)]
    return verdict(scores)[1]


def best_control(run: RunFiles) -> str:
    """Whether each method is told from chance and from its best control."""
    mine, beside = best_first(run)
    told = [f"{row['method']}: {verdict_of(row, beside)}" for row in mine]
    alone = ["The run holds controls alone: no method stands beside them."]
    return " ".join([*filter(None, [shuffled(run)]), *(told or alone)])


def cautions(run: RunFiles) -> str:
    """What should keep a reader from trusting the scores."""
    told = [best_control(run)]
    if is_simulated(run):
        told.append("The cohort is simulated: nothing here is shown of patients.")
    if (n := min(row["n"] for row in run.ask(METRICS, "scores"))) < FEW:
        told.append(f"Few cases were tested ({n}): intervals are wide.")
    if not elsewhere(run):
        told.append("No other cohort was tested.")
    return " ".join(told)
