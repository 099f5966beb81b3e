"""Patients of the public tables, and the fit of one predictor to them: what `training/answers.py` is made of."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from gliolens.answers import QUANTITIES, TRANSFORMS, Predictor, Quantity, Step, quantities_of
from gliolens.case import CaseRow
from gliolens.cohorts.clinical.table import read_clinical
from gliolens.labels import TARGETS
from gliolens.progress import say
from gliolens.radiomics.shape import FEATURES

FOLDS: Final = 5
SOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "ucsf_pdgm": {
        "title": "UCSF-PDGM",
        "what": "14 shape features of the whole tumour (PyRadiomics), age, WHO grade 2021, IDH, 1p/19q",
        "credit": "Calabrese E. et al.: The University of California San Francisco Preoperative Diffuse Glioma MRI "
        "(UCSF-PDGM), The Cancer Imaging Archive, 2022",
        "doi": "10.7937/tcia.bdgf-8v37",
        "by": "Calabrese et al. 2022",
        "licence": "CC BY 4.0",
    },
    "brats_tcga": {
        "title": "BraTS-TCGA",
        "what": "volumes of enhancing tumour, necrotic or non-enhancing core and oedema; labels and age from TCGA",
        "credit": "Bakas S. et al.: Segmentation Labels and Radiomic Features for the Pre-operative Scans of the "
        "TCGA-GBM and TCGA-LGG collections, The Cancer Imaging Archive, 2017",
        "doi": "10.7937/K9/TCIA.2017.KLXWJJ1Q, 10.7937/K9/TCIA.2017.GJQ7R0EF",
        "by": "Bakas et al. 2017",
        "licence": "CC BY 3.0",
    },
}
TABLES: Final = {
    "ucsf_pdgm": ("ucsf_pdgm_metadata_v2.csv", "ucsf_pdgm_pyradiomics_t1gd_whole_tumour.csv"),
    "brats_tcga": ("brats_tcga_labels.csv", "TCGA_GBM_radiomicFeatures.csv", "TCGA_LGG_radiomicFeatures.csv"),
}
SLACK: Final = {"sphericity": 0.1}
"""Sampling two real outlines at 2 mm and smoothing them raised their sphericity by 4 to 15 % (docs/answers.md)."""
ENDS: Final = {
    "enhancing": (0.0, 0.0),
    "necrotic": (0.0, 0.0),
    "oedema": (0.0, 0.0),
    "enhancing_share": (0.0, 1.0),
}
"""Natural ends that training patients come within 0.05 ml or 0.03 of: a case there is not outside their range."""
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Cohort:
    """Patients of one source: quantities `(n,)` by name, and the target's class of each, None where unknown."""

    source: str
    patients: np.ndarray
    known: Mapping[str, np.ndarray]
    rows: Sequence[CaseRow]

    def part(self, target: str, names: Sequence[str]) -> "Part":
        """Exams whose target and quantities are known."""
        told = [row.targets.get(target) for row in self.rows]
        finite = np.all([np.isfinite(self.known[n]) for n in names], axis=0)
        keep = [i for i, c in enumerate(told) if c is not None and finite[i]]
        classes = tuple(c for c in TARGETS[target] if any(told[i] == c for i in keep))
        truth = np.array([classes.index(str(told[i])) for i in keep])
        return Part(classes, truth, self.patients[keep], {n: v[keep] for n, v in self.known.items()})


