"""The documentation names every module, leaves no block unrun without a reason, and its runner can fail."""

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PAGES = [f for f in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in f.parts]
PAGES += [f for f in (ROOT / "README.md",) if f.exists()]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts)


MODULES = [module_of(f) for f in sorted((SOURCE / "gliolens").rglob("*.py")) if f.name != "__init__.py"]
WITH_EXAMPLES = [m for m in MODULES if ">>> " in (SOURCE / f"{m.replace('.', '/')}.py").read_text("utf-8")]


def test_the_reference_names_every_module():
    text = "".join(f.read_text(encoding="utf-8") for f in PAGES if f.parent.name == "reference")
    documented = re.findall(r"automodule:: (\S+)", text)
    assert sorted(documented) == MODULES, "add the module to the page of its layer in docs/reference/"


def test_every_method_has_its_page():
    from gliolens.registry import METHODS

    assert [m for m in METHODS if not (ROOT / "docs" / "methods" / f"{m}.md").exists()] == []


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0, "see the report of doctest above"


def test_a_block_that_is_not_run_says_why():
    silent = [
        f"{page.name}: {line}"
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(r"skip: (next|start)", line)
        and not re.search(r'(next|start) (".+"|if\(.+reason=".+"\))', line)
    ]
    assert silent == []


def test_links_between_pages_lead_somewhere():
    links = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in links.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


@pytest.fixture
def project(tmp_path):
    """A project of its own, with GlioLens's conftest.py and the folder of real scans beside it."""
    root = tmp_path / "main"
    (root / "docs").mkdir(parents=True)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    shutil.copy(ROOT / "conftest.py", root)
    return root


def run_pytest(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith("PYTEST_")}
    clean["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(root), str(root)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=root,
        env={**clean, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```python\nassert 1 + 1 == 3\n```\n", "AssertionError"),
        ("```bash\ngliolens no-such-command\n```\n", "exit code 2"),
        ("```bash\ngliolens --help\nrm -r everything\n```\n", "mixes gliolens commands"),
        ("```console\n$ gliolens --help\nsomething else\n```\n", "the page says"),
    ],
    ids=["python", "exit code", "mixed", "output"],
)
def test_a_wrong_block_fails(project, page, complaint):
    (project / "docs" / "page.md").write_text(page)
    done = run_pytest(project)
    assert done.returncode == 1, done.stdout
    assert complaint in done.stdout


def test_right_blocks_pass_and_share_a_folder(project):
    page = "```python\nopen('left.txt', 'w').close()\n```\n\n```bash\nmake nothing\n```\n\n"
    page += "```python\nimport os\nassert os.listdir() == ['left.txt']\n```\n"
    (project / "docs" / "page.md").write_text(page)
    done = run_pytest(project)
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("level", ["test", "module"])
def test_ci_refuses_to_skip_real_scans_that_are_there(project, level):
    skip = "pytest.skip('no ../shared/data', allow_module_level=True)"
    body = skip if level == "module" else f"def test_scan():\n    {skip}"
    (project / "test_scans.py").write_text(f"import pytest\n{body}\n")
    refused = run_pytest(project, CI="true")
    assert refused.returncode != 0, refused.stdout
    assert "was skipped though" in refused.stdout
    assert "1 skipped" in run_pytest(project).stdout
    (project.parent / "shared" / "data").rmdir()
    assert "1 skipped" in run_pytest(project, CI="true").stdout
