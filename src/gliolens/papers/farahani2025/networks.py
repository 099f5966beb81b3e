"""The networks that are compared, each as settings of `mts-unet`, with what was published."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from gliolens.methods.mts_unet import Config

PUBLISHED_DICE: Final = 0.84
PUBLISHED_AUC: Final[Mapping[str, float]] = MappingProxyType(
    {"idh": 0.9058, "codel_1p19q": 0.6922, "grade": 0.8754}
)
"""Of 2,249 patients of seven data sets; how they were divided, and what the classes of the grade are, is not known."""
FULL: Final = "full"
SOUND: Final = "full, sound"
SCRATCH: Final = "from scratch"
OUTLINE: Final = "outline alone"
_WITHOUT: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    "no TAFE": {"focus": "none"},
    "no CMD": {"mismatch": "none"},
    "neither": {"focus": "none", "mismatch": "none"},
})  # fmt: skip
_SOUNDLY: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    "no TAFE": {"focus": "none"},
    "no CMD": {"mismatch": "none"},
    "composition alone": {"focus": "none", "mismatch": "none"},
    "no composition": {"composition": False},
})  # fmt: skip
_ALONE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "idh": "IDH alone",
        "codel_1p19q": "1p/19q alone",
        "grade": "grade alone",
        "who_grade": "WHO grade alone",
    }
)


@dataclass(frozen=True)
class Network:
    """One row.

    Attributes:
        name: of the row.
        group: `paper`, `sound` or `alone`.
        config: its settings.
        tells: targets whose answers count; none where the outline alone is learnt.
    """

    name: str
    group: str
    config: Config
    tells: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.name.lower().replace(", ", "-").replace("/", "").replace(" ", "-")


def networks(base: Config, tells: tuple[str, ...]) -> list[Network]:
    """Every network: the ablation as published, the same soundly, and each question by itself.

    Args:
        base: the `paper` preset with the cohort's series; `mismatch` is `none` where T2 or FLAIR is not among them.
        tells: the targets that the cohort can teach.
    """
    base = replace(base, tasks=tells)
    sound, compares = sounder(base), base.mismatch != "none"
    without = {name: changes for name, changes in _WITHOUT.items() if compares or name == "no TAFE"}
    soundly = {
        name: changes for name, changes in _SOUNDLY.items() if compares or name not in ("no CMD", "no TAFE")
    }
    rows = [Network(FULL, "paper", base, tells)]
    rows += [Network(name, "paper", replace(base, **changes), tells) for name, changes in without.items()]
    if base.weights is not None:
        rows.append(Network(SCRATCH, "paper", replace(base, weights=None, weights_series=()), tells))
    rows.append(Network(SOUND, "sound", sound, tells))
    rows += [
        Network(f"{name}, sound", "sound", replace(sound, **changes), tells)
        for name, changes in soundly.items()
    ]
    rows += [Network(_ALONE[t], "alone", replace(base, tasks=(t,)), (t,)) for t in tells]
    rows.append(Network(OUTLINE, "alone", replace(base, task_weight=0.0), ()))
    return rows


def sounder(base: Config) -> Config:
    """The `sound` preset at the size of another: what differs is what was mended, not the voxels."""
    mended = Config.preset("sound")
    names = ("focus", "mismatch", "composition", "drop", "balance", "coherent", "vary", "head_rate")
    settings = {name: getattr(mended, name) for name in names}
    return replace(base, **settings | ({"mismatch": "none"} if base.mismatch == "none" else {}))
