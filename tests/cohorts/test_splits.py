"""Splits: no patient on both sides, every known case tested once, classes kept in proportion."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gliolens.case import CaseRow
from gliolens.cohorts.splits import (
    Fold,
    Split,
    check_leak,
    holdout,
    kfold,
    leave_one_site_out,
    patients,
    read_split,
    united,
    write_split,
)
from gliolens.errors import CohortError, ConfigError, LeakError, ModelError
from gliolens.labels import TARGETS


def row(case: str, patient: str | None = None, label: str | None = "mutant", **more) -> CaseRow:
    return CaseRow(case, patient or case, targets={} if label is None else {"idh": label}, **more)


def cohort(draw: int) -> list[CaseRow]:
    """Patients of one to three exams, some under another release's id, some of unknown class, three sites."""
    rng, rows = random.Random(draw), []
    for number in range(rng.randint(12, 40)):
        label = rng.choice(["wildtype", "mutant", "mutant", None])
        site = rng.choice("ABC")
        for exam in range(rng.randint(1, 3)):
            renamed = exam > 0 and rng.random() < 0.5
            rows.append(
                CaseRow(
                    case=f"c{number}_{exam}",
                    patient=f"release2-{number}" if renamed else f"p{number}",
                    aliases=(f"p{number}",) if renamed else (),
                    site=site,
                    targets={} if label is None else {"idh": rng.choice([label, "mutant"])},
                )
            )
    rng.shuffle(rows)
    return rows


draws = st.integers(0, 2**32 - 1)


def person(case: str) -> str:
    """Who a case of `cohort` really is, known from how it was made."""
    return case.split("_")[0]


def enough(rows: list[CaseRow], n: int) -> bool:
    counts = Counter(label_of_people(rows).values())
    return len(counts) == 2 and min(counts.values()) >= n


