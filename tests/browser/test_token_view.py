"""The token view in a real browser: walked by keys, in any script, with hostile text, its views and its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from inflab.select import top
from inflab.widgets.payload import signed
from inflab.widgets.token_view import TokenView
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = pytest.mark.browser
Show = Callable[..., Any]

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "\u0000\u001b[31m\u202edesrever",
    "👩‍👩‍👧",
    "x" * 10_000,
    "\ud800 alone",
    " \n",
    "<0xE2>",
    ".\n",
]


def _tokens(view: str = "update", n_query: int = 2) -> xr.Dataset:
    influence, queries = FakeInfluence(), corpus(n_query, "query")
    best = top(influence.score(queries), 3)
    return influence.attribute(queries, best, view=view).assign_attrs(view=view, n_train=40)


def _with_text(*pieces: str) -> xr.Dataset:
    """One pair, with these tokens."""
    found = _tokens(n_query=1).isel(rank=[0])
    found = found.isel(token=np.arange(len(pieces)) % found.sizes["token"]).assign_coords(token=np.arange(len(pieces)))
    text = np.array(pieces, dtype=object).reshape(1, 1, -1)
    return found.assign(
        token_text=(("query", "rank", "token"), text), is_text=(("query", "rank", "token"), np.ones(text.shape, bool))
    )


def _line(page: Any) -> Any:
    return page.get_by_role("listbox", name="Tokens of the chosen sequence")


def _readout(page: Any) -> str:
    return str(page.locator(".token-view .token-readout").text_content())


def test_keys_walk_the_tokens_and_say_their_numbers(show_part: Show) -> None:
    from playwright.sync_api import expect

    part = TokenView(_tokens())
    page = show_part(part)
    effect = part._tokens["effect"]
    line = _line(page)
    expect(line.get_by_role("option")).to_have_count(len(effect))
    assert signed(effect[int(np.abs(effect).argmax())]) in _readout(page)  # begins at the largest
    page.locator("#before").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if line.evaluate("box => box === document.activeElement"):
            break
    expect(line).to_be_focused()
    for key, index in [("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", len(effect) - 1)]:
        page.keyboard.press(key)
        active = line.get_attribute("aria-activedescendant")
        expect(page.locator(f"[id='{active}']")).to_have_attribute(
            "aria-label", f"{_said(part, index)}, {signed(effect[index])}"
        )
        assert signed(effect[index]) in _readout(page)
        page.wait_for_function("index => window.model.get('token') === index", arg=index)
    assert part.token == len(effect) - 1
    line.get_by_role("option").nth(3).hover()
    assert signed(effect[3]) in _readout(page)
    page.mouse.move(0, 0)
    assert signed(effect[-1]) in _readout(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("group", name="Token view", exact=True)).to_be_focused()


def _said(part: TokenView, index: int) -> str:
    return str(part._tokens["text"][index]).strip() or "⏎"


def test_the_switch_says_what_each_view_means_and_keeps_the_place(show_part: Show) -> None:
    from playwright.sync_api import expect

    part = TokenView(_tokens(), _tokens("output"), _tokens("input"))
    page = show_part(part)
    _line(page).get_by_role("option").nth(2).click()
    meaning = page.locator(".token-meaning")
    expect(meaning).to_contain_text("one token early")
    for view, words in [("output", "No shift: a number stands at the predicted token"), ("input", "need not sum")]:
        page.get_by_role("radio", checked=True).focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("radio", name=view)).to_be_checked()
        expect(meaning).to_contain_text(words)
        expect(meaning).to_contain_text(signed(part._tokens["sum"]))
        expect(meaning).to_contain_text(f"whole effect is {signed(part._tokens['total'])}")
        assert (part.view, part.token) == (view, 2)
        assert signed(part._tokens["effect"][2]) in _readout(page)
    expect(page.get_by_text("Layer by layer")).to_be_hidden()  # these views keep no layers


def test_another_pair_is_chosen(show_part: Show) -> None:
    from playwright.sync_api import expect

    part = TokenView(_tokens())
    page = show_part(part)
    page.get_by_label("Query", exact=True).select_option(index=1)
    page.get_by_label("Sequence", exact=True).select_option(index=2)
    expect(_line(page)).to_contain_text(part._tokens["text"][3].strip())
    page.wait_for_function("window.model.get('rank') === 3")
    assert (part.position, part.rank) == (1, 3)
    assert page.get_by_label("Sequence", exact=True).locator("option").all_text_contents() == part._choices["sequences"]


def test_layers_are_read_cell_by_cell(show_part: Show) -> None:
    from playwright.sync_api import expect

    part = TokenView(_tokens())
    page = show_part(part)
    page.get_by_text("Layer by layer").click()
    grid = page.get_by_role("application", name="Heat by layer and token")
    grid.focus()
    effect = np.array(part._tokens["heat"]["effect"])
    readout = page.locator(".heat-map .token-readout")
    row, column = np.unravel_index(np.abs(effect).argmax(), effect.shape)
    expect(readout).to_contain_text(signed(effect[row, column]))
    for _ in range(len(effect)):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(readout).to_contain_text(signed(effect[1, 2]))
    expect(readout).to_contain_text("in layer transformer.h.0.mlp.c_proj at")
    expect(readout).to_contain_text("token 3 of")
    box = grid.bounding_box()
    page.mouse.move(box["x"] + 18 * 4 + 9, box["y"] + 18 * 3 + 9)
    expect(readout).to_contain_text(signed(effect[3, 4]))


def test_whitespace_shows_on_demand(show_part: Show) -> None:
    from playwright.sync_api import expect

    page = show_part(TokenView(_with_text(" was", "a\tb", ".\n", "\n", "   ", "e\u0301\u200d", "می‌روم", "\u0007")))
    toggle = page.get_by_role("button", name="Show whitespace")
    text = _line(page).get_by_role("option")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    before = [" was", "a\tb", ".", "⏎", "␣␣␣", "e\u0301‹200d›", "می‌روم", "␇"]
    assert text.all_text_contents() == before
    toggle.focus()
    page.keyboard.press("Enter")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert text.all_text_contents() == ["·was", "a⇥b", ".⏎", "⏎", "···", "e\u0301‹200d›", "می‹200c›روم", "␇"]
    page.keyboard.press("Space")
    assert text.all_text_contents() == before


def test_right_to_left_text_is_walked_as_it_reads(show_part: Show) -> None:
    part = TokenView(_with_text("مرحبا", " بال", "عالم", " abc"))
    page = show_part(part)
    line = _line(page)
    assert line.evaluate("box => getComputedStyle(box).direction") == "rtl"
    boxes = [line.get_by_role("option").nth(i).bounding_box()["x"] for i in range(3)]
    assert boxes == sorted(boxes, reverse=True)
    line.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("window.model.get('token') === 1")


def test_hostile_text_stays_text_and_fits(show_part: Show) -> None:
    from playwright.sync_api import expect

    page = show_part(TokenView(_with_text(*HOSTILE)))
    line = _line(page)
    expect(line).to_contain_text("<script>window.pwned = 1</script>")
    expect(line).to_contain_text("␀␛[31m‹202e›desrever")
    expect(line).to_contain_text("👩‍👩‍👧")
    expect(line).to_contain_text("<0xE2>")
    assert page.evaluate("window.pwned") is None
    assert page.locator("#host :is(script, img, iframe)").count() == 0
    line.get_by_role("option").nth(4).click()
    assert "of 10,000 characters" in _readout(page)
    page.get_by_text("Layer by layer").click()
    for width in (360, 1100):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("case", ["one token", "no token", "not a number"])
def test_what_is_hardly_there_draws_something_sensible(show_part: Show, case: str) -> None:
    from playwright.sync_api import expect

    tokens = _with_text("a", "b")
    if case == "not a number":
        tokens = tokens.assign(influence=tokens["influence"] * np.nan)
    else:
        tokens["is_text"].to_numpy()[..., int(case == "one token") :] = False
    page = show_part(TokenView(tokens))
    if case == "no token":
        expect(page.get_by_text("This sequence has no tokens.")).to_be_visible()
    else:
        expect(_line(page).get_by_role("option")).to_have_count(1 if case == "one token" else 2)
        assert ("–" in _readout(page)) == (case == "not a number")
    page.keyboard.press("ArrowRight")


def test_an_error_is_said_and_the_view_goes_on(show_part: Show) -> None:
    from playwright.sync_api import expect

    part = TokenView(_tokens())
    page = show_part(part)
    page.evaluate("window.model.set('rank', 9); window.model.save_changes()")
    expect(page.get_by_role("alert")).to_contain_text("rank=9 must lie between 1 and 3")
    page.get_by_label("Sequence", exact=True).select_option(index=1)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert part.rank == 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = show_part(TokenView(_tokens(), _tokens("output")), dark=dark)
    page.get_by_text("Layer by layer").click()
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], node["html"][:200]) for one in serious for node in one["nodes"]] == []
