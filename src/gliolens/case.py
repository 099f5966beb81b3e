"""The data model: `Grid`, `Volume`, `CaseRow`, `Case`, `Prediction`. Frozen, no I/O, checks and no more.

Path -> cohort (`CaseRow`s) -> Case -> preprocess -> Case -> Method.predict -> Prediction -> evaluate | report
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gliolens.errors import CaseError
from gliolens.labels import LABEL_SCHEMES, MASK_SCHEMES, REGIONS, SERIES, TARGETS, regions_known
from gliolens.types import Affine, Image, Labels, Mask, Voxels


def spans_space(affine: np.ndarray) -> bool:
    """Whether an affine's three axes differ in direction and none is null, so that a voxel has a volume."""
    axes = affine[:3, :3].astype(np.float64)
    return bool(abs(np.linalg.det(axes)) > 1e-6 * np.prod(np.linalg.norm(axes, axis=0)))


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxels in the world: its shape and the affine to RAS+ millimetres.

    Raises:
        ValueError: the affine is not finite, cannot be inverted, or does not end in 0 0 0 1.
    """

    shape: tuple[int, int, int]
    affine: Affine

    def __post_init__(self) -> None:
        if not np.isfinite(self.affine).all():
            raise ValueError("the affine holds values that are not finite")
        if not np.allclose(self.affine[3], (0, 0, 0, 1)):
            raise ValueError(f"the affine's last row is {self.affine[3]}, not 0 0 0 1")
        if not spans_space(self.affine):
            raise ValueError("the affine cannot be inverted: a voxel has no volume")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in millimetres."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres, |det affine| / 1000."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def corners(self) -> np.ndarray:
        """World positions (8, 3), in millimetres, of the centres of the eight corner voxels."""
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1)
        return np.asarray((self.affine[:3, :3] @ ends).T + self.affine[:3, 3])

    def distance(self, other: "Grid") -> float:
        """The furthest that two corners of one name lie apart, in millimetres."""
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())

    def matches(self, other: "Grid", tolerance_mm: float = 0.01) -> bool:
        """Whether both grids have one shape and no corner lies further apart than the tolerance."""
        return self.shape == other.shape and self.distance(other) <= tolerance_mm


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels `(D, H, W)` and the affine that places them. Never one without the other."""

    voxels: Voxels
    affine: Affine

    def __post_init__(self) -> None:
        Grid(self.voxels.shape, self.affine)

    @property
    def grid(self) -> Grid:
        """Shape and affine."""
        return Grid(self.voxels.shape, self.affine)


@dataclass(frozen=True)
class CaseRow:
    """One row of a cohort table: where a case lies and what is known of it. Holds no voxels.

    Attributes:
        case: opaque name of the case.
        patient: opaque name of the patient.
        aliases: names of the same patient in other releases; a split keeps them on one side.
        site: hospital or scanner; None is unknown, here and below.
        files: path of each series there is, by name; `FILE.nii.gz#K` is one volume of a 4-D file.
        mask: path of the tumour labels.
        mask_scheme: name from `labels.MASK_SCHEMES`.
        brain_mask: path of the brain mask.
        age: years.
        sex: M or F.
        targets: class of each known target.
        label_scheme: scheme the grade targets follow.
        os_days: overall survival, or time to censoring, in days.
        os_event: whether death was observed.
    """

    case: str
    patient: str
    files: Mapping[str, Path] = field(default_factory=dict)
    mask: Path | None = None
    mask_scheme: str | None = None
    brain_mask: Path | None = None
    site: str | None = None
    age: float | None = None
    sex: str | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    label_scheme: str | None = None
    os_days: float | None = None
    os_event: bool | None = None
    aliases: tuple[str, ...] = ()


def _frozen(values: Mapping[str, object]) -> Mapping[str, object]:
    return MappingProxyType(dict(values))


