"""One Swin UNETR outlines the tumour and tells IDH, 1p/19q and grade at once.

Farahani et al. 2025 (arXiv 2503.06828). Of a volume x (C, E, E, E) a Swin UNETR gives logits of tissues and five
stages h_1 ... h_5; with p the probability of tumour, TAFE (`nn.tumour_focus`) looks at the stages and CMD
(`nn.mismatch`) at T2 against FLAIR; a head a task joins what both tell (`nn.multitask`). The loss is

    L = Dice + cross-entropy of tissues + sum over tasks of cross-entropy,

each part over the cases of which it is known: masks, classes and series may be missing anywhere.

`paper`  cubes of 96 mm at 1 mm around the tumour; TAFE and CMD as the authors' public code, over the whole cube.
`sound`  voxels of 2 mm, so that one cube holds the brain; all stages, and CMD, averaged inside the tumour found, as the
         abstract promises; series left out at random; classes weighted; answers that can be true together (WHO 2021).
Every difference and guess is listed in docs/methods/mts-unet.md, times and scores in docs/results.md.

    gliolens train mts-unet cohort.csv --target idh --preset sound -o RUN
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import lightning as L  # noqa: N812
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.crops import Crops, Draws, brain_volume
from gliolens.cube import drawn_labels, grid_of
from gliolens.encoders.swin_weights import take_swin
from gliolens.errors import CaseError, ConfigError
from gliolens.io.store import content_hash, file_hash
from gliolens.labels import ENHANCING, SERIES, TARGETS
from gliolens.loader import Arrays, Cases
from gliolens.loop import forget, one_cycle, train
from gliolens.method import Run, changed
from gliolens.nn.multitask import MultiTaskNet, Told
from gliolens.nn.swin import LEAST_EDGE, Merging
from gliolens.preprocess import brain_of
from gliolens.progress import Counter, Tick, say
from gliolens.radiomics.mismatch import mismatch_sign
from gliolens.saved import read_model, write_model
from gliolens.segmenter import TISSUES, TUMOUR_ONLY, Draw, loss_of, tissues_of
from gliolens.slices import as_seen
from gliolens.stats.priors import with_prior
from gliolens.tasks import Task, class_weights, coherent, task_loss, task_of
from gliolens.whole_case import Seen, look

VERSION = 1
"""Raised whenever the same weights would answer otherwise."""
SIGN = "T2-FLAIR mismatch: % of the T2-bright tumour that FLAIR suppresses"
_GRADES = ("grade", "who_grade")


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
        drop: chance that a series is left out at a look in training; where it is 0, every series must be there.
        balance: whether every class weighs the same in training; the shares are put back into the answers.
        coherent: whether the answers are made such that they can be true together.
        vary: whether patients look otherwise at each look; see `crops.Draws`.
        epochs: passes over the patients.
        batch: patients a step.
        rate: learning rate of AdamW.
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
    drop: float = 0.1
    balance: bool = True
    coherent: bool = True
    vary: bool = True
    epochs: int = 100
    batch: int = 2
    rate: float = 1e-4
    task_weight: float = 1.0
    lean: bool = True
    overlap: float = 0.25
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
        if self.mismatch != "none" and not {"t2", "flair"} <= set(self.series):
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
                voxel_mm=1.0,
                focus="deepest",
                mismatch="image",
                drop=0.0,
                balance=False,
                coherent=False,
                vary=False,
            )
        raise ConfigError(f"no preset is called {name!r}; there are paper and sound")

    def scaled(self, scale: str) -> Self:
        """`demo`: a feature size of 12 on a cube of 64 voxels of 3 mm, few epochs, for minutes on two cores."""
        if scale == "demo":
            return replace(
                self, voxel_mm=3.0, edge=64, feature_size=12, window=4, epochs=10, rate=1e-3, lean=False
            )
        return self


# --- from a case to what the network sees ----------------------------------------------------------------------


def prepare(case: Case, config: Config) -> dict[str, np.ndarray]:
    """The brain of a case as the network sees it; see `crops.brain_volume`.

    Raises:
        CaseError: no series, one without contrast, or one missing where the network has to see all.
    """
    missing = [s for s in config.series if s not in case.series]
    if missing and config.drop == 0:
        raise CaseError(
            case.id,
            found=f"series {', '.join(case.series)}",
            expected=f"{', '.join(missing)} too: this network never saw a patient without",
            fix="add the file, or train with drop above 0, as the sound preset does",
        )
    return brain_volume(case, config.series, config.voxel_mm)


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Brain of each case; see `prepare`."""
    recipe = f"mts-unet {content_hash([VERSION, config.series, config.voxel_mm, config.drop == 0])}"
    asked = replace(cases, series=(), need_mask=False)
    return asked.prepared(lambda case: prepare(case, config), recipe, cache, tick)


