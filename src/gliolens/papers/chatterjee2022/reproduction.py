"""Chatterjee et al. 2022 (spatio-spatial networks): six networks, three folds of 7 to 3, on any cohort.

Everybody shows the same series; `--set healthy=t1` shows T1 of the healthy in the place of T1 with contrast, as
published. What the third class is worth is asked of two controls (`free`). Pretrained networks start from Kinetics-400,
fetched once by torchvision; at the scale `demo` from simulated tumours, and nothing is fetched (`--set films=...`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS, ceiling_rows, read_truth
from gliolens.cohorts.splits import holdout, write_split
from gliolens.encoders.kinetics import TORCHVISION, kinetics_network
from gliolens.errors import ConfigError
from gliolens.io.store import file_hash, read_json, write_json
from gliolens.io.tables import read_cohort
from gliolens.labels import HEALTHY
from gliolens.loader import Cases, fingerprint
from gliolens.method import Run, changed
from gliolens.methods.spatio_spatial import Config, identity, ready
from gliolens.nn.video import Kind
from gliolens.papers.chatterjee2022.free import BRIGHT, free_table, told_by_brightness, verdict
from gliolens.papers.chatterjee2022.literature import LITERATURE, literature_table
from gliolens.papers.chatterjee2022.networks import NAMES, PRETRAINED, SOUND, Network, networks
from gliolens.papers.chatterjee2022.page import parameters, write_page
from gliolens.papers.chatterjee2022.tables import Row, f1_table, heat_table
from gliolens.papers.headline import Headline, interval_of, row_of
from gliolens.papers.kept import Reproduced, check_folder, plain
from gliolens.pretraining import SHOWN, pretrain, simulated, tissues_in
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant, compete, controls, score_beside_ceilings
from gliolens.usable import common_series, some_without_tumour, usable_cases

METHOD: Final = "spatio-spatial"
FOLDS: Final = 3
TEST_SHARE: Final = 0.3
SET_HERE: Final = frozenset({"network", "weights", "sees", "distortion", "series", "time"})
"""Settings that the tables vary, or that hold for all of them."""
MASK: Final = ", only where the brain is"
"""Behind the name of a network that sees nothing else."""
HEAVY: Final = "MC3, heavy augmentation"
PRETRAINING: Final = {"paper": (400, 20), "demo": (96, 5)}
"""Simulated patients and epochs to pretrain with, by scale."""
OTHER_PATIENTS: Final = 20_220_127
"""Added to the seed: a simulated cohort's own patients are not to be learnt from."""


