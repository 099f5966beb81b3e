"""The patients of the simulated cohort: what is true of each, drawn before any picture is made.

A subtype (grade, IDH, 1p/19q) is drawn by its share; given it, the findings and the age, each from its own table of
`literature`. The pictures depend on the labels through `Findings` and the age alone (and, where the cohort is asked
to be confounded, through the site), so that what these tell of a label bounds what any method can (`ceiling`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from gliolens.cohorts.phantom.literature import (
    AGE,
    AGE_HAZARD,
    ENHANCEMENT,
    ENHANCEMENTS,
    FINDINGS,
    FOLLOW_UP_DAYS,
    HEALTHY_AGE,
    MEDIAN_DAYS,
    P_CODELETED,
    P_HGG,
    P_MALE,
    P_MUTANT,
    SUBTYPES,
)
from gliolens.errors import ConfigError

LABEL_SCHEME: Final = "brats_lgg_hgg"
TRAITS_STREAM: Final = 0
"""A patient's random numbers come from the seed, the place in the cohort and this; pictures take other streams."""
_LOTS: Final = (
    "healthy", "grade", "sex", "confounded", "site", "idh", "codel", "death", "follow_up", "no_idh", "no_codel",
    "age", "enhancement", *FINDINGS,
)  # fmt: skip
"""One number, even between 0 and 1, decides each of these."""


@dataclass(frozen=True)
class Findings:
    """All that the scans of one tumour show of its biology; the bounds are those of the cohort, training draws wider.

    Attributes:
        volume_ml: whole tumour, oedema included, 4 to 220.
        core_share: tumour core as a share of the whole volume, 0.1 to 0.95.
        enhancement: one of `literature.ENHANCEMENTS`.
        necrosis: share of the core that is necrotic, 0 to 0.8; 0 unless patchy, solid or ring.
        front_mm: width of the invasive front, sqrt(D / rho) of Fisher-Kolmogorov, 0.8 to 6.
        lobe: one of `literature.LOBES`.
        cortical: whether it reaches and thickens the cortex.
        mismatch: the T2-FLAIR mismatch sign.
        calcified: whether it holds calcium.
        cystic: whether it holds a cyst.
        bleeding: whether it has bled; never without enhancement.
        foci: number of separate foci, 1 to 4.
        conspicuity: how plainly the tumour shows in each series of `labels.SERIES`, 0 (as bright as grey matter) to
            1; always 1 in the cohort.
    """

    volume_ml: float
    core_share: float
    enhancement: str
    necrosis: float
    front_mm: float
    lobe: str
    cortical: bool
    mismatch: bool
    calcified: bool
    cystic: bool
    bleeding: bool
    foci: int
    conspicuity: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class PhantomConfig:
    """How to simulate. Raises ConfigError where a value is out of range.

    Attributes:
        spacing_mm: edge of a voxel, 1 to 6 mm.
        healthy: share of cases without a tumour, 0 to 1.
        sites: number of hospitals, 1 to 26; each has a scanner of its own.
        site_confounding: 0 where site and grade are independent, to 1 where the site tells the grade.
        unknown_labels: chance that IDH, and independently 1p/19q, is left out of a case's targets.
        prefix: before the number in a case's name: cohorts that are used together need different ones.
    """

    spacing_mm: float = 2.0
    healthy: float = 0.0
    sites: int = 3
    site_confounding: float = 0.0
    unknown_labels: float = 0.0
    prefix: str = "SIM"

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("healthy", "site_confounding", "unknown_labels"), (0, 1))
        fewest = len(self.grades) if self.site_confounding > 0 else 1  # each grade needs a site of its own
        for name, (low, high) in {"spacing_mm": (1, 6), **shares, "sites": (fewest, 26)}.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected {low} to {high}")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", self.prefix):
            raise ConfigError(f"prefix is {self.prefix!r}, expected a letter, then letters and digits")

    @property
    def grades(self) -> tuple[str, ...]:
        """Grades that the cohort holds."""
        return ("LGG", "HGG", "healthy") if self.healthy > 0 else ("LGG", "HGG")


@dataclass(frozen=True)
class PhantomTraits:
    """What is true of one simulated patient; as in `CaseRow`, None where it does not apply.

    All that is random in the scans follows from `seed`: the cohort's seed and the patient's place in it.
    `unwritten` names the targets that are left out of the case and of the cohort table.
    """

    case: str
    seed: tuple[int, int]
    site: str
    age: float
    sex: str
    grade: str
    idh: str | None = None
    codel_1p19q: str | None = None
    os_days: float | None = None
    os_event: bool | None = None
    unwritten: tuple[str, ...] = ()
    findings: Findings | None = None

    @property
    def truth(self) -> dict[str, str]:
        """Class of each target, written down or not."""
        truth = {"grade": self.grade, "idh": self.idh, "codel_1p19q": self.codel_1p19q}
        return {t: c for t, c in truth.items() if c is not None}

    @property
    def targets(self) -> dict[str, str]:
        """Class of each target that is written down."""
        return {t: c for t, c in self.truth.items() if t not in self.unwritten}


