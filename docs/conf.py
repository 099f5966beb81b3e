"""Sphinx configuration. Warnings are errors: see the target docs in the Makefile."""

import re
from importlib.metadata import version as installed

from sphinx.application import Sphinx

from gliolens.fidelity import fidelity_of

project = "GlioLens"
author = "The GlioLens authors"
copyright = "2026, the GlioLens authors"
version = release = installed("gliolens")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "tables"]
html_theme = "furo"
html_title = f"GlioLens {version}"
html_show_sourcelink = False

myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource", "undoc-members": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def _preformatted(paragraph: str) -> bool:
    """Whether a module docstring's paragraph is a table, tree or equation set out by hand."""
    return bool(re.search(r"^ {4}|\u2500\u2500", paragraph, re.MULTILINE)) and not paragraph.startswith("- ")


def _inline(text: str) -> str:
    """Docstrings write code in single backticks, as Markdown does, and |x| for what is absolute."""
    code_or_bar = re.compile(r"``.+?``|`(?P<code>[^`]+)`(?P<joined>(?=\w))?|\|")

    def rewritten(found: re.Match[str]) -> str:
        if found["code"]:
            return f"``{found['code']}``" + ("\\ " if found["joined"] is not None else "")
        return "\\|" if found[0] == "|" else found[0]

    return code_or_bar.sub(rewritten, text)


def to_restructured_text(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Bring a docstring as it is written in the source to what Sphinx reads."""
    paragraphs = "\n".join(lines).split("\n\n")
    for i, paragraph in enumerate(paragraphs):
        if what == "module" and _preformatted(paragraph):
            paragraphs[i] = "::\n\n" + re.sub(r"^", "    ", paragraph, flags=re.MULTILINE)
        elif ">>>" not in paragraph:
            paragraphs[i] = _inline(paragraph)
    lines[:] = "\n\n".join(paragraphs).split("\n")


def with_fidelity(app: Sphinx, page: str, content: list[str]) -> None:
    """Put the list of a method's differences from its source where a page asks for it."""

    def table(found: re.Match[str]) -> str:
        told = fidelity_of(found["method"])
        if told is None:
            raise ValueError(f"{page}: no list of differences for {found['method']}")
        rows = [(d.item, d.source_says, d.paper, d.sound, d.demo or "", d.why) for d in told.items]
        named = ("item", "source", "`paper`", "`sound`", "`--scale demo`", "why")
        return "\n".join("| " + " | ".join(row) + " |" for row in (named, ["---"] * len(named), *rows))

    content[0] = re.sub(r"<!-- fidelity: (?P<method>\S+) -->", table, content[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", with_fidelity)
    app.connect("autodoc-process-docstring", to_restructured_text, priority=100)
