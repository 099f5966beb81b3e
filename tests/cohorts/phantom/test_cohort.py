import hashlib
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from gliolens.cohorts.phantom import anatomy
from gliolens.cohorts.phantom.cohort import simulate_case, write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.errors import ConfigError
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES
from gliolens.loader import read_case

COARSE = PhantomConfig(spacing_mm=4.0)


@pytest.fixture(scope="module")
def cases():
    """At the voxel size that users get."""
    return [(t, simulate_case(t, PhantomConfig())) for t in draw_cohort(8, 7, PhantomConfig())]


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (0, 0), (3, -1)])
def test_refuses_a_bad_number_or_seed(n, seed, tmp_path):
    with pytest.raises(ConfigError, match=f"{n} and seed is {seed}"):
        write_phantom(tmp_path / "cohort", n, seed=seed)
    assert not (tmp_path / "cohort").exists()


def test_one_grid_zero_outside_the_brain_and_whole_numbers_inside(cases):
    for _, case in cases:
        assert set(case.series) == set(SERIES)
        for voxels in case.series.values():
            assert (voxels[~case.brain] == 0).all()
            assert voxels[case.brain].min() >= 1
            assert (voxels == np.rint(voxels)).all()
        assert not case.tumour[~case.brain].any()


def test_the_brain_is_whole_and_of_human_size(cases):
    for _, case in cases:
        assert 1000 < case.brain.sum() * case.grid.voxel_ml < 1950
        parts, _ = ndimage.label(case.brain)
        assert np.bincount(parts.ravel())[1:].max() > 0.97 * case.brain.sum()


def test_tumours_have_the_volume_that_was_drawn(cases):
    """Less what the ventricles and the skull strip take."""
    for traits, case in cases:
        drawn = traits.findings.volume_ml
        assert 0.7 * drawn < np.count_nonzero(case.tumour) * case.grid.voxel_ml < 1.1 * drawn


def test_only_what_enhances_is_labelled_so(cases):
    for traits, case in cases:
        assert (case.tumour == 3).any() == (traits.findings.enhancement != "none")


def _gain(case, here, away):
    """How much brighter a place grows with contrast medium, relative to the rest of the brain."""
    if here.sum() < 50:
        return np.nan
    ratio = [np.median(case.series[s][here]) / np.median(case.series[s][away]) for s in ("t1ce", "t1")]
    return ratio[0] / ratio[1]


def test_enhancing_tumour_gains_with_contrast_and_oedema_does_not(cases):
    enhanced = 0
    for _, case in cases:
        away = case.brain & (ndimage.distance_transform_edt(case.tumour == 0) > 12)
        gain = {part: _gain(case, case.tumour == part, away) for part in (2, 3)}
        if np.isfinite(gain[3]):
            enhanced += 1
            assert gain[3] > 1.25 * gain[2]
    assert enhanced >= 4


def test_oedema_is_bright_on_flair_and_t2(cases):
    for _, case in cases:
        far = case.brain & (ndimage.distance_transform_edt(case.tumour == 0) > 12)
        for name in ("flair", "t2"):
            voxels = case.series[name]
            assert np.median(voxels[case.tumour == 2]) > 1.15 * np.median(voxels[far])


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


def test_sites_differ_in_scanner_not_in_patient():
    t = draw_cohort(1, 0, COARSE)[0]
    a, b = (simulate_case(replace(t, site=f"site-{s}"), COARSE) for s in "AB")
    assert (a.tumour == b.tumour).all()
    ratio = [np.median(a.series[s][a.brain]) / np.median(b.series[s][b.brain]) for s in SERIES]
    assert max(abs(np.log(ratio))) > 0.2


def test_opens_no_socket(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the simulator asked for the network")

    anatomy._template.cache_clear()
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert anatomy._template(2)[0].shape[0] == 7


def test_patients_are_drawn_without_torch():
    code = (
        "import sys, gliolens.cohorts.phantom.traits;"
        "print([m for m in ('torch', 'nilearn') if m in sys.modules])"
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
    a, b, c = ({k: v for k, v in hashes(tmp_path / name).items() if "nii" in k} for name in "abc")
    assert len(b) == 2 * 5
    assert all(a[name] == b[name] for name in b)
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
