"""How far the errors of folds go together: variance of an AUC pooled from folds, beside what DeLong says it is.

OMP_NUM_THREADS=1 python benchmarks/folds.py --runs 400 > docs/tables/folds.md

Patients have features of which the first tells the class, or none does. For a score that is linear in the features the
variance is 2 - r times what it would be were the patients tested independent of the models: r is how far two models
agree that were learnt from other patients, 0 where there is nothing to learn. (With S_j the sum of y x over fold j, a
score learnt from all folds but j is tested on S_j; added up over folds, each product S_j S_k stands there twice.)
`stats.intervals.over_folds` takes 1 + (k - 1) / k. Six minutes.
"""

import argparse
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from gliolens.stats.intervals import Interval, delong, over_folds, stretch_of

FRESH = 400
"""Patients whom no model has learnt from, half of them positive: for the AUC that models really have, and for r."""
LEARNERS = {
    "logistic regression": lambda: LogisticRegression(max_iter=1000),
    "15 nearest neighbours": lambda: KNeighborsClassifier(15),
}


class Design(NamedTuple):
    """A cohort and how it is divided; `shift` is how far the classes stand apart in the first feature, in SD."""

    learner: str
    patients: int
    share: float
    features: int
    shift: float
    folds: int


class Found(NamedTuple):
    """Of one cohort."""

    plain: Interval
    wide: Interval
    fresh: float
    agreement: float


def drawn(design: Design, patients: int, random: np.random.Generator):
    """Features (n, p) and classes (n,)."""
    y = random.permutation((np.arange(patients) < round(design.share * patients)).astype(int))
    x = random.normal(size=(patients, design.features))
    x[:, 0] += design.shift * y
    return x, y


def asked(design: Design, train, fresh):
    """What a model learnt from `train` says of `fresh`."""
    return LEARNERS[design.learner]().fit(*train).predict_proba(fresh)[:, 1]


def one_run(design: Design, seed: int) -> Found:
    random = np.random.default_rng(seed)
    (x, y), (other_x, other_y) = (drawn(design, design.patients, random) for _ in range(2))
    fresh, truth = drawn(design._replace(share=0.5), FRESH, random)
    p, real = np.zeros(len(y)), []
    for train, test in StratifiedKFold(design.folds, shuffle=True, random_state=seed).split(x, y):
        told = asked(design, (x[train], y[train]), np.concatenate([x[test], fresh]))
        p[test] = told[: len(test)]
        real.append(roc_auc_score(truth, told[len(test) :]))
    other = asked(design, (other_x[train], other_y[train]), fresh)  # as many patients, all of them others
    plain = delong(y, p)
    agreement = np.corrcoef(told[len(test) :], other)[0, 1]
    return Found(plain, over_folds(plain, design.folds), float(np.mean(real)), float(agreement))


def held(intervals, truth):
    return f"{100 * np.mean([i.low <= truth <= i.high for i in intervals]):.1f}"


def said_variance(plain: Interval) -> float:
    """DeLong's variance of the AUC, back from the interval, which is normal on the logit scale."""
    low, high = (np.log(b / (1 - b)) for b in (plain.low, plain.high))
    return float(((high - low) / 2 / 1.959964 * plain.value * (1 - plain.value)) ** 2)


def row(design: Design, runs: int) -> list[str]:
    every = [one_run(design, seed) for seed in range(runs)]
    aucs = np.array([f.plain.value for f in every])
    truth = 0.5 if design.shift == 0 else float(np.mean([f.fresh for f in every]))
    agreement = float(np.mean([f.agreement for f in every]))
    ratio = aucs.var(ddof=1) / np.mean([said_variance(f.plain) for f in every])
    plain, wide = ([getattr(f, name) for f in every] for name in ("plain", "wide"))
    return [
        design.learner, f"{design.patients}, {design.share:.0%}", str(design.features), f"{design.shift:g}",
        str(design.folds), f"{truth:.3f}", f"{aucs.mean():.3f}", f"{agreement:.2f}", f"{2 - agreement:.2f}",
        f"{ratio:.2f}", f"{stretch_of(design.folds) ** 2:.2f}", held(plain, truth), held(wide, truth),
    ]  # fmt: skip


def designs():
    for learner in LEARNERS:
        for features, shift in ((2, 0.0), (20, 0.0), (200, 0.0), (200, 1.5), (20, 1.5), (2, 1.5)):
            yield Design(learner, 100, 0.5, features, shift, 5)
    linear = next(iter(LEARNERS))
    yield from (Design(linear, 100, 0.5, 20, 0.0, folds) for folds in (2, 3, 10))
    yield from (Design(linear, patients, 0.2, 20, 0.0, 5) for patients in (40, 100))


def main(runs: int) -> None:
    print(f"`benchmarks/folds.py --runs {runs}`: as many simulated cohorts a row.\n")
    columns = [
        "learner", "patients, positive", "features", "classes apart, SD", "folds", "true AUC", "mean AUC",
        "r", "2 - r", "variance by DeLong's", "taken", "held, plain, %", "held, widened, %",
    ]  # fmt: skip
    for cells in (columns, ["---"] * len(columns)):
        print("| " + " | ".join(cells) + " |")
    for design in designs():
        print("| " + " | ".join(row(design, runs)) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=400)
    main(**vars(parser.parse_args()))
