"""The networks of the paper's tables, each as settings of `shape-resnet`, with what was published of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from gliolens.labels import SERIES_TITLES
from gliolens.methods.shape_resnet import Config

ALL: Final = "all series"
_AUC: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType({
    "1A": MappingProxyType({"t1": 0.6451, "t2": 0.9178, "t1ce": 0.9120, "flair": 0.9079, ALL: 0.9565}),
    "1B": MappingProxyType({"t1": 0.8284, "t2": 0.9499, "t1ce": 0.9317, "flair": 0.9227, ALL: 0.9684}),
    "2": MappingProxyType({"t1": 0.6631, "t2": 0.7321, "t1ce": 0.8250, "flair": 0.7336, ALL: 0.6626}),
    "3": MappingProxyType({
        "as published": 0.9684, "no augmentation": 0.9492, "no cyclic shift": 0.9582, "no rotation": 0.9628,
        "no flip": 0.9638, "no duplication": 0.9480,
    }),
})  # fmt: skip
BEST: Final[Mapping[str, float]] = MappingProxyType(
    {"accuracy": 0.9936, "APCA": 0.9853, "SEN": 1.000, "SPE": 0.9706}
)
"""The rest of the row of all series with shape; of 34 LGG and 121 HGG, HGG positive."""
MEMORY_MB: Final = (1965, 22658)
"""Of a training step, 2-D with shape and 3-D."""
EPOCH_S: Final = (250, 330)
"""Of an epoch, 2-D with shape and 3-D."""
TABLES: Final[Mapping[str, str]] = MappingProxyType({
    "1A": "Table 1A: slices alone", "1B": "Table 1B: slices with shape", "2": "Table 2: one volume a patient, 3-D",
    "3": "Table 3: what augmentation adds", "ours": "Beyond the paper",
})  # fmt: skip
MAIN: Final = f"2-D + shape, {ALL}"
"""The paper's best network."""
GATED: Final = "2-D + shape, learned share"
BRAIN: Final = "2-D + shape, whole brain"
VOLUME: Final = f"3-D, {ALL}"
FAIR: Final = "2-D + shape, no class magnified"
_WITHOUT: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    "no augmentation": {"flip": 0.0, "shift": 0, "rotate": 0.0, "noise": 0.0},
    "no cyclic shift": {"shift": 0},
    "no rotation": {"rotate": 0.0},
    "no flip": {"flip": 0.0},
    "no duplication": {"balance": "none"},
})  # fmt: skip
_OURS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {GATED: {"join": "gated"}, BRAIN: {"sees": "brain"}, FAIR: {"magnify_rare": False, "zoom": 0.2}}
)


@dataclass(frozen=True)
class Network:
    """One row of a table.

    Attributes:
        name: of the row.
        table: in which it stands; a row may stand in several tables.
        config: its settings.
        published: its AUC in the paper; None of one that is ours, or of another set of series.
    """

    name: str
    table: str
    config: Config
    published: float | None

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.name.lower().replace(" + ", "-").replace(", ", "-").replace(" ", "-")


def networks(base: Config, target: str = "grade") -> list[Network]:
    """Every row of every table.

    Args:
        base: the `paper` preset with the cohort's series, two-dimensional and with shape.
        target: what is told; the paper tells the grade, and nothing is published of another.
    """
    settings = {
        "1A": ("2-D", replace(base, join="none")),
        "1B": ("2-D + shape", base),
        "2": ("3-D", replace(base, join="none", dims=3, batch=4, weights=None)),
    }
    rows = [
        Network(f"{kind}, {name}", table, replace(config, series=series), _published(table, name, series))
        for table, (kind, config) in settings.items()
        for name, series in _series(base)
    ]
    rows += [
        Network(f"2-D + shape, {name}", "3", replace(base, **changes), _published("3", name, base.series))
        for name, changes in _WITHOUT.items()
    ]
    rows += [Network(name, "ours", replace(base, **changes), None) for name, changes in _OURS.items()]
    return rows if target == "grade" else [replace(row, published=None) for row in rows]


def rows_of(table: str, every: Sequence[Network]) -> list[Network]:
    """The rows of a table; the paper's best network leads Table 3 and ours, to be compared with."""
    first = [replace(n, table=table) for n in every if n.name == MAIN and table in ("3", "ours")]
    return first + [n for n in every if n.table == table]


def _series(base: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    if len(base.series) > 1:
        yield from ((SERIES_TITLES[name], (name,)) for name in base.series)
    yield ALL, base.series


def _published(table: str, name: str, series: tuple[str, ...]) -> float | None:
    """Of a row, where the paper's had the same series."""
    if table != "3" and len(series) == 1:
        return _AUC[table][series[0]]
    complete = len(series) == len(_AUC["1A"]) - 1
    return _AUC[table][name] if complete else None
