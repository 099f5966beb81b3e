"""What a run's files know of its methods: what they are, with which settings, and how they depart from their papers.

Each function answers one kind of question in a few sentences, or raises NotKnownError.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from gliolens.encoders.catalogue import ENCODERS
from gliolens.fidelity import SAME, fidelity_of
from gliolens.labels import NOTICE
from gliolens.methods.controls import titled
from gliolens.protocol import Entrant
from gliolens.report.run.about_cohort import folds, series, target, taught
from gliolens.report.run.files import PREDICTIONS, NotKnownError, RunFiles

_PREPARATION: Final = frozenset({
    "series", "channels", "intensities", "crop", "what a slice shows", "what the network sees", "frame", "voxels",
    "skull", "slices", "pooling and series", "normalisation of the shape features", "what the classifier sees",
})  # fmt: skip
"""Items of `fidelity.json` that tell what becomes of a scan before a network sees it."""


def methods(run: RunFiles) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Method and settings of each row of the table that is no control; of the controls where there is no other."""
    if not run.is_bench:
        name = run.about("settings", "method")
        config = run.about("settings", "config")
        return {f"controls: {titled(config['kind'])}" if name == "controls" else name: (name, config)}
    rows, configs = run.about("rows"), run.about("settings", "methods")
    chosen = {name: (method, configs[name]) for name, method in rows.items() if method != "controls"}
    return chosen or {name: (method, configs[name]) for name, method in rows.items()}


def fidelity(run: RunFiles, name: str) -> Mapping[str, Any]:
    """`fidelity.json` of a method; NotKnownError where it is gone."""
    folder = f"{Entrant(name, '', None).folder}/" if run.is_bench else ""
    file = f"{folder}fidelity.json"
    return {key: run.ask(file, key) for key in ("source", "preset", "scale", "changed", "items")}


def _of_each(run: RunFiles, tell: Callable[[str, str, Mapping[str, Any]], str]) -> str:
    return " ".join(tell(name, method, config) for name, (method, config) in methods(run).items())


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(name, value)}" for name, value in settings.items())


