"""What GlioLens says of itself on the page: the outline it drew, and the answers it gives where no run does."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gliolens.answers import QUANTITIES, Answered
from gliolens.labels import REGION_TITLES, SERIES_TITLES, TARGET_TITLES
from gliolens.report.scores import Score, on_scale, track, verdict
from gliolens.report.words import figure, in_ml, in_percent, in_words, is_unknown
from gliolens.stats.doubt import Doubt
from gliolens.stats.intervals import Interval
from gliolens.types import Image

_SCORES_NOTE = (
    "Not trained on these cases, but the simulator was built with a look at them: expect less elsewhere."
)
_ADULT_ML = (
    700.0,
    2200.0,
)  # wide of any adult's brain, so that only files that are wrong, or partial, lie outside
_MOST = 2  # quantities a card names; the table below it has all


@dataclass(frozen=True, eq=False)
class Drawn:
    """An outline that a network drew.

    Attributes:
        by: which network, e.g. `the built-in network`.
        card: the network's card.
        missing: series it was trained with and the case lacks.
        probabilities: of each region, on the case's grid.
        doubts: how sure it is, by region.
        precision: what it computed in, and on what.
        brain_ml: volume of the brain as the network sees it.
        agreed: Dice with the mask that was given, by region; empty where none was.
    """

    by: str
    card: Mapping[str, Any]
    missing: tuple[str, ...]
    probabilities: Mapping[str, Image]
    doubts: Mapping[str, Doubt]
    precision: str
    brain_ml: float
    agreed: Mapping[str, float] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether it found a tumour."""
        return self.doubts["whole"].ml > 0

    @property
    def trained(self) -> str:
        """How it was trained, in words."""
        card = self.card
        known = [f"{card['steps']:,} steps"] if card.get("steps") is not None else []
        if card.get("hours") is not None:
            known.append(
                f"{card['hours']:.1f} hours" + (f" on {card['device']}" if card.get("device") else "")
            )
        known += [f"finished {str(card['finished'])[:10]}"] if card.get("finished") else []
        return f"trained on {card['trained_on']}" + (f" ({', '.join(known)})" if known else "")

    @property
    def cautions(self) -> list[str]:
        """What limits this outline."""
        said = ["No radiologist has seen this outline: check it, slice by slice, before any number is used."]
        if not _ADULT_ML[0] <= self.brain_ml <= _ADULT_ML[1]:
            said.append(
                f"The brain measures {self.brain_ml / 1000:.1f} litres, as no whole adult's does: if the voxel size in "
                "the files is wrong, so is every volume here."
            )
        if missing := [SERIES_TITLES[s] for s in self.missing]:
            said.append(
                f"Without {_listed(missing)} the outline is less sure than its scores on real cases say."
            )
        if "t1ce" in self.missing and self.found:
            said.append("Enhancing tumour and core are guesses: contrast shows in T1 with contrast alone.")
        if "whole" in self.guesses and self.found:
            said.append(
                "Whether there is a tumour, and how far it reaches, is a guess: both show in FLAIR and T2 alone."
            )
        return said

    @property
    def guesses(self) -> dict[str, str]:
        """Why a volume cannot be measured on this outline, by the names of `case_page.VOLUME_TITLES`."""
        found: dict[str, str] = {}
        if {"t2", "flair"} <= set(self.missing):
            found |= dict.fromkeys(
                ("whole", "oedema"), "drawn without FLAIR and T2, so its extent is a guess"
            )
        if "t1ce" in self.missing:
            reason = "drawn without T1 with contrast, so what enhances is a guess"
            found |= dict.fromkeys(("core", "enhancing", "necrotic", "oedema"), reason)
        return found

    @property
    def beside_run(self) -> str:
        """What limits the answer of a run that was asked with this outline."""
        return f"The run was trained and scored on masks that were given; here the outline is {self.by}'s."

    @property
    def beside_built_in(self) -> str:
        """What limits a built-in answer that rests on this outline."""
        return f"learnt and scored on outlines that came with the patients; here the outline is {self.by}'s"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sureness(drawn: Drawn) -> tuple[str, str]:
    """How sure the network says it is of the whole tumour: `weak` or `unknown`, never `good`, and a sentence."""
    if not drawn.found:
        return (
            "weak",
            "No tumour was found. A small, faint or unusual one may have been missed: look yourself.",
        )
    whole = drawn.doubts["whole"]
    own = (
        "The mask that was given says more, see below."
        if drawn.agreed
        else "Nothing was compared with it here."
    )
    return (
        "unknown",
        f"By its own probabilities the network expects a Dice of {whole.own_dice:.2f} with the tumour. That figure is "
        f"its own: networks trained on simulated scans are overconfident. {own}",
    )


