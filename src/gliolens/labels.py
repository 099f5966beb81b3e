"""The vocabulary: series, tumour labels and regions, targets. Data, and the few lines that read it."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

NOTICE: Final = (
    "For research use only. Not a medical device: do not use for diagnosis or treatment. "
    "Every outline and answer needs checking by a radiologist and a neuropathologist."
)
"""Shown wherever a result is shown."""

SERIES: Final = ("t1", "t1ce", "t2", "flair")
"""The four series, in the order GlioLens lists them. Always named, never positional."""

SERIES_TITLES: Final = MappingProxyType(
    {"t1": "T1", "t1ce": "T1 with contrast", "t2": "T2", "flair": "FLAIR"}
)

_ALIASES: Final = {
    "t1": {"t1", "t1n", "t1w", "t1pre", "t1native"},
    "t1ce": {"t1ce", "t1c", "t1gd", "t1gad", "t1post", "t1wce", "t1cew", "cet1", "cet1w"},
    "t2": {"t2", "t2w"},
    "flair": {"flair", "fla", "flr", "t2f", "t2flair", "darkfluid"},
}
_CHANNEL: Final = re.compile(r"_000([0-3])(\.nii(\.gz)?)?$", re.IGNORECASE)
"""nnU-Net's suffix of a series."""
_AGENT: Final = {"gd", "gad", "gado", "gadolinium", "contrast", "postcontrast"}
"""Words for contrast medium, wherever they stand."""
_BESIDE: Final = {"ce", "post", "enhanced"}
"""Words for contrast medium where they stand beside T1."""
_NO_SERIES: Final = re.compile(
    r"_((pre|non|no|without|before)_(contrast|ce|c|gd|gad|gadolinium)"
    r"|post_(op|operative|surgery|treatment|rt|processed)|to_t[12][a-z]*|t2_star)(?=_)"
)
"""No contrast medium, another sense of post, the series this one was registered to, T2*."""

_MASK: Final = {
    "seg",
    "segm",
    "segmentation",
    "dseg",
    "mask",
    "label",
    "labels",
    "groundtruth",
    "glistrboost",
}
_TUMOUR: Final = {"tumor", "tumour", "lesion", "glioma"}
_BRAIN: Final = {"brain", "bet", "hdbet"}


def _tokens(name: str) -> list[str]:
    return [t for t in re.split(r"[^a-z0-9]+", name.lower()) if t]


def _words(name: str) -> list[str]:
    """Words of a name that may name its series, in order."""
    own = re.sub(r"(?<![a-z0-9])space-[a-z0-9]+", "", name.lower().replace("t2*", "t2_star"))
    return _tokens(_NO_SERIES.sub("_", f"_{'_'.join(_tokens(own))}_"))


def _last_series(words: list[str]) -> tuple[int, str] | None:
    found = [(i, s) for i, word in enumerate(words) for s, names in _ALIASES.items() if word in names]
    return found[-1] if found else None


def series_in(name: str) -> str | None:
    """Name the series a file name speaks of, or None where it speaks of none, of a mask, or of two at once.

    The last word that names a series wins, so that an id such as `T1_study` does no harm. `t2` beside `flair`, or
    before Siemens' `dark-fluid`, is FLAIR; `t1` with a word for contrast medium is T1 with contrast. nnU-Net's
    `_0000` to `_0003` at the end are read in its BraTS order (T1, T1 with contrast, T2, FLAIR).

    >>> series_in("BraTS-GLI-00001-000-t1c"), series_in("sub-1_ce-gadolinium_T1w"), series_in("t1_brain_mask")
    ('t1ce', 't1ce', None)
    """
    if is_brain_mask(name) or is_tumour_mask(name):
        return None
    channel = _CHANNEL.search(name)
    numbered = SERIES[int(channel[1])] if channel else None
    words = _words(name)
    if (found := _last_series(words)) is None:
        return numbered
    i, series = found
    if series == "t2" and ("flair" in words[max(i - 1, 0) : i + 2] or "fluid" in words[i:]):
        series = "flair"
    if series == "t1" and (_has_contrast(words, i) or re.search(r"(^|_)ce-[a-z0-9]+_", name.lower())):
        series = "t1ce"
    return series if numbered in (None, series) else None


def _has_contrast(words: list[str], i: int) -> bool:
    """Whether the T1 at word `i` was made with contrast medium."""
    before, after = words[max(i - 1, 0) : i], words[i + 1 : i + 2]
    beside = bool(_BESIDE & {*before, *after}) or after == ["c"]
    return beside or bool(_AGENT & set(words)) or bool(_BESIDE & set(words[i:]))


