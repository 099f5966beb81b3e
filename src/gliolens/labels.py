"""The vocabulary: series, tumour labels and regions, targets. Data, and the few lines that read it."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

SERIES: Final = ("t1", "t1ce", "t2", "flair")
"""The four series, in the order GlioLens lists them. Always named, never positional."""

SERIES_TITLES: Final = MappingProxyType({"t1": "T1", "t1ce": "T1 with contrast", "t2": "T2", "flair": "FLAIR"})

_ALIASES: Final = {
    "t1": {"t1", "t1n", "t1w", "t1pre", "t1native", "0000"},
    "t1ce": {"t1ce", "t1c", "t1gd", "t1gad", "t1post", "t1wce", "t1cew", "0001"},
    "t2": {"t2", "t2w", "0002"},
    "flair": {"flair", "fla", "flr", "t2f", "t2flair", "0003"},
}
_CONTRAST: Final = {"ce", "gd", "gad", "gadolinium", "post", "contrast", "postcontrast", "c"}
_LESION: Final = {"seg", "segm", "segmentation", "mask", "label", "labels", "tumor", "tumour", "dseg", "lesion"}


def _tokens(name: str) -> list[str]:
    return [t for t in re.split(r"[^a-z0-9]+", name.lower()) if t]


def series_in(name: str) -> str | None:
    """Name the series a file name speaks of, or None.

    The last word that names a series wins, so that an id such as `T1_study` does no harm; `t2` beside `flair` is
    FLAIR, and `t1` followed by a word for contrast medium is T1 with contrast. nnU-Net's `_0000` to `_0003` are
    read in its BraTS order (T1, T1 with contrast, T2, FLAIR).

    >>> series_in("BraTS-GLI-00001-000-t1c"), series_in("sub-1_ce-gadolinium_T1w"), series_in("brain_mask")
    ('t1ce', 't1ce', None)
    """
    tokens = _tokens(name)
    found = [s for t in tokens for s, names in _ALIASES.items() if t in names]
    if not found:
        return None
    if found[-1] == "t2" and "flair" in found[-2:]:
        return "flair"
    if found[-1] == "t1" and _CONTRAST & set(tokens):
        return "t1ce"
    return found[-1]


def is_brain_mask(name: str) -> bool:
    """Whether a file name speaks of a mask of the brain rather than of the tumour."""
    tokens = set(_tokens(name))
    return bool({"brainmask", "hdbet"} & tokens) or ("brain" in tokens and bool(_LESION & tokens))


def is_tumour_mask(name: str) -> bool:
    """Whether a file name speaks of tumour labels."""
    return not is_brain_mask(name) and bool(_LESION & set(_tokens(name)))


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
    """Name the scheme that stored mask values can only mean, or None where they are ambiguous or unknown.

    Only 0 and 1: `binary`. Up to 3: `brats2023`. Both 3 and 4: `brats2024`. A 4 without a 3 is enhancing tumour in
    BraTS to 2021 and resection cavity in BraTS 2024: None.
    """
    present = set(values)
    if present <= {0, 1}:
        return "binary"
    if present <= {0, 1, 2, 3}:
        return "brats2023"
    return "brats2024" if present <= {0, 1, 2, 3, 4} and 3 in present else None


# --- targets ---------------------------------------------------------------------------------------------------

TARGETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "grade": ("LGG", "HGG", "healthy"),
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
