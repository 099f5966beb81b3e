"""What the pages of a report share: numbers in words, and how a template becomes a page."""

import math
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gliolens.labels import NOTICE
from gliolens.stats.intervals import Interval


def render(template: str, **content: object) -> str:
    """Fill a template of this folder; the notice stands in every page."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return pages.get_template(template).render(notice=NOTICE, **content)


def is_unknown(value: float | None) -> bool:
    """Whether a number is None or NaN."""
    return value is None or math.isnan(value)


def in_ml(volume: float) -> str:
    """Millilitres with one decimal; what would round to nothing is `<0.1`."""
    return "<0.1" if 0 < volume < 0.05 else f"{volume:.1f}"


def in_percent(share: float) -> str:
    """Whole per cent; certainty is not claimed at either end.

    >>> in_percent(0.734), in_percent(0.9991), in_percent(0.0)
    ('73 %', '>99 %', '<1 %')
    """
    if share < 0.01:
        return "<1 %"
    return ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def in_words(auc: Interval, digits: int = 2) -> str:
    """A score with its interval, two decimals if not asked otherwise; what is unknown says why."""
    if math.isnan(auc.value):
        return f"not known: {auc.reason}"
    if math.isnan(auc.low):
        return f"{auc.value:.{digits}f} (no interval: {auc.reason})"
    return f"{auc.value:.{digits}f} ({auc.low:.{digits}f} to {auc.high:.{digits}f})"


def share_of(share: float) -> str:
    """Whole per cent of something measured."""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def figure(value: float) -> str:
    """A measured number with three figures or more."""
    if value == 0 or 0.001 <= abs(value) < 1:
        text = f"{value:.3f}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def is_number(value: object) -> bool:
    """Whether a table's value is a number, which stands on the right of its column."""
    return isinstance(value, int | float | np.number | Interval) and not isinstance(value, bool)


def cell(value: object) -> str:
    """Text of a table's cell."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "not known"
    if isinstance(value, Interval):
        return in_words(value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return figure(float(value))
    return str(value)
