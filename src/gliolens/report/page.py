"""The report of one bench as a single HTML file that needs nothing beside it.

Pictures, style and text all lie in the file: no script, no font, no address is loaded when it is opened.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gliolens.io.store import write_text
from gliolens.report import pictures
from gliolens.report.paper_page import Section, shown_sections
from gliolens.report.words import cell, is_number, render


def write_bench_report(
    path: Path,
    title: str,
    table: Sequence[Mapping[str, Any]],
    figures: Sequence[tuple[str, bytes]],
    provenance: Mapping[str, str],
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> None:
    """Write a table with its figures as one page, whole or not at all.

    Args:
        path: the HTML file.
        title: the page's title.
        table: one mapping a row; columns are all keys in order of appearance; a row whose `is_control` or
            `is_ceiling` is true is set apart, and these columns are not shown. None and NaN are shown as not known.
        figures: caption and PNG of each figure.
        provenance: versions, runs, hashes and dates by name.
        notes: sentences that stand above the table.
        sections: further tables and figures, below the figures.

    Raises:
        ConfigError: a figure is no PNG.
    """
    marks = ("is_control", "is_ceiling")
    names = [c for c in dict.fromkeys(key for row in table for key in row) if c not in marks]
    kinds = [
        "control" if row.get("is_control") else "ceiling" if row.get("is_ceiling") else "" for row in table
    ]
    rows = [
        (kind, [cell(row.get(name, "")) for name in names]) for kind, row in zip(kinds, table, strict=True)
    ]
    page = render(
        "bench.html",
        title=title,
        columns=[(name, any(is_number(row.get(name)) for row in table)) for name in names],
        rows=rows,
        pictures=[pictures.picture(png, caption) for caption, png in figures],
        provenance=provenance,
        notes=notes,
        sections=shown_sections(sections),
    )
    write_text(path, page)
