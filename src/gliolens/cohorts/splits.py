"""Splits that cannot leak: by patient and alias, stratified by the target, hashed, checked on every read."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split

from gliolens.case import CaseRow
from gliolens.errors import CohortError, ConfigError, LeakError
from gliolens.io.store import content_hash, read_json, write_json
from gliolens.labels import TARGETS


@dataclass(frozen=True)
class Fold:
    """Case ids to learn from and case ids to test on, each sorted."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """How a cohort is divided.

    Attributes:
        kind: `holdout`, `kfold` or `leave_one_site_out`.
        target: the target it is stratified by.
        seed: seed of the draw.
        folds: one or more folds; repeats follow one another.
        left_out: cases whose target is unknown; they are in no fold.
    """

    kind: str
    target: str
    seed: int
    folds: tuple[Fold, ...]
    left_out: tuple[str, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over everything in the split, in hexadecimal."""
        return content_hash(_plain(self))


def patients(rows: Sequence[CaseRow]) -> dict[str, str]:
    """Name the patient behind each case.

    Two rows are one patient where they share a `patient` or an alias, or where an alias of one is the patient
    or the case of the other; and so on along the chain.

    Returns:
        The patient's name (the first in alphabetical order, of those his rows carry) for each case id.

    Raises:
        CohortError: a case id stands in the rows twice.
    """
    _check_unique(rows)
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    patient_of_case = {row.case: row.patient for row in rows}
    for row in rows:
        for alias in row.aliases:
            parent[root(alias)] = root(row.patient)
            if alias in patient_of_case:
                parent[root(patient_of_case[alias])] = root(row.patient)
    names: dict[str, str] = {}
    for row in rows:
        key = root(row.patient)
        names[key] = min(names.get(key, row.patient), row.patient)
    return {row.case: names[root(row.patient)] for row in rows}


def united(rows: Sequence[CaseRow]) -> tuple[CaseRow, ...]:
    """Bring every row under the one name of its patient (see `patients`); the name it had becomes an alias.

    Needed before rows are left out: the row that tells by its aliases that two names are one patient may go.

    Raises:
        CohortError: a case id stands in the rows twice.
    """
    name = patients(rows)
    return tuple(
        row
        if row.patient == name[row.case]
        else replace(row, patient=name[row.case], aliases=(*row.aliases, row.patient))
        for row in rows
    )


def holdout(rows: Sequence[CaseRow], target: str, *, test: float = 0.25, seed: int = 0) -> Split:
    """Set a share of each class's patients aside.

    Args:
        rows: the cohort, or any part of it (such as an outer training side, for an inner split).
        target: name from `labels.TARGETS`.
        test: share of the patients to set aside, between 0 and 1; at least one and never all of a class.
        seed: seed of the draw; the order of the rows does not matter.

    Raises:
        ConfigError: unknown target, or a share that is not between 0 and 1.
        CohortError: fewer than two classes, or a class of fewer than two patients.
    """
    if not 0 < test < 1:
        raise ConfigError(f"test share {test}: expected a number between 0 and 1, such as 0.25")
    plan = _Plan.of(rows, target)
    plan.need(2, "to be on both sides of a holdout")
    held: list[str] = []
    for members in plan.members().values():
        size = min(max(round(test * len(members)), 1), len(members) - 1)
        held += train_test_split(members, test_size=size, random_state=seed)[1]
    return plan.split("holdout", seed, [held])


def kfold(rows: Sequence[CaseRow], target: str, *, folds: int = 5, repeats: int = 1, seed: int = 0) -> Split:
    """Divide the patients into folds; each fold's share of a class differs by at most one patient.

    Args:
        rows: the cohort, or any part of it.
        target: name from `labels.TARGETS`.
        folds: number of folds, 2 or more.
        repeats: how many times to draw anew; the folds follow one another.
        seed: seed of the draw; the order of the rows does not matter.

    Raises:
        ConfigError: unknown target, fewer than two folds, or fewer than one repeat.
        CohortError: fewer than two classes, or a class of fewer patients than folds.
    """
    if folds < 2 or repeats < 1:
        raise ConfigError(f"{folds} folds, {repeats} repeats: expected at least 2 folds and 1 repeat")
    plan = _Plan.of(rows, target)
    plan.need(folds, f"for {folds} folds")
    names = np.array(list(plan.classes))
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
    drawn = splitter.split(names, np.array(list(plan.classes.values())))
    return plan.split("kfold", seed, [names[test].tolist() for _, test in drawn])


