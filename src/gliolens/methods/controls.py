"""Controls: what a fake would score. Logistic regression on things that are no image.

A method that does not beat these has not read the scan:

    age-sex    age and sex
    site       the hospital alone
    volume     the logarithm of the tumour's volume
    shape      the 14 shape features of the tumour
    mask       all that a binarised mask tells: volume, shape, and where in the brain the tumour lies
    permuted   all of the above, fitted to shuffled labels: what chance looks like under this very protocol
    age, shape-age   as papers compare with: age alone; the 14 shape features and age

    q = softmax(W z + b),  z = standardised features,  p_k ~ q_k * prior_k

Every class weighs the same in the fit, and the training share of each class is put back into the probabilities
(`stats.priors`); the decision is the class of the largest q. A missing number takes the training median beside a
column that says it was missing. `paper` and `sound` are the same. With `harmonise`, what a site adds to the measures of
the tumour is taken out first (ComBat, `stats.combat`), learnt from training patients; a patient of a site that was not
learnt is read as he is, which is said.

    gliolens train controls cohort.csv --target idh --kind age-sex -o RUN

Seconds for hundreds of cases once the masks are read. On UCSF-PDGM, age alone gives AUC .90 for IDH.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from sklearn.linear_model import LogisticRegression

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.errors import ConfigError, ModelError
from gliolens.io.store import read_json, write_json
from gliolens.loader import Arrays, Cases
from gliolens.method import Run
from gliolens.preprocess import brain_of, tumour_of
from gliolens.progress import Tick, say
from gliolens.radiomics.shape import FEATURES, shape_features
from gliolens.stats.combat import Combat
from gliolens.stats.priors import with_prior
from gliolens.stats.scaling import Scaling

Kind = Literal["age-sex", "site", "volume", "shape", "mask", "permuted", "age", "shape-age"]
KINDS: Final[Mapping[Kind, str]] = {
    "age-sex": "age and sex",
    "site": "site",
    "volume": "tumour volume",
    "shape": "14 shape features",
    "mask": "binarised mask",
    "permuted": "permuted labels",
}
"""Every control and its title; a table of scores must show them all."""
BASELINES: Final[Mapping[Kind, str]] = {"age": "age alone", "shape-age": "14 shape features and age"}
"""Further ones that papers compare with, and their titles."""

PLACE: Final = ("right", "front", "up", "width", "depth", "height")
"""Where a tumour's middle lies in the box around the brain, and how much of the box it spans, as shares."""
MEASURES: Final = ("log_volume", *FEATURES, *PLACE)
"""What is measured of a tumour, in order."""
SIZES: Final = (
    "MeshVolume", "SurfaceArea", "Maximum3DDiameter", "Maximum2DDiameterSlice", "Maximum2DDiameterColumn",
    "Maximum2DDiameterRow", "MajorAxisLength", "MinorAxisLength", "LeastAxisLength",
)  # fmt: skip
"""What is harmonised, as logarithms; the other features follow from these and are made anew. Harmonised by themselves
they would no longer follow, by an amount that gives the site away (docs/results.md)."""
_SHAPED: Final = ("shape", "shape-age", "mask", "permuted")

VERSION: Final = 2
"""Raised whenever the same cases would give other numbers."""


def titled(kind: Kind) -> str:
    """What tables call a control."""
    return {**KINDS, **BASELINES}[kind]


@dataclass(frozen=True)
class Config:
    """Settings of a control.

    Attributes:
        series: not used; a control reads no scan.
        kind: which control.
        inverse_penalty: C of scikit-learn's ridge-penalised logistic regression.
        harmonise: take out what a site adds to the shape features; of kinds that look at them.

    Raises:
        ConfigError: harmonise, and a kind that looks at no shape feature.
    """

    series: tuple[str, ...] = ()
    kind: Kind = "age-sex"
    inverse_penalty: float = 1.0
    harmonise: bool = False

    def __post_init__(self) -> None:
        if self.harmonise and self.kind not in _SHAPED:
            raise ConfigError(
                f"harmonise with kind {self.kind}, which looks at no shape feature; kinds that do: {', '.join(_SHAPED)}"
            )

    @classmethod
    def preset(cls, name: str) -> Self:
        """The same settings, whatever the name."""
        return cls()

    def scaled(self, scale: str) -> Self:
        """Itself: nothing here is large."""
        return self


