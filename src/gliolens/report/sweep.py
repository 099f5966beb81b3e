"""A score against a setting, on patients it is chosen on and on others."""

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def sweep_figure(
    rows: Sequence[Mapping[str, float]],
    setting: str,
    lines: Mapping[str, str],
    published: float,
    x: str,
    y: str,
) -> bytes:
    """Draw one line a group of patients; a star marks the choice, a grey line the published value.

    Args:
        rows: the setting and the score of each group.
        setting: name of the setting in `rows`.
        lines: name of each group, and of its score in `rows`; the choice is made on the first.
        published: the paper's setting.
        x, y: what the axes say.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax = figure.subplots()
    for style, (name, score) in zip(("o--", "o-", "o:"), lines.items(), strict=False):
        ax.plot([row[setting] for row in rows], [row[score] for row in rows], style, ms=4, label=name)
    first = next(iter(lines.values()))
    best = max(rows, key=lambda row: row[first])
    ax.axvline(published, color="0.7", lw=1, label="published")
    ax.plot(best[setting], best[first], "*", ms=14, color="C3", label="chosen")
    ax.set(xlabel=x, ylabel=y)
    ax.legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
