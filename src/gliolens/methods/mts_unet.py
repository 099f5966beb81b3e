"""One Swin UNETR outlines the tumour and tells IDH, 1p/19q and grade at once.

Farahani et al. 2025 (arXiv 2503.06828). Of a volume x (C, E, E, E) a Swin UNETR gives logits of tissues and five
stages h_1 ... h_5; with p the probability of tumour, TAFE (`nn.tumour_focus`) looks at the stages and CMD
(`nn.mismatch`) at T2 against FLAIR; a head a task joins what they tell (`nn.multitask`). The loss is

    L = Dice + cross-entropy of tissues + sum over tasks of cross-entropy,

each part over the cases of which it is known: masks, classes and series may be missing anywhere.

`paper`  cubes of 96 mm at 1 mm around the tumour; TAFE and CMD as the authors' public code, over the whole cube.
`sound`  voxels of 2 mm, so that one cube holds the brain; all stages, and CMD, averaged inside the tumour found, as the
         abstract promises; the heads are told what the tumour is made of (`nn.composition`); series left out at random;
         classes weighted; answers that can be true together (WHO 2021).
Every difference and guess is listed in docs/methods/mts-unet.md, times and scores in docs/results.md.

    gliolens train mts-unet cohort.csv --target idh --preset sound -o RUN
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning import seed_everything
from torch.utils.data import DataLoader

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.crops import Crops, Draws, brain_volume, check_complete, teaches
from gliolens.cube import drawn_labels, grid_of
from gliolens.encoders.swin_weights import take_swin
from gliolens.errors import ConfigError
from gliolens.io.store import content_hash, file_hash
from gliolens.labels import SERIES, TARGET_TITLES, TARGETS
from gliolens.loader import Arrays, Cases
from gliolens.loop import forget, train
from gliolens.method import Run, changed
from gliolens.multitask import Together
from gliolens.nn.multitask import MultiTaskNet
from gliolens.nn.swin import LEAST_EDGE, Merging
from gliolens.progress import Counter, Tick, say
from gliolens.saved import read_model, write_model
from gliolens.segmenter import TISSUES, TUMOUR_ONLY, Draw, tissue_shares, tissues_of
from gliolens.signs import COMPARED, MISMATCH, mismatch_of
from gliolens.tasks import GRADES, Task, coherent, posteriors, tasks_of
from gliolens.whole_case import Seen, look

VERSION = 2
"""Raised whenever the same weights would answer otherwise."""
PARTS = {"focus": "TAFE", "mismatch": "CMD", "composition": "composition"}
"""What the evidence calls the vectors that the heads are told."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        series: series the network sees, in its order of channels.
        tasks: what is told beside the outline; the run's target always is, in place of another kind of grade.
        voxel_mm: edge of a voxel.
        edge: of the cube, in voxels; a multiple of 32.
        feature_size: channels of the first stage, a multiple of 12.
        window: edge of the windows of attention, in tokens.
        focus: TAFE: the `deepest` stage everywhere, all stages inside the `tumour`, or `none`.
        mismatch: CMD: averaged over the `image`, inside the `tumour`, or `none`.
        composition: whether the heads are told, beside TAFE and CMD, what the tumour found is made of; ours.
        drop: chance that a series is left out at a look in training; where it is 0, every series must be there.
        balance: whether every class weighs the same in training; the shares are put back into the answers.
        coherent: whether the answers are made such that they can be true together.
        vary: whether patients look otherwise at each look; see `crops.Draws`.
        epochs: passes over the patients.
        batch: patients a step.
        rate: highest learning rate of AdamW.
        head_rate: by how much CMD and the heads learn slower than the backbone.
        task_weight: of the tasks' loss beside the outline's; 0 learns the outline alone.
        lean: gradient checkpointing: less memory, more time.
        overlap: share of the cube by which windows overlap where one does not hold the brain.
        weights: a file of a Swin UNETR to start from; see `encoders.swin_weights`.
        weights_series: series of that file's channels, in its order.
        merging: how that file's network merged patches: before MONAI 1.5 otherwise (BrainSegFounder).
    """

    series: tuple[str, ...] = SERIES
    tasks: tuple[str, ...] = ("idh", "codel_1p19q", "grade")
    voxel_mm: float = 2.0
    edge: int = 96
    feature_size: int = 48
    window: int = 7
    focus: Literal["deepest", "tumour", "none"] = "tumour"
    mismatch: Literal["image", "tumour", "none"] = "tumour"
    composition: bool = True
    drop: float = 0.1
    balance: bool = True
    coherent: bool = True
    vary: bool = True
    epochs: int = 100
    batch: int = 2
    rate: float = 1e-4
    head_rate: float = 0.2
    task_weight: float = 1.0
    lean: bool = True
    overlap: float = 0.5
    weights: str | None = None
    weights_series: tuple[str, ...] = ()
    merging: Merging = "since-1.5"

    def __post_init__(self) -> None:
        if self.edge < 2 * LEAST_EDGE or self.edge % LEAST_EDGE or self.feature_size % 12:
            raise ConfigError(
                f"edge is {self.edge} and feature_size {self.feature_size}; expected a multiple of {LEAST_EDGE} from "
                f"{2 * LEAST_EDGE}, and one of 12"
            )
        if (
            not self.series
            or min(self.epochs, self.batch, self.window) < 1
            or min(self.voxel_mm, self.rate) <= 0
        ):
            raise ConfigError(
                "expected one series or more, epochs, batch and window from 1, voxel_mm and rate above 0"
            )
        if not (0 <= self.drop < 1 and 0 <= self.overlap < 1):
            raise ConfigError(f"drop is {self.drop} and overlap {self.overlap}; expected 0 to below 1")
        if wrong := [t for t in self.tasks if t not in TARGETS]:
            raise ConfigError(f"tasks {', '.join(wrong)}; there are {', '.join(TARGETS)}")
        if self.weights is not None and not self.weights_series:
            raise ConfigError(
                "weights without weights_series: name the series of the file's channels, in its order"
            )
        if self.mismatch != "none" and not set(self.series) >= COMPARED:
            raise ConfigError(
                f"series {', '.join(self.series)}; CMD compares t2 and flair: name both, or set mismatch to none"
            )

    @classmethod
    def preset(cls, name: str) -> Self:
        """`paper`: as published. `sound`: its quirks mended.

        Raises:
            ConfigError: another name.
        """
        if name == "sound":
            return cls()
        if name == "paper":
            return cls(
                voxel_mm=1.0, focus="deepest", mismatch="image", composition=False, drop=0.0, balance=False,
                coherent=False, vary=False,
                head_rate=1.0,
            )  # fmt: skip
        raise ConfigError(f"no preset is called {name!r}; there are paper and sound")

    def scaled(self, scale: str) -> Self:
        """`demo`: a feature size of 12 on a cube of 64 voxels of 3 mm, few epochs, for minutes on two cores."""
        if scale == "demo":
            return replace(
                self, voxel_mm=3.0, edge=64, feature_size=12, window=4, epochs=8, rate=2e-3, head_rate=0.2, lean=False
            )  # fmt: skip
        return self


# --- from a case to what the network sees ----------------------------------------------------------------------


def prepare(case: Case, config: Config) -> dict[str, np.ndarray]:
    """The brain of a case as the network sees it; see `crops.brain_volume`.

    Raises:
        CaseError: no series, one without contrast, or one missing where the network has to see all.
    """
    if config.drop == 0:
        check_complete(case.id, case.series, config.series)
    return brain_volume(case, config.series, config.voxel_mm)


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Brain of each case; see `prepare`."""
    recipe = f"mts-unet {content_hash([VERSION, config.series, config.voxel_mm])}"
    for row in cases.rows if config.drop == 0 else ():
        check_complete(row.case, row.files, config.series)
    seen = [
        replace(row, files={s: f for s, f in row.files.items() if s in config.series}) for row in cases.rows
    ]
    asked = replace(cases, rows=tuple(seen), series=(), need_mask=False)
    return asked.prepared(lambda case: prepare(case, config), recipe, cache, tick)


