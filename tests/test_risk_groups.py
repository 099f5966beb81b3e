"""`gliolens survival --predictions`: on the public table under real folds, under noise, and where it must refuse."""

import json

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from sklearn.linear_model import LogisticRegression

from gliolens.cli import main
from gliolens.cohorts.clinical.table import read_clinical, rows_of
from gliolens.cohorts.splits import kfold, write_split
from gliolens.io.tables import read_cohort, write_cohort
from gliolens.stats.prognosis import HORIZON
from gliolens.stats.risk_groups import Asked, judge
from gliolens.stats.survival import kaplan_meier


def bench_of(folder, rows, target, methods, *, folds=5):
    """A folder as `gliolens bench` leaves it, of answers `{method: case -> P(last class)}` or functions of a fold."""
    split, known = kfold(rows, target, folds=folds), {row.case: row for row in rows}
    classes = sorted({row.targets[target] for row in rows if target in row.targets}, reverse=target == "idh")
    lines = []
    for name, answer in methods.items():
        for k, fold in enumerate(split.folds):
            train = np.mean([known[c].targets[target] == classes[1] for c in fold.train])
            p = answer([known[c] for c in fold.train], [known[c] for c in fold.test])
            for case, value in zip(fold.test, p, strict=True):
                row = known[case]
                lines.append({
                    "method": name, "control": name != "method", "case": case, "patient": row.patient, "site": "",
                    "truth": row.targets[target], "decision": classes[int(value >= train)],
                    f"p_{classes[0]}": 1 - value, f"p_{classes[1]}": value,
                    f"prior_{classes[0]}": 1 - train, f"prior_{classes[1]}": train, "fold": k + 1,
                })  # fmt: skip
    folder.mkdir(parents=True)
    pd.DataFrame(lines).to_csv(folder / "predictions.csv", index=False)
    write_split(folder / "splits.json", split)
    return folder


def by_age_and_sex(train, test):
    x, z = ([[r.age, r.sex == "M"] for r in rows] for rows in (train, test))
    fitted = LogisticRegression(max_iter=1000).fit(x, [r.targets["idh"] == "mutant" for r in train])
    return fitted.predict_proba(z)[:, 1]


def noise(train, test):
    return np.random.default_rng(len(test[0].case)).random(len(test))


def knowing(train, test):
    """Tells IDH rightly."""
    return [0.95 if r.targets["idh"] == "mutant" else 0.05 for r in test]


