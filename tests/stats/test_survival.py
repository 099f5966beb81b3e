"""Survival against published figures of UCSF-PDGM, and against the formulas written out."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from gliolens.cli import main
from gliolens.cohorts.clinical.table import read_clinical, rows_of
from gliolens.errors import ConfigError
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.stats.survival import at_risk, cox, kaplan_meier, log_rank

PATIENTS = st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.booleans()), min_size=4, max_size=40)


def arrays(patients):
    days, died, group = (np.array(column) for column in zip(*patients, strict=True))
    return days.astype(float), died.astype(bool), ["b" if g else "a" for g in group]


@settings(deadline=None)
@given(PATIENTS)
def test_the_curve_is_the_product_of_the_shares_that_survive_each_day(patients):
    days, died, _ = arrays(patients)
    curve, alive = kaplan_meier("all", days, died), 1.0
    for day in np.unique(days):
        alive *= 1 - (died & (days == day)).sum() / (days >= day).sum()
        assert curve.alive[np.searchsorted(curve.days, day)] == pytest.approx(alive, abs=1e-9)
    assert (curve.n, curve.events) == (len(days), died.sum())
    assert (curve.low <= curve.alive + 1e-9).all()
    assert (curve.alive <= curve.high + 1e-9).all()


@settings(deadline=None)
@given(PATIENTS)
def test_log_rank_is_observed_less_expected_squared_over_its_variance(patients):
    days, died, group = arrays(patients)
    mine = np.array([g == "b" for g in group])
    apart = variance = 0.0
    for day in np.unique(days[died]):
        n, k, d = (days >= day).sum(), (mine & (days >= day)).sum(), (died & (days == day)).sum()
        apart += (mine & died & (days == day)).sum() - d * k / n
        variance += d * k * (n - k) * (n - d) / (n * n * (n - 1)) if n > 1 else 0.0
    if len(set(group)) < 2:
        with pytest.raises(ConfigError, match="one group"):
            log_rank(days, died, group)
    elif variance > 1e-9:
        found = log_rank(days, died, group)
        assert found.chi_squared == pytest.approx(apart**2 / variance, rel=1e-6, abs=1e-9)
        assert found.p == pytest.approx(chi2.sf(apart**2 / variance, 1), rel=1e-5)


def test_cox_is_where_the_partial_likelihood_is_flat():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    days = rng.exponential(np.exp(-0.7 * x))
    seen = rng.exponential(2.0, 200)
    died, days = days <= seen, np.minimum(days, seen)
    (hazard,) = cox(days, died, pd.DataFrame({"x": x}))
    beta = math.log(hazard.ratio.value)
    score = sum(
        x[i] - np.average(x[days >= days[i]], weights=np.exp(beta * x[days >= days[i]]))
        for i in np.flatnonzero(died)
    )
    assert score == pytest.approx(0, abs=1e-3)
    assert hazard.ratio.low < math.exp(0.7) < hazard.ratio.high
    assert hazard.p < 1e-6


def test_at_risk_are_those_still_in_sight():
    assert at_risk(np.array([1.0, 5.0, 5.0, 9.0]), [0, 1, 5, 6, 10]) == [4, 4, 3, 1, 0]


def test_censoring_is_no_death():
    days = np.array([10.0, 20.0, 30.0, 40.0])
    curve = kaplan_meier("a", days, np.array([False, True, False, False]))
    assert curve.alive[-1] == pytest.approx(2 / 3)
    assert math.isnan(curve.median_days.value)
    assert curve.median_days.reason == "fewer than half have died"


def test_the_median_is_where_exactly_half_are_left():
    """In floating point ten times nineteen twentieths and so on is not quite a half."""
    days = np.arange(1.0, 21.0)
    assert kaplan_meier("all die", days, np.ones(20, bool)).median_days.value == 10
    half = kaplan_meier("ten die", np.minimum(days, 10.5), days <= 10)
    assert half.median_days.value == 10


def test_a_median_whose_bound_is_not_reached_says_so():
    one = kaplan_meier("one", np.array([300.0]), np.array([True])).median_days
    assert (one.value, one.high, one.reason) == (300, math.inf, "the upper bound is not reached")


def test_numpy_is_not_silenced_for_others():
    before = np.geterr()
    kaplan_meier("a", np.array([1.0, 2.0]), np.array([True, True]))
    assert np.geterr() == before


@pytest.mark.parametrize(("columns", "words"), [
    ({"a": "x", "b": "1 - x"}, "follows from the others"), ({"a": "0 * x"}, "constant"),
    ({"a": "died"}, "no finite hazard ratio"), ({f"c{i}": f"x * {i} + y ** {i}" for i in range(9)}, "deaths for 9"),
])  # fmt: skip
def test_hazards_that_cannot_be_told_are_refused(columns, words):
    rng = np.random.default_rng(3)
    days, died = rng.exponential(1.0, 60), rng.random(60) < 0.5
    known = {"x": (rng.random(60) < 0.5).astype(float), "y": rng.normal(size=60), "died": died.astype(float)}
    table = pd.DataFrame({name: pd.eval(text, local_dict=known) for name, text in columns.items()})
    with pytest.raises(ConfigError, match=words):
        cox(days, died, table)


def test_where_nobody_died_nothing_is_compared():
    with pytest.raises(ConfigError, match="nobody died"):
        log_rank(np.array([1.0, 2.0]), np.zeros(2, bool), ["a", "b"])


def test_what_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="below 0"):
        kaplan_meier("a", np.array([1.0, -2.0]), np.array([True, True]))
    with pytest.raises(ConfigError, match="some"):
        kaplan_meier("a", np.array([]), np.array([], bool))
    with pytest.raises(ConfigError, match="empty cells"):
        cox(np.array([1.0, 2.0]), np.array([True, True]), pd.DataFrame({"age": [1.0, np.nan]}))


@pytest.fixture
def ucsf(shared_data):
    return rows_of(read_clinical(shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv"))


def test_ucsf_by_idh_as_counted_over_exams(ucsf):
    """n 397 and 103, events 239 and 11, median 539 days and not reached, log-rank 98.094 (data README)."""
    rows = [r for r in ucsf if r.os_days is not None and r.os_event is not None and "idh" in r.targets]
    days, died = np.array([r.os_days for r in rows], float), np.array([r.os_event for r in rows])
    group = [r.targets["idh"] for r in rows]
    found = {g: kaplan_meier(g, days[m], died[m]) for g in set(group) for m in [np.array(group) == g]}
    assert [(found[g].n, found[g].events) for g in ("wildtype", "mutant")] == [(397, 239), (103, 11)]
    assert found["wildtype"].median_days.value == 539
    assert math.isnan(found["mutant"].median_days.value)
    assert log_rank(days, died, group).chi_squared == pytest.approx(98.094, abs=1e-3)


def test_ucsf_lower_grade_against_higher_as_the_papers_figure_6(shared_data, tmp_path, capsys):
    """Zeng et al.: HGG are grades 3 and 4 (they count 407, and UCSF has 396 of grade 4), LGG grade 2."""
    labels, table = shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv", tmp_path / "cohort.csv"
    assert main(["cohort", "index", "--labels", str(labels), "--hgg", "3", "4", "-o", str(table)]) == 0
    assert "LGG is WHO grade 2, HGG 3, 4" in capsys.readouterr().out
    assert main(["survival", str(table), "--by", "grade", "-o", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out" / "survival.json").read_text())
    assert [(g["group"], g["n"], g["events"]) for g in told["groups"]] == [("LGG", 56, 8), ("HGG", 438, 239)]
    known = [r for r in read_cohort(table) if r.os_days is not None and "who_grade" in r.targets]
    rows = {r.patient: r for r in reversed(known)}
    high = np.array([r.targets["who_grade"] != "2" for r in rows.values()])
    days, died = (
        np.array([getattr(r, name) for r in rows.values()], float) for name in ("os_days", "os_event")
    )
    assert told["log_rank"]["chi_squared"] == pytest.approx(
        written_out(days, died.astype(bool), high), rel=1e-6
    )


def written_out(days, died, group):
    """Mantel's statistic of two groups, day by day."""
    gap = spread = 0.0
    for day in np.unique(days[died]):
        risk, dead = days >= day, died & (days == day)
        n, mine, d = risk.sum(), (risk & group).sum(), dead.sum()
        gap += (dead & group).sum() - d * mine / n
        spread += d * mine / n * (1 - mine / n) * (n - d) / (n - 1) if n > 1 else 0.0
    return gap**2 / spread


