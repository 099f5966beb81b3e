"""Cases as vectors: every series cut into slices, every slice through a frozen encoder, once.

What comes out is kept by content: the bytes of the scans, how they were cut, and the encoder's weights. So one pass
serves every pooling, every subset of series and every classifier, and a second run reads what the first one made.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gliolens.case import Case, CaseRow, Grid, Volume
from gliolens.encoders.encoder import Encoder
from gliolens.errors import CaseError
from gliolens.io.content import address
from gliolens.io.store import content_hash, file_hash, whole_folder
from gliolens.loader import Arrays, Cases, Kept, read_case
from gliolens.ops.geometry import bounding_box, resample
from gliolens.preprocess import brain_of, cut, rescaled, slice_grid
from gliolens.progress import Tick, say
from gliolens.stats.combat import Combat
from gliolens.types import Mask

VERSION: Final = 1
"""Raised whenever the same scans would give other pictures."""
FRAME_MM: Final = 240
"""Edge of a slice: that of the BraTS releases, at one pixel a millimetre."""
LEAST_SHARE: Final = 0.01
"""Slices whose brain covers less of the frame are left out."""
PERCENTILES: Final = (1.0, 99.0)
"""Of the brain's intensities, which become black and white; per volume, not per slice."""
AT_ONCE: Final[Mapping[str, int]] = {"cpu": 16, "cuda": 32}
"""Pictures that are shown at once; on a processor more are slower, for they fall out of its cache."""


def embed(cases: Cases, encoder: Encoder, cache: Path, tick: Tick | None = None) -> list[Arrays]:
    """Vectors of every series of every case.

    Args:
        cases: with the series that are wanted.
        encoder: from slices, or whole volumes, to vectors.
        cache: where vectors are kept, a folder a case and series.
        tick: progress over cases.

    Returns:
        Of each case: for each series `vectors (S, dim)`, float32, mapped into memory; and `affines` (S, 4, 4), the
        place of each slice `(FRAME_MM, FRAME_MM, 1)`, the same for all series.

    Raises:
        CaseError: a case cannot be read, or a series has no contrast.
    """
    out: list[Arrays] = []
    for done, row in enumerate(cases.rows, start=1):
        folder = cache / "embeddings" / _key(row, cases.series, encoder)
        if not folder.is_dir():
            made = vectors_of(cases[done - 1], cases.series, encoder)
            with whole_folder(folder, keep=True) as unfinished:
                for name, array in made.items():
                    np.save(unfinished / f"{name}.npy", array)
        out.append(Kept(folder))
        if tick:
            tick(done, len(cases))
    return out


def _key(row: CaseRow, series: Sequence[str], encoder: Encoder) -> str:
    """What decides the vectors: the bytes of the files, wherever they lie, and who reads them.

    A file that is not there counts for nothing here: no vectors are kept without it, and reading the case tells.
    """
    named = {s: row.files[s] for s in series if s in row.files} | {"brain": row.brain_mask}
    there = {n: address(f) for n, f in named.items() if f is not None and address(f)[0].is_file()}
    seen = {name: (file_hash(file), frame) for name, (file, frame) in there.items()}
    return content_hash([VERSION, seen, encoder.identity])[:24]


def vectors_of(case: Case, series: Sequence[str], encoder: Encoder) -> dict[str, np.ndarray]:
    """What `embed` keeps of one case: vectors (S, dim) of each series, and `affines` (S, 4, 4).

    Raises:
        CaseError: a series has no contrast.
    """
    cube = encoder.card.input_size if encoder.card.volumes else None
    pictures, frames = pictures_of(case, series, cube)
    vectors = {s: encode(encoder, p).numpy() for s, p in pictures.items()}
    return {**vectors, "affines": np.stack([frame.affine for frame in frames])}


def pictures_of(
    case: Case, series: Sequence[str], cube: int | None = None
) -> tuple[dict[str, Tensor], list[Grid]]:
    """What an encoder sees of a case, between 0 and 1, and where it lies.

    Args:
        case: the case.
        series: which series.
        cube: edge of a cube around the brain, in voxels; slices where not given.

    Returns:
        Slices (S, FRAME_MM, FRAME_MM) of each series, front up, the patient's left on the right; or one volume
        (1, D, H, W).

    Raises:
        CaseError: a series has no contrast.
    """
    brain = brain_of(case, series)
    if cube is not None:
        frame = _cube(case.grid, brain, cube)
        return {s: _volume(case, s, brain, frame) for s in series}, [frame]
    frames = slice_grid(case.grid, brain, brain, FRAME_MM, 1.0, LEAST_SHARE * FRAME_MM**2)
    return {s: _slices(case, s, brain, frames) for s in series}, frames


