"""Networks of a reproduction are kept, so that a stopped one goes on; never those of another run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gliolens.io.store import read_json, write_json
from gliolens.protocol import check_settings


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
