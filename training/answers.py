"""From the public tables to the built-in answers: fits, cross-validates and writes `weights/answers.json`.

    python training/answers.py --tables ../shared/data/tables -o src/gliolens/weights/answers.json

Minutes on one core; says on stderr what it does. The same tables give the same bytes. What came out: `docs/answers.md`.

Everything is measured by five folds over patients, stratified, repeated with other folds; means over the repeats are
given. Nothing is tuned: the penalty is scikit-learn's default (C = 1), the quantities are the same in every fold, and
what choosing the quantities inside the folds would have given stands beside them (`tried`).
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from answer_fit import (
    FOLDS,
    NOTHING,
    SOURCES,
    TABLES,
    Change,
    Cohort,
    Part,
    answer,
    fit,
    held_out,
    in_set,
    nonconformity,
    read_cohorts,
)
from sklearn.linear_model import LogisticRegression

from gliolens.answers import FORMAT
from gliolens.io.store import file_hash, write_json
from gliolens.progress import say
from gliolens.stats.calibration import calibration_error
from gliolens.stats.classification import class_scores
from gliolens.stats.intervals import delong_difference

LEVEL: Final = 0.9
REPEATS: Final = 10
NESTED_REPEATS: Final = 5
RESAMPLES: Final = 1000
DIGITS: Final = 10

TAKEN: Final = "coefficients, ranges, scores of patients held out; no row of the tables"
AGE: Final = {"age": "plain"}
ROUND: Final = {"sphericity": "plain"}
BULK: Final = {"volume": "log"}
FILLED: Final = {"filling": "plain"}
TISSUE: Final = {"enhancing": "log(q + 1)", "necrotic": "log(q + 1)", "oedema": "log(q + 1)"}
SHARE: Final = {"enhancing_share": "square root"}
CANDIDATES: Final = (
    AGE,
    {**BULK, **AGE},
    {**ROUND, **AGE},
    {**FILLED, **AGE},
    {**BULK, **ROUND, **AGE},
    {**BULK, **FILLED, **AGE},
    {**ROUND, **FILLED, **AGE},
    {**BULK, **ROUND, **FILLED, **AGE},
)
"""Sets of quantities that the choice inside the folds picks from."""

COLLECTIONS: Final = (
    "LGG and HGG come from two collections of different hospitals and years: part of the AUC may be that"
)
THIRD: Final = (
    "does not tell grade 2 from 3: their share among lower grades in training is given, whatever the scan"
)
ELSEWHERE: Final[Mapping[str, str]] = {
    "who_grade": "with age, it did worse than age alone on 50 patients of other hospitals (TCGA-LGG, 10 of grade 4): "
    "AUC 0.62 (0.43 to 0.78) against 0.78",
    "idh": "with age, it did no better than age alone on 52 patients of other hospitals (TCGA-LGG, 43 mutant): "
    "AUC 0.85 (0.69 to 0.93) against 0.84; its sets held 69 % of the mutant",
}
"""On the outlines of `../shared/data/tcga_lgg`, which no table holds; `tests/test_answers.py` measures it anew."""
FEW: Final = (
    "learnt from nine codeleted tumours: it sees that codeleted tumours seldom enhance, and tells them from other "
    "lower grades hardly at all"
)


@dataclass(frozen=True)
class Recipe:
    """A predictor to be fitted: what it looks at, what it watches (`fit`), and its standing cautions."""

    target: str
    source: str
    transforms: Mapping[str, str]
    watched: Mapping[str, str] = field(default_factory=dict)
    reading: str = "first"
    cautions: tuple[str, ...] = ()

    @property
    def aged(self) -> bool:
        """Whether it looks at age."""
        return "age" in self.transforms

    def part(self, cohorts: Mapping[str, Cohort], *more: str) -> Part:
        """The exams whose target and quantities, and `more`, are known."""
        return cohorts[self.source].part(self.target, [*self.transforms, *self.watched, *more])


def recipes() -> tuple[Recipe, ...]:
    """Every predictor that is shipped; grade and 1p/19q without age only (docs/answers.md says why)."""
    out = [
        Recipe("grade", "brats_tcga", TISSUE, cautions=(COLLECTIONS,)),
        Recipe("codel_1p19q", "brats_tcga", SHARE, cautions=(FEW,)),
    ]
    for age in (AGE, NOTHING):
        shape = {**BULK, **ROUND, **FILLED, **age}
        out += [
            Recipe("who_grade", "ucsf_pdgm", shape, cautions=(THIRD, ELSEWHERE["who_grade"])),
            Recipe("idh", "ucsf_pdgm", {**ROUND, **age}, {**BULK, **FILLED}, cautions=(ELSEWHERE["idh"],)),
            Recipe("idh", "brats_tcga", {**SHARE, **age}, reading="second"),
        ]
    return tuple(out)


# --- measuring --------------------------------------------------------------------------------------------------


class Tested(NamedTuple):
    """Exams, and the answers `(n, k)` of predictors that did not see their patients."""

    part: Part
    p: np.ndarray


def repeated(part: Part, transforms: Mapping[str, str], change: Change = dict) -> list[Tested]:
    """Answers held out, once a repeat."""
    return [Tested(part, held_out(part, transforms, seed, change)) for seed in range(REPEATS)]


def permuted(part: Part, transforms: Mapping[str, str]) -> list[Tested]:
    """The same with permuted labels: what chance looks like."""
    mixed = [part.shuffled(seed) for seed in range(REPEATS)]
    return [Tested(m, held_out(m, transforms, seed)) for seed, m in enumerate(mixed)]


def scored(name: str, runs: Sequence[Tested], *, control: bool = False) -> dict[str, Any]:
    """One row of scores of the last class against the others: means over the repeats, and their spread."""
    found, errors = [], []
    for part, p in runs:
        top, truth = np.clip(p[:, -1], 0, 1), part.top.astype(int)
        both, decided = np.column_stack([1 - top, top]), (top >= 0.5).astype(int)
        found.append(class_scores(truth, both, decided, part.patients.tolist(), resamples=RESAMPLES))
        errors.append(calibration_error(truth, top))
    auc, part = np.array([[s["auc"].value, s["auc"].low, s["auc"].high] for s in found]), runs[0].part
    return {
        "name": name,
        "control": control,
        "n": len(part.truth),
        "positive": int(part.top.sum()),
        **dict(zip(("auc", "low", "high"), auc.mean(axis=0).tolist(), strict=True)),
        "auc_spread": float(auc[:, 0].std()),
        "auc_lowest": float(auc[:, 0].min()),
        "ece": float(np.mean(errors)),
        "ece_highest": float(np.max(errors)),
        **{n: float(np.mean([s[n].value for s in found])) for n in ("brier", "sensitivity", "specificity")},
    }


def beside(cohorts: Mapping[str, Cohort], recipe: Recipe) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The controls, and AUC of the predictor less that of age alone.

    The difference: on one exam of each patient whose age is known, answers averaged over the repeats (DeLong).
    """
    part, aged = recipe.part(cohorts, "volume"), recipe.part(cohorts, "age")
    by_age = repeated(aged, AGE)
    rows = [
        scored("age alone", by_age, control=True),
        scored("tumour volume alone", repeated(part, BULK), control=True),
        scored("permuted labels", permuted(part, recipe.transforms), control=True),
    ]
    _, one = np.unique(aged.patients, return_index=True)
    own, age = (average(runs)[one, -1] for runs in (repeated(aged, recipe.transforms), by_age))
    gain = delong_difference(aged.top[one].astype(int), own, age).interval
    return rows, {"difference": gain.value, "low": gain.low, "high": gain.high}


