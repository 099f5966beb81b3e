"""The T2-FLAIR mismatch as a number: simulated tumours with the sign and without."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliolens.cohorts.phantom.cohort import simulate_case
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.preprocess import brain_of
from gliolens.radiomics.mismatch import mismatch_sign


def picture(seed=0):
    rng = np.random.default_rng(seed)
    brain = np.zeros((24, 24, 24), bool)
    brain[2:-2, 2:-2, 2:-2] = True
    tumour = np.zeros_like(brain)
    tumour[6:12, 6:12, 6:12] = True
    t2, flair = (rng.normal(100, 5, brain.shape).astype(np.float32) for _ in range(2))
    t2[tumour] += 200
    return t2, flair, tumour, brain


def test_half_a_tumour_suppressed_counts_half():
    t2, flair, tumour, brain = picture()
    flair[6:9, 6:12, 6:12], flair[9:12, 6:12, 6:12] = 20, 300
    sign = mismatch_sign(t2, flair, tumour, brain, 0.5)
    assert sign.bright_ml == 216 * 0.5
    assert sign.suppressed_ml == 108 * 0.5
    assert sign.share == 0.5


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 50), st.floats(-500, 500), st.floats(0.1, 50), st.floats(-500, 500))
def test_the_scanners_unit_does_not_matter(gain_t2, shift_t2, gain_flair, shift_flair):
    t2, flair, tumour, brain = picture()
    flair[6:8, 6:12, 6:12] = 20
    first = mismatch_sign(t2, flair, tumour, brain, 1.0)
    again = mismatch_sign(
        (gain_t2 * t2 + shift_t2).astype(np.float32), (gain_flair * flair + shift_flair).astype(np.float32), tumour,
        brain, 1.0,
    )  # fmt: skip
    assert again.share == pytest.approx(first.share, abs=0.02)


def test_nothing_bright_and_a_brain_all_tumour_are_not_known():
    t2, flair, tumour, brain = picture()
    assert np.isnan(mismatch_sign(np.where(tumour, np.float32(90), t2), flair, tumour, brain, 1.0).share)
    assert np.isnan(mismatch_sign(t2, flair, brain, brain, 1.0).bright_ml)


def test_the_simulators_sign_raises_the_number():
    """The same six tumours without enhancement, with the sign and without; all else as drawn."""
    config = PhantomConfig(spacing_mm=3.0)
    drawn = [p for p in draw_cohort(40, 5, config) if p.findings.enhancement == "none"][:6]
    assert len(drawn) == 6
    shares = {}
    for sign in (False, True):
        cases = [
            simulate_case(
                replace(p, findings=replace(p.findings, mismatch=sign, cystic=False, core_share=0.7)), config
            )
            for p in drawn
        ]
        shares[sign] = [
            mismatch_sign(c.series["t2"], c.series["flair"], c.tumour > 0, brain_of(c), c.grid.voxel_ml).share
            for c in cases
        ]
    raised = [b > a + 0.2 for a, b in zip(shares[False], shares[True], strict=True)]
    assert sum(raised) >= 5  # a scanner may hide one
    assert np.median(shares[True]) > 0.5 > 0.2 > np.median(shares[False])
