"""Simulated patients: drawn as the tables say, and the tables say what the literature says."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gliolens.cohorts.phantom.literature import (
    AGE,
    ENHANCEMENT,
    ENHANCEMENTS,
    FINDINGS,
    FOLLOW_UP_DAYS,
    LOBES,
    P_CODELETED,
    P_HGG,
    P_MALE,
    P_MUTANT,
    SUBTYPES,
    Choice,
    Spread,
    subtype_shares,
)
from gliolens.cohorts.phantom.traits import Findings, PhantomConfig, draw_cohort, draw_columns, random_lots
from gliolens.errors import ConfigError

LOW_CODEL, LOW_INTACT, LOW_WILD, HIGH_CODEL, HIGH_INTACT, HIGH_WILD = range(6)
LOW = (LOW_CODEL, LOW_INTACT, LOW_WILD)
N = 40_000


@pytest.fixture(scope="module")
def traits():
    return draw_cohort(2000, 7, PhantomConfig())


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    return draw_columns(random_lots(N, 1), PhantomConfig())


def near(found: int, of: int, p: float) -> bool:
    return bool(stats.binomtest(int(found), int(of), float(p)).pvalue > 1e-4)


def shares_of(law: Choice) -> np.ndarray:
    """Probability (6, k) of each value in each subtype, whatever the enhancement."""
    return np.einsum("se,sek->sk", ENHANCEMENT.p[:, 0], law.p)


def among(law: Choice, value: object, subtypes: tuple[int, ...]) -> float:
    """Probability of a value in patients of several subtypes."""
    weights = subtype_shares()[list(subtypes)]
    return float(weights @ shares_of(law)[list(subtypes), law.values.index(value)] / weights.sum())


# --- who is drawn


def test_class_shares_are_near_their_probabilities(traits):
    grades = Counter(t.grade for t in traits)
    assert near(grades["HGG"], len(traits), P_HGG)
    for grade in ("LGG", "HGG"):
        mutant = [t for t in traits if t.grade == grade and t.idh == "mutant"]
        assert near(len(mutant), grades[grade], P_MUTANT[grade])
        assert near(sum(t.codel_1p19q == "codeleted" for t in mutant), len(mutant), P_CODELETED[grade])
    assert near(sum(t.sex == "M" for t in traits), len(traits), P_MALE)


def test_subtype_shares_are_those_of_the_three_tables():
    shares = dict(zip(SUBTYPES, subtype_shares(), strict=True))
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["LGG", "mutant", "codeleted"] == pytest.approx(0.4 * 0.8 * 0.38)
    assert shares["HGG", "wildtype", "intact"] == pytest.approx(0.6 * 0.92)


def test_codeleted_only_with_a_mutation(traits):
    assert any(t.codel_1p19q == "codeleted" for t in traits)
    assert all(t.idh == "mutant" for t in traits if t.codel_1p19q == "codeleted")


def test_the_healthy_have_their_share_and_no_tumour_facts():
    drawn = draw_cohort(2000, 3, PhantomConfig(healthy=0.25))
    healthy = [t for t in drawn if t.grade == "healthy"]
    assert near(len(healthy), 2000, 0.25)
    assert all((t.idh, t.codel_1p19q, t.os_days, t.os_event, t.findings) == (None,) * 5 for t in healthy)
    assert all(t.targets == {"grade": "healthy"} for t in healthy)
    assert all(t.findings is not None for t in drawn if t.grade != "healthy")


def test_age_tells_idh_but_not_wholly(traits):
    wildtype, mutant = ([t.age for t in traits if t.idh == i] for i in ("wildtype", "mutant"))
    auc = stats.mannwhitneyu(wildtype, mutant).statistic / (len(wildtype) * len(mutant))
    assert 0.8 < auc < 0.95  # UCSF-PDGM's table: 0.90


def test_survival_has_the_published_median_and_falls_with_age(traits):
    gbm = [t for t in traits if (t.grade, t.idh) == ("HGG", "wildtype")]
    # Nearly all follow-up is longer than the median, so that the plain median is off by little.
    assert np.median([t.os_days for t in gbm]) == pytest.approx(445, rel=0.15)
    old, young = ([t.os_days for t in gbm if (t.age > 61) == side] for side in (True, False))
    assert stats.mannwhitneyu(old, young, alternative="less").pvalue < 0.01
    assert all(0 < t.os_days <= FOLLOW_UP_DAYS[1] for t in traits)
    mutant = [t.os_event for t in traits if (t.grade, t.idh) == ("LGG", "mutant")]
    assert np.mean(mutant) < 0.5 < np.mean([t.os_event for t in gbm])


def contingency(config: PhantomConfig) -> np.ndarray:
    count = Counter((t.site, t.grade) for t in draw_cohort(2000, 5, config))
    sites, grades = (sorted({key[k] for key in count}) for k in (0, 1))
    return np.array([[count[s, g] for g in grades] for s in sites])


@pytest.mark.parametrize(("healthy", "sites"), [(0.0, 3), (0.3, 3), (0.0, 2), (0.3, 7)])
def test_site_and_grade(healthy, sites):
    free, bound = (
        contingency(PhantomConfig(site_confounding=c, healthy=healthy, sites=sites)) for c in (0.0, 1.0)
    )
    assert stats.chi2_contingency(free).pvalue > 0.001
    assert ((bound > 0).sum(axis=1) == 1).all()
    assert free.shape[0] == bound.shape[0] == sites
    half = contingency(PhantomConfig(site_confounding=0.5, healthy=healthy, sites=sites))
    assert (half > 0).all()
    assert stats.chi2_contingency(half).pvalue < 1e-6


def test_unknown_labels_hide_the_molecular_targets_only():
    drawn = draw_cohort(2000, 5, PhantomConfig(unknown_labels=0.3))
    for target in ("idh", "codel_1p19q"):
        assert near(sum(target not in t.targets for t in drawn), 2000, 0.3)
        assert all(target in t.truth for t in drawn)
    assert all("grade" in t.targets for t in drawn)
    truth = draw_cohort(2000, 5, PhantomConfig())
    assert [replace(t, unwritten=()) for t in drawn] == list(truth)


def test_a_patient_depends_on_the_seed_and_the_place_alone(traits):
    assert draw_cohort(5, 7, PhantomConfig()) == traits[:5]
    assert draw_cohort(5, 8, PhantomConfig()) != traits[:5]
    assert draw_cohort(5, 7, PhantomConfig(sites=1))[3].findings == traits[3].findings
    # Two cohorts of neighbouring seeds share no patient.
    assert not {t.age for t in draw_cohort(20, 8, PhantomConfig())} >= {t.age for t in traits[:20]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing_mm": 0.0},
        {"spacing_mm": float("nan")},
        {"healthy": 1.1},
        {"healthy": -0.1},
        {"unknown_labels": 2.0},
        {"site_confounding": float("nan")},
        {"sites": 0},
        {"sites": 27},
        {"sites": 2, "healthy": 0.2, "site_confounding": 0.5},
    ],
)
def test_refuses_a_configuration_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PhantomConfig(**wrong)


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (0, 0), (3, -1)])
def test_refuses_a_bad_number_or_seed(n, seed):
    with pytest.raises(ConfigError, match=f"{n} and seed is {seed}"):
        draw_cohort(n, seed, PhantomConfig())


# --- findings are drawn as the tables say


def test_every_table_holds_probabilities():
    for law in [ENHANCEMENT, *FINDINGS.values()]:
        if isinstance(law, Choice):
            assert law.p.shape == (6, 5, len(law.values))
            assert law.p.min() >= 0
            assert np.allclose(law.p.sum(axis=2), 1.0)
        else:
            assert law.centre.shape == law.sd.shape == (6, 5)
            assert (law.sd > 0).all()
            assert ((law.low < law.centre) & (law.centre < law.high)).all()


def test_findings_keep_their_ranges_and_their_types(columns, traits):
    for name, (low, high) in {"volume_ml": (4, 220), "core_share": (0.1, 0.95), "necrosis": (0, 0.8),
                              "front_mm": (0.8, 6), "foci": (1, 4)}.items():  # fmt: skip
        assert columns[name].min() >= low
        assert columns[name].max() <= high
    assert set(columns["enhancement"]) == set(ENHANCEMENTS)
    assert set(columns["lobe"]) == set(LOBES)
    findings = traits[0].findings
    types = {name: type(getattr(findings, name)) for name in Findings.__dataclass_fields__}
    assert [types[n] for n in ("volume_ml", "lobe", "cortical", "foci")] == [float, str, bool, int]


def test_necrosis_and_bleeding_only_where_contrast_medium_goes(columns):
    weak = np.isin(columns["enhancement"], ("none", "faint"))
    assert (columns["necrosis"][weak] == 0).all()
    assert (columns["necrosis"][~weak] > 0).any()
    assert not columns["bleeding"][columns["enhancement"] == "none"].any()
    assert columns["bleeding"][columns["enhancement"] == "ring"].any()


def test_categories_are_drawn_with_their_probabilities(columns):
    place = np.array([ENHANCEMENTS.index(e) for e in columns["enhancement"].tolist()])
    choices = {name: law for name, law in FINDINGS.items() if isinstance(law, Choice)}
    for s in range(6):
        mine = columns["subtype"] == s
        assert all(near((columns["enhancement"][mine] == e).sum(), mine.sum(), p)
                   for e, p in zip(ENHANCEMENTS, ENHANCEMENT.p[s, 0], strict=True))  # fmt: skip
        for name, law in choices.items():
            for e in range(5):
                cell = mine & (place == e)
                found = [(columns[name][cell] == v).sum() for v in law.values]
                assert all(
                    near(f, cell.sum(), p) for f, p in zip(found, law.p[s, e], strict=True) if cell.any()
                )


@pytest.mark.parametrize("name", ["volume_ml", "core_share", "front_mm", "necrosis"])
def test_numbers_follow_a_truncated_normal(columns, name):
    """scipy's own distribution is the oracle."""
    law, scale = FINDINGS[name], np.log if FINDINGS[name].log else np.asarray
    place = np.array([ENHANCEMENTS.index(e) for e in columns["enhancement"].tolist()])
    for s in range(6):
        for e in np.unique(place):
            cell = columns[name][(columns["subtype"] == s) & (place == e)]
            some = cell[cell > 0]
            if law.some is not None:
                assert near(some.size, cell.size, law.some[s, e]) if cell.size else True
            if some.size > 30:
                mean, sd = scale(law.centre[s, e]), law.sd[s, e]
                a, b = ((scale(x) - mean) / sd for x in (law.low, law.high))
                assert stats.kstest(scale(some), stats.truncnorm(a, b, mean, sd).cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", ["age", *(n for n, law in FINDINGS.items() if isinstance(law, Spread))])
def test_a_density_comes_to_the_same_whole_in_every_subtype(name):
    """Else a subtype would be favoured whatever is seen."""
    law = {"age": AGE, **FINDINGS}[name]
    ends = (np.log(law.low), np.log(law.high)) if law.log else (law.low, law.high)
    scale = np.linspace(*ends, 200_001)
    values = np.exp(scale) if law.log else scale
    if law.step:
        values = np.round(np.arange(law.low, law.high + law.step / 2, law.step), 6)
        scale = np.arange(values.size, dtype=float)
    for e in (0, 4):
        p = np.exp(law.log_density(values, np.full(values.size, e)))
        whole = p.sum(axis=0) if law.step else np.trapezoid(p, scale, axis=0) / np.sqrt(2 * np.pi)
        expected = np.ones(6) if law.some is None else law.some[:, e]
        assert whole == pytest.approx(expected, rel=1e-5)
        if law.some is not None:
            none = np.exp(law.log_density(np.zeros(1), np.array([e])))[0]
            assert none == pytest.approx(1.0 - expected)


# --- the tables say what was published, and the page what the tables say


def page_rows() -> dict[str, list[str]]:
    """The first six cells of each row of the tables on the simulator's page, by the row's name."""
    lines = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {f"{row[0]} ±" if "±" in row[1] else row[0]: row[1:7] for row in cells if len(row) >= 8}


def test_the_page_has_every_probability():
    page = page_rows()
    per_cent = {"share of all tumours": subtype_shares()}
    per_cent |= {f"enhancement: {e}": ENHANCEMENT.p[:, 0, i] for i, e in enumerate(ENHANCEMENTS)}
    per_cent |= {f"lobe: {lobe}": shares_of(FINDINGS["lobe"])[:, i] for i, lobe in enumerate(LOBES)}
    signs = ("cortical", "mismatch", "calcified", "cystic", "bleeding")
    per_cent |= {name: shares_of(FINDINGS[name])[:, 1] for name in signs}
    per_cent["foci: 2 or more"] = 1.0 - shares_of(FINDINGS["foci"])[:, 0]
    per_cent["necrosis"] = (ENHANCEMENT.p[:, 0] * FINDINGS["necrosis"].some).sum(axis=1)
    for name, p in per_cent.items():
        assert [float(cell) for cell in page[name]] == pytest.approx((100 * p).tolist(), abs=0.051), name
    numbers = {"age": AGE} | {n: law for n, law in FINDINGS.items() if isinstance(law, Spread)}
    for name, law in numbers.items():
        told = [[float(x) for x in cell.split(" ± ")] for cell in page[f"{name} ±"]]
        assert told == np.stack([law.centre[:, 0], law.sd[:, 0]], axis=1).tolist(), name
    known = {*per_cent, *(f"{n} ±" for n in numbers), ""}
    assert {name for name in page if not name.startswith("---")} == known


def test_the_mismatch_sign_is_as_sensitive_and_specific_as_published():
    law = FINDINGS["mismatch"]
    assert among(law, True, (LOW_INTACT,)) == pytest.approx(0.42, abs=0.02)  # Park 2021
    assert among(law, True, (LOW_CODEL, LOW_WILD)) <= 0.01
    assert among(law, True, (HIGH_INTACT,)) == pytest.approx(0.264, abs=0.02)  # ReSPOND 2023
    assert among(law, True, (HIGH_WILD,)) == pytest.approx(0.004, abs=0.001)


def test_borders_are_as_indistinct_as_published():
    """Johnson 2017: 92 % of codeleted, 45 % of intact."""
    law = FINDINGS["front_mm"]
    blurred = stats.norm.sf((np.log(2.0) - np.log(law.centre[:, 0])) / law.sd[:, 0])
    assert blurred[LOW_CODEL] == pytest.approx(0.92, abs=0.03)
    assert blurred[LOW_INTACT] == pytest.approx(0.45, abs=0.03)


def test_lobes_are_as_often_struck_as_published():
    law = FINDINGS["lobe"]
    everyone = {lobe: among(law, lobe, tuple(range(6))) for lobe in LOBES}
    for lobe, share in {"frontal": 0.40, "temporal": 0.29, "parietal": 0.14, "occipital": 0.03}.items():
        assert everyone[lobe] == pytest.approx(share, abs=0.04)  # Larjavaara 2007

    def share_of(subtypes: tuple[int, ...], *lobes: str) -> float:
        weights = subtype_shares()
        struck = shares_of(law)[:, [LOBES.index(lobe) for lobe in lobes]].sum(axis=1) * weights
        return float(struck[list(subtypes)].sum() / struck[list(LOW)].sum())

    # Darlix 2017, grade 2: of frontal and of temporo-insular tumours, IDH-mutant and codeleted.
    assert share_of((LOW_CODEL, LOW_INTACT), "frontal") == pytest.approx(0.871, abs=0.05)
    assert share_of((LOW_CODEL,), "frontal") == pytest.approx(0.452, abs=0.06)
    assert share_of((LOW_CODEL,), "temporal", "insula") == pytest.approx(0.170, abs=0.04)
    odds = [p / (1 - p) for p in shares_of(law)[[HIGH_INTACT, HIGH_WILD], 0]]
    assert odds[0] / odds[1] == pytest.approx(3.84, rel=0.1)  # ReSPOND 2023


def test_contrast_medium_is_taken_up_as_often_as_published():
    # Acta Neurochirurgica 2022; 164: 2035: 21 % of grade 2 and 72 % of grade 3, about as many of each in TCGA-LGG.
    none = {s: ENHANCEMENT.p[s, 0, 0] for s in range(6)}
    low = subtype_shares()[list(LOW)]
    assert 1 - low @ [none[s] for s in LOW] / low.sum() == pytest.approx((0.21 + 0.72) / 2, abs=0.05)
    assert 0.03 < none[HIGH_WILD] < 0.10
    assert 1 - none[LOW_WILD] > 1 - none[LOW_CODEL] > 1 - none[LOW_INTACT]


def test_calcium_cysts_and_foci_are_as_frequent_as_published():
    mutant = (LOW_CODEL, LOW_INTACT)
    assert among(FINDINGS["calcified"], True, mutant) == pytest.approx(0.252, abs=0.03)  # grade 2, on CT
    assert among(FINDINGS["calcified"], True, (LOW_WILD,)) == pytest.approx(0.024, abs=0.01)
    assert among(FINDINGS["cystic"], True, (HIGH_WILD,)) == pytest.approx(88 / 493, abs=0.02)  # Curtin 2020
    assert 0.005 < 1 - among(FINDINGS["foci"], 1, (HIGH_WILD,)) < 0.35  # Thomas 2013


def test_volumes_and_cores_are_those_of_the_real_masks(shared_data: Path, columns):
    folder = shared_data / "tables"
    if not (folder / "TCGA_LGG_radiomicFeatures.csv").is_file():
        pytest.skip("no table of the TCGA masks in ../shared/data/tables")
    for name, is_low in (("LGG", True), ("GBM", False)):
        table = pd.read_csv(folder / f"TCGA_{name}_radiomicFeatures.csv", na_values=["#DIV/0!", "INF", "NaN"])
        whole, core = (pd.to_numeric(table[f"VOLUME_{r}"], errors="coerce") for r in ("WT", "TC"))
        mine = (columns["subtype"] < 3) == is_low
        assert np.median(columns["core_share"][mine]) == pytest.approx((core / whole).median(), abs=0.08)
        low, high = np.nanquantile(whole / 1000, (0.2, 0.8))
        assert low < np.median(columns["volume_ml"][mine]) < high


def test_ages_are_those_of_the_real_patients(shared_data: Path, columns):
    path = shared_data / "tables" / "ucsf_pdgm_metadata_v2.csv"
    if not path.is_file():
        pytest.skip("no table of UCSF-PDGM in ../shared/data/tables")
    table = pd.read_csv(path)
    wild = table["IDH"] == "wildtype"
    for is_wild, subtypes in ((True, (HIGH_WILD,)), (False, (LOW_INTACT, HIGH_INTACT))):
        real = table.loc[(wild == is_wild) & ((table["WHO CNS Grade"] == 4) | ~wild), "Age at MRI"]
        mine = columns["age"][np.isin(columns["subtype"], subtypes)]
        assert np.mean(mine) == pytest.approx(real.mean(), abs=3)
        assert np.std(mine) == pytest.approx(real.std(), abs=3)
