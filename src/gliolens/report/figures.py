"""Pictures of a case, as PNG bytes: slices in radiological display, the tumour over them, heatmaps.

Radiological display: the patient is seen from the feet (axial) or from the front (coronal), so the patient's
left is on the right side of the picture; in sagittal slices anterior is on the left. Letters on the pictures
say so.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image as Picture

from gliolens.case import Case
from gliolens.errors import CaseError, ConfigError
from gliolens.labels import ENHANCING, LABEL_TITLES, NECROTIC, OEDEMA, SERIES_TITLES
from gliolens.ops.geometry import Box
from gliolens.ops.intensity import foreground
from gliolens.types import Image, Labels, Mask, Voxels

COLOURS: Final = MappingProxyType({NECROTIC: "#D55E00", OEDEMA: "#56B4E9", ENHANCING: "#F0E442"})
"""Fill and contour of each label: three of Okabe and Ito's colours for all kinds of colour vision.

Okabe, Ito: Color Universal Design (2008). They differ in lightness too, so they survive a grey print.
"""
PLANES: Final = MappingProxyType({"sagittal": 0, "coronal": 1, "axial": 2})
"""The voxel axis that each plane cuts."""

_EDGES: Final = {  # left, right, top, bottom
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
_MARGIN_MM = 8.0
_DPI = 144  # one and a half pixels to each of the page's, so that letters measure about 13 pixels on the page
_HALF_PX, _FULL_PX, _GAP_PX, _BAR_PX = 810, 1650, 6, 130
_STRIP_SLICES = 6


@dataclass(frozen=True)
class Cut:
    """One slice: a plane of `PLANES` and the voxel index along its axis."""

    plane: str
    index: int


@dataclass(frozen=True, eq=False)
class Scene:
    """What all pictures of one case share.

    Attributes:
        series: the case's images.
        spacing: millimetres a voxel.
        box: voxels that are shown, the head with a margin.
        windows: the value shown black and the value shown white, for each series.
        labels: tumour labels, or None where there is no outline.
    """

    series: Mapping[str, Image]
    spacing: tuple[float, float, float]
    box: Box
    windows: Mapping[str, tuple[float, float]]
    labels: Labels | None


def display(voxels: Voxels, plane: str, index: int) -> np.ndarray:
    """Cut one slice out and turn it for display, as rows from top to bottom.

    Args:
        voxels: `(D, H, W)`, pointing to right, anterior, superior.
        plane: `axial` (patient's left on the right, anterior on top), `coronal` (left on the right, superior
            on top) or `sagittal` (posterior on the right, superior on top).
        index: voxel index along the plane's axis.
    """
    cut: np.ndarray = np.take(voxels, index, axis=PLANES[plane])
    return cut[::-1, ::-1].T


def pixel_mm(spacing: tuple[float, float, float], plane: str) -> tuple[float, float]:
    """Height and width in millimetres of one pixel of `display`."""
    across, up = (mm for axis, mm in enumerate(spacing) if axis != PLANES[plane])
    return up, across


def window(image: Image, case: str) -> tuple[float, float]:
    """Grey levels: percentiles 1 and 99.5 of the tissue, or the whole range where these coincide.

    Raises:
        CaseError: the image is flat.
    """
    if image.min() == image.max():
        raise CaseError(
            case,
            found=f"a series whose voxels are all {image.flat[0]:g}",
            expected="an image with contrast",
            fix="check the file in a viewer, and leave the series out if it is empty",
        )
    low, high = np.percentile(image[foreground(image)], (1, 99.5))
    return (float(low), float(high)) if low < high else (float(image.min()), float(image.max()))


def scene(case: Case, labels: Labels | None) -> Scene:
    """Prepare a case for its pictures.

    Raises:
        CaseError: the case has no series, or a series is flat.
    """
    if not case.series:
        raise CaseError(
            case.id, found="no series", expected="at least one image", fix="name one, e.g. --flair"
        )
    windows = {name: window(image, case.id) for name, image in case.series.items()}
    shown = np.any([foreground(image) for image in case.series.values()], axis=0)
    return Scene(case.series, case.grid.spacing, _head(shown, labels, case.grid.spacing), windows, labels)


def _head(tissue: Mask, labels: Labels | None, spacing: tuple[float, float, float]) -> Box:
    """The box around tissue and tumour with a margin; lone bright voxels in air do not count."""
    ranges = []
    for axis, mm in enumerate(spacing):
        others = tuple(a for a in range(3) if a != axis)
        share = tissue.mean(axis=others)
        inside = share > 0.02 * share.max()
        if labels is not None:
            inside |= labels.any(axis=others)
        found, margin = np.flatnonzero(inside), int(np.ceil(_MARGIN_MM / mm))
        ranges.append(slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + margin + 1, inside.size)))
    return ranges[0], ranges[1], ranges[2]


def central_cut(scene: Scene, plane: str) -> Cut:
    """The slice with most tumour, or the middle of the head where no tumour is marked."""
    axis = PLANES[plane]
    if scene.labels is not None and scene.labels.any():
        others = tuple(a for a in range(3) if a != axis)
        return Cut(plane, int(np.count_nonzero(scene.labels, axis=others).argmax()))
    return Cut(plane, (scene.box[axis].start + scene.box[axis].stop - 1) // 2)


def strip_cuts(scene: Scene) -> list[Cut]:
    """About six axial slices from the lower to the upper end of the tumour, or of the head without one."""
    box = scene.box[2]
    inside = np.arange(box.start, box.stop)
    if scene.labels is not None and scene.labels.any():
        inside = np.flatnonzero(scene.labels.any(axis=(0, 1)))
    # The ends of a tumour are a few voxels wide, so the outermost slices lie half a step inside.
    steps = (np.arange(_STRIP_SLICES) + 0.5) * inside.size / _STRIP_SLICES
    return [Cut("axial", int(k)) for k in np.unique(inside[steps.astype(int)])]


def series_picture(scene: Scene, name: str, cut: Cut) -> bytes:
    """One slice of one series; beside it the same slice with the tumour, where one is marked."""
    marked = (False, True) if scene.labels is not None else (False,)
    figure, axes = _panels(scene, [cut] * len(marked), _HALF_PX)
    for ax, tumour in zip(axes, marked, strict=True):
        _draw_image(ax, scene, name, cut)
        if tumour:
            _draw_tumour(ax, scene, cut)
    _write(axes[0], 0.0, 1.0, SERIES_TITLES[name])
    _scale_bar(axes[0])
    return _png(figure)


def strip_picture(scene: Scene, name: str, cuts: Sequence[Cut], titles: Sequence[str]) -> bytes:
    """Several axial slices of one series in a row with the tumour's contour; one title a slice."""
    figure, axes = _panels(scene, cuts, _FULL_PX)
    for ax, cut, title in zip(axes, cuts, titles, strict=True):
        _draw_image(ax, scene, name, cut)
        _draw_tumour(ax, scene, cut, fill=0.0)
        _write(ax, 0.0, 1.0, title, size=9)
    return _png(figure)


