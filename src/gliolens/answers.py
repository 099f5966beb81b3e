"""The built-in answers: grade, WHO grade, IDH and 1p/19q from what GlioLens measures on an outline, and from age.

Logistic regression on a few quantities, fitted to public tables of real patients by `training/answers.py`:

    z = (f(q) - mean) / scale,   log odds = intercept + coefficients . z

Three ordered classes take two such steps, from the top: P(4), then P(3) among the rest. Beside each answer stand a
conformal set, by class (Vovk 2012, doi 10.1007/978-3-642-35289-8_9 for the scores from cross-validation; Mondrian,
one p-value a class), and how well the predictor did on real patients. A case unlike those it learnt from gets no
answer. A quantity that is not known is never filled in.

What was measured, and what is doubtful, stands in `docs/answers.md`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from gliolens.errors import ConfigError, ModelError
from gliolens.io.store import read_json
from gliolens.labels import TARGET_TITLES, TARGETS

FORMAT: Final = 1
"""Raised whenever the file's fields change."""
BUILT_IN: Final = Path(__file__).parent / "weights" / "answers.json"
NO_REASONS: Final[Mapping[str, str]] = MappingProxyType({})

QUANTITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "volume": "volume of the whole tumour (ml)",
        "sphericity": "sphericity",
        "filling": "share of the tumour's ellipsoid that it fills",
        "enhancing": "volume of enhancing tumour (ml)",
        "necrotic": "volume of necrotic or non-enhancing core (ml)",
        "oedema": "volume of oedema (ml)",
        "enhancing_share": "share of the core that enhances",
        "age": "age (years)",
    }
)
"""What the predictors look at, in words with units; `quantities_of` makes them."""

TRANSFORMS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {"plain": np.asarray, "log": np.log, "log(q + 1)": np.log1p, "square root": np.sqrt}
)
"""What is done to a quantity before it is standardised; all take numbers and arrays."""
_MADE_OF: Final = MappingProxyType({
    "volume": "VoxelVolume", "sphericity": "Sphericity", "filling": "VoxelVolume", "enhancing_share": "enhancing",
})  # fmt: skip
"""What a quantity is made of, where it is called otherwise."""
_SOLID: Final = math.pi / 6 * (math.sqrt(5) / 2) ** 3
"""Volume of a solid ellipsoid over the product of PyRadiomics' axis lengths (four standard deviations each)."""
_MOVED: Final = 0.05
"""A probability that a plausible error of the outline moves by this much is worth a caution."""


@dataclass(frozen=True)
class Answered:
    """One target's answer.

    Attributes:
        target: name from `labels.TARGETS`.
        probabilities: by class, calibrated, sum to 1; empty where abstained.
        conformal: classes that cannot be ruled out at the file's level, in class order; may be none or all.
        abstained: why there is no answer; empty where there is one.
        evidence: what each quantity adds to the log odds of the last class, against the mean training patient;
            names in words with units, largest first; what adds nothing is left out.
        cautions: what limits this answer.
        trained_on: the patients it was learnt from, in words.
        scores: rows `name, control, n, auc, low, high, ece` from cross-validation on real patients.
    """

    target: str
    probabilities: Mapping[str, float]
    conformal: tuple[str, ...]
    abstained: str
    evidence: Mapping[str, float]
    cautions: tuple[str, ...]
    trained_on: str
    scores: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Quantity:
    """One quantity of a predictor.

    Attributes:
        name: from `QUANTITIES`.
        transform: from `TRANSFORMS`.
        mean, scale: mean and standard deviation of the transformed quantity among training patients.
        low, high: range of the quantity among them, in its own unit.
        slack: share by which an outline's maker moves the quantity; 0 where that is not known to matter.
    """

    name: str
    transform: str
    mean: float
    scale: float
    low: float
    high: float
    slack: float = 0.0

    def z(self, value: float) -> float:
        """In standard deviations from the mean training patient."""
        return float((TRANSFORMS[self.transform](value) - self.mean) / self.scale)


