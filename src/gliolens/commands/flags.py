"""What the verbs share: types of flags, exit codes, JSON on stdout."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from tyro.conf import arg

from gliolens.errors import ConfigError

SOME_FAILED: Final = 3
INPUT_REFUSED: Final = 4

Target = Literal["grade", "who_grade", "idh", "codel_1p19q"]
Series = Literal["t1", "t1ce", "t2", "flair"]
MaskScheme = Literal[
    "gliolens", "brats2020", "brats2021", "brats2023", "brats2024", "msd", "nnunet137", "binary"
]
Preset = Literal["sound", "paper"]
Scale = Literal["paper", "demo"]
Out = Annotated[Path, arg(aliases=["-o"])]
OutIfAny = Annotated[Path | None, arg(aliases=["-o"])]
"""Not `Out | None`, of which the short name would be lost."""


def settings_of(given: Sequence[str], pattern: str, option: str = "--set") -> Iterator[tuple[str, Any]]:
    """Names and values of settings, given as `NAME=VALUE`; a value is read as JSON where it is some, else as text.

    Args:
        given: as the user wrote them.
        pattern: what a name looks like, in words: `NAME`, or `METHOD.NAME`.
        option: by which they were given.

    Raises:
        ConfigError: something that is no such setting.
    """
    for words in given:
        name, equals, value = words.partition("=")
        parts = name.split(".")
        if not equals or not all(parts) or len(parts) != len(pattern.split(".")):
            raise ConfigError(f"{option} {words}: expected {pattern}=VALUE")
        try:
            yield name, json.loads(value)
        except json.JSONDecodeError:
            yield name, value


def as_json(content: Mapping[str, Any]) -> str:
    """JSON for another program to read."""
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)