def leave_one_site_out(rows: Sequence[CaseRow], target: str) -> Split:
    """Test on each site in turn, in the order of their names, and learn from all others.

    Raises:
        ConfigError: unknown target.
        CohortError: a case of unknown site, fewer than two sites, or a class that one site alone has.
        LeakError: a patient was seen at two sites.
    """
    plan = _Plan.of(rows, target)
    known = [row for row in rows if target in row.targets]
    nowhere = sorted(row.case for row in known if row.site is None)
    if nowhere:
        raise CohortError(
            f"{len(nowhere)} cases of unknown site ({_some(nowhere)}); fill in the column site, or use kfold"
        )
    seen: dict[str, set[str]] = defaultdict(set)
    for row in known:
        seen[plan.patients[row.case]].add(str(row.site))
    for patient, sites in sorted(seen.items()):
        if len(sites) > 1:
            cases = sorted(row.case for row in known if plan.patients[row.case] == patient)
            raise LeakError(
                f"patient {patient!r} was seen at sites {', '.join(sorted(sites))} (cases {_some(cases)}): "
                "leaving one out would leave him on both sides; keep one of his sites, or use kfold"
            )
    at = {patient: next(iter(sites)) for patient, sites in seen.items()}
    plan.need_two_sites(at)
    held = [[p for p in plan.classes if at[p] == site] for site in sorted(set(at.values()))]
    return plan.split("leave_one_site_out", 0, held)


def check_leak(split: Split, rows: Sequence[CaseRow]) -> None:
    """Make sure that no patient is on both sides of any fold.

    Raises:
        LeakError: one is; names the patient and the cases.
        CohortError: the split names a case that the rows do not have.
    """
    group = patients(rows)
    _check_exist(split, group)
    for number, fold in enumerate(split.folds):
        trained = _cases_by_patient(fold.train, group)
        tested = _cases_by_patient(fold.test, group)
        for patient in sorted(trained.keys() & tested.keys()):
            raise LeakError(
                f"fold {number}: patient {patient!r} is on both sides: case {_some(trained[patient])} to "
                f"learn from, case {_some(tested[patient])} to test on; make the split again with: "
                "gliolens cohort split"
            )


def write_split(path: Path, split: Split) -> None:
    """Write a split and its hash as JSON, whole or not at all."""
    write_json(path, {**_plain(split), "hash": split.hash})


def read_split(path: Path, rows: Sequence[CaseRow]) -> Split:
    """Read a split and check it against the cohort.

    Raises:
        ModelError: the file is no readable JSON object.
        CohortError: it is not a split, was changed by hand, or names cases that the rows lack or whose target
            they do not know.
        LeakError: one patient is on both sides.
    """
    content = read_json(path)
    split = _parse(path, content)
    if content.get("hash") != split.hash:
        raise CohortError(
            f"{path}: hash {content.get('hash')!r}, expected {split.hash!r}: the split was changed after it "
            "was made; make it again with: gliolens cohort split"
        )
    check_leak(split, rows)
    unknown = sorted(_cases(split) & {row.case for row in rows if split.target not in row.targets})
    if unknown:
        raise CohortError(
            f"{path}: the table no longer knows {split.target} of {_some(unknown)}; correct it or make the "
            "split again"
        )
    return split