def label_of_people(rows: list[CaseRow]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for r in rows:
        if "idh" in r.targets and labels.get(person(r.case)) != "mutant":
            labels[person(r.case)] = r.targets["idh"]
    return labels


def no_person_twice(split: Split) -> bool:
    return all(not {*map(person, f.train)} & {*map(person, f.test)} for f in split.folds)


@settings(max_examples=60, deadline=None)
@given(draws, st.integers(2, 4), st.integers(0, 99))
def test_kfold_keeps_patients_together_tests_every_known_case_once_and_shares_classes(draw, folds, seed):
    rows = cohort(draw)
    assume(enough(rows, folds))
    split = kfold(rows, "idh", folds=folds, seed=seed)
    assert no_person_twice(split)
    tested = Counter(case for fold in split.folds for case in fold.test)
    assert tested == Counter(r.case for r in rows if r.targets)
    assert set(split.left_out) == {r.case for r in rows if not r.targets}
    assert all({*f.train, *f.test} == set(tested) for f in split.folds)
    labels = label_of_people(rows)
    for c in TARGETS["idh"]:
        shares = [sum(labels[p] == c for p in {*map(person, f.test)}) for f in split.folds]
        assert max(shares) - min(shares) <= 1
    check_leak(split, rows)


@settings(max_examples=40, deadline=None)
@given(draws, st.floats(0.05, 0.95), st.integers(0, 99))
def test_holdout_keeps_patients_together_and_both_classes_on_both_sides(draw, share, seed):
    rows = cohort(draw)
    assume(enough(rows, 2))
    split = holdout(rows, "idh", test=share, seed=seed)
    (fold,) = split.folds
    assert no_person_twice(split)
    assert sorted(fold.train + fold.test) == sorted(r.case for r in rows if r.targets)
    labels = label_of_people(rows)
    for c in TARGETS["idh"]:
        people = [p for p, label in labels.items() if label == c]
        held = sum(labels[p] == c for p in {*map(person, fold.test)})
        assert 1 <= held < len(people)
        assert abs(held - share * len(people)) <= 1


@settings(max_examples=40, deadline=None)
@given(draws)
def test_leave_one_site_out_tests_each_site_alone(draw):
    rows = cohort(draw)
    site = {r.case: r.site for r in rows}
    labels = label_of_people(rows)
    spread = {(labels[person(r.case)], r.site) for r in rows if r.targets}
    assume(all(sum(label == c for label, _ in spread) >= 2 for c in TARGETS["idh"]))
    split = leave_one_site_out(rows, "idh")
    assert no_person_twice(split)
    assert [len({site[c] for c in f.test}) for f in split.folds] == [1] * len(split.folds)
    assert all(not {site[c] for c in f.test} & {site[c] for c in f.train} for f in split.folds)
    assert Counter(c for f in split.folds for c in f.test) == Counter(r.case for r in rows if r.targets)


@settings(max_examples=20, deadline=None)
@given(draws, draws)
def test_the_order_of_rows_changes_nothing(draw, order):
    rows = cohort(draw)
    assume(enough(rows, 3))
    shuffled = list(rows)
    random.Random(order).shuffle(shuffled)
    assert kfold(rows, "idh", folds=3, seed=5) == kfold(shuffled, "idh", folds=3, seed=5)
    assert holdout(rows, "idh", seed=5) == holdout(shuffled, "idh", seed=5)
    assert patients(rows) == patients(shuffled)


def many(n: int = 20) -> list[CaseRow]:
    return [row(f"c{i:02d}", label="mutant" if i % 4 else "wildtype", site="AB"[i % 2]) for i in range(n)]


def test_another_seed_draws_another_split_and_the_same_seed_the_same():
    assert kfold(many(), "idh", seed=1).hash == kfold(many(), "idh", seed=1).hash
    assert kfold(many(), "idh", seed=1).folds != kfold(many(), "idh", seed=2).folds
    assert holdout(many(), "idh", seed=1).folds != holdout(many(), "idh", seed=2).folds


def test_repeats_follow_one_another_and_differ():
    split = kfold(many(), "idh", folds=4, repeats=2, seed=0)
    assert len(split.folds) == 8
    assert split.folds[:4] != split.folds[4:]
    for repeat in (split.folds[:4], split.folds[4:]):
        assert sorted(c for f in repeat for c in f.test) == [r.case for r in many()]


def test_aliases_join_patients_along_a_chain_and_through_case_ids():
    rows = [
        row("a", "UCSF-1", aliases=("BraTS-7",)),
        row("b", "BraTS-7", aliases=("UPENN-3",)),
        row("c", "UPENN-9", aliases=("UPENN-3",)),
        row("d", "other", aliases=("c",)),
        row("e", "alone"),
        # The name of a case is not the name of a patient: this one is nobody's relative.
        row("f", "a"),
    ]
    group = patients(rows)
    assert len({group[c] for c in "abcd"}) == 1
    assert len({group[c] for c in "def"}) == 3
    assert group["a"] == "BraTS-7"


def test_rows_of_one_patient_are_brought_under_one_name_though_the_row_that_joins_them_goes():
    a, b, c = CaseRow("A", "A"), CaseRow("B", "B"), CaseRow("C", "C", aliases=("A", "B"))
    whole = united([a, b, c])
    assert [row.patient for row in whole] == ["A", "A", "A"]
    assert patients(whole[:2]) == {"A": "A", "B": "A"} != patients([a, b])
    assert whole[1].aliases == ("B",)  # by which it is known elsewhere
    assert whole[0] is a
    assert united(whole) == whole


def test_a_patient_with_two_classes_is_stratified_by_the_last_of_the_vocabulary():
    mixed = [row(f"m{i}", f"q{i}", "wildtype") for i in range(3)] + [
        row(f"n{i}", f"q{i}", "mutant") for i in range(3)
    ]
    pure = [row(f"w{i}", label="wildtype") for i in range(3)]
    split = kfold([*mixed, *pure], "idh", folds=3)
    for fold in split.folds:
        kinds = {c[0] for c in fold.test}
        assert kinds == {"m", "n", "w"}
        assert len(fold.test) == 3


def test_too_few_patients_of_a_class_are_counted_and_refused():
    rows = [*many(12), row("again", "c00", "wildtype")]
    with pytest.raises(
        CohortError, match=r"3 patients wildtype, 9 patients mutant; wildtype needs at least 5"
    ):
        kfold(rows, "idh", folds=5)
    with pytest.raises(CohortError, match="two classes"):
        holdout([row("a"), row("b")], "idh")
    with pytest.raises(CohortError, match="needs at least 2 patients"):
        holdout([row("a"), row("b"), row("c", label="wildtype")], "idh")


def test_arguments_outside_the_vocabulary_are_refused():
    with pytest.raises(ConfigError, match="idh"):
        kfold(many(), "mgmt")
    with pytest.raises(ConfigError, match="share"):
        holdout(many(), "idh", test=1.0)
    with pytest.raises(ConfigError, match="folds"):
        kfold(many(), "idh", folds=1)
    with pytest.raises(CohortError, match="twice"):
        kfold([*many(), many()[0]], "idh")
    with pytest.raises(CohortError, match="expected one of wildtype, mutant"):
        kfold([*many(), row("x", label="IDH1")], "idh")


def test_leave_one_site_out_refuses_a_patient_of_two_sites_and_says_who():
    rows = [*many(), row("later", "elsewhere", aliases=("c01",), site="C")]
    with pytest.raises(LeakError, match=r"'c01' was seen at sites B, C \(cases c01, later\)"):
        leave_one_site_out(rows, "idh")


def test_leave_one_site_out_refuses_unknown_sites_one_site_and_a_class_of_one_site():
    with pytest.raises(CohortError, match=r"unknown site \(new\)"):
        leave_one_site_out([*many(), row("new")], "idh")
    with pytest.raises(CohortError, match="one site"):
        leave_one_site_out([replace(r, site="A") for r in many()], "idh")
    with pytest.raises(CohortError, match="all 5 patients wildtype are from site A"):
        leave_one_site_out(many(), "idh")


def test_a_leak_names_the_patient_and_the_cases():
    rows = [row("exam1", "p"), row("exam2", "q", aliases=("p",)), row("c")]
    leaky = Split("holdout", "idh", 0, (Fold(("exam1", "c"), ("exam2",)),), ())
    with pytest.raises(LeakError, match="'p' is on both sides: case exam1 to learn from, case exam2 to test"):
        check_leak(leaky, rows)
    with pytest.raises(CohortError, match="1 cases that the table does not have: exam2"):
        check_leak(leaky, [row("exam1"), row("c")])


def test_a_split_comes_back_as_it_was_written(tmp_path: Path):
    rows = [*many(), row("unknown", label=None)]
    split = kfold(rows, "idh", folds=5, seed=3)
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json", rows) == split
    assert read_split(tmp_path / "split.json", rows[::-1]) == split


def move_a_case(content: dict) -> None:
    content["folds"][0]["train"].append(content["folds"][0]["test"].pop())


def drop_a_case(content: dict) -> None:
    content["folds"][1]["train"].pop()


def change_the_seed(content: dict) -> None:
    content["seed"] += 1


@pytest.mark.parametrize("edit", [move_a_case, drop_a_case, change_the_seed])
def test_a_split_edited_by_hand_is_refused(tmp_path: Path, edit):
    path = tmp_path / "split.json"
    write_split(path, kfold(many(), "idh", folds=2))
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CohortError, match="changed after it was made"):
        read_split(path, many())


