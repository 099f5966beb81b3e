"""How alike two fingerprints are when one is moved onto the other: shifted, turned by axes, then bent a little."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Bool, Complex64, Float, Float32
from scipy import fft, ndimage

from gliolens.cohorts.audit.fingerprint import SHAPE

REACH: Final = 8
"""Voxels, 36 mm, by which one may be shifted against the other along each axis."""
_PADDED: Final = tuple(fft.next_fast_len(n + REACH, real=True) for n in SHAPE)
_WINDOW: Final = np.ix_(*[np.r_[0 : REACH + 1, -REACH:0]] * 3)  # shifts from 0 up, then the negative ones
_OVERLAP: Final = 0.3  # share of the smaller one that must be compared
_ROUNDS: Final = 25
_VOLUME: Final = (0.6, 1.6)  # how far a patient's brain may shrink or grow between two releases

Fields = Float32[np.ndarray, "s d h w"]
Inside = Bool[np.ndarray, "d h w"]


@dataclass(frozen=True, eq=False)
class Shape:
    """Fields of one case and where they hold, with what a search over shifts needs.

    Attributes:
        fields: local z-scores (S, 42, 54, 42), 0 outside.
        inside: where they hold.
    """

    fields: Fields
    inside: Inside

    @cached_property
    def spectra(self) -> tuple[Complex64[np.ndarray, "s k l m"], np.ndarray, np.ndarray]:
        """Fourier transforms of the fields, of their squares' sum, and of where they hold."""
        squares = (self.fields**2).sum(axis=0)
        axes = (-3, -2, -1)
        return (
            np.asarray(fft.rfftn(self.fields, _PADDED, axes=axes)),
            np.asarray(fft.rfftn(squares, _PADDED)),
            np.asarray(fft.rfftn(self.inside.astype(np.float32), _PADDED)),
        )

    def mirrored(self) -> "Shape":
        """Left and right exchanged."""
        return Shape(self.fields[:, ::-1], self.inside[::-1])


def best_shift(a: Shape, b: Shape) -> tuple[float, tuple[int, int, int]]:
    """The shift under which two shapes are most alike.

    The correlation over where both hold, at every shift at once, by Fourier transforms (Padfield 2012,
    doi 10.1109/TIP.2011.2181402; local z-scores have mean 0, so no mean is taken off).

    Returns:
        The correlation, -1 to 1, and the shift in voxels: `a[x]` is compared with `b[x - shift]`.
    """
    (fa, ea, ma), (fb, eb, mb) = a.spectra, b.spectra
    product = _correlated((fa * fb.conj()).sum(axis=0))
    energy = _correlated(ea * mb.conj()) * _correlated(ma * eb.conj())
    enough = _correlated(ma * mb.conj()) >= _OVERLAP * min(a.inside.sum(), b.inside.sum())
    alike = np.where(enough, product / np.sqrt(np.maximum(energy, 1e-6)), -1.0)
    i, j, k = (_signed(int(n)) for n in np.unravel_index(alike.argmax(), alike.shape))
    return float(alike.max()), (i, j, k)


def _signed(place: int) -> int:
    return place - (2 * REACH + 1) * (place > REACH)


def _correlated(spectrum: np.ndarray) -> np.ndarray:
    return np.asarray(np.asarray(fft.irfftn(spectrum, _PADDED))[_WINDOW])


def refined(a: Shape, b: Shape, shift: tuple[int, int, int]) -> float:
    """Likeness once `b` is also turned, scaled and sheared onto `a`, from a shift on.

    Gauss-Newton steps on the difference of the fields with Levenberg's damping (Lucas and Kanade 1981), kept only
    where they raise the correlation.

    Returns:
        The correlation over where both hold, -1 to 1.
    """
    at = np.argwhere(a.inside).T.astype(np.float64)
    seen = a.fields[:, a.inside]
    layers = _layers(b)
    middle = (np.array(SHAPE) - 1) / 2
    centred = np.vstack([at - middle[:, None], np.ones(at.shape[1])])
    map_ = np.hstack([np.eye(3), (middle - shift)[:, None]])
    best, read = _compared(seen, layers, map_ @ centred, a, b)
    damping = 1e-2
    for _ in range(_ROUNDS):
        moved = map_ + _step(seen, read, centred, damping)
        alike, again = _compared(seen, layers, moved @ centred, a, b)
        if alike > best:
            gained, best, map_, read, damping = alike - best, alike, moved, again, damping / 3
            if gained < 5e-4:
                break
        elif (damping := damping * 10) > 1e3:
            break
    return best if _VOLUME[0] < np.linalg.det(map_[:, :3]) < _VOLUME[1] else -1.0


def _layers(shape: Shape) -> Float32[np.ndarray, "n d h w"]:
    """Where the fields hold, the fields, and their slopes along the three axes."""
    slopes = [np.gradient(f, axis=k) for f in shape.fields for k in range(3)]
    return np.stack([shape.inside.astype(np.float32), *shape.fields, *slopes])


def _compared(
    seen: np.ndarray, layers: np.ndarray, places: Float[np.ndarray, "3 n"], a: Shape, b: Shape
) -> tuple[float, np.ndarray]:
    """Correlation at these places of `b`, and what was read there, its first row blanked where `b` does not hold."""
    read = np.stack([ndimage.map_coordinates(layer, places, order=1, output=np.float32) for layer in layers])
    read[0] = read[0] > 0.5
    if read[0].sum() < _OVERLAP * min(a.inside.sum(), b.inside.sum()):
        return -1.0, read
    here, there = seen * read[0], read[1 : 1 + len(seen)] * read[0]
    return float((here * there).sum() / np.sqrt(max((here**2).sum() * (there**2).sum(), 1e-6))), read


def _step(
    seen: np.ndarray, read: np.ndarray, centred: np.ndarray, damping: float
) -> Float[np.ndarray, "3 4"]:
    """Change of the map that brings the fields nearer, to first order."""
    s, both = len(seen), read[0]
    normal, right = np.zeros((12, 12)), np.zeros(12)
    for k in range(s):
        slopes = read[1 + s + 3 * k : 4 + s + 3 * k] * both
        rows = (slopes[:, None] * centred[None]).reshape(12, -1)
        normal += rows @ rows.T
        right += rows @ ((seen[k] - read[1 + k]) * both)
    step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), right)
    return np.asarray(step.reshape(3, 4))
