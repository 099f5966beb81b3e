"""What a run's files know of its patients: where they come from, who was left out, how they were divided.

Each function answers one kind of question in a few sentences, or raises NotKnownError. No patient is named.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from gliolens.errors import LeakError
from gliolens.labels import TARGET_TITLES, TARGETS
from gliolens.report.run.files import FAILURES, METRICS, PREDICTIONS, SPLITS, NotKnownError, RunFiles

KIND_TITLES: Mapping[str, str] = {
    "holdout": "a share of the patients of each class held out",
    "kfold": "folds with like shares of each class",
    "leave_one_site_out": "each site left out in turn",
}
"""Kinds of a split, in words."""


def tested_cases(run: RunFiles) -> pd.DataFrame:
    """Cases that were tested, one row each: `case`, `patient`, `truth`."""
    columns = {name: run.ask(PREDICTIONS, name) for name in ("case", "patient", "truth")}
    return pd.DataFrame(columns).drop_duplicates("case")


def classes(run: RunFiles) -> list[str]:
    """The classes told apart, in order."""
    if not run.is_bench:
        return list(run.about("classes"))
    found = set(tested_cases(run)["truth"])
    return [c for c in TARGETS[run.about("settings", "target")] if c in found]


def target(run: RunFiles) -> str:
    """What is told, in words: `IDH status (wildtype or mutant)`."""
    return f"{_titled(run)} ({' or '.join(classes(run))})"


def _titled(run: RunFiles) -> str:
    """The target as it stands within a sentence."""
    title = TARGET_TITLES[run.about("settings", "target")]
    return title.lower() if title == "Grade" else title


def series(run: RunFiles) -> list[str]:
    """Series that every case had to have."""
    return list(run.about("settings", "series") if run.is_bench else run.about("series"))


def counted(names: Iterable[str], order: Sequence[str] = ()) -> str:
    """How often each name occurs: `6 LGG, 10 HGG`; by `order`, else by how often."""
    found = Counter(names)
    listed = [name for name in order if name in found] or sorted(found, key=lambda n: (-found[n], n))
    return ", ".join(f"{found[name]} {name}" for name in listed)


# --- where they come from --------------------------------------------------------------------------------------


def sources(run: RunFiles) -> str:
    """The cohort table, by name and hash."""
    name = f" {run.about('cohort')}"
    return f"All cases stand in one cohort table{name}, SHA-256 {run.about('settings', 'cohort')}."


def simulated_source(run: RunFiles) -> str:
    """That the cohort is simulated, which its ceilings tell."""
    run.ask(METRICS, "ceilings")
    return (
        "SIMULATED COHORT. The scans were made by GlioLens (gliolens cohort phantom) on the MNI152 anatomy; no patient "
        "stands behind any of them, and no score here tells how a method does on patients."
    )


def no_person(run: RunFiles) -> str:
    """That a question about persons has no object, where the cohort is simulated."""
    run.ask(METRICS, "ceilings")
    return "The cohort is simulated: no person stands behind any case."


def no_scanner(run: RunFiles) -> str:
    """That no scanner was used, where the cohort is simulated."""
    run.ask(METRICS, "ceilings")
    return "The cohort is simulated: no scanner was used."


def simulated_truth(run: RunFiles) -> str:
    """How the truth is known of a simulated cohort."""
    run.ask(METRICS, "ceilings")
    return "The cohort is simulated: classes and masks were drawn before the scans were made, so they hold no error."


def sites(run: RunFiles) -> str:
    """How many cases tested are from each site."""
    table = pd.DataFrame({"case": run.ask(PREDICTIONS, "case"), "site": run.ask(PREDICTIONS, "site")})
    named = table.drop_duplicates("case")["site"]
    if not (named != "").any():
        raise NotKnownError(f"{run.folder / PREDICTIONS}: no site is named")
    unknown = int((named == "").sum())
    told = f"{named[named != ''].nunique()} sites among the cases tested: {counted(named[named != ''])}"
    return f"{told}; {unknown} of unknown site." if unknown else f"{told}."


# --- who was left out ------------------------------------------------------------------------------------------


def eligibility(run: RunFiles) -> str:
    """By which rules a case could be used."""
    healthy = run.about("settings").get("healthy")
    asked = [f"its {_titled(run)} is known"]
    asked += [f"it has {', '.join(series(run))}"] if series(run) else []
    asked += [] if healthy else ["it has a tumour mask"]
    return f"A case of the table was used where {', '.join(asked)}, and every method could read its files."


def missing_data(run: RunFiles) -> str:
    """What was done where something was missing."""
    return (
        "A case that lacks its class, a series, or a mask where one is needed is neither filled in nor scored. "
        f"{left_out(run)} In the control by age and sex a missing number takes the training median, beside a column "
        "that says so."
    )


def left_out(run: RunFiles) -> str:
    """How many cases were left out or refused, by reason."""
    absent = run.about("left_out").values()
    refused = [_expected(str(text)) for text in run.glance(FAILURES).values()]
    told = f"Cases left out: {len(absent)}" + (f" ({counted(absent)})." if absent else ".")
    return told + f" Cases refused: {len(refused)}" + (f" ({counted(refused)})." if refused else ".")


def _expected(refusal: str) -> str:
    """What was expected of a case that was refused; the rest of the text may name the patient."""
    found = re.search(r"^  expected: (.+)$", refusal, flags=re.MULTILINE)
    return f"not {found[1]}" if found else "for a reason that failures.json tells"


def flow(run: RunFiles) -> str:
    """Patients from the table to the test."""
    table = tested_cases(run)
    used = {case for fold in run.ask(SPLITS, "folds") for side in ("train", "test") for case in fold[side]}
    return (
        f"{left_out(run)} In the split: {len(used)} cases. Tested: {len(table)} cases of {table['patient'].nunique()} "
        f"patients ({counted(table['truth'], classes(run))})."
    )


# --- how they were divided -------------------------------------------------------------------------------------


def partition(run: RunFiles) -> str:
    """How patients were divided."""
    kind, folds = run.ask(SPLITS, "kind"), run.ask(SPLITS, "folds")
    sizes = "; ".join(f"{len(f['train'])} to learn from, {len(f['test'])} tested" for f in folds)
    return (
        f"By patient and alias, {KIND_TITLES[kind]}, stratified by {run.ask(SPLITS, 'target')}, drawn with seed "
        f"{run.ask(SPLITS, 'seed')}, made once and kept with SHA-256 {run.ask(SPLITS, 'hash')}. Folds: {len(folds)} "
        f"({sizes} cases)."
    )


def disjoint(run: RunFiles) -> str:
    """At which level the sides are disjoint, checked again here.

    Raises:
        LeakError: a patient is on both sides.
    """
    who = dict(zip(*(tested_cases(run)[c] for c in ("case", "patient")), strict=True))
    folds = run.ask(SPLITS, "folds")
    known = set() if run.is_bench else set(run.about("train_patients"))
    for number, fold in enumerate(folds, 1):
        learnt = {who[c] for c in fold["train"] if c in who} | known
        if both := learnt & {who[c] for c in fold["test"] if c in who}:
            raise LeakError(
                f"{run.folder}: fold {number}: {len(both)} patients are on both sides; run it again"
            )
    if run.is_bench and not all(c in who for fold in folds for c in fold["train"]):
        return "Patient: the split is by patient and alias."
    return f"Patient: of {len(set(who.values()))} patients tested none is on both sides of a fold, counted again here."


def tested(run: RunFiles) -> str:
    """How many were tested."""
    table = tested_cases(run)
    return (
        f"{len(table)} cases of {table['patient'].nunique()} patients were tested: "
        f"{counted(table['truth'], classes(run))}."
    )


def sides(run: RunFiles) -> str:
    """Patients to learn from and patients tested, by class."""
    if not run.is_bench:
        learnt = run.about("train_labels")
        return (
            f"To learn from: {len(run.about('train_patients'))} patients, of them with the target "
            f"{counted(learnt, classes(run))}. {tested(run)}"
        )
    truth = dict(zip(*(tested_cases(run)[c] for c in ("case", "truth")), strict=True))
    told = [_of_fold(fold, truth, classes(run)) for fold in run.ask(SPLITS, "folds")]
    return "; ".join(f"fold {k}: {words}" for k, words in enumerate(told, 1)) + "."


def _of_fold(fold: Mapping[str, Sequence[str]], truth: Mapping[str, str], order: Sequence[str]) -> str:
    parts = [counted((truth[c] for c in fold[side] if c in truth), order) for side in ("train", "test")]
    return f"{parts[0]} to learn from, {parts[1]} tested"


def characteristics(run: RunFiles) -> str:
    """What is known of the patients: class and site."""
    return f"{sides(run)} {sites(run)}"


def differences(run: RunFiles) -> str:
    """How the patients tested differ from those learnt from, by design."""
    if run.ask(SPLITS, "kind") == "leave_one_site_out":
        return (
            "Each fold tests on a site that was not learnt from; the cohort table and the rules are the same."
        )
    return "None by design: both sides were drawn by chance, within each class, from one cohort table."


def sites_left_out(run: RunFiles) -> str:
    """That sites were left out in turn, where they were."""
    if run.ask(SPLITS, "kind") != "leave_one_site_out":
        raise NotKnownError(f"{run.folder / SPLITS}: no site is left out")
    return f"Each of {len(run.ask(SPLITS, 'folds'))} sites was left out in turn and tested alone."


# --- what is told of them --------------------------------------------------------------------------------------


def outcome(run: RunFiles) -> str:
    """What is told, and by which scheme of labels where that is known."""
    schemes = run.about("label_schemes")
    return f"{target(run)}, as the cohort table has it; labels after {', '.join(schemes) or 'no scheme that is named'}."


def shares(run: RunFiles) -> str:
    """Class shares of the patients tested."""
    truth = tested_cases(run)["truth"]
    told = [f"{100 * (truth == c).mean():.0f} % {c}" for c in classes(run)]
    return f"Of the cases tested {', '.join(told)}."
