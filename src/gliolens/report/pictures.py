"""The pictures of a report with their words: which slices, of which series, what the caption says."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gliolens.case import Case, Prediction, Volume
from gliolens.errors import ConfigError
from gliolens.labels import LABEL_TITLES, OEDEMA, REGION_TITLES, SERIES, SERIES_TITLES, regions_known
from gliolens.ops.geometry import resample
from gliolens.ops.intensity import share_inside
from gliolens.report import figures
from gliolens.report.built_in import Drawn
from gliolens.report.slice_plot import numbers_of_slices, slice_plot
from gliolens.report.words import share_of
from gliolens.types import Labels, Voxels

_MOST_HEATMAPS = 4  # half a megabyte each; a page stays below four
_PREFERRED = ("flair", "t1ce", "t2", "t1")  # the series that shows most of a glioma first
_COORDINATE = {"axial": "z", "coronal": "y", "sagittal": "x"}


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        caption: words below it.
        alt: words for those who cannot see it.
        source: the PNG as a data address.
    """

    caption: str
    alt: str
    source: str


@dataclass(frozen=True)
class Group:
    """Pictures below one heading; `wide` ones take the page's full width."""

    heading: str
    wide: bool
    pictures: Sequence[Picture]


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline that is shown.

    Attributes:
        labels: tumour labels on the case's grid; None where there are none or no voxel is marked.
        words: where the outline comes from and what it can tell.
        legend: colour and words of each part.
    """

    labels: Labels | None
    words: str
    legend: Sequence[tuple[str, str]] = ()


def picture(png: bytes, caption: str, alt: str = "") -> Picture:
    """Pack a PNG into a page.

    Raises:
        ConfigError: the bytes are no PNG.
    """
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ConfigError(f"the figure {caption!r} is no PNG: it does not start with PNG's signature")
    return Picture(caption, alt or caption, "data:image/png;base64," + base64.b64encode(png).decode())


def outline(case: Case, predictions: Sequence[Prediction], by: Drawn | None = None) -> Outline:
    """Choose the outline to show: the case's own labels, else those of the first prediction that drew some.

    Args:
        case: the case.
        predictions: answers that may have drawn labels.
        by: who drew the case's labels, where no mask was given.
    """
    drawn = [(p.method, p.labels) for p in predictions if p.labels is not None]
    if case.tumour is not None:
        origin = "the tumour labels of the case" if by is None else f"drawn by {by.by}, checked by no one"
        labels, scheme = case.tumour, case.mask_scheme
    elif drawn:
        method, volume = drawn[0]
        labels, scheme, origin = _on_grid(case, volume, order=0), "gliolens", f"drawn by {method}"
    else:
        return Outline(
            None, "No tumour outline was given or drawn; the slices lie in the middle of the head."
        )
    if not labels.any():
        words = (
            f"The outline ({origin}) is empty: no voxel is marked. The slices lie in the middle of the head."
        )
        return Outline(None, words)
    if len(regions_known(scheme)) == 1:
        words = f"Outline: {origin}. It marks the whole tumour only: core and enhancing tumour are not known."
        return Outline(labels, words, [(figures.COLOURS[OEDEMA], "whole tumour")])
    if by is not None and (guesses := [REGION_TITLES[n].lower() for n in by.guesses if n in REGION_TITLES]):
        origin += f"; a guess here: {', '.join(guesses)}"
    legend = [(figures.COLOURS[v], title) for v, title in LABEL_TITLES.items()]
    return Outline(labels, f"Outline: {origin}.", legend)


def slices(case: Case, scene: figures.Scene) -> list[Group]:
    """Every series through the slice with most tumour, one series in the other planes, and a strip."""
    axial, best = figures.central_cut(scene, "axial"), _best_series(case)
    others = [figures.central_cut(scene, plane) for plane in ("coronal", "sagittal")]
    here = f"Axial slice {axial.index + 1} of {case.grid.shape[2]}, {_place(case, axial)}"
    most = "" if scene.labels is None else " (most tumour)"
    name = SERIES_TITLES[best]
    return [
        Group(here + most, False, [_slice(case, scene, s, axial) for s in SERIES if s in case.series]),
        Group(f"Coronal and sagittal, {name}", False, [_slice(case, scene, best, c) for c in others]),
        Group(f"Axial slices of {name}, lowest first", True, [_strip(case, scene, best)]),
    ]


def unsure(case: Case, scene: figures.Scene, by: Drawn | None) -> list[Picture]:
    """Where the network that drew the outline is undecided; nothing where a mask was given or nothing was found."""
    if by is None or not by.found:
        return []
    share = by.probabilities["whole"]
    undecided = np.asarray(4 * share * (1 - share), dtype=np.float32)
    if not undecided.any():
        return []
    cuts = [figures.central_cut(scene, plane) for plane in ("axial", "coronal", "sagittal")]
    best = _best_series(case)
    png = figures.heatmap_picture(scene, best, undecided, cuts)
    where = f"over {SERIES_TITLES[best]} ({', '.join(f'{c.plane} {_place(case, c)}' for c in cuts)})"
    alt = "Where the outline is unsure: bright where tumour and no tumour are equally likely"
    return [picture(png, f"{alt}, {where}", alt)]


def heatmaps(
    case: Case, scene: figures.Scene, predictions: Sequence[tuple[str, Prediction]]
) -> list[Picture | str]:
    """A picture a heatmap, and a plot where it has one number a slice; a sentence where it shows nothing.

    Args:
        case: the case.
        scene: the case, prepared.
        predictions: each with the titles of the targets it answers.

    Raises:
        ConfigError: a heatmap holds values that are not finite.
    """
    maps = [(f"{t}, {p.method}: {n}", v) for t, p in predictions for n, v in p.heatmaps.items()]
    shown = [p for title, volume in maps[:_MOST_HEATMAPS] for p in _heatmap(case, scene, title, volume)]
    return [
        *shown,
        *(f"{t}: not shown here, to keep the page small; open its file." for t, _ in maps[_MOST_HEATMAPS:]),
    ]


def _heatmap(case: Case, scene: figures.Scene, title: str, volume: Volume) -> list[Picture | str]:
    heat = np.asarray(_on_grid(case, volume, order=1), dtype=np.float32)
    if not heat.any():
        return [f"{title}: the map is zero everywhere, so there is nothing to show."]
    cuts, best = figures.heat_cuts(heat), _best_series(case)
    caption = f"{title}, over {SERIES_TITLES[best]}, through its strongest voxel"
    places = ", ".join(f"{cut.plane} {_place(case, cut)}" for cut in cuts)
    share = heat_in_tumour(case, volume)
    told = "" if share is None else f"; {share_of(share)} of the heat lies in the tumour"
    mapped = picture(figures.heatmap_picture(scene, best, heat, cuts), f"{caption} ({places}){told}", caption)
    numbers = numbers_of_slices(volume)
    if numbers is None:
        return [mapped]
    return [mapped, picture(slice_plot(volume, numbers), f"{title}: how much each slice adds")]


def heat_in_tumour(case: Case, volume: Volume) -> float | None:
    """Share of a map's heat, of what speaks for the answer, that lies in the tumour; None without tumour or heat."""
    whole = case.region("whole")
    if whole is None or not whole.any():
        return None
    share = share_inside(np.maximum(_on_grid(case, volume, order=1), 0), whole)
    return None if np.isnan(share) else share


