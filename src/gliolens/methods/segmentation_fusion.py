"""Fused segmentation: a 2-D and a 3-D U-Net outline the tumour, their mean goes to a ResNet that names each slice.

Janardhan and Thomas (arXiv 2502.18775). With p_2D and p_3D the probabilities of tissues at each voxel,

    S = a p_2D + (1 - a) p_3D,   a = 0.6,   tissue of a slice = argmax ResNet(S)

The tissues (none, necrotic core, oedema, enhancing tumour) are read off the mask: they are no types of tumour. So that
a case can be answered too, GlioLens adds a rule: the mean of the slices' answers, one share a tissue, decides by
logistic regression.

`paper`  a central cube of 128 mm, minimum to maximum, focal loss, a = 0.6, Dice loss on a ResNet-50.
`sound`  a cube of 216 mm around the brain; percentiles; Dice and cross-entropy; the 3-D network starts from the
         built-in outline; patients vary; a chosen on patients kept aside; cross-entropy on a ResNet-18.
Every difference and guess is listed in docs/methods/segmentation-fusion.md.

    gliolens train segmentation-fusion cohort.csv --target grade --preset sound -o RUN

Needs a tumour mask to learn from; where masks tell the whole tumour only, so do the networks. See docs/results.md for
time and scores.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import torch

from gliolens.case import Case, CaseRow, Grid, Prediction, Volume
from gliolens.cohorts.splits import holdout
from gliolens.cube import (
    Centre,
    cube_grid,
    drawn_labels,
    grid_of,
    images_in,
    labels_in,
    lost_voxels,
    stored_grid,
)
from gliolens.errors import ConfigError
from gliolens.explain import gradcam, share_of_most
from gliolens.fusion import Fusion, best_share, learn_weight
from gliolens.io.store import content_hash
from gliolens.labels import SERIES
from gliolens.loader import Arrays, Cases
from gliolens.method import Run, changed
from gliolens.outline import read_outliner
from gliolens.preprocess import brain_of, tumour_of
from gliolens.progress import Counter, Tick
from gliolens.saved import read_model, write_model
from gliolens.segmenter import TISSUES, TUMOUR_ONLY, built_in_weights, learn_segmenter, say_lost, tissues_of
from gliolens.slice_namer import LAYER, SliceNamer, learn_slice_namer, slice_tissues
from gliolens.stats.perceptron import Perceptron
from gliolens.stats.priors import with_prior
from gliolens.stats.scaling import Scaling

MEASURES_TUMOURS: Final = True
"""It learns from masks: there is nothing it could learn from the healthy."""
VERSION = 1
"""Raised whenever the same weights would answer otherwise."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        series: series the networks see, in this order of channels.
        centre: the cube lies around the middle of the image, or of the brain.
        edge: of the cube, in voxels; must divide by 16.
        voxel_mm: edge of a voxel.
        slice_mm: of a voxel across the slices, where scans have thick ones; `voxel_mm` where not given.
        low, high: percentiles of the brain's intensities that become 0 and 1.
        widths_2d, widths_3d: channels of each level of the U-Nets, finest first.
        start: of the 3-D U-Net: random weights, or those of the built-in outline, which has the default widths.
        loss: of the U-Nets.
        weight: how the two are joined: `fixed` by `share`; one share `chosen`, or a weight a voxel `learned`, on a
            fifth of the training patients that the U-Nets do not see.
        share: of the 2-D network.
        epochs_2d, epochs_3d, epochs_slices: passes over the training patients, of each network.
        slices: of a patient and epoch, half of them with tumour.
        rate: learning rate of all three (AdamW).
        flip: whether left and right are swapped at random in training.
        vary: whether the U-Nets see each patient otherwise each time; see `segmenter.varied`.
        namer_sees: the tissues' probabilities, or the scans where they are tumour.
        namer_loss: of the ResNet.
        depth: of the ResNet.
        least_mm2: area from which a tissue can name its slice.
    """

    series: tuple[str, ...] = SERIES
    centre: Centre = "brain"
    edge: int = 96
    voxel_mm: float = 2.25
    slice_mm: float | None = None
    low: float = 0.5
    high: float = 99.5
    widths_2d: tuple[int, ...] = (16, 32, 64, 128, 256)
    widths_3d: tuple[int, ...] = (16, 32, 64, 128, 128)
    start: Literal["random", "built-in"] = "built-in"
    loss: Literal["focal", "cross-entropy", "dice+cross-entropy"] = "dice+cross-entropy"
    weight: Literal["fixed", "chosen", "learned"] = "chosen"
    share: float = 0.6
    epochs_2d: int = 20
    epochs_3d: int = 20
    epochs_slices: int = 6
    slices: int = 16
    rate: float = 1e-3
    flip: bool = True
    vary: bool = True
    namer_sees: Literal["probabilities", "masked"] = "probabilities"
    namer_loss: Literal["dice", "cross-entropy"] = "cross-entropy"
    depth: Literal[18, 50] = 18
    least_mm2: float = 50.0

    def __post_init__(self) -> None:
        least = {"edge": 16, "epochs_2d": 1, "epochs_3d": 1, "epochs_slices": 1, "slices": 2}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {low} or more")
        deepest = self._deepest
        if self.edge % deepest or self.edge == deepest:
            raise ConfigError(
                f"edge is {self.edge}; expected a multiple of {deepest}, from {2 * deepest}: each level halves it"
            )
        if (
            not self.series
            or min(self.voxel_mm, self.slice_mm or 1.0, self.rate) <= 0
            or not 0 <= self.share <= 1
        ):
            raise ConfigError(
                "expected at least one series, voxel_mm, slice_mm and rate above 0, share from 0 to 1"
            )

    @property
    def _deepest(self) -> int:
        return 1 << (max(len(self.widths_2d), len(self.widths_3d)) - 1)

    @property
    def cube(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Voxels along each axis and their edges in mm; as far across the slices as along them, or a little further."""
        high = self.slice_mm or self.voxel_mm
        slices = self._deepest * max(2, math.ceil(self.edge * self.voxel_mm / high / self._deepest - 1e-6))
        return (self.edge, self.edge, slices), (self.voxel_mm, self.voxel_mm, high)

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
                centre="image", edge=128, voxel_mm=1.0, low=0.0, high=100.0, widths_2d=(32, 64, 128, 256, 512),
                widths_3d=(32, 64, 128, 256, 512), start="random", loss="focal", weight="fixed", epochs_2d=50,
                epochs_3d=50, epochs_slices=50, slices=32, flip=False, vary=False, namer_loss="dice", depth=50,
            )  # fmt: skip
        raise ConfigError(f"no preset is called {name!r}; there are paper and sound")

    def scaled(self, scale: str) -> Self:
        """`demo`: a cube of 48 voxels of 4 mm, narrow networks and few epochs, for minutes on two cores."""
        if scale == "demo":
            return replace(
                self, centre="brain", edge=48, voxel_mm=4.0, widths_2d=(16, 32, 64, 128), widths_3d=(16, 32, 64, 128),
                start="random",
                epochs_2d=12, epochs_3d=16, epochs_slices=4, depth=18, slices=12,
            )  # fmt: skip
        return self