def heatmap_picture(scene: Scene, name: str, heat: Image, cuts: Sequence[Cut]) -> bytes:
    """A heatmap over slices of one series, with the outline of the whole tumour in white and a colour bar.

    Args:
        scene: the case.
        name: series below the map.
        heat: the map on the case's grid; see `heat_scale` for its colours.
        cuts: slices to show.
    """
    figure, axes = _panels(scene, cuts, _FULL_PX, _BAR_PX)
    colours, scale = heat_scale(heat)
    for ax, cut in zip(axes, cuts, strict=True):
        _draw_image(ax, scene, name, cut)
        _draw_heat(ax, scene, heat, cut, colours, scale)
        _draw_tumour(ax, scene, cut, fill=0.0, colour="white")
    _draw_bar(figure, colours, scale)
    return _png(figure, colours=0)  # a palette would band the map's smooth colours


def heat_scale(heat: Image) -> tuple[Colormap, Normalize]:
    """Colours of a heatmap: from 0 to its maximum, or, where it has negative values, evenly around 0.

    Raises:
        ConfigError: the map is zero everywhere or holds values that are not finite.
    """
    top = float(np.abs(heat).max())
    if not np.isfinite(top) or top == 0:
        raise ConfigError(
            f"a heatmap with largest value {top} cannot be shown; expected finite values, not all 0"
        )
    signed = bool(heat.min() < 0)
    return colormaps["PuOr_r" if signed else "inferno"], Normalize(-top if signed else 0.0, top)


