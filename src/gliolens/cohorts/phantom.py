"""The simulated cohort: drawn patients, and scans of them on real anatomy.

What is true of a patient (`PhantomTraits`) is drawn first; the scans follow from it. So every answer is
known, and every way to it is written here: the tumour's looks, the age and, where asked for, the site. The
anatomy is the MNI152 average brain (Fonov 2011, doi 10.1016/j.neuroimage.2010.07.033) that comes inside
nilearn: nothing is downloaded. These pictures test methods; they are no evidence about patients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from scipy import ndimage

from gliolens.case import Case, CaseRow, Grid, Volume
from gliolens.errors import ConfigError
from gliolens.io.nifti import write_volume
from gliolens.io.tables import write_cohort
from gliolens.labels import ENHANCING, NECROTIC, OEDEMA, SERIES

Progress: TypeAlias = Callable[[int, int], None] | None
LABEL_SCHEME: Final = "brats_lgg_hgg"
P_HGG: Final = 0.6
"""Share of HGG among tumours. BraTS 2020 has 0.79; nearer to even here, so that small cohorts hold both."""
P_MUTANT: Final = {"LGG": 0.80, "HGG": 0.08}
"""Share of IDH-mutant: Brat 2015, doi 10.1056/NEJMoa1402121; Yan 2009, doi 10.1056/NEJMoa0808710."""
P_CODELETED: Final = {"LGG": 0.38, "HGG": 0.05}
"""Share of 1p/19q-codeleted among the IDH-mutant (Brat 2015); never without a mutation."""
P_MALE: Final = 0.57
HEALTHY_AGE: Final = (45.0, 16.0)
AGE_HAZARD: Final = 1.03
"""Hazard ratio of death for each year of age beyond the mean of the subtype."""
FOLLOW_UP_DAYS: Final = (300.0, 3000.0)
"""Patients enter evenly over time and all are censored on one day, so that follow-up is uniform."""


@dataclass(frozen=True)
class _Subtype:
    """What tumours of one grade and genotype are like: means and chances, such that the subtypes overlap.

    Survival: Stupp 2005 (doi 10.1056/NEJMoa043330) for HGG wildtype, Yan 2009 for HGG mutant, Brat 2015 for
    LGG. T2-FLAIR mismatch: Broen 2018, doi 10.1093/neuonc/noy048. In sum 70 % of HGG enhance strongly and 25 % of
    LGG somewhat. The other values are chosen by eye. `edge_mm` is how far the tumour's border is blurred.
    """

    age: tuple[float, float]
    median_days: float
    strong: float
    mild: float
    mismatch: float
    frontal: float
    core_mm: float
    oedema_mm: float
    edge_mm: float


_SUBTYPES: Final = {
    ("LGG", "mutant", "codeleted"): _Subtype((45.0, 12.0), 2920.0, 0.00, 0.25, 0.00, 0.65, 20.0, 6.0, 5.0),
    ("LGG", "mutant", "intact"): _Subtype((38.0, 11.0), 2300.0, 0.00, 0.18, 0.45, 0.55, 21.0, 5.0, 2.0),
    ("LGG", "wildtype", "intact"): _Subtype((52.0, 14.0), 620.0, 0.05, 0.40, 0.02, 0.35, 19.0, 9.0, 4.0),
    ("HGG", "mutant", "codeleted"): _Subtype((48.0, 11.0), 1500.0, 0.45, 0.35, 0.00, 0.60, 19.0, 9.0, 4.0),
    ("HGG", "mutant", "intact"): _Subtype((40.0, 11.0), 950.0, 0.45, 0.35, 0.15, 0.55, 19.0, 9.0, 3.0),
    ("HGG", "wildtype", "intact"): _Subtype((61.0, 11.0), 445.0, 0.72, 0.18, 0.01, 0.30, 18.0, 13.0, 4.0),
}  # fmt: skip

SIGNALS: Final = np.array([
    # CSF, grey, white, oedema, core, necrosis, enhancing
    [0.22, 0.62, 0.88, 0.66, 0.55, 0.32, 0.58],  # T1
    [0.22, 0.62, 0.88, 0.66, 0.55, 0.34, 0.60],  # T1 with contrast, before the gain of the enhancing tumour
    [1.00, 0.56, 0.38, 0.74, 0.80, 0.92, 0.66],  # T2
    [0.16, 0.62, 0.48, 0.92, 0.82, 0.46, 0.78],  # FLAIR
])  # fmt: skip
"""Signal of each tissue in each series (rows as `labels.SERIES`), in one arbitrary unit."""
_CENTRE_MM, _FIELD_OF_VIEW_MM = np.array([0.0, -17.0, 6.0]), np.array([160.0, 192.0, 160.0])
_TRAITS, _HEAD, _TUMOUR, _TEXTURE, _SCAN, _SITE = range(6)  # a stream of random numbers for each purpose


@dataclass(frozen=True)
class PhantomConfig:
    """How to simulate. Raises ConfigError where a value is out of range.

    Attributes:
        spacing_mm: edge of a voxel, 1 to 6 mm.
        healthy: share of cases without a tumour, 0 to 1.
        sites: number of hospitals, 1 to 26; each has a scanner of its own.
        site_confounding: 0 where site and grade are independent, to 1 where the site tells the grade.
        unknown_labels: chance that IDH, and independently 1p/19q, is left out of a case's targets.
    """

    spacing_mm: float = 2.0
    healthy: float = 0.0
    sites: int = 3
    site_confounding: float = 0.0
    unknown_labels: float = 0.0

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("healthy", "site_confounding", "unknown_labels"), (0, 1))
        fewest = len(self.grades) if self.site_confounding > 0 else 1  # each grade needs a site of its own
        for name, (low, high) in {"spacing_mm": (1, 6), **shares, "sites": (fewest, 26)}.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected {low} to {high}")

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

    @property
    def targets(self) -> dict[str, str]:
        """Class of each target that is written down."""
        truth = {"grade": self.grade, "idh": self.idh, "codel_1p19q": self.codel_1p19q}
        return {t: c for t, c in truth.items() if c is not None and t not in self.unwritten}

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([*self.seed, stream])


def draw_cohort(n: int, seed: int, config: PhantomConfig) -> tuple[PhantomTraits, ...]:
    """Draw n patients. The i-th does not depend on n. Raises ConfigError where n < 1 or seed < 0."""
    if n < 1 or seed < 0:
        raise ConfigError(f"n is {n} and seed is {seed}, expected n from 1 and seed from 0")
    return tuple(_draw_patient(i, seed, config) for i in range(n))


def _draw_patient(i: int, seed: int, config: PhantomConfig) -> PhantomTraits:
    rng = np.random.default_rng([seed, i, _TRAITS])
    u, z = rng.random(11), rng.standard_normal()
    grade = "healthy" if u[0] < config.healthy else "HGG" if u[1] < P_HGG else "LGG"
    case, sex, site = f"SIM-{i + 1:04d}", "M" if u[2] < P_MALE else "F", _site(grade, u[3], u[4], config)
    idh = "mutant" if u[5] < P_MUTANT.get(grade, 0.0) else "wildtype"
    codel = "codeleted" if idh == "mutant" and u[6] < P_CODELETED[grade] else "intact"
    mean, sd = HEALTHY_AGE if grade == "healthy" else _SUBTYPES[grade, idh, codel].age
    age = round(float(np.clip(mean + sd * z, 18.0, 89.0)), 1)
    if grade == "healthy":
        return PhantomTraits(case, (seed, i), site, age, sex, grade)
    # Exponential survival: the hazard is log 2 over the median.
    hazard = np.log(2) / _SUBTYPES[grade, idh, codel].median_days * AGE_HAZARD ** (age - mean)
    death, follow_up = -np.log1p(-u[7]) / hazard, FOLLOW_UP_DAYS[0] + u[8] * np.ptp(FOLLOW_UP_DAYS)
    days, event = float(np.ceil(min(death, follow_up))), bool(death <= follow_up)
    unwritten = tuple(np.array(["idh", "codel_1p19q"])[u[9:] < config.unknown_labels].tolist())
    return PhantomTraits(case, (seed, i), site, age, sex, grade, idh, codel, days, event, unwritten)


def _site(grade: str, confounded: float, which: float, config: PhantomConfig) -> str:
    """With the chance `site_confounding` one of the sites that see this grade alone; else any site."""
    sites = range(config.sites)
    if confounded < config.site_confounding:
        sites = sites[config.grades.index(grade) :: len(config.grades)]
    return f"site-{chr(ord('A') + sites[int(which * len(sites))])}"


@lru_cache(maxsize=2)
def _anatomy(resolution_mm: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (3, D, H, W) of grey matter, white matter and brain, 0 to 1, and their affine."""
    from nilearn import datasets  # takes two seconds, which `gliolens --help` should not

    names = ("load_mni152_gm_template", "load_mni152_wm_template", "load_mni152_brain_mask")
    images = [getattr(datasets, name)(resolution=resolution_mm) for name in names]
    maps = np.stack([np.asarray(image.dataobj, np.float32) for image in images])
    return np.clip(maps, 0.0, 1.0), np.asarray(images[0].affine, np.float32)


