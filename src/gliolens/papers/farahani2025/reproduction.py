"""Farahani et al. 2025 (multi-task Swin UNETR): Dice, the three AUCs, and what each part adds, on any cohort.

The patients are divided once, 7 to 3 (how the paper divided its own is not known), and every network learns from the
same ones. What is compared with the full network is compared on the same cases (DeLong), and p-values are corrected for
their number (Holm). Leave-one-site-out follows, since published cohorts of several releases tell their sites.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from gliolens.about import software
from gliolens.case import CaseRow
from gliolens.cohorts.phantom.ceiling import CEILINGS, read_truth
from gliolens.cohorts.splits import Split, holdout, leave_one_site_out, write_split
from gliolens.errors import CohortError, ConfigError
from gliolens.io.store import file_hash, read_json, write_json
from gliolens.io.tables import read_cohort
from gliolens.loader import Cases, fingerprint
from gliolens.method import Run, changed
from gliolens.methods import controls as simple
from gliolens.methods.mts_unet import Config, identity
from gliolens.methods.shape_resnet import Config as ResNet
from gliolens.papers.farahani2025.mismatch import mismatch_table
from gliolens.papers.farahani2025.networks import FULL, SOUND, Network, networks
from gliolens.papers.farahani2025.page import write_page
from gliolens.papers.farahani2025.tables import ablation, baselines, compared, headline, sites
from gliolens.papers.farahani2025.trials import METHOD, Trial, try_network
from gliolens.papers.headline import Headline, interval_of, row_of
from gliolens.papers.kept import Reproduced, check_folder, plain
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant, compete, controls, score_beside_ceilings
from gliolens.tasks import Task, task_of
from gliolens.usable import Usable, common_series, usable_cases

TEST_SHARE: Final = 0.3
SET_HERE: Final = frozenset(
    {
        "series",
        "focus",
        "mismatch",
        "composition",
        "drop",
        "balance",
        "coherent",
        "vary",
        "head_rate",
        "task_weight",
        "tasks",
    }
)
"""Settings that the tables vary, or that hold for all of them."""
RESNET: Final = "3-D ResNet"


def reproduce(
    cohort: Path, out: Path, *, target: str = "grade", scale: str = "paper", seed: int = 0,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Reproduced:  # fmt: skip
    """Train every network on seven tenths of the patients and score it on the others; then leave each site out.

    Args:
        cohort: the cohort table.
        out: `report.html`, `results.json`, `splits.json`, `heatmaps/`, and the networks, so that a stopped run goes on.
        target: what the division is stratified by, and must be known of the cases tested; all targets are told.
        scale: `paper`, or `demo` for minutes on two cores.
        seed: of every random choice.
        settings: of the method, in place of those of the `paper` preset.

    Raises:
        CohortError: too few usable cases.
        ConfigError: no target has two classes, the folder holds a reproduction with other settings, or a setting is one
            that is varied here.
    """
    rows = read_cohort(cohort)
    if varied := sorted(SET_HERE & set(settings)):
        raise ConfigError(f"{', '.join(varied)}: every one of these is varied or fixed here; leave them out")
    config = _config(scale, settings, common_series(rows, target))
    check_folder(
        out, {"cohort": file_hash(cohort), "target": target, "seed": seed, "settings": asdict(config)}
    )
    resnet = _resnet(scale, config.series)
    found = usable_cases(
        rows, target=target, series=config.series, cache=out / "cache", tick=Counter("reading cases"),
        entrants=[Entrant(METHOD, METHOD, config), Entrant(RESNET, "shape-resnet", resnet), *controls()],
    )  # fmt: skip
    used = {
        row.case: [fingerprint(row), sorted(row.targets.items())]
        for row in (*found.cases.rows, *found.others)
    }
    check_folder(out, {"cases": used, "version": identity(config)})
    run = Run(target, found.classes, out, out / "cache", seed)
    division = holdout(found.cases.rows, target, test=TEST_SHARE, seed=seed)
    write_split(out / "splits.json", division)
    sides = _sides(division, 0, found)
    tasks = _tasks(config, target, *sides)
    mine = replace(run, others=found.others_beside(division, 0, rows))
    every = networks(config, tuple(task.target for task in tasks))
    trials = {n.name: try_network(n, *sides, mine, tasks) for n in every}
    others = {task.target: _beside(task, sides, run, resnet, cohort) for task in tasks}
    away = _away(every[0].config, found, rows, run, tasks)
    results = _results(every, trials, others, away, tasks, sides, found.cases, seed)
    write_json(out / "results.json", {**plain(results), "left out": found.left_out, "software": software()})
    write_page(run, results, sides[1], config, len(mine.others))
    say(f"{len(sides[0])} cases to learn from, {len(sides[1])} to test")
    return Reproduced(out, results, found.failures)


def headlines(folder: Path) -> list[Headline]:
    """Dice of the whole tumour and the AUC of each target, from a finished folder."""
    told = read_json(folder / "results.json")
    age = row_of(told["baselines"], "", simple.BASELINES["age"])
    lines = []
    for row in told["headline"]:
        what, is_dice = row[""], row[""].startswith("Dice")
        if is_dice and not row["published"]:
            continue
        lines.append(Headline(
            what, float(row["published"].split()[0]) if row["published"] else None,
            interval_of(row[FULL]), interval_of(row[SOUND]),
            "\N{EM DASH}, age outlines nothing" if is_dice else interval_of(age.get(what)),
            "as published, the network as the paper has it; soundly, features averaged inside the tumour found, heads "
            "told its composition, classes weighted, answers that can be true together. The same patients.",
            chance=None if is_dice else 0.5,
        ))  # fmt: skip
    return lines


def _results(
    every: Sequence[Network],
    trials: Mapping[str, Trial],
    others: Mapping[str, pd.DataFrame],
    away: Mapping[str, Trial] | str,
    tasks: Sequence[Task],
    sides: tuple[Cases, Cases],
    cases: Cases,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    return {
        "headline": headline(trials, (FULL, SOUND), tasks, seed),
        "ablation": ablation(every, trials, tasks, seed),
        "compared": compared(every, trials, others, tasks),
        "baselines": baselines(others, trials, tasks, seed),
        "sites": sites(trials[FULL], away, tasks, seed),
        "mismatch": mismatch_table(cases),
        "patients": [
            _counts(name, side, tasks) for name, side in zip(("training", "test"), sides, strict=True)
        ],
    }


def _config(scale: str, settings: Mapping[str, Any], series: tuple[str, ...]) -> Config:
    """The `paper` preset for the cohort's series: without T2 or FLAIR there is no CMD."""
    config: Config = changed(Config.preset("paper").scaled(scale), settings)
    if {"t2", "flair"} <= set(series):
        return replace(config, series=series)
    say(f"series {', '.join(series)}: CMD compares T2 with FLAIR and is left out of every network")
    return replace(config, series=series, mismatch="none")