def draw_cohort(n: int, seed: int, config: PhantomConfig) -> tuple[PhantomTraits, ...]:
    """Draw n patients. The i-th does not depend on n. Raises ConfigError where n < 1 or seed < 0."""
    if n < 1 or seed < 0:
        raise ConfigError(f"n is {n} and seed is {seed}, expected n from 1 and seed from 0")
    lots = np.stack([np.random.default_rng([seed, i, TRAITS_STREAM]).random(len(_LOTS)) for i in range(n)])
    drawn = {name: column.tolist() for name, column in draw_columns(lots, config).items()}
    return tuple(
        _patient(f"{config.prefix}-{i + 1:04d}", (seed, i), {k: v[i] for k, v in drawn.items()})
        for i in range(n)
    )


def random_lots(n: int, seed: int) -> np.ndarray:
    """Numbers (n, k) for `draw_columns`, of patients who are in no cohort: fast, for large numbers."""
    return np.random.default_rng([seed, TRAITS_STREAM]).random((n, len(_LOTS)))


def draw_columns(lots: np.ndarray, config: PhantomConfig) -> dict[str, np.ndarray]:
    """Turn numbers (n, k) even between 0 and 1 into n patients.

    Returns:
        Columns (n,): `subtype`, the place in `literature.SUBTYPES`, or -1 in the healthy; `age`, `sex`, `site`,
        `os_days`, `os_event`, `no_idh`, `no_codel`, and each of `Findings`. Findings and survival mean nothing in
        the healthy.
    """
    u = dict(zip(_LOTS, lots.T, strict=True))
    healthy, subtype = u["healthy"] < config.healthy, _subtype(u)
    none = np.zeros(len(lots), int)
    enhancement = ENHANCEMENT.draw(u["enhancement"], subtype, none)
    place = np.array([ENHANCEMENTS.index(e) for e in enhancement.tolist()], int)
    age = np.where(healthy, HEALTHY_AGE.draw(u["age"], none, none), AGE.draw(u["age"], subtype, none))
    return {
        "subtype": np.where(healthy, -1, subtype),
        "age": age,
        "sex": np.where(u["sex"] < P_MALE, "M", "F"),
        "site": _sites(np.where(healthy, 2, subtype < 3), u, config),
        **_survival(u, subtype, age),
        "no_idh": u["no_idh"] < config.unknown_labels,
        "no_codel": u["no_codel"] < config.unknown_labels,
        "enhancement": enhancement,
        **{name: law.draw(u[name], subtype, place) for name, law in FINDINGS.items()},
    }


def _subtype(u: Mapping[str, np.ndarray]) -> np.ndarray:
    high = u["grade"] < P_HGG
    mutant = u["idh"] < np.where(high, P_MUTANT["HGG"], P_MUTANT["LGG"])
    codeleted = u["codel"] < np.where(high, P_CODELETED["HGG"], P_CODELETED["LGG"])
    return np.asarray(3 * high + np.where(mutant, np.where(codeleted, 0, 1), 2))


def _sites(is_low: np.ndarray, u: Mapping[str, np.ndarray], config: PhantomConfig) -> np.ndarray:
    """With the chance `site_confounding` one of the sites that see this grade alone; else any site."""
    kinds = len(config.grades)
    order = np.select([is_low == 2, is_low == 1], [2, 0], 1)  # as in `config.grades`
    own = -(-(config.sites - order) // kinds)
    bound = order + kinds * np.floor(u["site"] * own).astype(int)
    free = np.floor(u["site"] * config.sites).astype(int)
    chosen = np.where(u["confounded"] < config.site_confounding, bound, free)
    return np.array([f"site-{chr(ord('A') + k)}" for k in chosen.tolist()])


def _survival(u: Mapping[str, np.ndarray], subtype: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray]:
    """Exponential survival: the hazard is log 2 over the median."""
    years_beyond = age - AGE.centre[subtype, 0]
    hazard = np.log(2) / MEDIAN_DAYS[subtype] * AGE_HAZARD**years_beyond
    death, follow_up = (
        -np.log1p(-u["death"]) / hazard,
        FOLLOW_UP_DAYS[0] + u["follow_up"] * np.ptp(FOLLOW_UP_DAYS),
    )
    return {"os_days": np.maximum(np.ceil(np.minimum(death, follow_up)), 1.0), "os_event": death <= follow_up}


def _patient(case: str, seed: tuple[int, int], drawn: Mapping[str, Any]) -> PhantomTraits:
    if drawn["subtype"] < 0:
        return PhantomTraits(case, seed, drawn["site"], drawn["age"], drawn["sex"], "healthy")
    unwritten = tuple(t for t, hide in (("idh", "no_idh"), ("codel_1p19q", "no_codel")) if drawn[hide])
    return PhantomTraits(
        case, seed, drawn["site"], drawn["age"], drawn["sex"], *SUBTYPES[drawn["subtype"]], drawn["os_days"],
        drawn["os_event"], unwritten, Findings(**{f.name: drawn[f.name] for f in fields(Findings) if f.name in drawn}),
    )  # fmt: skip
