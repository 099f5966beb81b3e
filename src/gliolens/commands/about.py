"""`gliolens demo` and `gliolens info`: the flags of each verb."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from gliolens.commands.flags import Out, as_json


def demo(
    *, out: Out = Path("gliolens-demo"), n: Annotated[int, arg(aliases=["-n"])] = 32, seed: int = 0
) -> int:
    """Simulate a cohort, check it, cross-validate a method beside the controls, and predict one case.

    Args:
        out: where to write.
        n: how many simulated cases.
        seed: of every random choice.
    """
    from gliolens.demo import demo

    print(demo(out, n=n, seed=seed))
    return 0


def info(*, json: bool = False) -> int:
    """Say what is installed and what this machine can do; imports nothing heavy.

    Args:
        json: print JSON.
    """
    from gliolens.about import about

    facts = about()
    print(as_json(facts) if json else "\n".join(f"{k:14}{_line(v)}" for k, v in facts.items()))
    return 0


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
