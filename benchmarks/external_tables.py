"""IDH and grade from shape and age: UCSF-PDGM by five folds, then fitted to all of it and tested on BraTS-TCGA.

nice python benchmarks/external_tables.py ../shared/data/tables --picture docs/pictures/external_tables.png \
    > docs/tables/external_tables.md

A minute on one core; the same tables give the same bytes. Logistic regressions as in `training/answers.py` (ridge,
C = 1, nothing tuned). Only what both tables hold and measure alike can be tested outside: volume of the whole tumour,
age and sex. The 14 shape features are in UCSF-PDGM alone. Both grades are those of WHO 2021: 4 against 2 and 3.
"""

import argparse
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
from answer_fit import Cohort, answer, fit, held_out, read_cohorts

from gliolens.radiomics.shape import FEATURES
from gliolens.report.survival_plot import COLOURS
from gliolens.stats.calibration import calibration_error, calibration_line
from gliolens.stats.classification import class_scores
from gliolens.stats.intervals import Interval, delong, delong_difference
from gliolens.stats.priors import with_prior

REPEATS, PERMUTATIONS, DRAWS = 10, 200, 1000
TARGETS = {"idh": ("IDH", "mutant"), "who_grade": ("WHO grade 2021", "grade 4")}
AGE, VOLUME, SEX = {"age": "plain"}, {"volume": "log"}, {"sex": "plain"}
SHAPE = dict.fromkeys(FEATURES, "plain")
ROWS = {
    "volume and age": {**VOLUME, **AGE},
    "14 shape features": SHAPE,
    "14 shape features and age": {**SHAPE, **AGE},
    "*age alone*": AGE,
    "*age and sex*": {**AGE, **SEX},
    "*volume alone*": VOLUME,
}
"""What each row looks at; controls in italics."""
BOTH = "volume and age"
UCSF_OF_TCGA = "08"
"""Tissue source site of TCGA that is UCSF itself."""


@dataclass(frozen=True)
class Told:
    """Scores of one row on one side: AUC, Brier score, ECE, and the calibration line."""

    auc: Interval
    brier: Interval
    ece: Interval
    slope: Interval
    intercept: Interval


# --- patients ---------------------------------------------------------------------------------------------------


def cohorts(tables):
    """Both cohorts of `training/answer_fit.py`, one exam a patient, with sex and the 14 features beside."""
    found = read_cohorts(tables)
    shapes = pd.read_csv(tables / "ucsf_pdgm_pyradiomics_t1gd_whole_tumour.csv").set_index("ID")
    return [one_exam(known_too(found[name], shapes)) for name in ("ucsf_pdgm", "brats_tcga")]


def known_too(cohort, shapes):
    sex = [{"M": 1.0, "F": 0.0}.get(row.sex, math.nan) for row in cohort.rows]
    cases = [row.case for row in cohort.rows]
    more = {f: shapes[f"original_shape_{f}"].reindex(cases).to_numpy(float) for f in FEATURES}
    return replace(cohort, known={**cohort.known, "sex": np.array(sex), **more})


def one_exam(cohort: Cohort):
    """The first exam of each patient, so that DeLong's interval holds."""
    _, at = np.unique(cohort.patients, return_index=True)
    return Cohort(
        cohort.source,
        cohort.patients[at],
        {n: v[at] for n, v in cohort.known.items()},
        [cohort.rows[i] for i in at],
    )


# --- fitting and scoring ----------------------------------------------------------------------------------------


def inside(part, looks_at):
    """P(last class) of each patient held out, once a repeat."""
    return [held_out(part, looks_at, seed)[:, -1] for seed in range(REPEATS)]


def outside(part, other, looks_at):
    """P(last class) of the other cohort's patients."""
    return answer(fit(part, looks_at), other.known)[:, -1]


def by_chance(part, other, looks_at):
    """AUC inside and outside of fits to shuffled labels: mean, and the range of 95 in 100 permutations."""
    found = []
    for seed in range(PERMUTATIONS):
        mixed = part.shuffled(seed)
        home = delong(mixed.top.astype(int), held_out(mixed, looks_at, seed)[:, -1]).value
        found.append((home, delong(other.top.astype(int), outside(mixed, other, looks_at)).value))
    return [
        Interval(float(np.mean(a)), *np.quantile(a, [0.025, 0.975]).tolist())
        for a in zip(*found, strict=True)
    ]


