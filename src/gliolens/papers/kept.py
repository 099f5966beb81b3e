"""What papers' reproductions share: what they come to, and that networks are kept, so that a stopped one goes on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gliolens.io.store import read_json, write_json
from gliolens.protocol import check_settings
from gliolens.stats.intervals import Interval


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


def plain(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Tables as JSON can hold them: intervals by their parts, and what is not a number as nothing."""

    def shown(value: Any) -> Any:
        value = asdict(value) if isinstance(value, Interval) else value
        return None if isinstance(value, float) and math.isnan(value) else value

    return {name: [{k: shown(v) for k, v in row.items()} for row in rows] for name, rows in results.items()}


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
