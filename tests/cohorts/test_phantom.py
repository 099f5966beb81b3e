import hashlib
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from gliolens.case import Case
from gliolens.cohorts import phantom
from gliolens.cohorts.phantom import (
    P_CODELETED,
    P_HGG,
    P_MUTANT,
    PhantomConfig,
    PhantomTraits,
    draw_cohort,
    simulate_case,
    write_phantom,
)
from gliolens.errors import ConfigError
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import read_case

COARSE = PhantomConfig(spacing_mm=3.0)


@pytest.fixture(scope="module")
def traits() -> tuple[PhantomTraits, ...]:
    return draw_cohort(2000, 7, PhantomConfig())


@dataclass(frozen=True)
class Seen:
    """A case at the voxel size that users get, and what can be measured on it."""

    traits: PhantomTraits
    case: Case
    medians: dict[str, tuple[float, float, float]]
    """Median of CSF, grey and white matter in each series, well away from the tumour and off the skull."""
    fluid: np.ndarray
    """Where the simulator put more CSF than all else."""
    necrotic: np.ndarray
    """Where it put necrosis, which the labels do not tell from the rest of the non-enhancing core."""


def see(traits: PhantomTraits) -> Seen:
    inside: list[np.ndarray] = []
    grow = phantom._grow

    def remember(tumour, offset, across_mm, tissues, noise):
        shares = grow(tumour, offset, across_mm, tissues, noise)
        inside.extend((tissues[0] > 0.5, shares[2] > 0.5))
        return shares

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "_grow", remember)
        case = simulate_case(traits, PhantomConfig())
    # The same head without the tumour's push, which reaches little further than the margin.
    head = traits._random(phantom._HEAD)
    sulci = float(head.uniform(1.2, 2.0))
    tissues = phantom._tissues(phantom._place_head(case.grid, head), sulci, 2)[0]
    away = ndimage.binary_erosion(case.brain, iterations=2)
    away &= ndimage.distance_transform_edt(case.tumour == 0) > 12
    pure = [away & (share > 0.9) for share in tissues]
    medians = {s: tuple(float(np.median(v[p])) for p in pure) for s, v in case.series.items()}
    return Seen(traits, case, medians, *inside)


@pytest.fixture(scope="module")
def cases() -> list[Seen]:
    return [see(t) for t in draw_cohort(8, 7, PhantomConfig())]


# --- patients


def test_class_shares_are_near_their_probabilities(traits):
    def near(found: int, of: int, p: float) -> bool:
        return stats.binomtest(found, of, p).pvalue > 0.001

    grades = Counter(t.grade for t in traits)
    assert near(grades["HGG"], len(traits), P_HGG)
    for grade in ("LGG", "HGG"):
        mutant = [t for t in traits if t.grade == grade and t.idh == "mutant"]
        assert near(len(mutant), grades[grade], P_MUTANT[grade])
        assert near(sum(t.codel_1p19q == "codeleted" for t in mutant), len(mutant), P_CODELETED[grade])
    assert near(sum(t.sex == "M" for t in traits), len(traits), phantom.P_MALE)


def test_codeleted_only_with_a_mutation(traits):
    assert any(t.codel_1p19q == "codeleted" for t in traits)
    assert all(t.idh == "mutant" for t in traits if t.codel_1p19q == "codeleted")


def test_the_healthy_have_their_share_and_no_tumour_facts():
    drawn = draw_cohort(2000, 3, PhantomConfig(healthy=0.25))
    healthy = [t for t in drawn if t.grade == "healthy"]
    assert stats.binomtest(len(healthy), 2000, 0.25).pvalue > 0.001
    assert all((t.idh, t.codel_1p19q, t.os_days, t.os_event) == (None,) * 4 for t in healthy)
    assert all(t.targets == {"grade": "healthy"} for t in healthy)


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
    assert all(0 < t.os_days <= phantom.FOLLOW_UP_DAYS[1] for t in traits)
    mutant = [t.os_event for t in traits if (t.grade, t.idh) == ("LGG", "mutant")]
    assert np.mean(mutant) < 0.5 < np.mean([t.os_event for t in gbm])


def contingency(config: PhantomConfig) -> np.ndarray:
    count = Counter((t.site, t.grade) for t in draw_cohort(2000, 5, config))
    sites, grades = (sorted({key[k] for key in count}) for k in (0, 1))
    return np.array([[count[s, g] for g in grades] for s in sites])


