"""The ceiling: exact, calibrated, above all else, and told beside every result on a simulated cohort."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gliolens.case import CaseRow
from gliolens.cohorts.audit.confounds import site_effect
from gliolens.cohorts.phantom import ceiling
from gliolens.cohorts.phantom.ceiling import (
    CEILINGS,
    ceiling_rows,
    class_posterior,
    class_shares,
    classes_of,
    expected_ceilings,
    read_truth,
    subtype_posterior,
    write_truth,
)
from gliolens.cohorts.phantom.literature import (
    AGE,
    ENHANCEMENT,
    ENHANCEMENTS,
    FINDINGS,
    SUBTYPES,
    Choice,
    subtype_shares,
)
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort, draw_columns, random_lots
from gliolens.errors import CohortError
from gliolens.io.store import read_json

PLAIN, WITH_HEALTHY = PhantomConfig(), PhantomConfig(healthy=0.25)
QUESTIONS = {"grade": "HGG", "idh": "mutant", "codel_1p19q": "codeleted"}
N = 20_000


def classes_drawn(columns: dict[str, np.ndarray], target: str) -> np.ndarray:
    place = ("grade", "idh", "codel_1p19q").index(target)
    names = [s[place] for s in SUBTYPES] + ["healthy" if target == "grade" else ""]
    return np.array(names)[columns["subtype"]]


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    return draw_columns(random_lots(N, 11), PLAIN)


@pytest.fixture(scope="module")
def others() -> dict[str, np.ndarray]:
    return draw_columns(random_lots(N, 12), PLAIN)


def auc(columns: dict[str, np.ndarray], target: str, score: np.ndarray) -> float:
    return float(roc_auc_score(classes_drawn(columns, target) == QUESTIONS[target], score))


def oracle(columns: dict[str, np.ndarray], target: str, *, with_age: bool) -> np.ndarray:
    return class_posterior(columns, target, PLAIN, with_age=with_age)[:, 1]


# --- the posterior is exact


def by_hand(columns: dict[str, np.ndarray], i: int, *, with_age: bool) -> np.ndarray:
    """Bayes' rule for one patient, the laws written out with scipy's distributions."""
    e, joint = ENHANCEMENTS.index(columns["enhancement"][i]), subtype_shares().tolist()
    for s in range(6):
        joint[s] *= ENHANCEMENT.p[s, 0, e]
        for name, law in FINDINGS.items():
            value = columns[name][i]
            if isinstance(law, Choice):
                joint[s] *= law.p[s, e, law.values.index(value)]
                continue
            scale = np.log if law.log else float
            mean, sd = scale(law.centre[s, e]), law.sd[s, e]
            a, b = ((scale(x) - mean) / sd for x in (law.low, law.high))
            some = 1.0 if law.some is None else law.some[s, e]
            joint[s] *= some * stats.truncnorm(a, b, mean, sd).pdf(scale(value)) if value > 0 else 1.0 - some
        if with_age:
            mean, sd = AGE.centre[s, 0], AGE.sd[s, 0]
            law = stats.truncnorm((18 - mean) / sd, (89 - mean) / sd, mean, sd)
            age = columns["age"][i]
            joint[s] *= law.cdf(min(age + 0.05, 89)) - law.cdf(max(age - 0.05, 18))
    return np.array(joint) / sum(joint)


@pytest.mark.parametrize("with_age", [False, True])
def test_it_is_bayes_rule_written_out(columns, with_age):
    found = subtype_posterior(columns, with_age=with_age)
    for i in range(25):
        assert found[i] == pytest.approx(by_hand(columns, i, with_age=with_age), abs=1e-9)


def test_it_is_what_counting_finds(monkeypatch):
    """Where three signs are all that is seen, patients can be counted: no density, no Bayes' rule."""
    few = ("mismatch", "calcified")
    drawn = draw_columns(random_lots(400_000, 5), PLAIN)
    monkeypatch.setattr(ceiling, "FINDINGS", {name: FINDINGS[name] for name in few})
    p = subtype_posterior(drawn, with_age=False)
    seen = list(zip(*(drawn[name].tolist() for name in ("enhancement", *few)), strict=True))
    told = {key: p[i] for i, key in enumerate(seen)}
    together = Counter(zip(seen, drawn["subtype"].tolist(), strict=True))
    assert len(told) == 20
    for key, n in Counter(seen).items():
        for s in range(6):
            assert stats.binomtest(together[key, s], n, float(told[key][s])).pvalue > 1e-5


