"""Laws of the simulator: seeds, batches, growth, signal."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gliolens.case import Grid
from gliolens.cohorts.phantom import anatomy, growth, signal, tissues
from gliolens.cohorts.phantom.anatomy import head_grid, make_anatomy, place_heads
from gliolens.cohorts.phantom.chance import Chance, along_axes
from gliolens.cohorts.phantom.scanner import _profile
from gliolens.cohorts.phantom.scans import make_scans
from gliolens.cohorts.phantom.tissues import TISSUES
from gliolens.cohorts.phantom.traits import Findings, PhantomConfig, draw_cohort
from gliolens.labels import SERIES

GRID = head_grid(4.0)
CPU = torch.device("cpu")
RING = Findings(
    volume_ml=80.0, core_share=0.5, enhancement="ring", necrosis=0.4, front_mm=2.0, lobe="frontal", cortical=False,
    mismatch=False, calcified=False, cystic=False, bleeding=False, foci=1,
)  # fmt: skip


def chances(n, grid=GRID, stream=0):
    return Chance([(9, i, stream) for i in range(n)], grid, CPU)


# --- seeds and batches


def test_a_patients_scans_do_not_depend_on_the_batch():
    patients = draw_cohort(4, 1, PhantomConfig(healthy=0.4))
    assert {p.grade == "healthy" for p in patients} == {True, False}
    together = make_scans(patients, GRID, skull=[False, True, False, False])
    for i, p in enumerate(patients):
        alone = make_scans([p], GRID, skull=[i == 1])
        assert torch.equal(alone.labels[0], together.labels[i])
        off = (alone.series[0] - together.series[i]).abs() / together.series[i].clamp(min=1.0)
        assert float((off > 0.01).float().mean()) < 0.001  # sums of floats in another order, then rounded


def test_the_tumour_changes_the_tumour_and_leaves_the_head():
    patient = draw_cohort(1, 3, PhantomConfig())[0]
    ill, well = (make_scans([replace(patient, findings=f)], GRID) for f in (RING, None))
    assert not well.labels.any()
    far = torch.nn.functional.max_pool3d((ill.labels > 0).float()[None], 15, 1, 7)[0] == 0
    far &= ill.kept & well.kept
    same = ((ill.series - well.series).abs() <= 0.25 * well.series)[:, :, far[0]]
    assert far.sum() > 1000
    assert float(same.float().mean()) > 0.9


def test_smooth_noise_is_standard():
    grid = Grid((20, 24, 20), np.diag([4.0, 4.0, 4.0, 1.0]))
    fields = chances(300, grid).field(20.0, 1)[:, 0].numpy()
    assert np.abs(fields.std(axis=0).mean() - 1.0) < 0.02
    assert fields.std(axis=0).min() > 0.8
    assert np.abs(fields.mean()) < 0.04
    beside = np.mean(fields[:, 10, 10, 10] * fields[:, 11, 10, 10])
    apart = np.mean(fields[:, 2, 10, 10] * fields[:, 18, 10, 10])
    assert beside > 0.8
    assert abs(apart) < 0.2


def test_matrices_along_the_axes_are_what_einsum_says():
    torch.manual_seed(0)
    image = torch.randn(2, 3, 4, 5, 6)
    shared = [torch.randn(n + 1, n) for n in (4, 5, 6)]
    expected = torch.einsum("bcdhw,xd,yh,zw->bcxyz", image, *shared)
    assert torch.allclose(along_axes(image, shared), expected, atol=1e-4)
    own = [torch.randn(2, 3, n, n) for n in (4, 5, 6)]
    expected = torch.einsum("bcdhw,bcxd,bcyh,bczw->bcxyz", image, *own)
    assert torch.allclose(along_axes(image, own), expected, atol=1e-4)


# --- anatomy


def test_tissues_sum_to_one_and_old_brains_hold_more_fluid():
    head = chances(4)
    where = place_heads(head, torch.full((4, 1, 1, 1, 1), 50.0))
    folds = head.field(6.0, 2)
    fluid = []
    for age in (25.0, 85.0):
        made = make_anatomy(where, folds, torch.full((4, 1, 1, 1, 1), age), 4.0)
        assert torch.allclose(made.tissues.sum(dim=1), torch.ones(()), atol=1e-4)
        fluid.append((made.tissues[:, 0:1] * (made.depth > 0)).sum())
    assert fluid[1] > 1.05 * fluid[0]


# --- growth


def test_the_front_runs_as_fisher_and_kolmogorov_have_it():
    """In even tissue the front's speed tends to 2 sqrt(D rho); on a grid and early it is somewhat less."""
    n, spread = 160, 6.0
    mobility = torch.full((1, 1, n, 3, 3), spread)
    seeds = torch.zeros(1, 1, n, 3, 3)
    seeds[:, :, :4] = 1.0
    dt = float((0.16 / torch.tensor(spread)).clamp(max=0.4))
    reach = []
    for steps in (400, 800):
        growth_steps, growth.STEPS = growth.STEPS, steps
        try:
            cells = growth._react(
                seeds, mobility, torch.ones_like(seeds), torch.tensor(1e9).reshape(1, 1, 1, 1, 1)
            )
        finally:
            growth.STEPS = growth_steps
        reach.append(int((cells[0, 0, :, 1, 1] > 0.5).sum()))
    speed = (reach[1] - reach[0]) / (400 * dt)
    assert speed == pytest.approx(2 * spread**0.5, rel=0.15)


