"""The ceiling of a simulated cohort: the best that any method can score on it, from the generating probabilities.

The scans depend on the labels through the findings x of the tumour and, as brains shrink, through the age alone. So
no method can know more of a class c than its posterior given these, which Bayes' rule gives exactly (as `literature`
makes p(x | s) a product of known laws):

    p(c | x) = sum over subtypes s of c of p(s) p(x | s) / sum over all s of p(s) p(x | s)

Ranking by it has the largest AUC there is (Neyman and Pearson 1933, doi 10.1098/rsta.1933.0009). With age, which
enters as one more factor, it bounds every method; without, one that cannot guess the age. Sex tells nothing. The site
is left out, so that where `site_confounding` lets it tell the grade, a score above the ceiling unmasks a method that
reads the site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import rankdata

from gliolens.case import CaseRow
from gliolens.cohorts.phantom.literature import (
    AGE,
    ENHANCEMENT,
    ENHANCEMENTS,
    FINDINGS,
    SUBTYPES,
    subtype_shares,
)
from gliolens.cohorts.phantom.traits import Findings, PhantomConfig, PhantomTraits, draw_columns, random_lots
from gliolens.errors import CohortError
from gliolens.io.store import read_json, write_json, write_text
from gliolens.io.tables import read_text_table
from gliolens.labels import TARGETS
from gliolens.progress import say

CEILINGS: Final = MappingProxyType({"ceiling": False, "ceiling with age": True})
"""Name of each oracle, and whether it is told the age."""
EXPLANATION: Final = (
    "The cohort is simulated. A ceiling is what an oracle scores on the same patients that knows every finding of the "
    "tumour and every probability the patients were drawn from; with age, it is told the age too, which the brain "
    "around the tumour shows in part. No method can expect more than that; one that scores clearly more reads what it "
    "should not, such as the site."
)
"""What a ceiling is, wherever one is shown."""
PATIENTS: Final = 20_000
"""Drawn for the expected ceiling."""
_TRUTHS: Final = ("grade", "idh", "codel_1p19q")
"""Targets of simulated cases, in the order of `literature.SUBTYPES`."""
_SEEN: Final = tuple(f.name for f in fields(Findings) if f.name in ("enhancement", *FINDINGS))
"""Findings that are drawn in a cohort."""


def subtype_posterior(columns: Mapping[str, np.ndarray], *, with_age: bool) -> np.ndarray:
    """Probability (n, 6) of each of `literature.SUBTYPES`, given findings of n tumours.

    Args:
        columns: `age` and each of `Findings`, (n,) each; see `traits.draw_columns`.
        with_age: whether the age is known too.
    """
    place = np.array([ENHANCEMENTS.index(e) for e in columns["enhancement"].tolist()], int)
    log_p = np.log(subtype_shares()) + ENHANCEMENT.log_density(columns["enhancement"], np.zeros_like(place))
    for name, law in FINDINGS.items():
        log_p = log_p + law.log_density(columns[name], place)
    if with_age:
        log_p = log_p + AGE.log_density(columns["age"], place)
    return np.asarray(np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True)))


def classes_of(target: str, config: PhantomConfig) -> tuple[str, ...]:
    """Classes of a target that a simulated cohort holds."""
    return config.grades if target == "grade" else TARGETS[target]


def class_shares(target: str, config: PhantomConfig) -> np.ndarray:
    """Share of each of `classes_of` among those who have the target: for IDH and 1p/19q, the patients with a tumour."""
    shares = _sum_classes(subtype_shares()[None], target, config)[0]
    if target == "grade" and config.healthy > 0:
        return np.append(shares[:2] * (1.0 - config.healthy), config.healthy)
    return np.asarray(shares)


def class_posterior(
    columns: Mapping[str, np.ndarray], target: str, config: PhantomConfig, *, with_age: bool
) -> np.ndarray:
    """Probability (n, k) of each of `classes_of`, given what the scans show; NaN where the target does not apply.

    Args:
        columns: as `traits.draw_columns` gives them.
        target: `grade`, `idh` or `codel_1p19q`.
        config: how the patients were drawn.
        with_age: whether the age is known too.
    """
    p = _sum_classes(subtype_posterior(columns, with_age=with_age), target, config)
    healthy = columns["subtype"] < 0  # no tumour is seen, and that tells all
    p[healthy] = [c == "healthy" for c in classes_of(target, config)] if target == "grade" else np.nan
    return p


def _sum_classes(p: np.ndarray, target: str, config: PhantomConfig) -> np.ndarray:
    mine = [s[_TRUTHS.index(target)] for s in SUBTYPES]
    return np.stack([p[:, [m == c for m in mine]].sum(axis=1) for c in classes_of(target, config)], axis=1)


def expected_ceilings(
    config: PhantomConfig, *, n: int = PATIENTS, seed: int = 0
) -> dict[str, dict[str, float]]:
    """AUC of each oracle for each target over n patients drawn for it, as `stats.classification` defines it."""
    columns = draw_columns(random_lots(n, seed), config)
    out: dict[str, dict[str, float]] = {}
    for target in _TRUTHS:
        truth, classes = _truth(columns["subtype"], target), classes_of(target, config)
        known = truth != ""
        out[target] = {}
        for name, with_age in CEILINGS.items():
            p = class_posterior(columns, target, config, with_age=with_age)[known]
            shown = classes[1:] if len(classes) == 2 else classes
            each = [_auc(truth[known] == c, p[:, classes.index(c)]) for c in shown]
            out[target][name] = float(np.mean(each))
    return out


def _truth(subtype: np.ndarray, target: str) -> np.ndarray:
    """Class (n,) of a target; empty in the healthy, who have a grade alone."""
    names = [s[_TRUTHS.index(target)] for s in SUBTYPES] + ["healthy" if target == "grade" else ""]
    return np.asarray(np.array(names)[subtype])


def _auc(positive: np.ndarray, score: np.ndarray) -> float:
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return float("nan")
    return float((rankdata(score)[positive].sum() - m * (m + 1) / 2) / (m * n))


# --- beside a cohort table -------------------------------------------------------------------------------------


def write_truth(folder: Path, cohort: Sequence[PhantomTraits], config: PhantomConfig) -> Path:
    """Write `truth.csv` and `truth.json` beside the table of a simulated cohort.

    The table has one row a patient: every class, written in the cohort table or not, every finding, and what each
    oracle holds of each class (`ceiling_grade_HGG`, `ceiling_with_age_grade_HGG`). The JSON has the settings, the
    share of each class among all that could be drawn, and the expected ceilings.

    Returns:
        The path of the table.
    """
    columns = _columns(cohort)
    table: dict[str, object] = {"case": [t.case for t in cohort]}
    table |= {t: [one.truth.get(t, "") for one in cohort] for t in _TRUTHS}
    for name in _SEEN:
        table[name] = ["" if t.findings is None else getattr(t.findings, name) for t in cohort]
    shares = {
        t: dict(zip(classes_of(t, config), class_shares(t, config).tolist(), strict=True)) for t in _TRUTHS
    }
    for name, with_age in CEILINGS.items():
        for target in _TRUTHS:
            p = class_posterior(columns, target, config, with_age=with_age)
            table |= {_column(name, target, c): p[:, i] for i, c in enumerate(classes_of(target, config))}
    about = {
        "about": EXPLANATION, "settings": asdict(config), "shares": shares,
        "expected_auc": expected_ceilings(config), "expected_over": PATIENTS,
    }  # fmt: skip
    write_json(folder / "truth.json", about)
    write_text(folder / "truth.csv", pd.DataFrame(table).to_csv(index=False, lineterminator="\n"))
    return folder / "truth.csv"


def _column(name: str, target: str, wanted: str) -> str:
    return f"{name.replace(' ', '_')}_{target}_{wanted}"


def _columns(cohort: Sequence[PhantomTraits]) -> dict[str, np.ndarray]:
    """As `draw_columns` gives them; the healthy get a tumour's findings, which mean nothing."""
    stand_in = Findings(50.0, 0.5, "none", 0.0, 2.0, "frontal", False, False, False, False, False, 1)
    seen = [t.findings or stand_in for t in cohort]
    subtypes = [
        -1 if t.findings is None else SUBTYPES.index((t.grade, str(t.idh), str(t.codel_1p19q)))
        for t in cohort
    ]
    findings = {name: np.array([getattr(s, name) for s in seen]) for name in _SEEN}
    return {"subtype": np.array(subtypes), "age": np.array([t.age for t in cohort]), **findings}


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a simulated cohort.

    Attributes:
        table: `truth.csv` as text, a row a case.
        shares: share of each class of each target among all that could be drawn.
        expected_auc: AUC of each oracle for each target over `PATIENTS` patients.
    """

    table: pd.DataFrame
    shares: Mapping[str, Mapping[str, float]]
    expected_auc: Mapping[str, Mapping[str, float]]

    def expected(self, target: str, classes: Sequence[str], name: str) -> float | None:
        """The expected AUC of an oracle; None where other classes are told apart."""
        return self.expected_auc[target][name] if set(classes) == set(self.shares[target]) else None


def read_truth(cohort: Path, rows: Sequence[CaseRow], target: str) -> Truth | None:
    """Read what stands beside the table of a simulated cohort; None where nothing does.

    Args:
        cohort: the cohort table.
        rows: cases it must speak for.
        target: what is to be told.

    Raises:
        CohortError: one of the two files is missing, or a case is not in `truth.csv` or has another class there.
    """
    path = cohort.parent / "truth.csv"
    if not path.is_file():
        return None
    table = read_text_table(path)
    if not {"case", _column("ceiling", "grade", "HGG")} <= set(table):
        say(f"{path} is no table of a simulated cohort; no ceiling is shown")
        return None
    if not path.with_suffix(".json").is_file():
        raise CohortError(
            f"{path}: no truth.json beside it; simulate the cohort again with: gliolens cohort phantom, or remove both"
        )
    known = dict(zip(table["case"], table[target], strict=True)) if target in _TRUTHS else {}
    wrong = [row.case for row in rows if target in row.targets and known.get(row.case) != row.targets[target]]
    if wrong:
        raise CohortError(
            f"{path} does not speak for {len(wrong)} cases, such as {wrong[0]}: they are not in it, or have another "
            f"{target} there; put the cohort table in a folder of its own, or simulate it again with: "
            "gliolens cohort phantom"
        )
    about = read_json(path.with_suffix(".json"))
    return Truth(table.set_index("case"), about["shares"], about["expected_auc"])


def ceiling_rows(truth: Truth, answers: pd.DataFrame, target: str, classes: Sequence[str]) -> pd.DataFrame:
    """What each oracle answers for the cases that one entrant answered.

    Args:
        truth: of the cohort.
        answers: rows of one entrant; see `protocol.answer_rows`.
        target: what is told.
        classes: among which.

    Returns:
        Such rows of each of `CEILINGS`.
    """
    mine = truth.table.loc[list(answers["case"])]
    prior = np.array([truth.shares[target][c] for c in classes])
    prior /= prior.sum()
    out = []
    for name in CEILINGS:
        p = mine[[_column(name, target, c) for c in classes]].to_numpy(dtype=float)
        p /= p.sum(axis=1, keepdims=True)
        decided = np.array(classes)[(p / prior).argmax(axis=1)]  # as the controls decide
        told = {f"p_{c}": p[:, i] for i, c in enumerate(classes)}
        told |= {f"prior_{c}": np.full(len(p), share) for c, share in zip(classes, prior, strict=True)}
        out.append(answers.assign(method=name, control=False, decision=decided, **told))
    return pd.concat(out, ignore_index=True)


def ceiling_note(table: Sequence[Mapping[str, Any]]) -> str:
    """What the ceilings in a table of scores mean, and what they come to in the long run; empty where there is none."""
    ceilings = [row for row in table if row["ceiling"]]
    expected = [
        f"{row['method']} {row['expected_auc']:.2f}" for row in ceilings if row["expected_auc"] is not None
    ]
    if not ceilings:
        return ""
    return EXPLANATION + (
        f" Expected AUC over {PATIENTS:,} patients: {', '.join(expected)}." if expected else ""
    )