def prepare(case: Case, config: Config) -> dict[str, np.ndarray]:
    """What both networks see of a case, and what they should answer.

    Returns:
        `image` (C, E, E, S) float16, 0 to 1; `labels` (E, E, S), 0 to 3, or 0 and 1 where the mask tells the whole
        tumour only, which `binary` says; `affine` (4, 4) of the cube; `grid` (5, 4), affine and shape of the case's
        own grid; `lost`, voxels of the case's tumour that lie outside the cube.

    Raises:
        CaseError: no tumour, or a series without contrast.
    """
    tumour = tumour_of(case)
    assert case.tumour is not None  # tumour_of refuses a case without labels
    cube, image = _image(case, config)
    binary = case.region("core") is None
    return {
        "image": image,
        "labels": labels_in(tumour.astype(np.uint8) if binary else case.tumour, case.grid, cube),
        "binary": np.array(binary),
        "affine": cube.affine,
        "grid": stored_grid(case.grid),
        "lost": np.array(lost_voxels(tumour, case.grid, cube)),
    }


def _image(case: Case, config: Config) -> tuple[Grid, np.ndarray]:
    brain = brain_of(case, config.series)
    cube = cube_grid(case.grid, brain, config.centre, *config.cube)
    image = images_in(case, config.series, brain, cube, (config.low, config.high))
    return cube, image.astype(np.float16)


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Cube of each case; see `prepare`."""
    seen = [VERSION, config.series, config.centre, config.cube, config.low, config.high]
    recipe = f"segmentation-fusion {content_hash(seen)}"
    asked = replace(cases, series=config.series, need_mask=True)
    return asked.prepared(lambda case: prepare(case, config), recipe, cache, tick)


# --- training --------------------------------------------------------------------------------------------------


def identity(config: Config) -> str:
    """What decides an answer beside cases and settings: this version, and the weights that training starts from."""
    return f"{VERSION} {read_outliner().card['sha256']}" if config.start == "built-in" else str(VERSION)


def fit(cases: Cases, config: Config, run: Run) -> "Model":
    """Train the two U-Nets, what joins them, the ResNet, and the rule for cases; each is kept once it is done.

    Raises:
        CaseError: a case cannot be read or holds no tumour.
        CohortError: too few patients of a class to keep some aside.
    """
    first = built_in_weights(config.series, config.widths_3d) if config.start == "built-in" else {}
    prepared = ready(cases, config, run.cache, Counter("reading cases"))
    tissues = tissues_of(prepared)
    say_lost(prepared)
    learn, aside = _sides(cases, prepared, config, run)
    net = partial(
        learn_segmenter, learn, len(tissues), loss=config.loss, slices=config.slices, rate=config.rate,
        flip=config.flip, vary=config.vary, seed=run.seed,
    )  # fmt: skip
    flat = net(2, widths=config.widths_2d, epochs=config.epochs_2d, folder=run.folder / "2d")
    deep = net(3, widths=config.widths_3d, epochs=config.epochs_3d, folder=run.folder / "3d", first=first)
    fusion = Fusion(flat, deep, config.share)
    if config.weight == "chosen":
        fusion = replace(fusion, weight=best_share(fusion, aside, run.folder / "share.json"))
    if config.weight == "learned":
        fusion = replace(fusion, weight=learn_weight(fusion, aside, run.folder / "weight", run.seed))
    namer = learn_slice_namer(
        fusion, prepared, depth=config.depth, sees=config.namer_sees, loss=config.namer_loss,
        epochs=config.epochs_slices, slices=config.slices, rate=config.rate, flip=config.flip,
        least_pixels=config.least_mm2 / config.voxel_mm**2, folder=run.folder / "slices", seed=run.seed,
    )  # fmt: skip
    return _with_rule(cases, prepared, config, run, fusion, namer)


def _sides(
    cases: Cases, prepared: Sequence[Arrays], config: Config, run: Run
) -> tuple[list[Arrays], list[Arrays]]:
    """Patients the U-Nets learn from, and those they are joined on."""
    if config.weight == "fixed":
        return list(prepared), []
    aside = set(holdout(cases.rows, run.target, test=0.2, seed=run.seed).folds[0].test)
    both: tuple[list[Arrays], list[Arrays]] = ([], [])
    for row, arrays in zip(cases.rows, prepared, strict=True):
        both[row.case in aside].append(arrays)
    return both


def _with_rule(
    cases: Cases, prepared: Sequence[Arrays], config: Config, run: Run, fusion: Fusion, namer: SliceNamer
) -> "Model":
    """The whole model: how a case's slices decide is learnt last."""
    shares = np.stack([_shares(fusion, namer, a) for a in prepared])
    truth = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    scaling = Scaling.learn(shares)
    rule = Perceptron.learn(scaling(shares), truth, hidden=0, balanced=True, seed=run.seed)
    counts = np.bincount(truth, minlength=len(run.classes))
    prior = tuple((counts / counts.sum()).tolist())
    return Model(run.target, run.classes, config, fusion, namer, scaling, rule, prior)


