"""One case of the cohort check: what is kept of it once it was read, and its verdict."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from joblib import Parallel, delayed

from gliolens.case import Case, CaseRow
from gliolens.cohorts.audit.appearance import appearance
from gliolens.cohorts.audit.fingerprint import Fingerprint, fingerprint
from gliolens.cohorts.audit.swaps import Swap, contrast, suspected_swap
from gliolens.cohorts.audit.verdicts import Verdict
from gliolens.errors import CaseError
from gliolens.labels import SERIES
from gliolens.loader import read_case
from gliolens.ops.intensity import foreground
from gliolens.types import Image

WHOLE_MASK = 0.5
"""Share of the head's or brain's voxels above which a tumour mask cannot be one."""

# Words of the errors that an option or an edit of the table or file mends without a new export.
_MENDABLE = (
    "--mask-scheme",
    "name one volume of a 4-D file",
    "set_qform",
    "register and resample",
    "name it with --t1",
)
_HASHED = 32_000  # voxels that a hash looks at, about


@dataclass(frozen=True)
class Look:
    """What is kept of a case once its voxels are let go.

    Attributes:
        case: its id.
        error: why it cannot be read and what mends it.
        hashes: `image_hash` of each series.
        masked: share of the brain or head that the tumour mask covers, where one is expected.
        swap: two series that look exchanged.
        print: its fingerprint, where asked for and where the scans allow one.
        appearance: what its scanner left in each series, where asked for.
    """

    case: str
    error: tuple[str, str] | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    masked: float | None = None
    swap: Swap | None = None
    print: Fingerprint | None = None
    appearance: Mapping[str, np.ndarray] = field(default_factory=dict)


def image_hash(image: Image) -> str:
    """SHA-256 of an image's shape and the order of its voxels' values, in hexadecimal.

    The same whatever type, scale factor or orientation the voxels were stored with (given RAS+ voxels), as long as
    storing rounded no two values to one, and different after any resampling, cropping or filtering. The order, not
    the values, since these come back from a scale factor with rounding errors. Of a large image a regular part is
    read, so images that differ in a few voxels only may share a hash.
    """
    step = max(1, round((image.size / _HASHED) ** (1 / 3)))
    part = image[::step, ::step, ::step]
    _, order = np.unique(image if np.ptp(part) == 0 else part, return_inverse=True)
    return hashlib.sha256(repr(image.shape).encode() + order.astype("<i4").tobytes()).hexdigest()


def looks_at(rows: Sequence[CaseRow], *, deep: bool, jobs: int) -> Iterator[Look]:
    """Look at each case once, in order.

    Args:
        rows: the cases.
        deep: keep what it takes to know the patient and the scanner again.
        jobs: processes to read with.
    """
    if jobs == 1:
        yield from (_look(row, deep) for row in rows)
    else:
        yield from Parallel(n_jobs=jobs, return_as="generator")(delayed(_look)(row, deep) for row in rows)


def _look(row: CaseRow, deep: bool) -> Look:
    try:
        case = read_case(row)
    except CaseError as error:
        return Look(row.case, error=(_said(error), error.fix))
    found = contrast(case)
    return Look(
        row.case,
        hashes={name: image_hash(image) for name, image in case.series.items()},
        masked=_masked(case),
        swap=None if found is None else suspected_swap(found),
        print=fingerprint(case) if deep else None,
        appearance=appearance(case) if deep else {},
    )


def _said(error: CaseError) -> str:
    file = "" if error.file is None else f"{error.file}: "
    return f"{file}{error.found}, expected {error.expected}"


def _masked(case: Case) -> float | None:
    """Share of the brain (or head, where no mask of the brain is known) that the tumour labels cover.

    None where there are no labels, or none are to be expected: an empty mask of a healthy brain is right.
    """
    if case.tumour is None or case.targets.get("grade") == "healthy":
        return None
    if not case.tumour.any():
        return 0.0
    if case.brain is not None:
        inside = case.brain.mean()
    else:
        inside = foreground(next(iter(case.series.values()))[::2, ::2, ::2]).mean()
    return float(np.count_nonzero(case.tumour) / max(inside * case.tumour.size, 1))


def verdict(row: CaseRow, look: Look, usual: Mapping[str, str]) -> Verdict:
    """What becomes of a case, given what most cases have (`usual_series`)."""
    found = [*_lacks(row, usual)]
    refused = False
    if look.error is not None:
        found.insert(0, look.error)
        refused = not any(words in look.error[1] for words in _MENDABLE)
    if look.masked == 0.0:
        found.append(("an empty tumour mask", "correct the mask; where it is unknown, empty the column mask"))
    if look.masked is not None and look.masked > WHOLE_MASK:
        covered = f"a tumour mask over {look.masked:.0%} of the head or brain"
        found.append((covered, "name the tumour's mask; a mask of the brain goes into the column brain_mask"))
    if look.swap is not None:
        a, b = look.swap.series
        found.append(
            (f"{a} and {b} look exchanged: {look.swap.reason}", f"look at both; exchange {a} and {b}")
        )
    for a, b in same_series(look):
        found.append((f"{a} and {b} are the same image", f"name the right file in the column {a} or {b}"))
    kind = "refused" if refused else "fixable" if found else "ok"
    return Verdict(row.case, kind, tuple(text for text, _ in found), tuple(fix for _, fix in found))


def usual_series(rows: Sequence[CaseRow]) -> dict[str, str]:
    """Which series, and the mask, most cases have, and how many, in words."""
    n = Counter(name for row in rows for name in (*row.files, *(["mask"] if row.mask else [])))
    return {
        name: f"{n[name]} of {len(rows)} cases have" for name in (*SERIES, "mask") if 2 * n[name] > len(rows)
    }


def _lacks(row: CaseRow, usual: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in SERIES:
        if name in usual and name not in row.files:
            yield (
                f"no {name}, which {usual[name]}",
                f"fill in the column {name}, or ask for fewer series with --series",
            )
    if "mask" in usual and row.mask is None and row.targets.get("grade") != "healthy":
        yield f"no tumour mask, which {usual['mask']}", "fill in the column mask"


def same_series(look: Look) -> list[tuple[str, str]]:
    """Pairs of series of one case that are one image."""
    names = list(look.hashes)
    return [
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if look.hashes[a] == look.hashes[b]
    ]  # fmt: skip