def test_an_edited_split_with_its_hash_made_anew_still_cannot_leak(tmp_path: Path):
    rows = [*many(), row("again", "c01")]
    split = holdout(rows, "idh")
    fold = split.folds[0]
    sides = Fold(tuple({*fold.train} ^ {"again"}), tuple({*fold.test} ^ {"again"}))
    write_split(tmp_path / "split.json", replace(split, folds=(sides,)))
    with pytest.raises(LeakError, match="c01"):
        read_split(tmp_path / "split.json", rows)


def test_a_split_is_refused_where_the_cohort_has_changed(tmp_path: Path):
    write_split(tmp_path / "split.json", kfold(many(), "idh", folds=5))
    with pytest.raises(CohortError, match="does not have: c00"):
        read_split(tmp_path / "split.json", many()[1:])
    with pytest.raises(CohortError, match="no longer knows idh of c00"):
        read_split(tmp_path / "split.json", [row("c00", label=None), *many()[1:]])
    joined = [replace(many()[0], aliases=tuple(r.case for r in many()[1:])), *many()[1:]]
    with pytest.raises(LeakError):
        read_split(tmp_path / "split.json", joined)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{}", "kind is None"),
        ('{"kind": "kfold", "target": "idh", "seed": 0, "folds": [3], "left_out": [], "hash": ""}', "fold 0"),
        (
            '{"kind": "", "target": "idh", "seed": 0, "folds": [{"train": [1]}], "left_out": [], "hash": ""}',
            "train",
        ),
        ('{"kind": "kfold", "target": "mgmt", "seed": 0, "folds": [], "left_out": [], "hash": ""}', "mgmt"),
    ],
)
def test_other_json_is_no_split(tmp_path: Path, content, what):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(CohortError, match=what):
        read_split(tmp_path / "split.json", many())
    (tmp_path / "split.json").write_text("not json")
    with pytest.raises(ModelError):
        read_split(tmp_path / "split.json", many())


def test_an_inner_split_of_an_outer_training_side_leaves_the_test_side_alone():
    outer = kfold(many(40), "idh", folds=4)
    for fold in outer.folds:
        inner = holdout([r for r in many(40) if r.case in fold.train], "idh", seed=1)
        assert not {*inner.folds[0].train, *inner.folds[0].test} & set(fold.test)