@dataclass(frozen=True)
class Step:
    """P(`of` | no later class) = 1 / (1 + exp(-(intercept + coefficients . z)))."""

    of: str
    intercept: float
    coefficients: tuple[float, ...]

    def log_odds(self, z: np.ndarray) -> float:
        """Of class `of` against those before it."""
        return self.intercept + float(np.dot(self.coefficients, z))


@dataclass(frozen=True, eq=False)
class Predictor:
    """One fitted predictor.

    Attributes:
        target: name from `labels.TARGETS`.
        classes: those it tells apart, in order.
        quantities: what it looks at.
        steps: one a class but the first, from the last class down.
        precision: inverse covariance of the training patients' `z`.
        limit: 99 in 100 training patients lie nearer to the mean than this (Mahalanobis).
        conformal: by class, the scores 1 - P(true class) of training patients when they were left out.
        trained_on: the patients, in words.
        scores: as in `Answered`.
        cautions: what limits every answer.
    """

    target: str
    classes: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    steps: tuple[Step, ...]
    precision: np.ndarray
    limit: float
    conformal: Mapping[str, np.ndarray]
    trained_on: str
    scores: Sequence[Mapping[str, Any]]
    cautions: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its quantities."""
        return tuple(q.name for q in self.quantities)

    def z(self, known: Mapping[str, float]) -> np.ndarray:
        """Standardised quantities, shape (d,)."""
        return np.array([q.z(known[q.name]) for q in self.quantities], float)

    def probabilities(self, known: Mapping[str, float]) -> dict[str, float]:
        """Of each class, in order; they sum to 1."""
        z, left, found = self.z(known), 1.0, {}
        for step in self.steps:
            share = math.exp(-np.logaddexp(0.0, -step.log_odds(z)))
            found[step.of], left = left * share, left * (1 - share)
        found[self.classes[0]] = left
        return {name: found[name] for name in self.classes}

    def p_values(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Share of each class's training patients, this case among them, that fit the class no better."""
        return {
            name: float(np.count_nonzero(scores >= 1 - probabilities[name]) + 1) / (scores.size + 1)
            for name, scores in self.conformal.items()
        }

    def why_not(self, known: Mapping[str, float], reasons: Mapping[str, str] = NO_REASONS) -> str:
        """Why this case gets no answer: what is unknown or outside the training range; empty where it gets one."""
        absent = [name for name in self.names if not math.isfinite(known.get(name, math.nan))]
        if absent:
            told = dict.fromkeys(reasons[m] for n in absent if (m := _MADE_OF.get(n, n)) in reasons)
            why = f" ({'; '.join(told)})" if told else ""
            return f"not known: {', '.join(QUANTITIES[name] for name in absent)}{why}"
        outside = [q for q in self.quantities if not q.low <= known[q.name] <= q.high]
        if outside:
            return "outside the training range: " + "; ".join(
                f"{QUANTITIES[q.name]} is {known[q.name]:.3g}, trained on {q.low:.3g} to {q.high:.3g}"
                for q in outside
            )
        z = self.z(known)
        distance = math.sqrt(float(z @ self.precision @ z))
        if distance > self.limit:
            words = ", ".join(QUANTITIES[name] for name in self.names)
            return (
                f"outside the training range: no such combination of {words} "
                f"(distance {distance:.1f}; 99 in 100 training patients are within {self.limit:.1f})"
            )
        return ""

    def evidence(self, known: Mapping[str, float]) -> dict[str, float]:
        """What each quantity adds to the log odds of the last class, largest first."""
        parts = self.z(known) * np.array(self.steps[0].coefficients)
        named = {QUANTITIES[n]: float(p) for n, p in zip(self.names, parts, strict=True)}
        return {name: part for name, part in sorted(named.items(), key=lambda item: -abs(item[1])) if part}

    def softness(self, known: Mapping[str, float]) -> tuple[str, ...]:
        """Cautions where a quantity that depends on who drew the outline would move the answer."""
        last = self.classes[-1]
        here, found = self.probabilities(known)[last], []
        for q in self.quantities:
            there = self.probabilities({**known, q.name: known[q.name] * (1 - q.slack)})[last]
            if abs(there - here) >= _MOVED:
                found.append(
                    f"rests on how rough the outline is drawn: with {QUANTITIES[q.name]} "
                    f"{q.slack:.0%} lower, as a finer outline may have it, P({last}) would be "
                    f"{there:.2f}, not {here:.2f}"
                )
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Answers:
    """The built-in predictors.

    Attributes:
        card: the whole file, as it was read.
        level: of the conformal sets, e.g. 0.9.
        first: by target and whether age is looked at; a target that age does not help has one predictor.
        second: other readings of a target, from other patients; they are told as cautions.
    """

    card: Mapping[str, Any]
    level: float
    first: Mapping[tuple[str, bool], Predictor]
    second: Mapping[tuple[str, bool], Predictor]

    def answer(
        self, measured: Mapping[str, float], age: float | None, reasons: Mapping[str, str] = NO_REASONS
    ) -> tuple[Answered, ...]:
        """Answer every target, in the order of `labels.TARGETS`.

        Args:
            measured: volumes in ml by the names of `report.case_page.VOLUME_TITLES` and features of `radiomics.shape`
                in their units; what is absent or NaN is unknown.
            age: in years; None or NaN is unknown.
            reasons: why something measured is unknown, by its name.

        Raises:
            ConfigError: a volume or a feature is negative or infinite, or the age is.
        """
        years = math.nan if age is None else age
        _check({**measured, "age": years})
        known = {**quantities_of(measured), "age": years}
        targets = [t for t in TARGETS if any(t == target for target, _ in self.first)]
        if measured.get("whole") == 0:
            return tuple(_silent(_chosen(self.first, t, False), "no tumour found") for t in targets)
        return _contradictions([self._answer(t, known, reasons) for t in targets])

    def _answer(self, target: str, known: Mapping[str, float], reasons: Mapping[str, str]) -> Answered:
        aged = not math.isnan(known["age"])
        predictor = _chosen(self.first, target, aged)
        if reason := predictor.why_not(known, reasons):
            return _silent(predictor, reason)
        found = predictor.probabilities(known)
        p_values = predictor.p_values(found)
        ageless = () if aged or (target, True) not in self.first else (_age_unknown(self.first, target),)
        cautions = (*ageless, *predictor.softness(known), *self._second(target, known), *predictor.cautions)
        # The tolerance keeps p = 1 / 10 from passing for more than 10 % by rounding.
        fit = tuple(c for c in predictor.classes if p_values[c] > 1 - self.level + 1e-9)
        told = replace(_silent(predictor, ""), probabilities=found, conformal=fit)
        return replace(told, evidence=predictor.evidence(known), cautions=cautions)

    def _second(self, target: str, known: Mapping[str, float]) -> tuple[str, ...]:
        """What another reading of the target says, where there is one for this case."""
        if not any(target == t for t, _ in self.second):
            return ()
        predictor = _chosen(self.second, target, not math.isnan(known["age"]))
        if predictor.why_not(known):
            return ()
        last, row = predictor.classes[-1], predictor.scores[0]
        words = " and ".join(QUANTITIES[name] for name in predictor.names)
        return (
            f"a second reading, from {words}, gives P({last}) {predictor.probabilities(known)[last]:.2f} "
            f"(learnt from {predictor.trained_on}; AUC {row['auc']:.2f}, {row['low']:.2f} to {row['high']:.2f})",
        )