@dataclass(frozen=True, eq=False)
class Case:
    """One patient at one time on one grid.

    Attributes:
        id: opaque name of the case.
        grid: the one grid of every array here, RAS+ millimetres.
        series: named series, each `(D, H, W)` float32 on `grid`; names from `labels.SERIES`.
        source: grid of the input as it was stored, in which results are written back.
        patient: opaque name of the patient; several cases may share it. The case's id where not given.
        brain: mask of the brain, if known.
        tumour: labels 0 to 3 on `grid`, if known.
        mask_scheme: scheme the labels were stored in; tells which regions are known.
        targets: class of each known target; absent means unknown.
        label_scheme: scheme that the grade targets follow.
        site: hospital or scanner, if known.
        covariates: `age` in years, `sex` as M or F; absent means unknown.
        history: what was done to the case, oldest first.

    Raises:
        CaseError: an array is not on the grid, or a name is not in the vocabulary.
    """

    id: str
    grid: Grid
    series: Mapping[str, Image]
    source: Grid
    patient: str = ""
    brain: Mask | None = None
    tumour: Labels | None = None
    mask_scheme: str = "gliolens"
    targets: Mapping[str, str] = field(default_factory=dict)
    label_scheme: str | None = None
    site: str | None = None
    covariates: Mapping[str, float | str] = field(default_factory=dict)
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "patient", self.patient or self.id)
        for name in ("series", "targets", "covariates"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        self._check_names()
        for name, array in {**self.series, "brain mask": self.brain, "tumour labels": self.tumour}.items():
            if array is not None and array.shape != self.grid.shape:
                raise CaseError(
                    self.id,
                    found=f"{name} of shape {array.shape}",
                    expected=f"every array of the case on one grid of shape {self.grid.shape}",
                    fix="resample all series to one grid before building the case",
                )

    def __reduce__(self) -> tuple[type["Case"], tuple[object, ...]]:
        """How to send a case to another process: read-only mappings cannot be pickled, dictionaries can."""
        values = (getattr(self, f.name) for f in fields(self))
        return Case, tuple(dict(v) if isinstance(v, Mapping) else v for v in values)

    def _check_names(self) -> None:
        wrong = [s for s in self.series if s not in SERIES]
        wrong += [f"{t}={c}" for t, c in self.targets.items() if c not in TARGETS.get(t, ())]
        if self.label_scheme is not None and self.label_scheme not in LABEL_SCHEMES:
            wrong.append(f"label_scheme={self.label_scheme}")
        if self.mask_scheme not in MASK_SCHEMES:
            wrong.append(f"mask_scheme={self.mask_scheme}")
        if wrong:
            raise CaseError(
                self.id,
                found=f"{', '.join(wrong)}",
                expected=f"series {', '.join(SERIES)}; targets {dict(TARGETS)}; label schemes "
                f"{', '.join(LABEL_SCHEMES)}; mask schemes {', '.join(MASK_SCHEMES)}",
                fix="use the names of gliolens.labels",
            )

    def volume(self, name: str) -> Volume:
        """One series with its affine."""
        return Volume(self.series[name], self.grid.affine)

    def region(self, name: str) -> Mask | None:
        """Mask of `whole`, `core` or `enhancing`; None where there are no labels or they cannot tell it."""
        if self.tumour is None or name not in regions_known(self.mask_scheme):
            return None
        return np.asarray(np.isin(self.tumour, REGIONS[name]))


@dataclass(frozen=True, eq=False)
class Prediction:
    """One method's answer to one case.

    Attributes:
        case: the case's id.
        method: name of the method.
        probabilities: for each target, the probability of each class; they sum to 1.
        decisions: for each target, the class the method decides on (by its own stated rule).
        labels: tumour labels with their affine, where the method draws them.
        labels_scheme: what the labels can tell, a name from `labels.MASK_SCHEMES`; `binary` where the method learnt
            from masks of the whole tumour.
        evidence: named numbers the answer rests on, largest first (units in the name).
        heatmaps: named maps of what the answer rests on, each with its affine.

    Raises:
        ValueError: a probability lies outside 0 to 1, or those of a target do not sum to 1.
    """

    case: str
    method: str
    probabilities: Mapping[str, Mapping[str, float]]
    decisions: Mapping[str, str]
    labels: Volume | None = None
    labels_scheme: str = "gliolens"
    evidence: Mapping[str, float] = field(default_factory=dict)
    heatmaps: Mapping[str, Volume] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for target, classes in self.probabilities.items():
            total = sum(classes.values())
            if not (abs(total - 1.0) < 1e-4 and all(-1e-6 <= p <= 1 + 1e-6 for p in classes.values())):
                raise ValueError(
                    f"probabilities of {target} for case {self.case} are {dict(classes)}: each must lie in "
                    f"0 to 1, and they sum to {total:g}, not 1"
                )