@pytest.mark.parametrize("config", [PLAIN, WITH_HEALTHY], ids=["tumours", "with healthy"])
@pytest.mark.parametrize("with_age", [False, True])
@pytest.mark.parametrize("target", list(QUESTIONS))
def test_it_is_calibrated(config, with_age, target):
    drawn = draw_columns(random_lots(N, 21), config)
    truth, p = classes_drawn(drawn, target), class_posterior(drawn, target, config, with_age=with_age)
    known = truth != ""
    assert np.isnan(p[~known]).all()
    assert np.allclose(p[known].sum(axis=1), 1.0)
    for k, wanted in enumerate(classes_of(target, config)):
        mine, hit = p[known, k], truth[known] == wanted
        assert mine.mean() == pytest.approx(class_shares(target, config)[k], abs=0.015)
        for low in np.arange(10) / 10:
            cell = (mine >= low) & (mine < low + 0.1 if low < 0.85 else mine <= 1.0)
            if cell.sum() >= 50:
                error = np.sqrt(max((mine[cell] * (1 - mine[cell])).sum(), 1e-12)) / cell.sum()
                assert abs(mine[cell].mean() - hit[cell].mean()) < 4.5 * error


def test_no_tumour_tells_all():
    drawn = draw_columns(random_lots(2000, 2), WITH_HEALTHY)
    p = class_posterior(drawn, "grade", WITH_HEALTHY, with_age=True)
    healthy = drawn["subtype"] < 0
    assert (p[healthy] == [0, 0, 1]).all()
    assert (p[~healthy, 2] == 0).all()


# --- nothing is above it


@pytest.mark.parametrize("target", list(QUESTIONS))
def test_age_adds_and_alone_or_with_volume_it_falls_short(columns, target):
    without, with_age = (oracle(columns, target, with_age=a) for a in (False, True))
    best = auc(columns, target, without)
    assert auc(columns, target, with_age) > best - 0.001
    for name in ("age", "volume_ml"):
        score = auc(columns, target, columns[name])
        assert max(score, 1 - score) < best - 0.05


def as_numbers(columns: dict[str, np.ndarray], *, with_age: bool) -> np.ndarray:
    names = [*FINDINGS, *(["age"] if with_age else [])]
    plain = [columns[n].astype(float) for n in names if n != "lobe"]
    words = [columns[n] == v for n in ("lobe", "enhancement") for v in np.unique(columns[n])]
    return np.stack([*plain, np.log(columns["volume_ml"]), *(w.astype(float) for w in words)], axis=1)


@pytest.mark.parametrize("with_age", [False, True])
@pytest.mark.parametrize("target", list(QUESTIONS))
def test_what_is_fitted_to_the_findings_comes_near_but_not_above(columns, others, target, with_age):
    best = auc(columns, target, oracle(columns, target, with_age=with_age))
    fitted = [
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, random_state=0),
    ]
    learn, ask = (as_numbers(c, with_age=with_age) for c in (others, columns))
    truth = classes_drawn(others, target) == QUESTIONS[target]
    scores = [auc(columns, target, model.fit(learn, truth).predict_proba(ask)[:, 1]) for model in fitted]
    assert max(scores) < best
    assert max(scores) > best - 0.02  # so it can be reached, and is no loose bound


def test_the_expected_ceiling_is_that_of_any_large_cohort(columns):
    expected = expected_ceilings(PLAIN)
    for target in QUESTIONS:
        for name, with_age in CEILINGS.items():
            assert expected[target][name] == pytest.approx(
                auc(columns, target, oracle(columns, target, with_age=with_age)), abs=0.008
            )
    assert expected == expected_ceilings(PLAIN)
    assert 0.9 < expected["idh"]["ceiling"] < expected["idh"]["ceiling with age"] < 0.99


