"""A filled model card or checklist as Markdown, to be carried on in a manuscript."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from gliolens.labels import NOTICE
from gliolens.report.run.checklist import OPEN, Checklist, Entry


@dataclass(frozen=True)
class ShownTable:
    """A table beneath a section of the model card.

    Attributes:
        title: its heading.
        columns: of which the first names the row.
        rows: `control`, `ceiling` or nothing, and the cells of each.
        numbers: whether all columns but the first are numbers.
        note: a sentence below; empty where there is none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    numbers: bool = False
    note: str = ""


def by_section(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Entries under the heading of their section, in order."""
    return [(name, list(mine)) for name, mine in groupby(entries, key=lambda e: e.item.section)]


def card_markdown(
    title: str, notices: Sequence[str], entries: Sequence[Entry], tables: Mapping[str, Sequence[ShownTable]]
) -> str:
    """The model card.

    Args:
        title: its heading.
        notices: what is to be said loudly, first of all.
        entries: filled in.
        tables: by the section that they stand in.
    """
    lines = [f"# {title}", "", *_said_first(notices)]
    for name, mine in by_section(entries):
        lines += [f"## {name}", "", *(f"- **{e.item.topic}.** {_told(e)}" for e in mine), ""]
        for table in tables.get(name, ()):
            lines += [f"### {table.title}", "", *_table(table), ""]
    return "\n".join(lines)


def checklist_markdown(
    checklist: Checklist, notices: Sequence[str], entries: Sequence[Entry], counted: str
) -> str:
    """A filled checklist, an item a row."""
    rows = [
        ("", (e.item.number, f"{e.item.topic}: {e.item.asks}", e.status, _told(e), ", ".join(e.sources)))
        for e in entries
    ]
    table = ShownTable("", ("item", "what is asked", "status", "answer", "from"), rows)
    head = [
        f"# {checklist.title}",
        "",
        f"{checklist.about} {checklist.source}. {counted}.",
        "",
    ]
    return "\n".join([*head, *_said_first(notices), *_table(table), ""])


def _said_first(notices: Sequence[str]) -> list[str]:
    loud = [line for notice in notices for line in (f"> **{notice}**", "")]
    return [f"> {NOTICE}", "", *loud]


def _told(entry: Entry) -> str:
    still = f"**{OPEN}**: {entry.to_write}" if entry.to_write else ""
    return " ".join(part for part in (entry.answer, still) if part)


def _table(table: ShownTable) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    marks = {"": "{}", "control": "*{}* (control)", "ceiling": "*{}* (best that can be)"}
    rows = [line([marks[kind].format(cells[0]), *cells[1:]]) for kind, cells in table.rows]
    lines = [line(table.columns), "|" + "---|" * len(table.columns), *rows]
    return [*lines, "", table.note] if table.note else lines
