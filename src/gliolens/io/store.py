"""Files that are written whole or not at all, and JSON that can be read back."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gliolens.errors import ConfigError, ModelError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename it to `path` once the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path`, and rename it to `path` once the block ends without an error.

    A folder that is already there is replaced, or kept where `keep` says that one is as good as the other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # what a killed process of the same number left behind
    unfinished.mkdir()
    try:
        yield unfinished
        if keep and path.is_dir():  # another process was faster
            return
        if path.exists():
            shutil.rmtree(path)
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def refuse_to_replace(path: Path, text: str | None = None) -> None:
    """Refuse where a file is there already, unless it holds this very text.

    Raises:
        ConfigError: it is there, and not the same.
    """
    if path.is_file() and (text is None or path.read_text(encoding="utf-8") != text):
        raise ConfigError(
            f"{path} is there already and is not replaced; choose another -o, or remove it first"
        )


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all. NaN becomes null: the reason stands beside it in the content."""
    write_text(path, json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: the file is missing or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no UTF-8
        raise ModelError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: found a JSON {type(content).__name__}, expected an object")
    return content


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_hash(content: Any) -> str:
    """SHA-256 of JSON content, the same whatever the order of its keys."""
    text = json.dumps(_plain(content), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):  # a number or an array of numpy's
        value = value.tolist()
        return _plain(value) if isinstance(value, list) else _finite(value)
    return _finite(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