def learns_from(row: CaseRow, config: Config) -> bool:
    """Whether a case whose target or mask is not known can teach something: its outline, or another class."""
    has = [s in row.files for s in config.series]
    told = row.mask is not None or not {*config.tasks, *GRADES}.isdisjoint(row.targets)
    return told and row.targets.get("grade") != "healthy" and (any(has) if config.drop else all(has))


# --- training --------------------------------------------------------------------------------------------------


def identity(config: Config) -> str:
    """What decides an answer beside cases and settings: this version, and the weights that training starts from."""
    if config.weights is None:
        return str(VERSION)
    file = Path(config.weights)
    if not file.is_file():
        raise ConfigError(f"{file}: no such file of weights; name another with --weights")
    return f"{VERSION} {file_hash(file)}"


def fit(cases: Cases, config: Config, run: Run) -> "Model":
    """Train on cases whose target is known, and on the run's others.

    Raises:
        CaseError: a case cannot be read.
        ConfigError, ModelError: the weights to start from are not at hand, or are others.
    """
    rows, prepared = _everyone(cases, config, run)
    tasks = tasks_of(run.target, run.classes, config.tasks, rows)
    masked = [a for a in prepared if a["has_mask"]]
    tissues = tissues_of(masked) if masked else TUMOUR_ONLY
    seed_everything(run.seed, verbose=False)
    net = _network(config, len(tissues), tasks)
    taken = {}
    if config.weights is not None:
        taken = asdict(take_swin(net.backbone, Path(config.weights), config.weights_series, config.series))
        say(f"{taken['taken']} tensors of {taken['file']}; at random: {', '.join((*taken['left'], 'heads'))}")
    net.backbone.expect(tissue_shares(masked, len(tissues)))
    truth = np.array([[task.truth(row) for task in tasks] for row in rows])
    draws = Draws(config.edge, config.vary, config.vary, config.drop)
    crops = Crops(prepared, truth, len(tissues), draws, run.seed)
    batches = DataLoader(crops, config.batch, sampler=Draw(len(crops), run.seed))
    task = _learning(net, tasks, config, config.epochs * len(batches))
    label = f"{', '.join(['outline', *(t.target for t in tasks)])} on {len(crops)} patients, epochs"
    train(task, batches, epochs=config.epochs, folder=run.folder, label=label, seed=run.seed)
    forget(run.folder)
    return Model(run.target, config, net.eval(), tissues, tasks, taken)