def test_the_command_counts_each_patient_once(ucsf, tmp_path, capsys):
    write_cohort(tmp_path / "cohort.csv", ucsf)
    assert main(["survival", str(tmp_path / "cohort.csv"), "--by", "idh", "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "wildtype: 391 patients" in shown.out
    assert "6 another case of the same patient" in shown.err
    told = json.loads((tmp_path / "out" / "survival.json").read_text())
    assert [g["n"] for g in told["groups"]] == [391, 103]
    assert {h["name"] for h in told["cox"]["hazards"]} == {"idh mutant", "age, ten years", "sex M"}
    assert told["cox"]["hazards"][0]["ratio"]["high"] < 1
    assert (told["cox"]["reference"], told["cox"]["n"], told["cox"]["deaths"]) == ("wildtype", 494, 247)
    assert [g["events"] for g in told["groups"]] == [236, 11]
    assert told["groups"][0]["median_days"]["value"] == 512
    assert told["log_rank"]["chi_squared"] == pytest.approx(98.997, abs=1e-3)
    falls = pd.read_csv(tmp_path / "out" / "survival.csv")
    assert (falls.groupby("group")["alive"].first() == 1).all()
    assert (tmp_path / "out" / "kaplan-meier.png").read_bytes().startswith(b"\x89PNG")


def test_a_cohort_without_survival_is_refused(tmp_path, capsys):
    (tmp_path / "cohort.csv").write_text("case,patient,idh\na,a,mutant\n")
    assert main(["survival", str(tmp_path / "cohort.csv"), "--by", "idh", "-o", str(tmp_path / "out")]) == 4
    assert "os_days" in capsys.readouterr().err


def patients_of(n, **changes):
    lines = [{"case": f"p{i}", "patient": f"p{i}", "idh": "mutant" if i < 3 else "wildtype", "age": 40 + i, "sex": "M",
              "os_days": 10 + 7 * i, "os_event": i % 2} for i in range(n)]  # fmt: skip
    return pd.DataFrame([{**line, **{k: v(i) for k, v in changes.items()}} for i, line in enumerate(lines)])


def test_a_model_that_cannot_be_fitted_leaves_the_curves(tmp_path, capsys):
    """The mutants are the only women: the two cannot be told apart."""
    patients_of(60, sex=lambda i: "F" if i < 3 else "M").to_csv(tmp_path / "c.csv", index=False)
    assert main(["survival", str(tmp_path / "c.csv"), "--by", "idh", "-o", str(tmp_path / "out")]) == 0
    done = capsys.readouterr()
    assert "Cox's model was not fitted" in done.err
    assert "follows from the others" in done.err
    assert "log-rank" in done.out
    assert (tmp_path / "out" / "kaplan-meier.png").is_file()


def test_grades_of_two_editions_are_not_pooled(tmp_path, capsys):
    table = patients_of(
        6, who_grade=lambda i: 2 + i % 3, label_scheme=lambda i: "who2016" if i < 3 else "who2021"
    )
    table.drop(columns="idh").to_csv(tmp_path / "c.csv", index=False)
    assert main(["survival", str(tmp_path / "c.csv"), "--by", "who_grade", "-o", str(tmp_path / "out")]) == 4
    assert "never pooled" in capsys.readouterr().err