def reproduce(
    cohort: Path, out: Path, *, target: str = "grade", scale: str = "paper", seed: int = 0,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Reproduced:  # fmt: skip
    """Train the six networks three times on seven tenths of the patients, and score them on the others.

    Args:
        cohort: the cohort table; the healthy count where the target is `grade`.
        out: `report.html`, `results.json`, `splits-*.json`, and all answers, so that a stopped run goes on.
        target: what to tell.
        scale: `paper`, or `demo` for minutes on two cores.
        seed: of every random choice.
        settings: of the method, in place of those of the `paper` preset; and `healthy`, `same` or `t1`, and `films`,
            `kinetics`, `simulated`, or a folder with a file for each network (`r3d.safetensors`, ...).

    Raises:
        CohortError: too few usable cases.
        ConfigError: the folder holds a reproduction with other settings, or a setting is one that is varied here.
    """
    rows = read_cohort(cohort)
    asked = dict(settings)
    healthy = asked.pop("healthy", "same")
    films = asked.pop("films", "simulated" if scale == "demo" else "kinetics")
    if varied := sorted(SET_HERE & set(asked)):
        raise ConfigError(f"{', '.join(varied)}: every one of these is varied or fixed here; leave them out")
    if healthy not in ("same", "t1"):
        raise ConfigError(f"healthy is {healthy!r}; expected same or t1")
    rows = as_published(rows) if healthy == "t1" else rows
    config: Config = changed(Config.preset("paper").scaled(scale), asked)
    config = replace(config, series=_series(rows, target))
    told = {"cohort": file_hash(cohort), "target": target, "seed": seed, "healthy": healthy, "films": films}
    check_folder(out, {**told, "settings": asdict(config)})
    found = usable_cases(
        rows, target=target, series=config.series, cache=out / "cache", need_mask=False, learning=False,
        tick=Counter("reading cases"),
        entrants=[Entrant("brain", METHOD, config)],
    )  # fmt: skip
    used = {row.case: fingerprint(row) for row in found.cases.rows}
    check_folder(out, {"cases": used, "version": identity(config)})
    run = Run(target, found.classes, out, out / "cache", seed)
    sides = folds_of(found.cases, target, seed, out)
    mended = changed(Config.preset("sound").scaled(scale), asked)
    every = networks(config, mended, _films(films, config, run, scale))
    answers = {network.name: answers_of(network, sides, run) for network in every}
    results, said = _results(answers, config, sides, run, cohort)
    write_json(
        out / "results.json",
        {**plain(results), "verdict": said, "left out": found.left_out, "software": software()},
    )
    about = {
        "series": ", ".join(config.series),
        "films": films,
        "healthy": healthy,
        "epochs": str(config.epochs),
    }
    write_page(out, results, answers, found.classes, about, said)
    return Reproduced(out, results, found.failures)


def headlines(folder: Path) -> list[Headline]:
    """Accuracy and AUC of the pretrained MC3, from a finished folder."""
    told = read_json(folder / "results.json")
    classes = [name for name in told["patients"][0] if name not in ("fold", "")]
    names = (f"{PRETRAINED}MC3", f"{PRETRAINED}{SOUND}")
    published = next(float(p.accuracy) for p in LITERATURE if p.with_healthy)
    how = (
        "as published, MC3 from pretrained weights; soundly, with the sound preset's scaling, rate and augmentation. "
        "Every case shows the same series either way, unless settings say otherwise."
    )
    here, soundly = (interval_of(row_of(told["literature"], "", f"here: {n}").get("accuracy")) for n in names)
    auc, sound_auc, age = (
        interval_of(row_of(told["controls"], "", name).get("AUC")) for name in (*names, "age and sex")
    )
    what = f"AUC, {' and '.join(classes)}, first fold"
    lines = [Headline(what, None, auc, sound_auc, age, f"{how} Age alone: with sex.", chance=0.5)]
    if told["literature"]:
        healthy = HEALTHY in classes
        lines.insert(0, Headline(
            f"accuracy, {' and '.join(classes)}", published if healthy else None, here, soundly,
            "\N{EM DASH}, of age the AUC is known, next line", how, more=told["verdict"] if healthy else "",
        ))  # fmt: skip
    return lines


def _series(rows: Sequence[CaseRow], target: str) -> tuple[str, ...]:
    """T1 with contrast as published; without it, the first series that all share."""
    common = common_series(rows, target, need_mask=False)
    if "t1ce" in common:
        return ("t1ce",)
    say(f"T1 with contrast is not there for all: {common[0]} is shown")
    return common[:1]


def _films(films: str, config: Config, run: Run, scale: str) -> dict[Kind, str]:
    """What each pretrained network starts from."""
    if films != "simulated":
        named = {k: films if films == TORCHVISION else str(Path(films) / f"{k}.safetensors") for k in NAMES}
        for kind, weights in named.items():  # what is missing is said before anything is trained
            kinetics_network(kind, weights, offline=config.offline)
        return named
    patients, epochs = PRETRAINING[scale]
    folder = run.folder / "films"
    cases = simulated(folder / "patients", patients, config.voxel_mm, run.seed + OTHER_PATIENTS)
    volumes = ready(cases, replace(config, series=SHOWN), run.cache, Counter("reading simulated patients"))
    recipe = f"tissues {config.voxels} {config.voxel_mm}"
    tissues = cases.prepared(lambda c: tissues_in(c, config.voxels, config.voxel_mm), recipe, run.cache)
    return {
        kind: str(
            pretrain(kind, volumes, tissues, folder / f"{kind}.safetensors", epochs=epochs, seed=run.seed)
        )
        for kind in NAMES
    }


def _results(
    answers: Mapping[str, Sequence[pd.DataFrame]], config: Config, sides: Sequence[tuple[Cases, Cases]], run: Run,
    cohort: Path,
) -> tuple[dict[str, list[Row]], str]:  # fmt: skip
    heavy = answers_of(Network(HEAVY, replace(config, network="mc3", distortion="heavy")), sides, run)
    results: dict[str, list[Row]] = {
        "patients": _patients(sides, run),
        "parameters": parameters(),
        "f1": f1_table({**answers, **_ceilings(answers, run, cohort)}, run.classes, run.seed),
        "scores": heat_table(answers, run.classes),
        "distortion": f1_table({"MC3": answers["MC3"], HEAVY: heavy}, run.classes, run.seed),
        "literature": literature_table(answers, run.seed) if {"LGG", "HGG"} <= set(run.classes) else [],
        "controls": _controls(answers, sides, run, cohort),
        "free": [],
    }
    if HEALTHY not in run.classes:
        return results, ""
    blind = [Network(name + MASK, replace(config, network=kind, sees="mask")) for kind, name in NAMES.items()]
    masks = {network.name: answers_of(network, sides, run) for network in blind}
    bright = [told_by_brightness(train, test, run) for train, test in sides]
    results["free"] = free_table(answers, masks, bright, run.classes)
    return results, verdict(results["free"], (*masks, BRIGHT))


def _ceilings(
    answers: Mapping[str, Sequence[pd.DataFrame]], run: Run, cohort: Path
) -> dict[str, list[pd.DataFrame]]:
    """What the best of all methods would decide, fold by fold; nothing where the cohort is a real one."""
    folds = next(iter(answers.values()))
    rows = [
        CaseRow(case, case, targets={run.target: c})
        for f in folds
        for case, c in zip(f["case"], f["truth"], strict=True)
    ]
    truth = read_truth(cohort, rows, run.target)
    if truth is None:
        return {}
    told = [ceiling_rows(truth, fold, run.target, run.classes) for fold in folds]
    return {name: [t[t["method"] == name] for t in told] for name in CEILINGS}


def _controls(
    answers: Mapping[str, Sequence[pd.DataFrame]],
    sides: Sequence[tuple[Cases, Cases]],
    run: Run,
    cohort: Path,
) -> list[Row]:
    """Networks of the first fold beside controls that need no mask, and the ceilings of a simulated cohort."""
    train, test = sides[0]
    kept = [folds[0] for folds in answers.values()]
    healthy = some_without_tumour([*train.rows, *test.rows], run.target)
    for entrant in controls(healthy=healthy):
        mine = replace(run, folder=run.folder / "controls" / entrant.folder)
        kept.append(compete(entrant, train, test, mine))
    truth = read_truth(cohort, test.rows, run.target)
    _, table = score_beside_ceilings(
        pd.concat(kept, ignore_index=True), truth, run.target, run.classes, seed=run.seed, healthy=healthy
    )
    return [
        {"": row["method"], "AUC": row["auc"], "balanced accuracy": row["balanced_accuracy"]} for row in table
    ]


def _patients(sides: Sequence[tuple[Cases, Cases]], run: Run) -> list[Row]:
    return [
        {"fold": k + 1, "": side, **{c: cases.classes(run.target).count(c) for c in run.classes}}
        for k, pair in enumerate(sides)
        for side, cases in zip(("training", "test"), pair, strict=True)
    ]


def folds_of(cases: Cases, target: str, seed: int, out: Path) -> list[tuple[Cases, Cases]]:
    """Three divisions of 7 to 3 by patient, each drawn anew."""
    sides = []
    for k in range(FOLDS):
        division = holdout(cases.rows, target, test=TEST_SHARE, seed=seed + k)
        write_split(out / f"splits-{k + 1}.json", division)
        sides.append((cases.only(division.folds[0].train), cases.only(division.folds[0].test)))
    return sides


def as_published(rows: Sequence[CaseRow]) -> tuple[CaseRow, ...]:
    """The healthy show T1 in the place of T1 with contrast: the leak of the published design."""
    return tuple(
        replace(row, files={**row.files, "t1ce": row.files["t1"]})
        if row.targets.get("grade") == HEALTHY and "t1" in row.files
        else row
        for row in rows
    )


def answers_of(network: Network, sides: Sequence[tuple[Cases, Cases]], run: Run) -> list[pd.DataFrame]:
    """A network's answers, one table a fold."""
    say(f"network: {network.name}")
    entrant = Entrant(network.name, METHOD, network.config)
    return [
        compete(
            entrant,
            train,
            test,
            replace(run, folder=run.folder / "networks" / network.folder / f"fold-{k + 1}"),
        )
        for k, (train, test) in enumerate(sides)
    ]