def _resnet(scale: str, series: tuple[str, ...]) -> ResNet:
    """The 3-D ResNet of the baselines: of Zeng et al. 2024, seeing the whole brain."""
    config = ResNet.preset("paper").scaled(scale)
    return replace(config, series=series, dims=3, join="none", sees="brain", batch=4)


def _sides(division: Split, fold: int, found: Usable) -> tuple[Cases, Cases]:
    train, test = division.folds[fold].train, division.folds[fold].test
    return found.cases.only(train), found.cases.only(test)


def _tasks(config: Config, target: str, train: Cases, test: Cases) -> list[Task]:
    """What the patients can teach and test: targets of two classes that both sides show."""
    other = {"grade": "who_grade", "who_grade": "grade"}.get(target)
    asked = dict.fromkeys([*(t for t in config.tasks if t != other), target])
    found = [task for t in asked if (task := task_of(t, train.rows)) is not None and len(task.classes) == 2]
    shown = [task for task in found if {task.truth(row) for row in test.rows} >= {0, 1}]
    if untold := sorted(set(asked) - {task.target for task in shown}):
        say(
            f"{', '.join(untold)}: not told, since one side of the split does not show two classes, or there are more"
        )
    if not shown:
        raise ConfigError(
            f"{target}: no target of two classes is known on both sides of the split; give the cohort's table more "
            "labels. Of WHO grades, gliolens cohort index --hgg 3 4 makes LGG and HGG"
        )
    return shown


def _beside(task: Task, sides: tuple[Cases, Cases], run: Run, resnet: ResNet, cohort: Path) -> pd.DataFrame:
    """Answers of the 3-D ResNet, the baselines, every control and the ceilings to one task."""
    train, test = (_known(cases, task) for cases in sides)
    folder = run.folder / "beside" / task.target
    entrants = [
        Entrant(RESNET, "shape-resnet", resnet),
        *(Entrant(title, "controls", simple.Config(kind=kind)) for kind, title in simple.BASELINES.items()),
        *controls(),
    ]
    answers = []
    for entrant in entrants:
        say(f"{task.target}: {entrant.name}")
        mine = Run(task.target, task.classes, folder / entrant.folder, run.cache, run.seed)
        answers.append(compete(entrant, train, test, mine))
    truth = read_truth(cohort, test.rows, task.target)
    whole, _ = score_beside_ceilings(
        pd.concat(answers, ignore_index=True), truth, task.target, task.classes, seed=run.seed
    )
    return whole.assign(ceiling=whole["method"].isin(list(CEILINGS)))


def _known(cases: Cases, task: Task) -> Cases:
    return replace(cases, rows=tuple(row for row in cases.rows if task.truth(row) >= 0))


def _away(
    config: Config, found: Usable, rows: Sequence[CaseRow], run: Run, tasks: Sequence[Task]
) -> dict[str, Trial] | str:
    """The full network on each site, having learnt from all others; why not, where the cohort does not allow it."""
    try:
        division = leave_one_site_out(found.cases.rows, run.target)
    except CohortError as error:
        say(f"no site is left out: {error}")
        return str(error)
    write_split(run.folder / "splits-sites.json", division)
    full, out = networks(config, tuple(task.target for task in tasks))[0], {}
    for k in range(len(division.folds)):
        train, test = _sides(division, k, found)
        site = str(test.rows[0].site)
        mine = replace(run, folder=run.folder / "sites" / site, others=found.others_beside(division, k, rows))
        say(f"leaving out {site}")
        out[site] = try_network(full, train, test, mine, tasks)
    return out


def _counts(side: str, cases: Cases, tasks: Sequence[Task]) -> dict[str, Any]:
    told = {
        f"{c}": sum(row.targets.get(task.target) == c for row in cases.rows)
        for task in tasks
        for c in task.classes
    }
    return {"": side, "patients": len({row.patient for row in cases.rows}), **told}
