"""A method that peeks at test labels: the protocol hands it none; shuffled labels unmask what it finds elsewhere."""

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gliolens.bench import bench
from gliolens.case import CaseRow, Grid, Prediction, Volume
from gliolens.cli import main
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.cohorts.shuffle import shuffle_labels, write_shuffled
from gliolens.errors import ConfigError
from gliolens.io.nifti import write_volume
from gliolens.io.store import read_json
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.registry import METHODS

N = 60
TRIES = 200
"""Random rules among which the peeking method chooses, as others choose an epoch."""


@dataclass(frozen=True)
class Config:
    series: tuple[str, ...] = ()
    table: str = ""

    @classmethod
    def preset(cls, name):
        return cls()

    def scaled(self, scale):
        return self


SEEN: dict[str, list] = {}


@dataclass(frozen=True)
class Model:
    """Answers with the label where it is handed one; else by a number of its own for each case."""

    target: str
    classes: tuple[str, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    prior: tuple[float, ...] = (0.5, 0.5)

    def answer(self, row, ready):
        SEEN["answer"].append((dict(row.targets), row.os_days, row.os_event))
        p = self.numbers.get(row.case, 0.5)
        if self.target in row.targets:
            p = float(row.targets[self.target] == self.classes[1])
        chances = dict(zip(self.classes, (1 - p, p), strict=True))
        return Prediction(row.case, "peek", {self.target: chances}, {self.target: self.classes[int(p > 0.5)]})

    def predict(self, case):
        raise NotImplementedError

    def explain(self, case):
        return {}

    def save(self, folder):
        folder.mkdir(parents=True)


def ready(cases, config, cache, tick=None):
    """Keeps what it can of the labels, for all folds."""

    def prepare(case):
        SEEN["prepare"].append(dict(case.targets))
        return {"label": np.array(list(map(ord, case.targets.get("idh", ""))))}

    return cases.prepared(prepare, "peek", cache, tick)


def fit(cases, config, run):
    """Reads the cohort's table where it is told one, and chooses the rule that is best on the patients tested."""
    train = {row.case for row in cases.rows}
    SEEN["fit"].append((train, {row.case for row in run.others if row.targets}))
    if not config.table:
        return Model(run.target, run.classes)
    test = [row for row in read_cohort(Path(config.table)) if row.case not in train]
    truth = [row.targets[run.target] == run.classes[1] for row in test]
    rng = np.random.default_rng(run.seed)
    rules = [dict(zip((row.case for row in test), rng.random(len(test)), strict=True)) for _ in range(TRIES)]
    best = max(rules, key=lambda rule: roc_auc_score(truth, list(rule.values())))
    return Model(run.target, run.classes, best)


@pytest.fixture(autouse=True)
def peeking(monkeypatch):
    """The method under the name `peek`."""
    module: Any = ModuleType("gliolens_peek")
    module.Config, module.VERSION, module.ready, module.fit = Config, 1, ready, fit
    module.load = lambda folder: None
    monkeypatch.setitem(sys.modules, "gliolens_peek", module)
    monkeypatch.setitem(METHODS, "peek", "gliolens_peek")
    SEEN.clear()
    SEEN.update({"fit": [], "prepare": [], "answer": []})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Scans as small as can be, without masks; the age tells the class, as in life."""
    folder, grid = tmp_path_factory.mktemp("cohort"), Grid((6, 6, 6), np.diag([6.0, 6.0, 6.0, 1.0]))
    rows = []
    for traits in draw_cohort(N, 3, PhantomConfig()):
        file = folder / f"{traits.case}_t1.nii.gz"
        write_volume(file, Volume(np.arange(216, dtype=np.int16).reshape(grid.shape), grid.affine), grid)
        rows.append(CaseRow(
            traits.case, traits.case, files={"t1": file}, site=traits.site, age=traits.age, sex=traits.sex,
            targets={"idh": traits.targets["idh"]}, os_days=traits.os_days, os_event=traits.os_event,
        ))  # fmt: skip
    write_cohort(folder / "cohort.csv", rows)
    return folder / "cohort.csv"


def peek(cohort, out, **more):
    done = bench(cohort, out, target="idh", methods=("peek",), folds=3, healthy=True, **more)
    return {row["method"]: row["auc"] for row in done.table}


def test_no_label_of_a_patient_tested_is_handed_out(cohort, tmp_path):
    """Not to `fit`, nor to `ready` (whose work is kept for all folds), nor to `answer`."""
    assert peek(cohort, tmp_path / "b")["peek"].value == 0.5
    folds = read_json(tmp_path / "b" / "splits.json")["folds"]
    assert [sorted(train) for train, _ in SEEN["fit"]] == [fold["train"] for fold in folds]
    assert not any(others for _, others in SEEN["fit"])
    assert len(SEEN["prepare"]) == len(SEEN["answer"]) == N
    assert not any(SEEN["prepare"])
    assert all(told == ({}, None, None) for told in SEEN["answer"])


def test_shuffled_labels_unmask_a_method_that_chooses_on_the_patients_it_is_scored_on(
    cohort, tmp_path, capsys
):
    """It scores well either way: as it does where there is nothing to find, it has found the labels."""
    plain = peek(cohort, tmp_path / "a", settings={"peek": {"table": str(cohort)}})
    assert plain["peek"].low > 0.5
    assert plain["age and sex"].low > 0.5
    table = tmp_path / "b" / "shuffled" / "cohort.csv"
    words = ["bench", str(cohort), "--target", "idh", "--methods", "peek", "--folds", "3", "--healthy"]
    words += ["--shuffle-labels", "-o", str(tmp_path / "b"), "--set", f"peek.table={table}"]
    assert main(words) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "LABELS ARE SHUFFLED" in told
    found = {row["method"]: row for row in read_json(tmp_path / "b" / "metrics.json")["scores"]}
    assert found["peek"]["auc_low"] > 0.5
    for honest in ("age and sex", "site"):
        assert found[honest]["auc_low"] < 0.5 < found[honest]["auc_high"]
    assert f"Above it here: peek {found['peek']['auc']:.2f}." in told
    assert {row["labels"] for row in found.values()} == {"shuffled"}
    page = (tmp_path / "b" / "bench.html").read_text(encoding="utf-8")
    assert "LABELS SHUFFLED" in page
    assert "Above it here: peek" in page


def test_a_bench_goes_on_under_the_labels_it_began_with(cohort, tmp_path):
    def dealt(seed):
        return write_shuffled(cohort, tmp_path / "b" / "shuffled", "idh", seed=seed, healthy=True)

    peek(dealt(0), tmp_path / "b")
    for other in (cohort, dealt(1)):
        with pytest.raises(ConfigError, match="another cohort"):
            peek(other, tmp_path / "b")
    SEEN["fit"].clear()
    peek(dealt(0), tmp_path / "b")
    assert SEEN["fit"] == []


def test_classes_are_dealt_out_by_patient_and_all_else_stays(cohort):
    rows = list(read_cohort(cohort))
    rows[1] = replace(rows[1], patient=rows[0].patient)  # a second exam
    rows[2] = replace(rows[2], targets={})
    rows[3] = replace(rows[3], targets={"grade": "healthy"})
    dealt = shuffle_labels(rows, "idh", seed=1)
    assert [replace(row, targets={}) for row in dealt] == [replace(row, targets={}) for row in rows]
    assert dealt[0].targets == dealt[1].targets
    assert dealt[2:4] == tuple(rows[2:4])
    counts = [Counter(row.targets.get("idh") for row in side[2:]) for side in (rows, dealt)]
    assert all(abs(counts[0][c] - counts[1][c]) <= 1 for c in ("mutant", "wildtype"))
    moved = sum(a.targets != b.targets for a, b in zip(rows, dealt, strict=True))
    assert 15 < moved < 45
    backwards = shuffle_labels(rows[::-1], "idh", seed=1)
    assert {row.case: row.targets for row in backwards} == {row.case: row.targets for row in dealt}
    assert shuffle_labels(rows, "idh", seed=2) != dealt


def test_the_healthy_take_part_where_they_are_asked_to(cohort):
    rows = [
        replace(row, targets={"grade": ("LGG", "HGG", "healthy")[i % 3]})
        for i, row in enumerate(read_cohort(cohort))
    ]
    healthy = {row.case for row in rows if row.targets["grade"] == "healthy"}
    for asked in (False, True):
        dealt = shuffle_labels(rows, "grade", seed=0, healthy=asked)
        assert Counter(row.targets["grade"] for row in dealt) == dict.fromkeys(
            ("LGG", "HGG", "healthy"), N // 3
        )
        assert ({row.case for row in dealt if row.targets["grade"] == "healthy"} == healthy) == (not asked)
