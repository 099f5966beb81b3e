"""Video networks look at the brain, one direction of it in the place of time.

Chatterjee et al. 2022 (Scientific Reports 12, doi 10.1038/s41598-022-05572-6). The brain, scaled to 0 to 1 and read at
2 mm, goes plane by plane through an R3D, MC3 or R(2+1)D of 18 layers (`nn.video`), from scratch or from Kinetics-400:

    p = softmax(W mean_x h(x) + b),   loss = W_c cross-entropy,   W_c = 1 - n_c / N

`paper`  T1 with contrast; axial planes as time; one patient a step, and the statistics of that one, in use too; the
         new first layer at random.
`sound`  all series; statistics of eight patients, in use those of all that were learnt from; a first layer
         that begins with the sum of the colours' weights; class shares put back into the answers.
It needs no mask to answer. Every difference and guess is listed in
docs/methods/spatio-spatial.md, times and scores in docs/results.md.

    gliolens train spatio-spatial cohort.csv --target grade --preset sound -o RUN
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from lightning import LightningModule, seed_everything
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.cube import cube_grid
from gliolens.distort import Distortion, distorted
from gliolens.encoders.kinetics import kinetics_identity, kinetics_network
from gliolens.errors import ConfigError
from gliolens.explain import gradcam, share_of_most
from gliolens.io.store import content_hash
from gliolens.labels import SERIES
from gliolens.loader import Arrays, Cases
from gliolens.loop import forget, in_one_cycle, train
from gliolens.method import Run, changed
from gliolens.nn.precision import has_bfloat16
from gliolens.nn.video import LEAST, LEAST_EDGE, Kind, Norm, VideoNet, take_over
from gliolens.ops.zoom import zoom
from gliolens.preprocess import brain_of, rescaled
from gliolens.progress import Counter, Tick
from gliolens.saved import read_model, write_model
from gliolens.segmenter import Draw

VERSION = 1
"""Raised whenever the same weights would answer otherwise."""
PERCENTILES: Final = (0.5, 99.5)
"""Of the brain's intensities: 0 and 1."""
Time = Literal["axial", "coronal", "sagittal"]
TIME_AXIS: Final[Mapping[Time, int]] = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        series: series the network sees, in its order of channels.
        network: which video network.
        time: planes that follow one another in time.
        sees: the brain, or only where it is: the control for the way it was stripped.
        voxel_mm: edge of a voxel.
        voxels: along each axis of the box around the brain's middle.
        norm: what features are normalised by; `frozen` wants `weights`. See `nn.video.Norm`.
        weights: what the network starts from: nothing, `kinetics` (fetched once by torchvision), or a file.
        stem: whether the first layer starts from the weights too, its colours summed; else at random.
        offline: never open a connection to fetch weights.
        dropout: before the last layer.
        distortion: how otherwise patients look at each look in training.
        weigh: whether the loss of a class weighs W_c = 1 - n_c / N.
        put_back: whether that is taken out of the answers again, and the class shares are in them.
        epochs: passes over the patients.
        batch: patients a step.
        rate: learning rate of Adam; the highest, where it goes in a cycle.
        cycle: whether the rate rises for a tenth of the steps and then falls; else it stays.
        decay: weight decay.
    """

    series: tuple[str, ...] = SERIES
    network: Kind = "mc3"
    time: Time = "axial"
    sees: Literal["brain", "mask"] = "brain"
    voxel_mm: float = 2.0
    voxels: tuple[int, int, int] = (80, 96, 80)
    norm: Norm = "batch"
    weights: str | None = None
    stem: bool = True
    offline: bool = False
    dropout: float = 0.3
    distortion: Distortion = "light"
    weigh: bool = True
    put_back: bool = True
    epochs: int = 30
    batch: int = 8
    rate: float = 1e-4
    cycle: bool = True
    decay: float = 1e-3

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch": 1, "decay": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {low} or more")
        if not self.series or min(self.voxel_mm, self.rate) <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "expected one series or more, voxel_mm and rate above 0, dropout from 0 to below 1"
            )
        planes, *edges = self._by_time(self.voxels)
        if planes < LEAST or min(edges) < LEAST_EDGE:
            raise ConfigError(
                f"voxels are {' x '.join(map(str, self.voxels))}, {self.time} planes in time; expected {LEAST} "
                f"planes or more, of {LEAST_EDGE} voxels along an edge or more"
            )
        self._check_norm()
        if self.put_back and not self.weigh:
            raise ConfigError("put_back without weigh: there is nothing to be taken out of the answers")

    def _check_norm(self) -> None:
        """Refuse statistics that are others in training than in use, or that belong to other features."""
        if self.norm == "frozen" and not (self.weights and self.stem):
            raise ConfigError(
                "norm is frozen: expected weights, whose statistics it keeps, and their first layer (stem)"
            )
        if self.norm == "batch" and self.batch == 1:
            raise ConfigError(
                "norm is batch with one patient a step: by his own statistics in training, by everybody's in use; "
                "take own, group or frozen, or a batch of 2 or more"
            )
        if self.norm == "own" and self.batch > 1:
            raise ConfigError(
                f"norm is own with {self.batch} patients a step: by the statistics of all of them in training, by "
                "those of one in use; take batch, or a batch of 1"
            )

    def _by_time(self, axes: tuple[int, int, int]) -> tuple[int, int, int]:
        """What stands for each axis, the one that is time first."""
        first = TIME_AXIS[self.time]
        a, b = (n for axis, n in enumerate(axes) if axis != first)
        return axes[first], a, b

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
                series=("t1ce",), norm="own", stem=False, put_back=False, batch=1, rate=1e-5, cycle=False,
                epochs=100,
            )  # fmt: skip
        raise ConfigError(f"no preset is called {name!r}; there are paper and sound")

    def scaled(self, scale: str) -> Self:
        """`demo`: voxels of 5 mm, and ten passes of four patients a step at a higher rate: minutes on two cores.

        Statistics of one patient become those of a batch: at this size a step of four costs what a step of one does,
        and one a step learnt nothing in the same time (docs/log.md, 2026-11-22).
        """
        if scale == "demo":
            return replace(
                self, voxel_mm=5.0, voxels=(34, 40, 34), epochs=10, rate=1e-3, cycle=True, batch=4,
                norm="batch" if self.norm == "own" else self.norm,
            )  # fmt: skip
        return self


# --- from a case to a volume -----------------------------------------------------------------------------------


def prepare(case: Case, config: Config) -> dict[str, np.ndarray]:
    """The brain of a case in a box around its middle.

    Returns:
        `volume` (C, R, A, S) float16, axes to the right, to the front and up: 0 to 1 between `PERCENTILES` of the
        brain's intensities and 0 beyond the brain; or 1 where the brain is. `affine` (4, 4).

    Raises:
        CaseError: a series has no contrast.
    """
    brain = brain_of(case, config.series)
    box = cube_grid(case.grid, brain, "brain", config.voxels, (config.voxel_mm,) * 3)
    if config.sees == "mask":
        images = [brain.astype(np.float32)] * len(config.series)
    else:
        images = [rescaled(case, s, brain, PERCENTILES) for s in config.series]
    volume = np.stack([zoom(image, case.grid, box) for image in images])
    return {"volume": volume.astype(np.float16), "affine": box.affine}


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Volume of each case; see `prepare`."""
    seen = [VERSION, config.series, config.sees, config.voxel_mm, config.voxels]
    cases = replace(cases, series=config.series, need_mask=False)
    return cases.prepared(lambda c: prepare(c, config), f"spatio-spatial {content_hash(seen)}", cache, tick)