def learns_from(row: CaseRow, config: Config) -> bool:
    """Whether a case whose target or mask is not known can teach something: its outline, or another class."""
    has = [s in row.files for s in config.series]
    told = row.mask is not None or any(t in row.targets for t in config.tasks)
    return told and row.targets.get("grade") != "healthy" and (any(has) if config.drop else all(has))


# --- training --------------------------------------------------------------------------------------------------


class _Task(L.LightningModule):
    """The loss of outline and tasks, each over the cases of which it is known."""

    def __init__(self, net: MultiTaskNet, tasks: Sequence[Task], config: Config, steps: int) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last_3d)  # a third faster, in training only
        self.tasks, self.settings, self.steps = tasks, config, steps
        self.outline = loss_of("dice+cross-entropy", torch.ones(1))
        self.weights = [class_weights(task, balanced=config.balance) for task in tasks]

    def training_step(self, batch: list[Tensor], _: int) -> Tensor | None:
        image, there, labels, has_mask, truth = batch
        told: Told = self.net(as_seen(image), there)
        parts = [self.outline(told.tissues[has_mask].float(), labels[has_mask])] if has_mask.any() else []
        for i, (task, weights) in enumerate(zip(self.tasks, self.weights, strict=True)):
            loss = task_loss(told.answers[task.target], truth[:, i], weights)
            parts += [] if loss is None else [self.settings.task_weight * loss]
        return torch.stack(parts).sum() if parts else None  # Lightning passes over a step without a loss

    def configure_optimizers(self) -> Any:
        return one_cycle(self, self.settings.rate, self.steps)


def identity(config: Config) -> str:
    """What decides an answer beside cases and settings: this version, and the weights that training starts from."""
    return f"{VERSION} {config.weights and file_hash(Path(config.weights))}"


def fit(cases: Cases, config: Config, run: Run) -> "Model":
    """Train on cases whose target is known, and on the run's others.

    Raises:
        CaseError: a case cannot be read.
        ConfigError, ModelError: the weights to start from are not at hand, or are others.
    """
    everyone = replace(cases, rows=(*cases.rows, *run.others))
    prepared = ready(everyone, config, run.cache, Counter("reading cases"))
    tasks = _tasks(cases.rows, everyone.rows, config, run)
    masked = [a for a in prepared if a["has_mask"]]
    tissues = tissues_of(masked) if masked else TUMOUR_ONLY
    L.seed_everything(run.seed, verbose=False)
    net = _network(config, len(tissues), tasks)
    taken = {}
    if config.weights is not None:
        file_series = config.weights_series
        taken = asdict(take_swin(net.backbone, Path(config.weights), file_series, config.series))
        say(f"{taken['taken']} tensors of {taken['file']}; at random: {', '.join((*taken['left'], 'heads'))}")
    truth = np.array([[task.truth(row) for task in tasks] for row in everyone.rows])
    crops = Crops(
        prepared, truth, len(tissues), Draws(config.edge, config.vary, config.vary, config.drop), run.seed
    )
    batches = DataLoader(crops, config.batch, sampler=Draw(len(crops), run.seed))
    task = _Task(net, tasks, config, config.epochs * len(batches))
    label = f"{', '.join(['outline', *(t.target for t in tasks)])} on {len(crops)} patients, epochs"
    train(task, batches, epochs=config.epochs, folder=run.folder, label=label, seed=run.seed)
    forget(run.folder)
    net = net.to(memory_format=torch.contiguous_format)
    return Model(run.target, config, net.eval(), tissues, tasks, taken)


