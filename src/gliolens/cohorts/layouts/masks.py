"""Which scheme a cohort's masks are stored in, told from the values of all of them together.

One mask that holds only 0 and 1 may be a necrotic core or a binary outline of the whole tumour; the cohort tells.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from joblib import Parallel, delayed

from gliolens.case import CaseRow
from gliolens.errors import CaseError
from gliolens.io.nifti import mask_values

_WORKERS = 2
_NAME_IT = "name it with --mask-scheme if not"


def settle_schemes(
    rows: Sequence[CaseRow], layout: str, progress: Callable[[int, int], None] | None = None
) -> tuple[list[CaseRow], list[str]]:
    """Give every row whose mask has no scheme the one that the values of all such masks can only mean.

    Args:
        rows: the cohort.
        layout: name of the layout, which can tell what a 4 means.
        progress: called with the masks read so far and their number.

    Returns:
        The rows, and what the user should be told. Where the values leave it open, the scheme stays None and
        reading a mask that holds the value in question refuses.
    """
    open_rows = [row for row in rows if row.mask is not None and row.mask_scheme is None]
    values, unread = _read(open_rows, progress)
    if not values:
        return list(rows), unread
    union = frozenset().union(*values.values())
    scheme, note = _scheme(union, layout, len(values))
    settled = [replace(r, mask_scheme=scheme) if r.case in values else r for r in rows]
    return settled, [note, *unread] if note else unread


def _read(
    rows: Sequence[CaseRow], progress: Callable[[int, int], None] | None
) -> tuple[dict[str, frozenset[int]], list[str]]:
    values: dict[str, frozenset[int]] = {}
    notes: list[str] = []
    results = Parallel(n_jobs=_WORKERS, prefer="threads", return_as="generator")(
        delayed(_values)(row) for row in rows
    )
    for done, (row, found) in enumerate(zip(rows, results, strict=True), start=1):
        if isinstance(found, frozenset):
            values[row.case] = found
        else:
            notes.append(f"case {row.case!r}: its mask cannot be read ({found.found}): {found.file}")
        if progress:
            progress(done, len(rows))
    return values, notes


def _values(row: CaseRow) -> frozenset[int] | CaseError:
    try:
        return mask_values(str(row.mask), row.case)
    except CaseError as error:
        return error


def _scheme(values: frozenset[int], layout: str, n: int) -> tuple[str | None, str | None]:
    """Scheme and note for the values of n masks."""
    seen = ", ".join(map(str, sorted(values)))
    older, dashed = layout == "brats2020", layout == "brats2023"
    if values <= {0, 1}:
        return "binary", f"{n} masks hold only 0 and 1: read as binary whole-tumour masks; {_NAME_IT}"
    if not values <= {0, 1, 2, 3, 4}:
        return None, f"masks hold {seen}: no known scheme; name one with --mask-scheme or correct the masks"
    if 4 not in values:
        told = "brats2020" if older and 3 not in values else "brats2023"
        sure = older or dashed or layout in ("ucsf-pdgm", "upenn-gbm")
        meaning = "1 necrotic core, 2 oedema, 3 enhancing"
        return told, None if sure else f"masks hold {seen}: read as {told} ({meaning}); {_NAME_IT}"
    if dashed:
        return "brats2024", f"masks hold {seen}: 4 is read as resection cavity (brats2024); {_NAME_IT}"
    if 3 not in values:
        if older:
            return "brats2020", None
        return None, (
            f"masks hold {seen}: 4 may be enhancing tumour or resection cavity; give --mask-scheme brats2020 or "
            "--mask-scheme brats2024, else masks that hold a 4 are refused"
        )
    if older:
        return (
            None,
            f"masks hold {seen}, in names of BraTS to 2021, which has no 3; name it with --mask-scheme",
        )
    return "brats2024", f"masks hold {seen}: 4 is read as resection cavity (brats2024); {_NAME_IT}"
