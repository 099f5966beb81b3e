"""How unlike the patients learnt from a case looks: by what scanner, sequence and preparation leave in its scans.

Thirteen numbers a series (`cohorts.audit.appearance`) of the brain outside the tumour, standardised; then the
Mahalanobis distance d with a shrunk covariance (Ledoit & Wolf 2004, doi 10.1016/S0047-259X(03)00096-4). Every training
patient is measured in the same way by the others of five folds, one exam of each, and

    p = (1 + number of training patients as far or farther) / (1 + number of training patients)

is small for a stranger: of patients like those learnt from, one in twenty has .05 or less. It says nothing of the
tumour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import KFold

from gliolens.case import Case
from gliolens.cohorts.audit.appearance import appearance
from gliolens.cohorts.splits import patients
from gliolens.errors import CohortError
from gliolens.io.store import read_json, write_json
from gliolens.loader import Arrays, Cases
from gliolens.progress import Tick

FILE: Final = "familiar.json"
"""In a run's folder: what its training patients look like."""
STRANGE: Final = 0.05
"""p-value from which on down a case is called a stranger."""
FEWEST: Final = 20
"""Training patients, below which nothing is said: a p-value could hardly be as small as `STRANGE`."""
_FOLDS: Final = 5
_VERSION: Final = 1


@dataclass(frozen=True)
class Familiar:
    """What the patients learnt from look like.

    Attributes:
        series: whose scans are measured, in order.
        mean, scale: of each number among the training patients.
        precision: inverse covariance of the standardised numbers.
        distances: of the training patients, each by the others.
    """

    series: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    distances: tuple[float, ...]

    @classmethod
    def of(cls, cases: Cases, cache: Path, tick: Tick | None = None) -> Self:
        """Measure the training patients and learn what they look like; errors as `learn`."""
        group = patients(cases.rows)
        looks = looks_of(cases, cache, tick)
        return cls.learn(looks, cases.series, [group[row.case] for row in cases.rows])

    @classmethod
    def learn(cls, looks: Sequence[Arrays], series: Sequence[str], patients: Sequence[str]) -> Self:
        """Learn from what `look` measured of each case, the first that has every series of each patient.

        Another exam of a patient lies nearer to him than anyone new does: by it all others would be strangers.

        Raises:
            CohortError: there is no series, or fewer than `FEWEST` patients have every one with contrast.
        """
        if not series:
            raise CohortError("no series is there that all training patients have")
        measured = [(who, _row(look, series)) for who, look in zip(patients, looks, strict=True)]
        first = {who: row for who, row in reversed(measured) if row is not None}
        numbers = np.array(list(first.values())[::-1])
        if len(numbers) < FEWEST:
            raise CohortError(
                f"{len(numbers)} training patients can be measured; {FEWEST} are needed to say who is a stranger"
            )
        distances = np.empty(len(numbers))
        for learnt, asked in KFold(_FOLDS, shuffle=True, random_state=0).split(numbers):
            distances[asked] = _distances(numbers[asked], *_measure(numbers[learnt]))
        mean, scale, precision = _measure(numbers)
        return cls(
            tuple(series), tuple(mean.tolist()), tuple(scale.tolist()),
            tuple(map(tuple, precision.tolist())), tuple(np.sort(distances).tolist()),
        )  # fmt: skip

    def p_value(self, look: Mapping[str, np.ndarray]) -> float:
        """Share of training patients that are as far from the others as this case; NaN where a series is not there."""
        row = _row(look, self.series)
        if row is None:
            return float("nan")
        parts = np.array(self.mean), np.array(self.scale), np.array(self.precision)
        distance = _distances(row[None], *parts)[0]
        return float((1 + np.count_nonzero(np.array(self.distances) >= distance)) / (1 + len(self.distances)))

    def p_of(self, case: Case) -> float:
        """`p_value` of a case, of whose series those that were learnt from are looked at, and no other.

        The brain is found in what is looked at, so a further series would move its border.
        """
        if not set(self.series) <= case.series.keys():
            return float("nan")
        return self.p_value(look(replace(case, series={s: case.series[s] for s in self.series})))

    def save(self, folder: Path) -> None:
        """Write `familiar.json`."""
        write_json(folder / FILE, {"version": _VERSION, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read it back; None where a run has none, or one of another version."""
        card: dict[str, Any] = read_json(folder / FILE) if (folder / FILE).is_file() else {}
        if card.pop("version", None) != _VERSION:
            return None
        plain = {name: tuple(card[name]) for name in ("series", "mean", "scale", "distances")}
        return cls(**plain, precision=tuple(map(tuple, card["precision"])))


def look(case: Case) -> Arrays:
    """What `appearance` measures of each series, as named arrays (13,)."""
    return dict(appearance(case))


def looks_of(cases: Cases, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """`look` of each case, kept in the cache."""
    return cases.prepared(look, f"appearance {_VERSION}", cache, tick)


def p_values(familiar: Familiar, cases: Cases, cache: Path, tick: Tick | None = None) -> pd.DataFrame:
    """`case`, `site` and `p` of each case, NaN where a series is not there."""
    made = looks_of(replace(cases, series=familiar.series), cache, tick)
    told = [
        (row.case, row.site or "", familiar.p_value(seen)) for row, seen in zip(cases.rows, made, strict=True)
    ]
    return pd.DataFrame(told, columns=["case", "site", "p"])


def strangers_told(found: pd.DataFrame) -> str:
    """How many of some cases are strangers, in words, with the sites of most of whom it holds, and who is not known."""
    known = found[found["p"].notna()]
    strange = known["p"] <= STRANGE
    words = (
        f"{int(strange.sum())} of {len(known)} cases look unlike those learnt from (p of {STRANGE} or less)"
    )
    sites = strange.groupby(known["site"]).agg(["sum", "size"])
    many = [
        f"{site} {n['sum']} of {n['size']}"
        for site, n in sites.iterrows()
        if site and n["sum"] > n["size"] / 2
    ]
    words += f"; most of site {', '.join(many)}" if many else ""
    unknown = len(found) - len(known)
    return words + (f"; {unknown} more could not be measured" if unknown else "")


def _row(look: Mapping[str, np.ndarray], series: Sequence[str]) -> np.ndarray | None:
    if not set(series) <= set(look):
        return None
    return np.concatenate([np.asarray(look[s], float) for s in series])


def _measure(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, scale = numbers.mean(axis=0), np.maximum(numbers.std(axis=0), 1e-9)
    covariance, _ = ledoit_wolf((numbers - mean) / scale)
    return mean, scale, np.linalg.inv(covariance)


def _distances(numbers: np.ndarray, mean: np.ndarray, scale: np.ndarray, precision: np.ndarray) -> np.ndarray:
    z = (numbers - mean) / scale
    return np.asarray(np.sqrt(np.einsum("nk,kl,nl->n", z, precision, z)))
