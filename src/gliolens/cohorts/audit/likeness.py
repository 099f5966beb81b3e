"""Which cases are one patient by their scans, whatever was done to intensities, axes, voxels or masks.

Measured, with the threshold and the rates, in `docs/results.md` by `benchmarks/same_patient.py`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gliolens.cohorts.audit.alignment import Shape, best_shift, refined
from gliolens.cohorts.audit.fingerprint import SHAPE, Fingerprint
from gliolens.labels import SERIES
from gliolens.progress import Tick

SAME: Final = 0.85
"""Likeness from which two cases are called one patient: see `docs/results.md` for what lies on either side."""
SUSPECTED: Final = 0.4
"""Likeness after a shift alone, below which a pair is not aligned any further."""
_ALL_PAIRS: Final = 1_500  # as many pairs are compared outright; of more, those that `_likeliest` names
_NEAREST: Final = 10  # partners a case that are looked at closely in a large cohort
_TURNED: Final = 0.1  # likeness to the cohort's mean that another orientation must gain


@dataclass(frozen=True)
class Pair:
    """Two cases that look like one patient.

    Attributes:
        a, b: their places in the sequence compared, a before b.
        alike: correlation after alignment, `SAME` to 1.
        mirrored: whether one shows left where the other shows right.
        series: what was compared.
    """

    a: int
    b: int
    alike: float
    mirrored: bool
    series: tuple[str, ...]


def same_patients(
    prints: Sequence[Fingerprint], *, own: int | None = None, tick: Tick | None = None
) -> tuple[Pair, ...]:
    """Find the pairs that are one patient.

    Up to `_ALL_PAIRS` pairs are compared outright. Of more, each case's ten likeliest partners, told by matrix
    products over cases that were moved onto the cohort's mean: so 1,000 cases make 10,000 comparisons, not 500,000.

    Args:
        prints: the cases, upright.
        own: how many of them, from the first on, are the cohort's; pairs of two others are of no interest.
        tick: progress over pairs.
    """
    pairs = list(_to_compare(prints, len(prints) if own is None else own))
    found = []
    for done, (a, b) in enumerate(pairs, start=1):
        told = likeness(prints[a], prints[b])
        if told is not None and told[0] >= SAME:
            found.append(Pair(a, b, *told))
        if tick is not None:
            tick(done, len(pairs))
    return tuple(sorted(found, key=lambda pair: -pair.alike))


def upright(prints: Sequence[Fingerprint]) -> tuple[tuple[Fingerprint, ...], tuple[int, ...]]:
    """Turn those cases whose header lies about their axes as the others are turned.

    The half that is least like the mean of all is compared with it in 24 orientations: all 48 of a lattice, but for
    mirror images left to right, which the mean of many heads cannot tell; `same_patients` tries both. Most headers
    must be right.

    Returns:
        The cases, and the places of those that were turned.
    """
    if len(prints) < 3:  # nobody to ask which way is up
        return tuple(prints), ()
    means = {series: _mean(prints, series) for series in {tuple(case.stored) for case in prints}}
    plain = [_like_the_mean(case, means) for case in prints]
    out, turned = list(prints), []
    for i in np.flatnonzero(np.array(plain) <= np.median(plain)).tolist():
        ways = [(_like_the_mean(way, means), way) for way in _orientations(prints[i])]
        alike, way = max(ways, key=lambda scored: scored[0])
        if alike > plain[i] + _TURNED:
            out[i] = way
            turned.append(i)
    return tuple(out), tuple(turned)


def _like_the_mean(case: Fingerprint, means: Mapping[tuple[str, ...], Shape]) -> float:
    series = tuple(case.stored)
    return best_shift(means[series], _shape(case, series))[0]


# --- two cases ----------------------------------------------------------------------------------------------


def likeness(one: Fingerprint, other: Fingerprint) -> tuple[float, bool, tuple[str, ...]] | None:
    """How alike two cases are once the other is moved, turned and scaled onto the one, as it is or mirrored.

    Returns:
        The correlation (that after a shift alone where it is below `SUSPECTED`), whether mirrored, and the series
        that were compared; None where they have none in common.
    """
    series = tuple(s for s in SERIES if s in one.stored and s in other.stored)
    if not series:
        return None
    here, there = _shape(one, series), _shape(other, series)
    scores = []
    for mirrored, seen in ((False, there), (True, there.mirrored())):
        alike, shift = best_shift(here, seen)
        scores.append((max(alike, refined(here, seen, shift)) if alike >= SUSPECTED else alike, mirrored))
    alike, mirrored = max(scores)
    return alike, mirrored, series


def _shape(case: Fingerprint, series: tuple[str, ...]) -> Shape:
    return Shape(case.fields(series), case.inside)


# --- all cases ----------------------------------------------------------------------------------------------


def _mean(prints: Sequence[Fingerprint], series: tuple[str, ...]) -> Shape:
    """Mean of the cases that have each series, and where most of them hold."""
    total, held = np.zeros((len(series), *SHAPE), np.float32), np.zeros(SHAPE)
    for case in prints:
        held += case.inside
        for k, name in enumerate(series):
            if name in case.stored:
                total[k] += case.fields((name,))[0]
    having = [sum(name in case.stored for case in prints) for name in series]
    return Shape(total / np.array(having, np.float32)[:, None, None, None], held > 0.5 * len(prints))


def _orientations(case: Fingerprint) -> Iterator[Fingerprint]:
    """The 23 other orientations of a lattice, mirror images left to right not counted apart."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=2):
            if (order, flips) != ((0, 1, 2), (1, 1)):
                stored = {s: _turned(field, order, flips) for s, field in case.stored.items()}
                yield replace(case, stored=stored, inside=_turned(case.inside, order, flips))


