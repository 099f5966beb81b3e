"""Laws of the simulated body: heads, cortex, ventricles, mass effect, and where tumours lie."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from gliolens.cohorts.phantom.anatomy import head_grid, make_anatomy, place_heads
from gliolens.cohorts.phantom.chance import Chance
from gliolens.cohorts.phantom.growth import LOBES_MM
from gliolens.cohorts.phantom.scans import _bodies
from gliolens.cohorts.phantom.traits import Findings

GRID = head_grid(4.0)
CPU = torch.device("cpu")
VOXEL_ML = GRID.voxel_ml
RING = Findings(
    volume_ml=80.0, core_share=0.5, enhancement="ring", necrosis=0.4, front_mm=2.0, lobe="frontal", cortical=False,
    mismatch=False, calcified=False, cystic=False, bleeding=False, foci=1,
)  # fmt: skip
SMALL = replace(RING, volume_ml=25.0, core_share=0.4)
DEEP = replace(RING, lobe="deep", volume_ml=140.0, core_share=0.6)
HEADS = 8


def chances(n, stream):
    return Chance([(9, i, stream) for i in range(n)], GRID, CPU)


def years(n, age):
    return torch.full((n, 1, 1, 1, 1), age)


@lru_cache
def bodies(*findings, age=50.0):
    """Heads with these tumours, the i-th the same whatever its findings; `HEADS` where one is given for all."""
    each = list(findings) if len(findings) > 1 else list(findings) * HEADS
    return _bodies(each, years(len(each), age), chances(len(each), 10), chances(len(each), 11))


def inside(tumour, name):
    """Voxels (b, D, H, W) of which the greater part is this."""
    return getattr(tumour, name)[:, 0].numpy() > 0.5


def sides(where):
    """For each head 1, or -1 where it is mirrored left to right."""
    return torch.sign(where[:, 0].diff(dim=1).mean(dim=(1, 2, 3)))


# --- heads


def test_a_mirrored_head_is_mirrored_anatomy(monkeypatch):
    """Without the bends, which know no left and right, the same head mirrored is its mirror image and no other."""

    def straight(self, scale_mm, channels):
        return torch.zeros(len(self.generators), channels, *self.grid.shape)

    made = []
    for mirrored in (0.0, 1.0):
        with monkeypatch.context() as patch:
            patch.setattr(Chance, "field", straight)
            patch.setattr(Chance, "happens", lambda self, p, *shape, m=mirrored: torch.full((2, *shape), m))
            where = place_heads(chances(2, 10), years(2, 50.0))
        made.append(make_anatomy(where, torch.zeros(2, 2, *GRID.shape), years(2, 50.0), 4.0))
    plain, mirror = made
    assert sides(plain.where).tolist() == [1.0, 1.0]
    assert sides(mirror.where).tolist() == [-1.0, -1.0]
    assert torch.allclose(plain.tissues, mirror.tissues.flip(2), atol=1e-3)
    assert float((plain.tissues - mirror.tissues).abs().mean()) > 0.01


def test_about_half_of_the_heads_are_mirrored():
    where = place_heads(chances(40, 10), years(40, 50.0))
    assert 11 <= int((sides(where) < 0).sum()) <= 29  # 20 expected, give or take 3 standard deviations


def test_brains_are_of_the_size_of_brains():
    """In adults 900 to 1900 ml with the fluid around the brain; heads differ."""
    healthy, _ = bodies(None)
    volumes = (healthy.depth > 0).sum(dim=(1, 2, 3, 4)).numpy() * VOXEL_ML
    assert volumes.min() > 900
    assert volumes.max() < 1900
    assert volumes.std() > 50


def test_grey_matter_lies_between_white_matter_and_fluid():
    """Where tissues meet in the cortex, white matter and fluid seldom do without grey matter between."""
    healthy, _ = bodies(None)
    tissue = healthy.tissues.argmax(dim=1)
    cortex = (healthy.depth[:, 0] > 2) & (healthy.depth[:, 0] < 20) & (healthy.where[:, 2] > 10)
    meet = np.zeros((3, 3))
    for axis in (1, 2, 3):
        n = tissue.shape[axis]
        a, b = tissue.narrow(axis, 0, n - 1), tissue.narrow(axis, 1, n - 1)
        both = cortex.narrow(axis, 0, n - 1) & cortex.narrow(axis, 1, n - 1)
        np.add.at(meet, (a[both].numpy(), b[both].numpy()), 1)
    meet += meet.T
    fluid, grey, white = range(3)
    assert meet[fluid, grey] + meet[grey, white] > 10_000
    assert meet[fluid, white] < 0.06 * (meet[fluid, grey] + meet[grey, white])


def test_cortex_is_folded_anew_in_every_head_and_fluid_follows_age():
    healthy, _ = bodies(None)
    where = healthy.where[:1].expand(2, -1, -1, -1, -1)
    folds = torch.cat([chances(2, 3).field(4.0, 1), chances(2, 4).field(8.0, 1)], dim=1)
    one, other = make_anatomy(where, folds, years(2, 50.0), 4.0).tissues.argmax(dim=1)
    cortex, deep = (healthy.depth[0, 0] > 2) & (healthy.depth[0, 0] < 20), healthy.depth[0, 0] > 35
    assert 0.1 < float((one != other)[cortex].float().mean()) < 0.6
    assert float((one != other)[deep].float().mean()) < 0.1


def test_ventricles_grow_with_age():
    """The same heads: from 25 to 85 years the ventricles shrink in none, and about double their volume."""
    volumes = []
    for age in (25.0, 50.0, 85.0):
        made, _ = bodies(None, age=age)
        volumes.append((made.beside < 0).sum(dim=(1, 2, 3, 4)).numpy() * VOXEL_ML)
    young, _, old = volumes
    assert (np.diff(volumes, axis=0) >= 0).all()
    assert 1.5 < np.median(old / young) < 4.0
    assert 4 < np.median(young) < 25
    assert 12 < np.median(old) < 80


# --- mass effect


def test_a_tumour_pushes_the_brain_away_from_itself_on_either_side():
    """A voxel beyond the tumour shows what lay nearer to it before, whether or not the head is mirrored."""
    ill, tumour = bodies(RING)
    well, _ = bodies(None)
    core = inside(tumour, "core")
    nearer = {}
    for i, side in enumerate(sides(ill.where).tolist()):
        middle = well.where[i][:, core[i]].mean(dim=1).reshape(3, 1, 1, 1)
        before, after = ((made.where[i] - middle).norm(dim=0) for made in (well, ill))
        moved = (ill.where[i] - well.where[i]).norm(dim=0)
        shown = (moved > 0.5) & (well.depth[i, 0] > 0) & torch.from_numpy(~core[i])
        if float(moved.max()) > 2.0:  # the push is drawn, from none upwards
            nearer.setdefault(side, []).append(float((after < before)[shown].float().mean()))
    assert nearer.keys() == {-1.0, 1.0}
    assert min(nearer[1.0] + nearer[-1.0]) > 0.95


def test_a_tumour_pushes_along_each_axis_and_most_at_its_border():
    ill, tumour = bodies(RING)
    well, _ = bodies(None)
    for i in range(HEADS):
        change = (ill.where[i] - well.where[i]).numpy()
        size = np.linalg.norm(change, axis=0)
        if size.max() < 2.0:
            continue
        away = ndimage.distance_transform_edt(~inside(tumour, "core")[i]) * 4.0
        assert away[size > 0.7 * size.max()].mean() < 10.0
        assert size[away > 40.0].max() < 0.05 * size.max()
        assert all(np.abs(part).max() > 0.3 * size.max() for part in change)


def test_ventricles_give_way():
    """They move away from the tumour, and are pressed together rather than torn open."""
    (ill, tumour), (well, _) = bodies(RING), bodies(None)
    index = np.moveaxis(np.indices(GRID.shape) * 4.0, 0, -1)
    moved, volumes = [], []
    for i in range(HEADS):
        if float((ill.where[i] - well.where[i]).norm(dim=0).max()) < 2.0:
            continue
        ventricles = [(made.beside[i, 0] < 0).numpy() for made in (well, ill)]
        middle = index[inside(tumour, "core")[i]].mean(axis=0)
        before, after = (np.linalg.norm(index[v] - middle, axis=-1).mean() for v in ventricles)
        moved.append(after - before)
        volumes.append(ventricles[1].sum() / ventricles[0].sum())
    assert len(moved) >= 5
    assert min(moved) > 0.0
    assert np.median(moved) > 0.3
    assert max(volumes) <= 1.0


def test_a_healthy_head_beside_an_ill_one_stays_as_it_is():
    age, findings = years(2, 50.0), [None, RING]
    together, tumour = _bodies(findings, age, chances(2, 10), chances(2, 11))
    alone, _ = bodies(None)
    assert torch.allclose(together.tissues[0], alone.tissues[0], atol=1e-4)
    assert not any(getattr(tumour, n)[0].any() for n in ("swelling", "core", "necrosis", "enhancing"))


# --- tumours


def test_tumours_have_the_volumes_drawn():
    drawn = [replace(RING, volume_ml=v, core_share=c) for v in (20.0, 80.0, 160.0) for c in (0.25, 0.7)] * 2
    _, tumour = bodies(*drawn)
    whole, core, necrosis = (
        inside(tumour, n).sum(axis=(1, 2, 3)) * VOXEL_ML for n in ("swelling", "core", "necrosis")
    )
    volume, share = (np.array([getattr(f, n) for f in drawn]) for n in ("volume_ml", "core_share"))
    assert np.abs(whole / volume - 1).max() < 0.15
    assert np.abs(core / whole - share).max() < 0.1
    assert np.median(np.abs(core / whole - share)) < 0.02
    assert np.median(np.abs(necrosis / core - 0.4)) < 0.05


def test_a_ring_lies_around_its_necrosis():
    """Necrosis lies deeper in the core than what enhances, hardly touches oedema, and is one or few pieces."""
    _, tumour = bodies(RING)
    for i in range(HEADS):
        whole, core, necrosis, enhancing = (
            inside(tumour, n)[i] for n in ("swelling", "core", "necrosis", "enhancing")
        )
        depth = ndimage.distance_transform_edt(core)
        assert depth[necrosis].mean() > depth[enhancing].mean() + 0.7
        assert not (necrosis & enhancing).any()
        oedema = whole & ~core
        around = ndimage.binary_dilation(necrosis) & ~necrosis
        assert (around & oedema).sum() < 0.15 * (around & core).sum()


def test_as_much_of_the_living_core_enhances_as_its_kind_says():
    ranges = {
        "none": (0.0, 0.0),
        "faint": (0.05, 0.5),
        "patchy": (0.1, 0.65),
        "solid": (0.7, 1),
        "ring": (0.7, 1),
    }
    kinds = list(ranges) * 3
    _, tumour = bodies(*(replace(RING, enhancement=kind, necrosis=0.0) for kind in kinds))
    assert not inside(tumour, "necrosis").any()
    enhancing, core = (inside(tumour, n).sum(axis=(1, 2, 3)) for n in ("enhancing", "core"))
    for i, kind in enumerate(ranges):
        low, high = ranges[kind]
        assert low <= np.mean((enhancing / core)[i :: len(ranges)]) <= high, kind


def test_oedema_prefers_white_matter():
    ill, tumour = bodies(RING)
    swelling, core = inside(tumour, "swelling"), inside(tumour, "core")
    brain = (ill.depth[:, 0] > 2).numpy()
    more = []
    for i in range(HEADS):
        around = ndimage.binary_dilation(swelling[i], iterations=2) & ~swelling[i] & brain[i]
        white = ill.tissues[i, 2].numpy()
        more.append(white[swelling[i] & ~core[i]].mean() - white[around].mean())
    assert min(more) > 0.15
    assert np.median(more) > 0.35


def test_ventricles_hold_no_tumour():
    ill, tumour = bodies(DEEP)
    swelling = inside(tumour, "swelling")
    within = ((ill.beside[:, 0] < -1.0) & (ill.tissues[:, 0] > 0.8)).numpy()
    beside = ((ill.beside[:, 0] > 0.0) & (ill.beside[:, 0] < 8.0)).numpy()
    assert within.sum() > 300
    assert (swelling & beside).sum() > 300  # it does reach them
    assert (swelling & within).sum() == 0


def test_all_of_a_tumour_lies_in_the_brain():
    ill, tumour = bodies(RING)
    outside = (ill.depth[:, 0] < 0).numpy()
    for name in ("swelling", "core", "necrosis", "enhancing"):
        assert (inside(tumour, name) & outside).sum() <= 0.002 * inside(tumour, name).sum(), name


def test_three_foci_are_separate_cores_most_often():
    counts = []
    for foci in (1, 3):
        _, tumour = bodies(replace(SMALL, foci=foci))
        pieces = [ndimage.label(core, structure=np.ones((3, 3, 3)))[0] for core in inside(tumour, "core")]
        counts.append([int((np.bincount(p.ravel())[1:] >= 3).sum()) for p in pieces])  # of 0.2 ml or more
    one, three = np.array(counts)
    assert np.mean(one == 1) > 0.6
    assert np.mean(three >= 2) > 0.6


def test_tumours_lie_in_their_lobe():
    """The middle of the named lobe is the nearest to the middle of the core, in the template and on either side."""
    names, middles = list(LOBES_MM), np.array(list(LOBES_MM.values()))
    drawn = [replace(SMALL, lobe=lobe) for lobe in names] * 6
    ill, tumour = bodies(*drawn)
    at = np.array(
        [w[:, c].mean(axis=1) for w, c in zip(ill.where.numpy(), inside(tumour, "core"), strict=True)]
    )
    assert 8 <= (at[:, 0] > 0).sum() <= 28
    at[:, 0] = np.abs(at[:, 0])
    far = np.linalg.norm(at[:, None] - middles, axis=2)
    for k, name in enumerate(names):
        nearest = np.bincount(far[k :: len(names)].argmin(axis=1), minlength=len(names))
        assert nearest.argmax() == k, name
    assert np.mean(far.argmin(axis=1) == np.arange(len(drawn)) % len(names)) > 0.6


def test_cortical_tumours_lie_nearer_to_the_surface():
    depth = []
    for cortical in (False, True):
        ill, tumour = bodies(replace(SMALL, cortical=cortical))
        cores = inside(tumour, "core")
        depth.append([float(d[c].mean()) for d, c in zip(ill.depth[:, 0].numpy(), cores, strict=True)])
    plain, cortical = np.array(depth)
    assert cortical.mean() < plain.mean() - 2.0
    assert np.mean(cortical < plain) > 0.7
