"""Exchanged series: the rates its docstring states, on real gliomas."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from gliolens.case import Case, CaseRow, Grid
from gliolens.cohorts.audit.swaps import Contrast, contrast, suspected_swap
from gliolens.loader import read_case

STRIPPED = {
    "case_lgg_sri24": {"t1": "t1_bet", "t1ce": "t1c_bet", "t2": "t2_bet", "flair": "fla_bet"},
    "case_hgg_brats2023": {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"},
}


def renamed(found: Contrast, a: str, b: str) -> Contrast:
    """What would have been measured had the files of two series been exchanged."""
    new = {a: b, b: a}
    return Contrast(
        {(new.get(x, x), new.get(y, y)): v for (x, y), v in found.alike.items()},
        {new.get(x, x): v for x, v in found.lesion.items()},
        {(new.get(x, x), new.get(y, y)): v for (x, y), v in found.gain.items()},
    )


def stripped_case(folder: Path) -> Case:
    (mask,) = folder.glob("seg*")
    files = {s: next(folder.glob(f"*{word}*")) for s, word in STRIPPED[folder.name].items()}
    scheme = "brats2020" if folder.name == "case_lgg_sri24" else None
    return read_case(CaseRow(folder.name, folder.name, files=files, mask=mask, mask_scheme=scheme))


@pytest.fixture(scope="module")
def with_skull(shared_data) -> list[tuple[Case, Contrast]]:
    """Every third lower-grade glioma: 18 cases, T1, T1ce and FLAIR."""
    cases = []
    for folder in sorted(p for p in (shared_data / "tcga_lgg").iterdir() if p.is_dir())[::3]:
        files = {
            s: f for s in ("t1", "t1ce", "flair") if (f := folder / f"{folder.name}_{s}.nii.gz").exists()
        }
        case = read_case(
            CaseRow(folder.name, folder.name, files=files, mask=folder / f"{folder.name}_seg.nii.gz")
        )
        if (found := contrast(case)) is not None:
            cases.append((case, found))
    return cases


def test_real_cases_are_not_suspected(with_skull):
    assert len(with_skull) > 15
    assert [case.id for case, found in with_skull if suspected_swap(found)] == []


@pytest.mark.parametrize(
    ("pair", "least"), [(("flair", "t1"), 1.0), (("flair", "t1ce"), 0.85), (("t1", "t1ce"), 0.65)]
)
def test_exchanged_series_are_named(with_skull, pair, least):
    tried = [renamed(found, *pair) for case, found in with_skull if set(pair) <= set(case.series)]
    caught = [
        (swap := suspected_swap(found)) is not None and set(swap.series) == set(pair) for found in tried
    ]
    assert np.mean(caught) >= least


@pytest.mark.parametrize("name", list(STRIPPED))
@pytest.mark.parametrize("masked", [True, False])
def test_every_exchange_but_that_of_t1ce_and_flair_is_named_in_a_stripped_case(shared_data, name, masked):
    case = stripped_case(shared_data / name)
    found = contrast(case if masked else replace(case, tumour=None))
    assert found is not None
    assert suspected_swap(found) is None
    for pair in itertools.combinations(sorted(case.series), 2):
        swap = suspected_swap(renamed(found, *pair))
        if masked or set(pair) != {"t1ce", "flair"}:
            assert swap is not None, pair
            assert swap.series == pair
            assert swap.score < -1


def test_measuring_exchanged_files_is_renaming_what_was_measured(with_skull):
    case, found = with_skull[0]
    series = {**case.series, "t1": case.series["flair"], "flair": case.series["t1"]}
    measured, expected = contrast(replace(case, series=series)), renamed(found, "t1", "flair")
    assert measured is not None
    assert measured.alike == pytest.approx(expected.alike)
    assert measured.lesion == pytest.approx(expected.lesion)
    assert measured.gain == pytest.approx(expected.gain)


def test_the_scanners_unit_changes_nothing(with_skull):
    case, found = with_skull[1]
    scaled = contrast(replace(case, series={s: i * np.float32(8) + 64 for s, i in case.series.items()}))
    assert scaled is not None
    assert scaled.lesion == pytest.approx(found.lesion, abs=1e-3)
    assert scaled.alike == pytest.approx(found.alike, abs=1e-3)


def test_few_enough_voxels_are_measured_as_scipy_and_scikit_learn_measure_them():
    """A block of brain, two series with ties in their values."""
    rng = np.random.default_rng(4)
    grid = Grid((40, 40, 12), np.diag([4.0, 4.0, 5.0, 1.0]))
    brain = np.zeros(grid.shape, bool)
    brain[4:36, 4:36, :] = True
    tumour = np.zeros(grid.shape, np.uint8)
    tumour[16:22, 16:22, 3:9] = 2
    t1 = rng.integers(1, 60, grid.shape).astype(np.float32)
    flair = (t1 / 2 + rng.integers(0, 20, grid.shape) + 9 * (tumour > 0)).astype(np.float32)
    found = contrast(Case("x", grid, {"t1": t1, "flair": flair}, grid, brain=brain, tumour=tumour))
    assert found is not None
    # Deeper than 0.3 of the square's half width of 16 voxels: rows and columns whose depth exceeds 4.8.
    inner = np.zeros(grid.shape, bool)
    inner[8:32, 8:32, :] = True
    calm, ill = inner & (tumour == 0), inner & (tumour > 0)
    rho = stats.spearmanr(t1[calm], flair[calm]).statistic
    assert found.alike == pytest.approx({("t1", "flair"): rho, ("flair", "t1"): rho})
    for name, image in (("t1", t1), ("flair", flair)):
        assert found.lesion[name] == pytest.approx(roc_auc_score(ill[inner], image[inner]) - 0.5)
    assert found.gain["t1", "flair"] == -found.gain["flair", "t1"]


def test_a_part_of_the_voxels_says_what_all_of_them_say(with_skull, monkeypatch):
    case, found = with_skull[0]
    monkeypatch.setattr("gliolens.cohorts.audit.swaps._RANKED", 10**9)
    whole = contrast(case)
    assert whole is not None
    assert found.alike == pytest.approx(whole.alike, abs=0.02)
    assert found.lesion == pytest.approx(whole.lesion, abs=0.01)
    assert found.gain == pytest.approx(whole.gain, abs=0.2)
    assert found != whole


def test_nothing_is_said_where_too_little_is_seen():
    grid = Grid((6, 6, 6), np.eye(4))
    image = np.arange(216, dtype=np.float32).reshape(6, 6, 6)
    assert contrast(Case("x", grid, {"t1": image, "t2": image}, grid)) is None
    assert contrast(Case("x", grid, {"t1": image}, grid)) is None


def test_a_copy_and_a_blank_image_are_measured_without_a_warning(with_skull):
    case, _ = with_skull[0]
    found = contrast(replace(case, series={**case.series, "t1ce": case.series["t1"]}))
    assert found is not None
    assert found.gain["t1", "t1ce"] == 0
    assert found.alike["t1", "t1ce"] == pytest.approx(1)
    blank = np.zeros_like(case.series["t1"])
    blank[0, 0, 0] = 1
    assert contrast(replace(case, series={**case.series, "t1ce": blank})) is None