def test_the_page_has_the_ceilings():
    page = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text(encoding="utf-8")
    expected = expected_ceilings(PLAIN, n=60_000, seed=1)
    for name in CEILINGS:
        line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        told = [float(cell) for cell in line.strip("|").split("|")[1:]]
        assert told == pytest.approx([expected[t][name] for t in QUESTIONS], abs=0.004)


def test_a_ceiling_of_three_classes_is_the_mean_of_one_against_the_rest():
    drawn = draw_columns(random_lots(N, 0), WITH_HEALTHY)
    p = class_posterior(drawn, "grade", WITH_HEALTHY, with_age=False)
    names = list(classes_of("grade", WITH_HEALTHY))
    truth = np.array([names.index(c) for c in classes_drawn(drawn, "grade")])
    expected = roc_auc_score(truth, p, multi_class="ovr", average="macro")
    assert expected_ceilings(WITH_HEALTHY)["grade"]["ceiling"] == pytest.approx(expected)


def test_a_site_that_tells_the_grade_beats_the_ceiling_which_does_not_know_it():
    config = PhantomConfig(site_confounding=1.0)
    cohort = draw_cohort(400, 3, config)
    assert expected_ceilings(config) == expected_ceilings(PLAIN)
    grades, sites = [t.grade for t in cohort], [t.site for t in cohort]
    high = {
        s: np.mean([g == "HGG" for t, g in zip(sites, grades, strict=True) if t == s]) for s in set(sites)
    }
    assert roc_auc_score([g == "HGG" for g in grades], [high[s] for s in sites]) == 1.0
    assert expected_ceilings(config)["grade"]["ceiling with age"] < 0.99
    bound, free = (
        site_effect(sites, grades),
        site_effect([t.site for t in draw_cohort(400, 3, PLAIN)], grades),
    )
    assert bound is not None
    assert free is not None
    assert bound.p < 0.01
    assert bound.accuracy == 1.0  # and so `cohort check` calls it serious
    assert free.p > 0.01


# --- beside a cohort table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("simulated")
    write_truth(place, draw_cohort(60, 1, WITH_HEALTHY), WITH_HEALTHY)
    return place


def entrant(cohort, target: str) -> pd.DataFrame:
    """What one entrant answered, as `protocol.answer_rows` has it."""
    rows = [t for t in cohort if target in t.truth]
    return pd.DataFrame(
        {
            "method": "some", "control": False, "case": [t.case for t in rows], "patient": [t.case for t in rows],
            "site": "", "truth": [t.truth[target] for t in rows], "decision": "?",
        }
    )  # fmt: skip


def test_the_same_seed_writes_the_same_bytes_whatever_the_number(folder, tmp_path):
    write_truth(tmp_path / "again", draw_cohort(60, 1, WITH_HEALTHY), WITH_HEALTHY)
    write_truth(tmp_path / "fewer", draw_cohort(9, 1, WITH_HEALTHY), WITH_HEALTHY)
    for name in ("truth.csv", "truth.json"):
        one, two = ((place / name).read_bytes() for place in (folder, tmp_path / "again"))
        assert hashlib.sha256(one).digest() == hashlib.sha256(two).digest()
    lines = (folder / "truth.csv").read_text().splitlines()
    assert (tmp_path / "fewer" / "truth.csv").read_text().splitlines() == lines[:10]


def test_the_truth_has_every_class_even_one_that_is_not_written(tmp_path):
    config = PhantomConfig(unknown_labels=1.0)
    cohort = draw_cohort(5, 0, config)
    table = pd.read_csv(write_truth(tmp_path, cohort, config), float_precision="round_trip")
    assert all("idh" not in t.targets for t in cohort)
    assert table["idh"].tolist() == [t.idh for t in cohort]
    assert table["front_mm"].tolist() == [t.findings.front_mm for t in cohort]
    about = read_json(tmp_path / "truth.json")
    assert about["settings"]["unknown_labels"] == 1.0
    assert about["expected_auc"]["idh"]["ceiling"] == expected_ceilings(config)["idh"]["ceiling"]
    assert sum(about["shares"]["idh"].values()) == pytest.approx(1.0)


