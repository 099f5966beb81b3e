"""Series under each other's name: what tissue looks like on each, and whether two names fit better exchanged.

Physics that holds whatever the scanner: fluid is dark on T1 and FLAIR and bright on T2; a glioma is bright on FLAIR
and T2 and not on T1; contrast medium only adds light to T1. Each rule compares two images and changes its sign when
their names are exchanged, so a wrong name shows as a negative score. Ranks make the rules blind to the scanner's
unit. Only the inner brain is looked at: the scalp's fat is bright on every series and drowns the rest.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy import ndimage, special, stats

from gliolens.case import Case
from gliolens.ops.intensity import foreground
from gliolens.types import Image, Mask, Vector

LESION_MARGIN = 0.1
"""Probability by which a lesion must be brighter than the rest of the brain on the wrong series of two."""
CORRELATION_MARGIN = 0.1
"""Rank correlation by which the wrong pair must be more alike."""
ENHANCEMENT_MARGIN = 0.5
"""Skewness by which light must be lost, not gained, from T1 to T1 with contrast."""

_IN_PLANE, _SLICES = 128, 40  # voxels an axis that are looked at, about
_INNER = 0.3  # share of a slice's greatest depth below the head's surface
_SMOOTH = 4.0  # voxels: what varies more slowly is the coil's, not the tissue's
_RANKED = 20_000  # voxels of a region that are ranked, at most
_FEWEST = 500  # voxels of inner brain, below which nothing is said
_FEWEST_LESION = 50


@dataclass(frozen=True)
class Contrast:
    """How the series of one case look beside one another, in a few numbers.

    Attributes:
        alike: Spearman's correlation of two series over the inner brain outside the lesion, in both orders.
        lesion: for each series, probability that the lesion is brighter than the rest, less a half; empty where
            no mask is.
        gain: for each ordered pair, skewness of the second's local normal scores less the first's; positive where
            a few voxels gained much light.
    """

    alike: Mapping[tuple[str, str], float]
    lesion: Mapping[str, float]
    gain: Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Swap:
    """Two series whose names seem exchanged, what says so, and the score (negative) of the rule that says it."""

    series: tuple[str, str]
    reason: str
    score: float


def contrast(case: Case) -> Contrast | None:
    """Measure a case; None where fewer than two series or too little inner brain are there, or one is blank."""
    if len(case.series) < 2:
        return None
    images, head, lesion = _sampled(case)
    inner = _inner(head)
    calm, ill = _thinned(inner & ~lesion), _thinned(inner & lesion)
    rest = {name: image.ravel()[calm] for name, image in images.items()}
    if calm.size < _FEWEST or any(np.ptp(values) == 0 for values in rest.values()):
        return None
    bright = {}
    if ill.size >= _FEWEST_LESION:
        bright = {name: _brighter(image.ravel()[ill], rest[name]) for name, image in images.items()}
    return Contrast(_alike(rest), bright, _gain(images, inner))


def suspected_swap(found: Contrast) -> Swap | None:
    """The pair of names that should be exchanged, if the rules say so.

    Named where a rule is broken by more than its margin and one exchange of two names leaves none broken; of several
    such exchanges, the one under which the rules hold best.

    Measured on 57 real gliomas (55 lower-grade with skull and no T2, 2 skull-stripped with all four), on which the
    margins were also set, so expect somewhat less elsewhere. Named rightly after a deliberate exchange:

    | exchanged       | with a tumour mask | without |
    |-----------------|--------------------|---------|
    | none (flagged)  | 0 of 56            | 1 of 56 |
    | T1, FLAIR       | 56 of 56           | 38 of 56 |
    | T1ce, FLAIR     | 51 of 54           | 2 of 54 |
    | T1, T1ce        | 43 of 54           | 44 of 54 |
    | T2, any other   | 2 of 2             | 2 of 2 |

    So without a mask an exchange of T1ce and FLAIR goes mostly unseen, and no finding is no proof.
    """
    names = sorted({name for pair in found.alike for name in pair})
    broken = [(reason, score) for reason, score in _scores(found, {n: n for n in names}) if score < -1]
    if not broken:
        return None
    fits = []
    for a, b in itertools.combinations(names, 2):
        scores = [score for _, score in _scores(found, {n: n for n in names} | {a: b, b: a})]
        if min(scores) >= -1:
            fits.append((sum(min(score, 0.0) for score in scores), sum(scores), (a, b)))
    if not fits:
        return None
    reason, score = min(broken, key=lambda rule: rule[1])
    return Swap(max(fits)[2], reason, score)


def _scores(found: Contrast, image: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """Each rule that the series allow, and its score in units of its margin, were `image[name]` named `name`."""
    has = image.__contains__
    for bright, dark in itertools.product(("flair", "t2"), ("t1", "t1ce")):
        if found.lesion and has(bright) and has(dark):
            more = found.lesion[image[bright]] - found.lesion[image[dark]]
            yield f"the lesion is brighter on {dark} than on {bright}", more / LESION_MARGIN
    alike = [("t1", "t1ce", "t2"), ("t1ce", "t1", "t2")]
    alike += [(dark, "flair", "t2") for dark in ("t1", "t1ce")]
    # With a mask the lesion decides between T1 and FLAIR; fluid and bone alone are a weaker witness.
    alike += [] if found.lesion else [("t1ce", "t1", "flair")]
    for one, near, far in alike:
        if has(one) and has(near) and has(far):
            more = found.alike[image[one], image[near]] - found.alike[image[one], image[far]]
            yield f"{one} is more like {far} than like {near}", more / CORRELATION_MARGIN
    if has("t1") and has("t1ce"):
        score = found.gain[image["t1"], image["t1ce"]] / ENHANCEMENT_MARGIN
        yield "light is lost from t1 to t1ce, where contrast medium can only add it", score


# --- what is looked at ------------------------------------------------------------------------------------


def _sampled(case: Case) -> tuple[dict[str, Image], Mask, Mask]:
    d, h, w = case.grid.shape
    steps = (max(1, round(d / _IN_PLANE)), max(1, round(h / _IN_PLANE)), max(1, round(w / _SLICES)))
    every = tuple(slice(None, None, step) for step in steps)
    images = {name: image[every] for name, image in case.series.items()}
    if case.brain is not None:
        head = case.brain[every]
    else:
        head = np.asarray(sum(foreground(i).astype(np.uint8) for i in images.values()) > len(images) / 2)
    lesion = np.zeros_like(head) if case.tumour is None else case.tumour[every] > 0
    return images, head, lesion


def _inner(head: Mask) -> Mask:
    """The depth of each well-filled axial slice of the head, its holes filled."""
    inner = np.zeros_like(head)
    area = head.sum(axis=(0, 1))
    for k in np.flatnonzero(area >= 0.6 * np.percentile(area, 90)):
        filled = ndimage.binary_closing(np.pad(head[:, :, k], 3), iterations=3)
        parts, n = ndimage.label(ndimage.binary_fill_holes(filled))
        if n:
            largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
            depth = ndimage.distance_transform_edt(largest)[3:-3, 3:-3]
            inner[:, :, k] = depth > _INNER * depth.max()
    return inner


def _thinned(mask: Mask) -> np.ndarray:
    """Every n-th voxel of a mask, so few that ranking them costs little, as indices into the raveled image."""
    found = np.flatnonzero(mask)
    return found[:: max(1, math.ceil(found.size / _RANKED))]


# --- what is measured -------------------------------------------------------------------------------------


def _alike(values: Mapping[str, Vector]) -> dict[tuple[str, str], float]:
    """Spearman's correlation of every two series, which is Pearson's of their ranks."""
    r = np.corrcoef([stats.rankdata(v) for v in values.values()])
    pairs = itertools.permutations(enumerate(values), 2)
    return {(a, b): float(r[i, j]) for (i, a), (j, b) in pairs}


def _brighter(lesion: Float32[np.ndarray, " ill"], rest: Float32[np.ndarray, " calm"]) -> float:
    """Probability that a voxel of the lesion is brighter than one of the rest (ties count half), less a half."""
    ordered = np.sort(rest)
    below = np.searchsorted(ordered, lesion, "left") + np.searchsorted(ordered, lesion, "right")
    return float(below.mean() / (2 * rest.size)) - 0.5


def _gain(images: Mapping[str, Image], inner: Mask) -> dict[tuple[str, str], float]:
    """Skewness of what each ordered pair gains from the first to the second, in normal scores of local brightness."""
    slices = inner.any(axis=(0, 1))
    inside = inner[:, :, slices]
    weight, at = _smooth(inside), _thinned(inside)
    scores = {}
    for name, image in images.items():
        seen = image[:, :, slices]
        slow = _smooth(np.where(inside, seen, 0.0))
        scores[name] = _normal_scores(seen.ravel()[at] - slow.ravel()[at] / weight.ravel()[at])
    gain = {}
    for a, b in itertools.combinations(images, 2):
        gain[a, b] = _skewness(scores[b] - scores[a])
        gain[b, a] = -gain[a, b]
    return gain


def _smooth(values: np.ndarray) -> Image:
    """What varies slowly in the plane."""
    return np.asarray(ndimage.gaussian_filter(values.astype(np.float32), (_SMOOTH, _SMOOTH, 0.0)))


def _skewness(values: Vector) -> float:
    """Skewness; that of values which are all equal, as between two copies of one image, is no gain and no loss."""
    return 0.0 if np.ptp(values) < 1e-9 else float(stats.skew(values))


def _normal_scores(values: Vector) -> Vector:
    return np.asarray(special.ndtri((stats.rankdata(values) - 0.5) / values.size))
