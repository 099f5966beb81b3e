"""What the files of a run know. Who asks is told what they hold or that they do not; what was asked is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from gliolens.errors import ModelError
from gliolens.io.store import read_json
from gliolens.protocol import read_answers

PREDICTIONS: Final = "predictions.csv"
METRICS: Final = "metrics.json"
SPLITS: Final = "splits.json"
FAILURES: Final = "failures.json"
SUBGROUPS: Final = "subgroups.csv"
_KINDS: Final = ("run.json", "bench.json")
_OTHERS: Final = (
    METRICS, SPLITS, FAILURES, "outlines.json", "fidelity.json", "*/fidelity.json", "model/card.json",
    "evaluation-*/metrics.json", "elsewhere/metrics.json", "evaluation-*/evaluation.json", "elsewhere/evaluation.json",
    "further/*/metrics.json",
)  # fmt: skip


class NotKnownError(LookupError):
    """The files of a run do not tell; who asks leaves the matter open."""


@dataclass(frozen=True, eq=False)
class RunFiles:
    """The files of a run of `train` or `bench`, and what was asked of them.

    Attributes:
        folder: of the run.
        name: `run.json` or `bench.json`: what tells its settings.
        contents: JSON objects, and the tables of answers and of parts of the patients, by file name in the folder.
        asked: files and keys that an answer rests on.
        seen: files that an answer would do without, and that were there.
    """

    folder: Path
    name: str
    contents: Mapping[str, Any]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    @property
    def is_bench(self) -> bool:
        """Whether several methods were cross-validated."""
        return self.name == "bench.json"

    @property
    def sources(self) -> tuple[str, ...]:
        """Files that were asked, each once."""
        return tuple(dict.fromkeys([*(place[0] for place in self.asked), *self.seen]))

    def afresh(self) -> "RunFiles":
        """The same files, asked nothing yet."""
        return replace(self, asked=[], seen=[])

    def ask(self, file: str, *keys: str) -> Any:
        """What a file holds under keys, one inside the other; a column, of the table of answers.

        Raises:
            NotKnownError: there is no such file, or nothing in it there.
        """
        self.asked.append((file, *keys))
        found = self.contents.get(file)
        for key in keys:
            found = None if found is None else found.get(key)
        if found is None:
            raise NotKnownError(f"{self.folder / file}: no {'.'.join(keys) or 'such file'}")
        return found

    def about(self, *keys: str) -> Any:
        """What `run.json` or `bench.json` holds under keys; raises as `ask`."""
        return self.ask(self.name, *keys)

    def glance(self, file: str) -> Mapping[str, Any]:
        """A file whose absence says that there was nothing to write into it."""
        if file in self.contents:
            self.seen.append(file)
        return dict(self.contents.get(file, {}))

    def named(self, start: str, end: str) -> Sequence[str]:
        """Names of the files that start and end so."""
        return [name for name in self.contents if name.startswith(start) and name.endswith(end)]


def read_run_files(folder: Path) -> RunFiles:
    """Read the files of a finished run.

    Raises:
        ModelError: the folder holds none, or a file that cannot be read.
    """
    name = next((name for name in _KINDS if (folder / name).is_file()), None)
    if name is None or "settings" not in read_json(folder / name):
        raise ModelError(
            f"{folder}: no finished run here, found neither run.json nor bench.json with settings; make one with: "
            "gliolens train METHOD cohort.csv -o RUN, or gliolens bench cohort.csv -o RUN"
        )
    paths = [path for pattern in (name, *_OTHERS) for path in sorted(folder.glob(pattern))]
    contents: dict[str, Any] = {path.relative_to(folder).as_posix(): read_json(path) for path in paths}
    if (folder / PREDICTIONS).is_file():
        contents[PREDICTIONS] = read_answers(folder / PREDICTIONS)
    if (folder / SUBGROUPS).is_file() and (folder / SUBGROUPS).read_text(
        encoding="utf-8"
    ).strip():  # one part or more
        contents[SUBGROUPS] = pd.read_csv(folder / SUBGROUPS, dtype={"by": str, "part": str}, keep_default_na=False,
                                          na_values={"auc": [""], "auc_low": [""], "auc_high": [""]})  # fmt: skip
    return RunFiles(folder, name, contents)
