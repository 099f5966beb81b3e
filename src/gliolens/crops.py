"""Patients as volumes for a network that outlines and answers at once: read once, then cut and varied at each look.

A patient may lack series, a mask, or the class of any task; what is there is told beside the image.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gliolens.case import Case, Grid
from gliolens.cube import cube_grid, labels_in, stored_grid
from gliolens.errors import CaseError
from gliolens.loader import Arrays
from gliolens.ops.geometry import bounding_box
from gliolens.ops.zoom import zoom
from gliolens.preprocess import brain_of, normalised
from gliolens.segmenter import turned
from gliolens.tasks import UNKNOWN
from gliolens.windows import filled_up

NO_PLACE: Final = -1
"""Stands for the middle of a tumour that is not known."""


def brain_volume(case: Case, series: Sequence[str], voxel_mm: float) -> dict[str, np.ndarray]:
    """The brain's box of a case, on cubic voxels along the case's own axes.

    Args:
        case: with one of the series at least.
        series: channels, in this order.
        voxel_mm: edge of a voxel.

    Returns:
        `image` (C, D, H, W) float16, mean 0 and standard deviation 1 over the brain, 0 beyond it and where a series is
        missing; `there` (C,), which are not; `labels` (D, H, W), 0 to 3; `has_mask`, whether there is one with tumour;
        `binary`, whether the mask tells the whole tumour only; `middle` (3,), voxel in the middle of the tumour's box;
        `affine` (4, 4); `grid` (5, 4), affine and shape of the case's own grid.

    Raises:
        CaseError: none of the series is there, or one has no contrast.
    """
    shown = {s: case.series[s] for s in series if s in case.series}
    if not shown:
        raise CaseError(
            case.id,
            found=f"series {', '.join(case.series) or 'none'}",
            expected=f"one of {', '.join(series)} at least",
            fix="add a file, or leave the case out",
        )
    case = replace(case, series=shown)
    brain = brain_of(case)
    images, cube = normalised(case, brain), _box_grid(case.grid, brain, voxel_mm)
    empty = np.zeros(cube.shape, np.float32)
    image = np.stack([zoom(images[s], case.grid, cube) if s in images else empty for s in series])
    labels, binary = np.zeros(cube.shape, np.uint8), False
    if case.tumour is not None:
        binary = case.region("core") is None
        tumour = (case.tumour > 0).astype(np.uint8) if binary else case.tumour
        labels = labels_in(tumour, case.grid, cube)
    return {
        "image": image.astype(np.float16),
        "there": np.array([s in images for s in series]),
        "labels": labels,
        "has_mask": np.array(labels.any()),  # an empty mask of a glioma is none
        "binary": np.array(binary),
        "middle": middle_of(labels),
        "affine": cube.affine,
        "grid": stored_grid(case.grid),
    }


def _box_grid(grid: Grid, brain: np.ndarray, voxel_mm: float) -> Grid:
    """Cubic voxels over the brain's box and one beyond."""
    extent = [(s.stop - s.start) * mm for s, mm in zip(bounding_box(brain), grid.spacing, strict=True)]
    d, h, w = (int(np.ceil(mm / voxel_mm)) + 2 for mm in extent)
    return cube_grid(grid, brain, "brain", (d, h, w), (voxel_mm,) * 3)


def check_complete(case: str, there: Collection[str], series: Sequence[str]) -> None:
    """Raise CaseError where a case lacks a series that its network has never been without."""
    if missing := [s for s in series if s not in there]:
        raise CaseError(
            case,
            found=f"series {', '.join(there) or 'none'}",
            expected=f"{', '.join(missing)} too: this network never saw a patient without",
            fix="add the file, or train with drop above 0, as the sound preset does",
        )


def teaches(arrays: Arrays, edge: int) -> bool:
    """Whether a patient's cube holds what his labels speak of; where the tumour is not known, the brain must fit."""
    return bool(arrays["has_mask"]) or max(arrays["labels"].shape) <= edge