def scores(truth, p):
    both, patients = np.column_stack([1 - p, p]), [str(i) for i in range(len(p))]
    found = class_scores(truth.astype(int), both, (p >= 0.5).astype(int), patients)
    line = calibration_line(truth.astype(int), p)
    return Told(delong(truth.astype(int), p), found["brier"], found["ece"], line.slope, line.intercept)


def mean(told):
    """Means of values and bounds over the repeats."""

    def over(name):
        each = [getattr(t, name) for t in told]
        return Interval(
            *(float(np.mean([getattr(i, end) for i in each])) for end in ("value", "low", "high"))
        )

    return Told(*map(over, Told.__dataclass_fields__))


def drop(a, b):
    """AUC inside less AUC outside, by squares and adds of two intervals (Zou & Donner 2008, doi 10.1002/sim.3095)."""
    value = a.value - b.value
    return Interval(
        value,
        value - math.hypot(a.value - a.low, b.high - b.value),
        value + math.hypot(a.high - a.value, b.value - b.low),
    )


def told_share(p, trained, local):
    """The same answers, were the share of the class known where they are given."""
    balanced = np.column_stack([1 - p, p]) / np.array([1 - trained, trained])
    balanced /= balanced.sum(axis=1, keepdims=True)
    return with_prior(balanced, np.array([1 - local, local]))[:, 1]


# --- telling ----------------------------------------------------------------------------------------------------


def cell(interval, signed=False):
    if math.isnan(interval.value):
        return "-"
    ends = (interval.value, interval.low, interval.high)
    value, low, high = (f"{round(v, 2) + 0.0:{'+' if signed else ''}.2f}" for v in ends)
    return f"{value} ({low} to {high})"


def section(target, ucsf, tcga, drawn):
    title, positive = TARGETS[target]
    names = ["volume", "age", "sex"]
    part, other = ucsf.part(target, [*names, *FEATURES]), tcga.part(target, names)
    share, local = part.top.mean(), other.top.mean()
    home = {name: inside(part, looks_at) for name, looks_at in ROWS.items()}
    away = {name: outside(part, other, looks) for name, looks in ROWS.items() if set(looks) <= set(names)}
    mended = {name: told_share(p, share, local) for name, p in away.items()}
    drawn[target] = {
        "inside, five folds": (np.tile(part.top, REPEATS), np.concatenate(home[BOTH])),
        "outside": (other.top, away[BOTH]),
        "outside, share known": (other.top, mended[BOTH]),
    }
    yield f"### {title}\n"
    yield (
        f"Inside: {len(part.top)} patients of UCSF-PDGM ({part.top.sum()} {positive}, {share:.0%}). Outside: "
        f"{len(other.top)} of BraTS-TCGA ({other.top.sum()} {positive}, {local:.0%}).\n"
    )
    here = {name: mean([scores(part.top, p) for p in runs]) for name, runs in home.items()}
    there = {name: scores(other.top, p) for name, p in away.items()}
    known = {name: scores(other.top, p) for name, p in mended.items()}
    yield from ranks(here, there, by_chance(part, other, ROWS[BOTH]))
    yield f"\n{gain(part, home, other, away)}\n"
    yield "| looks at | | Brier score | ECE | slope | intercept |\n|---|---|---|---|---|---|"
    for name in ROWS:
        for where, told in (("inside", here), ("outside", there), ("outside, share known", known)):
            if name in told:
                yield f"| {name} | {where} | {calibration(told[name])} |"
    yield f"\n{chance_error(mended[BOTH])}\n"


def ranks(here, there, chance):
    yield "| looks at | AUC inside | AUC outside | drop |\n|---|---|---|---|"
    for name, told in here.items():
        if name in there:
            lost = drop(told.auc, there[name].auc)
            yield f"| {name} | {cell(told.auc)} | {cell(there[name].auc)} | {cell(lost, True)} |"
        else:
            yield f"| {name} | {cell(told.auc)} | not in the table | |"
    yield f"| *{BOTH}, labels permuted* | {cell(chance[0])} | {cell(chance[1])} | |"


