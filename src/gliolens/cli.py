"""The command line: finds the verb and turns errors into exit codes. Nothing heavy is imported before it is needed.

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 some cases failed (listed in failures.json);
4 input refused; 130 interrupted.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Final

from gliolens.errors import ConfigError, GlioLensError
from gliolens.labels import NOTICE

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("about:demo", "the whole story on a simulated cohort, ending in a report"),
    "predict": ("methods:predict", "scans to labels, measures, probabilities, heatmaps and a report"),
    "cohort index": ("cohort:index", "any known layout and a clinical table, to one cohort table"),
    "cohort check": ("cohort:check", "a verdict a case, and what is wrong with the cohort as a whole"),
    "cohort split": ("cohort:split", "patient-grouped stratified splits, stored and hashed"),
    "cohort export": ("cohort:export", "the cohort as nnU-Net raw data or a MONAI datalist"),
    "cohort strip": ("cohort:strip", "a brain mask for every case, all by one tool of yours"),
    "cohort phantom": ("cohort:phantom", "a simulated cohort on real anatomy"),
    "train": ("methods:train", "fit a method on one side of a split and score it on the other"),
    "evaluate": ("methods:evaluate", "score a trained run, and its controls, on patients it has never seen"),
    "bench": ("methods:bench", "methods over the folds of one split, in one table with every control"),
    "report": ("methods:report", "a model card, CLAIM 2024 and TRIPOD+AI of a run, open items marked open"),
    "reproduce": ("papers:reproduce", "the tables and figures of a paper, on your cohort"),
    "survival": ("papers:survival", "Kaplan-Meier, log-rank and Cox by class"),
    "check": ("papers:check", "whether the scores a paper prints can be of one test set"),
    "info": ("about:info", "versions, machine, methods"),
}
"""Each command: its function in `gliolens.commands`, and what it does."""

INTERRUPTED: Final = 130
_LISTS = ("--series", "--methods", "--series-order")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        verb = _find_verb(words)
        return 0 if verb is None else _run(verb, words[len(verb.split()) :])
    except GlioLensError as error:
        print(f"gliolens: {error}", file=sys.stderr)
        return error.exit_code
    except PermissionError as error:
        print(f"gliolens: {error.filename}: {error.strerror}; choose another place with -o", file=sys.stderr)
        return 1
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        print(
            f"gliolens: {error.filename}: a file where a folder is needed, or the reverse; choose another -o",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("gliolens: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _run(verb: str, words: Sequence[str]) -> int:
    import tyro

    module, name = VERBS[verb][0].split(":")
    function = getattr(import_module(f"gliolens.commands.{module}"), name)
    if verb == "train":  # its flags depend on the method, its first word
        function, words, verb = function(words), words[1:], f"train {words[0]}"
    code: int = tyro.cli(function, args=_split_lists(words), prog=f"gliolens {verb}")
    return code


def _find_verb(words: list[str]) -> str | None:
    """The verb that words begin with; None where help was all that was asked for.

    Raises:
        ConfigError: no such verb.
    """
    asks_help = {"-h", "--help"}
    if not words or words[0] in asks_help:
        print(_overview(VERBS))
        return None
    if words == ["--version"]:
        print(version("gliolens"))
        return None
    for verb in VERBS:
        if words[: len(verb.split())] == verb.split():
            return verb if verb != "train" or _names_method(words[1:]) else None
    group = [v for v in VERBS if v.startswith(f"{words[0]} ")]
    if group and set(words[1:2]) <= asks_help:
        print(_overview(group))
        return None
    raise ConfigError(f"no command {' '.join(words[:2])!r}; there are: {', '.join(group or VERBS)}")


def _names_method(words: list[str]) -> bool:
    """Whether `train` is followed by a method; says which there are where only help was asked for."""
    from gliolens.registry import METHODS

    if not words:
        raise ConfigError(f"train which method? There are {', '.join(METHODS)}")
    if words[0] in ("-h", "--help"):
        print(
            f"usage: gliolens train METHOD cohort.csv --target T -o RUN\n\nMETHOD is one of {', '.join(METHODS)}"
        )
        return False
    if words[0] not in METHODS:
        raise ConfigError(f"no method is called {words[0]!r}; there are {', '.join(METHODS)}")
    return True


def _overview(verbs: Sequence[str] | Mapping[str, object]) -> str:
    width = max(map(len, verbs)) + 2
    lines = [f"  {verb:{width}}{VERBS[verb][1]}" for verb in verbs]
    head = "usage: gliolens COMMAND ...    (gliolens COMMAND --help tells its flags)"
    return "\n".join([head, "", *lines, "", NOTICE])


def _split_lists(words: Sequence[str]) -> list[str]:
    """`--series t1,flair` as `--series t1 flair`: lists may be given either way."""
    out: list[str] = []
    for i, word in enumerate(words):
        out += word.split(",") if i > 0 and words[i - 1] in _LISTS else [word]
    return out


if __name__ == "__main__":
    sys.exit(main())
