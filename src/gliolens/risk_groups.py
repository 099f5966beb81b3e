"""`gliolens survival --predictions`: whether those a bench's methods call at risk die sooner.

A method's risk is its probability, every class weighing the same, of the class whose patients live shorter (`SHORTER`),
which is known from the WHO's classification and not learnt here. Every answer is about a patient held out. A patient is
at high risk from a cut on that comes from the training patients of his fold (`stats.prognosis.training_cuts`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS
from gliolens.cohorts.splits import Split, read_split
from gliolens.errors import CohortError, ConfigError
from gliolens.io.store import file_hash, whole_file, write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.labels import TARGET_TITLES
from gliolens.progress import say
from gliolens.protocol import read_answers
from gliolens.report.risk_page import write_risk_page
from gliolens.report.survival_plot import survival_figure
from gliolens.stats.risk_groups import Asked, Judged, RiskGroups, judge
from gliolens.survival import counted

SHORTER: Final[Mapping[str, str]] = {
    "grade": "HGG", "who_grade": "4", "idh": "wildtype", "codel_1p19q": "intact",
}  # fmt: skip
"""The class of each target whose patients live shorter (WHO 2021: Louis et al., doi 10.1093/neuonc/noab106)."""


def risk_groups(
    cohort: Path, bench: Path, out: Path, *, cut: str | float = "median", seed: int = 0
) -> RiskGroups:
    """Part the patients of a bench by each method's risk and compare how long the groups live.

    Args:
        cohort: the cohort table of the bench, with os_days and os_event.
        bench: folder of a bench: its predictions.csv and splits.json are read.
        out: `survival.html`, `risk-groups.json`, `risk-groups.csv` (a row a patient and method) and
            `kaplan-meier-METHOD.png`.
        cut: `median` of the training patients of each fold, or a probability fixed beforehand.
        seed: of the intervals.

    Raises:
        ConfigError: the folder is no bench, or its folds are no single round; no such cut.
        CohortError: no patient's survival is known.
    """
    asked = _asked(read_cohort(cohort), bench)
    if asked.left_out:
        reasons = pd.Series(list(asked.left_out.values())).value_counts()
        say(f"{len(asked.left_out)} cases left out: " + "; ".join(f"{n} {why}" for why, n in reasons.items()))
    found = judge(asked, cut=cut, seed=seed)
    _write(out, found, cohort, bench, cut)
    return found


# --- who was asked ----------------------------------------------------------------------------------------------


def _asked(rows: Sequence[CaseRow], bench: Path) -> Asked:
    answers, split = _answers(bench), read_split(bench / "splits.json", rows)
    methods = list(dict.fromkeys(answers["method"]))
    everywhere = set.intersection(*(set(answers.loc[answers["method"] == m, "case"]) for m in methods))
    kept, left_out = counted(rows, lambda row: row.case in everywhere, "not answered by every method")
    if not kept:
        raise CohortError(
            f"{bench}: no patient it answered has os_days and os_event in the table; fill in these columns"
        )
    cases = [row.case for row in kept]
    known = answers.set_index(["method", "case"])
    fold = known.loc[methods[0]].loc[cases, "fold"].to_numpy(int) - 1
    _check_folds(split, dict(zip(cases, fold.tolist(), strict=True)), bench)
    place = {case: i for i, case in enumerate(cases)}
    return Asked(
        split.target,
        cases,
        fold,
        np.array([row.os_days for row in kept], float),
        np.array([row.os_event for row in kept], bool),
        [np.array([place[c] for c in side.train if c in place], int) for side in split.folds],
        {m: _risk(known.loc[m].loc[cases], SHORTER[split.target]) for m in methods},
        frozenset(answers.loc[answers["control"], "method"]),
        left_out,
    )


def _answers(bench: Path) -> pd.DataFrame:
    path = bench / "predictions.csv"
    for name in (path, bench / "splits.json"):
        if not name.is_file():
            raise ConfigError(f"{bench}: no {name.name} there; give the folder of a gliolens bench")
    answers = read_answers(path)
    if "fold" not in answers:
        raise ConfigError(
            f"{path}: answers about the patients of one split, so none about its training patients to take a cut from; "
            "give the folder of a gliolens bench"
        )
    answers = answers[~answers["method"].isin(CEILINGS)]
    twice = answers.duplicated(["method", "case"])
    if twice.any():
        case = answers.loc[twice, "case"].iloc[0]
        raise ConfigError(
            f"{path}: case {case!r} was answered in several folds; give a bench of one round of folds"
        )
    return answers


def _check_folds(split: Split, fold: Mapping[str, int], bench: Path) -> None:
    """A cut is only as clean as the split that says who was trained on."""
    for case, k in fold.items():
        if not 0 <= k < len(split.folds) or case not in split.folds[k].test:
            raise ConfigError(
                f"{bench}: predictions.csv has case {case!r} in fold {k + 1}, where splits.json does not test it; "
                "make the bench again"
            )


def _risk(answers: pd.DataFrame, shorter: str) -> np.ndarray:
    """Probability (n,) of the class that lives shorter, had all classes the same share."""
    classes = [c.removeprefix("p_") for c in map(str, answers) if c.startswith("p_")]
    if shorter not in classes:
        raise ConfigError(f"the bench told {', '.join(classes)} apart; risk is the probability of {shorter}")
    q = np.column_stack([answers[f"p_{c}"] / answers[f"prior_{c}"] for c in classes])
    return np.asarray(q[:, classes.index(shorter)] / q.sum(axis=1))


# --- writing -----------------------------------------------------------------------------------------------------


def _write(out: Path, found: RiskGroups, cohort: Path, bench: Path, cut: str | float) -> None:
    asked, figures = found.asked, []
    for one in found.judged:
        if not one.control:
            days = {c.name: asked.days[one.high == (c.name == "high")] for c in one.curves}
            figures.append(
                (f"{one.method}: the patients by their risk.", survival_figure(one.curves, one.test, days))
            )
            name = f"kaplan-meier-{one.method.replace(': ', '-').replace(' ', '-')}.png"
            with whole_file(out / name) as unfinished:
                unfinished.write_bytes(figures[-1][1])
    write_text(out / "risk-groups.csv", _per_patient(found).to_csv(index=False))
    sources = {"cohort": file_hash(cohort), "predictions": file_hash(bench / "predictions.csv"),
               "split": file_hash(bench / "splits.json")}  # fmt: skip
    write_json(out / "risk-groups.json", {
        "target": asked.target, "risk": f"probability of {SHORTER[asked.target]}, every class weighing the same",
        "cut": cut, "patients": len(asked.cases), "deaths": int(asked.died.sum()),
        "horizon_days": found.horizon_days, "nobody_told_brier": asdict(found.nobody_told),
        "methods": [_plain(one) for one in found.judged], "left_out": asked.left_out, **sources,
        "software": software(),
    })  # fmt: skip
    write_risk_page(
        out / "survival.html",
        f"{TARGET_TITLES[asked.target]}: do those called at risk die sooner?",
        found,
        shorter=SHORTER[asked.target],
        cut=cut,
        figures=figures,
        provenance={k: str(v) for k, v in {**sources, **software()}.items()},
    )


def _per_patient(found: RiskGroups) -> pd.DataFrame:
    asked = found.asked
    each = [
        pd.DataFrame({
            "method": one.method, "case": asked.cases, "fold": asked.fold + 1, "risk": asked.risks[one.method],
            "cut": np.array(one.cuts)[asked.fold], "group": np.where(one.high, "high", "low"),
            "os_days": asked.days, "os_event": asked.died.astype(int),
        })
        for one in found.judged
    ]  # fmt: skip
    return pd.concat(each, ignore_index=True)


def _plain(one: Judged) -> dict[str, Any]:
    groups = [
        {"group": c.name, "n": c.n, "events": c.events, "median_days": asdict(c.median_days)}
        for c in one.curves
    ]
    return {
        "method": one.method, "control": one.control, "cuts": list(one.cuts), "groups": groups,
        "log_rank": None if one.test is None else asdict(one.test),
        "hazard_high": None if one.hazard is None else asdict(one.hazard), "c_index": asdict(one.concordance),
        "c_index_less_age_and_sex": asdict(one.gained), "integrated_brier": asdict(one.brier),
    }  # fmt: skip
