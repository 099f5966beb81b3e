"""Laws of the simulated scanner: skull strip, coverage, slices, coils, motion, noise."""

import numpy as np
import pytest
import torch

from gliolens.case import Grid
from gliolens.cohorts.phantom import scanner
from gliolens.cohorts.phantom.anatomy import head_grid, place_heads, sample_template
from gliolens.cohorts.phantom.chance import Chance
from gliolens.cohorts.phantom.scanner import cover, scan, strip

GRID = head_grid(4.0)
BLOCK = Grid((24, 24, 24), np.diag([2.0, 2.0, 2.0, 1.0]))
SERIES = 4


def chances(n, stream, grid=BLOCK):
    return Chance([(3, i, stream) for i in range(n)], grid, torch.device("cpu"))


def scanned(signal, kept=None, skull=0.0, grid=BLOCK):
    """Scans of blocks (n, 24, 24, 24) that look alike in each series, each at a site of its own."""
    n = len(signal)
    kept = torch.ones(n, 1, *BLOCK.shape) if kept is None else kept
    signal = signal[:, None].expand(n, SERIES, -1, -1, -1)
    return scan(signal, kept, torch.full((n, 1, 1, 1, 1), skull), chances(n, 0, grid), chances(n, 1, grid))


# --- skull strip and coverage


@pytest.fixture(scope="module")
def depth():
    """Of 24 heads."""
    return sample_template(
        place_heads(chances(24, 0, GRID), torch.full((24, 1, 1, 1, 1), 50.0)), 4.0, slice(2, 3)
    )


def test_a_skull_strip_is_near_the_brain_now_wider_now_narrower(depth):
    brain, kept = depth > 0, strip(depth, chances(24, 1, GRID))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    axes = (1, 2, 3, 4)
    dice = 2 * (kept * brain).sum(dim=axes) / (kept.sum(dim=axes) + brain.sum(dim=axes))
    assert float(dice.min()) > 0.9
    assert 0.95 < float(dice.mean()) < 0.998
    size = kept.sum(dim=axes) / brain.sum(dim=axes)
    assert int((size > 1.01).sum()) >= 3
    assert int((size < 0.99).sum()) >= 3
    wrong = (kept > 0) != brain
    assert float((wrong & (depth.abs() > 6.0)).sum()) < 0.05 * float(
        wrong.sum()
    )  # remnants and bites are rare
    assert not (kept > 0)[depth < -20.0].any()
    assert (kept > 0)[depth > 20.0].all()


def test_one_head_in_ten_lacks_whole_slices():
    n = 300
    kept = (chances(n, 7).uniform(0.0, 1.0, 1, *BLOCK.shape) < 0.7).float()
    covered = cover(kept, chances(n, 2))
    there, was = covered.amax(dim=(1, 2, 3)), kept.amax(dim=(1, 2, 3))
    assert torch.equal(covered, kept * there[:, None, None, None])  # a slice is there, or is not
    cut = (there < was).any(dim=1)
    assert 0.05 < float(cut.float().mean()) < 0.16
    for slices in there[cut]:
        seen = torch.nonzero(slices)[:, 0]
        assert (
            len(seen) == 0 or len(seen) == int(seen[-1] - seen[0]) + 1
        )  # missing below or above, not between


def test_coverage_leaves_most_of_a_head():
    kept = torch.ones(300, 1, *GRID.shape)
    covered = cover(kept, chances(300, 2, GRID)).mean(dim=(1, 2, 3, 4))
    assert float(covered.min()) > 0.45


def test_nothing_is_left_outside_the_mask_unless_the_skull_is_on():
    signal = torch.ones(4, *BLOCK.shape)
    kept = torch.zeros(4, 1, *BLOCK.shape)
    kept[:, :, 6:18, 4:20, 3:15] = 1.0
    bare, clothed = (scanned(signal, kept, skull) for skull in (0.0, 1.0))
    inside = kept.expand_as(bare) > 0
    assert not bare[~inside].any()
    assert (bare[inside] > 0).all()
    assert torch.equal(bare[inside], clothed[inside])
    assert (clothed[..., 3:15] > 0).all()
    assert not clothed[..., :3].any()  # slices that were never made stay blank
    assert not clothed[..., 15:].any()


# --- noise and units


def test_noise_in_air_is_rayleighs_and_elsewhere_hardly_biased(monkeypatch):
    """The mean in air is sigma sqrt(pi / 2): Gudbjartsson and Patz 1995 (doi 10.1002/mrm.1910340618)."""
    monkeypatch.setattr(scanner, "_move", lambda image, chance: image)
    signal = torch.zeros(12, *BLOCK.shape)
    signal[:, :12] = 12.0
    image = scanned(signal)
    assert float(image.min()) >= 0.0
    air, bright = image[:, :, 17:], image[:, :, :7]
    for axis in (2, 3, 4):  # coils are smooth: what differs between three in a row is noise
        sigma = bright.diff(n=2, dim=axis).std(dim=(2, 3, 4)) / 6**0.5
        expected = sigma * (np.pi / 2) ** 0.5
        assert torch.allclose(air.mean(dim=(2, 3, 4)), expected, rtol=0.06)
    assert torch.allclose(air.std(dim=(2, 3, 4)), sigma * (2 - np.pi / 2) ** 0.5, rtol=0.06)