def middle_of(labels: np.ndarray) -> np.ndarray:
    """Voxel (3,) in the middle of the box of what is labelled; `NO_PLACE` where nothing is."""
    if not labels.any():
        return np.full(3, NO_PLACE)
    return np.array([(s.start + s.stop - 1) // 2 for s in bounding_box(labels > 0)])


def crop_around(middle: np.ndarray, size: Sequence[int], edge: int) -> tuple[slice, slice, slice]:
    """A cube of an edge around a voxel, moved so that it lies in the image; all of an axis that is shorter."""
    d, h, w = (
        slice(first := int(np.clip(m - edge // 2, 0, max(0, n - edge))), min(first + edge, n))
        for m, n in zip(middle, size, strict=True)
    )
    return d, h, w


@dataclass(frozen=True)
class Draws:
    """How a patient looks at each look.

    Attributes:
        edge: of the cube, in voxels.
        flip: whether left and right are swapped at random.
        vary: whether heads are turned, scaled and moved, and each series made brighter, darker and noisy.
        drop: chance that a series is left out; one always stays.
    """

    edge: int
    flip: bool = True
    vary: bool = True
    drop: float = 0.0


class Crops(Dataset[tuple[Tensor, Tensor, Tensor, bool, Tensor]]):
    """Patients as cubes around their tumour.

    One look is `image` (C, E, E, E), `there` (C,), `labels` (1, E, E, E), whether they are known, and the place of the
    class in each task (t,), `UNKNOWN` where it is not known. Where a cube does not hold the whole brain, and where the
    tumour lies is not known, no class is either: the cube may miss the tumour.

    Args:
        prepared: see `brain_volume`.
        truth: place of each patient's class in each task, (n, t).
        tissues: how many are told apart; with two, all tumour is one.
        draws: what happens at each look.
        seed: of all draws.
    """

    def __init__(
        self, prepared: Sequence[Arrays], truth: np.ndarray, tissues: int, draws: Draws, seed: int
    ) -> None:
        self.prepared, self.truth, self.tissues, self.draws, self.seed = prepared, truth, tissues, draws, seed

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, bool, Tensor]:
        rng, draws = np.random.default_rng([self.seed, number]), self.draws
        arrays, truth = self.prepared[number % len(self)], self.truth[number % len(self)]
        size, middle = arrays["labels"].shape, np.asarray(arrays["middle"])
        if middle[0] == NO_PLACE:
            truth = truth if max(size) <= draws.edge else np.full_like(truth, UNKNOWN)
            middle = rng.integers(0, size)
        elif draws.vary:
            middle = middle + rng.integers(-draws.edge // 8, draws.edge // 8 + 1, 3)
        where = crop_around(middle, size, draws.edge)
        image = torch.from_numpy(np.asarray(arrays["image"][(slice(None), *where)], np.float32))
        labels = np.minimum(arrays["labels"][where], self.tissues - 1).astype(np.int64)
        image = filled_up(image, draws.edge)[None]
        known = filled_up(torch.from_numpy(labels)[None], draws.edge)[None]
        if draws.flip and rng.random() < 0.5:
            image, known = image.flip(2), known.flip(2)
        if draws.vary:
            image, known = turned(image, known, rng)
            image = _recoloured(image, rng)
        there = _kept(np.asarray(arrays["there"]), draws.drop, rng)
        image = image * torch.from_numpy(there)[None, :, None, None, None]
        return image[0], torch.from_numpy(there), known[0], bool(arrays["has_mask"]), torch.from_numpy(truth)


def _recoloured(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Each series with more or less contrast, brighter or darker, and noise; 0 stays 0."""
    one = (1, image.shape[1], 1, 1, 1)
    gain, shift = (torch.from_numpy(rng.normal(0.0, spread, one)).float() for spread in (0.15, 0.15))
    noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32)) * rng.uniform(0.0, 0.1)
    return torch.where(image != 0, image * gain.exp() + shift + noise, 0.0)


def _kept(there: np.ndarray, drop: float, rng: np.random.Generator) -> np.ndarray:
    """Which series a look shows."""
    kept: np.ndarray = there & (rng.random(len(there)) >= drop)
    if not kept.any():
        kept[rng.choice(np.flatnonzero(there))] = True
    return kept
