"""Runs the code blocks of the documentation as tests, and lets no real-data test be skipped unseen in CI.

In README.md and docs/, Python blocks are executed; `bash` blocks of `gliolens` commands are executed line by line,
and in `console` blocks what the command prints is compared too (`...` stands for anything). All blocks of a page
share one temporary folder. A block that must not run says so, with its reason, in the line before it:

    <!--- skip: next "needs scans of your own" -->
    <!--- skip: next if(not slow, reason="takes minutes; set GLIOLENS_SLOW_DOCS=1") -->
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parent
SHARED_DATA = ROOT.parent / "shared" / "data"
OUTPUT_RULES = ELLIPSIS | NORMALIZE_WHITESPACE


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run one command as a user would, with GlioLens's environment first on the path."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return subprocess.run(
        ["bash", "-euc", command],
        env={**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def failure(command: str) -> str | None:
    """Run a command; say how it failed, if it did."""
    done = shell(command)
    if done.returncode == 0:
        return None
    return f"{command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"


def run_bash(example: Example) -> str | None:
    """Run the commands of a `bash` block; each must end with exit code 0."""
    commands = example.parsed.replace("\\\n", " ").splitlines()
    wanted = [c for c in commands if c.strip() and not c.lstrip().startswith("#")]
    strangers = [c for c in wanted if not c.startswith("gliolens")]
    if strangers:
        return f"a block mixes gliolens commands with others, which are not run: {strangers}"
    return next(filter(None, map(failure, wanted)), None)


def run_console(example: Example) -> str | None:
    """Run each `$ command` of a `console` block and compare what it prints on stdout with the lines below it."""
    checker = OutputChecker()
    for entry in re.split(r"^\$ ", example.parsed.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, expected = entry.partition("\n")
        done = shell(command)
        if done.returncode != 0:
            return f"{command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        if not checker.check_output(expected, done.stdout, OUTPUT_RULES):
            return f"{command}\nprinted:\n{done.stdout}\nthe page says:\n{expected}"
    return None


class GlioLensBlocks:
    """Finds the `bash` and `console` blocks that hold gliolens commands; others are for the reader only."""

    def __init__(self) -> None:
        self._parsers = (CodeBlockParser("bash", run_bash), CodeBlockParser("console", run_console))

    def __call__(self, document: Document) -> Iterable[Region]:
        for parser in self._parsers:
            for region in parser(document):
                if re.search(r"^(\$ )?gliolens\b", region.parsed, re.MULTILINE):
                    yield region


def enter_folder(namespace: dict[str, object]) -> None:
    namespace["slow"] = os.environ.get("GLIOLENS_SLOW_DOCS") == "1"
    namespace["_left"] = Path.cwd()
    namespace["_folder"] = tempfile.mkdtemp(prefix="gliolens-docs-")
    os.chdir(str(namespace["_folder"]))


def leave_folder(namespace: dict[str, object]) -> None:
    os.chdir(str(namespace["_left"]))
    shutil.rmtree(str(namespace["_folder"]))


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), GlioLensBlocks(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, turn a skip for want of the real scans into a failure where the scans are there."""
    if not (report.skipped and isinstance(report.longrepr, tuple)):
        return
    reason = str(report.longrepr[2])
    if os.environ.get("CI") and SHARED_DATA.is_dir() and "shared" in reason:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped though {SHARED_DATA} is here: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(report)
    return report