def test_noise_is_as_strong_as_stated_and_each_sites_own():
    image = scanned(torch.full((40, *BLOCK.shape), 12.0))
    share = (image.diff(dim=2).std(dim=(2, 3, 4)) / 2**0.5 / image.mean(dim=(2, 3, 4))).numpy()
    assert 0.003 < share.min() < 0.012
    assert 0.035 < share.max() < 0.055
    again = scan(
        torch.full((1, SERIES, *BLOCK.shape), 12.0), torch.ones(1, 1, *BLOCK.shape), torch.zeros(1, 1, 1, 1, 1),
        Chance([(3, 999, 0)], BLOCK, torch.device("cpu")), chances(1, 1),
    )  # fmt: skip
    later = (again.diff(dim=2).std(dim=(2, 3, 4)) / 2**0.5 / again.mean(dim=(2, 3, 4))).numpy()
    assert later == pytest.approx(share[:1], rel=0.1)  # another visit, the same scanner


def test_units_differ_and_fit_the_file():
    image = scanned(torch.full((40, *BLOCK.shape), 1.0))
    assert torch.equal(image, image.round())
    level = image.mean(dim=(2, 3, 4))
    assert 150 < float(level.min()) < 600 < 1000 < float(level.max()) < 4000
    assert float(scanned(torch.full((2, *BLOCK.shape), 1e4)).max()) == 32767.0


# --- coils and slices


def test_coils_are_uneven_yet_keep_the_order_of_magnitude():
    n = 16
    signal = torch.ones(n, 2, *GRID.shape)
    image = scan(
        signal,
        torch.ones(n, 1, *GRID.shape),
        torch.zeros(n, 1, 1, 1, 1),
        chances(n, 0, GRID),
        chances(n, 1, GRID),
    )
    smooth = torch.nn.functional.avg_pool3d(image, 4).flatten(2)
    ratio = smooth.quantile(0.99, dim=2) / smooth.quantile(0.01, dim=2)
    assert float(ratio.max()) < 5.0
    assert 1.1 < float(ratio.median()) < 2.0


def roughness(image):
    """How much neighbours differ along each axis (n, series, 3), as a share of what unrelated voxels do."""
    image = image.double()
    variance = 2 * image.var(dim=(2, 3, 4))
    return torch.stack([(image.diff(dim=a) ** 2).mean(dim=(2, 3, 4)) / variance for a in (2, 3, 4)], dim=2)


def test_thick_slices_are_smoother_across_than_in_plane():
    """0.2 + 0.8 * 0.3 of all series are thick; most are axial, and in one hospital of five all four are."""
    fine = Grid(BLOCK.shape, np.eye(4))
    specks = torch.exp(1.5 * chances(120, 5).white(1)[:, 0])
    found = roughness(scanned(specks, grid=fine)).numpy()
    ranked = np.sort(found, axis=2)
    thick = ranked[..., 0] < 0.5 * ranked[..., 1]
    assert 0.35 < thick.mean() < 0.54
    assert (ranked[..., 2] < 1.6 * ranked[..., 1]).mean() > 0.9  # in plane, one axis is as sharp as the other
    axial = found.argmin(axis=2) == 2
    assert 0.7 < axial[thick].mean() < 0.95
    alike = (thick & axial).all(axis=1)
    assert 0.1 < alike.mean() < 0.35


def test_slices_keep_a_steady_slope_where_it_is():
    """Thick slices read between by lines, and shifts of a fraction of a millimetre, do not move a ramp."""
    ramp = torch.linspace(1.0, 3.0, 24)
    for axis in (1, 2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = 24
        signal = ramp.reshape(shape).expand(24, *BLOCK.shape)
        image = scanned(signal)
        profile = image.mean(dim=[d for d in (2, 3, 4) if d != axis + 1])
        profile = profile / profile.mean(dim=2, keepdim=True) * 2.0
        middle = (profile - ramp)[..., 6:18].abs().median()
        assert float(middle) < 0.08


# --- motion


def moved_points(n=200):
    """Points of brightness 1 in the middle of blocks, after motion: (n, series, 24, 24, 24)."""
    image = torch.zeros(n, SERIES, *BLOCK.shape)
    image[:, :, 12, 12, 12] = 1.0
    return scanner._move(image, chances(n, 4))


def test_ghosts_lie_along_one_of_the_two_phase_axes():
    moved = moved_points()
    ghosts = moved.clone()
    ghosts[:, :, 12, 12, 12] = 0.0
    places = torch.nonzero(ghosts)
    assert len(places) > 50
    assert (places[:, 4] == 12).all()  # never across slices
    along = places[:, 2:4] != 12
    assert (along.sum(dim=1) == 1).all()
    assert 0.3 < float(along[:, 0].float().mean()) < 0.7
    for patient in places[:, 0].unique():  # the table lies as it lies: the same for all series of a visit
        assert len(along[places[:, 0] == patient].unique(dim=0)) == 1


def test_ghosts_take_two_to_ten_hundredths_and_leave_most_series_alone():
    moved = moved_points()
    assert torch.allclose(moved.sum(dim=(2, 3, 4)), torch.ones(()), atol=1e-5)
    lost = 1.0 - moved[:, :, 12, 12, 12]
    touched = lost > 0
    assert 0.08 < float(touched.float().mean()) < 0.16
    assert 0.02 <= float(lost[touched].min()) < 0.03
    assert 0.09 < float(lost[touched].max()) <= 0.1 + 1e-6
    assert 0.055 < float(lost[touched].mean()) < 0.065