@lru_cache(maxsize=4)
def _seed_places(resolution_mm: int, frontal: bool) -> np.ndarray:
    """Deep white matter (n, 3) in template millimetres, in the frontal lobes or in the other lobes."""
    maps, affine = _anatomy(resolution_mm)
    x, y, z = places = affine[:3, :3] @ np.argwhere(maps[1] > 0.85).T + affine[:3, 3:]
    cerebrum = (np.abs(x) > 12) & ((z > 0) | ((np.abs(x) > 28) & (y > -40) & (z > -25)))
    return np.asarray(places[:, cerebrum & ((y > 5) == frontal)].T, np.float32)


def _grid(spacing: float) -> Grid:
    d, h, w = (int(n) for n in np.ceil(_FIELD_OF_VIEW_MM / spacing))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = _CENTRE_MM - spacing * (np.array([d, h, w]) - 1) / 2
    return Grid((d, h, w), affine)


def _along(vector: np.ndarray) -> np.ndarray:
    """A vector (3,) laid out to meet a field of vectors (3, D, H, W)."""
    return np.asarray(vector, np.float32)[:, None, None, None]


def _noise(rng: np.random.Generator, grid: Grid, scale_mm: float) -> np.ndarray:
    """Smooth noise (D, H, W): mean 0, variance 1 everywhere, correlated over about `scale_mm`."""
    axes = []
    for n, spacing in zip(grid.shape, grid.spacing, strict=True):
        knots = np.arange(-1, np.ceil(n * spacing / scale_mm) + 2)
        weights = np.exp(-((np.arange(n)[:, None] * spacing / scale_mm - knots) ** 2))
        axes.append((weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32))
    field = rng.standard_normal([a.shape[1] for a in axes], np.float32)
    for a in axes:  # each turn takes the first axis away and puts the interpolated one last
        field = np.tensordot(field, a, axes=(0, 1))
    return field


