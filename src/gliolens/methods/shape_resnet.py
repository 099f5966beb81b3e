"""ResNet on tumour slices with the tumour's size and shape made explicit.

Zeng et al. 2024 (ResNet-50 with explicit tumour size). Each axial slice through the tumour, everything but the tumour
blanked, goes through a ResNet whose features are squeezed to 14 and joined with 14 3-D shape features of the whole
tumour; a linear layer gives the classes, and the patient's score is the mean over slices:

    f_s = ResNet(x_s) in R^14,   q = mean_s softmax(W [f_s ; z] + b),   x_s: (C, P, P),   z: (14,)

`paper`  frames of 160 x 160 mm, every tumour slice in every epoch, Adam 1e-3, 20 epochs, the rarer class magnified
         in training only and repeated until balanced. The magnification leaks the class and is kept as published.
`sound`  the same random magnification for all classes, class-weighted loss with the class shares put back, logarithms
         of volumes, areas and lengths, epochs chosen on an inner fold, a few random slices a patient and epoch.
Every difference and guess is listed in docs/methods/shape-resnet.md.

    gliolens train shape-resnet cohort.csv --target idh --preset sound -o RUN

Needs a tumour mask. See docs/results.md for time and scores beside the controls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import lightning as L  # noqa: N812
import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.cohorts.splits import holdout
from gliolens.errors import ConfigError, ModelError
from gliolens.explain import OneInput, gradcam, share_of_most, stacked
from gliolens.io.store import content_hash, file_hash, read_json, whole_file, write_json
from gliolens.labels import SERIES
from gliolens.loader import Arrays, Cases
from gliolens.loop import EachEpoch, forget, train
from gliolens.method import Run, changed
from gliolens.nn.resnet import ShapeResNet
from gliolens.preprocess import brain_of, cut, normalised, slice_grid, tumour_of
from gliolens.progress import Counter, Tick
from gliolens.radiomics.shape import FEATURES, shape_features
from gliolens.slices import PatientSlices, SliceDraw, mean_over_slices
from gliolens.stats.priors import with_prior
from gliolens.stats.scaling import Scaling

VERSION = 1
"""Raised whenever the same weights would answer otherwise."""

_SKEWED = tuple(i for i, f in enumerate(FEATURES) if f not in ("Sphericity", "Elongation", "Flatness"))


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        series: series a slice holds, in the network's order of channels.
        depth: of the ResNet, 50 or 18.
        pixels: edge of a slice in pixels.
        pixel_mm: edge of a pixel in millimetres.
        min_mm2: least tumour area of a slice that is used.
        slices: random slices a patient and epoch; 0 takes all.
        epochs: passes over the training patients, at most.
        choose_epochs: choose how many on an inner fold of the training patients, then fit again on all.
        batch: slices a step.
        rate: learning rate of Adam (betas 0.9 and 0.99).
        decay: weight decay.
        magnify_rare: magnify the rarest class, and only it, in training (the paper's rule; it leaks the class).
        repeat_rare: repeat slices of rarer classes until classes balance; else the loss is weighted.
        log_shape: take logarithms of the skewed shape features.
        flip: augmentation: share of slices that are flipped.
        shift: augmentation: largest cyclic shift, in pixels.
        rotate: augmentation: largest rotation, in degrees.
        noise: augmentation: share of salt-and-pepper pixels.
        zoom: augmentation: largest change of scale, for every class alike.
    """

    series: tuple[str, ...] = SERIES
    depth: Literal[18, 50] = 50
    pixels: int = 96
    pixel_mm: float = 1.75
    min_mm2: float = 50.0
    slices: int = 4
    epochs: int = 12
    choose_epochs: bool = True
    batch: int = 16
    rate: float = 1e-3
    decay: float = 5e-4
    magnify_rare: bool = False
    repeat_rare: bool = False
    log_shape: bool = True
    flip: float = 0.5
    shift: int = 6
    rotate: float = 180.0
    noise: float = 0.01
    zoom: float = 0.2

    def __post_init__(self) -> None:
        least = {"pixels": 32, "epochs": 1, "batch": 2, "slices": 0, "shift": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {low} or more")
        if not self.series or min(self.pixel_mm, self.rate) <= 0:
            raise ConfigError("a slice needs at least one series, and pixel_mm and rate above 0")

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
                pixels=160, pixel_mm=1.0, slices=0, epochs=20, choose_epochs=False, magnify_rare=True,
                repeat_rare=True, log_shape=False, zoom=0.0, shift=16,
            )  # fmt: skip
        raise ConfigError(f"no preset is called {name!r}; there are paper and sound")

    def scaled(self, scale: str) -> Self:
        """`demo`: ResNet-18 on coarse slices and few epochs, for minutes on two cores. `paper`: as it is."""
        if scale == "demo":
            return replace(self, depth=18, pixels=48, pixel_mm=3.5, slices=8, epochs=10, shift=3)
        return self


