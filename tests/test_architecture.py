"""The rules of the source tree, so that they hold without being remembered."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "gliolens").rglob("*.py"))
HEAVY = ("torch", "torchvision", "lightning", "monai")


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_imports_run_downward_only():
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, "see the report of import-linter above, or run: lint-imports"


def test_init_files_are_empty():
    assert [named(f) for f in SOURCES if f.name == "__init__.py" and f.stat().st_size] == []


def test_every_folder_of_source_is_a_package():
    folders = {f.parent for f in SOURCES}
    assert [named(d) for d in sorted(folders) if not (d / "__init__.py").exists()] == []


def test_files_can_be_read_in_one_sitting():
    lengths = {named(f): len(f.read_text(encoding="utf-8").splitlines()) for f in SOURCES}
    assert {file: n for file, n in lengths.items() if n >= 400} == {}


def test_functions_can_be_seen_at_once():
    long = {}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines >= 60:
                    long[f"{named(file)}:{node.name}"] = lines
    assert long == {}


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--json"]], ids=" ".join)
def test_answers_that_need_no_network_load_no_torch(arguments):
    script = f"""
import sys
from gliolens.cli import main
try:
    code = main({arguments!r})
except SystemExit as end:
    code = end.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print("loaded:", loaded, file=sys.stderr)
sys.exit(code or (3 if loaded else 0))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "the command printed nothing"