@pytest.fixture(scope="module")
def ucsf(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ucsf")
    rows = rows_of(read_clinical(shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv"))
    write_cohort(folder / "cohort.csv", rows)
    rows = read_cohort(folder / "cohort.csv")
    methods = {"method": knowing, "age and sex": by_age_and_sex, "permuted labels": noise}
    bench_of(folder / "bench", rows, "idh", methods)
    return folder


@pytest.fixture(scope="module")
def told(ucsf):
    out = ucsf / "out"
    words = ["survival", str(ucsf / "cohort.csv"), "--predictions", str(ucsf / "bench"), "-o", str(out)]
    assert main([*words, "--cut", "0.5"]) == 0
    return json.loads((out / "risk-groups.json").read_text())


def test_a_method_that_tells_idh_parts_patients_as_idh_does(told):
    """The curves are those of IDH: the log-rank test of docs/published.md, 391 and 103 patients."""
    method = told["methods"][0]
    groups = {g["group"]: (g["n"], g["events"]) for g in method["groups"]}
    assert groups == {"low": (103, 11), "high": (391, 236)}
    assert method["log_rank"]["chi_squared"] == pytest.approx(98.997, abs=1e-3)
    assert method["hazard_high"]["ratio"]["low"] > 4
    assert told["patients"] == 494


def test_age_is_a_control_to_beat_and_noise_tells_nothing(told):
    method, age, chance = told["methods"]
    assert (method["control"], age["control"], chance["control"]) == (False, True, True)
    assert age["c_index"]["low"] > 0.6
    assert method["c_index_less_age_and_sex"]["high"] < 0.05
    assert chance["c_index"]["low"] < 0.5 < chance["c_index"]["high"]
    assert chance["integrated_brier"]["value"] == pytest.approx(told["nobody_told_brier"]["value"], abs=0.005)
    assert age["integrated_brier"]["value"] < told["nobody_told_brier"]["value"] - 0.01


def test_the_page_and_the_table_hold_every_control(told, ucsf):
    page = (ucsf / "out" / "survival.html").read_text()
    for words in (
        "age and sex (control)",
        "permuted labels (control)",
        "nobody told apart",
        "data:image/png",
    ):
        assert words in page
    table = pd.read_csv(ucsf / "out" / "risk-groups.csv")
    assert len(table) == 3 * 494
    mine = table[table["method"] == "age and sex"]
    expected = concordance_index(mine["os_days"], -mine["risk"], mine["os_event"])
    assert told["methods"][1]["c_index"]["value"] == pytest.approx(expected)
    assert ((table["risk"] >= table["cut"]) == (table["group"] == "high")).all()
    assert (ucsf / "out" / "kaplan-meier-method.png").read_bytes().startswith(b"\x89PNG")


def test_each_median_is_that_of_the_others_answers(ucsf, tmp_path, capsys):
    words = [
        "survival",
        str(ucsf / "cohort.csv"),
        "--predictions",
        str(ucsf / "bench"),
        "-o",
        str(tmp_path / "o"),
    ]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    table = pd.read_csv(tmp_path / "o" / "risk-groups.csv")
    mine = table[table["method"] == "age and sex"]
    medians = [mine.loc[mine["fold"] != k, "risk"].median() for k in range(1, 6)]
    assert told["methods"][1]["cuts"] == pytest.approx(medians)


def asked(n=60, folds=3, seed=0):
    rng = np.random.default_rng(seed)
    fold, days = np.arange(n) % folds, rng.exponential(300, n)
    risk = rng.random(n)
    return Asked(
        "idh", [str(i) for i in range(n)], fold, days, rng.random(n) < 0.7,
        [np.flatnonzero(fold != k) for k in range(folds)], {"m": risk, "age and sex": rng.random(n)},
        frozenset({"age and sex"}), {},
    )  # fmt: skip


def test_no_survival_of_a_tested_patient_reaches_his_group_or_his_curve(monkeypatch):
    """Other days for the patients of one fold: their groups stay, and so do the curves that were predicted for them."""
    first, kept = asked(), []
    import gliolens.stats.risk_groups as module

    whole = module.integrated_brier
    monkeypatch.setattr(
        module, "integrated_brier", lambda d, e, a, at, seed: kept.append(a) or whole(d, e, a, at)
    )
    monkeypatch.setattr(module, "horizon", lambda days, died: 300.0)
    mine = first.fold == 1
    changed = Asked(**{**vars(first), "days": np.where(mine, first.days[::-1] + 1, first.days)})
    before, after = (judge(one).judged[0] for one in (first, changed))
    np.testing.assert_array_equal(before.high, after.high)
    alike = [np.allclose(a[mine], b[mine]) for a, b in zip(kept[:3], kept[3:], strict=True)]
    assert alike == [True] * 3
    assert not np.allclose(kept[0][~mine], kept[3][~mine])


def test_a_follow_up_that_is_cut_at_one_day_for_all_is_scored_before_that_day():
    """A third were last seen on day 500: on that day nobody is in sight, and Brier's score has no value."""
    one = asked(100)
    cut = Asked(**{**vars(one), "days": np.minimum(one.days, 500.0), "died": one.died & (one.days < 500)})
    assert np.quantile(cut.days, HORIZON) == 500.0
    found = judge(cut)
    assert found.horizon_days == cut.days[cut.days < 500].max()
    assert 0 < found.nobody_told.low < found.nobody_told.high < 0.5
    assert all(0 < each.brier.value < 0.5 for each in found.judged)


def test_patients_who_were_all_last_seen_on_one_day_have_no_score_and_it_says_why():
    one = asked()
    found = judge(Asked(**{**vars(one), "days": np.full(60, 500.0), "died": np.zeros(60, bool)}))
    assert "no day before" in found.nobody_told.reason


def test_a_risk_that_is_the_same_for_all_says_so():
    one = asked()
    flat = Asked(**{**vars(one), "risks": {"m": np.full(60, 0.5), "age and sex": one.risks["age and sex"]}})
    found = judge(flat).judged[0]
    assert (found.test, found.hazard) == (None, None)
    assert found.concordance.value == 0.5
    assert "of one risk" in found.brier.reason


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp("small"), []
    for i in range(40):
        idh = "mutant" if i % 2 else "wildtype"
        lines.append({"case": f"p{i}", "patient": f"p{i}", "idh": idh, "os_days": 10 + i, "os_event": 1})
    pd.DataFrame(lines).to_csv(folder / "cohort.csv", index=False)
    bench_of(
        folder / "bench", read_cohort(folder / "cohort.csv"), "idh", {"method": knowing, "age and sex": noise}
    )
    return folder


def test_what_cannot_be_judged_is_refused(small, tmp_path, capsys):
    cohort, out = str(small / "cohort.csv"), ["-o", str(tmp_path / "o")]
    assert main(["survival", cohort, *out]) == 2
    assert "--by TARGET or --predictions" in capsys.readouterr().err
    assert main(["survival", cohort, "--predictions", str(tmp_path), *out]) == 2
    assert "give the folder of a gliolens bench" in capsys.readouterr().err
    made = tmp_path / "bench"
    made.mkdir()
    answers = pd.read_csv(small / "bench" / "predictions.csv")
    (made / "splits.json").write_text((small / "bench" / "splits.json").read_text())
    for changed, words in (
        (answers.drop(columns="fold"), "answers about the patients of one split"),
        (pd.concat([answers, answers]), "answered in several folds"),
        (answers.assign(fold=answers["fold"] % 5 + 1), "splits.json does not test it"),
    ):
        changed.to_csv(made / "predictions.csv", index=False)
        assert main(["survival", cohort, "--predictions", str(made), *out]) == 2
        assert words in capsys.readouterr().err
    assert main(["survival", cohort, "--predictions", str(small / "bench"), "--cut", "mean", *out]) == 2
    assert "cut is 'mean'" in capsys.readouterr().err


def test_the_curves_are_kaplan_meiers():
    found = judge(asked(seed=4)).judged[0]
    mine = asked(seed=4)
    for curve in found.curves:
        where = found.high == (curve.name == "high")
        np.testing.assert_allclose(curve.alive, kaplan_meier("", mine.days[where], mine.died[where]).alive)
