"""How good decisions and probabilities are: each score with its patient-level interval."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from gliolens.errors import ConfigError
from gliolens.stats.intervals import Interval, patient_weights, percentile_interval, unknown, unvaried, varies

SCORE_TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auc": "AUC",
        "auprc": "AUPRC",
        "balanced_accuracy": "Balanced accuracy",
        "sensitivity": "Sensitivity",
        "specificity": "Specificity",
        "ppv": "PPV",
        "npv": "NPV",
        "accuracy": "Accuracy",
        "f1": "F1",
        "f1_macro": "Macro F1",
        "f1_weighted": "Weighted F1",
        "mcc": "MCC",
        "brier": "Brier score",
        "ece": "ECE",
    }
)
"""Every score of `class_scores`, in the order it gives them. All run from 0 to 1 (Brier of three or more classes: to 2;
MCC: from -1); the Brier score and ECE are best low, the others high. Balanced accuracy is what papers call APCA."""
BINS: Final = 10
"""Of ECE; see `calibration.calibration_error`."""

_Scores = dict[str, np.ndarray]


def class_scores(
    truth: ArrayLike,
    probabilities: ArrayLike,
    decided: ArrayLike,
    patients: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Score a classifier, each score with a 95 % bootstrap interval over patients (`intervals.bootstrap`).

    Two classes: class 1 is positive; AUC, AUPRC (average precision), sensitivity, specificity, PPV, NPV, F1 and ECE are
    its own, Brier is the mean of (p1 - y)^2. More: each of these is the plain mean over the classes, one against
    the rest, and Brier is the mean of the squared error summed over all classes (Brier 1950), which for two
    classes would be twice the above. Balanced accuracy is the mean recall; macro and weighted F1 are means over all
    classes, of two as well; MCC is Gorodkin's (2004, doi 10.1016/j.compbiolchem.2004.09.006), 0 where everybody is
    called alike. A score that no resample changes gets the bounds of
    `intervals.unvaried`. With few patients in a class the bootstrap is too narrow (10 against 100, AUC 0.92:
    covered 82 times in 100); with one exam a patient `intervals.delong` is the better interval of the AUC.

    Args:
        truth: class of each exam, 0 to k - 1, shape (n,).
        probabilities: shape (n, k); each row sums to 1.
        decided: class decided on for each exam, by whatever rule, shape (n,).
        patients: patient of each exam, shape (n,).
        resamples: how many draws of patients.
        seed: of the draws.

    Returns:
        The scores of `SCORE_TITLES`; NaN with a reason where a class that a score needs has no case, and NaN
        bounds where a class has one patient only, whose chance no resampling can show.

    Raises:
        ConfigError: lengths differ, classes are not 0 to k - 1, or rows are not probabilities.
    """
    p = _probabilities(probabilities)
    given, chosen = _classes(truth, p, "truth"), _classes(decided, p, "decided")
    if len(patients) != len(p):
        raise ConfigError(f"{len(patients)} patients but {len(p)} rows of probabilities; one an exam")
    blocks = patient_weights(patients, given, resamples=resamples, seed=seed)
    if not len(p):
        return dict.fromkeys(SCORE_TITLES, unknown("no cases"))
    values = _scores(np.ones((1, len(p))), given, p, chosen)
    drawn = [_scores(weights.astype(float), given, p, chosen) for weights in blocks]
    behind = _independent_patients(given, p.shape[1], patients)
    absent = sorted(set(range(p.shape[1])) - set(given.tolist()))
    reason = f"no case of class {', '.join(map(str, absent))}"
    return {
        name: _interval(name, float(values[name][0]), [d[name] for d in drawn], behind, reason, p.shape[1])
        for name in SCORE_TITLES
    }


def _interval(
    name: str, value: float, drawn: list[np.ndarray], behind: dict[str, int], reason: str, classes: int
) -> Interval:
    samples = np.concatenate(drawn)
    if math.isnan(value):
        return unknown("a class was decided for nobody" if name in ("ppv", "npv") else reason)
    if varies(samples):
        if behind[name] == 1:
            return unknown("one patient in the smallest class: the interval cannot be estimated", value)
        return percentile_interval(value, samples)
    return unvaried(value, behind[name], **score_range(name, classes))


def score_range(name: str, classes: int) -> dict[str, float]:
    """`lowest` and `highest` that a score of so many classes can be."""
    return {
        "lowest": -1.0 if name == "mcc" else 0.0,
        "highest": 2.0 if name == "brier" and classes > 2 else 1.0,
    }


def _independent_patients(truth: np.ndarray, classes: int, patients: Sequence[str]) -> dict[str, int]:
    """How many independent patients stand behind each score, for the bounds of one that does not vary."""
    names = np.asarray(patients, str)
    each = {c: n for c in range(classes) if (n := np.unique(names[truth == c]).size)}
    behind = dict.fromkeys(SCORE_TITLES, min(each.values()))
    behind |= dict.fromkeys(("accuracy", "brier", "ece"), np.unique(names).size)
    if classes == 2:
        behind |= {s: each[c] for s, c in (("sensitivity", 1), ("specificity", 0)) if c in each}
    return behind