@pytest.mark.parametrize("healthy", [0.0, 0.3])
def test_site_and_grade(healthy):
    free, bound = (contingency(PhantomConfig(site_confounding=c, healthy=healthy)) for c in (0.0, 1.0))
    assert stats.chi2_contingency(free).pvalue > 0.001
    assert ((bound > 0).sum(axis=1) == 1).all()
    assert free.shape[0] == bound.shape[0] == 3
    half = contingency(PhantomConfig(site_confounding=0.5, healthy=healthy))
    assert (half > 0).all()
    assert stats.chi2_contingency(half).pvalue < 1e-6


def test_unknown_labels_hide_the_molecular_targets_only():
    drawn = draw_cohort(2000, 5, PhantomConfig(unknown_labels=0.3))
    for target in ("idh", "codel_1p19q"):
        assert stats.binomtest(sum(target not in t.targets for t in drawn), 2000, 0.3).pvalue > 0.001
    assert all("grade" in t.targets and t.idh is not None for t in drawn)
    truth = draw_cohort(2000, 5, PhantomConfig())
    assert [replace(t, unwritten=()) for t in drawn] == list(truth)


def test_a_patient_does_not_depend_on_how_many_are_drawn(traits):
    assert draw_cohort(5, 7, PhantomConfig()) == traits[:5]
    assert draw_cohort(5, 8, PhantomConfig()) != traits[:5]


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
def test_refuses_a_bad_number_or_seed(n, seed, tmp_path):
    with pytest.raises(ConfigError, match=f"{n} and seed is {seed}"):
        write_phantom(tmp_path / "cohort", n, seed=seed)
    assert not (tmp_path / "cohort").exists()


# --- scans


def test_one_grid_zero_outside_the_brain_and_whole_numbers_inside(cases):
    for case in (seen.case for seen in cases):
        assert set(case.series) == set(SERIES)
        for voxels in case.series.values():
            assert (voxels[~case.brain] == 0).all()
            assert voxels[case.brain].min() >= 1
            assert (voxels == np.rint(voxels)).all()
        assert not case.tumour[~case.brain].any()


def test_the_brain_is_whole_and_of_human_size(cases):
    for case in (seen.case for seen in cases):
        assert 1000 < case.brain.sum() * case.grid.voxel_ml < 1850
        faces = [np.take(case.brain, k, axis=a).sum() for a in range(3) for k in (0, -1)]
        assert max(faces) == 0


def test_tissues_keep_their_physical_order(cases):
    for seen in cases:
        for series in ("t1", "t1ce"):
            csf, grey, white = seen.medians[series]
            assert 1.2 * csf < grey < white / 1.1
        csf, grey, white = seen.medians["t2"]
        assert csf / 1.2 > grey > 1.1 * white
        csf, grey, white = seen.medians["flair"]
        assert grey > 1.05 * white > 1.5 * csf


def test_enhancing_tumour_gains_with_contrast_and_oedema_does_not(cases):
    enhanced = 0
    for seen in cases:
        t1, t1ce = (seen.case.series[s][seen.case.brain] / seen.medians[s][2] for s in ("t1", "t1ce"))
        labels = seen.case.tumour[seen.case.brain]
        assert 0.8 < np.median((t1ce / t1)[labels == 2]) < 1.2  # the bias fields differ
        if (labels == 3).sum() > 50:
            enhanced += 1
            assert np.median(t1ce[labels == 3]) > 1.25 * np.median(t1[labels == 3])
    assert enhanced >= 4


def test_oedema_is_bright_on_flair_and_holds_no_fluid(cases):
    for seen in cases:
        csf, _, white = seen.medians["flair"]
        oedema = seen.case.series["flair"][seen.case.tumour == 2]
        assert np.median(oedema) > 1.3 * white
        assert np.quantile(oedema, 0.01) > 1.3 * csf


def test_no_label_where_fluid_prevails(cases):
    for seen in cases:
        assert not seen.case.tumour[seen.fluid].any()
    near = [ndimage.binary_dilation(seen.case.tumour > 0, iterations=2) for seen in cases]
    assert all((seen.fluid & n).any() for seen, n in zip(cases, near, strict=True))  # else nothing is shown


