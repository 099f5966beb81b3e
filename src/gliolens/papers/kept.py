"""What papers' reproductions share: what they come to, and that networks are kept, so that a stopped one goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gliolens.io.store import read_json, write_json
from gliolens.protocol import check_settings


@dataclass(frozen=True, eq=False)
class Reproduced:
    """What a reproduction came to.

    Attributes:
        folder: where everything lies.
        results: every table, as rows by name.
        failures: cases that were refused, with the reason.
    """

    folder: Path
    results: Mapping[str, Sequence[Mapping[str, Any]]]
    failures: Mapping[str, str]


def check_folder(out: Path, told: Mapping[str, Any]) -> None:
    """Refuse networks of another run; say for later ones what these were made of, before the first is trained.

    Args:
        out: the folder; `settings.json` there gathers what was told.
        told: settings by name; what was not told before is added.

    Raises:
        ConfigError: a setting is another than before.
    """
    file = out / "settings.json"
    before = read_json(file)["settings"] if file.is_file() else {}
    check_settings(file, {k: v for k, v in told.items() if k in before})
    write_json(file, {"settings": {**before, **told}})
