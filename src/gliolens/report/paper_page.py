"""The report of a reproduced paper as a single HTML file: its tables and figures beside the published ones."""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gliolens.io.store import write_text
from gliolens.report.pictures import Picture, picture
from gliolens.report.words import cell, render


@dataclass(frozen=True)
class Section:
    """One table or figure with its words.

    Attributes:
        title: its heading.
        notes: sentences above it.
        columns: of the table, the first of which names the row.
        rows: of the table.
        bold: (row, column) of cells that stand out, from 0.
        figures: caption and PNG of each figure.
    """

    title: str
    notes: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    bold: Collection[tuple[int, int]] = ()
    figures: Sequence[tuple[str, bytes]] = ()


def table_section(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    *notes: str,
    shown: Callable[[str, Any], object] = lambda column, value: value,
) -> Section:
    """A section of one table.

    Args:
        title: its heading.
        rows: what each holds, by column; a column that a row lacks, or has nothing in, stays empty.
        notes: sentences above it; empty ones are left out.
        shown: from a column and a value to what its cell says.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [["" if row.get(c) is None else shown(c, row[c]) for c in columns] for row in rows]
    return Section(title, [note for note in notes if note], columns, cells)


def png_of(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def write_paper_report(
    path: Path, title: str, sections: Sequence[Section], provenance: Mapping[str, str]
) -> None:
    """Write the sections as one page, whole or not at all. Raises ConfigError where a figure is no PNG."""
    page = render("paper.html", title=title, sections=shown_sections(sections), provenance=provenance)
    write_text(path, page)


def shown_sections(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Sections as `sections.html` shows them."""
    return [
        {
            "title": s.title, "notes": s.notes, "columns": s.columns, "bold": set(s.bold),
            "rows": [[cell(value) for value in row] for row in s.rows], "pictures": _pictures(s),
        }
        for s in sections
    ]  # fmt: skip


def _pictures(section: Section) -> list[Picture]:
    return [picture(png, caption) for caption, png in section.figures]