def _scores(weights: np.ndarray, truth: np.ndarray, p: np.ndarray, decided: np.ndarray) -> _Scores:
    """Every score for each row of weights (r, n), each of shape (r,); NaN where a class has no weight."""
    classes = np.arange(p.shape[1])
    is_class, is_called = truth[:, None] == classes, decided[:, None] == classes
    total = weights.sum(axis=1, keepdims=True)
    members, called, hits = weights @ is_class, weights @ is_called, weights @ (is_class & is_called)
    recall = _ratio(hits, members)
    specificity = _ratio(total - members - called + hits, total - members)
    f1 = _ratio(2 * hits, members + called)
    ppv, npv = _ratio(hits, called), _ratio(total - members - called + hits, total - called)
    shown = [1] if len(classes) == 2 else list(classes)
    ranked = [_ranked(weights, is_class[:, c], p[:, c]) for c in shown]
    return {
        "auc": np.column_stack([_auc(up, down) for up, down in ranked]).mean(axis=1),
        "auprc": np.column_stack([_average_precision(up, down) for up, down in ranked]).mean(axis=1),
        "balanced_accuracy": recall.mean(axis=1),
        "sensitivity": recall[:, shown].mean(axis=1),
        "specificity": specificity[:, shown].mean(axis=1),
        "ppv": ppv[:, shown].mean(axis=1),
        "npv": npv[:, shown].mean(axis=1),
        "accuracy": hits.sum(axis=1) / total[:, 0],
        "f1": f1[:, shown].mean(axis=1),
        "f1_macro": f1.mean(axis=1),
        "f1_weighted": np.nansum(f1 * members, axis=1) / total[:, 0],
        "mcc": _mcc(hits.sum(axis=1), members, called, total[:, 0]),
        "brier": weights @ ((p - is_class)[:, shown] ** 2).sum(axis=1) / total[:, 0],
        "ece": np.column_stack([_ece(weights, is_class[:, c], p[:, c]) for c in shown]).mean(axis=1),
    }


def weighted_auc(weights: np.ndarray, truth: np.ndarray, p: np.ndarray) -> np.ndarray:
    """AUC (r,) of the second of two classes, or the mean over more, for each row of weights (r, n) of the cases.

    Args:
        weights: how often each case counts, 0 or more.
        truth: class of each case, 0 to k - 1, shape (n,).
        p: probabilities (n, k).
    """
    shown = [1] if p.shape[1] == 2 else range(p.shape[1])
    ranked = [_ranked(weights, truth == c, p[:, c]) for c in shown]
    return np.asarray(np.column_stack([_auc(up, down) for up, down in ranked]).mean(axis=1))


def _ranked(weights: np.ndarray, positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each value of the score (r, values), lowest first."""
    order = np.argsort(score)
    ranked, ordered, is_positive = score[order], weights[:, order], positive[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    up = np.add.reduceat(ordered * is_positive, starts, axis=1)
    return up, np.add.reduceat(ordered * ~is_positive, starts, axis=1)


def _auc(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Weighted share of pairs ordered rightly, ties half, for each row of weights."""
    won = (up * (np.cumsum(down, axis=1) - down / 2)).sum(axis=1)
    return _ratio(won, up.sum(axis=1) * down.sum(axis=1))


def _average_precision(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Precision at each value of the score, weighed by the positives that have it, for each row of weights."""
    hits = np.cumsum(up[:, ::-1], axis=1)
    called = hits + np.cumsum(down[:, ::-1], axis=1)
    gained = up[:, ::-1] * np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return _ratio(gained.sum(axis=1), up.sum(axis=1))


def _mcc(hits: np.ndarray, members: np.ndarray, called: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Matthews' correlation of k classes, 0 where one is constant."""
    both = hits * total - (members * called).sum(axis=1)
    spread = (total**2 - (members**2).sum(axis=1)) * (total**2 - (called**2).sum(axis=1))
    return np.asarray(np.divide(both, np.sqrt(spread), out=np.zeros_like(both), where=spread > 0))


def _ece(weights: np.ndarray, positive: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Expected calibration error of one class for each row of weights."""
    where = np.clip(np.searchsorted(np.linspace(0, 1, BINS + 1), p, side="right") - 1, 0, BINS - 1)
    apart = (where[:, None] == np.arange(BINS)) * (positive - p)[:, None]
    return np.asarray(np.abs(weights @ apart).sum(axis=1) / weights.sum(axis=1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share = np.full(part.shape, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def _probabilities(given: ArrayLike) -> np.ndarray:
    p = np.asarray(given, float)
    if p.ndim != 2 or p.shape[1] < 2:
        raise ConfigError(f"probabilities have shape {p.shape}; expected (cases, 2 or more classes)")
    if not ((p >= 0) & (p <= 1)).all():
        raise ConfigError("a probability is NaN or outside 0 to 1")
    wrong = np.flatnonzero(np.abs(p.sum(axis=1) - 1) > 1e-4)
    if wrong.size:
        raise ConfigError(f"probabilities of row {wrong[0]} sum to {p[wrong[0]].sum():.6g}, not 1")
    return p


def _classes(given: ArrayLike, p: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(given)
    if values.shape != p.shape[:1]:
        raise ConfigError(f"{name} has shape {values.shape}; expected {p.shape[:1]}, as the probabilities")
    if not np.isin(values, np.arange(p.shape[1])).all():
        raise ConfigError(
            f"{name} holds {np.unique(values)[:10].tolist()}; expected classes 0 to {p.shape[1] - 1}"
        )
    return values.astype(int)