def means_of(
    rows: Sequence[CaseRow], encoder: Encoder, tick: Tick | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Of each case that can be read, for each of its series the mean over slices of its vectors (dim,)."""
    out = {}
    for done, row in enumerate(rows, start=1):
        try:
            case = read_case(row, need_mask=False)
            out[row.case] = {s: pooled(vectors_of(case, [s], encoder)[s], "mean") for s in case.series}
        except CaseError as error:
            say(f"{row.case}: left out of the embeddings: {error}")
        if tick:
            tick(done, len(rows))
    return out


def encode(encoder: Encoder, pictures: Tensor) -> Tensor:
    """Vectors (n, dim) of n pictures of any shape, a few at a time, so that memory does not grow with n."""
    return torch.cat([encoder.encode(part) for part in pictures.split(AT_ONCE[encoder.device.type])])


def _slices(case: Case, name: str, brain: Mask, frames: list[Grid]) -> Tensor:
    """Slices (S, h, w) as radiology shows them, front up and the patient's left on the right: 8 bits, 0 to 1."""
    grey = cut(rescaled(case, name, brain, PERCENTILES), case.grid, frames)
    return torch.from_numpy(np.round(255.0 * grey).clip(0, 255).astype(np.float32) / 255.0).mT.flip(1, 2)


def _volume(case: Case, name: str, brain: Mask, cube: Grid) -> Tensor:
    grey = resample(Volume(rescaled(case, name, brain, PERCENTILES), case.grid.affine), cube)
    return torch.from_numpy(np.asarray(grey, np.float32))[None]


def _cube(grid: Grid, brain: Mask, edge: int) -> Grid:
    """A cube around the brain, `edge` voxels along each side."""
    box = bounding_box(brain)
    low, high = (np.array([getattr(s, end) for s in box], float) for end in ("start", "stop"))
    spacing = np.array(grid.spacing)
    voxel_mm = ((high - low) * spacing).max() / edge
    middle = grid.affine @ [*((low + high - 1) / 2), 1.0]
    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:3, :3] / spacing * voxel_mm
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ np.full(3, (edge - 1) / 2)
    return Grid((edge, edge, edge), affine)


# --- from vectors to one vector --------------------------------------------------------------------------------

Pooling: TypeAlias = Literal["mean", "max", "median"]
POOLINGS: Final[tuple[Pooling, ...]] = ("mean", "max", "median")
"""How the vectors of slices become that of a volume, without anything learnt."""


def pooled(vectors: np.ndarray, how: Pooling) -> np.ndarray:
    """One vector (dim,) of a volume from those of its slices (S, dim), number by number."""
    if how == "median":
        return np.asarray(np.median(vectors, axis=0))
    return np.asarray(vectors.max(axis=0) if how == "max" else vectors.mean(axis=0))


Pools: TypeAlias = Mapping[tuple[str, Pooling], np.ndarray]
"""Vectors (n, dim) of cases, for each series and pooling."""


def pools_of(
    embedded: Sequence[Arrays], series: Sequence[str], poolings: Sequence[Pooling] = POOLINGS
) -> Pools:
    """Pool every series of every case once, for all configurations to choose from."""
    return {(s, how): np.stack([pooled(e[s], how) for e in embedded]) for s in series for how in poolings}


def joined(pools: Pools, series: Sequence[str], how: Pooling) -> np.ndarray:
    """Vectors of cases (n, dim x series): those of the series, one after another."""
    return np.concatenate([pools[s, how] for s in series], axis=1)


def without_each(vectors: np.ndarray, how: Pooling) -> np.ndarray:
    """Pooled vectors (S, dim) of a volume with one slice left out at a time."""
    keep = ~np.eye(len(vectors), dtype=bool)
    return np.stack([pooled(vectors[k], how) for k in keep])


def by_series(vectors: Mapping[str, np.ndarray], series: Sequence[str]) -> np.ndarray:
    """Vectors of slices (S, dim x series), the series of a slice one after another."""
    return np.concatenate([vectors[s] for s in series], axis=1)


# --- what a site adds ------------------------------------------------------------------------------------------


def harmony_of(cases: Cases, embedded: Sequence[Arrays], series: Sequence[str]) -> dict[str, Combat]:
    """What each site adds to the vectors of each series, learnt from their means over slices.

    Raises:
        CohortError: the site of a case is not known.
        ConfigError: fewer than two sites have `stats.combat.LEAST` cases.
    """
    sites = cases.sites()
    return {s: Combat.learn(np.stack([pooled(e[s], "mean") for e in embedded]), sites) for s in series}


def harmonised(embedded: Arrays, site: str | None, harmony: Mapping[str, Combat]) -> Arrays:
    """Vectors of slices (S, dim) without what the site adds: the same for each slice, and so for their mean."""
    if not harmony:
        return embedded
    mended = {s: learnt(embedded[s], [site] * len(embedded[s])) for s, learnt in harmony.items()}
    return {**embedded, **{s: v.astype(np.float32) for s, v in mended.items()}}
