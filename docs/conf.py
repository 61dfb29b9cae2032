"""Sphinx settings of the documentation: pages in Markdown, the API from its docstrings.

Nothing is fetched while building: names of other projects are not linked, and are left out of the check that every
reference leads somewhere. A reference to a name of inflab must.
"""

from __future__ import annotations

import pkgutil
import re
from typing import Any

import docutils.nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

import inflab

project = "inflab"
author = "The inflab contributors"
project_copyright = "The inflab contributors, Apache-2.0"
version = release = inflab.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
default_role = "name_or_code"
nitpicky = True
nitpick_ignore_regex = [
    # Other projects, spelt as annotations spell them; inventories of theirs would have to be fetched.
    (r"py:.*", r"(?!inflab\b).*"),
    # Types in signatures that are no part of the public interface.
    (r"py:class", r"inflab\.(?!(truth|plot|widgets|datasets|models)\.[A-Z]\w*$)[a-z]\w*\..*"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = f"inflab {release}"
html_show_sphinx = False
html_copy_source = False

#: Public names that are linked also without the prefix `inflab.`; the others may be a parameter's name too.
CLASSES = frozenset(name for name in inflab.__all__ if name[0].isupper())


def _is_missing(path: str) -> bool:
    """Whether neither a module nor what one holds has this dotted name."""
    try:
        pkgutil.resolve_name(path)
    except (ImportError, AttributeError):
        return True
    return False


def name_or_code(
    role: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[docutils.nodes.Node], list[Any]]:
    """Single backticks, as the docstrings use them: a link where they hold a public name, else code.

    Returns:
        The node, and no message.
    """
    text = docutils.nodes.unescape(text)
    code = docutils.nodes.literal(rawtext, text, classes=["code"])
    found = re.match(r"(?P<own>inflab\.)?(?P<path>\w+(?:\.\w+)*)(?:\(.*\))?$", text, re.DOTALL)
    if found is None:
        return [code], []
    target, first = f"inflab.{found['path']}", found["path"].split(".")[0]
    is_public = first in (inflab.__all__ if found["own"] else CLASSES)
    if not is_public and not (found["own"] and _is_missing(target)):
        return [code], []
    link = pending_xref(rawtext, code, refdomain="py", reftype="obj", reftarget=target, refwarn=True, refspecific=False)
    link["refdoc"] = inliner.document.settings.env.docname
    link.source, link.line = inliner.reporter.get_source_and_line(lineno)
    return [link], []


def untyped_returns(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Say that what stands under "Returns:" is text: else a colon in its first line makes a type of what precedes.

    The same of the first line below an attribute.
    """
    if what in {"attribute", "data", "property"} and lines and lines[0]:
        lines[0] = f": {lines[0]}"
    for number, line in enumerate(lines[:-1]):
        if re.match(r"\s*(Returns|Yields):$", line):
            text = lines[number + 1]
            indent = len(text) - len(text.lstrip())
            lines[number + 1] = f"{text[:indent]}: {text[indent:]}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the role of single backticks, and what runs before napoleon (whose priority is 500).

    Returns:
        What Sphinx may do with it.
    """
    app.add_role("name_or_code", name_or_code)
    app.connect("autodoc-process-docstring", untyped_returns, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
