"""Each network trained once on the same patients and scored on the same others: outlines, and every answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from gliolens.io.store import write_text
from gliolens.loader import Cases
from gliolens.method import Run
from gliolens.methods import mts_unet
from gliolens.outline_scores import outline_rows
from gliolens.papers.farahani2025.networks import Network
from gliolens.progress import say
from gliolens.protocol import Entrant, answer_row, read_answers
from gliolens.stats.segmentation import SEGMENTATION_SCORES
from gliolens.tasks import Task, task_of

METHOD: Final = "mts-unet"


@dataclass(frozen=True, eq=False)
class Trial:
    """What a network told of the patients tested.

    Attributes:
        name: of the network.
        answers: for each target one row a case whose class is known; see `protocol.answer_rows`.
        outlines: scores of its outlines, one row a case and region.
    """

    name: str
    answers: Mapping[str, pd.DataFrame]
    outlines: pd.DataFrame

    def scored(self, target: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Whether each case is of the target's last class (n,), its probability (n,), and the patients.

        The probability is divided by the share that the training put into it, so that folds can be pooled.
        """
        table = self.answers[target]
        positive = [c for c in map(str, table) if c.startswith("p_")][-1].removeprefix("p_")
        p, prior = (table[f"{what}_{positive}"].to_numpy(float) for what in ("p", "prior"))
        ratio = p / prior / (p / prior + (1 - p) / (1 - prior))
        return np.array(table["truth"] == positive), ratio, list(table["patient"])


def try_network(network: Network, train: Cases, test: Cases, run: Run, tasks: Sequence[Task]) -> Trial:
    """Train a network, or read what an earlier call kept of it.

    Args:
        network: which.
        train: patients to learn from; `run.others` are too.
        test: patients to score.
        run: `networks/NAME` in its folder keeps answers and outlines; and the model of those that are drawn.
        tasks: what is asked.
    """
    folder = run.folder / "networks" / network.folder
    answered = {task.target: folder / f"{task.target}.csv" for task in tasks if task.target in network.tells}
    if not (folder / "outlines.csv").is_file():
        say(f"network: {network.name}")
        _train(network, train, test, replace(run, folder=folder), [t for t in tasks if t.target in answered])
    outlines = pd.read_csv(folder / "outlines.csv", dtype={"case": str, "patient": str}, keep_default_na=False,
                           na_values={key: [""] for key in SEGMENTATION_SCORES})  # fmt: skip
    return Trial(
        network.name, {t: read_answers(file) for t, file in answered.items() if file.is_file()}, outlines
    )


def _train(network: Network, train: Cases, test: Cases, run: Run, tasks: Sequence[Task]) -> None:
    taught = [
        task
        for task in tasks
        if task_of(task.target, train.rows) == task_of(task.target, train.rows, task.classes)
    ]
    mine = replace(run, target=taught[0].target, classes=taught[0].classes) if taught else run
    model: Any = mts_unet.fit(train, network.config, mine)
    model.save(run.folder / "model")
    entrant = Entrant(network.name, METHOD, network.config)
    told = {
        row.case: model.answer(row, ready)
        for row, ready in zip(test.rows, mts_unet.ready(test, network.config, run.cache), strict=True)
    }
    for task in (t for t in tasks if t.target in (model.target, *model.also)):
        asked = replace(model, target=task.target)
        rows = [
            answer_row(entrant, row, told[row.case], task.target, asked.classes, asked.prior)
            for row in test.rows
            if row.targets.get(task.target) in asked.classes
        ]
        if rows:
            write_text(run.folder / f"{task.target}.csv", pd.DataFrame(rows).to_csv(index=False))
    drawn: list[dict[str, Any]] = []
    for row in test.rows:
        drawn += outline_rows(
            network.name, row, told[row.case].labels, drawn_scheme=told[row.case].labels_scheme
        )
    write_text(run.folder / "outlines.csv", pd.DataFrame(drawn).to_csv(index=False))


def joined(name: str, trials: Sequence[Trial]) -> Trial:
    """What several networks told of different patients, as one."""
    targets = dict.fromkeys(t for trial in trials for t in trial.answers)
    answers = {
        t: pd.concat([trial.answers[t] for trial in trials if t in trial.answers], ignore_index=True)
        for t in targets
    }
    outlines = pd.concat([trial.outlines for trial in trials], ignore_index=True)
    return Trial(name, answers, outlines.assign(method=name))