def _place_head(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Where in the template (3, D, H, W), in millimetres, each voxel of this head lies."""
    turn = np.eye(3) + np.cross(np.eye(3), rng.normal(0.0, 0.035, 3))  # 0.035 is 2 degrees
    zoom = 1.0 / rng.uniform(0.86, 0.95, 3)  # MNI152 is larger than most heads
    zoom[0] *= rng.choice([-1.0, 1.0])  # left and right
    offset = np.indices(grid.shape, np.float32) * grid.spacing[0] + _along(grid.affine[:3, 3] - _CENTRE_MM)
    where = np.tensordot((turn * zoom).astype(np.float32), offset, axes=1) + _along(_CENTRE_MM)
    return np.asarray(where + np.stack([2.2 * _noise(rng, grid, 28.0) for _ in range(3)]))


def _tissues(where: np.ndarray, sulci: float, resolution_mm: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares (3, D, H, W) of CSF, grey and white matter at places in the template, and of brain (D, H, W)."""
    maps, affine = _anatomy(resolution_mm)
    index = (where - _along(affine[:3, 3])) / affine[0, 0]
    grey, white, brain = (ndimage.map_coordinates(m, index, order=1) for m in maps)
    # The average of 152 brains is blurred: squares let one tissue win, as in one brain.
    shares = np.stack([sulci * np.clip(1.0 - grey - white, 0.0, 1.0), grey, white]) ** 2
    return shares / shares.sum(axis=0), brain


@dataclass(frozen=True)
class _Tumour:
    """One drawn tumour: lengths in millimetres, `necrosis` as a share of the core's radius."""

    centre: np.ndarray
    stretch: np.ndarray
    core_mm: float
    oedema_mm: float
    edge_mm: float
    necrosis: float
    gain: float
    patchy: float
    mismatch: bool


def _draw_tumour(traits: PhantomTraits, resolution_mm: int) -> _Tumour:
    subtype = _SUBTYPES[traits.grade, str(traits.idh), str(traits.codel_1p19q)]
    rng = traits._random(_TUMOUR)
    u, z = rng.random(7).tolist(), rng.standard_normal(5)  # plain floats keep float32 fields float32
    strong, mild = u[0] < subtype.strong, u[0] < subtype.strong + subtype.mild
    places = _seed_places(resolution_mm, bool(u[1] < subtype.frontal))
    return _Tumour(
        centre=places[int(u[2] * len(places))],
        stretch=np.exp(0.15 * z[:3]),
        core_mm=float(np.clip(subtype.core_mm * np.exp(0.25 * z[3]), 9.0, 30.0)),
        oedema_mm=float(np.clip(subtype.oedema_mm * np.exp(0.5 * z[4]), 2.0, 26.0)),
        edge_mm=subtype.edge_mm,
        necrosis=0.35 + 0.4 * u[3] if strong else 0.3 * u[3] if mild else -1.0,
        gain=0.55 + 0.4 * u[4] if strong else 0.25 + 0.3 * u[4],
        patchy=-1.3 + 0.5 * u[5] if strong else 0.4 + 0.6 * u[5] if mild else np.inf,
        mismatch=bool(u[6] < subtype.mismatch),
    )


def _ramp(inside_mm: np.ndarray, width_mm: float) -> np.ndarray:
    return np.clip(0.5 + inside_mm / width_mm, 0.0, 1.0)


def _grow(
    tumour: _Tumour, offset: np.ndarray, across_mm: np.ndarray, tissues: np.ndarray, noise: list[np.ndarray]
) -> np.ndarray:
    """Shares (4, D, H, W) of oedema, core, necrosis and enhancing tumour, each painted over the former."""
    # The falx holds the tumour back.
    far = np.sqrt(((_along(tumour.stretch) * offset) ** 2).sum(axis=0)) + 1.5 * across_mm
    radius = far / tumour.core_mm + (0.1 + 0.02 * tumour.edge_mm) * noise[0]
    core = _ramp((1.0 - radius) * tumour.core_mm, tumour.edge_mm)
    reach = tumour.oedema_mm * (tissues[2] + 0.25 * tissues[1]) * (1.0 + 0.35 * noise[1])
    oedema = _ramp(reach - (radius - 1.0) * tumour.core_mm, tumour.edge_mm)
    uneven = radius + 0.12 * noise[2]
    necrosis = core * _ramp((tumour.necrosis - uneven) * tumour.core_mm, 2.0)
    perfused = np.clip(0.5 + 3.0 * (noise[3] - tumour.patchy), 0.0, 1.0)
    enhancing = core * perfused * _ramp((0.98 - uneven) * tumour.core_mm, 2.0) * (1.0 - necrosis)
    shares = np.stack([np.maximum(oedema, core), core, necrosis, enhancing]) * (1.0 - tissues[0])
    parts, _ = ndimage.label(shares[0] > 0.5)
    largest = np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return np.asarray(shares * ((parts == 0) | (parts == largest)))


def simulate_case(traits: PhantomTraits, config: PhantomConfig) -> Case:
    """Make the four scans of one patient; the same arguments give the same voxels.

    Returns:
        The case: whole-number intensities in the site's unit, at least 1 in the brain and exactly 0 outside;
        brain mask; tumour labels (empty in the healthy); the targets that are written down.
    """
    grid, resolution, head = _grid(config.spacing_mm), int(config.spacing_mm), traits._random(_HEAD)
    sulci, where = float(head.uniform(1.2, 2.0)), _place_head(grid, head)
    rng = traits._random(_TEXTURE)
    noise = [_noise(rng, grid, scale) for scale in (14.0, 9.0, 8.0, 7.0, 5.0, 7.0, 7.0)]
    signals = SIGNALS * (1.0 + 0.03 * rng.standard_normal(SIGNALS.shape[1]))
    if traits.grade == "healthy":
        tissues, brain = _tissues(where, sulci, resolution)
        shares = np.zeros((4, *grid.shape), np.float32)
    else:
        tumour = _draw_tumour(traits, resolution)
        offset = where - _along(tumour.centre)
        # Mass effect: the tumour pushes outwards what lay in its middle.
        where = where - 0.4 * offset * np.exp(-(offset**2).sum(axis=0) / (tumour.core_mm + 10.0) ** 2)
        tissues, brain = _tissues(where, sulci, resolution)
        across_mm = np.maximum(-np.sign(tumour.centre[0]) * where[0], 0.0)
        shares = _grow(tumour, offset, across_mm, tissues, noise) * (brain > 0.5)
        signals[1, 6] += tumour.gain
        if tumour.mismatch:  # bright on T2, but on FLAIR dark within a bright rim
            signals[2:, 4] = 0.95, 0.42
    scans = _scan(traits, brain * _signal(signals, tissues, shares, noise), brain > 0.5, grid)
    oedema, core, _, enhancing = shares > 0.5
    labels = np.select([core & enhancing, core, oedema], [ENHANCING, NECROTIC, OEDEMA], 0)
    return Case(
        id=traits.case, grid=grid, source=grid, series=dict(zip(SERIES, scans, strict=True)), brain=brain > 0.5,
        tumour=labels.astype(np.uint8), mask_scheme="brats2023", targets=traits.targets,
        label_scheme=LABEL_SCHEME, site=traits.site, covariates={"age": traits.age, "sex": traits.sex},
        history=(f"simulated with seed {traits.seed[0]}, number {traits.seed[1]}",),
    )  # fmt: skip


def _signal(
    signals: np.ndarray, tissues: np.ndarray, shares: np.ndarray, noise: list[np.ndarray]
) -> np.ndarray:
    """What a perfect scanner would see (4, D, H, W)."""
    weights = np.concatenate([tissues, np.zeros_like(shares)])
    for i, share in enumerate(shares, start=len(tissues)):
        weights *= 1.0 - share
        weights[i] += share
    signal = np.tensordot(signals.astype(np.float32), weights, axes=1)
    # Two smooth fields vanish together along curves: vessels, which contrast medium lights up.
    vessels = np.exp(-(noise[5] ** 2 + noise[6] ** 2) / 0.04) * (tissues[0] + 0.5 * tissues[1])
    signal[1] += 0.7 * vessels * (1.0 - shares[0])
    return np.asarray(signal * (1.0 + (0.02 + 0.07 * shares[1]) * noise[4]))


def _scan(traits: PhantomTraits, signal: np.ndarray, brain: np.ndarray, grid: Grid) -> list[np.ndarray]:
    """What the site's scanner makes of it: blur, bias field, Rician noise, unit; 0 outside the brain."""
    site = np.random.default_rng([_SITE, ord(traits.site[-1])])  # one scanner a site, whatever the seed
    noise, bias, blur_mm = site.uniform(0.015, 0.04), site.uniform(0.05, 0.15), site.uniform(0.7, 1.2)
    rng = traits._random(_SCAN)
    units = site.uniform(300.0, 1500.0, len(SERIES)) * np.exp(rng.normal(0.0, 0.15, len(SERIES)))
    scans = []
    for series, unit in zip(signal, units, strict=True):
        seen = ndimage.gaussian_filter(series, blur_mm / grid.spacing[0], truncate=2.5)[brain]
        seen = seen * np.exp(bias * _noise(rng, grid, 60.0)[brain])
        real, imaginary = noise * rng.standard_normal((2, seen.size))
        scan = np.zeros(grid.shape, np.float32)
        scan[brain] = np.clip(np.rint(unit * np.hypot(seen + real, imaginary)), 1, np.iinfo(np.int16).max)
        scans.append(scan)
    return scans


def write_phantom(
    folder: Path, n: int, *, seed: int = 0, config: PhantomConfig = PhantomConfig(), progress: Progress = None
) -> Path:
    """Write n simulated cases under BraTS names (`SIM-0001/SIM-0001_t1ce.nii.gz`) and `folder/cohort.csv`.

    The same seed gives the same bytes. Files of an earlier cohort are overwritten; its table goes first, so
    that it never speaks for new scans. `progress` is told the number of cases done, and n, after each.
    Returns the path of the table. Raises ConfigError where n < 1 or seed < 0.
    """
    cohort, table, rows = draw_cohort(n, seed, config), folder / "cohort.csv", []
    table.unlink(missing_ok=True)
    for done, traits in enumerate(cohort, start=1):
        rows.append(_write_case(folder / traits.case, traits, config))
        if progress is not None:
            progress(done, n)
    write_cohort(table, rows)
    return table


def _write_case(folder: Path, traits: PhantomTraits, config: PhantomConfig) -> CaseRow:
    case = simulate_case(traits, config)
    files = {name: folder / f"{case.id}_{name}.nii.gz" for name in (*SERIES, "seg")}
    for name, voxels in {**case.series, "seg": case.tumour}.items():
        stored = np.asarray(voxels, np.uint8 if name == "seg" else np.int16)
        write_volume(files[name], Volume(stored, case.grid.affine), case.grid)
    return CaseRow(
        case=case.id, patient=case.patient, files={s: files[s] for s in SERIES}, mask=files["seg"],
        mask_scheme=case.mask_scheme, site=case.site, age=traits.age, sex=traits.sex, targets=case.targets,
        label_scheme=case.label_scheme, os_days=traits.os_days, os_event=traits.os_event,
    )  # fmt: skip