def test_what_flows_out_of_one_voxel_flows_into_the_next():
    torch.manual_seed(1)
    cells, mobility = torch.rand(1, 1, 6, 7, 8), torch.rand(1, 1, 6, 7, 8)
    change = torch.zeros_like(cells)
    for axis in (2, 3, 4):
        growth._flow(change, cells, growth._face(mobility, axis), axis)
    assert float(change.sum()) == pytest.approx(0.0, abs=1e-4)
    assert float(change.abs().sum()) > 1.0


def test_nothing_crosses_fluid():
    mobility = torch.ones(1, 1, 9, 5, 5)
    mobility[:, :, 4] = 0.0
    seeds = torch.zeros_like(mobility)
    seeds[:, :, 1, 2, 2] = 1.0
    cells = growth._react(seeds, mobility, (mobility > 0).float(), torch.full((1, 1, 1, 1, 1), 1e9))
    assert float(cells[:, :, :4].min()) > 0.5
    assert float(cells[:, :, 5:].max()) == 0.0


def test_more_foci_lie_farther_apart():
    patient = replace(draw_cohort(1, 3, PhantomConfig())[0])
    spread = []
    for foci in (1, 4):
        found = [
            make_scans([replace(patient, seed=(3, i), findings=replace(RING, foci=foci))], GRID).labels[0]
            for i in range(6)
        ]
        spread.append(np.mean([np.argwhere(np.isin(f.numpy(), (1, 3))).std(axis=0).mean() for f in found]))
    assert spread[1] > 1.2 * spread[0]


# --- signal


def draw_signals(findings, strange=1.0):
    n = len(findings)
    return signal.draw_signals(findings, chances(n), chances(n, stream=1), torch.full((n, 1, 1), strange))


@pytest.fixture(scope="module")
def signals():
    """Of 200 heads: (200, series, tissues)."""
    n = 200
    return draw_signals([RING] * n)


def of(signals, series, tissue):
    return signals[:, SERIES.index(series), TISSUES.index(tissue)]


@pytest.mark.parametrize(
    ("series", "brighter", "darker"),
    [
        ("t1", "white", "grey"),
        ("t1", "grey", "fluid"),
        ("t1", "fat", "white"),
        ("t2", "fluid", "oedema"),
        ("t2", "oedema", "grey"),
        ("t2", "grey", "white"),
        ("flair", "oedema", "grey"),
        ("flair", "grey", "white"),
        ("flair", "white", "fluid"),
        ("t1ce", "enhancing", "white"),
        ("t1ce", "vessel", "grey"),
        ("flair", "white matter change", "white"),
    ],
)
def test_tissues_keep_their_physical_order(signals, series, brighter, darker):
    holds = of(signals, series, brighter) > of(signals, series, darker)
    assert float(holds.float().mean()) > 0.93


def test_oedema_is_darker_than_white_matter_on_t1_in_most(signals):
    """Not in all: on T1 it is the least plain of the four."""
    assert float((of(signals, "t1", "white") > of(signals, "t1", "oedema")).float().mean()) > 0.8


def test_contrast_medium_lights_up_what_takes_it_up(signals):
    def gain(tissue):
        grey = of(signals, "t1ce", "grey") / of(signals, "t1", "grey")
        return (of(signals, "t1ce", tissue) / of(signals, "t1", tissue) / grey).median()

    assert float(gain("enhancing")) > 1.4
    assert float(gain("choroid plexus")) > 1.4
    assert 0.85 < float(gain("oedema")) < 1.1


