"""How often what is seen in which glioma: the probabilities the simulated cohort is drawn from, with their sources.

A finding depends on the subtype of the tumour and, where a table says so, on its enhancement; given these two, all
findings and the age are independent. So the density of a whole patient is a product, and the posterior of every
class is exact (`ceiling.py`). `docs/simulator.md` has the same numbers with a word on each. Where no source is
named, the numbers are chosen by eye.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

Table: TypeAlias = np.ndarray
"""Numbers (6, 5, ...): a row a subtype, a column an enhancement."""

P_HGG: Final = 0.6
"""Share of HGG among tumours. BraTS 2020 has 0.79; nearer to even here, so that small cohorts hold both."""
P_MUTANT: Final = {"LGG": 0.80, "HGG": 0.08}
"""Share of IDH-mutant: Brat 2015, doi 10.1056/NEJMoa1402121; Yan 2009, doi 10.1056/NEJMoa0808710."""
P_CODELETED: Final = {"LGG": 0.38, "HGG": 0.05}
"""Share of 1p/19q-codeleted among the IDH-mutant (Brat 2015); never without a mutation. HGG: by eye."""
P_MALE: Final = 0.57
"""The same in all, so that sex tells nothing: CBTRUS (Ostrom 2021, doi 10.1093/neuonc/noab200) has 0.55 to 0.61."""
SUBTYPES: Final = (
    ("LGG", "mutant", "codeleted"),
    ("LGG", "mutant", "intact"),
    ("LGG", "wildtype", "intact"),
    ("HGG", "mutant", "codeleted"),
    ("HGG", "mutant", "intact"),
    ("HGG", "wildtype", "intact"),
)
"""Grade, IDH and 1p/19q. LGG is WHO grade 2 and 3 and HGG is grade 4, as BraTS took them from TCGA."""
ENHANCEMENTS: Final = ("none", "faint", "patchy", "solid", "ring")
LOBES: Final = ("frontal", "temporal", "parietal", "occipital", "insula", "deep")


def subtype_shares() -> np.ndarray:
    """Share (6,) of each subtype among tumours."""
    shares = []
    for grade, idh, codel in SUBTYPES:
        high, mutant, codeleted = P_HGG, P_MUTANT[grade], P_CODELETED[grade]
        share = high if grade == "HGG" else 1.0 - high
        share *= mutant if idh == "mutant" else 1.0 - mutant
        if idh == "mutant":
            share *= codeleted if codel == "codeleted" else 1.0 - codeleted
        shares.append(share)
    return np.array(shares)


def _table(rows: Sequence[Any], *, by_enhancement: bool = False) -> Table:
    """One row a subtype; each is one entry for every enhancement, or an entry for each of the five."""
    table = np.array(rows, float)
    return table if by_enhancement else np.repeat(table[:, None], len(ENHANCEMENTS), axis=1)


@dataclass(frozen=True, eq=False)
class Choice:
    """One of a few values.

    Attributes:
        values: what it can be.
        p: probability (6, 5, k) of each value, given subtype and enhancement.
    """

    values: tuple[Any, ...]
    p: Table

    def draw(self, u: np.ndarray, subtype: np.ndarray, enhancement: np.ndarray) -> np.ndarray:
        """Turn numbers (n,) even between 0 and 1 into values (n,)."""
        steps = np.cumsum(self.p[subtype, enhancement], axis=1)[:, :-1]
        return np.asarray(np.array(self.values)[(u[:, None] >= steps).sum(axis=1)])

    def log_density(self, values: np.ndarray, enhancement: np.ndarray) -> np.ndarray:
        """Log probability (n, 6) of values (n,) in each subtype."""
        place = np.array([self.values.index(v) for v in values.tolist()], int)
        with np.errstate(divide="ignore"):  # what cannot be has the log probability minus infinity
            return np.asarray(np.log(self.p[:, enhancement, place].T))


@dataclass(frozen=True, eq=False)
class Spread:
    """A number: normal, or log-normal, between two bounds; where `some` is below 1, else exactly 0.

    Attributes:
        centre: mean of the normal, or median of the log-normal (6, 5), before it is cut at the bounds.
        sd: standard deviation (6, 5), of the log where `log`.
        low, high: bounds.
        log: whether it is log-normal.
        some: chance (6, 5) that it is not 0.
        step: what values are rounded to; 0 where they are not.
    """

    centre: Table
    sd: Table
    low: float
    high: float
    log: bool = False
    some: Table | None = None
    step: float = 0.0

    def draw(self, u: np.ndarray, subtype: np.ndarray, enhancement: np.ndarray) -> np.ndarray:
        """Turn numbers (n,) even between 0 and 1 into values (n,)."""
        centre, sd = self._scaled(self.centre)[subtype, enhancement], self.sd[subtype, enhancement]
        zero = np.zeros(u.shape) if self.some is None else 1.0 - self.some[subtype, enhancement]
        rest = np.clip((u - zero) / np.maximum(1.0 - zero, 1e-12), 0.0, 1.0)
        a, b = (ndtr((self._scaled(x) - centre) / sd) for x in (self.low, self.high))
        drawn = centre + sd * ndtri(a + rest * (b - a))
        values = np.clip(np.exp(drawn) if self.log else drawn, self.low, self.high)
        if self.step:
            values = np.round(np.round(values / self.step) * self.step, 6)
        return np.where(u < zero, 0.0, values)

    def log_density(self, values: np.ndarray, enhancement: np.ndarray) -> np.ndarray:
        """Log density (n, 6) of values (n,) in each subtype, up to a term that all subtypes share.

        Of a rounded value it is the log probability of all that is rounded to it.
        """
        centre, sd = self._scaled(self.centre)[:, enhancement].T, self.sd[:, enhancement].T
        a, b = (ndtr((self._scaled(x) - centre) / sd) for x in (self.low, self.high))
        if self.step:
            edges = (np.clip(values + side * self.step / 2, self.low, self.high) for side in (-1, 1))
            under, over = ((edge[:, None] - centre) / sd for edge in edges)
            density = _log_between(under, over) - np.log(b - a)
        else:
            at = self._scaled(np.where(values > 0, values, self.low))[:, None]
            density = -(((at - centre) / sd) ** 2) / 2 - np.log(sd * (b - a))
        if self.some is None:
            return np.asarray(density)
        some = self.some[:, enhancement].T
        with np.errstate(divide="ignore"):
            return np.where(values[:, None] > 0, density + np.log(some), np.log(1.0 - some))

    def _scaled(self, x: Any) -> Any:
        return np.log(x) if self.log else x


def _log_between(under: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Log of the standard normal's share between two bounds, taken in the tail where it is exact."""
    flip = under > 0
    under, over = np.where(flip, -over, under), np.where(flip, -under, over)
    high, low = log_ndtr(over), log_ndtr(under)
    return np.asarray(high + np.log1p(-np.exp(low - high)))


