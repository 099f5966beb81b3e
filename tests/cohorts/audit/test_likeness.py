"""One patient known again by the scans: after every change a release makes, and nobody else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage

from gliolens.case import Case, CaseRow, Grid, Volume
from gliolens.cohorts.audit import alignment
from gliolens.cohorts.audit.alignment import Shape, best_shift, refined
from gliolens.cohorts.audit.fingerprint import SHAPE, Fingerprint, fingerprint
from gliolens.cohorts.audit.likeness import SAME, _likeliest, _turned, likeness, same_patients, upright
from gliolens.loader import read_case
from gliolens.ops.geometry import resample

MM = 3.0
GRID = Grid((50, 64, 50), np.diag([MM, MM, MM, 1.0]))
AXES = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in GRID.shape], indexing="ij"))
BRAIN = (AXES**2).sum(axis=0) < 0.9


def head(seed: int) -> Case:
    """A ball of blobs, with a frame that all heads share, so that there is an up and a front."""
    rng = np.random.default_rng(seed)
    own = ndimage.gaussian_filter(rng.normal(size=GRID.shape), 2.5)
    shared = ndimage.gaussian_filter(np.random.default_rng(99).normal(size=GRID.shape), 3.5)
    shared += shared[::-1]  # left is as right is, by and large
    image = own / own.std() + shared / shared.std()
    images = {
        s: np.where(BRAIN, 100 + 20 * gain * image, 0).astype(np.float32)
        for s, gain in (("t1", 1), ("flair", -1))
    }
    return Case(f"p{seed}", GRID, images, GRID, brain=BRAIN)


@pytest.fixture(scope="module")
def prints() -> list[Fingerprint]:
    return [made for seed in range(8) if (made := fingerprint(head(seed))) is not None]


def changed(case: Case, change) -> Fingerprint:  # type: ignore[no-untyped-def]
    made = fingerprint(replace(case, series={s: change(image) for s, image in case.series.items()}))
    assert made is not None
    return made


def test_a_fingerprint_knows_no_unit(prints):
    made = changed(head(0), lambda image: np.where(BRAIN, np.exp(image / 30) - 7, 0).astype(np.float32))
    for name, stored in made.stored.items():
        assert np.array_equal(stored, prints[0].stored[name])


def test_different_brains_are_not_alike(prints):
    assert len(prints) == 8
    assert same_patients(prints) == ()


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**16))
def test_a_brain_turned_scaled_moved_and_cut_smaller_is_itself(prints, seed):
    rng = np.random.default_rng(seed)
    case = head(1)
    angle = np.deg2rad(rng.uniform(-8, 8))
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, :3] *= rng.uniform(0.94, 1.06, 3)
    middle = np.array([*GRID.affine[:3, :3] @ (np.array(GRID.shape) - 1) / 2, 1.0])
    matrix[:3, 3] = (middle - matrix @ middle)[:3] + rng.uniform(-5, 5, 3)
    read = Grid(GRID.shape, matrix @ GRID.affine)
    images = {s: resample(Volume(image, GRID.affine), read) for s, image in case.series.items()}
    brain = resample(Volume(BRAIN.astype(np.uint8), GRID.affine), read, order=0) > 0
    brain = np.asarray(ndimage.binary_erosion(brain, iterations=2))
    made = fingerprint(Case("again", GRID, images, GRID, brain=brain))
    found = same_patients([*prints, made])
    assert [(pair.a, pair.b, pair.mirrored) for pair in found] == [(1, 8, False)]
    assert SAME <= found[0].alike <= 1


def test_a_mirrored_brain_is_itself_and_said_to_be_mirrored(prints):
    made = fingerprint(replace(head(2), series={s: i[::-1].copy() for s, i in head(2).series.items()}))
    (pair,) = same_patients([*prints, made])
    assert (pair.a, pair.b, pair.mirrored, pair.series) == (2, 8, True, ("t1", "flair"))


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 2, 1), (1, -1)), ((2, 1, 0), (-1, 1)), ((1, 0, 2), (1, 1))]
)
def test_axes_that_the_header_lost_are_found(prints, order, flips):
    lost = replace(
        prints[3],
        stored={s: _turned(f, order, flips) for s, f in prints[3].stored.items()},
        inside=_turned(prints[3].inside, order, flips),
    )
    found, turned = upright([*prints, lost])
    assert turned == (8,)
    assert [(p.a, p.b) for p in same_patients(found)] == [(3, 8)]


def test_upright_brains_stay_as_they_are(prints):
    found, turned = upright(prints)
    assert turned == ()
    assert list(found) == list(prints)


def test_no_series_in_common_is_not_compared(prints):
    one = replace(prints[0], stored={"t1": prints[0].stored["t1"]})
    other = replace(prints[0], stored={"t2": prints[0].stored["t1"]})
    assert likeness(one, other) is None
    assert same_patients([one, other]) == ()


def test_two_of_another_cohort_are_not_compared(prints):
    assert same_patients([prints[0], prints[1], prints[1]], own=1) == ()
    assert len(same_patients([prints[0], prints[1], prints[0]], own=2)) == 1


def test_in_a_large_cohort_the_likeliest_partner_is_the_patient(prints, monkeypatch):
    made = fingerprint(replace(head(4), series={s: i[::-1].copy() for s, i in head(4).series.items()}))
    everyone = [*prints, made, prints[6]]
    plain, mirrored = _likeliest(everyone)
    assert mirrored[4].argmax() == 8
    assert np.argsort(plain[6])[-2:].tolist() in ([6, 9], [9, 6])
    monkeypatch.setattr("gliolens.cohorts.audit.likeness._ALL_PAIRS", 3)
    monkeypatch.setattr("gliolens.cohorts.audit.likeness._NEAREST", 1)
    assert {(p.a, p.b) for p in same_patients(everyone)} == {(4, 8), (6, 9)}


def test_in_a_large_cohort_a_pair_that_shares_a_rare_series_alone_is_compared(prints, monkeypatch):
    """Most cases have T1 and FLAIR, two of one patient T2 alone."""
    twin = replace(prints[6], stored={"t2": prints[6].stored["t1"]})
    other = replace(prints[7], stored={"t2": prints[7].stored["t1"]})
    monkeypatch.setattr("gliolens.cohorts.audit.likeness._ALL_PAIRS", 3)
    monkeypatch.setattr("gliolens.cohorts.audit.likeness._NEAREST", 1)
    assert {(p.a, p.b) for p in same_patients([*prints[:6], twin, other, twin])} == {(6, 8)}


def test_too_little_brain_and_no_contrast_have_no_fingerprint():
    case = head(0)
    small = np.zeros_like(BRAIN)
    small[20:30, 20:30, 20:30] = True
    assert fingerprint(replace(case, brain=small)) is None
    assert fingerprint(replace(case, series={"t1": np.ones(GRID.shape, np.float32)})) is None


def test_the_best_shift_is_that_of_the_plain_sum(monkeypatch):
    """Against a loop over shifts, on a small grid."""
    shape, reach = (9, 8, 7), 2
    monkeypatch.setattr(alignment, "REACH", reach)
    monkeypatch.setattr(alignment, "_PADDED", tuple(fft.next_fast_len(n + reach, real=True) for n in shape))
    monkeypatch.setattr(alignment, "_WINDOW", np.ix_(*[np.r_[0 : reach + 1, -reach:0]] * 3))
    rng = np.random.default_rng(5)
    shapes = []
    for _ in range(2):
        inside = rng.random(shape) < 0.8
        fields = (rng.normal(size=(2, *shape)) * inside).astype(np.float32)
        shapes.append(Shape(fields, inside))
    a, b = shapes
    expected = {}
    for shift in np.ndindex(5, 5, 5):
        d = tuple(int(s) - reach for s in shift)
        x = np.argwhere(a.inside)
        y = x - d
        ok = ((y >= 0) & (y < shape)).all(axis=1)
        x, y = x[ok], y[ok]
        both = b.inside[tuple(y.T)]
        one, other = a.fields[:, *x[both].T], b.fields[:, *y[both].T]
        expected[d] = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
    best = max(expected, key=expected.__getitem__)
    alike, shift = best_shift(a, b)
    assert shift == best
    assert alike == pytest.approx(expected[best], abs=1e-4)


def test_alignment_never_makes_a_pair_less_alike(prints):
    shapes = [Shape(p.fields(("t1",)), p.inside) for p in prints[:3]]
    for one in shapes:
        for other in shapes:
            alike, shift = best_shift(one, other)
            assert refined(one, other, shift) >= alike - 0.02  # the shift may fill what the edge cuts


def test_a_real_patient_is_known_across_two_releases(shared_data):
    """TCGA-DU-7294 with the skull on nominal voxels, and in SRI24 space, stripped and rescaled; his likest fellows."""
    folder, other = shared_data / "tcga_lgg", shared_data / "case_lgg_sri24"
    names = ["TCGA-DU-7294", "TCGA-DU-8162", "TCGA-DU-7299"]
    rows = [
        CaseRow(n, n, files={s: folder / n / f"{n}_{s}.nii.gz" for s in ("t1", "t1ce", "flair")})
        for n in names
    ]
    files = {
        s: other / f"TCGA-DU-7294_{f}_bet_normalized.nii.gz"
        for s, f in (("t1", "t1"), ("t1ce", "t1c"), ("flair", "fla"), ("t2", "t2"))
    }
    rows.append(CaseRow("sri24", "sri24", files=files, brain_mask=other / "TCGA-DU-7294_brainmask.nii.gz"))
    made = [fingerprint(read_case(row)) for row in rows]
    (pair,) = same_patients([m for m in made if m is not None])
    assert (pair.a, pair.b, pair.mirrored) == (0, 3, False)
    assert pair.alike > 0.9
    assert made[0] is not None
    assert made[0].inside.shape == SHAPE