def gain(part, home, other, away):
    """What volume adds to age, on the same patients; inside of answers averaged over the repeats."""
    told = []
    for where, truth, both, age in (
        ("inside", part.top, np.mean(home[BOTH], axis=0), np.mean(home["*age alone*"], axis=0)),
        ("outside", other.top, away[BOTH], away["*age alone*"]),
    ):
        told.append(f"{cell(delong_difference(truth.astype(int), both, age).interval, True)} {where}")
    return f"AUC of volume and age less that of age alone, on the same patients: {', '.join(told)} (DeLong)."


def calibration(told):
    signed = {"slope": False, "intercept": True}
    plain = [cell(getattr(told, name)) for name in ("brier", "ece")]
    return " | ".join([*plain, *(cell(getattr(told, n), s) for n, s in signed.items())])


def by_collection(ucsf, tcga):
    """What the cruder question would have said: glioblastoma or lower-grade collection instead of the grade of 2021."""
    part, other = ucsf.part("who_grade", ["volume", "age"]), tcga.part("grade", ["volume", "age"])
    found = {n: delong(other.top.astype(int), answer(fit(part, ROWS[n]), other.known)[:, -1])
             for n in (BOTH, "*age alone*", "*volume alone*")}  # fmt: skip
    graded = dict.fromkeys(row.case for row in tcga.rows if "who_grade" in row.targets)
    moved = sum(
        r.targets["grade"] == "LGG" and r.targets["who_grade"] == "4" for r in tcga.rows if r.case in graded
    )
    told = ", ".join(f"{n.strip('*')} {cell(auc)}" for n, auc in found.items())
    return (
        f"Asked for the collection in place of the grade (TCGA-GBM or TCGA-LGG, {len(other.top)} patients of known "
        f"age), the same fits have AUC: {told}. It is another question: {moved} of the {len(graded)} patients with a "
        "grade of 2021 are of grade 4 and in TCGA-LGG."
    )


def same_hospital(tcga):
    """Patients of both cohorts' common hospital."""
    here = [row for row in tcga.rows if row.site == UCSF_OF_TCGA]
    labelled = sum("idh" in row.targets or "who_grade" in row.targets for row in here)
    return (
        f"{len(here)} of the {len(tcga.rows)} patients of BraTS-TCGA were given to TCGA by UCSF (source site "
        f"{UCSF_OF_TCGA}); {labelled} of them have a known IDH status or grade of 2021."
    )


def chance_error(p):
    """The ECE that so few patients would have, were their probabilities right."""
    random = np.random.default_rng(0)
    drawn = [calibration_error((random.random(len(p)) < p).astype(int), p) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return (
        f"Were the probabilities of the third row right, {len(p)} patients would have an ECE of {np.mean(drawn):.2f} "
        f"({low:.2f} to {high:.2f}) by chance ({DRAWS:,} draws of labels)."
    )


def picture(drawn):
    """Predicted probability against observed share in fifths of the patients: inside, outside, share known."""
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    for axes, (target, (title, positive)) in zip(figure.subplots(1, 2), TARGETS.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.8", lw=1)
        for (label, (truth, p)), colour in zip(drawn[target].items(), COLOURS, strict=False):
            fifths = np.array_split(np.argsort(p, kind="stable"), 5)
            x, y = ([values[f].mean() for f in fifths] for values in (p, truth.astype(float)))
            axes.plot(x, y, "o-", label=label, color=colour)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=title)
        axes.set(xlabel=f"predicted probability of {positive}", ylabel=f"observed share of {positive}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("tables", type=Path, help="folder of the public tables")
    options.add_argument("--picture", type=Path, help="calibration from volume and age, inside and outside")
    given = options.parse_args()
    ucsf, tcga = cohorts(given.tables)
    drawn = {}
    for target in TARGETS:
        print("\n".join(section(target, ucsf, tcga, drawn)))
    print(by_collection(ucsf, tcga) + "\n\n" + same_hospital(tcga))
    if given.picture:
        picture(drawn).savefig(given.picture, dpi=110)


if __name__ == "__main__":
    main()