def average(runs: Sequence[Tested]) -> np.ndarray:
    """Answers `(n, k)`, averaged over the repeats."""
    return np.asarray(np.mean([run.p for run in runs], axis=0))


def coverage(part: Part, transforms: Mapping[str, str]) -> list[dict[str, Any]]:
    """How often the conformal set holds the true class, by class: sets made inside the training folds only."""
    sets = []
    for seed in range(NESTED_REPEATS):
        held = np.zeros((len(part.truth), len(part.classes)), bool)
        for train, test in part.folds(seed):
            learnt = part.rows(train)
            scores = nonconformity(learnt, held_out(learnt, transforms, seed))
            held[test] = in_set(answer(fit(learnt, transforms), part.rows(test).known), scores, LEVEL)
        sets.append(held)
    table = np.array(sets)
    return [
        {
            "class": name,
            "n": int((part.truth == k).sum()),
            "covered": float(table[:, part.truth == k, k].mean()),
            "one_class": float((table[:, part.truth == k].sum(axis=2) == 1).mean()),
            "none": float((table[:, part.truth == k].sum(axis=2) == 0).mean()),
        }
        for k, name in enumerate(part.classes)
    ]


def tried(cohorts: Mapping[str, Cohort]) -> list[dict[str, Any]]:
    """What was measured and is not shipped."""
    ucsf, every = cohorts["ucsf_pdgm"], {**BULK, **ROUND, **FILLED, **AGE}
    rows = []
    for target in ("idh", "who_grade"):
        part = ucsf.part(target, list(every))
        runs = [Tested(part, _chosen_inside(part, seed)) for seed in range(REPEATS)]
        rows.append({"target": target, **scored("quantities chosen inside the folds", runs)})
        rows += [{"target": target, **scored(_words(c), repeated(part, c))} for c in CANDIDATES]
    codel = ucsf.part("codel_1p19q", list(every))
    sets = (ROUND, {**ROUND, **AGE}, {**BULK, **ROUND})
    rows += [{"target": "codel_1p19q", **scored(_words(c), repeated(codel, c))} for c in sets]
    other = (("grade", {**TISSUE, **AGE}), ("idh", {**TISSUE, **AGE}), ("codel_1p19q", {**SHARE, **AGE}))
    for target, c in other:
        part = cohorts["brats_tcga"].part(target, list(c))
        rows.append({"target": target, **scored(f"BraTS-TCGA: {_words(c)}", repeated(part, c))})
    low = ucsf.part("who_grade", list(every)).lower()
    rows.append({"target": "who_grade", **scored(f"3 against 2: {_words(every)}", repeated(low, every))})
    return rows