def read_answers(file: Path | None = None) -> Answers:
    """Read the predictors; None reads those that come with GlioLens.

    Raises:
        ModelError: the file is missing, of another format, or lacks what an answer needs.
    """
    path = BUILT_IN if file is None else file
    card = read_json(path)
    if card.get("format") != FORMAT:
        raise ModelError(
            f"{path}: format {card.get('format')!r}, expected {FORMAT}; make it anew with training/answers.py"
        )
    try:
        read = [(row["reading"], row["age"], _predictor(row)) for row in card["predictors"]]
        level = float(card["level"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: not a file of answers ({error!r}); make it anew with training/answers.py"
        ) from error
    first, second = (
        {(p.target, aged): p for reading, aged, p in read if reading == wanted}
        for wanted in ("first", "second")
    )
    return Answers(card, level, MappingProxyType(first), MappingProxyType(second))


def quantities_of(measured: Mapping[str, float]) -> dict[str, float]:
    """The quantities of `QUANTITIES`, but age, from volumes in ml and shape features; NaN where not known.

    `filling` is the volume over that of a solid ellipsoid with the same axes: 1 for an ellipsoid, less for a tumour
    that is hollow, branched or in several parts.
    """
    get = {name: float(value) for name, value in measured.items()}.get
    volume = get("VoxelVolume", math.nan)
    axes = math.prod(get(f"{kind}AxisLength", math.nan) for kind in ("Major", "Minor", "Least"))
    core, enhancing = get("core", math.nan), get("enhancing", math.nan)
    return {
        "volume": volume / 1000,
        "sphericity": get("Sphericity", math.nan),
        "filling": volume / (_SOLID * axes) if axes > 0 else math.nan,
        "enhancing": enhancing,
        "necrotic": get("necrotic", math.nan),
        "oedema": get("oedema", math.nan),
        "enhancing_share": enhancing / core if core > 0 else math.nan,
    }


# --- reading and choosing -------------------------------------------------------------------------------------


def _predictor(row: Mapping[str, Any]) -> Predictor:
    classes = tuple(row["classes"])
    if not set(classes) <= set(TARGETS[row["target"]]) or set(row["conformal"]) != set(classes):
        raise ValueError(f"classes {classes} of {row['target']}")
    return Predictor(
        target=row["target"],
        classes=classes,
        quantities=tuple(Quantity(**q) for q in row["quantities"]),
        steps=tuple(Step(s["of"], s["intercept"], tuple(s["coefficients"])) for s in row["steps"]),
        precision=np.array(row["precision"], float),
        limit=float(row["limit"]),
        conformal={name: np.array(row["conformal"][name], float) for name in classes},
        trained_on=row["trained_on"],
        scores=tuple(row["scores"]),
        cautions=tuple(row["cautions"]),
    )


def _chosen(predictors: Mapping[tuple[str, bool], Predictor], target: str, aged: bool) -> Predictor:
    """With age where it is known and helps, without it otherwise."""
    return predictors.get((target, aged)) or predictors[target, False]


def _silent(predictor: Predictor, reason: str) -> Answered:
    return Answered(predictor.target, {}, (), reason, {}, (), predictor.trained_on, predictor.scores)


def _age_unknown(predictors: Mapping[tuple[str, bool], Predictor], target: str) -> str:
    without, given = (predictors[target, aged].scores[0]["auc"] for aged in (False, True))
    return f"age is not known: answered without it (AUC {without:.2f}; with age {given:.2f})"


def _check(numbers: Mapping[str, float]) -> None:
    wrong = [f"{n} {v}" for n, v in numbers.items() if math.isinf(v) or v < 0]
    if wrong:
        raise ConfigError(f"measured quantities are finite and not negative; found {', '.join(wrong)}")


# --- answers that do not go together ---------------------------------------------------------------------------

_CLASHES: Final = (
    (("grade", {"LGG"}), ("who_grade", {"4"})),
    (("grade", {"HGG"}), ("who_grade", {"2", "3"})),
    (("idh", {"wildtype"}), ("codel_1p19q", {"codeleted"})),
)
"""Classes of two targets that exclude each other."""


def _contradictions(answers: Sequence[Answered]) -> tuple[Answered, ...]:
    """Say beside two answers that they contradict each other, where no class that one leaves goes with the other's."""
    found = {a.target: a for a in answers}
    for pair in _CLASHES:
        both = [found[t] for t, classes in pair if t in found and set() < set(found[t].conformal) <= classes]
        if len(both) == len(pair):
            words = " and ".join(f"{TARGET_TITLES[a.target]} {' or '.join(a.conformal)}" for a in both)
            note = f"two answers contradict each other ({words}): they were learnt from different patients"
            found |= {a.target: replace(a, cautions=(note, *a.cautions)) for a in both}
    return tuple(found.values())
