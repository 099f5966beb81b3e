"""Zeng et al. 2024 (ResNet-50 with explicit tumour size): Tables 1 to 3 and Figures 3 to 6, on any cohort.

The paper divides its patients 7 to 3 once and picks each model on the patients it is scored on. Here the last epoch is
scored; what the best epoch on the test patients would have scored stands beside it, and so does the AUC over single
slices, since the published numbers do not say which of the three they are. Every control is scored on the same
patients.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
import torch

from gliolens.about import software
from gliolens.cohorts.phantom.ceiling import Truth, read_truth
from gliolens.cohorts.splits import holdout, write_split
from gliolens.errors import CohortError, ConfigError
from gliolens.io.store import file_hash, read_json, whole_file, write_json
from gliolens.io.tables import read_cohort
from gliolens.loader import Cases, fingerprint
from gliolens.method import Run, changed
from gliolens.methods.shape_resnet import IMAGE, VERSION, Config, ready
from gliolens.papers.headline import Headline, interval_of, row_of
from gliolens.papers.kept import Reproduced, check_folder, plain
from gliolens.papers.zeng2024.cost import costs
from gliolens.papers.zeng2024.maps import mean_over, measured, shown
from gliolens.papers.zeng2024.networks import BRAIN, FAIR, GATED, MAIN, TABLES, VOLUME, networks, rows_of
from gliolens.papers.zeng2024.page import write_page
from gliolens.papers.zeng2024.trials import METHOD, Trial, try_network
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant, compete, controls, score_beside_ceilings
from gliolens.stats.intervals import delong_difference
from gliolens.survival import survival
from gliolens.usable import common_series, usable_cases

TEST_SHARE: Final = 0.3
SET_HERE: Final = frozenset(
    {"series", "sees", "dims", "join", "shift", "rotate", "flip", "noise", "balance", "magnify_rare",
     "choose_epochs"}
)  # fmt: skip
"""Settings that the tables vary, or that hold for all of them."""


def reproduce(
    cohort: Path, out: Path, *, target: str = "grade", scale: str = "paper", seed: int = 0,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Reproduced:  # fmt: skip
    """Train every network of the paper on seven tenths of the patients and score it on the others.

    Args:
        cohort: the cohort table.
        out: `report.html`, `results.json`, `figures/`, `heatmaps/`, `survival/`, `splits.json`, and the networks, so
            that a stopped run goes on.
        target: what to tell; of two classes.
        scale: `paper`, or `demo` for minutes on two cores.
        seed: of every random choice.
        settings: of the method, in place of those of the `paper` preset.

    Raises:
        CohortError: too few usable cases.
        ConfigError: the target has more than two classes here, the folder holds a reproduction with other settings, or
            a setting is one that is varied here.
    """
    rows = read_cohort(cohort)
    if varied := sorted(SET_HERE & set(settings)):
        raise ConfigError(f"{', '.join(varied)}: every one of these is varied or fixed here; leave them out")
    classes = {row.targets[target] for row in rows if target in row.targets} - {"healthy"}
    if len(classes) != 2:
        raise ConfigError(
            f"{target}: found the classes {', '.join(sorted(classes)) or 'none'}; the paper tells two. Of WHO grades, "
            "gliolens cohort index --hgg 3 4 makes LGG and HGG"
        )
    asked: Config = changed(Config.preset("paper").scaled(scale), settings)
    config = replace(asked, series=common_series(rows, target))
    told = {"cohort": file_hash(cohort), "target": target, "seed": seed, "settings": asdict(config)}
    check_folder(out, told)
    every = networks(config, target)
    found = usable_cases(
        rows, target=target, series=config.series, cache=out / "cache", tick=Counter("reading cases"),
        entrants=[*(Entrant(n.name, METHOD, n.config) for n in every), *controls()],
    )  # fmt: skip
    used = {row.case: fingerprint(row) for row in found.cases.rows}
    check_folder(out, {"cases": used, "version": VERSION})
    run = Run(target, found.classes, out, out / "cache", seed)
    division = holdout(found.cases.rows, target, test=TEST_SHARE, seed=seed)
    write_split(out / "splits.json", division)
    train, test = (found.cases.only(side) for side in (division.folds[0].train, division.folds[0].test))
    truth = read_truth(cohort, found.cases.rows, target)
    trials = {n.name: try_network(n, train, test, run) for n in every}
    results = _results((train, test), trials, truth, run)
    pictures = shown(_seeing(trials), test, run, out)
    _survive(cohort, run)
    excluded = {"left out": found.left_out, "refused": found.failures}
    write_json(out / "results.json", {**plain(results), **excluded, "software": software()})
    write_page(run, results, trials, pictures, config, excluded)
    say(f"{len(train)} cases to learn from, {len(test)} to test; {sum(map(len, excluded.values()))} excluded")
    return Reproduced(out, results, found.failures)


def headlines(folder: Path) -> list[Headline]:
    """The AUC of all series with shape, from a finished folder."""
    told = read_json(folder / "results.json")
    main, fair = row_of(told["1B"], "network", MAIN), row_of(told["ours"], "network", FAIR)
    return [
        Headline(
            f"AUC, {MAIN}", main.get("published AUC"), main.get("AUC, best epoch", "\N{EM DASH}, not trained"),
            interval_of(fair.get("AUC")), interval_of(row_of(told["controls"], "", "age and sex").get("AUC")),
            "as published, the epoch that is best on the patients tested, and slices of the rarer class alone enlarged "
            "in training; soundly, the last epoch, and all classes enlarged alike. Age alone: with sex.",
            chance=0.5,
        )
    ]  # fmt: skip


def _results(
    sides: tuple[Cases, Cases], trials: Mapping[str, Trial], truth: Truth | None, run: Run
) -> dict[str, list[dict[str, Any]]]:
    (train, test), every = sides, [trial.network for trial in trials.values()]
    results: dict[str, list[dict[str, Any]]] = {
        table: [trials[n.name].scores(run.seed) for n in rows_of(table, every)] for table in TABLES
    }
    results["controls"] = _controls(train, test, trials[MAIN], truth, run)
    results["share"] = [_share(trials[name], test, run) for name in (MAIN, GATED)]
    results["gate"] = [_gain(trials[GATED], trials[MAIN])]
    say("measuring heatmaps")
    results["maps"] = measured(_seeing(trials), test, run)
    results["cost"] = _costs(trials, train, run)
    results["patients"] = [_counts(side, cases, run) for side, cases in (("training", train), ("test", test))]
    return results


def _seeing(trials: Mapping[str, Trial]) -> dict[str, Trial]:
    """The networks whose heatmaps Figure 5 shows."""
    return {"tumour only": trials[MAIN], "whole brain": trials[BRAIN]}


def _controls(train: Cases, test: Cases, main: Trial, truth: Truth | None, run: Run) -> list[dict[str, Any]]:
    """Every control on the same patients and, of a simulated cohort, what the best of all methods can reach."""
    answers = [main.answers]
    for control in controls():
        mine = replace(run, folder=run.folder / "controls" / control.folder)
        answers.append(compete(control, train, test, mine))
    _, table = score_beside_ceilings(
        pd.concat(answers, ignore_index=True), truth, run.target, run.classes, seed=run.seed
    )
    return [
        {"": row["method"], "AUC": row["auc"], "APCA": row["balanced_accuracy"], "SEN": row["sensitivity"],
         "SPE": row["specificity"]}
        for row in table
    ]  # fmt: skip


@torch.no_grad()
def _share(trial: Trial, test: Cases, run: Run) -> dict[str, Any]:
    """The gate's mean share of the shape, and the shape's of the logit that decides; averaged over test cases."""
    model, gates, parts = trial.model(), [], []
    for arrays in ready(test, trial.network.config, run.cache):
        images = torch.from_numpy(arrays["slices"].astype(np.float32))
        z = torch.from_numpy(model.scaling(arrays["shape"][None])).expand(len(images), -1)
        gates.append(float(model.net.share_of_shape(images, z).mean()))
        told = model.evidence(arrays, int(model.probabilities(arrays).argmax()))
        image = abs(told.pop(IMAGE))
        parts.append(abs(sum(told.values())) / (image + abs(sum(told.values()))))
    who = [row.patient for row in test.rows]
    return {
        "network": trial.network.name, "gate's share of the shape": mean_over(gates, who, run.seed),
        "least": min(gates), "most": max(gates), "shape's share of the logit": mean_over(parts, who, run.seed),
    }  # fmt: skip


def _gain(gated: Trial, fixed: Trial) -> dict[str, Any]:
    """By how much the gate's AUC is above that of the fixed network, on the same cases."""
    truth, p = gated.positive()
    found = delong_difference(truth, p, fixed.positive()[1])
    return {"": "AUC, learned share less fixed", "difference": found.interval, "p": found.p_value}


def _costs(trials: Mapping[str, Trial], train: Cases, run: Run) -> list[dict[str, Any]]:
    kept = run.folder / "cost.json"
    if not kept.is_file():
        say("timing an epoch of slices and of volumes")
        configs = [trials[name].network.config for name in (MAIN, VOLUME)]
        write_json(kept, {"rows": costs(configs[0], configs[1], train, run)})
    return list(read_json(kept)["rows"])


def _counts(side: str, cases: Cases, run: Run) -> dict[str, Any]:
    classes = cases.classes(run.target)
    return {
        "": side,
        "patients": len({row.patient for row in cases.rows}),
        **{c: classes.count(c) for c in run.classes},
    }


def _survive(cohort: Path, run: Run) -> None:
    """Figure 6 in its own folder; why not, where the cohort does not tell who lived how long."""
    try:
        survival(cohort, run.folder / "survival", by=run.target)
    except (CohortError, ConfigError) as error:
        say(f"no survival curves: {error}")
        with whole_file(run.folder / "survival" / "missing.txt") as unfinished:
            unfinished.write_text(f"{error}\n", encoding="utf-8")