def _words(transforms: Mapping[str, str]) -> str:
    return ", ".join(transforms)


def _chosen_inside(part: Part, seed: int) -> np.ndarray:
    p = np.zeros((len(part.truth), len(part.classes)))
    for train, test in part.folds(seed):
        learnt = part.rows(train)
        errors = [np.mean((held_out(learnt, c, seed)[:, -1] - learnt.top) ** 2) for c in CANDIDATES]
        p[test] = answer(fit(learnt, CANDIDATES[int(np.argmin(errors))]), part.rows(test).known)
    return p


def robustness(cohorts: Mapping[str, Cohort]) -> list[dict[str, Any]]:
    """Scores where the exams held out were outlined otherwise than those learnt from."""
    changes: Mapping[str, Change] = {
        "sphericity 5 % higher": lambda k: {**k, "sphericity": k["sphericity"] * 1.05},
        "sphericity 10 % higher": lambda k: {**k, "sphericity": k["sphericity"] * 1.10},
        "sphericity 15 % higher": lambda k: {**k, "sphericity": k["sphericity"] * 1.15},
        "volume 20 % lower": lambda k: {**k, "volume": k["volume"] * 0.8},
        "volume 20 % higher": lambda k: {**k, "volume": k["volume"] * 1.2},
        "filling 10 % lower": lambda k: {**k, "filling": k["filling"] * 0.9},
    }
    shown = [r for r in recipes() if r.source == "ucsf_pdgm" and r.aged]
    return [
        {"target": r.target, **scored(name, repeated(r.part(cohorts), r.transforms, change))}
        for r in shown
        for name, change in changes.items()
    ]


def external(cohorts: Mapping[str, Cohort]) -> list[dict[str, Any]]:
    """Fitted to one source, scored on the other, by what both tables hold: age and volume."""
    rows = []
    sets = (AGE, BULK, {**BULK, **AGE})
    for target in ("idh", "who_grade", "codel_1p19q"):
        for learnt, tested in (("ucsf_pdgm", "brats_tcga"), ("brats_tcga", "ucsf_pdgm")):
            for transforms in sets:
                a, b = (cohorts[s].part(target, ["volume", "age"]) for s in (learnt, tested))
                row = scored(_words(transforms), [Tested(b, answer(fit(a, transforms), b.known))])
                rows.append({"target": target, "fitted_on": learnt, "tested_on": tested, **row})
    return rows


# --- writing ----------------------------------------------------------------------------------------------------