def test_parts_lie_within_one_another(cases):
    rims = 0
    for seen in cases:
        tumour = seen.case.tumour
        core, enhancing = np.isin(tumour, (1, 3)), tumour == 3
        depth = ndimage.distance_transform_edt(tumour > 0)
        assert ndimage.label(tumour > 0)[1] == 1
        assert core.sum() > 50
        assert depth[core].mean() > depth[tumour == 2].mean()
        assert (tumour[seen.necrotic & (tumour > 0)] == 1).all()
        if seen.necrotic.sum() > 100:
            rims += 1
            inside = ndimage.distance_transform_edt(core)
            assert inside[seen.necrotic].mean() > inside[enhancing].mean()
    assert rims >= 2


def test_the_healthy_have_an_empty_mask():
    drawn = draw_cohort(1, 0, replace(COARSE, healthy=1.0))
    case = simulate_case(drawn[0], COARSE)
    assert case.targets["grade"] == "healthy"
    assert not case.tumour.any()
    assert case.region("whole") is not None


def test_grade_shows_in_enhancement_but_not_wholly():
    config = PhantomConfig(spacing_mm=5.0)
    drawn = draw_cohort(40, 2, config)
    volume = [float((simulate_case(t, config).tumour == 3).sum()) for t in drawn]
    high, low = ([v for t, v in zip(drawn, volume, strict=True) if t.grade == g] for g in ("HGG", "LGG"))
    auc = stats.mannwhitneyu(high, low).statistic / (len(high) * len(low))
    assert 0.75 < auc < 0.98


def test_smooth_noise_is_standard():
    grid = phantom._grid(4.0)
    rng = np.random.default_rng(0)
    fields = np.stack([phantom._noise(rng, grid, 20.0) for _ in range(300)])
    assert np.abs(fields.std(axis=0).mean() - 1.0) < 0.02
    assert fields.std(axis=0).min() > 0.8
    assert np.abs(fields.mean()) < 0.02


def test_sites_differ_in_scanner_not_in_patient():
    t = draw_cohort(1, 0, COARSE)[0]
    a, b = (simulate_case(replace(t, site=f"site-{s}"), COARSE) for s in "AB")
    assert (a.tumour == b.tumour).all()
    ratio = [np.median(a.series[s][a.brain]) / np.median(b.series[s][b.brain]) for s in SERIES]
    assert max(abs(np.log(ratio))) > 0.2


def test_opens_no_socket(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the simulator asked for the network")

    phantom._anatomy.cache_clear()
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert phantom._anatomy(3)[0].shape[0] == 3


def test_import_is_light():
    code = (
        "import sys, gliolens.cohorts.phantom; print([m for m in ('torch', 'nilearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- on disk


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_same_seed_same_bytes_whatever_n(tmp_path):
    write_phantom(tmp_path / "a", 3, seed=4, config=COARSE)
    write_phantom(tmp_path / "b", 2, seed=4, config=COARSE)
    write_phantom(tmp_path / "c", 2, seed=5, config=COARSE)
    a, b, c = (hashes(tmp_path / name) for name in "abc")
    assert len(b) == 2 * 5 + 1
    assert all(a[name] == b[name] for name in b if name != "cohort.csv")
    assert all(c[name] != b[name] for name in b)


def test_the_written_cohort_reads_back(tmp_path):
    config = replace(COARSE, healthy=0.4, unknown_labels=0.5)
    told: list[tuple[int, int]] = []
    table = write_phantom(tmp_path, 4, seed=1, config=config, progress=lambda i, n: told.append((i, n)))
    assert table == tmp_path / "cohort.csv"
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    drawn, rows = draw_cohort(4, 1, config), read_cohort(table)
    assert {t.grade == "healthy" for t in drawn} == {True, False}
    for t, row in zip(drawn, rows, strict=True):
        assert (row.case, row.patient, row.site, row.age, row.sex) == (t.case, t.case, t.site, t.age, t.sex)
        assert (row.os_days, row.os_event, dict(row.targets)) == (t.os_days, t.os_event, t.targets)
        assert row.files["t1ce"] == tmp_path.resolve() / t.case / f"{t.case}_t1ce.nii.gz"
        made, read = simulate_case(t, config), read_case(row, SERIES, need_mask=True)
        assert all((made.series[s] == read.series[s]).all() for s in SERIES)
        assert (made.tumour == read.tumour).all()
        assert made.grid.matches(read.grid, 1e-4)
        assert (read.targets, read.label_scheme) == (made.targets, "brats_lgg_hgg")
        assert read.mask_scheme == made.mask_scheme == "brats2023"