def heat_cuts(heat: Image) -> list[Cut]:
    """Axial, coronal and sagittal slice through the heatmap's strongest voxel; of equals, one in their middle.

    Raises:
        ConfigError: as `heat_scale`.
    """
    _, scale = heat_scale(heat)
    strongest = np.argwhere(np.abs(heat) >= (scale.vmax or 0.0) * (1 - 1e-5))
    peak = strongest[np.abs(strongest - np.median(strongest, axis=0)).sum(axis=1).argmin()]
    return [Cut(plane, int(peak[axis])) for plane, axis in reversed(list(PLANES.items()))]


# --- one panel ---------------------------------------------------------------------------------------------


def _shown(scene: Scene, voxels: Voxels, cut: Cut) -> np.ndarray:
    axis = PLANES[cut.plane]
    box = tuple(s if a != axis else slice(None) for a, s in enumerate(scene.box))
    return display(voxels[box], cut.plane, cut.index)


def _size_mm(scene: Scene, plane: str) -> tuple[float, float]:
    """Height and width of a panel in millimetres."""
    sizes = [(s.stop - s.start) * mm for s, mm in zip(scene.box, scene.spacing, strict=True)]
    across, up = (mm for axis, mm in enumerate(sizes) if axis != PLANES[plane])
    return up, across


def _panels(scene: Scene, cuts: Sequence[Cut], width_px: int, bar_px: int = 0) -> tuple[Figure, list[Axes]]:
    """A black figure with one panel a slice, all at one scale; millimetres are the coordinates."""
    sizes = [_size_mm(scene, cut.plane) for cut in cuts]
    gaps = _GAP_PX * (len(cuts) - 1) + bar_px
    scale = (width_px - gaps) / sum(across for _, across in sizes)
    height_px = round(scale * max(up for up, _ in sizes))
    figure = Figure(figsize=(width_px / _DPI, height_px / _DPI), dpi=_DPI, facecolor="black")
    axes, left = [], 0.0
    for cut, (up, across) in zip(cuts, sizes, strict=True):
        width, height = across * scale / width_px, up * scale / height_px
        ax = figure.add_axes((left, (1 - height) / 2, width, height))
        ax.set(xlim=(0, across), ylim=(up, 0))
        ax.set_axis_off()
        _mark_edges(ax, cut.plane)
        axes.append(ax)
        left += width + _GAP_PX / width_px
    return figure, axes


def _draw_image(ax: Axes, scene: Scene, name: str, cut: Cut) -> None:
    low, high = scene.windows[name]
    up, across = _size_mm(scene, cut.plane)
    pixels = _shown(scene, scene.series[name], cut)
    ax.imshow(
        pixels,
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(0, across, up, 0),
        interpolation="bilinear",
        aspect="auto",  # the panel itself has the right shape in millimetres
    )


