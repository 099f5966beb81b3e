"""`gliolens reproduce`: the tables and figures of a paper, on any cohort."""

from importlib import import_module
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from gliolens.commands.flags import SOME_FAILED, Out, Scale, Target, as_json
from gliolens.errors import ConfigError
from gliolens.labels import NOTICE
from gliolens.registry import PAPERS


def reproduce(
    paper: Positional[str],
    cohort: Positional[Path],
    *,
    out: Out,
    target: Target = "grade",
    scale: Scale = "paper",
    seed: int = 0,
    encoder: str | None = None,
    weights: str | None = None,
    offline: bool = False,
    json: bool = False,
) -> int:
    """Repeat a paper's tables and figures on a cohort, beside the published numbers.

    Args:
        paper: which one: janardhan2025 or li2025.
        cohort: the cohort table.
        out: where to write.
        target: what to tell.
        scale: as published, or small enough for minutes on two cores.
        seed: of every random choice.
        encoder: another encoder than the paper's.
        weights: file or folder of the encoder's weights.
        offline: never open a connection.
        json: print JSON.
    """
    if paper not in PAPERS:
        raise ConfigError(f"no paper is called {paper!r}; there are {', '.join(PAPERS)}")
    given = {"encoder": encoder, "weights": weights, "offline": offline or None}
    module: Any = import_module(PAPERS[paper])
    done = module.reproduce(
        cohort,
        out,
        target=target,
        scale=scale,
        seed=seed,
        settings={k: v for k, v in given.items() if v is not None},
    )
    if json:
        print(as_json({"folder": done.folder, "failures": done.failures}))
    else:
        print(f"{done.folder / 'report.html'}\n{NOTICE}")
    return SOME_FAILED if done.failures else 0