def in_time(volume: Tensor, time: Time) -> Tensor:
    """Volumes (..., R, A, S) with the planes that follow one another in time first: (..., T, H, W)."""
    return volume.movedim(TIME_AXIS[time] - 3, -3)


# --- training --------------------------------------------------------------------------------------------------


class Volumes(Dataset[tuple[Tensor, int]]):
    """Patients as volumes (C, T, H, W) with their class; each number of a patient is a look of its own."""

    def __init__(self, prepared: Sequence[Arrays], classes: np.ndarray, config: Config, seed: int) -> None:
        self.prepared, self.classes, self.config, self.seed = prepared, classes, config, seed

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        patient, rng = number % len(self), np.random.default_rng([self.seed, number])
        volume = torch.from_numpy(self.prepared[patient]["volume"].astype(np.float32))
        volume = distorted(volume, self.config.distortion, self.config.voxel_mm, rng)
        return in_time(volume, self.config.time), int(self.classes[patient])


class _Task(LightningModule):
    """Weighted cross-entropy of volumes."""

    def __init__(self, net: VideoNet, weights: np.ndarray, config: Config, steps: int) -> None:
        super().__init__()
        self.net, self.steps = net.to(memory_format=torch.channels_last_3d), steps
        self.settings, self.weights = config, torch.tensor(weights, dtype=torch.float32)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        volume, truth = batch
        logits = self.net(volume.contiguous(memory_format=torch.channels_last_3d)).float()
        # PyTorch's mean would divide by the weights of this batch: in a batch of one they would cancel
        weights = self.weights.to(truth.device)
        return F.cross_entropy(logits, truth, weight=weights, reduction="sum") / len(truth)

    def configure_optimizers(self) -> Any:
        # fused: with one patient a step, the plain one took a third of the time of 33 million parameters
        rate, decay = self.settings.rate, self.settings.decay
        adam = torch.optim.Adam(self.parameters(), rate, weight_decay=decay, fused=True)
        return in_one_cycle(adam, [rate], self.steps) if self.settings.cycle else adam


def class_weights(classes: np.ndarray, count: int) -> np.ndarray:
    """W_c = 1 - n_c / N of each class (k,)."""
    return 1 - np.bincount(classes, minlength=count) / len(classes)


def identity(config: Config) -> str:
    """What decides an answer beside cases and settings: this version, and the weights that training starts from."""
    return f"{VERSION} {config.weights and kinetics_identity(config.network, config.weights)}"