def made(cohorts: Mapping[str, Cohort], recipe: Recipe) -> dict[str, Any]:
    """One predictor as it is written: fitted to all, with all that was measured by cross-validation."""
    part = recipe.part(cohorts)
    fitted = fit(part, recipe.transforms, recipe.target, recipe.watched)
    runs = repeated(part, recipe.transforms)
    own = scored("this predictor", runs)
    controls, gain = beside(cohorts, recipe)
    scores = dict(zip(part.classes, nonconformity(part, average(runs)), strict=True))
    counted = ", ".join(f"{int((part.truth == k).sum())} {c}" for k, c in enumerate(part.classes))
    source = SOURCES[recipe.source]
    patients, exams = len(set(part.patients)), len(part.truth)
    return {
        "target": recipe.target,
        "reading": recipe.reading,
        "age": recipe.aged,
        "source": recipe.source,
        "classes": part.classes,
        "exams": exams,
        "patients": patients,
        "n": {c: int((part.truth == k).sum()) for k, c in enumerate(part.classes)},
        "trained_on": (
            f"{exams} exams of {patients} patients of {source['title']} ({source['by']}, {source['licence']}): "
            f"{counted}"
        ),
        "quantities": [vars(q) for q in fitted.quantities],
        "steps": [vars(s) for s in fitted.steps],
        "precision": fitted.precision.tolist(),
        "limit": fitted.limit,
        "abstaining": sum(bool(fitted.why_not(_row(part, i))) for i in range(exams)),
        "calibration": slope(runs),
        "conformal": {name: s.tolist() for name, s in scores.items()},
        "coverage": coverage(part, recipe.transforms),
        "scores": [own, *controls],
        "against_age": gain,
        "cautions": [*recipe.cautions, *spoken(part, own, controls[0], gain)],
    }


def _row(part: Part, i: int) -> dict[str, float]:
    return {name: float(values[i]) for name, values in part.known.items()}


def slope(runs: Sequence[Tested]) -> dict[str, float]:
    """Calibration slope and intercept of the held-out log odds, means over the repeats: 1 and 0 are best."""
    free = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    found = []
    for part, p in runs:
        odds = np.log(p[:, -1] / (1 - p[:, -1]))[:, None]
        fitted = free.fit(odds, part.top)
        found.append((float(fitted.coef_[0, 0]), float(fitted.intercept_[0])))
    steep, shift = np.mean(found, axis=0).tolist()
    return {"slope": steep, "intercept": shift}


def spoken(
    part: Part, own: Mapping[str, Any], age: Mapping[str, Any], gain: Mapping[str, float]
) -> list[str]:
    """Cautions that follow from what was measured."""
    share = own["positive"] / own["n"]
    said = [
        f"{share:.0%} of those it learnt from are {part.classes[-1]}: where your patients differ, "
        "so do the probabilities"
    ]
    beside = f"AUC {own['auc']:.2f} against {age['auc']:.2f}"
    if gain["high"] < 0:
        said.append(f"does worse than age alone ({beside})")
    elif gain["low"] <= 0:
        said.append(f"does not beat age alone beyond doubt ({beside})")
    return said


def rounded(value: Any) -> Any:
    """The same content with every number at `DIGITS` significant digits."""
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main() -> None:
    """Read the tables, fit and measure every predictor, write the file."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--tables", type=Path, required=True, help="folder of the public tables")
    options.add_argument("-o", "--out", type=Path, required=True, help="the JSON file to write")
    given = options.parse_args()
    cohorts = read_cohorts(given.tables)
    predictors = []
    for recipe in recipes():
        predictors.append(made(cohorts, recipe))
        row = predictors[-1]["scores"][0]
        say(
            f"{recipe.target}, {recipe.reading} reading from {_words(recipe.transforms)}: "
            f"AUC {row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f}), ECE {row['ece']:.3f}"
        )
    sources = {
        name: {**about, "taken": TAKEN, "files": {f: file_hash(given.tables / f) for f in TABLES[name]}}
        for name, about in SOURCES.items()
    }
    say("measuring what was tried, other outlines, and the other source")
    card = {
        "format": FORMAT,
        "made_by": "training/answers.py",
        "level": LEVEL,
        "folds": FOLDS,
        "repeats": REPEATS,
        "sources": sources,
        "predictors": predictors,
        "tried": tried(cohorts),
        "robustness": robustness(cohorts),
        "external": external(cohorts),
    }
    write_json(given.out, rounded(card))
    say(f"{given.out} written")


if __name__ == "__main__":
    main()
