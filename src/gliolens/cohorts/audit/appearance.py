"""What a scanner leaves in a scan, in numbers, and whether numbers of scans tell the site.

The unit is taken off first, as every method does. The numbers are those of the brain outside the tumour: how its
brightness is distributed, how rough it is along each axis, and how fast roughness falls with distance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from gliolens.case import Case
from gliolens.foreground import foreground_of
from gliolens.types import Image, Mask

PER_SERIES: Final = 13
FEWEST: Final = 8
"""Patients with the series that are looked at, whom a site must have; smaller ones are left out."""
_QUANTILES: Final = (1, 5, 10, 35, 65, 90, 95)
_EDGE: Final = 2  # voxels
_FOLDS: Final = 5
_DRAWS: Final = 1000
_RIDGE: Final = 0.3  # of the variance of each number
_MANY: Final = 60
"""Numbers a patient, more than `appearance` has of four series; of more, principal components are asked."""
_COMPONENTS: Final = 20
"""At most, and one for four patients: from more, which are noise, a discriminant learns less of the site."""


@dataclass(frozen=True)
class SiteTold:
    """How well the site is told from the scans, by cross-validation.

    Attributes:
        accuracy: balanced accuracy over the sites.
        chance: its mean where sites are permuted over patients.
        p: share of permutations that reach it, the observed one counted in.
        patients: how many were used.
        sites: which sites.
        left_out: sites with too few patients who have these series.
        series: what was looked at.
    """

    accuracy: float
    chance: float
    p: float
    patients: int
    sites: tuple[str, ...]
    left_out: tuple[str, ...]
    series: tuple[str, ...]


def appearance(case: Case) -> dict[str, Float[np.ndarray, " k"]]:
    """Thirteen numbers of each series that has contrast: of its brightness and its roughness, without unit."""
    calm = np.asarray(ndimage.binary_erosion(foreground_of(case), iterations=_EDGE))
    if case.tumour is not None:
        calm &= ~np.asarray(ndimage.binary_dilation(case.tumour > 0, iterations=_EDGE))
    measured = {name: _numbers(image, calm) for name, image in case.series.items()}
    return {name: numbers for name, numbers in measured.items() if numbers is not None}


def _numbers(image: Image, calm: Mask) -> Float[np.ndarray, " k"] | None:
    if not calm.any():
        return None
    low, middle, high = np.percentile(image[calm], (25, 50, 75))
    if low == high:
        return None
    scaled = np.asarray((image - middle) / (high - low), np.float32)
    spread = np.percentile(scaled[calm], _QUANTILES)
    rough = [[_roughness(scaled, calm, axis, far) for far in (1, 2)] for axis in range(3)]
    logs = np.log(np.maximum(rough, 1e-4))
    return np.concatenate([spread, logs[:, 0], logs[:, 1] - logs[:, 0]])


def _roughness(image: Image, calm: Mask, axis: int, far: int) -> float:
    """Mean difference of two voxels inside that lie `far` apart along an axis; 0 where there are none."""
    near, beyond = (np.moveaxis(array, axis, 0) for array in (image, calm))
    both = beyond[far:] & beyond[:-far]
    return float(np.abs(near[far:] - near[:-far])[both].mean()) if both.any() else 0.0


def site_told(
    looks: Sequence[Mapping[str, np.ndarray]], sites: Sequence[str], *, seed: int = 0
) -> SiteTold | None:
    """Tell the site from numbers of scans, one entry a patient: what `appearance` measured, or an encoder's vectors.

    A linear discriminant with a ridge, all sites weighed alike, in five folds; permuted cohorts are told in the same
    folds, so that p is exact for the folds drawn. Principal components are those of all patients: they know no site.

    Returns:
        The score; None where fewer than two sites have enough patients with the series that nine in ten have.
    """
    series = _common(looks)
    seen = [site for site, look in zip(sites, looks, strict=True) if set(series) <= look.keys()]
    large = {site for site in seen if seen.count(site) >= FEWEST}
    if len(large) < 2 or not series:
        return None
    used = [i for i, site in enumerate(sites) if site in large and set(series) <= looks[i].keys()]
    names, site = np.unique([sites[i] for i in used], return_inverse=True)
    numbers = _fewer(np.stack([np.concatenate([looks[i][s] for s in series]) for i in used]))
    rng = np.random.default_rng(seed)
    drawn = np.stack([site, *(rng.permutation(site) for _ in range(_DRAWS))])
    scores = _balanced(_guesses(numbers, drawn, len(names), rng), drawn, len(names))
    left_out = tuple(sorted(set(sites) - large))
    return SiteTold(
        float(scores[0]), float(scores[1:].mean()), float((scores >= scores[0] - 1e-9).mean()),
        len(used), tuple(names.tolist()), left_out, series,
    )  # fmt: skip


def _common(looks: Sequence[Mapping[str, np.ndarray]]) -> tuple[str, ...]:
    """Series that nine in ten patients have."""
    names = sorted({name for look in looks for name in look})
    return tuple(name for name in names if sum(name in look for look in looks) >= 0.9 * len(looks))


def _fewer(numbers: np.ndarray) -> np.ndarray:
    """The same (n, k), or where they are many the first principal components of what varies, numbers weighed alike."""
    if numbers.shape[1] <= _MANY:
        return numbers
    spread = numbers.std(axis=0)
    varies = spread > 1e-9 * np.abs(numbers).max(axis=0)
    scaled = (numbers - numbers.mean(axis=0))[:, varies] / spread[varies]
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray((left * sizes)[:, : min(_COMPONENTS, len(numbers) // 4)])


def _guesses(numbers: np.ndarray, drawn: np.ndarray, sites: int, rng: np.random.Generator) -> np.ndarray:
    """Site guessed for each patient (draws, n), by discriminants that have not seen him."""
    fold = rng.permutation(len(numbers)) % _FOLDS
    guesses = np.empty(drawn.shape, int)
    for k in range(_FOLDS):
        learnt, asked = fold != k, fold == k
        centre, scale = numbers[learnt].mean(axis=0), np.maximum(numbers[learnt].std(axis=0), 1e-9)
        x, y = (numbers[learnt] - centre) / scale, (numbers[asked] - centre) / scale
        guesses[:, asked] = _nearest_mean(x, drawn[:, learnt], y, sites)
    return guesses


def _nearest_mean(x: np.ndarray, drawn: np.ndarray, y: np.ndarray, sites: int) -> np.ndarray:
    """For each draw the site whose mean over `x` lies nearest each of `y`, by the spread within sites."""
    members = (drawn[:, :, None] == np.arange(sites)).astype(np.float64)  # (draws, n, sites)
    counts = members.sum(axis=1)
    means = np.einsum("dns,nk->dsk", members, x) / np.maximum(counts, 1.0)[:, :, None]
    within = x.T @ x - np.einsum("dsk,dsl,ds->dkl", means, means, counts, optimize=True)
    weights = np.linalg.solve(within / len(x) + _RIDGE * np.eye(x.shape[1]), means.transpose(0, 2, 1))
    scores = y @ weights - 0.5 * np.einsum("dsk,dks->ds", means, weights)[:, None]
    return np.asarray(scores.argmax(axis=2))


def _balanced(guesses: np.ndarray, drawn: np.ndarray, sites: int) -> np.ndarray:
    """Mean recall over the sites, one number a draw."""
    right = guesses == drawn
    recalls = [(right & (drawn == s)).sum(axis=1) / (drawn == s).sum(axis=1) for s in range(sites)]
    return np.asarray(np.mean(recalls, axis=0))