@dataclass(frozen=True)
class Features:
    """What a control looks at, in numbers.

    Attributes:
        numbers: names of numeric features.
        words: values seen in training of each feature that is a word.
        medians: training median of each numeric feature.
    """

    numbers: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    medians: Mapping[str, float]

    def vector(self, known: Mapping[str, float | str]) -> list[float]:
        """Numbers, whether each was missing, and one column for each word seen in training."""
        out: list[float] = []
        for name in self.numbers:
            value = known.get(name)
            out += [self.medians[name], 1.0] if value is None else [float(value), 0.0]
        for name, seen in self.words.items():
            out += [float(known.get(name) == word) for word in seen]
        return out


@dataclass(frozen=True)
class Model:
    """A fitted control: a linear map and what it needs to read a case."""

    target: str
    classes: tuple[str, ...]
    kind: Kind
    features: Features
    scaling: Scaling
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    prior: tuple[float, ...]
    harmony: Combat | None = None

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case from its row of the cohort table and the measures of its tumour."""
        return self.answer_from(row.case, {**_by_name(ready["tumour"]), **_of_row(row)})

    def predict(self, case: Case) -> Prediction:
        """Answer one case from its covariates, site or tumour mask."""
        known = _by_name(measure(case)["tumour"]) if needs_mask(self.kind) else {}
        return self.answer_from(
            case.id, known | {**case.covariates, **({"site": case.site} if case.site else {})}
        )

    def answer_from(self, case: str, known: Mapping[str, float | str]) -> Prediction:
        """Answer from named features; what is absent counts as unknown."""
        if self.harmony is not None:
            if known.get("site") not in self.harmony.sites:
                say(
                    f"{case}: of no site that was learnt ({', '.join(self.harmony.sites)}); read without harmonising"
                )
            known = _harmonised(known, self.harmony)
        z = self.scaling(np.array([self.features.vector(known)]))[0]
        logits = np.array(self.weights) @ z + self.bias
        q = np.exp(logits - logits.max())
        q /= q.sum()
        p = with_prior(q[None], np.array(self.prior))[0]
        return Prediction(
            case=case,
            method=f"control: {titled(self.kind)}",
            probabilities={self.target: dict(zip(self.classes, p.tolist(), strict=True))},
            decisions={self.target: self.classes[int(q.argmax())]},
        )

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """No map: a control reads no scan."""
        return {}

    def save(self, folder: Path) -> None:
        """Write the card; the weights are few and stand in it."""
        write_json(folder / "card.json", {"method": "controls", **asdict(self)})


def load(folder: Path) -> Model:
    """Bring a saved control back.

    Raises:
        ModelError: the folder does not hold a control.
    """
    card = read_json(folder / "card.json")
    method = card.pop("method", None)
    if method != "controls":
        raise ModelError(f"{folder}: not a control; found {method!r} in card.json")
    features = card.pop("features")
    words = {k: tuple(v) for k, v in features["words"].items()}
    whole: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in card.items()}
    whole["scaling"] = Scaling(**{k: tuple(v) for k, v in card["scaling"].items()})
    whole["weights"] = tuple(tuple(row) for row in card["weights"])
    if whole.get("harmony") is not None:
        whole["harmony"] = Combat.made(card["harmony"])
    return Model(features=Features(tuple(features["numbers"]), words, features["medians"]), **whole)


def fit(cases: Cases, config: Config, run: Run) -> Model:
    """Fit a control to cases whose target is known.

    Raises:
        CohortError: to harmonise, and the site of a case is not known.
        ConfigError: to harmonise, and there are fewer than two sites of `stats.combat.LEAST` cases.
    """
    made = ready(cases, config, run.cache)
    known = [{**_by_name(m["tumour"]), **_of_row(row)} for m, row in zip(made, cases.rows, strict=True)]
    harmony = _harmony(known, cases.sites()) if config.harmonise else None
    if harmony is not None:
        known = [_harmonised(k, harmony) for k in known]
    features = _features(known, config.kind)
    x = np.array([features.vector(k) for k in known])
    y = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    prior = np.bincount(y, minlength=len(run.classes)) / len(y)
    if config.kind == "permuted":
        y = np.random.default_rng(run.seed).permutation(y)
    scaling = Scaling.learn(x)
    machine = LogisticRegression(C=config.inverse_penalty, class_weight="balanced", max_iter=5000)
    machine.fit(scaling(x), y)
    weights, bias = _softmax_form(machine)
    return Model(
        target=run.target,
        classes=run.classes,
        kind=config.kind,
        features=features,
        scaling=scaling,
        weights=tuple(tuple(row) for row in weights.tolist()),
        bias=tuple(bias.tolist()),
        prior=tuple(prior.tolist()),
        harmony=harmony,
    )


def _harmony(known: Sequence[Mapping[str, float | str]], sites: Sequence[str]) -> Combat:
    """What each site adds, of cases with every measure."""
    whole = [(_logs(k), site) for k, site in zip(known, sites, strict=True) if _has_sizes(k)]
    return Combat.learn(np.array([logs for logs, _ in whole]), [site for _, site in whole])


def _has_sizes(known: Mapping[str, float | str]) -> bool:
    return all(float(known.get(name, 0.0)) > 0 for name in SIZES)


def _logs(known: Mapping[str, float | str]) -> list[float]:
    return [math.log(float(known[name])) for name in SIZES]


def _harmonised(known: Mapping[str, float | str], harmony: Combat) -> dict[str, float | str]:
    """The same features, the tumour's without what its site adds; as they are where a size is not known or 0."""
    site = known.get("site")
    if not _has_sizes(known) or site not in harmony.sites:
        return dict(known)
    mended = np.exp(harmony(np.array([_logs(known)]), [str(site)])[0])
    size = dict(zip(SIZES, mended.tolist(), strict=True))
    volume, surface, axis = size["MeshVolume"], size["SurfaceArea"], size["MajorAxisLength"]
    grown = volume / float(known["MeshVolume"])  # voxels and mesh of one tumour differ by its rim alone
    return {
        **known,
        **size,
        "VoxelVolume": float(known["VoxelVolume"]) * grown,
        "log_volume": float(known["log_volume"]) + math.log(grown),
        "SurfaceVolumeRatio": surface / volume,
        "Sphericity": (36 * math.pi * volume**2) ** (1 / 3) / surface,
        "Elongation": size["MinorAxisLength"] / axis,
        "Flatness": size["LeastAxisLength"] / axis,
    }