def fit(cases: Cases, config: Config, run: Run) -> "Model":
    """Train on cases whose target is known and which have the series.

    Raises:
        CaseError: a case cannot be read.
        ConfigError, ModelError: the weights to start from are not at hand, or are others.
    """
    prepared = ready(cases, config, run.cache, Counter("reading cases"))
    classes = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    weights = class_weights(classes, len(run.classes)) if config.weigh else np.ones(len(run.classes))
    seed_everything(run.seed, verbose=False)
    net = _network(config, len(run.classes))
    if config.weights is not None:
        films = kinetics_network(config.network, config.weights, offline=config.offline)
        take_over(net, films, stem=config.stem)
    volumes = Volumes(prepared, classes, config, run.seed)
    last = len(volumes) > config.batch  # a last step of one or two would have other statistics
    batches = DataLoader(volumes, config.batch, sampler=Draw(len(volumes), run.seed), drop_last=last)
    label = f"{config.network} on {len(volumes)} patients, epochs"
    train(
        _Task(net, weights, config, config.epochs * len(batches)),
        batches,
        epochs=config.epochs,
        folder=run.folder,
        label=label,
        seed=run.seed,
        clip=None,
    )
    forget(run.folder)
    net = net.to(memory_format=torch.contiguous_format)
    shares = np.bincount(classes, minlength=len(run.classes)) / len(classes)
    return Model(run.target, run.classes, config, net.eval(), tuple(weights.tolist()), tuple(shares.tolist()))


def _network(config: Config, classes: int) -> VideoNet:
    return VideoNet(
        len(config.series), classes, kind=config.network, dropout=config.dropout, norm=config.norm
    )


# --- the fitted model ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network.

    Attributes:
        target: what it tells.
        classes: of it.
        config: settings.
        net: the network.
        weights: W_c of the loss.
        shares: of the classes among the patients it learnt from.
    """

    target: str
    classes: tuple[str, ...]
    config: Config
    net: VideoNet
    weights: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def prior(self) -> tuple[float, ...]:
        """Class shares that are in its probabilities, as far as the weights of the loss left them there."""
        held = np.array(self.shares) * (1 if self.config.put_back else np.array(self.weights))
        return tuple((held / held.sum()).tolist())

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case."""
        return self._answer(row.case, ready)

    def predict(self, case: Case) -> Prediction:
        """Answer one case.

        Raises:
            CaseError: a series is missing or has no contrast.
        """
        return self._answer(case.id, prepare(case, self.config))

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """Grad-CAM of the decision, as a share of the most in the brain."""
        made = prepare(case, self.config)
        decided = self.classes.index(self._answer(case.id, made).decisions[self.target])
        heat = self.heat(made, decided)
        return {
            self.target: Volume(share_of_most(heat, np.asarray(made["volume"].any(axis=0))), made["affine"])
        }

    def heat(self, ready: Arrays, decided: int) -> np.ndarray:
        """Grad-CAM of a class on every voxel of the box (R, A, S), 0 or more."""
        maps = gradcam(self.net, self._input(ready), "net.layer3", decided)[0]
        return np.asarray(np.moveaxis(maps, 0, TIME_AXIS[self.config.time]), np.float32)

    @torch.inference_mode()
    def probabilities(self, ready: Arrays) -> np.ndarray:
        """What the network answers (k,), the weights of the loss in it."""
        volume = self._input(ready)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            logits = self.net(volume)[0]
        return np.asarray(torch.softmax(logits.double(), dim=0).numpy())

    def _input(self, ready: Arrays) -> Tensor:
        volume = torch.from_numpy(np.asarray(ready["volume"], np.float32))
        return in_time(volume, self.config.time)[None]

    def _answer(self, case: str, ready: Arrays) -> Prediction:
        """With q in proportion to P(k | x) W_k (Saerens et al. 2002, doi 10.1162/089976602753284446)."""
        q = self.probabilities(ready)
        p = q / np.array(self.weights) if self.config.put_back else q
        even = p / np.array(self.shares) if self.config.put_back else p
        told = {c: float(v) for c, v in zip(self.classes, p / p.sum(), strict=True)}
        return Prediction(
            case=case, method="spatio-spatial", probabilities={self.target: told},
            decisions={self.target: self.classes[int(even.argmax())]},
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`."""
        about: dict[str, Any] = {
            "target": self.target, "classes": self.classes, "series": self.config.series,
            "config": asdict(self.config), "weights": self.weights, "shares": self.shares,
        }  # fmt: skip
        write_model(folder, "spatio-spatial", VERSION, self.net.state_dict(), about)


def load(folder: Path) -> Model:
    """Bring a saved model back.

    Raises:
        ModelError: the folder does not hold one, or its weights are not those of its card.
    """
    card, state = read_model(folder, "spatio-spatial", VERSION)
    config, classes = changed(Config(), card["config"]), tuple(card["classes"])
    net = _network(config, len(classes))
    net.load_state_dict(state)
    return Model(card["target"], classes, config, net.eval(), tuple(card["weights"]), tuple(card["shares"]))
