"""What can go wrong, as a tree. Only the command line catches these; anything else is a bug.

Exception
└── GlioLensError
    ├── ConfigError   also a ValueError   wrong usage or configuration   exit code 2
    ├── CaseError     one case is refused                                exit code 4
    │   └── ExcludedError   a rule of a method leaves it out
    ├── CohortError   a cohort, table or split is refused                exit code 4
    │   └── LeakError one patient would be on both sides of a split
    └── ModelError    a run folder, weight file or card is refused       exit code 1
"""

from functools import partial
from os import PathLike
from typing import Any, ClassVar


class GlioLensError(Exception):
    """Base of every error GlioLens raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(GlioLensError, ValueError):
    """An option or argument does not fit; the message names it and what would."""

    exit_code = 2


class CaseError(GlioLensError):
    """One case is refused.

    Args:
        case: the case's id.
        found: what is wrong with it, in words.
        expected: what GlioLens needs instead.
        fix: the command or edit that mends it.
        file: the file at fault, where there is one.
    """

    exit_code = 4

    def __init__(
        self, case: str, *, found: str, expected: str, fix: str, file: str | PathLike[str] | None = None
    ) -> None:
        self.case, self.found, self.expected, self.fix = case, found, expected, fix
        self.file = None if file is None else str(file)
        where = "" if self.file is None else f"\n  file:     {self.file}"
        super().__init__(
            f"case {case!r}{where}\n  found:    {found}\n  expected: {expected}\n  to mend:  {fix}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """How to bring the error back from a worker process: the default passes on the message alone."""
        named = {name: getattr(self, name) for name in ("found", "expected", "fix", "file")}
        return partial(type(self), **named), (self.case,)


class ExcludedError(CaseError):
    """A rule of a method leaves a case out, though nothing is wrong with it."""


class CohortError(GlioLensError):
    """A cohort, its table or its split is refused; the message says which rows and what mends it."""

    exit_code = 4


class LeakError(CohortError):
    """A split would put one patient on both sides."""


class ModelError(GlioLensError):
    """A run folder, weight file or card cannot be used; the message says what was found and expected."""