def rows_of(cohort) -> list[CaseRow]:
    return [CaseRow(t.case, t.case, targets=t.targets) for t in cohort]


@pytest.mark.parametrize("target", list(QUESTIONS))
def test_an_oracle_answers_as_any_entrant(folder, target):
    cohort = draw_cohort(60, 1, WITH_HEALTHY)
    truth = read_truth(folder / "cohort.csv", rows_of(cohort), target)
    assert truth is not None
    classes = classes_of(target, WITH_HEALTHY)
    asked = entrant(cohort[::-1], target)
    rows = ceiling_rows(truth, asked, target, classes)
    assert rows["method"].unique().tolist() == list(CEILINGS)
    for _, mine in rows.groupby("method"):
        assert mine["case"].tolist() == asked["case"].tolist()
        p, prior = (mine[[f"{k}_{c}" for c in classes]].to_numpy() for k in ("p", "prior"))
        assert np.allclose(p.sum(axis=1), 1)
        assert np.allclose(prior, class_shares(target, WITH_HEALTHY))
        assert (mine["decision"] == np.array(classes)[(p / prior).argmax(axis=1)]).all()
        assert (mine["decision"] == mine["truth"]).mean() > 0.7
    drawn = {t.case: t for t in cohort}
    if target == "grade":
        told = dict(zip(rows["case"], rows["p_healthy"], strict=True))
        assert all((told[c] == 1.0) == (drawn[c].findings is None) for c in told)


def test_fewer_classes_share_the_whole_probability(folder):
    tumours = [t for t in draw_cohort(60, 1, WITH_HEALTHY) if t.findings]
    truth = read_truth(folder / "cohort.csv", rows_of(tumours), "grade")
    assert truth is not None
    rows = ceiling_rows(truth, entrant(tumours, "grade"), "grade", ("LGG", "HGG"))
    assert np.allclose(rows["p_LGG"] + rows["p_HGG"], 1)
    assert np.allclose(rows["prior_HGG"], 0.6)
    assert truth.expected("grade", ("LGG", "HGG"), "ceiling") is None
    assert truth.expected("grade", ("LGG", "HGG", "healthy"), "ceiling") is not None


def test_a_cohort_without_truth_has_no_ceiling(tmp_path, capsys):
    rows = rows_of(draw_cohort(3, 1, PLAIN))
    assert read_truth(tmp_path / "cohort.csv", rows, "grade") is None
    (tmp_path / "truth.csv").write_text("case,grade\nP1,LGG\n")  # some other table of that name
    assert read_truth(tmp_path / "cohort.csv", rows, "grade") is None
    assert "no ceiling" in capsys.readouterr().err


def test_truth_of_other_patients_is_refused(folder, tmp_path):
    cohort = draw_cohort(60, 1, WITH_HEALTHY)
    stranger = replace(cohort[0], case="P-77")
    changed = replace(cohort[1], grade="LGG" if cohort[1].grade == "HGG" else "HGG")
    for wrong in (stranger, changed):
        with pytest.raises(
            CohortError, match=rf"1 cases, such as {wrong.case}[\s\S]*gliolens cohort phantom"
        ):
            read_truth(folder / "cohort.csv", rows_of([*cohort[2:], wrong]), "grade")
    # A label that is not written cannot be wrong.
    assert read_truth(folder / "cohort.csv", rows_of([replace(changed, unwritten=("grade",))]), "grade")
    (tmp_path / "truth.csv").write_bytes((folder / "truth.csv").read_bytes())
    with pytest.raises(CohortError, match=r"truth\.json"):
        read_truth(tmp_path / "cohort.csv", rows_of(cohort), "grade")


def test_a_target_that_no_patient_was_drawn_with_is_refused(folder):
    graded = [CaseRow("SIM-0001", "SIM-0001", targets={"who_grade": "4"})]
    with pytest.raises(CohortError, match="another who_grade"):
        read_truth(folder / "cohort.csv", graded, "who_grade")