def _softmax_form(machine: Any) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn keeps one row for two classes: the log odds of the second."""
    weights, bias = machine.coef_, machine.intercept_
    if len(weights) > 1:
        return weights, bias
    return np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])


def needs_mask(kind: Kind) -> bool:
    """Whether a control looks at the tumour: it cannot be asked about the healthy."""
    return kind in ("volume", "shape", "mask", "permuted", "shape-age")


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """The measures of each tumour; see `measure`. A control that does not look at them opens no file."""
    if not needs_mask(config.kind):
        return [{"tumour": np.full(len(MEASURES), np.nan)} for _ in cases.rows]
    return cases.prepared(measure, f"controls {VERSION}", cache, tick)


def _of_row(row: CaseRow) -> dict[str, float | str]:
    values = {"age": row.age, "sex": row.sex, "site": row.site}
    return {k: v for k, v in values.items() if v is not None}


def _by_name(tumour: np.ndarray) -> dict[str, float | str]:
    named = zip(MEASURES, tumour.tolist(), strict=True)
    return {name: value for name, value in named if math.isfinite(value)}


def measure(case: Case) -> Arrays:
    """The logarithm of the tumour's volume in ml, its 14 shape features and its place, as `tumour` (21,): `MEASURES`.

    Raises:
        CaseError: there is no mask, or no tumour in it.
    """
    whole = tumour_of(case)
    shape = shape_features(whole, case.grid.spacing)
    volume = math.log(whole.sum() * case.grid.voxel_ml)
    return {"tumour": np.array([volume, *(shape[f] for f in FEATURES), *place_of(whole, brain_of(case))])}


def place_of(tumour: np.ndarray, brain: np.ndarray) -> tuple[float, ...]:
    """Where the tumour's middle lies in the box around the brain, and how much of it the tumour spans; see `PLACE`.

    Args:
        tumour, brain: masks (D, H, W), pointing to right, front and up; neither is empty.
    """
    seen = np.argwhere(brain)
    low, edge = seen.min(axis=0), np.ptp(seen, axis=0) + 1
    where = np.argwhere(tumour)
    middle = (where.mean(axis=0) + 0.5 - low) / edge
    return (*middle.tolist(), *((np.ptp(where, axis=0) + 1) / edge).tolist())


def _features(known: list[dict[str, float | str]], kind: Kind) -> Features:
    wanted = {
        "age-sex": ("age", "sex"),
        "age": ("age",),
        "shape-age": ("age", *FEATURES),
        "site": ("site",),
        "volume": ("log_volume",),
        "shape": FEATURES,
        "mask": MEASURES,
        "permuted": ("age", "sex", "site", *MEASURES),
    }[kind]
    words = {
        name: tuple(sorted({str(k[name]) for k in known if name in k}))
        for name in wanted
        if name in ("sex", "site")
    }
    numbers = tuple(name for name in wanted if name not in words)
    medians = {}
    for name in numbers:
        values = [float(k[name]) for k in known if name in k]
        medians[name] = (
            float(np.median(values)) if values else 0.0
        )  # never used alone: the column is constant
    return Features(numbers, words, medians)
