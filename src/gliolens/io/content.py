"""The bytes of an image file, unzipped and proven whole. Knows names and gzip, not what the bytes mean."""

import gzip
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gliolens.errors import CaseError

NAME: Final = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
"""How the name of a NIfTI file ends."""
_FRAME: Final = re.compile(r"^(?P<file>.+\.nii(\.gz)?)#(?P<frame>[0-9]+)$", re.IGNORECASE)
AGAIN: Final = "copy or export the file again"
"""What mends a file that is not whole."""


@dataclass(frozen=True)
class Refusal:
    """Makes the `CaseError`s of one file of one case."""

    case: str
    file: str

    def __call__(self, found: str, expected: str, fix: str) -> CaseError:
        """What was found, what is needed instead, and what mends it."""
        return CaseError(self.case, file=self.file, found=found, expected=expected, fix=fix)


def address(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Part `FILE.nii.gz#K` into the file and the number of the volume asked for; None where it is the file's name."""
    match = _FRAME.match(str(path))
    if match is None or os.path.exists(path):
        return Path(path), None
    return Path(match["file"]), int(match["frame"])


def stored_bytes(file: Path, refuse: Refusal, size: int | None = None) -> bytes:
    """Read a `.nii` or `.nii.gz` file.

    Args:
        file: the file.
        refuse: names case and file.
        size: read only so many bytes, from the first.

    Returns:
        The content, unzipped; read whole, it has passed gzip's checksum.

    Raises:
        CaseError: the file is missing, empty, misnamed, cut short or damaged.
    """
    try:
        _check(file, refuse)
        if not _named_gzip(file):
            with file.open("rb") as stream:
                return stream.read(size)
        if size is None:
            return gzip.decompress(file.read_bytes())
        with gzip.open(file) as unzipped:
            return unzipped.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refuse(f"a gzip file cut short or damaged ({error})", "a whole gzip file", AGAIN) from error
    except OSError as error:
        raise refuse(
            f"a file that cannot be read ({error})", "a readable file", "check path and rights"
        ) from error


def _named_gzip(file: Path) -> bool:
    return file.name.lower().endswith(".gz")


def _check(file: Path, refuse: Refusal) -> None:
    expected = "a .nii or .nii.gz file"
    if file.is_dir():
        raise refuse("a folder", expected, "name the file in it; convert DICOM first, e.g. with dcm2niix")
    if not file.is_file():
        raise refuse("no such file", expected, "correct the path, in the cohort table or on the command line")
    if not NAME.search(file.name):
        raise refuse(f"a file named {file.name}", expected, "convert it, e.g. with nibabel's nib-convert")
    with file.open("rb") as stream:
        start = stream.read(2)
    named, zipped = _named_gzip(file), start == b"\x1f\x8b"
    if not start:
        raise refuse("an empty file, 0 bytes", expected, AGAIN)
    if named and not zipped:
        raise refuse("not a gzip file, whatever its name says", expected, f"rename it to .nii, or {AGAIN}")
    if zipped and not named:
        raise refuse("a gzip file, whatever its name says", expected, "rename it to .nii.gz")
