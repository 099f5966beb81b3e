"""What a run's files know of its patients: where they come from, who was left out, how they were divided.

Each function answers one kind of question in a few sentences, or raises NotKnownError. No patient is named.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from gliolens.cohorts.shuffle import SHUFFLED
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
    """The cohort table, by name and hash; and others that were tested."""
    here = f"{run.about('cohort')}, SHA-256 {run.about('settings', 'cohort')}"
    others = f" Tested too: {_named(run)}." if elsewhere(run) else ""
    return f"All cases learnt from stand in one cohort table, {here}.{others}"


def elsewhere(run: RunFiles) -> Sequence[str]:
    """Folders of the scores on other cohorts, of `gliolens evaluate` and of `gliolens bench --external`."""
    return [
        file.removesuffix("/evaluation.json")
        for file in run.named("", "/evaluation.json")
        if not run.ask(file, "same_cohort")
    ]


def cohort_of(run: RunFiles, folder: str) -> str:
    """The cohort table that the scores in a folder are of; with the class shares that were put in, where any were."""
    file = f"{folder}/evaluation.json"
    shares = run.contents[file].get("prevalence") or {}
    put_in = ", ".join(f"{c} {share:g}" for c, share in shares.items())
    told = f"{run.ask(file, 'cohort')}, SHA-256 {run.ask(file, 'sha256')}"
    return f"{told}, with class shares {put_in}" if put_in else told


def _named(run: RunFiles) -> str:
    return "; ".join(dict.fromkeys(cohort_of(run, folder) for folder in elsewhere(run)))


def other_cohorts(run: RunFiles) -> str:
    """That other cohorts were tested, which may differ in anything."""
    if not elsewhere(run):
        raise NotKnownError(f"{run.folder}: no other cohort was tested")
    return f"Other cohorts were tested, which may differ in more than chance: {_named(run)}."


def shuffled(run: RunFiles) -> str:
    """What scores on labels that were dealt out anew mean; empty where the labels are the cohort's own."""
    if not any("labels" in row for row in run.contents.get(METRICS, {}).get("scores", ())):
        return ""
    run.ask(METRICS, "scores")
    return SHUFFLED


def is_simulated(run: RunFiles) -> bool:
    """Whether the cohort is simulated."""
    try:
        _ask_simulated(run.afresh())
    except NotKnownError:
        return False
    return True


def _ask_simulated(run: RunFiles) -> None:
    """NotKnownError where nothing says that the cohort is simulated: no ceilings, nor what was shuffled."""
    if not shuffled(run):
        run.ask(METRICS, "ceilings")
    elif not run.about("shuffled", "simulated"):
        raise NotKnownError(f"{run.folder}: the cohort that was shuffled is not simulated")


def simulated_source(run: RunFiles) -> str:
    """That the cohort is simulated; of other cohorts that were tested too, nothing is said."""
    _ask_simulated(run)
    behind = "no patient stands behind any of them, and no score here tells how a method does on patients."
    if elsewhere(run):
        behind = (
            f"no patient stands behind any of them. Of the cohorts tested too it is not known: {_named(run)}."
        )
    made = "The scans were made by GlioLens (gliolens cohort phantom) on the MNI152 anatomy"
    return f"SIMULATED COHORT. {made}; {behind}"


def _ask_nobody_else(run: RunFiles) -> None:
    """NotKnownError where the cohort is not simulated, or another was tested that may not be."""
    _ask_simulated(run)
    if elsewhere(run):
        raise NotKnownError(f"{run.folder}: another cohort was tested, which may not be simulated")


def no_person(run: RunFiles) -> str:
    """That a question about persons has no object, where the cohort is simulated."""
    _ask_nobody_else(run)
    return "The cohort is simulated: no person stands behind any case."


def no_scanner(run: RunFiles) -> str:
    """That no scanner was used, where the cohort is simulated."""
    _ask_nobody_else(run)
    return "The cohort is simulated: no scanner was used."


def simulated_truth(run: RunFiles) -> str:
    """How the truth is known of a simulated cohort, whose labels are its own."""
    _ask_nobody_else(run)
    if shuffled(run):
        raise NotKnownError(f"{run.folder}: labels were shuffled")
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
    told = f"A case of the table was used where {', '.join(asked)}, and every method could read its files."
    return f"{told} Others were learnt from where they teach something else." if taught(run) else told


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
    told += f" Of these {more} taught an outline or another target." if (more := len(taught(run))) else ""
    return told + f" Cases refused: {len(refused)}" + (f" ({counted(refused)})." if refused else ".")


def taught(run: RunFiles) -> set[str]:
    """Cases left out of the target that taught a method something else."""
    return {case for fold in run.about("others") for case in fold}


def _expected(refusal: str) -> str:
    """What was expected of a case that was refused; the rest of the text may name the patient."""
    found = re.search(r"^  expected: (.+)$", refusal, flags=re.MULTILINE)
    return f"not {found[1]}" if found else "for a reason that failures.json tells"