def _slice(case: Case, scene: figures.Scene, series: str, cut: figures.Cut) -> Picture:
    caption = f"{SERIES_TITLES[series]}, {cut.plane}, {_place(case, cut)}"
    beside = "" if scene.labels is None else "; on the right with the tumour's outline"
    return picture(figures.series_picture(scene, series, cut), caption, caption + beside)


def _strip(case: Case, scene: figures.Scene, series: str) -> Picture:
    cuts = figures.strip_cuts(scene)
    places = [_place(case, cut) for cut in cuts]
    across = "head" if scene.labels is None else "tumour"
    caption = f"{len(cuts)} slices across the {across}, from {places[0]} to {places[-1]}"
    png = figures.strip_picture(scene, series, cuts, [place.removeprefix("z = ") for place in places])
    return picture(png, caption, f"{SERIES_TITLES[series]}: {caption}")


def _on_grid(case: Case, volume: Volume, order: int) -> Voxels:
    """The volume's voxels on the case's grid."""
    return volume.voxels if volume.grid.matches(case.grid) else resample(volume, case.grid, order)


def _place(case: Case, cut: figures.Cut) -> str:
    """Where a slice lies: its centre's RAS+ coordinate, of the file's own origin, e.g. `z = 12 mm`."""
    index = (np.array(case.grid.shape) - 1) / 2
    axis = figures.PLANES[cut.plane]
    index[axis] = cut.index
    mm = float((case.grid.affine[:3, :3] @ index + case.grid.affine[:3, 3])[axis])
    text = f"{mm:.0f} mm".replace("-", "\N{MINUS SIGN}")
    return f"{_COORDINATE[cut.plane]} = {text}"


def _best_series(case: Case) -> str:
    return next(s for s in _PREFERRED if s in case.series)
