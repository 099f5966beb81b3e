"""A checklist as data, and filled in from the files of a run: each item answered, open, or not applying."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from gliolens.io.store import read_json
from gliolens.report.run.answerers import ANSWERERS
from gliolens.report.run.files import NotKnownError, RunFiles

ANSWERED: Final = "answered"
OPEN: Final = "open"
DOES_NOT_APPLY: Final = "does not apply"
STATUSES: Final = (ANSWERED, OPEN, DOES_NOT_APPLY)
COLUMNS: Final = ("item", "section", "topic", "asks", "status", "answer", "from", "to write")
"""Of the CSV file of a checklist."""


@dataclass(frozen=True)
class Item:
    """What a checklist asks.

    Attributes:
        number: as published; empty on the model card.
        section, topic: where it stands.
        asks: what is asked, in our words.
        told_by: names of answerers, asked in order until one knows, and the status of the item then: `open` where
            what the run knows is a part of the answer.
        to_write: what the authors must write while the item is open.
    """

    number: str
    section: str
    topic: str
    asks: str
    told_by: Mapping[str, str]
    to_write: str


@dataclass(frozen=True)
class Checklist:
    """A published checklist, or the model card.

    Attributes:
        name: of its files.
        title: what readers call it.
        about: a sentence on it.
        source: where it was published.
        items: in order.
    """

    name: str
    title: str
    about: str
    source: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Entry:
    """An item as filled in.

    Attributes:
        item: what is asked.
        status: one of `STATUSES`.
        answer: what the run knows of it; empty where nothing.
        sources: files of the run that the answer rests on.
    """

    item: Item
    status: str
    answer: str
    sources: Sequence[str]

    @property
    def to_write(self) -> str:
        """What the authors must still write; empty where nothing."""
        return self.item.to_write if self.status == OPEN else ""


def read_checklist(name: str) -> Checklist:
    """Read `claim_2024`, `tripod_ai` or `model_card` from beside this module."""
    told = read_json(Path(str(files("gliolens.report.run"))) / f"{name}.json")
    items = tuple(Item(**item) for item in told.pop("items"))
    return Checklist(**told, items=items)


def fill(checklist: Checklist, run: RunFiles) -> list[Entry]:
    """Fill a checklist in from what a run's files know; what they do not know is open."""
    return [_entry(item, run) for item in checklist.items]


def _entry(item: Item, run: RunFiles) -> Entry:
    for name, status in item.told_by.items():
        asked = run.afresh()
        try:
            answer = ANSWERERS[name](asked)
        except NotKnownError:
            continue
        return Entry(item, status, answer, asked.sources)
    return Entry(item, OPEN, "", ())


def counts(entries: Sequence[Entry]) -> dict[str, int]:
    """How many entries have each status."""
    return {status: sum(e.status == status for e in entries) for status in STATUSES}


def as_csv(entries: Sequence[Entry]) -> str:
    """A filled checklist as CSV, an item a row, with `COLUMNS`."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(COLUMNS)
    for e in entries:
        where = "; ".join(e.sources)
        table.writerow([
            e.item.number, e.item.section, e.item.topic, e.item.asks, e.status, e.answer, where, e.to_write
        ])  # fmt: skip
    return stream.getvalue()