def is_brain_mask(name: str) -> bool:
    """Whether a file name speaks of a mask of the brain rather than of the tumour."""
    words = set(_tokens(name))
    if "brainmask" in words:
        return True
    if _TUMOUR & words or not _BRAIN & words:
        return False
    return bool(_MASK & words) or ("hdbet" in words and _last_series(_words(name)) is None)


def is_tumour_mask(name: str) -> bool:
    """Whether a file name speaks of tumour labels: a word for a mask, or a tumour named after the series."""
    if is_brain_mask(name):
        return False
    words = _words(name)
    found = _last_series(words)
    return bool(_MASK & set(words)) or bool(_TUMOUR & set(words[found[0] if found else 0 :]))


# --- tumour labels and regions ---------------------------------------------------------------------------------

NECROTIC, OEDEMA, ENHANCING = 1, 2, 3
LABEL_TITLES: Final = MappingProxyType(
    {NECROTIC: "necrotic or non-enhancing core", OEDEMA: "oedema", ENHANCING: "enhancing tumour"}
)
REGIONS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"whole": (NECROTIC, OEDEMA, ENHANCING), "core": (NECROTIC, ENHANCING), "enhancing": (ENHANCING,)}
)
"""Regions as unions of labels, as BraTS scores them."""
REGION_TITLES: Final = MappingProxyType(
    {"whole": "Whole tumour", "core": "Tumour core", "enhancing": "Enhancing tumour"}
)

MASK_SCHEMES: Final[Mapping[str, Mapping[int, int]]] = MappingProxyType(
    {
        "gliolens": {0: 0, 1: 1, 2: 2, 3: 3},
        "brats2020": {0: 0, 1: 1, 2: 2, 4: 3},
        "brats2021": {0: 0, 1: 1, 2: 2, 4: 3},
        "brats2023": {0: 0, 1: 1, 2: 2, 3: 3},
        "brats2024": {0: 0, 1: 1, 2: 2, 3: 3, 4: 0},
        "msd": {0: 0, 1: 2, 2: 1, 3: 3},
        "nnunet137": {0: 0, 1: 2, 2: 1, 3: 3},
        "binary": {0: 0, 1: 2},
    }
)
"""Named schemes of masks on disk, each from the stored value to the label inside.

`brats2024`'s 4 is the resection cavity, which is no tumour. `binary` marks the whole tumour only: its voxels are
held as oedema, and core and enhancing tumour are unknown, not absent (see `regions_known`). BraTS 2021 was released
with 4 as enhancing tumour; its 2023 re-release uses 3.
"""


def regions_known(scheme: str) -> tuple[str, ...]:
    """Regions that a mask of this scheme can tell apart: only `whole` for `binary`."""
    return ("whole",) if scheme == "binary" else tuple(REGIONS)


def guess_mask_scheme(values: Iterable[int]) -> str | None:
    """Name the BraTS scheme that stored mask values mean, or None where they are ambiguous or unknown.

    Only 0: `gliolens`, since no tumour is no tumour in any scheme. 0 and 1: `binary`. Up to 3: `brats2023`. Both
    3 and 4: `brats2024`. A 4 without a 3 is enhancing tumour in BraTS to 2021 and resection cavity in BraTS 2024:
    None. `msd` and `nnunet137` use the values 1 to 3 in another order, which no value gives away: name them.
    """
    present = set(values)
    if present <= {0}:
        return "gliolens"
    if present <= {0, 1}:
        return "binary"
    if present <= {0, 1, 2, 3}:
        return "brats2023"
    return "brats2024" if present <= {0, 1, 2, 3, 4} and 3 in present else None


# --- targets ---------------------------------------------------------------------------------------------------

HEALTHY: Final = "healthy"
"""The class of grade that is no tumour."""
TARGETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "grade": ("LGG", "HGG", HEALTHY),
        "who_grade": ("2", "3", "4"),
        "idh": ("wildtype", "mutant"),
        "codel_1p19q": ("intact", "codeleted"),
    }
)
"""Targets and their classes, in order; the last class present is the positive one of a two-class question."""
TARGET_TITLES: Final = MappingProxyType(
    {"grade": "Grade", "who_grade": "WHO grade", "idh": "IDH status", "codel_1p19q": "1p/19q status"}
)
LABEL_SCHEMES: Final = ("brats_lgg_hgg", "who2016", "who2021")
"""What a case's grade labels follow. Two schemes are never pooled without a mapping the user asked for."""
