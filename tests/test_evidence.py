"""Differences to controls: paired, widened for what folds share, corrected for their number."""

import numpy as np
import pandas as pd
import pytest

from gliolens.evidence import differences
from gliolens.stats.differences import over_folds
from gliolens.stats.intervals import delong_difference

CLASSES = ("wildtype", "mutant")


def answers(method, p, truth, *, control):
    cases = [f"c{i}" for i in range(len(truth))]
    return pd.DataFrame({
        "method": method, "control": control, "case": cases, "patient": cases, "truth": [CLASSES[t] for t in truth],
        "p_wildtype": 1 - p, "p_mutant": p, "prior_wildtype": 0.5, "prior_mutant": 0.5,
        "fold": 1 + np.arange(len(truth)) % 5,
    })  # fmt: skip


@pytest.fixture
def told():
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 2
    scores = {
        name: 1 / (1 + np.exp(-(tells * truth + rng.normal(size=120))))
        for name, tells in (("net", 1.2), ("age", 0.4), ("site", 0.0))
    }
    tables = [answers(name, p, truth, control=name != "net") for name, p in scores.items()]
    return truth, scores, pd.concat(tables, ignore_index=True)


def test_differences_over_folds_are_widened_and_less_sure(told):
    truth, scores, table = told
    found = {row["less"]: row for row in differences(table, CLASSES, 0)}
    for name in ("age", "site"):
        plain = delong_difference(truth, scores["net"], scores[name])
        wide = over_folds(plain, 5)
        assert wide.p_value > plain.p_value
        assert found[name]["p"] == pytest.approx(wide.p_value)
        assert found[name]["difference"].value == pytest.approx(plain.interval.value)
        assert wide.interval.low < plain.interval.low
        assert found[name]["difference"].low == pytest.approx(wide.interval.low)


def test_answers_of_one_side_are_not_widened_and_p_values_are_one_family(told):
    truth, scores, table = told
    found = {row["less"]: row for row in differences(table.drop(columns="fold"), CLASSES, 0)}
    plain = {name: delong_difference(truth, scores["net"], scores[name]) for name in ("age", "site")}
    for name, one in plain.items():
        assert found[name]["p"] == pytest.approx(one.p_value)
    least, most = sorted(plain, key=lambda name: plain[name].p_value)
    assert found[least]["p, Holm"] == pytest.approx(min(1, 2 * plain[least].p_value))
    assert found[most]["p, Holm"] == pytest.approx(max(plain[most].p_value, found[least]["p, Holm"]))