def _shares(fusion: Fusion, namer: SliceNamer, arrays: Arrays) -> np.ndarray:
    """Mean over slices that hold brain of what the ResNet answers, one share a tissue."""
    image = np.asarray(arrays["image"], np.float32)
    told = slice_tissues(namer, image, fusion(image))
    return np.asarray(told[image.any(axis=(0, 1, 2))].mean(axis=0))


@dataclass(frozen=True, eq=False)
class Model:
    """Trained networks with the rule by which slices answer for their case."""

    target: str
    classes: tuple[str, ...]
    config: Config
    fusion: Fusion
    namer: SliceNamer
    scaling: Scaling
    rule: Perceptron
    prior: tuple[float, ...]
    draws = True

    @property
    def tissues(self) -> tuple[str, ...]:
        """What is told of each voxel and slice."""
        return TUMOUR_ONLY if self.fusion.tissues == 2 else TISSUES

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case and outline its tumour; the labels of `ready` are not looked at."""
        image = np.asarray(ready["image"], np.float32)
        return self._answer(row.case, image, Grid(image.shape[1:], ready["affine"]), grid_of(ready["grid"]))

    def predict(self, case: Case) -> Prediction:
        """Answer one case, outline its tumour, and say how its slices were named."""
        cube, image = _image(case, self.config)
        return self._answer(case.id, image.astype(np.float32), cube, case.grid)

    def _answer(self, case: str, image: np.ndarray, cube: Grid, grid: Grid) -> Prediction:
        fused = self.fusion(image)
        named = slice_tissues(self.namer, image, fused)
        shares = named[image.any(axis=(0, 1, 2))].mean(axis=0)
        q = self.rule(self.scaling(shares[None]))
        p = with_prior(q, np.array(self.prior))[0]
        told = {f"share of slices: {t}": float(s) for t, s in zip(self.tissues, shares, strict=True)}
        return Prediction(
            case=case,
            method="segmentation-fusion",
            probabilities={self.target: dict(zip(self.classes, p.tolist(), strict=True))},
            decisions={self.target: self.classes[int(q[0].argmax())]},
            labels=Volume(drawn_labels(fused, cube, grid), grid.affine),
            labels_scheme="binary" if len(self.tissues) == 2 else "gliolens",
            evidence=dict(sorted(told.items(), key=lambda item: -item[1])),
        )

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """Two maps on the cube's grid, their names led by the target's.

        `slices`: Grad-CAM of the ResNet for the tissue that names most of the tumour's slices, 0 to 1 (most).
        `networks-apart`: by how much the two networks' probabilities of tumour differ.
        """
        cube, image = _image(case, self.config)
        seen = image.astype(np.float32)
        flat, deep = self.fusion.branches(seen)
        fused = self.fusion(seen)
        of_slices = self.namer.sees_of(seen, fused)
        named = slice_tissues(self.namer, seen, fused).argmax(axis=1)
        tissue = 1 + int(np.bincount(named, minlength=len(self.tissues))[1:].argmax())
        heat = gradcam(self.namer.net, of_slices, LAYER, tissue).transpose(1, 2, 0)
        maps = {
            "slices": share_of_most(heat, np.any(seen, axis=0)),
            "networks-apart": np.abs(flat[0] - deep[0]),
        }
        return {
            f"{self.target}-{name}": Volume(m.astype(np.float32), cube.affine) for name, m in maps.items()
        }

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`."""
        rule = {"rule.weight": torch.from_numpy(self.rule.weights[0].copy()),
                "rule.bias": torch.from_numpy(self.rule.biases[0].copy())}  # fmt: skip
        about = {
            "target": self.target, "classes": self.classes, "series": self.config.series,
            "config": asdict(self.config), "tissues": self.tissues, "share": self.fusion.share,
            "scaling": asdict(self.scaling), "prior": self.prior,
        }  # fmt: skip
        write_model(
            folder,
            "segmentation-fusion",
            VERSION,
            {**self.fusion.state(), **self.namer.state(), **rule},
            about,
        )


def load(folder: Path) -> Model:
    """Bring a saved model back.

    Raises:
        ModelError: the folder does not hold one, or its weights are not those of its card.
    """
    card, state = read_model(folder, "segmentation-fusion", VERSION)
    config = changed(Config(), card["config"])
    tissues, channels = len(card["tissues"]), len(config.series)
    fusion = Fusion.made(state, channels, tissues, config.widths_2d, config.widths_3d, card["share"])
    namer = SliceNamer.made(state, channels, tissues, config.depth, config.namer_sees)
    scaling = Scaling(**{k: tuple(v) for k, v in card["scaling"].items()})
    rule = Perceptron((state["rule.weight"].numpy(),), (state["rule.bias"].numpy(),))
    return Model(
        card["target"], tuple(card["classes"]), config, fusion, namer, scaling, rule, tuple(card["prior"])
    )
