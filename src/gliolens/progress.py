"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Tick = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""


@dataclass
class Counter:
    """Shows how far a piece of work has come; call it with (done, total), done from 0 or 1 to total."""

    label: str
    _bar: Progress | None = None
    _task: int = 0
    _tenth: int = field(default=-1)

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if sys.stderr.isatty():
            self._draw(done, total)
        elif total and (tenth := 10 * done // total) != self._tenth:
            self._tenth = tenth
            print(f"{self.label}: {done} of {total}", file=sys.stderr, flush=True)  # noqa: T201

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=total)
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        if done >= total:
            self.stop()

    def stop(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def say(text: str) -> None:
    """Tell the user something on stderr; results go to stdout."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
