"""What a paper is known for, in one line: as published, as published here, soundly here, age alone, and the verdict."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gliolens.report.words import in_words
from gliolens.stats.intervals import Interval

Found = Interval | float | str
"""A score with its interval; one that has none; or, after a dash, why there is none."""


@dataclass(frozen=True)
class Headline:
    """One line of the page of all papers.

    Attributes:
        what: which score.
        published: as printed, 0 to 1; None where nothing comparable was.
        here: scored here the way the paper did.
        soundly: with what flattered mended.
        age: what age alone scores on the same patients (with sex where `how` says so).
        how: what "as published" and "soundly" mean here.
        chance: what somebody who knows nothing scores; None where it depends on the patients.
        more: what else belongs to the verdict: a sentence.
    """

    what: str
    published: float | None
    here: Found
    soundly: Found
    age: Found
    how: str
    chance: float | None = None
    more: str = ""

    @property
    def verdict(self) -> str:
        """A sentence, made of what was found."""
        sound = self.soundly
        if not isinstance(sound, Interval) or math.isnan(sound.low):
            told = sound if isinstance(sound, str) else in_words(sound) if isinstance(sound, Interval) else ""
            return " ".join(
                filter(None, (f"No verdict: {told.removeprefix('—, ') or 'no interval'}.", self.more))
            )
        said = [
            *self._of_published(sound),
            *self._of_chance(sound),
            *self._of_age(sound),
            *self._of_way(sound),
        ]
        sentence = "; ".join(said)
        return " ".join(filter(None, (f"{sentence[:1].upper()}{sentence[1:]}.", self.more)))

    def _of_published(self, sound: Interval) -> Iterable[str]:
        if self.published is None:
            return ["nothing comparable was published"]
        where = (
            "above" if self.published > sound.high else "below" if self.published < sound.low else "within"
        )
        return [f"the published {self.published:.4g} lies {where} the interval found soundly here"]

    def _of_chance(self, sound: Interval) -> Iterable[str]:
        if self.chance is not None and sound.low <= self.chance <= sound.high:
            return ["soundly it cannot be told from chance here"]
        return []

    def _of_age(self, sound: Interval) -> Iterable[str]:
        """By whether the two intervals overlap: strict, as the two are of the same patients."""
        if not isinstance(self.age, Interval) or math.isnan(self.age.low):
            return []
        if sound.low > self.age.high:
            return ["it does better than age alone"]
        return ["age alone does better" if sound.high < self.age.low else "it cannot be told from age alone"]

    def _of_way(self, sound: Interval) -> Iterable[str]:
        value = self.here.value if isinstance(self.here, Interval) else self.here
        if isinstance(value, str) or math.isnan(value):
            return []
        gain = round(value - sound.value, 2)
        if not gain:
            return ["the paper's own way scores the same"]
        return [f"the paper's own way scores {abs(gain):.2f} {'more' if gain > 0 else 'less'}"]


def interval_of(told: Mapping[str, Any] | None, why: str = "not in the results") -> Found:
    """A score as `results.json` holds it; after a dash `why`, where it holds none."""
    if told is None or told.get("value") is None:
        return f"\N{EM DASH}, {(told or {}).get('reason') or why}"
    value, low, high = (math.nan if told.get(k) is None else float(told[k]) for k in ("value", "low", "high"))
    unknown = "no interval" if math.isnan(low) or math.isnan(high) else ""
    return Interval(value, low, high, told.get("reason") or unknown)


def row_of(rows: Iterable[Mapping[str, Any]], key: str, name: str) -> Mapping[str, Any]:
    """The row of a table whose `key` is `name`; an empty one where there is none."""
    return next((row for row in rows if row.get(key) == name), {})
