"""What a method is.

A method is one module with a frozen `Config` and a function `fit(cases, config, run) -> Model`. Building is fitting:
no unfitted model exists. `load(folder)` brings a saved model back. `gliolens.registry` lists the methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, Self, cast, get_args, get_origin, get_type_hints, runtime_checkable

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.errors import ConfigError
from gliolens.loader import Arrays, Cases
from gliolens.progress import Tick
from gliolens.registry import METHODS


@dataclass(frozen=True)
class Run:
    """What a fit is given beside cases and configuration.

    Attributes:
        target: name from `labels.TARGETS`.
        classes: the classes to tell apart, in order.
        folder: where checkpoints lie, so that a stopped fit goes on.
        cache: where what was decoded is kept, shared by folds and methods.
        seed: of every random choice.
        others: cases of other patients than those tested whose target or mask is not known, for a method that learns
            something else of them; see `learns_from`.
    """

    target: str
    classes: tuple[str, ...]
    folder: Path
    cache: Path
    seed: int = 0
    others: tuple[CaseRow, ...] = ()

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; expected 0 or more")


@runtime_checkable
class Config(Protocol):
    """Settings of a method. `preset` and `scaled` give the named ones."""

    series: tuple[str, ...]

    @classmethod
    def preset(cls, name: str) -> Self:
        """The settings named `paper` or `sound`."""
        ...

    def scaled(self, scale: str) -> Self:
        """The same recipe, small enough for minutes on two cores, where `scale` is `demo`."""
        ...


@runtime_checkable
class Model(Protocol):
    """A fitted method."""

    target: str
    prior: tuple[float, ...]
    """Class shares that were put into its probabilities; equal shares where none were."""

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case from what `ready` made of it, without reading it again."""
        ...

    def predict(self, case: Case) -> Prediction:
        """Answer one case, with the evidence."""
        ...

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """Maps of what the answer to a case rests on, by name; empty where the method has none."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and card."""
        ...


@runtime_checkable
class Method(Protocol):
    """The module of a method."""

    Config: type[Config]
    VERSION: int
    """Raised whenever the same cases and settings would give another answer."""

    def ready(self, cases: Cases, config: Any, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
        """What the method makes of each case before it learns or answers, kept in `cache`.

        Raises:
            CaseError: a case that the method cannot use.
        """
        ...

    def fit(self, cases: Cases, config: Any, run: Run) -> Model:
        """Train on cases whose target is known."""
        ...

    def load(self, folder: Path) -> Model:
        """Bring a saved model back.

        Raises:
            ModelError: the folder does not hold a model of this method.
        """
        ...


def find_method(name: str) -> Method:
    """Import a method by name.

    Raises:
        ConfigError: no method has this name.
    """
    if name not in METHODS:
        raise ConfigError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    return cast(Method, import_module(METHODS[name]))


def identity_of(method: Any, config: Any) -> str:
    """What decides a method's answer beside cases and settings: its version.

    A method that builds on weights of others has a function `identity(config)` that tells those too.
    """
    told = getattr(method, "identity", None)
    return str(method.VERSION) if told is None else str(told(config))


def learns_from(method: Any, config: Any, row: CaseRow) -> bool:
    """Whether a case whose target or mask is not known teaches a method something: one that has a `learns_from`."""
    told = getattr(method, "learns_from", None)
    return told is not None and bool(told(row, config))


def measures_tumours(method: Any) -> bool:
    """Whether a method needs a mask of every patient, and cannot learn from the healthy."""
    return bool(getattr(method, "MEASURES_TUMOURS", False))


def changed(config: Any, settings: Mapping[str, Any]) -> Any:
    """A configuration with some settings changed, as read from JSON (lists become tuples).

    Raises:
        ConfigError: a setting is not one of the configuration's, or of another kind.
    """
    names = {f.name for f in fields(config)}
    unknown = sorted(set(settings) - names)
    if unknown:
        raise ConfigError(f"unknown settings {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    hints = get_type_hints(type(config))
    for name, value in settings.items():
        now, allowed = getattr(config, name), get_args(hints[name])
        if get_origin(hints[name]) is Literal and value not in allowed:
            raise ConfigError(f"the setting {name} is {value!r}; there are {', '.join(map(str, allowed))}")
        kinds = (
            (int, float) if isinstance(now, float) else (list, tuple) if isinstance(now, tuple) else type(now)
        )
        if not (now is None or isinstance(value, kinds)) or isinstance(value, bool) != isinstance(now, bool):
            raise ConfigError(f"the setting {name} is {value!r}; expected something like {now!r}")
    return replace(config, **{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