def _yes(rows: Sequence[Any], *, by_enhancement: bool = False) -> Choice:
    """A sign that is there or not, from the chance that it is."""
    p = _table(rows, by_enhancement=by_enhancement)
    return Choice((False, True), np.stack([1.0 - p, p], axis=-1))


AGE: Final = Spread(
    _table([45.0, 38.0, 52.0, 48.0, 40.0, 61.0]), _table([13.0, 11.0, 14.0, 11.0, 11.0, 11.0]), 18.0, 89.0, step=0.1
)  # fmt: skip
"""Years at diagnosis: Brat 2015 and Eckel-Passow 2015 (doi 10.1056/NEJMoa1407279)."""
HEALTHY_AGE: Final = Spread(_table([45.0] * 6), _table([16.0] * 6), 18.0, 89.0, step=0.1)

ENHANCEMENT: Final = Choice(
    ENHANCEMENTS,
    _table([
        [0.52, 0.18, 0.24, 0.05, 0.01],
        [0.62, 0.14, 0.16, 0.06, 0.02],
        [0.40, 0.16, 0.20, 0.10, 0.14],
        [0.06, 0.10, 0.34, 0.20, 0.30],
        [0.10, 0.10, 0.26, 0.16, 0.38],
        [0.04, 0.03, 0.11, 0.14, 0.68],
    ]),
)  # fmt: skip
"""Any in LGG: TCGA's masks (Bakas 2017, doi 10.1038/sdata.2017.117). None in HGG: Scott 2002,
doi 10.1212/wnl.59.6.947; Eichberg 2020, doi 10.1007/s11060-020-03474-z. The kinds, by eye."""