def _everyone(cases: Cases, config: Config, run: Run) -> tuple[list[CaseRow], list[Arrays]]:
    """All who are learnt from: the cases, and those of the run's others that can teach this network something."""
    whole = replace(cases, rows=(*cases.rows, *(row for row in run.others if learns_from(row, config))))
    both = list(zip(whole.rows, ready(whole, config, run.cache, Counter("reading cases")), strict=True))
    use = [(row, arrays) for row, arrays in both if teaches(arrays, config.edge)]
    if len(use) < len(both):
        say(f"{len(both) - len(use)} cases without a mask teach nothing: their brain is larger than the cube")
    return [row for row, _ in use], [arrays for _, arrays in use]


def _learning(net: MultiTaskNet, tasks: Sequence[Task], config: Config, steps: int) -> Together:
    return Together(
        net, tasks, steps, rate=config.rate, head_rate=config.head_rate, task_weight=config.task_weight,
        balanced=config.balance,
    )  # fmt: skip


def _network(config: Config, tissues: int, tasks: Sequence[Task]) -> MultiTaskNet:
    return MultiTaskNet(
        config.series, tissues, {task.target: len(task.classes) for task in tasks},
        focus=None if config.focus == "none" else config.focus,
        mismatch=None if config.mismatch == "none" else config.mismatch == "tumour",
        composition=config.composition, feature_size=config.feature_size, window=config.window, merging=config.merging,
        lean=config.lean,
    )  # fmt: skip