def _value(name: str, value: Any) -> str:
    """A setting in words; of a file of weights its name alone, since a path can name a person."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return Path(value).name if name == "weights" else str(value)


# --- what they are ---------------------------------------------------------------------------------------------


def question(run: RunFiles) -> str:
    """What the run was to find out."""
    seen = f"{', '.join(series(run))}" if series(run) else "no scan"
    names = ", ".join(methods(run))
    done = (
        "cross-validated beside"
        if run.is_bench and len(folds(run)) > 1
        else "fitted on one side of a split and scored on the other, beside"
    )
    return f"To tell {target(run)} from {seen}: {names}, {done} every control."


def technology(run: RunFiles) -> str:
    """Which methods, after which papers."""

    def tell(name: str, method: str, config: Mapping[str, Any]) -> str:
        if fidelity_of(method) is None:
            return f"{name}: logistic regression on what is no image; after no paper."
        what = "" if name == method else f"{method}, "
        return f"{name}: {what}after {fidelity(run, name)['source']}."

    return _of_each(run, tell)


def model(run: RunFiles) -> str:
    """Each method with its preset and inputs and outputs, and where it is described."""

    def tell(name: str, method: str, config: Mapping[str, Any]) -> str:
        page = f"docs/methods/{method}.md of GlioLens {run.about('software', 'gliolens')} describes it."
        if fidelity_of(method) is None:
            return f"{name}: logistic regression, ridge penalty, {_listed(config)}. {page}"
        told = fidelity(run, name)
        changed = f", with {', '.join(told['changed'])} changed" if told["changed"] else ""
        what = "" if name == method else f"{method}, "
        return f"{name}: {what}preset {told['preset']} at {told['scale']} scale{changed}. {page}"

    return f"{_of_each(run, tell)} Out come probabilities of {target(run)}. All settings: {settings(run)}"


def settings(run: RunFiles) -> str:
    """All settings of each method."""
    return _of_each(run, lambda name, method, config: f"{name}: {_listed(config)}.")


def software(run: RunFiles) -> str:
    """Names and versions."""
    return ", ".join(f"{name} {version}" for name, version in run.about("software").items()) + "."


def finished(run: RunFiles) -> str:
    """When the run ended."""
    return f"Run finished {run.about('finished')}."


def start(run: RunFiles) -> str:
    """What the parameters start from."""

    def tell(name: str, method: str, config: Mapping[str, Any]) -> str:
        return f"{name}: {_started(config)}."

    return f"Random numbers are drawn from seed {run.about('settings', 'seed')}. {_of_each(run, tell)}"


def _started(config: Mapping[str, Any]) -> str:
    """What the parameters of a method start from, by the settings that name it."""
    file = f"weights {Path(config['weights']).name}" if config.get("weights") else ""
    if encoder := config.get("encoder"):
        what = ENCODERS[encoder.partition(":")[0]][1]
        return f"encoder {encoder}{f', {file}' * bool(file)}, frozen ({what}); what reads its vectors is fitted anew"
    if start := config.get("start"):
        return "random" if start == "random" else f"the 3-D U-Net {start}, the other networks random"
    if "weights" in config:
        return f"{file}, random what they do not hold" if file else "random"
    return "no setting names weights to start from"


def choice(run: RunFiles) -> str:
    """On whom anything was chosen."""
    n = len(taught(run))
    more = f" (for something else also {n} of the cases left out, of no patient tested)" if n else ""
    return (
        f"{', '.join(methods(run))}: given the patients to learn from alone{more}. What the settings leave to be "
        "chosen was chosen among them, never on the patients tested."
    )


# --- what they see and put out ---------------------------------------------------------------------------------


def preparation(run: RunFiles) -> str:
    """What becomes of a scan before a method sees it."""

    def tell(name: str, method: str, config: Mapping[str, Any]) -> str:
        if fidelity_of(method) is None:
            return f"{name}: numbers are standardised on training patients; of a scan, only its mask is measured."
        items = [i for i in fidelity(run, name)["items"] if i["item"] in _PREPARATION]
        told = [f"{i['item']}: {i['source_says'] if i['we_do'] == SAME else i['we_do']}" for i in items]
        return f"{name}: {'; '.join(told)}.{except_as_set(run, name)}"

    return _of_each(run, tell)


def preset_preparation(run: RunFiles) -> str:
    """As `preparation`, where every method ran as its preset says: what was set otherwise may contradict the words."""
    for name, (method, _) in methods(run).items():
        if fidelity_of(method) is not None and except_as_set(run, name):
            raise NotKnownError(f"{run.folder}: {name} ran with settings of its own")
    return preparation(run)


def except_as_set(run: RunFiles, name: str) -> str:
    """Settings that are not those of the preset whose words tell what was done; empty where there are none."""
    own = {key: both["run"] for key, both in fidelity(run, name)["changed"].items() if key != "series"}
    return f" Except as set: {_listed(own)}." if own else ""


def predictors(run: RunFiles) -> str:
    """From what the answer is told."""
    seen = f"Scans: {', '.join(series(run))}." if series(run) else "No scan is looked at."
    return f"{seen} The controls beside look at age, sex, site, tumour volume and 14 shape features alone."


def output(run: RunFiles) -> str:
    """What comes out for a case."""
    names = [c for c in run.ask(PREDICTIONS) if c.startswith("p_")]
    run.ask(PREDICTIONS, "decision")
    if not names:
        raise NotKnownError(f"{run.folder / PREDICTIONS}: no probabilities")
    told = ", ".join(c.removeprefix("p_") for c in names)
    return (
        f"A probability of each class ({told}), and the class decided on. The decision is the method's own, by a rule "
        "settled before the test: no threshold was chosen on the patients tested."
    )


def answers_a_case(run: RunFiles) -> str:
    """How many answers of a method a case gets."""
    asked = pd.DataFrame({name: run.ask(PREDICTIONS, name) for name in ("method", "case")})
    most = int(asked.value_counts().max())
    how = "once, by one fitted model" if most == 1 else f"up to {most} times, each scored by itself"
    return f"Each method answers a case {how}; models of different folds are not joined."


def predicting(run: RunFiles) -> str:
    """How a prediction is made."""
    if run.is_bench:
        run.ask(PREDICTIONS, "fold")
        return "Each fold's model answered the patients of its test side; predictions.csv holds every probability."
    return f"{saved_model(run)} predictions.csv holds the probabilities that were scored."


def saved_model(run: RunFiles) -> str:
    """Where the fitted model lies."""
    if run.is_bench:
        raise NotKnownError("a bench keeps no model of its folds")
    run.ask("model/card.json")
    version = run.about("software", "gliolens")
    return f"The fitted model lies in model/; gliolens predict CASE --run RUN asks it (GlioLens {version})."


def refusals(run: RunFiles) -> str:
    """Which input is refused."""
    asked = ", ".join(series(run))
    lacking = f"a case that lacks one of {asked}, or " if asked else ""
    return f"GlioLens refuses {lacking}files whose geometry contradicts itself, and says how to mend it."


def local_shares(run: RunFiles) -> str:
    """That class shares from elsewhere were put into the probabilities, where they were."""
    shares = [run.contents[file].get("prevalence") for file in run.named("", "/evaluation.json")]
    told = "; ".join(dict.fromkeys(_listed(one) for one in shares if one))
    if not told:
        raise NotKnownError(f"{run.folder}: the class shares are those learnt")
    return f"For evaluations the class shares in all probabilities were replaced by {told}; nothing else was changed."


def not_updated(run: RunFiles) -> str:
    """That nothing is refitted after the test."""
    return f"GlioLens {run.about('software', 'gliolens')} changes no model after its test; the run holds none that was."


# --- what is to be said of them --------------------------------------------------------------------------------


def departures(run: RunFiles) -> str:
    """How many items of its paper each method follows to the letter."""

    def tell(name: str, method: str, config: Mapping[str, Any]) -> str:
        if fidelity_of(method) is None:
            return f"{name}: follows no paper."
        items = fidelity(run, name)["items"]
        same = sum(i["we_do"] == SAME for i in items)
        told = (
            f"{len(items)} items of its paper are listed with what was done, {same} of them just as it says"
        )
        return f"{name}: {told}.{except_as_set(run, name)}"

    return _of_each(run, tell)


def code(run: RunFiles) -> str:
    """Which code made the run."""
    return f"GlioLens {run.about('software', 'gliolens')}, Apache-2.0."


def research_only(run: RunFiles) -> str:
    """What the run may be used for."""
    return NOTICE
