"""What is installed and what this machine can do, told without importing anything heavy."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from gliolens.labels import NOTICE, SERIES, TARGETS
from gliolens.registry import METHODS

_PACKAGES: Final = (
    "torch", "torchvision", "monai", "lightning", "numpy", "scipy", "scikit-learn", "nibabel", "nilearn",
)  # fmt: skip


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
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
