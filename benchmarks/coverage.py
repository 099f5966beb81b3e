"""How often the 95 % intervals of the tables hold the truth, where the truth is known.

python benchmarks/coverage.py --runs 200 > docs/tables/coverage.md

A run draws a simulated cohort (patients, no scans), divides it, fits the control `age and sex` to each training side
and scores its answers as every table of GlioLens does. The truth: 0.5 where labels are shuffled; where they are not,
the mean AUC of the models on fresh patients. The ceilings answer without learning; theirs is the expected ceiling.
What takes a bootstrap, balanced accuracy and the AUC where DeLong's will not do, is scored for cohorts of 100 alone.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS, class_posterior, expected_ceilings
from gliolens.cohorts.phantom.literature import SUBTYPES
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_columns, random_lots
from gliolens.cohorts.splits import holdout, kfold
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import controls
from gliolens.protocol import Entrant, answer_rows, auc_of, scores_of
from gliolens.stats.classification import class_scores
from gliolens.stats.intervals import delong, over_folds

CONFIG, TARGET, CLASSES = PhantomConfig(), "idh", ("wildtype", "mutant")
MUTANT = np.array([s[1] == "mutant" for s in SUBTYPES])
CONTROL = controls.Config(kind="age-sex")
ENTRANT = Entrant("age and sex", "controls", CONTROL, is_control=True)
FRESH = 200
"""Patients that no cohort holds, for the AUC that a model really has."""


def cohort(n, seed, share=None):
    """n patients; IDH as drawn, or dealt out so that `share` of them are mutant."""
    drawn = draw_columns(random_lots(n, seed), CONFIG)
    mutant = MUTANT[drawn["subtype"]]
    if share is not None:
        mutant = np.random.default_rng([seed, 1]).permutation(np.arange(n) < round(share * n))
    columns = zip(drawn["age"].tolist(), drawn["sex"].tolist(), drawn["site"].tolist(), mutant, strict=True)
    rows = [
        CaseRow(f"{i}", f"{i}", age=age, sex=sex, site=site, targets={TARGET: CLASSES[int(m)]})
        for i, (age, sex, site, m) in enumerate(columns)
    ]
    return Cases(tuple(rows), need_mask=False)


def division(cases, folds, seed):
    """Five folds, or a quarter set aside."""
    if folds == 1:
        return holdout(cases.rows, TARGET, seed=seed)
    return kfold(cases.rows, TARGET, folds=folds, seed=seed)


def answers_of(train, test, seed):
    run = Run(TARGET, CLASSES, Path(), Path(), seed)
    model = controls.fit(train, CONTROL, run)
    return answer_rows(ENTRANT, model, test, controls.ready(test, CONTROL, run.cache), run)


def ranked(answers):
    """Truth and what the AUC ranks by, as `protocol.score` has it."""
    q = answers[[f"p_{c}" for c in CLASSES]].to_numpy(float) / answers[
        [f"prior_{c}" for c in CLASSES]
    ].to_numpy(float)
    return (answers["truth"] == CLASSES[1]).to_numpy(int), q / q.sum(axis=1, keepdims=True)


def one_run(n, share, folds, seed, *, resample):
    """Intervals of one run by name; and the AUC of a model on fresh patients, where labels are as drawn."""
    cases = cohort(n, seed, share)
    sides = [(cases.only(f.train), cases.only(f.test)) for f in division(cases, folds, seed).folds]
    answers = pd.concat([answers_of(*side, seed) for side in sides], ignore_index=True)
    truth, q = ranked(answers)
    plain = auc_of(truth, q, q.argmax(axis=1), list(answers["patient"]), seed)
    found = {"plain": plain, "auc": over_folds(plain, folds)}
    if resample:
        scores = scores_of(answers, CLASSES, seed, folds=folds)
        assert scores["auc"] == found["auc"]
        found |= {"balanced": scores["balanced_accuracy"], "drawn": drawn_auc(answers, truth, q, seed, folds)}
    fresh = None
    if share is None:
        truth, q = ranked(answers_of(sides[0][0], cohort(FRESH, 10**9 + seed), seed))
        fresh = delong(truth, q[:, 1]).value
    return found, fresh


def drawn_auc(answers, truth, q, seed, folds):
    """The AUC by the bootstrap, as it is where a patient has several cases or there are more than two classes."""
    found = class_scores(truth, q, q.argmax(axis=1), list(answers["patient"]), seed=seed)["auc"]
    return over_folds(found, folds)


def held(intervals, truth):
    """Share of intervals that hold the truth, in per cent, with its 95 % interval (Clopper and Pearson)."""
    hits = sum(i.low <= truth <= i.high for i in intervals)
    low, high = binomtest(hits, len(intervals)).proportion_ci(0.95)
    return f"{100 * hits / len(intervals):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def learnt_row(n, share, folds, runs):
    every = [one_run(n, share, folds, seed, resample=n == 100) for seed in range(runs)]
    found = [intervals for intervals, _ in every]
    truth = 0.5 if share is not None else float(np.mean([fresh for _, fresh in every]))
    aucs = [f["auc"] for f in found]
    plain = held([f["plain"] for f in found], truth) if folds > 1 else ""
    balanced = held([f["balanced"] for f in found], 0.5) if share is not None and n == 100 else ""
    drawn = held([f["drawn"] for f in found], truth) if n == 100 else ""
    return [
        n, "as drawn" if share is None else f"{share:.0%}", "a quarter held out" if folds == 1 else f"{folds} folds",
        f"{truth:.3f}", f"{np.mean([i.value for i in aucs]):.3f}", held(aucs, truth), plain, drawn, balanced,
    ]  # fmt: skip


def ceiling_rows(n, runs):
    """What each oracle answers for n patients, `runs` times."""
    expected = expected_ceilings(CONFIG, n=200_000)[TARGET]
    found = {name: [] for name in CEILINGS}
    for seed in range(runs):
        drawn = draw_columns(random_lots(n, seed + 1), CONFIG)
        truth = MUTANT[drawn["subtype"]].astype(int)
        for name, with_age in CEILINGS.items():
            p = class_posterior(drawn, TARGET, CONFIG, with_age=with_age)[:, 1]
            found[name].append(delong(truth, p))
    return [
        [
            n,
            name,
            f"{expected[name]:.3f}",
            f"{np.mean([i.value for i in mine]):.3f}",
            held(mine, expected[name]),
        ]
        for name, mine in found.items()
    ]


def line(cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(cells):
    line(cells)
    line(["---"] * len(cells))


def main(runs, many):
    print(
        f"`benchmarks/coverage.py --runs {runs} --many {many}`. IDH by age and sex; {runs} cohorts a row:\n"
    )
    head(
        [
            "patients",
            "mutant",
            "divided",
            "true AUC",
            "mean AUC",
            "AUC held, %",
            "not widened",
            "AUC by bootstrap",
            "balanced accuracy",
        ]
    )
    designs = [(n, share, folds) for folds in (1, 5) for share in (0.5, 0.2) for n in (40, 100, 200)]
    for design in [*designs, (100, 0.5, 3), (100, 0.5, 10), (40, None, 5), (100, None, 1), (100, None, 5)]:
        line(learnt_row(*design, runs))
    print(f"\nThe ceilings, which learn nothing; {many} cohorts a row:\n")
    head(["patients", "", "expected AUC", "mean AUC", "AUC held, %"])
    for n in (40, 100, 200):
        for row in ceiling_rows(n, many):
            line(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--many", type=int, default=2000)
    main(**vars(parser.parse_args()))
