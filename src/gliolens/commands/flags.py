"""What the verbs share: types of flags, exit codes, JSON on stdout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from tyro.conf import arg

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


def as_json(content: Mapping[str, Any]) -> str:
    """JSON for another program to read."""
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)
