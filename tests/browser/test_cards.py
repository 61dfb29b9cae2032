"""Cards in a real browser: small, readable in light and dark, without a script, also as nbconvert writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inflab import EKFAC, layers
from tests import tiny

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><head><title>Cards</title></head>
<body style="background: {page}; color: {ink}; font: 14px sans-serif"><main>{cards}</main></body></html>"""
THEMES = {"light": {"page": "#fff", "ink": "#1f1f1f"}, "dark": {"page": "#111", "ink": "#e0e0e0"}}


def cards() -> list[str]:
    problem, influence = tiny.language_problem(), tiny.fitted()
    things: list[Any] = [problem, influence, layers(problem, "auto"), EKFAC().plan(problem, memory="3GB", rate=1e9)]
    return [thing._repr_html_() for thing in things]


@pytest.mark.parametrize("theme", THEMES)
def test_cards_are_small_and_readable(theme: str, new_page: Callable[..., Any]) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = new_page()
    page.set_content(PAGE.format(cards="".join(cards()), **THEMES[theme]))
    for name in ("Problem GPT2LMHeadModel", "Influence EKFAC"):
        card = page.get_by_role("group", name=name)
        expect(card).to_contain_text("covers")
        assert card.bounding_box()["height"] < 220
    picture = page.get_by_role("img", name="eigenvalues of all layers, sorted, log scale")
    expect(picture).to_be_visible()
    expect(page.get_by_role("columnheader", name="share of the work")).to_be_visible()
    expect(page.get_by_role("cell", name="✓ yes").first).to_be_visible()
    found = Axe().run(page)
    serious = [v["id"] for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, found.generate_report()


def test_a_narrow_place_cuts_nothing_off(new_page: Callable[..., Any]) -> None:
    page = new_page()
    page.set_viewport_size({"width": 380, "height": 900})
    page.set_content(PAGE.format(cards="".join(cards()), **THEMES["light"]))
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for card in page.locator(".inflab-card dl").all():
        assert card.evaluate("list => list.scrollWidth <= list.clientWidth")


def test_nbconvert_shows_them_without_a_script(new_page: Callable[..., Any], tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbconvert = pytest.importorskip("nbconvert")
    from playwright.sync_api import expect

    book = nbformat.v4.new_notebook()
    for html in cards():
        shown = nbformat.v4.new_output("display_data", data={"text/html": html, "text/plain": "a twin"})
        book.cells.append(nbformat.v4.new_code_cell("show", outputs=[shown]))
    body, _ = nbconvert.HTMLExporter().from_notebook_node(book)
    (tmp_path / "book.html").write_text(body, encoding="utf-8")
    page = new_page(f"file://{tmp_path}", java_script_enabled=False)
    page.goto(f"file://{tmp_path}/book.html")
    for name in ("Problem GPT2LMHeadModel", "Influence EKFAC"):
        card = page.get_by_role("group", name=name)
        expect(card).to_be_visible()
        assert card.bounding_box()["height"] < 220
    expect(page.get_by_role("columnheader", name="share of the work")).to_be_visible()