def test_a_mismatch_is_bright_on_t2_and_dark_on_flair():
    n = 100
    plain = draw_signals([replace(RING, enhancement="none")] * n)
    mismatch = draw_signals([replace(RING, enhancement="none", mismatch=True)] * n)
    assert float((of(mismatch, "t2", "solid") > of(plain, "t2", "solid")).float().mean()) > 0.9
    assert float((of(mismatch, "flair", "solid") < of(mismatch, "flair", "oedema")).float().mean()) > 0.9


def test_a_tumour_that_does_not_show_is_as_bright_as_grey_matter():
    plain, hidden = (draw_signals([replace(RING, conspicuity=(c, 1.0, 1.0, 1.0))] * 20) for c in (1.0, 0.0))
    half = draw_signals([replace(RING, conspicuity=(0.5, 1.0, 1.0, 1.0))] * 20)
    for tissue in ("oedema", "solid", "enhancing", "necrosis"):
        assert torch.equal(of(hidden, "t1", tissue), of(plain, "t1", "grey"))
        middle = (of(plain, "t1", tissue) + of(plain, "t1", "grey")) / 2
        assert torch.allclose(of(half, "t1", tissue), middle)
    same = (hidden == plain)[:, 1:]
    assert same.all()
    assert (of(hidden, "t1", "calcium") == of(plain, "t1", "calcium")).all()


def test_strangeness_stretches_what_the_equations_do_not_hold():
    """Twice as strange is twice as far, in logarithms, from what the equations alone give."""
    lawful, usual, strange = (draw_signals([RING] * 20, s)[:, :, :-1].log() for s in (0.0, 1.0, 2.0))
    assert torch.allclose(strange - lawful, 2 * (usual - lawful), atol=1e-4)
    assert float((usual - lawful).abs().mean()) > 0.02


def test_painting_keeps_shares_whole():
    shares = torch.rand(1, len(TISSUES), 3, 3, 3)
    shares /= shares.sum(dim=1, keepdim=True)
    parts = [("oedema", torch.rand(1, 1, 3, 3, 3)), ("solid", torch.rand(1, 1, 3, 3, 3))]
    one_by_one = shares.clone()
    for part in parts:
        tissues._paint(one_by_one, part)
    tissues._paint(shares, *parts)
    assert torch.allclose(shares, one_by_one, atol=1e-6), "the last layer lies on top"
    tissues._turn(shares, "white", "vessel", torch.rand(1, 1, 3, 3, 3))
    assert torch.allclose(shares.sum(dim=1), torch.ones(()), atol=1e-5)
    assert float(shares.min()) >= 0.0


# --- scanner


def test_thick_slices_keep_an_even_image_and_blur_a_point():
    along = torch.arange(40) * 2.0
    still, blur = torch.zeros(1, 1), torch.full((1, 1), 0.6)
    thin, thick = (_profile(along, blur, still, torch.full((1, 1), t))[0, 0] for t in (0.0, 6.0))
    for profile in (thin, thick):
        assert torch.allclose(profile.sum(dim=1), torch.ones(40), atol=1e-4)
    width = [float((row * (along - along[20]) ** 2).sum().sqrt()) for row in (thin[20], thick[21])]
    assert width[0] < 1.0
    assert width[1] > 2.0


def test_the_templates_ventricles_are_the_ventricles():
    """Lateral ventricles of young adults hold some 10 to 25 ml, and lie in the middle of the head, left and right."""
    maps, affine = anatomy._template(2)
    inside = np.argwhere(maps[3].numpy() < 0)
    assert 10 < len(inside) * 8 / 1000 < 25
    x, y, z = affine[:3, :3] @ inside.T + affine[:3, 3:]
    assert abs(np.mean(x)) < 1
    assert (x.min(), x.max()) == pytest.approx((-34, 34), abs=6)
    assert -62 < y.min() < -40
    assert 20 < y.max() < 40
    assert -10 < z.min() < z.max() < 35


def test_the_young_have_hardly_any_white_matter_change():
    share = {}
    for age in (25.0, 80.0):
        heads = chances(6)
        years = torch.full((6, 1, 1, 1, 1), age)
        made = make_anatomy(place_heads(heads, years), heads.field(6.0, 2), years, 4.0)
        shares = tissues.compose(made, None, [None] * 6, torch.zeros(6, 1, 1, 1, 1), chances(6, stream=2))
        changed, white = (shares[:, TISSUES.index(n)].sum() for n in ("white matter change", "white"))
        share[age] = float(changed / (changed + white))
    assert share[25.0] < 0.04
    assert 0.02 < share[80.0] < 0.35
    assert share[80.0] > 1.5 * share[25.0]