def _turned(array: np.ndarray, order: tuple[int, ...], flips: tuple[int, ...]) -> np.ndarray:
    """Axes put in another order and flipped (but the first), on the same grid: cut or filled with zeros."""
    edge = max(SHAPE)
    cube = np.pad(array, [((edge - n) // 2, edge - n - (edge - n) // 2) for n in array.shape])
    turned = cube.transpose(order)[:, :: flips[0], :: flips[1]]
    return np.ascontiguousarray(turned[tuple(slice((edge - n) // 2, (edge + n) // 2) for n in SHAPE)])


def _to_compare(prints: Sequence[Fingerprint], own: int) -> Iterator[tuple[int, int]]:
    everyone = [(a, b) for a in range(own) for b in range(a + 1, len(prints))]
    if len(everyone) <= _ALL_PAIRS:
        yield from everyone
        return
    alike = np.maximum(*_likeliest(prints))
    np.fill_diagonal(alike, -2.0)
    alike[own:, own:] = -2.0
    near = np.argsort(-alike, axis=1)[:, :_NEAREST]
    pairs = {(min(a, b), max(a, b)) for a in range(len(prints)) for b in near[a].tolist()}
    yield from sorted(pair for pair in pairs if pair[0] < own)


def _likeliest(prints: Sequence[Fingerprint]) -> tuple[np.ndarray, np.ndarray]:
    """Correlation (n, n) of every two cases once each lies on the cohort's mean, as they are and one mirrored.

    As in `likeness`, by all the series they share: 0 where they share none.
    """
    series = tuple(s for s in SERIES if any(s in p.stored for p in prints))
    means = {s: _mean(prints, (s,)) for s in series}
    placed = [_placed(p, series, means) for p in prints]
    fields, held = (np.stack(arrays) for arrays in zip(*placed, strict=True))
    return tuple(_correlations(fields, held, seen, where) for seen, where in (
        (fields, held), (fields[:, :, ::-1], held[:, :, ::-1])
    ))  # type: ignore[return-value]  # fmt: skip


def _placed(
    case: Fingerprint, series: tuple[str, ...], means: dict[str, Shape]
) -> tuple[np.ndarray, np.ndarray]:
    """Fields of a case moved onto the mean, halved, and the share of each voxel where they hold, 0 if it lacks one."""
    own = tuple(name for name in series if name in case.stored)
    shift = (0, 0, 0)
    if own:
        mean = Shape(np.concatenate([means[s].fields for s in own]), means[own[0]].inside)
        _, shift = best_shift(mean, _shape(case, own))
    fields, held = np.zeros((len(series), *SHAPE), np.float32), np.zeros((len(series), *SHAPE), bool)
    for k, name in enumerate(series):
        if name in case.stored:
            fields[k] = np.roll(case.fields((name,))[0], shift, axis=(0, 1, 2))
            held[k] = np.roll(case.inside, shift, axis=(0, 1, 2))
    return _halved(fields), _halved(held.astype(np.float32))


def _halved(fields: np.ndarray) -> np.ndarray:
    """Means of blocks of two voxels an edge."""
    s, d, h, w = fields.shape
    return np.asarray(fields.reshape(s, d // 2, 2, h // 2, 2, w // 2, 2).mean(axis=(2, 4, 6)))


def _correlations(fields: np.ndarray, held: np.ndarray, seen: np.ndarray, where: np.ndarray) -> np.ndarray:
    n = len(fields)
    shared, here, there = np.zeros((3, n, n), np.float32)
    for k in range(fields.shape[1]):  # a series at a time: memory does not hold the squares of all
        a, b, m, w = (array[:, k].reshape(n, -1) for array in (fields, seen, held, where))
        shared += a @ b.T
        here += a**2 @ w.T
        there += m @ (b**2).T
    return np.asarray(shared / np.sqrt(np.maximum(here * there, 1e-6)))