def flow(run: RunFiles) -> str:
    """Patients from the table to the test."""
    divided = {case for fold in folds(run) for side in ("train", "test") for case in fold[side]}
    used = {case: who for case, who in run.about("cases").items() if case in divided}
    rest = len(run.about("cases")) - len(used)
    outside = f" Usable cases in no fold of the split: {rest}." if rest else ""
    return f"{left_out(run)} Used: {_people(run, used.values())}.{outside} {tested(run)}"


# --- how they were divided -------------------------------------------------------------------------------------


def folds(run: RunFiles) -> Sequence[Mapping[str, Sequence[str]]]:
    """Case ids on the two sides of every fold that was run: in a training, the first of the split."""
    divided: Sequence[Mapping[str, Sequence[str]]] = run.ask(SPLITS, "folds")
    return divided if run.is_bench else divided[:1]


def _used(run: RunFiles) -> list[dict[str, list[Sequence[str]]]]:
    """Patient and class of the cases on the two sides of every fold that was run, less those that cannot be used."""
    cases = run.about("cases")
    return [
        {side: [cases[c] for c in fold[side] if c in cases] for side in ("train", "test")}
        for fold in folds(run)
    ]


def _people(run: RunFiles, cases: Collection[Sequence[str]]) -> str:
    """Patients by class: `5 patients (2 LGG, 3 HGG)`; with their cases, where some have several."""
    number = len({patient for patient, _ in cases})
    of = counted((c for _, c in {tuple(one) for one in cases}), TARGETS[run.about("settings", "target")])
    told = f"{number} patients ({of})"
    return told if number == len(cases) else f"{told} with {len(cases)} cases"


def partition(run: RunFiles) -> str:
    """How patients were divided."""
    kind, divided, used = run.ask(SPLITS, "kind"), run.ask(SPLITS, "folds"), _used(run)
    sizes = "; ".join(f"{len(f['train'])} to learn from, {len(f['test'])} tested" for f in used)
    first = f"; of {len(divided)} in the split the first alone was run" if len(divided) > len(used) else ""
    return (
        f"By patient and alias, {KIND_TITLES[kind]}, stratified by {run.ask(SPLITS, 'target')}, drawn with seed "
        f"{run.ask(SPLITS, 'seed')}, made once and kept with SHA-256 {run.ask(SPLITS, 'hash')}. Folds: {len(used)} "
        f"({sizes} cases){first}."
    )


def disjoint(run: RunFiles) -> str:
    """At which level the sides are disjoint, checked again here.

    Raises:
        LeakError: a patient is on both sides.
    """
    who = dict(zip(*(tested_cases(run)[c] for c in ("case", "patient")), strict=True))
    known = set() if run.is_bench else set(run.about("train_patients"))
    for number, fold in enumerate(folds(run), 1):
        learnt = {who[c] for c in fold["train"] if c in who} | known
        if both := learnt & {who[c] for c in fold["test"] if c in who}:
            raise LeakError(
                f"{run.folder}: fold {number}: {len(both)} patients are on both sides; run it again"
            )
    if run.is_bench and not all(c in who for fold in folds(run) for c in fold["train"]):
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
    """Patients to learn from and patients tested, by class, in every fold."""
    told = [
        f"fold {k}: {_people(run, used['train'])} to learn from{_and_others(others)}, "
        f"{_people(run, used['test'])} tested"
        for k, (used, others) in enumerate(zip(_used(run), run.about("others"), strict=True), 1)
    ]
    return "; ".join(told) + "."


def _and_others(others: Sequence[str]) -> str:
    return f" (and {len(others)} of those left out, for something else)" if others else ""


def characteristics(run: RunFiles) -> str:
    """What is known of the patients: class and site."""
    return f"{sides(run)} {sites(run)}"


def differences(run: RunFiles) -> str:
    """How the patients held out differ from those learnt from, by design."""
    if run.ask(SPLITS, "kind") == "leave_one_site_out":
        return "Those tested are of a site that was not learnt from; the cohort table and the rules are the same."
    return "None by design: both sides were drawn by chance, within each class, from one cohort table."


def sites_left_out(run: RunFiles) -> str:
    """That sites were left out in turn, where they were."""
    if run.ask(SPLITS, "kind") != "leave_one_site_out":
        raise NotKnownError(f"{run.folder / SPLITS}: no site is left out")
    if not run.is_bench:
        raise NotKnownError(f"{run.folder}: one site was left out, not each in turn")
    return f"Each of {len(folds(run))} sites was left out in turn and tested alone."


# --- what is told of them --------------------------------------------------------------------------------------


def outcome(run: RunFiles) -> str:
    """What is told, and by which scheme of labels where that is known."""
    schemes = ", ".join(run.about("label_schemes")) or "no scheme that is named"
    told = f"{target(run)}, as the cohort table has it; labels after {schemes}."
    return f"{told} {shuffled(run)}" if shuffled(run) else told


def shares(run: RunFiles) -> str:
    """Class shares of the patients tested."""
    truth = tested_cases(run)["truth"]
    told = [f"{100 * (truth == c).mean():.0f} % {c}" for c in classes(run)]
    return f"Of the cases tested {', '.join(told)}."