def _draw_tumour(ax: Axes, scene: Scene, cut: Cut, fill: float = 0.3, colour: str | None = None) -> None:
    """Fill and contour of each label; of the whole tumour in one colour where `colour` is given."""
    if scene.labels is None:
        return
    labels = _shown(scene, scene.labels, cut)
    up_mm, across_mm = pixel_mm(scene.spacing, cut.plane)
    x = (np.arange(labels.shape[1]) + 0.5) * across_mm
    y = (np.arange(labels.shape[0]) + 0.5) * up_mm
    parts = {colour: labels > 0} if colour else {COLOURS[v]: labels == v for v in LABEL_TITLES}
    for tint, part in parts.items():
        if min(part.shape) < 2 or not part.any() or part.all():
            continue
        if fill:
            ax.contourf(x, y, part, levels=[0.5, 1.5], colors=[to_rgba(tint, fill)])
        ax.contour(x, y, part, levels=[0.5], colors=[tint], linewidths=1.3)


def _draw_heat(ax: Axes, scene: Scene, heat: Image, cut: Cut, colours: Colormap, scale: Normalize) -> None:
    pixels = _shown(scene, heat, cut)
    up, across = _size_mm(scene, cut.plane)
    rgba = colours(scale(pixels))
    # Weak values let the image through, so that only what matters hides anatomy.
    rgba[..., 3] = 0.75 * np.clip(np.abs(pixels) / scale.vmax / 0.5, 0, 1)
    ax.imshow(rgba, extent=(0, across, up, 0), interpolation="bilinear", aspect="auto")


def _draw_bar(figure: Figure, colours: Colormap, scale: Normalize) -> None:
    low, high = scale.vmin or 0.0, scale.vmax or 1.0
    ax = figure.add_axes((1 - (_BAR_PX - 20) / _FULL_PX, 0.15, 20 / _FULL_PX, 0.7))
    ax.imshow(
        colours(np.linspace(0, 1, 256))[:, None], aspect="auto", origin="lower", extent=(0, 1, low, high)
    )
    ax.set_xticks([])
    ax.yaxis.tick_right()
    names = ("most\nagainst", "0", "most\nfor") if low < 0 else ("0", "half", "most")
    ax.set_yticks([low, (low + high) / 2, high], names)
    ax.tick_params(colors="white", labelsize=9, length=3)
    ax.spines[:].set_color("white")


def _mark_edges(ax: Axes, plane: str) -> None:
    left, right, top, bottom = _EDGES[plane]
    for x, y, letter in ((0.0, 0.5, left), (1.0, 0.5, right), (0.5, 1.0, top), (0.5, 0.0, bottom)):
        _write(ax, x, y, letter)


def _write(ax: Axes, x: float, y: float, text: str, size: int = 10) -> None:
    """White letters with a black rim at an edge (0 or 1) or the middle (0.5) of a panel."""
    ax.annotate(
        text,
        (x, y),
        xycoords="axes fraction",
        xytext=(4 - 8 * x, 4 - 8 * y),
        textcoords="offset points",
        color="white",
        fontsize=size,
        ha={0.0: "left", 0.5: "center", 1.0: "right"}[x],
        va={0.0: "bottom", 0.5: "center", 1.0: "top"}[y],
        path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )


def _scale_bar(ax: Axes, length_mm: float = 50.0) -> None:
    """A bar of 5 cm in the lower left corner."""
    bottom = ax.get_ylim()[0]
    ax.plot([6, 6 + length_mm], [bottom - 5, bottom - 5], color="white", linewidth=2, solid_capstyle="butt")
    ax.text(6, bottom - 7, "5 cm", color="white", fontsize=9, va="bottom", ha="left")


def _png(figure: Figure, colours: int = 256) -> bytes:
    """PNG with a palette: a third of the bytes of true colour. 0 colours: true colour."""
    pixels = io.BytesIO()
    figure.savefig(pixels, format="rgba")
    size = figure.canvas.get_width_height()
    picture = Picture.frombytes("RGBA", size, pixels.getvalue()).convert("RGB")
    if colours:
        picture = picture.quantize(colours, dither=Picture.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
