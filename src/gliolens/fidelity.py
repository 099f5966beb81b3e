"""How close a method is to its source: what the source says, what is done here under each preset, and why.

The list of a method lies beside its module as JSON; its page of the documentation and `fidelity.json` of every run are
made of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gliolens.io.store import read_json, write_json
from gliolens.method import find_method
from gliolens.registry import METHODS

SAME: Final = "the same"


@dataclass(frozen=True)
class Difference:
    """One item of a method, in words.

    Attributes:
        item: what it is about.
        source_says: what the paper states.
        paper, sound: what is done under each preset; `the same` is as under `paper`, or as the source says.
        why: the reason.
        demo: what is done at demo scale instead, where that differs.
    """

    item: str
    source_says: str
    paper: str
    sound: str
    why: str
    demo: str | None = None

    def done(self, preset: str, scale: str) -> str:
        """What is done under a preset at a scale."""
        if scale == "demo" and self.demo:
            return self.demo
        told = self.sound if preset == "sound" else self.paper
        return self.paper if told == SAME else told


@dataclass(frozen=True)
class Fidelity:
    """All that is to be said of a method's source.

    Attributes:
        source: the paper.
        items: what it says and what is done.
    """

    source: str
    items: Sequence[Difference]


def fidelity_of(method: str) -> Fidelity | None:
    """What is said of a method; None where it has no source, as the controls.

    Raises:
        ConfigError: no method has this name.
    """
    find_method(method)
    file = Path(str(files("gliolens.methods"))) / f"{METHODS[method].rpartition('.')[2]}.json"
    if not file.is_file():
        return None
    told = read_json(file)
    return Fidelity(told["source"], tuple(Difference(**item) for item in told["items"]))


def write_fidelity(folder: Path, method: str, config: Any) -> None:
    """Write `fidelity.json` of a run; nothing for a method without a source.

    Args:
        folder: of the run.
        method: its name.
        config: the settings it ran with; the preset and scale they are nearest to are told, and where they differ.
    """
    told = fidelity_of(method)
    if told is None:
        return
    preset, scale, otherwise = nearest(find_method(method).Config, config)
    items = [
        {"item": d.item, "source_says": d.source_says, "we_do": d.done(preset, scale), "why": d.why}
        for d in told.items
    ]
    about = {"method": method, "source": told.source, "preset": preset, "scale": scale}
    write_json(folder / "fidelity.json", {**about, "changed": otherwise, "items": items})


def nearest(kind: Any, config: Any) -> tuple[str, str, Mapping[str, Mapping[str, Any]]]:
    """The preset and scale that settings are nearest to, and the settings that differ: `preset` and `run`'s value."""
    named = [(p, s, kind.preset(p).scaled(s)) for s in ("paper", "demo") for p in ("sound", "paper")]
    found = [(p, s, _different(preset, config)) for p, s, preset in named]
    return min(found, key=lambda one: len(one[2]))


def _different(preset: Any, config: Any) -> dict[str, dict[str, Any]]:
    was, now = asdict(preset), asdict(config)
    names = [f.name for f in fields(config) if was[f.name] != now[f.name]]
    return {name: {"preset": was[name], "run": now[name]} for name in names}
