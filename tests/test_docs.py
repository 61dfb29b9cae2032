"""The documentation names everything that is public, and every public name says what it does, by an example."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import inflab

PAGES = sorted((Path(__file__).resolve().parent.parent / "docs" / "api").glob("*.md"))
#: The public modules: names that are rooms of their own.
MODULES = sorted(name for name, room in inflab._HOME.items() if name == room)
_DIRECTIVE = re.compile(r"^\.\. (?:auto|py:)(?:function|class|data|exception):: (inflab\.[\w.]+)$", re.MULTILINE)


def _public() -> dict[str, Any]:
    """Dotted name -> what it is, of all that a user may call; a name that stands in two places counts once."""
    found: dict[str, Any] = {f"inflab.{name}": getattr(inflab, name) for name in inflab.__all__ if name not in MODULES}
    for module in MODULES:
        room = import_module(f"inflab.{module}")
        for name in room.__all__:
            if not any(value is getattr(room, name) for value in found.values()):
                found[f"inflab.{module}.{name}"] = getattr(room, name)
    return found


PUBLIC = _public()
CALLABLE = {name: value for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)}


def test_every_public_name_stands_on_one_page() -> None:
    documented = [name for page in PAGES for name in _DIRECTIVE.findall(page.read_text("utf-8"))]
    assert sorted(set(PUBLIC) - set(documented)) == []
    assert sorted(name for name in set(documented) if documented.count(name) > 1) == []


def test_every_page_is_in_the_index() -> None:
    index = (PAGES[0].parent.parent / "index.md").read_text("utf-8")
    assert all(f"\napi/{page.stem}\n" in index for page in PAGES)


@pytest.mark.parametrize("name", CALLABLE)
def test_a_public_name_has_an_example(name: str) -> None:
    """In its docstring, or on a page that shows several names at work together; `make examples` runs both."""
    doc = inspect.getdoc(CALLABLE[name])
    assert doc, "has no docstring"
    on_pages = [line for page in PAGES for line in page.read_text("utf-8").splitlines() if line.startswith(">>> ")]
    assert "\nExample:\n    >>> " in doc or any(re.search(rf"\b{re.escape(name)}\(", line) for line in on_pages)


@pytest.mark.parametrize("name", [name for name, value in CALLABLE.items() if inspect.isfunction(value)])
def test_a_public_function_says_what_it_takes_returns_and_raises(name: str) -> None:
    function = CALLABLE[name]
    doc = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    for parameter in signature.parameters:
        assert re.search(rf"^    (\*\*)?{parameter}: ", doc, re.MULTILINE), f"{parameter} is not described"
    is_one_line = "\n" not in doc.partition("\n\nExample:")[0]
    if signature.return_annotation not in (None, "None") and not is_one_line:
        assert "\nReturns:\n" in doc
    if re.search(r"^    raise \w", inspect.getsource(function), re.MULTILINE):
        assert "\nRaises:\n" in doc