# --- patients and their classes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """The cohort as patients: what every kind of split is drawn from.

    Attributes:
        target: the target.
        patients: patient of each case.
        classes: class of each patient whose target is known, in the order of their names.
        known: cases whose target is known, sorted.
        left_out: the others, sorted.
    """

    target: str
    patients: Mapping[str, str]
    classes: Mapping[str, str]
    known: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[CaseRow], target: str) -> "_Plan":
        if target not in TARGETS:
            raise ConfigError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
        group = patients(rows)
        order = TARGETS[target]
        found: dict[str, str] = {}
        for row in rows:
            if (label := row.targets.get(target)) is None:
                continue
            if label not in order:
                raise CohortError(
                    f"case {row.case!r}: {target} is {label!r}, expected one of {', '.join(order)}"
                )
            # Several exams, several classes: the last in the vocabulary's order stands for the patient.
            found[group[row.case]] = max(found.get(group[row.case], label), label, key=order.index)
        plan = cls(
            target,
            group,
            {patient: found[patient] for patient in sorted(found)},
            tuple(sorted(row.case for row in rows if target in row.targets)),
            tuple(sorted(row.case for row in rows if target not in row.targets)),
        )
        if len(plan.members()) < 2:
            raise CohortError(f"{target}: {plan.numbers()}; a split needs at least two classes")
        return plan

    def members(self) -> dict[str, list[str]]:
        """Patients of each class that has any."""
        return {
            c: of_class
            for c in TARGETS[self.target]
            if (of_class := [p for p, label in self.classes.items() if label == c])
        }

    def numbers(self) -> str:
        return (
            ", ".join(f"{len(of_class)} patients {c}" for c, of_class in self.members().items())
            or "no patient known"
        )

    def need(self, n: int, why: str) -> None:
        small = [c for c, of_class in self.members().items() if len(of_class) < n]
        if small:
            raise CohortError(
                f"{self.target}: {self.numbers()}; {' and '.join(small)} needs at least {n} patients {why}. "
                "Ask for fewer folds, add patients, or leave the class out of the table"
            )

    def need_two_sites(self, at: Mapping[str, str]) -> None:
        if len(set(at.values())) < 2:
            raise CohortError(
                f"every case is from one site ({_some(set(at.values()))}); use kfold or holdout"
            )
        for label, of_class in self.members().items():
            sites = {at[p] for p in of_class}
            if len(sites) == 1:
                raise CohortError(
                    f"{self.target}: all {len(of_class)} patients {label} are from site {_some(sites)}; "
                    "leaving it out leaves none to learn from. Add sites that have the class, or use kfold"
                )

    def split(self, kind: str, seed: int, held: Iterable[Iterable[str]]) -> Split:
        """The split whose folds test on these patients."""
        folds = []
        for names in held:
            side = set(names)
            folds.append(
                Fold(
                    train=tuple(c for c in self.known if self.patients[c] not in side),
                    test=tuple(c for c in self.known if self.patients[c] in side),
                )
            )
        return Split(kind, self.target, seed, tuple(folds), self.left_out)


# --- checks and JSON ----------------------------------------------------------------------------------------


def _some(names: Iterable[str], most: int = 10) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _cases(split: Split) -> set[str]:
    return {case for fold in split.folds for case in (*fold.train, *fold.test)}


def _cases_by_patient(cases: Iterable[str], group: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        found[group[case]].append(case)
    return found


def _check_unique(rows: Sequence[CaseRow]) -> None:
    twice = [case for case, n in Counter(row.case for row in rows).items() if n > 1]
    if twice:
        raise CohortError(f"cases that stand in the table twice: {_some(twice)}; give each its own name")


def _check_exist(split: Split, known: Iterable[str]) -> None:
    missing = (_cases(split) | set(split.left_out)) - set(known)
    if missing:
        raise CohortError(
            f"the split names {len(missing)} cases that the table does not have: {_some(missing)}; use the "
            "table it was made from, or make the split again"
        )


def _plain(split: Split) -> dict[str, Any]:
    return {
        "kind": split.kind,
        "target": split.target,
        "seed": split.seed,
        "folds": [{"train": list(f.train), "test": list(f.test)} for f in split.folds],
        "left_out": list(split.left_out),
    }


def _parse(path: Path, content: Mapping[str, Any]) -> Split:
    def refuse(what: str) -> CohortError:
        return CohortError(f"{path}: not a split: {what}; make it again with: gliolens cohort split")

    def names(value: object, where: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise refuse(f"{where} is not a list of case ids")
        return tuple(value)

    kinds = {"kind": str, "target": str, "seed": int, "folds": list, "left_out": list, "hash": str}
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise refuse(f"{key} is {content.get(key)!r}, expected a {kind.__name__}")
    folds = []
    for number, fold in enumerate(content["folds"]):
        if not isinstance(fold, dict):
            raise refuse(f"fold {number} is no object")
        folds.append(Fold(*(names(fold.get(side), f"{side} of fold {number}") for side in ("train", "test"))))
    if content["target"] not in TARGETS or not folds:
        raise refuse(f"target {content['target']!r} with {len(folds)} folds")
    left_out = names(content["left_out"], "left_out")
    return Split(content["kind"], content["target"], content["seed"], tuple(folds), left_out)