# --- the fitted model ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network. It answers several targets; `target` is the one it is asked about."""

    target: str
    config: Config
    net: MultiTaskNet
    tissues: tuple[str, ...]
    tasks: tuple[Task, ...]
    taken: Mapping[str, Any] = field(default_factory=dict)
    draws = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the target."""
        return self._task.classes

    @property
    def prior(self) -> tuple[float, ...]:
        """Class shares of the target, which are in its probabilities."""
        return self._task.shares

    @property
    def _task(self) -> Task:
        return next(task for task in self.tasks if task.target == self.target)

    @property
    def also(self) -> tuple[str, ...]:
        """What it tells beside the target."""
        return tuple(task.target for task in self.tasks if task.target != self.target)

    @property
    def needs(self) -> tuple[str, ...]:
        """Series that a case must have: all, where it learnt from patients with all; else any one will do."""
        return self.config.series if self.config.drop == 0 else ()

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case and outline its tumour; the labels of `ready` are not looked at."""
        return self._answer(row.case, ready, self._look(ready))

    def predict(self, case: Case) -> Prediction:
        """Answer one case, outline its tumour, and say what the parts of the network say by themselves."""
        made = prepare(case, self.config)
        seen = self._look(made)
        answer = self._answer(case.id, made, seen)
        return replace(answer, evidence=self._evidence(seen, answer, case))

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """Where TAFE takes its features, as a share of the most, and CMD's attention, its least possible as 0."""
        seen, maps = self._look(prepare(case, self.config)), {}
        if seen.told.weights is not None:
            weights, affine = seen.map_of(seen.told.weights, blocks=True)
            maps["tafe-weights"] = Volume(weights / weights.max(), affine)
        if seen.told.attention is not None and set(case.series) >= COMPARED:
            attention, affine = seen.map_of(seen.told.attention, blocks=False)
            least = self.net.mismatch.least if self.net.mismatch else 0.0
            maps["cmd-attention"] = Volume((attention - least) / (1 - least), affine)
        return {f"{self.target}-{name}": volume for name, volume in maps.items()}

    def _look(self, ready: Arrays) -> Seen:
        return look(self.net, ready, self.config.edge, self.config.overlap)

    def _answer(self, case: str, ready: Arrays, seen: Seen) -> Prediction:
        equal, p = {}, {}
        for task in self.tasks:
            q = torch.softmax(seen.told.answers[task.target][0].cpu().double(), dim=0).numpy()
            both = posteriors(task, q, balanced=self.config.balance)
            p[task.target], equal[task.target] = (
                dict(zip(task.classes, v.tolist(), strict=True)) for v in both
            )
        if self.config.coherent:
            equal, p = coherent(equal), coherent(p)
        grid = grid_of(ready["grid"])
        return Prediction(
            case=case,
            method="mts-unet",
            probabilities=p,
            decisions={target: max(zip(q.values(), q, strict=True))[1] for target, q in equal.items()},
            labels=Volume(drawn_labels(seen.tissues, seen.grid, grid), grid.affine),
            labels_scheme="binary" if len(self.tissues) == 2 else "gliolens",
        )

    def _evidence(self, seen: Seen, answer: Prediction, case: Case) -> dict[str, float]:
        """The mismatch sign; then by how much each part's own logit of a decision lies above the mean of the others."""
        assert answer.labels is not None
        compared = set(case.series) >= COMPARED
        sign = mismatch_of(case, answer.labels.voxels, answer.labels_scheme)
        out = {} if sign is None else {MISMATCH: 100 * sign.share}
        for task in self.tasks:
            decided, parts = answer.decisions[task.target], seen.told.parts[task.target]
            shown = {part: name for part, name in PARTS.items() if part in parts}
            if not self.net.has_focus:
                shown.pop("focus", None)  # the plain network's one layer is no TAFE
            if not compared:
                shown.pop("mismatch", None)
            for part, name in shown.items():
                z, k = parts[part][0].float().cpu().numpy(), task.classes.index(decided)
                out[f"{TARGET_TITLES[task.target]}, {name} for {decided}"] = float(
                    z[k] - np.delete(z, k).mean()
                )
        return out

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`."""
        about = {
            "target": self.target, "series": self.config.series, "config": asdict(self.config),
            "tissues": self.tissues, "tasks": [asdict(task) for task in self.tasks], "started_from": self.taken,
        }  # fmt: skip
        write_model(folder, "mts-unet", VERSION, self.net.state_dict(), about)


def load(folder: Path) -> Model:
    """Bring a saved model back.

    Raises:
        ModelError: the folder does not hold one, or its weights are not those of its card.
    """
    card, state = read_model(folder, "mts-unet", VERSION)
    config = changed(Config(), card["config"])
    tasks = tuple(Task(t["target"], tuple(t["classes"]), tuple(t["shares"])) for t in card["tasks"])
    tissues = TISSUES if len(card["tissues"]) == len(TISSUES) else TUMOUR_ONLY
    net = _network(config, len(tissues), tasks)
    net.load_state_dict(state)
    return Model(card["target"], config, net.eval(), tissues, tasks, card["started_from"])