def doubt_check(card: Mapping[str, Any]) -> str:
    """What the network expected of itself on real cases, beside what was true; empty where that was not measured."""
    known = [
        r for r in card.get("doubt_check") or () if not is_unknown(r["own"]) and not is_unknown(r["real"])
    ]
    if not known:
        return ""
    own, real = (sum(float(row[key]) for row in known) / len(known) for key in ("own", "real"))
    cases = "1 real case" if len(known) == 1 else f"{len(known)} real cases"
    return (
        f"On {cases} the Dice it expected of itself was {own:.2f} on average where the true Dice was {real:.2f} "
        "(whole tumour)."
    )


def outline_section(drawn: Drawn | None) -> dict[str, Any] | None:
    """What the page says of an outline that was drawn; None where a mask was given."""
    if drawn is None:
        return None
    level, sentence = sureness(drawn)
    return {
        "by": drawn.by,
        "found": drawn.found,
        "agreed": [(REGION_TITLES[name], _agreement(dice)) for name, dice in drawn.agreed.items()],
        "trained": drawn.trained,
        "cautions": drawn.cautions,
        "level": level,
        "verdict": sentence,
        "rows": [_doubt_row(name, doubt, name in drawn.guesses) for name, doubt in drawn.doubts.items()],
        "scores": [_dice_row(row) for row in drawn.card.get("scores") or ()],
        "scores_note": drawn.card.get("scores_note") or _SCORES_NOTE,
        "doubt_check": doubt_check(drawn.card),
    }


def _agreement(dice: float) -> str:
    return "neither shows any" if math.isnan(dice) else f"{dice:.2f}"


def _doubt_row(name: str, doubt: Doubt, guess: bool) -> tuple[str, str, str, str]:
    """Title, millilitres, their range and the expected Dice."""
    title = REGION_TITLES[name] + (" (a guess)" if guess else "")
    dice = "nothing drawn" if math.isnan(doubt.own_dice) else f"{doubt.own_dice:.2f}"
    return title, in_ml(doubt.ml), f"{in_ml(doubt.low_ml)} to {in_ml(doubt.high_ml)}", dice


