"""What is installed and what this machine can do, told without importing anything heavy."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from gliolens.io.store import file_hash
from gliolens.labels import NOTICE, SERIES, TARGETS
from gliolens.registry import METHODS

_PACKAGES: Final = (
    "torch", "torchvision", "monai", "lightning", "numpy", "scipy", "scikit-learn", "nibabel", "nilearn",
)  # fmt: skip


_WEIGHTS: Final = ("outline/weights.safetensors", "outline/card.json", "answers.json")


def software() -> dict[str, str]:
    """Versions of Python, GlioLens and what computes for it."""
    return {"python": platform.python_version(), "gliolens": version("gliolens"), **_versions()}


def about() -> dict[str, Any]:
    """Versions, machine, methods and vocabulary."""
    return {
        "gliolens": version("gliolens"),
        "notice": NOTICE,
        "methods": list(METHODS),
        "targets": {target: list(classes) for target, classes in TARGETS.items()},
        "series": list(SERIES),
        "weights": built_in_weights(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": _versions(),
    }


def built_in_weights() -> dict[str, str]:
    """SHA-256 of each file that answers without a run, or how to make it."""
    folder = Path(__file__).parent / "weights"
    return {
        n: file_hash(folder / n) if (folder / n).is_file() else "not made yet: make weights" for n in _WEIGHTS
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