FINDINGS: Final[dict[str, Choice | Spread]] = {
    # Medians and spreads of UCSF-PDGM (Calabrese 2022, doi 10.1148/ryai.220058) and TCGA's masks, pooled by eye.
    "volume_ml": Spread(
        _table([55.0, 75.0, 50.0, 100.0, 105.0, 90.0]), _table([0.95, 0.95, 1.1, 0.75, 0.75, 0.72]), 4.0, 220.0,
        log=True,
    ),
    # TCGA's masks (Bakas 2017): in LGG the core is most of the tumour.
    "core_share": Spread(
        _table([0.57, 0.60, 0.40, 0.45, 0.42, 0.40]), _table([0.21, 0.21, 0.23, 0.20, 0.18, 0.17]), 0.1, 0.95
    ),
    # The share is that of what does not enhance in the cores of TCGA-GBM; how often, by eye.
    "necrosis": Spread(
        _table([0.12, 0.12, 0.18, 0.18, 0.20, 0.24]), _table([0.10, 0.10, 0.12, 0.14, 0.14, 0.15]), 0.02, 0.8,
        some=_table([
            [0.0, 0.0, 0.08, 0.08, 0.70], [0.0, 0.0, 0.08, 0.08, 0.70], [0.0, 0.0, 0.15, 0.12, 0.85],
            [0.0, 0.0, 0.35, 0.30, 0.95], [0.0, 0.0, 0.40, 0.30, 0.95], [0.0, 0.0, 0.55, 0.45, 0.99],
        ], by_enhancement=True),
    ),
    # LGG: D 0.034 mm2 and rho 0.0056 a day make 2.5 mm (escholarship.org/uc/item/04f1n3w1); HGG: rho ten times as
    # high, D little more (Harpold 2007, doi 10.1097/nen.0b013e31802d9000). Above 2 mm the border looks indistinct:
    # 92 % of codeleted and 45 % of intact (Johnson 2017, doi 10.3174/ajnr.A5070), and wildtype LGG more often than
    # not (Darlix 2017, doi 10.1007/s11060-017-2421-0).
    "front_mm": Spread(
        _table([3.2, 1.9, 2.7, 2.6, 1.8, 1.6]), _table([0.35, 0.35, 0.40, 0.40, 0.40, 0.40]), 0.8, 6.0, log=True
    ),
    # All together as Larjavaara 2007 (doi 10.1215/15228517-2007-016); LGG by IDH and 1p/19q as Darlix 2017; in HGG
    # frontal with the odds ratio 3.8 for a mutation (ReSPOND 2023, 2165 patients:
    # scholarlycommons.henryford.com/radiology_articles/300).
    "lobe": Choice(LOBES, _table([
        [0.70, 0.12, 0.10, 0.02, 0.05, 0.01],
        [0.52, 0.22, 0.08, 0.02, 0.14, 0.02],
        [0.26, 0.36, 0.13, 0.04, 0.14, 0.07],
        [0.62, 0.16, 0.12, 0.03, 0.05, 0.02],
        [0.60, 0.20, 0.09, 0.03, 0.06, 0.02],
        [0.28, 0.32, 0.21, 0.07, 0.04, 0.08],
    ])),
    # Oligodendrogliomas reach the cortex (Smits 2016, doi 10.1259/bjr.20150857); how often, by eye.
    "cortical": _yes([0.80, 0.55, 0.45, 0.70, 0.45, 0.40]),
    # Park 2021 (doi 10.1007/s00330-020-07467-4): 42 % of intact IDH-mutant LGG, next to none of others; ReSPOND 2023:
    # 26 % of IDH-mutant and 0.4 % of other HGG. That it goes with little enhancement, by eye.
    "mismatch": _yes([
        [0.01, 0.01, 0.01, 0.01, 0.01], [0.52, 0.40, 0.25, 0.05, 0.05], [0.01, 0.01, 0.01, 0.005, 0.005],
        [0.004, 0.004, 0.004, 0.004, 0.004], [0.50, 0.40, 0.30, 0.15, 0.18], [0.004, 0.004, 0.004, 0.004, 0.004],
    ], by_enhancement=True),
    # On CT 25 % of IDH-mutant and 2.4 % of wildtype grade 2 (doi 10.1016/j.acra.2020.03.008); parted by eye.
    "calcified": _yes([0.45, 0.10, 0.03, 0.45, 0.10, 0.04]),
    # Curtin 2020 (doi 10.3389/fonc.2020.580750): 18 % of glioblastomas; more often in IDH-mutant HGG (ReSPOND 2023).
    "cystic": _yes([0.20, 0.25, 0.12, 0.25, 0.35, 0.17]),
    # By eye, and never without enhancement.
    "bleeding": _yes([
        [0.0, 0.02, 0.06, 0.06, 0.06], [0.0, 0.02, 0.05, 0.05, 0.05], [0.0, 0.02, 0.08, 0.08, 0.10],
        [0.0, 0.05, 0.20, 0.20, 0.22], [0.0, 0.05, 0.15, 0.15, 0.18], [0.0, 0.05, 0.22, 0.20, 0.28],
    ], by_enhancement=True),
    # Thomas 2013 (doi 10.1007/s11060-012-1030-1): 0.5 to 35 % of glioblastomas have several; more often in wildtype
    # LGG than in mutant (Park 2018, ajnr.org/content/39/1/37) and in wildtype HGG than in mutant (ReSPOND 2023).
    "foci": Choice((1, 2, 3, 4), _table([
        [0.97, 0.025, 0.004, 0.001],
        [0.97, 0.025, 0.004, 0.001],
        [0.90, 0.070, 0.020, 0.010],
        [0.92, 0.060, 0.015, 0.005],
        [0.92, 0.060, 0.015, 0.005],
        [0.80, 0.130, 0.050, 0.020],
    ])),
}  # fmt: skip
"""Every other finding, by the name of its field in `traits.Findings`."""

MEDIAN_DAYS: Final = np.array([2920.0, 2300.0, 620.0, 1500.0, 950.0, 445.0])
"""Median survival: Stupp 2005 (doi 10.1056/NEJMoa043330) for HGG wildtype, Yan 2009 for HGG mutant, Brat 2015."""
AGE_HAZARD: Final = 1.03
"""Hazard ratio of death for each year of age beyond the mean of the subtype."""
FOLLOW_UP_DAYS: Final = (300.0, 3000.0)
"""Patients enter evenly over time and all are censored on one day, so that follow-up is uniform."""