def _dice_row(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Cases, how many, region and Dice with its interval."""
    low, high = row.get("low"), row.get("high")
    dice = "not known" if row.get("dice") is None else f"{row['dice']:.2f}"
    spread = "" if is_unknown(low) or is_unknown(high) else f" ({low:.2f} to {high:.2f})"
    where = str(row.get("cohort") or row.get("case") or "real cases")
    return where, str(row.get("n", 1)), REGION_TITLES.get(row["region"], str(row["region"])), dice + spread


# --- answers ---------------------------------------------------------------------------------------------------


def could_be(answered: Answered) -> str:
    """The conformal set in words.

    A set that holds one class is `wildtype`; one that holds several is `could be: wildtype or mutant`.
    """
    names = answered.conformal
    if len(names) <= 1:
        return names[0] if names else "none of the classes fits"
    return f"could be: {', '.join(names[:-1])} or {names[-1]}"


def scores_of(answered: Answered) -> list[Score]:
    """Its AUC on real patients, and those of the controls."""
    found = []
    for row in answered.scores:
        value, low, high = (_number(row.get(key)) for key in ("auc", "low", "high"))
        found.append(Score(str(row["name"]), Interval(value, low, high, _why(row)), bool(row["control"])))
    return found


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _why(row: Mapping[str, Any]) -> str:
    gone = [k for k in ("auc", "low", "high") if is_unknown(row.get(k))]
    return str(row.get("reason") or "not measured") if gone else ""


def answer_card(
    answered: Answered, recorded: str | None = None, quantities: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """What a built-in answer's card on the page says.

    Args:
        answered: the answer.
        recorded: the class that is on record for this case.
        quantities: by the names of `answers.QUANTITIES`, as measured on this case.
    """
    classes, scores = answered.probabilities, scores_of(answered)
    top = max(classes, key=lambda c: classes[c]) if classes else ""
    level, sentence = verdict(scores)
    return {
        "title": TARGET_TITLES.get(answered.target, answered.target),
        "by": "built-in answer",
        "decision": could_be(answered) if classes else "no answer",
        "decided_at": in_percent(classes[top]) if classes and answered.conformal == (top,) else "",
        "abstained": answered.abstained,
        "rests_on": _rests_on(answered, quantities or {}),
        "bars": [(c, 100 * p, in_percent(p), c in answered.conformal) for c, p in classes.items()],
        "even": 100 / max(len(classes), 1),
        "against_top": False,
        "recorded": recorded,
        "scores": [(s, in_words(s.auc), track(s.auc)) for s in scores],
        "measured_on": _measured_on(answered),
        "chance": on_scale(0.5),
        "level": level,
        "verdict": sentence,
        "cautions": answered.cautions,
        "trained_on": answered.trained_on,
        "method": "",
    }


def _rests_on(answered: Answered, quantities: Mapping[str, float]) -> str:
    """The quantities that moved the answer most, each with its value and what it speaks for."""
    if not answered.evidence:
        return ""
    rows, classes = answer_evidence(answered, quantities)["rows"], list(answered.probabilities)
    parts = list(answered.evidence.values())
    other = f"not {classes[-1]}" if len(classes) > 2 else classes[0]
    return "; ".join(
        f"{words} {value}, which speaks for {classes[-1] if part > 0 else other}"
        for (words, value, _), part in zip(rows[:_MOST], parts, strict=False)
    )


def _measured_on(answered: Answered) -> str:
    """How many patients the scores are of, and how well the probabilities are calibrated."""
    own = next((row for row in answered.scores if not row["control"]), None)
    if own is None:
        return ""
    patients = f"Cross-validated on {own['n']} exams of real patients, with the outlines that came with them"
    error = _number(own.get("ece"))
    told = "" if math.isnan(error) else f"; calibration error of the probabilities {error:.3f}"
    return f"{patients}{told}."


def answer_evidence(answered: Answered, quantities: Mapping[str, float]) -> dict[str, Any]:
    """What an answer rests on, in words.

    Args:
        answered: the answer.
        quantities: by the names of `answers.QUANTITIES`, as measured on this case.

    Returns:
        Title, the class that positive numbers speak for, and rows: quantity, value, contribution to the log odds.
    """
    values = {words: quantities.get(name, math.nan) for name, words in QUANTITIES.items()}
    return {
        "title": TARGET_TITLES.get(answered.target, answered.target),
        "towards": list(answered.probabilities)[-1],
        "rows": [
            (words, _value(values.get(words, math.nan)), _signed(part))
            for words, part in answered.evidence.items()
        ],
    }


def _value(value: float) -> str:
    return "not known" if math.isnan(value) else figure(value)


def _signed(part: float) -> str:
    return figure(part) if part < 0 else f"+{figure(part)}"