@dataclass(frozen=True)
class Part:
    """The exams a predictor is fitted to: class numbers `(n,)`, patients `(n,)`, quantities by name."""

    classes: tuple[str, ...]
    truth: np.ndarray
    patients: np.ndarray
    known: Mapping[str, np.ndarray]

    @property
    def top(self) -> np.ndarray:
        """Whether each exam is of the last class."""
        return np.asarray(self.truth == len(self.classes) - 1)

    def folds(self, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Training and test rows; a patient's exams lie on one side."""
        machine = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        yield from machine.split(self.truth[:, None], self.truth, self.patients)

    def rows(self, at: np.ndarray) -> "Part":
        """Some of the exams."""
        known = {n: v[at] for n, v in self.known.items()}
        return Part(self.classes, self.truth[at], self.patients[at], known)

    def shuffled(self, seed: int) -> "Part":
        """The same exams with one another's classes."""
        return replace(self, truth=np.random.default_rng(seed).permutation(self.truth))

    def lower(self) -> "Part":
        """The exams that are not of the last class, without it."""
        return replace(self.rows(np.flatnonzero(~self.top)), classes=self.classes[:-1])


# --- tables -----------------------------------------------------------------------------------------------------


def read_cohorts(tables: Path) -> dict[str, Cohort]:
    """Both sources; shape features and volumes become the quantities of `gliolens.answers`."""
    labels, shapes = (tables / name for name in TABLES["ucsf_pdgm"])
    features = pd.read_csv(shapes, dtype={"ID": str}).set_index("ID")
    ucsf = {
        str(case): {name: float(row[f"original_shape_{name}"]) for name in FEATURES}
        for case, row in features.iterrows()
    }
    told, gbm, lgg = (tables / name for name in TABLES["brats_tcga"])
    volumes = pd.concat([pd.read_csv(gbm), pd.read_csv(lgg)]).set_index("ID")
    tcga = {str(case): _tissue(row) for case, row in volumes.iterrows()}
    return {"ucsf_pdgm": _cohort("ucsf_pdgm", labels, ucsf), "brats_tcga": _cohort("brats_tcga", told, tcga)}


def _tissue(row: Any) -> dict[str, float]:
    """Volumes in ml from the table's mm^3 (SRI24 space, 1 mm); the whole tumour as `VoxelVolume`, in mm^3."""
    columns = {"enhancing": "ET", "necrotic": "NET", "oedema": "ED", "core": "TC"}
    ml = {name: float(row[f"VOLUME_{short}"]) / 1000 for name, short in columns.items()}
    return {**ml, "VoxelVolume": float(row["VOLUME_WT"])}


def _cohort(source: str, labels: Path, measured: Mapping[str, Mapping[str, float]]) -> Cohort:
    clinical = read_clinical(labels)
    rows = [clinical.rows[case] for case in sorted(measured)]
    each = [
        quantities_of(measured[row.case]) | {"age": math.nan if row.age is None else row.age} for row in rows
    ]
    known = {name: np.array([e[name] for e in each], float) for name in QUANTITIES}
    patients = np.array([row.patient for row in rows])
    say(f"{SOURCES[source]['title']}: {len(rows)} exams of {len(set(patients))} patients")
    return Cohort(source, patients, known, rows)


# --- fitting ----------------------------------------------------------------------------------------------------


def fit(
    part: Part, transforms: Mapping[str, str], target: str = "", watched: Mapping[str, str] = NOTHING
) -> Predictor:
    """Fit one predictor, without conformal scores.

    Three classes: the last step, between the lowest two, is their share alone; no quantity told them apart.

    Args:
        part: the exams.
        transforms: what it looks at, and what is done to each quantity first.
        target: its name.
        watched: quantities without a coefficient, whose training range a case must lie in too.
    """
    every = {**transforms, **watched}
    quantities = tuple(_quantity(name, how, part.known[name]) for name, how in every.items())
    z = _standardised(quantities, part.known)
    steps = [_logistic(z[:, : len(transforms)], part.truth, part.classes, len(watched))]
    for k in range(len(part.classes) - 2, 0, -1):
        share = np.mean(part.truth[part.truth <= k] == k)
        steps.append(Step(part.classes[k], float(np.log(share / (1 - share))), (0.0,) * len(quantities)))
    precision = np.linalg.inv(np.atleast_2d(np.cov(z, rowvar=False)))
    limit = float(np.quantile(np.sqrt(np.einsum("ij,jk,ik->i", z, precision, z)), 0.99, method="higher"))
    return Predictor(
        target, part.classes, quantities, tuple(steps), precision, limit * (1 + 1e-9), {}, "", (), ()
    )


def _quantity(name: str, how: str, values: np.ndarray) -> Quantity:
    raw = TRANSFORMS[how](values)
    least, most = ENDS.get(name, (np.inf, -np.inf))
    low, high = min(values.min(), least), max(values.max(), most)
    # Rounded outwards, so that no training patient is shut out by a digit.
    return Quantity(
        name,
        how,
        float(raw.mean()),
        float(raw.std()),
        float(low * (1 - 1e-9)),
        float(high * (1 + 1e-9)),
        SLACK.get(name, 0.0),
    )


def _standardised(quantities: Sequence[Quantity], known: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.column_stack([(TRANSFORMS[q.transform](known[q.name]) - q.mean) / q.scale for q in quantities])


def machine() -> LogisticRegression:
    """Ridge-penalised logistic regression, converged."""
    return LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10, max_iter=1000)


def _logistic(z: np.ndarray, truth: np.ndarray, classes: Sequence[str], watched: int) -> Step:
    """The last class against the others."""
    fitted = machine().fit(z, truth == len(classes) - 1)
    coefficients = (*fitted.coef_[0].tolist(), *(0.0,) * watched)
    return Step(classes[-1], float(fitted.intercept_[0]), coefficients)


def answer(predictor: Predictor, known: Mapping[str, np.ndarray]) -> np.ndarray:
    """Probabilities `(n, k)`."""
    z = _standardised(predictor.quantities, known)
    left, found = np.ones(len(z)), {}
    for step in predictor.steps:
        share = 1 / (1 + np.exp(-(step.intercept + z @ np.array(step.coefficients))))
        found[step.of], left = left * share, left * (1 - share)
    found[predictor.classes[0]] = left
    return np.column_stack([found[c] for c in predictor.classes])


Change = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def held_out(part: Part, transforms: Mapping[str, str], seed: int, change: Change = dict) -> np.ndarray:
    """Probabilities `(n, k)` of each exam from a predictor that did not see its patient.

    `change` alters the quantities of the exams held out.
    """
    p = np.zeros((len(part.truth), len(part.classes)))
    for train, test in part.folds(seed):
        p[test] = answer(fit(part.rows(train), transforms), change(part.rows(test).known))
    return p


def nonconformity(part: Part, p: np.ndarray) -> list[np.ndarray]:
    """By class, 1 - P(true class) of its exams when held out, sorted."""
    return [np.sort(1 - p[part.truth == k, k]) for k in range(len(part.classes))]


def in_set(p: np.ndarray, scores: Sequence[np.ndarray], level: float) -> np.ndarray:
    """Whether each class `(n, k)` stays in the set: more than 1 - level of its exams fit it no better."""
    tail = [
        (len(s) - np.searchsorted(s, 1 - p[:, k], side="left") + 1) / (len(s) + 1)
        for k, s in enumerate(scores)
    ]
    return np.column_stack(tail) > 1 - level + 1e-9