def _tasks(
    rows: Sequence[CaseRow], everyone: Sequence[CaseRow], config: Config, run: Run
) -> tuple[Task, ...]:
    """The run's target first, then the others that these patients teach."""
    grade = run.target in _GRADES
    others = [t for t in config.tasks if t != run.target and not (grade and t in _GRADES)]
    found = [task_of(run.target, rows, run.classes), *(task_of(t, everyone) for t in others)]
    if untold := [t for t, task in zip(others, found[1:], strict=True) if task is None]:
        say(f"{', '.join(untold)}: fewer than two classes among the patients learnt from; not told")
    return tuple(task for task in found if task is not None)


def _network(config: Config, tissues: int, tasks: Sequence[Task]) -> MultiTaskNet:
    return MultiTaskNet(
        config.series, tissues, {task.target: len(task.classes) for task in tasks},
        focus=None if config.focus == "none" else config.focus,
        mismatch=None if config.mismatch == "none" else config.mismatch == "tumour",
        feature_size=config.feature_size, window=config.window, merging=config.merging, lean=config.lean,
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
        return replace(answer, evidence={**_sign(case, answer), **self._evidence(seen, answer)})

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """Where TAFE takes its features, as a share of the most, and CMD's attention, 2 A - 1, which is 0 to 1."""
        seen, maps = self._look(prepare(case, self.config)), {}
        if seen.told.weights is not None:
            weights, affine = seen.map_of(seen.told.weights, 0.5)
            maps["tafe-weights"] = Volume(weights / weights.max(), affine)
        if seen.told.attention is not None:
            attention, affine = seen.map_of(seen.told.attention, 0.0)
            maps["cmd-attention"] = Volume(2 * attention - 1, affine)
        return {f"{self.target}-{name}": volume for name, volume in maps.items()}

    def _look(self, ready: Arrays) -> Seen:
        return look(self.net, ready, self.config.edge, self.config.overlap)

    def _answer(self, case: str, ready: Arrays, seen: Seen) -> Prediction:
        equal, p = {}, {}
        for task in self.tasks:
            q = torch.softmax(seen.told.answers[task.target][0].double(), dim=0).numpy()
            told = with_prior(q[None], np.array(task.shares))[0] if self.config.balance else q
            equal[task.target], p[task.target] = (
                dict(zip(task.classes, v.tolist(), strict=True)) for v in (q, told)
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

    def _evidence(self, seen: Seen, answer: Prediction) -> dict[str, float]:
        """By how much each part's own logit of the decision lies above the mean of the others."""
        names = {"focus": "TAFE", "mismatch": "CMD"}
        out = {}
        for task in self.tasks:
            decided = task.classes.index(answer.decisions[task.target])
            for part, logits in seen.told.parts[task.target].items():
                z = logits[0].float().numpy()
                out[f"{task.target}, {names[part]} for {task.classes[decided]}"] = float(
                    z[decided] - np.delete(z, decided).mean()
                )
        return out

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`."""
        about = {
            "target": self.target, "series": self.config.series, "config": asdict(self.config),
            "tissues": self.tissues, "tasks": [asdict(task) for task in self.tasks], "started_from": self.taken,
        }  # fmt: skip
        write_model(folder, "mts-unet", VERSION, self.net.state_dict(), about)


def _sign(case: Case, answer: Prediction) -> dict[str, float]:
    """The T2-FLAIR mismatch in the tumour that was drawn, where both series are there."""
    if answer.labels is None or not {"t2", "flair"} <= set(case.series):
        return {}
    drawn = answer.labels.voxels
    tumour = (drawn > 0) & (drawn != ENHANCING)
    sign = mismatch_sign(case.series["t2"], case.series["flair"], tumour, brain_of(case), case.grid.voxel_ml)
    return {SIGN: 100 * sign.share}


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
