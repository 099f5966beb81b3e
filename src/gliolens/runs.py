"""Trained runs: read back, asked about a case, and what is to be said of their answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from gliolens.case import Case, CaseRow, Prediction
from gliolens.errors import CaseError
from gliolens.further import further_targets
from gliolens.io.store import read_json
from gliolens.labels import HEALTHY
from gliolens.method import Model, find_method
from gliolens.progress import say
from gliolens.report.built_in import Drawn
from gliolens.report.case_page import Answer
from gliolens.report.scores import Score
from gliolens.stats.intervals import Interval
from gliolens.stats.priors import at_prevalence, shares_of
from gliolens.strangeness import STRANGE, Familiar
from gliolens.train import read_run

NOTHING: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType({})


@dataclass(frozen=True)
class TrainedRun:
    """A run that answers one target, and perhaps further ones.

    Attributes:
        folder: where it lies.
        about: its `run.json`.
        scores: of its method and controls.
        model: fitted.
        further: scores of further targets that its method tells; empty for one that was not scored.
        prevalence: share of each class where the cases come from, which takes the place of the training share.
        familiar: what the training patients look like, where that is known.
    """

    folder: Path
    about: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    model: Model
    further: Mapping[str, Sequence[Mapping[str, Any]]]
    prevalence: Mapping[str, float] | None = None
    familiar: Familiar | None = None

    def predict(self, case: Case) -> Prediction:
        """What it answers, with the local class shares where they are known."""
        told = self.model.predict(case)
        if self.prevalence is None:
            return told
        classes = self.about["classes"]
        p = np.array([[told.probabilities[self.target][c] for c in classes]])
        local = at_prevalence(p, np.array([self.model.prior]), shares_of(self.prevalence, classes))[0]
        shifted = dict(zip(classes, local.tolist(), strict=True))
        return replace(told, probabilities={**told.probabilities, self.target: shifted})

    @property
    def target(self) -> str:
        """What it tells."""
        return str(self.about["settings"]["target"])

    @property
    def needs_tumour(self) -> bool:
        """Whether it cannot be asked where there is none: it draws no outline itself, and does not know the healthy."""
        draws = bool(getattr(self.model, "draws", False))
        return not draws and HEALTHY not in self.about["classes"]

    @property
    def seen(self) -> set[str]:
        """Every name of the patients it was trained on."""
        return {*self.about["train_patients"], *self.about["train_cases"], *self.about["train_aliases"]}


def read_trained(folder: Path, prevalence: Mapping[str, Mapping[str, float]] = NOTHING) -> TrainedRun:
    """Read a finished run back.

    Args:
        folder: where it lies.
        prevalence: by target, the share of each class where cases come from.

    Raises:
        ConfigError: a prevalence is not of the run's classes, or no share.
        ModelError: the folder holds no finished run, or a model that is not as its card says.
    """
    about = read_run(folder)
    settings = about["settings"]
    model = find_method(settings["method"]).load(folder / "model")
    scored = {t: folder / "further" / t / "metrics.json" for t in further_targets(model)}
    further = {t: read_json(file)["scores"] if file.is_file() else [] for t, file in scored.items()}
    local = prevalence.get(settings["target"])
    if local is not None:
        shares_of(local, about["classes"])  # what is wrong is said before any case is read
    scores = read_json(folder / "metrics.json")["scores"]
    return TrainedRun(folder, about, scores, model, further, local, Familiar.load(folder))


def answers_of(
    case: Case, row: CaseRow, run: TrainedRun, drawn: Drawn | None, settled: set[str]
) -> list[Answer]:
    """A run's answer to its target and to the further ones that are not `settled` by a run of their own, or by it."""
    say(f"{row.case}: asking the run {run.folder.name}")
    needed = getattr(run.model, "needs", run.about["series"])
    missing = [s for s in needed if s not in case.series]
    if missing:
        raise CaseError(
            case.id,
            found=f"series {', '.join(case.series)}",
            expected=f"{', '.join(missing)} too: the run {run.folder.name} was trained with it",
            fix="add the file, or name a run trained without that series",
        )
    prediction = run.predict(case)
    prediction = replace(prediction, heatmaps=run.model.explain(case))
    beside = [*_strange(case, run), *([drawn.beside_run] if drawn and prediction.labels is None else [])]
    told = {run.target: run.scores, **{t: s for t, s in run.further.items() if t not in settled}}
    settled.update(told)
    return [
        Answer(
            target=target,
            prediction=prediction,
            trained_on=_trained_words(run, scores),
            scores=[_score(s) for s in scores],
            cautions=[*_cautions(row, run, target, scores), *_shares(run, target), *beside],
        )
        for target, scores in told.items()
    ]


