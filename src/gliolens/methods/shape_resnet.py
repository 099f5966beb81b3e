"""ResNet on tumour slices with the tumour's size and shape made explicit.

Zeng et al. 2024 (ResNet-50 with explicit tumour size). Each axial slice through the tumour, everything but the tumour
blanked, goes through a ResNet whose features are squeezed to 14 and joined with 14 3-D shape features of the whole
tumour; a linear layer gives the classes, and the patient's score is the mean over slices:

    f_s = ResNet(x_s) in R^14,   q = mean_s softmax(W [f_s ; z] + b),   x_s: (C, P, P),   z: (14,)

`paper`  frames of 160 x 160 mm, every tumour slice in every epoch, Adam 1e-3, 20 epochs, the rarer class magnified
         in training only and repeated until balanced. The magnification leaks the class and is kept as published.
`sound`  the same random magnification for all classes, class-weighted loss with the class shares put back, logarithms
         of volumes, areas and lengths, epochs chosen on an inner fold, a few random slices a patient and epoch.
The paper's other networks are settings: `series` (one alone), `join=none` (2-D alone), `dims=3` (its 3-D comparator),
`sees=brain`; and `join=gated` lets the network find how much the shape should weigh.
Needs a tumour mask. Every difference and guess is listed in docs/methods/shape-resnet.md, times and scores beside the
controls in docs/results.md.

    gliolens train shape-resnet cohort.csv --target idh --preset sound -o RUN
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self

import lightning as L  # noqa: N812
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader

from gliolens.augment import Amounts, augment
from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.cube import cube_grid
from gliolens.encoders.imagenet import imagenet_identity, imagenet_resnet
from gliolens.errors import ConfigError
from gliolens.explain import OneInput, gradcam, occlusion, share_of_most, stacked
from gliolens.inner import Watching, choose_epochs
from gliolens.io.store import content_hash
from gliolens.labels import SERIES
from gliolens.loader import Arrays, Cases
from gliolens.loop import EachEpoch, forget, train
from gliolens.method import Run, changed
from gliolens.nn.resnet import LEAST_EDGE_3D, Join, ShapeResNet, take_over
from gliolens.preprocess import brain_of, check_size, cut, normalised, slice_grid, tumour_of
from gliolens.progress import Counter, Tick
from gliolens.radiomics.shape import FEATURES, shape_features
from gliolens.saved import read_model, write_model
from gliolens.slices import PatientSlices, SliceDraw, as_seen, mean_over_slices
from gliolens.stats.priors import with_prior
from gliolens.stats.scaling import Scaling

MEASURES_TUMOURS: Final = True  # it learns from masks, and nothing from the healthy
VERSION = 2
"""Raised whenever the same weights would answer otherwise."""
_SKEWED = tuple(i for i, f in enumerate(FEATURES) if f not in ("Sphericity", "Elongation", "Flatness"))
IMAGE = "slices (ResNet)"  # what evidence calls the image's part
OCCLUDED_MM, OCCLUDED = 20.0, 8
"""Edge of the squares that are blanked to see what falls, and in how many slices at most."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        series: series a slice holds, in the network's order of channels.
        sees: the tumour only, or the whole brain; slices are those through the tumour either way.
        dims: 2 for slices, 3 for one volume a patient.
        depth: of the ResNet, 50 or 18.
        join: how the shape joins the image: `fixed`, `gated`, or `none` for the image alone.
        weights: what the ResNet of slices starts from: nothing, `imagenet` (fetched once by torchvision), or a file.
        offline: never open a connection to fetch weights.
        pixels: edge of a slice in pixels.
        pixel_mm: edge of a pixel in millimetres; of a voxel, where `dims` is 3.
        planes: axial planes of a volume.
        min_mm2: least tumour area of a slice that is used.
        exclude_small: refuse a patient of whom no slice has so much; else the slice with most is used.
        slices: random slices a patient and epoch; 0 takes all. Of volumes each is taken once.
        epochs: passes over the training patients, at most.
        choose_epochs: choose how many on an inner fold of the training patients, then fit again on all.
        batch: slices a step.
        rate: learning rate of Adam (betas 0.9 and 0.99).
        decay: weight decay.
        magnify_rare: magnify the rarest class, and only it, in training (the paper's rule; it leaks the class).
        balance: `repeat` slices of rarer classes until classes balance, `weigh` the loss and put the class shares back
            into the answers, or `none`.
        log_shape: take logarithms of the skewed shape features.
        flip: augmentation: share of slices that are flipped.
        shift: augmentation: largest cyclic shift, in pixels.
        rotate: augmentation: largest rotation, in degrees.
        noise: augmentation: share of salt-and-pepper pixels.
        zoom: augmentation: largest change of scale, for every class alike.
    """

    series: tuple[str, ...] = SERIES
    sees: Literal["tumour", "brain"] = "tumour"
    dims: Literal[2, 3] = 2
    depth: Literal[18, 50] = 50
    join: Join = "fixed"
    weights: str | None = None
    offline: bool = False
    pixels: int = 96
    pixel_mm: float = 1.75
    planes: int = 72
    min_mm2: float = 50.0
    exclude_small: bool = False
    slices: int = 4
    epochs: int = 12
    choose_epochs: bool = True
    batch: int = 16
    rate: float = 1e-3
    decay: float = 5e-4
    magnify_rare: bool = False
    balance: Literal["repeat", "weigh", "none"] = "weigh"
    log_shape: bool = True
    flip: float = 0.5
    shift: int = 6
    rotate: float = 180.0
    noise: float = 0.01
    zoom: float = 0.2

    def __post_init__(self) -> None:
        edge = 32 if self.dims == 2 else LEAST_EDGE_3D
        least = {"pixels": edge, "planes": LEAST_EDGE_3D, "epochs": 1, "batch": 2, "slices": 0, "shift": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {low} or more")
        if not self.series or min(self.pixel_mm, self.rate) <= 0 or (self.weights and self.dims == 3):
            raise ConfigError(
                "expected one series or more, pixel_mm and rate above 0, and no weights where dims is 3"
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
                pixels=160, pixel_mm=1.0, planes=128, exclude_small=True, slices=0, epochs=20, choose_epochs=False,
                magnify_rare=True, balance="repeat", log_shape=False, zoom=0.0, shift=16,
            )  # fmt: skip
        raise ConfigError(f"no preset is called {name!r}; there are paper and sound")

    def scaled(self, scale: str) -> Self:
        """`demo`: ResNet-18 on coarse slices and few epochs, for minutes on two cores. `paper`: as it is."""
        if scale == "demo":
            return replace(self, depth=18, pixels=48, pixel_mm=3.5, planes=36, slices=8, epochs=10, shift=3)
        return self


# --- from a case to slices and shape ---------------------------------------------------------------------------


def prepare(case: Case, config: Config) -> dict[str, np.ndarray]:
    """Cut the tumour's slices, or one volume, and measure the tumour's shape.

    Returns:
        `slices` (S, C, P, P) float16, z-scored over the brain and 0 outside the tumour, or outside the brain where that
        is seen; (1, C, planes, P, P) where `dims` is 3. `tumour` (S, P, P), where it is. `shape` (14,) in mm.
        `affines` (S, 4, 4), the place of each slice, or that of the volume.

    Raises:
        CaseError: no tumour, too small a one where such are excluded, or a series without contrast.
    """
    tumour = tumour_of(case)
    if config.exclude_small:
        check_size(case, tumour, config.min_mm2)
    brain = brain_of(case, config.series)
    images = normalised(case, brain)
    if config.dims == 2:
        frames = slice_grid(case.grid, brain, tumour, config.pixels, config.pixel_mm, config.min_mm2)
    else:
        size = (config.pixels, config.pixels, config.planes)
        frames = [cube_grid(case.grid, brain, "brain", size, (config.pixel_mm,) * 3)]
    slices = np.stack([cut(images[s], case.grid, frames) for s in config.series], axis=1)
    inside = cut(tumour, case.grid, frames)
    shown = inside if config.sees == "tumour" else cut(brain, case.grid, frames)
    shape = shape_features(tumour, case.grid.spacing)
    return {
        "slices": (slices * shown[:, None]).astype(np.float16),
        "tumour": inside,
        "shape": np.array([shape[f] for f in FEATURES]),
        "affines": np.stack([frame.affine for frame in frames]),
    }


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Slices and shape of each case; see `prepare`."""
    cases = replace(cases, series=config.series, need_mask=True)
    seen = [VERSION, config.series, config.sees, config.dims, config.pixels, config.pixel_mm, config.min_mm2]
    seen += [config.exclude_small, config.planes if config.dims == 3 else None]
    return cases.prepared(lambda c: prepare(c, config), f"shape-resnet {content_hash(seen)}", cache, tick)


# --- training --------------------------------------------------------------------------------------------------


class _Task(L.LightningModule):
    """Cross-entropy on single slices."""

    def __init__(self, net: ShapeResNet, weights: np.ndarray, rarest: int, config: Config) -> None:
        super().__init__()
        layout = torch.channels_last if config.dims == 2 else torch.channels_last_3d
        self.net = net.to(memory_format=layout)
        self.settings, self.rarest = config, rarest
        self.weights = torch.tensor(weights, dtype=torch.float32)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        image, shape, truth = batch
        with torch.autocast(image.device.type, enabled=False):  # in bfloat16 a grid is off by 1/8 pixel
            image = augmented(image, truth == self.rarest, self.settings)
        logits = self.net(as_seen(image), shape)
        return F.cross_entropy(logits.float(), truth, weight=self.weights.to(truth.device))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        config = self.settings
        return torch.optim.Adam(self.parameters(), config.rate, (0.9, 0.99), weight_decay=config.decay)


def augmented(image: Tensor, rare: Tensor, config: Config) -> Tensor:
    """Slices as an epoch shows them; those that are `rare` (b,) are magnified and cut off centre under `paper`."""
    rarely = rare.float() * config.magnify_rare
    amounts = Amounts(config.flip, config.shift, config.rotate, config.noise, config.zoom)
    # 240 pixels become 448, and 160 of the middle 224 are drawn
    return augment(image, amounts, 1 + rarely * (448 / 240 - 1), rarely * (224 - 160) / 160)


def identity(config: Config) -> str:
    """What decides an answer beside cases and settings: this version, and the weights that training starts from."""
    return f"{VERSION} {config.weights and imagenet_identity(config.depth, config.weights)}"


def fit(cases: Cases, config: Config, run: Run, watched: Watching | None = None) -> "Model":
    """Train on cases whose target is known and which have the series and a tumour mask.

    Args:
        cases: to learn from.
        config: settings.
        run: target, classes, folders and seed.
        watched: looks at the network after each epoch of the final training, and changes nothing.

    Raises:
        CaseError: a case cannot be read or holds no tumour.
        CohortError: `choose_epochs` and too few patients of a class for an inner fold.
        ConfigError, ModelError: the weights to start from are not at hand, or are others.
    """
    prepared = ready(cases, config, run.cache, Counter("reading cases"))
    inner = partial(_train, config=config, epochs=config.epochs, label="choosing epochs")
    epochs = choose_epochs(cases, prepared, run, inner) if config.choose_epochs else config.epochs
    final = replace(run, folder=run.folder / "final", seed=run.seed + 1)
    last = partial(_train, config=config, epochs=epochs, label="training")
    net, scaling, shares = last(cases, prepared, final, watched)
    forget(final.folder)
    equal = [1 / len(shares)] * len(shares)
    prior = equal if config.balance == "repeat" else shares.tolist()
    return Model(run.target, run.classes, config, net.eval(), scaling, tuple(prior), epochs)


def _train(
    cases: Cases, prepared: Sequence[Arrays], run: Run, watched: Watching | None, *, config: Config, epochs: int,
    label: str,
) -> tuple[ShapeResNet, Scaling, np.ndarray]:  # fmt: skip
    """Network, scaling and class shares after `epochs`."""
    L.seed_everything(run.seed, verbose=False)
    classes = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    counts = np.bincount(classes, minlength=len(run.classes))
    shapes = np.stack([a["shape"] for a in prepared])
    scaling = Scaling.learn(shapes, _SKEWED if config.log_shape else ())
    balanced = counts.sum() / (len(counts) * np.maximum(counts, 1))
    weights = balanced if config.balance == "weigh" else np.ones(len(counts))
    net = _network(config, len(run.classes))
    if config.weights is not None:
        take_over(net.backbone, imagenet_resnet(config.depth, config.weights, offline=config.offline))
    slices = PatientSlices(prepared, scaling(shapes), classes)
    drawn = config.slices if config.dims == 2 else 0  # a patient has one volume
    draw = SliceDraw(slices, drawn, config.balance == "repeat", run.seed)
    batches = DataLoader(slices, config.batch, sampler=draw, drop_last=len(draw) > config.batch)
    task = _Task(net, weights, int(counts.argmin()), config)
    callbacks = [EachEpoch(lambda: watched.score(net, scaling), watched.scores)] if watched else []
    label = f"{label} on {len(prepared)} patients, epochs"
    train(task, batches, epochs=epochs, folder=run.folder, label=label, seed=run.seed, callbacks=callbacks)
    return net, scaling, counts / counts.sum()


def _network(config: Config, classes: int) -> ShapeResNet:
    return ShapeResNet(
        len(config.series), classes, shapes=len(FEATURES), depth=config.depth, dims=config.dims, join=config.join
    )  # fmt: skip


# --- the fitted model ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with what it needs to read a case."""

    target: str
    classes: tuple[str, ...]
    config: Config
    net: ShapeResNet
    scaling: Scaling
    prior: tuple[float, ...]
    epochs: int

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case; after a weighted loss with the class shares put back, decided by what was there before."""
        q = self.probabilities(ready)
        p = with_prior(q[None], np.array(self.prior))[0] if self.config.balance == "weigh" else q
        return Prediction(
            case=row.case,
            method="shape-resnet",
            probabilities={self.target: dict(zip(self.classes, p.tolist(), strict=True))},
            decisions={self.target: self.classes[int(q.argmax())]},
        )

    def predict(self, case: Case) -> Prediction:
        """Answer one case, and say what slices and shape add to the answer."""
        made = prepare(case, self.config)
        answer = self.answer(CaseRow(case.id, case.patient), made)
        return replace(
            answer, evidence=self.evidence(made, self.classes.index(answer.decisions[self.target]))
        )

    @torch.no_grad()
    def evidence(self, ready: Arrays, decided: int) -> dict[str, float]:
        """What image and each shape feature add to the logit of the decision over the mean of the others."""
        net, (images, z) = self.net.eval(), self._inputs(ready)
        features = torch.cat([net.features(x, z.expand(len(x), -1)) for x in images.split(32)]).mean(dim=0)
        weights = net.head.weight.numpy().astype(np.float64)
        others = np.delete(weights, decided, axis=0).mean(axis=0)
        parts = (weights[decided] - others) * features.numpy()
        named = {IMAGE: float(parts[: net.neck].sum())}
        named |= dict(
            zip(FEATURES, parts[net.neck :].tolist(), strict=False)
        )  # none where the image stands alone
        return dict(sorted(named.items(), key=lambda item: -abs(item[1])))

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """What of the slices the decision rests on, by two ways, 0 to 1 (most) where the network sees something.

        Named as the target, Grad-CAM. Ending in `-occlusion`, by how much the decision's log odds fall where a
        square of `OCCLUDED_MM` is blanked, in `OCCLUDED` slices at most; not in three dimensions.
        """
        ready = prepare(case, self.config)
        decided = int(self.probabilities(ready).argmax())
        seen = (ready["slices"] != 0).any(axis=1)
        maps = {self.target: self.heat(ready, decided)}
        if self.config.dims == 2:
            (images, z), edge = self._inputs(ready), max(2, round(OCCLUDED_MM / self.config.pixel_mm))
            asked = np.unique(np.linspace(0, len(images) - 1, OCCLUDED).round().astype(int))
            falls = np.zeros(seen.shape)
            falls[asked] = occlusion(OneInput(self.net, z), images[asked], seen[asked], decided, edge)
            maps[f"{self.target}-occlusion"] = np.maximum(falls, 0.0)
        return {name: stacked(share_of_most(heat, seen), ready["affines"]) for name, heat in maps.items()}

    def heat(self, ready: Arrays, decided: int) -> np.ndarray:
        """Grad-CAM of a class on every pixel (S, P, P), or voxel (1, planes, P, P), 0 or more."""
        edge = self.config.pixels if self.config.dims == 2 else min(self.config.pixels, self.config.planes)
        images, z = self._inputs(ready)
        return gradcam(OneInput(self.net, z), images, f"net.backbone.{self.net.deepest(edge)}", decided)

    def probabilities(self, ready: Arrays) -> np.ndarray:
        """Mean over slices of the network's answers (k,), before any class shares are put back."""
        return mean_over_slices(self.net, ready["slices"], self.scaling(ready["shape"][None])[0])

    def _inputs(self, ready: Arrays) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(ready["slices"].astype(np.float32))
        return images, torch.from_numpy(self.scaling(ready["shape"][None]))

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`."""
        about = {
            "target": self.target, "classes": self.classes, "series": self.config.series,
            "config": asdict(self.config), "scaling": asdict(self.scaling), "prior": self.prior, "epochs": self.epochs,
        }  # fmt: skip
        write_model(folder, "shape-resnet", VERSION, self.net.state_dict(), about)


def load(folder: Path) -> Model:
    """Bring a saved model back.

    Raises:
        ModelError: the folder does not hold one, or its weights are not those of its card.
    """
    card, state = read_model(folder, "shape-resnet", VERSION)
    config, classes = changed(Config(), card["config"]), tuple(card["classes"])
    net = _network(config, len(classes))
    net.load_state_dict(state)
    scaling = Scaling(**{k: tuple(v) for k, v in card["scaling"].items()})
    return Model(card["target"], classes, config, net.eval(), scaling, tuple(card["prior"]), card["epochs"])
