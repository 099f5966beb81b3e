"""The wheel holds all that GlioLens needs at work, and the built-in outline is fit to ship."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gliolens
from gliolens.io.store import file_hash
from gliolens.outline import BUILT_IN, OUTPUTS, read_outliner

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(gliolens.__file__).parent
MOST_BYTES = 8 * 2**20
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"

trained = pytest.mark.skipif(
    not (BUILT_IN / "card.json").is_file(), reason="the built-in outline is not trained yet: make weights"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy of the project, so that nothing built before gets in and nothing stays behind."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_the_wheel_holds_every_module_and_every_file_they_read(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    there = [f for f in PACKAGE.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert held == {f"gliolens/{f.relative_to(PACKAGE).as_posix()}" for f in there}
    assert {
        "gliolens/py.typed",
        "gliolens/report/case.html",
        "gliolens/report/bench.html",
        "gliolens/report/style.css",
        "gliolens/weights/answers.json",
    } <= held


def test_the_wheel_installs_the_command_and_its_licence(wheel):
    names = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "LICENSE" in names
    assert "gliolens = gliolens.cli:main" in wheel.read(names["entry_points.txt"]).decode()
    metadata = wheel.read(names["METADATA"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Name: gliolens" in metadata


def test_no_file_of_the_wheel_is_large(wheel):
    large = {entry.filename: entry.file_size for entry in wheel.infolist() if entry.file_size > MOST_BYTES}
    assert not large


def test_the_wheel_holds_the_answers_as_they_are(wheel):
    held = wheel.read("gliolens/weights/answers.json")
    assert held == (PACKAGE / "weights" / "answers.json").read_bytes()
    assert json.loads(held)


@trained
def test_the_wheel_holds_the_outline(wheel):
    for name in ("card.json", "weights.safetensors"):
        assert wheel.read(f"gliolens/weights/outline/{name}") == (BUILT_IN / name).read_bytes()


@trained
def test_the_shipped_outline_fits_its_card_and_its_size():
    file = BUILT_IN / "weights.safetensors"
    assert sorted(f.name for f in BUILT_IN.iterdir()) == ["card.json", "weights.safetensors"]
    assert file.stat().st_size <= MOST_BYTES
    outliner = read_outliner()
    assert outliner.card["sha256"] == file_hash(file)
    assert outliner.card["spacing_mm"] == 2.0
    assert outliner.net.head.out_channels == len(OUTPUTS)
    assert all(bool(value.isfinite().all()) for value in outliner.net.state_dict().values())
    assert "no real scan" in outliner.card["trained_on"]