# --- from a case to slices and shape ---------------------------------------------------------------------------


def prepare(case: Case, config: Config) -> dict[str, np.ndarray]:
    """Cut the tumour's slices and measure its shape.

    Returns:
        `slices` (S, C, P, P) float16, z-scored over the brain and 0 outside the tumour; `shape` (14,) in mm;
        `affines` (S, 4, 4), the place of each slice.

    Raises:
        CaseError: no tumour, or a series without contrast.
    """
    tumour = tumour_of(case)
    brain = brain_of(case)
    images = normalised(case, brain)
    frames = slice_grid(case.grid, brain, tumour, config.pixels, config.pixel_mm, config.min_mm2)
    inside = cut(tumour, case.grid, frames, order=0)
    slices = np.stack([cut(images[s], case.grid, frames) for s in config.series], axis=1)
    shape = shape_features(tumour, case.grid.spacing)
    return {
        "slices": (slices * inside[:, None]).astype(np.float16),
        "shape": np.array([shape[f] for f in FEATURES]),
        "affines": np.stack([frame.affine for frame in frames]),
    }


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Slices and shape of each case; see `prepare`."""
    cases = replace(cases, series=config.series, need_mask=True)
    seen = [VERSION, config.series, config.pixels, config.pixel_mm, config.min_mm2]
    return cases.prepared(
        lambda case: prepare(case, config), f"shape-resnet {content_hash(seen)}", cache, tick
    )


# --- augmentation ----------------------------------------------------------------------------------------------


def augment(
    image: Float[Tensor, "b c p p"], rare: Float[Tensor, " b"], config: Config
) -> Float[Tensor, "b c p p"]:
    """Flip, turn, zoom, shift and salt slices; each slice draws its own numbers first.

    Args:
        image: slices.
        rare: 1 for slices of the rarest class, which the paper magnifies 448/240 times.
        config: amounts.
    """
    n, device = len(image), image.device
    angle = (torch.rand(n, device=device) * 2 - 1) * config.rotate * torch.pi / 180
    mirror = torch.where(torch.rand(n, device=device) < config.flip, -1.0, 1.0)
    scale = 1 + (torch.rand(n, device=device) * 2 - 1) * config.zoom
    if config.magnify_rare:
        scale = scale * torch.where(rare > 0, 448 / 240, 1.0)
    # a random crop of 160 from 224 pixels, as a shift in units of half a frame
    move = (torch.rand(n, 2, device=device) * 2 - 1) * (224 - 160) / 160 * rare[:, None] * config.magnify_rare
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([torch.stack([mirror * cos, -sin], 1), torch.stack([mirror * sin, cos], 1)], 1)
    grid = F.affine_grid(
        torch.cat([theta, (move / scale[:, None])[:, :, None]], 2), list(image.shape), align_corners=False
    )
    image = F.grid_sample(image, grid.to(image.dtype), align_corners=False)
    steps = torch.randint(-config.shift, config.shift + 1, (n, 2)).tolist()
    image = torch.stack([x.roll((dx, dy), (1, 2)) for x, (dx, dy) in zip(image, steps, strict=True)])
    salt = torch.rand_like(image[:, :1])
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    image = torch.where(salt < config.noise / 2, low, image)
    return torch.where(salt > 1 - config.noise / 2, high, image)


# --- training --------------------------------------------------------------------------------------------------


class _Task(L.LightningModule):
    """Cross-entropy on single slices."""

    def __init__(self, net: ShapeResNet, weights: np.ndarray, rarest: int, config: Config) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.settings, self.rarest = config, rarest
        self.weights = torch.tensor(weights, dtype=torch.float32)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        image, shape, truth = batch
        with torch.autocast(
            image.device.type, enabled=False
        ):  # in bfloat16 a grid is off by an eighth of a pixel
            image = augment(image, (truth == self.rarest).float(), self.settings)
        logits = self.net(image.contiguous(memory_format=torch.channels_last), shape)
        return F.cross_entropy(logits.float(), truth, weight=self.weights.to(truth.device))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        config = self.settings
        return torch.optim.Adam(self.parameters(), config.rate, (0.9, 0.99), weight_decay=config.decay)


@dataclass(frozen=True)
class _Held:
    """Patients of the inner fold, on which the number of epochs is chosen."""

    prepared: Sequence[Arrays]
    truth: np.ndarray
    losses: list[float] = field(default_factory=list)

    def loss(self, net: ShapeResNet, scaling: Scaling) -> float:
        """Log loss of whole patients, every class weighing the same."""
        shapes = scaling(np.stack([a["shape"] for a in self.prepared]))
        q = [mean_over_slices(net, a["slices"], z) for a, z in zip(self.prepared, shapes, strict=True)]
        right = np.log(np.clip(np.stack(q)[np.arange(len(q)), self.truth], 1e-6, 1))
        return -float(np.mean([right[self.truth == k].mean() for k in np.unique(self.truth)]))


def fit(cases: Cases, config: Config, run: Run) -> "Model":
    """Train on cases whose target is known and which have the series and a tumour mask.

    Raises:
        CaseError: a case cannot be read or holds no tumour.
        CohortError: `choose_epochs` and too few patients of a class for an inner fold.
    """
    prepared = ready(cases, config, run.cache, Counter("reading cases"))
    epochs = _choose_epochs(cases, prepared, config, run) if config.choose_epochs else config.epochs
    folder = run.folder / "final"
    net, scaling, shares = _train(cases, prepared, config, run, epochs=epochs, folder=folder)
    forget(folder)
    equal = [1 / len(shares)] * len(shares)
    prior = equal if config.repeat_rare else shares.tolist()  # repeated, the paper keeps its balanced answer
    return Model(run.target, run.classes, config, net.eval(), scaling, tuple(prior), epochs)


def _train(
    cases: Cases, prepared: Sequence[Arrays], config: Config, run: Run, *, epochs: int, folder: Path,
    held: _Held | None = None,
) -> tuple[ShapeResNet, Scaling, np.ndarray]:  # fmt: skip
    """Network, scaling and class shares after `epochs`; `held` patients are scored after each."""
    L.seed_everything(run.seed + (held is None), verbose=False)
    classes = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    counts = np.bincount(classes, minlength=len(run.classes))
    shapes = np.stack([a["shape"] for a in prepared])
    scaling = Scaling.learn(shapes, _SKEWED if config.log_shape else ())
    balanced = counts.sum() / (len(counts) * np.maximum(counts, 1))
    weights = np.ones(len(counts)) if config.repeat_rare else balanced
    net = ShapeResNet(len(config.series), len(run.classes), shapes=len(FEATURES), depth=config.depth)
    slices = PatientSlices(prepared, scaling(shapes), classes)
    draw = SliceDraw(slices, config.slices, config.repeat_rare, run.seed)
    batches = DataLoader(slices, config.batch, sampler=draw, drop_last=len(draw) > config.batch)
    task = _Task(net, weights, int(counts.argmin()), config)
    callbacks = [EachEpoch(lambda: held.loss(net, scaling), held.losses)] if held else []
    label = f"{'choosing epochs' if held else 'training'} on {len(prepared)} patients, epochs"
    train(task, batches, epochs=epochs, folder=folder, label=label, seed=run.seed, callbacks=callbacks)
    return net, scaling, counts / counts.sum()


def _choose_epochs(cases: Cases, prepared: Sequence[Arrays], config: Config, run: Run) -> int:
    """Train on three quarters of the training patients and take the epoch that serves the others best."""
    chosen = run.folder / "epochs.json"
    if chosen.is_file():
        return int(read_json(chosen)["epochs"])
    fold = holdout(cases.rows, run.target, test=0.25, seed=run.seed).folds[0]
    sides = {
        side: [a for a, row in zip(prepared, cases.rows, strict=True) if row.case in set(ids)]
        for side, ids in (("train", fold.train), ("test", fold.test))
    }
    truth = [run.classes.index(c) for c in cases.only(fold.test).classes(run.target)]
    held, folder = _Held(sides["test"], np.array(truth)), run.folder / "inner"
    inner = cases.only(fold.train)
    _train(inner, sides["train"], config, run, epochs=config.epochs, folder=folder, held=held)
    epochs = int(np.argmin(held.losses)) + 1
    write_json(chosen, {"epochs": epochs, "inner_log_loss": held.losses, "inner_cases": list(fold.test)})
    forget(folder)
    return epochs


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
        """Answer one case: class shares of the training put back, decision by the balanced posterior."""
        z = self.scaling(ready["shape"][None])[0]
        q = mean_over_slices(self.net, ready["slices"], z)
        p = with_prior(q[None], np.array(self.prior))[0]
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
        decided = self.classes.index(answer.decisions[self.target])
        z = self.scaling(made["shape"][None])[0]
        return replace(answer, evidence=self._evidence(made["slices"], z, decided))

    @torch.no_grad()
    def _evidence(self, slices: np.ndarray, z: np.ndarray, decided: int) -> dict[str, float]:
        """What image and each shape feature add to the logit of the decision over the mean of the others."""
        image = torch.from_numpy(slices.astype(np.float32))
        neck = torch.cat([self.net.backbone.eval()(x) for x in image.split(32)]).mean(dim=0).numpy()
        weights = self.net.head.weight.numpy().astype(np.float64)
        others = np.delete(weights, decided, axis=0).mean(axis=0)
        parts = (weights[decided] - others) * np.concatenate([neck, z])
        named = {"slices (ResNet)": float(parts[: len(neck)].sum())}
        named |= dict(zip(FEATURES, parts[len(neck) :].tolist(), strict=True))
        return dict(sorted(named.items(), key=lambda item: -abs(item[1])))

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """Grad-CAM for the decision, 0 to 1 (most) within the tumour, which is all that the network sees of a slice.

        Taken at the deepest block whose map still has six cells or more along an edge.
        """
        ready = prepare(case, self.config)
        z = self.scaling(ready["shape"][None])
        decided = int(mean_over_slices(self.net, ready["slices"], z[0]).argmax())
        images = torch.from_numpy(ready["slices"].astype(np.float32))
        layer = next(n for n in (4, 3, 2, 1) if self.config.pixels >= 6 * 2 ** (n + 1) or n == 1)
        heat = gradcam(OneInput(self.net, torch.from_numpy(z)), images, f"net.backbone.layer{layer}", decided)
        inside = (ready["slices"] != 0).any(axis=1)
        return {self.target: stacked(share_of_most(heat, inside), ready["affines"])}

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`."""
        weights = folder / "weights.safetensors"
        with whole_file(weights) as unfinished:
            save_file({k: v.contiguous() for k, v in self.net.state_dict().items()}, unfinished)
        card = {
            "method": "shape-resnet", "version": VERSION, "target": self.target, "classes": self.classes,
            "series": self.config.series, "config": asdict(self.config), "scaling": asdict(self.scaling),
            "prior": self.prior, "epochs": self.epochs, "sha256": file_hash(weights),
        }  # fmt: skip
        write_json(folder / "card.json", card)


def load(folder: Path) -> Model:
    """Bring a saved model back.

    Raises:
        ModelError: the folder does not hold one, or its weights are not those of its card.
    """
    card = read_json(folder / "card.json")
    if card.get("method") != "shape-resnet" or card.get("version") != VERSION:
        found = f"{card.get('method')} version {card.get('version')}"
        raise ModelError(f"{folder}: found {found}, expected shape-resnet version {VERSION}; train it again")
    weights = folder / "weights.safetensors"
    if not weights.is_file() or file_hash(weights) != card["sha256"]:
        raise ModelError(f"{weights}: missing, or not the file its card describes; copy the whole run again")
    config = changed(Config(), card["config"])
    classes = tuple(card["classes"])
    net = ShapeResNet(len(config.series), len(classes), shapes=len(FEATURES), depth=config.depth)
    net.load_state_dict(load_file(weights))
    scaling = Scaling(**{k: tuple(v) for k, v in card["scaling"].items()})
    return Model(card["target"], classes, config, net.eval(), scaling, tuple(card["prior"]), card["epochs"])
