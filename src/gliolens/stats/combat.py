"""ComBat: taking what a site adds to features out of them, learnt from training patients only.

Of feature g of patient j of site i (Johnson, Li and Rabinovic 2007, doi 10.1093/biostatistics/kxj037; for images Fortin
et al. 2018, doi 10.1016/j.neuroimage.2017.11.024)

    y_ijg = a_g + s_g z_ijg,    z_ijg = c_ig + d_ig e_ijg

c_ig and d_ig are shrunk towards what they are over all features of the site: a normal prior of c, an inverse gamma
prior of d^2, both by their moments. What is left is a_g + s_g (z_ijg - c_ig) / d_ig. Nothing else is kept: where the
mix of classes or ages differs by site, that difference counts as the site's and goes with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from gliolens.errors import ConfigError

LEAST: Final = 3
"""Cases a site needs, that its spread can be told from that of its cases."""
_ROUNDING: Final = 1e-9
"""Share of its size by which a feature must vary: what is constant differs by 1e-16 of it, in its last digits."""
_CLOSE: Final = 1e-4
"""Relative change at which the two shrunk estimates, each of which rests on the other, are taken as settled."""


@dataclass(frozen=True)
class Combat:
    """What each site adds to each feature.

    Attributes:
        sites: that were learnt; patients of any other pass unchanged.
        mean: `a_g` of each feature, its mean over all patients of these sites.
        scale: `s_g`, the standard deviation within sites; 1 where a feature does not vary.
        shift: `c_ig`, by site and feature.
        spread: `d_ig`, by site and feature.
    """

    sites: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    shift: tuple[tuple[float, ...], ...]
    spread: tuple[tuple[float, ...], ...]

    @classmethod
    def learn(cls, features: np.ndarray, sites: Sequence[str]) -> Self:
        """Learn from training patients; sites of fewer than `LEAST` are passed over.

        Args:
            features: `(n, d)`, a row a case, two or more features, all finite.
            sites: of each case.

        Raises:
            ConfigError: lengths differ, a value is not finite, or fewer than two sites or features remain.
        """
        x, at = np.asarray(features, float), np.asarray(sites, str)
        if x.ndim != 2 or len(x) != len(at) or not np.isfinite(x).all():
            raise ConfigError(
                f"features of shape {x.shape} and {len(at)} sites; expected a row and a site a case, all finite"
            )
        names, counts = np.unique(at, return_counts=True)
        known = tuple(str(n) for n in names[counts >= LEAST])
        if len(known) < 2 or x.shape[1] < 2:
            raise ConfigError(
                f"{len(known)} sites of {LEAST} training cases or more, and {x.shape[1]} features; to harmonise "
                "takes two of each: leave harmonise off"
            )
        mine = [x[at == name] for name in known]
        total = sum(map(len, mine))
        mean = sum(m.sum(axis=0) for m in mine) / total
        within = np.sqrt(sum(((m - m.mean(axis=0)) ** 2).sum(axis=0) for m in mine) / total)
        varies = [_varies(m) for m in mine]
        scale = np.where(np.any(varies, axis=0), within, 1.0)
        found = [_shrunk((m - mean) / scale, v) for m, v in zip(mine, varies, strict=True)]
        return cls(
            known,
            _plain(mean),
            _plain(scale),
            *(tuple(map(_plain, each)) for each in zip(*found, strict=True)),
        )

    @classmethod
    def made(cls, about: Mapping[str, Any]) -> Self:
        """What `dataclasses.asdict` and JSON made lists of."""
        rows = (tuple(map(tuple, about[name])) for name in ("shift", "spread"))
        return cls(*(tuple(about[name]) for name in ("sites", "mean", "scale")), *rows)

    def __call__(self, features: np.ndarray, sites: Sequence[str | None]) -> np.ndarray:
        """Features `(n, d)` without what their sites add; as they are where the site was not learnt."""
        out = np.array(features, float)
        mean, scale = np.array(self.mean), np.array(self.scale)
        for i, site in enumerate(sites):
            if site in self.sites:
                place = self.sites.index(site)
                z = (out[i] - mean) / scale
                out[i] = mean + scale * (z - np.array(self.shift[place])) / np.array(self.spread[place])
        return out


def _varies(features: np.ndarray) -> np.ndarray:
    """Which features `(d,)` of one site differ by more than rounding."""
    return np.asarray(np.ptp(features, axis=0) > _ROUNDING * np.abs(features).max(axis=0))


def _shrunk(z: np.ndarray, varies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift and spread `(d,)` of one site's standardised features `(n, d)`: the modes of both posteriors.

    Those of a feature that does not vary there have no part in the priors, and are not shrunk.
    """
    n, shift, spread = len(z), z.mean(axis=0), np.ones(z.shape[1])
    if varies.sum() < 2:
        return shift, spread
    seen, variance = shift[varies], z[:, varies].var(axis=0, ddof=1)
    centre, around = seen.mean(), seen.var(ddof=1)
    m, s = variance.mean(), variance.var(ddof=1)
    if around <= 0 or s <= 0:  # all features alike: the prior is a point, and nothing but it is left
        shift[varies], spread[varies] = centre, np.sqrt(m)
        return shift, spread
    shape, rate = (2 * s + m**2) / s, (m * s + m**3) / s
    c, d = seen.copy(), variance.copy()
    change = 1.0
    while change > _CLOSE:
        newer = (n * around * seen + d * centre) / (n * around + d)
        squares = ((z[:, varies] - newer) ** 2).sum(axis=0)
        broader = (rate + squares / 2) / (n / 2 + shape - 1)
        change = max(_moved(c, newer), _moved(d, broader))
        c, d = newer, broader
    shift[varies], spread[varies] = c, np.sqrt(d)
    return shift, spread


def _moved(old: np.ndarray, new: np.ndarray) -> float:
    return float((np.abs(new - old) / np.maximum(np.abs(old), 1e-12)).max())


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())