def _trained_words(run: TrainedRun, scores: Sequence[Mapping[str, Any]]) -> str:
    words = f"{len(run.about['train_cases'])} cases of {run.about['cohort']}"
    return f"{words}, scored on {scores[0]['n']} others" if scores else f"{words}, never scored"


def _score(plain: Mapping[str, Any]) -> Score:
    def number(key: str) -> float:
        return float("nan") if plain.get(key) is None else float(plain[key])

    auc = Interval(number("auc"), number("auc_low"), number("auc_high"), plain.get("auc_reason", ""))
    return Score(str(plain["method"]), auc, bool(plain["control"]))


def _cautions(row: CaseRow, run: TrainedRun, target: str, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    out = []
    if known := _trained_on(row, run):
        out.append(
            f"This patient was in the training set ({known}): the answer is a memory, not a prediction."
        )
    elif known := _named_in_files(row, run):
        out.append(
            f"Files are named {known}, as a patient of the training set: if so, the answer is a memory."
        )
    schemes = run.about["label_schemes"]
    if len(schemes) > 1 and target in ("grade", "who_grade"):
        out.append(f"The training labels mix {', '.join(schemes)}.")
    if HEALTHY in run.about["classes"]:
        out.append(
            "The run learnt who is healthy too: hospital, scanner or skull strip may tell that before any tumour does."
        )
    if not scores:
        return [*out, "This answer was never scored: too few held-out patients have it on record."]
    mine = next(s for s in scores if not s["control"])["auc"]
    better = [
        s["method"] for s in scores if s["control"] and None not in (s["auc"], mine) and s["auc"] >= mine
    ]
    if better:
        out.append(f"On the patients held out, it did no better than {', '.join(better)} alone.")
    return out


def _strange(case: Case, run: TrainedRun) -> list[str]:
    """Whether the scans look unlike those learnt from."""
    p = 1.0 if run.familiar is None else run.familiar.p_of(case)
    if not p <= STRANGE:
        return []
    return [
        f"The scans look unlike those learnt from: of {len(run.familiar.distances) if run.familiar else 0} training "
        f"patients {p:.0%} are as far from the others (scanner, sequence or preparation): trust the answer less."
    ]


def _shares(run: TrainedRun, target: str) -> list[str]:
    """Whose class shares are in the probabilities, where they are not those of the training patients."""
    if run.prevalence is None or target != run.target:
        return []
    told = ", ".join(f"{c} {share:.0%}" for c, share in run.prevalence.items())
    return [f"Probabilities are for a place where classes are as common as you said: {told}."]


def _trained_on(row: CaseRow, run: TrainedRun) -> str | None:
    """The name by which this patient was trained on, if he was."""
    return next((name for name in (row.case, row.patient, *row.aliases) if name in run.seen), None)


def _named_in_files(row: CaseRow, run: TrainedRun) -> str | None:
    """The name of a trained patient with which a file's name begins; numbers alone name no one."""
    told = (n for n in sorted(run.seen, key=len, reverse=True) if not n.isdigit())
    starts = [file.name for file in row.files.values()]
    return next(
        (n for n in told if any(re.match(rf"{re.escape(n)}(?![0-9A-Za-z])", s) for s in starts)), None
    )
