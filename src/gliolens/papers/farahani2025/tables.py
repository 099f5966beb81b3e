"""The tables: headline, ablation, comparisons on the same cases, baselines, sites."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.labels import REGION_TITLES, TARGET_TITLES
from gliolens.outline_scores import summary
from gliolens.papers.farahani2025.networks import FULL, PUBLISHED_AUC, PUBLISHED_DICE, SOUND, Network
from gliolens.papers.farahani2025.trials import Trial, joined
from gliolens.protocol import auc_of
from gliolens.stats.intervals import Difference, Interval, delong_difference, holm, over_folds, unknown
from gliolens.tasks import Task

Row = dict[str, Any]
LEAST: Final = 5
"""Of each class; with fewer cases a site's own AUC would say nothing and is not shown."""


def headline(
    trials: Mapping[str, Trial], names: Sequence[str], tasks: Sequence[Task], seed: int
) -> list[Row]:
    """Dice and AUC of the full networks beside the published ones."""
    rows: list[Row] = []
    for region, dice in _dice(trials[names[0]], seed).items():
        others = {name: _dice(trials[name], seed)[region] for name in names[1:]}
        published = f"{PUBLISHED_DICE:.2f} (of which region is not said)" if region == "whole" else ""
        rows.append(
            {"": f"Dice, {REGION_TITLES[region].lower()}", "published": published, names[0]: dice, **others}
        )
    for task in tasks:
        told = {name: auc(trials[name], task, seed) for name in names}
        published = f"{PUBLISHED_AUC[task.target]:.4f}" if task.target in PUBLISHED_AUC else ""
        rows.append({"": f"AUC, {TARGET_TITLES[task.target]}", "published": published, **told})
    return rows


def ablation(
    every: Sequence[Network], trials: Mapping[str, Trial], tasks: Sequence[Task], seed: int
) -> list[Row]:
    """Dice of the whole tumour and each AUC of every network."""
    rows = []
    for network in every:
        trial = trials[network.name]
        told = {
            f"AUC, {TARGET_TITLES[t.target]}": auc(trial, t, seed) if t.target in trial.answers else None
            for t in tasks
        }
        rows.append(
            {"network": network.name, "group": network.group, "Dice": _dice(trial, seed)["whole"], **told}
        )
    return rows


def compared(
    every: Sequence[Network],
    trials: Mapping[str, Trial],
    others: Mapping[str, pd.DataFrame],
    tasks: Sequence[Task],
) -> list[Row]:
    """AUC of the full network less that of each other, on the same cases; p-values of all rows are one family.

    The networks of the sound kind are compared with the full one of that kind; so are the baselines.
    """
    rows: list[Row] = []
    for task in tasks:
        for network in every:
            against = SOUND if network.group == "sound" else FULL
            if network.name not in (FULL, SOUND) and task.target in network.tells:
                rows.append(_difference(task, trials[against], trials[network.name]))
        for name, table in others[task.target].groupby("method", sort=False):
            if not table["ceiling"].iloc[0]:
                beside = Trial(str(name), {task.target: table.reset_index(drop=True)}, pd.DataFrame())
                rows.append(_difference(task, trials[SOUND], beside))
    corrected = holm([row["p"] for row in rows])
    return [{**row, "p, Holm": p} for row, p in zip(rows, corrected, strict=True)]


def _difference(task: Task, first: Trial, second: Trial) -> Row:
    truth, mine, who = first.scored(task.target)
    if len(set(who)) < len(who):
        found = Difference(unknown("patients with several cases"), math.nan)
    else:
        found = delong_difference(truth, mine, _in_order(first, second, task))
    named = f"{first.name} less {second.name}"
    return {"": TARGET_TITLES[task.target], "AUC of": named, "difference": found.interval, "p": found.p_value}


def _in_order(first: Trial, second: Trial, task: Task) -> np.ndarray:
    """Scores of the second network for the cases of the first."""
    cases = dict(zip(second.answers[task.target]["case"], second.scored(task.target)[1], strict=True))
    return np.array([cases[case] for case in first.answers[task.target]["case"]])


def baselines(
    others: Mapping[str, pd.DataFrame], trials: Mapping[str, Trial], tasks: Sequence[Task], seed: int
) -> list[Row]:
    """AUC of the 3-D ResNet, of simple baselines, of every control and of the ceilings, below the full networks."""
    names = dict.fromkeys(name for table in others.values() for name in table["method"])
    rows: list[Row] = [
        {"": name, **{_title(t): auc(trials[name], t, seed) for t in tasks}} for name in (FULL, SOUND)
    ]
    for name in names:
        mine = {t.target: table[table["method"] == name] for t in tasks for table in [others[t.target]]}
        trial = Trial(name, {t: m.reset_index(drop=True) for t, m in mine.items() if len(m)}, pd.DataFrame())
        rows.append(
            {
                "": name,
                **{_title(t): auc(trial, t, seed) if t.target in trial.answers else None for t in tasks},
            }
        )
    return rows


def sites(full: Trial, away: Mapping[str, Trial] | str, tasks: Sequence[Task], seed: int) -> list[Row]:
    """The full network where it was divided within sites, and on each site that it had not seen."""
    named = {"sites mixed (the table above)": full}
    if isinstance(away, str):
        rows = [_site(name, trial, tasks, seed) for name, trial in named.items()]
        return [*rows, {**dict.fromkeys(rows[0]), "tested on": f"sites left out: not done, {away}"}]
    named |= {f"{site}, never seen": trial for site, trial in away.items()}
    rows = [_site(name, trial, tasks, seed) for name, trial in named.items()]
    together = joined("all", list(away.values()))
    return [*rows, _site("all sites, each never seen", together, tasks, seed, folds=len(away))]


def _site(name: str, trial: Trial, tasks: Sequence[Task], seed: int, folds: int = 1) -> Row:
    told = {_title(t): over_folds(auc(trial, t, seed), folds) if _enough(trial, t) else None for t in tasks}
    count = trial.outlines["case"].nunique()
    return {"tested on": name, "cases": count, "Dice": _dice(trial, seed)["whole"], **told}


def _enough(trial: Trial, task: Task) -> bool:
    if task.target not in trial.answers:
        return False
    truth, _, _ = trial.scored(task.target)
    return bool(min(truth.sum(), (~truth).sum()) >= LEAST)


def _title(task: Task) -> str:
    return f"AUC, {TARGET_TITLES[task.target]}"


def auc(trial: Trial, task: Task, seed: int) -> Interval:
    """AUC of the task's second class."""
    truth, p, who = trial.scored(task.target)
    return auc_of(truth.astype(int), np.stack([1 - p, p], axis=1), (p > 0.5).astype(int), who, seed)


def _dice(trial: Trial, seed: int) -> dict[str, Interval]:
    return {row["region"]: row["dice"] for row in summary(trial.outlines, seed=seed)}
