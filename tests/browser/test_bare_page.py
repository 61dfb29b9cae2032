"""The Explorer's front end in a real browser, on a bare page: keys, picks, roles, hostile text, themes, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import xarray as xr

from inflab import Explorer
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

pytestmark = pytest.mark.browser
Show = Callable[..., Any]

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    '"><svg onload="window.pwned = 1">',
    "\u0000\u001b[31m\u202edesrever",
    "مرحبا بالعالم",
    "👩‍👩‍👧",
    "x" * 10_000,
    "\ud800 alone",
]


@pytest.fixture
def explorer() -> Explorer:
    return Explorer(FakeInfluence(), corpus(4, "query"), k=6)


def _root(page: Any) -> Any:
    return page.get_by_role("group", name="Influence explorer")


def _place(page: Any) -> Any:
    return page.locator("output")


def _lists(page: Any) -> tuple[Any, Any]:
    found = [page.get_by_role("listbox", name=f"Makes it {word} likely") for word in ("more", "less")]
    return found[0], found[1]


def _tokens(page: Any) -> Any:
    return page.get_by_role("listbox", name="Tokens of the chosen sequence")


def _until(page: Any, holds: Callable[[], bool]) -> None:
    """Let the page's messages reach Python until something holds there."""
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(20)
    assert holds()


def _focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id"))


def test_buttons_step_to_both_ends_and_no_further(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer)
    expect(_place(page)).to_have_text("1 / 4")
    for button, place in [("Next", 2), ("Last", 4), ("Next", 4), ("Previous", 3), ("First", 1), ("Previous", 1)]:
        page.get_by_role("button", name=f"{button} query").click(force=True)  # also where it does nothing
        expect(_place(page)).to_have_text(f"{place} / 4")
        _until(page, lambda: explorer.position == place - 1)  # noqa: B023
    expect(page.get_by_role("button", name="First query")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_role("button", name="Next query")).to_have_attribute("aria-disabled", "false")


def test_keys_step_and_the_query_follows(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer)
    _root(page).focus()
    for key, place in [("ArrowRight", 2), ("End", 4), ("ArrowLeft", 3), ("Home", 1)]:
        page.keyboard.press(key)
        expect(_place(page)).to_have_text(f"{place} / 4")
    page.keyboard.press("ArrowRight")
    query = page.get_by_role("region", name="Query")
    expect(query.locator("mark")).to_have_text("Mira Quell.")
    expect(query).to_contain_text("The president of Gleem was")
    expect(query).to_contain_text("source letters")


def test_a_list_is_walked_and_picked_from_by_keys(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer)
    _root(page).focus()
    page.keyboard.press("ArrowDown")
    positive, negative = _lists(page)
    expect(positive).to_be_focused()
    expect(positive.get_by_role("option")).to_have_count(6)
    expect(positive.get_by_role("option").first).to_have_attribute("aria-selected", "true")
    before = _tokens(page).text_content()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(positive.get_by_role("option").nth(2)).to_have_attribute("aria-selected", "true")
    _until(page, lambda: explorer.selected["rank"] == 3)
    assert explorer.selected == {**explorer.selected, "query": "q0", "sign": "positive"}
    expect(page.get_by_role("region", name="Chosen sequence")).to_contain_text(str(explorer.selected["train"]))
    expect(_tokens(page)).not_to_have_text(before)
    page.keyboard.press("Tab")
    expect(negative).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Space")
    expect(negative.get_by_role("option").last).to_have_attribute("aria-selected", "true")
    _until(page, lambda: (explorer.selected["rank"], explorer.selected["sign"]) == (6, "negative"))
    expect(positive.locator("[aria-selected=true]")).to_have_count(0)
    # A step redraws the lists, and the focus stays where it was.
    page.keyboard.press("ArrowRight")
    expect(_place(page)).to_have_text("2 / 4")
    expect(negative).to_be_focused()
    page.keyboard.press("Escape")
    expect(_root(page)).to_be_focused()


def test_a_click_picks_and_tokens_show_the_numbers_of_the_array(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer)
    _lists(page)[1].get_by_role("option").nth(1).click()
    tokens = _tokens(page).get_by_role("option")
    _until(page, lambda: (explorer._tokens["rank"], explorer._tokens["sign"]) == (2, "negative"))
    sent = explorer._tokens
    expect(tokens).to_have_count(len(sent["text"]))
    readout = page.locator(".readout")
    for act in (lambda: tokens.nth(3).hover(), lambda: _walk(page, tokens, 3)):
        page.mouse.move(0, 0)
        act()
        sign = "−" if sent["effect"][3] < 0 else "+"
        expect(readout).to_contain_text(sign)
        expect(readout).to_contain_text(f"{abs(sent['effect'][3]):#.3g}")
        expect(readout).to_contain_text(f"token 4 of {len(sent['text'])}")
    strongest = max(abs(effect) for effect in sent["effect"])
    expect(page.locator(".legend")).to_contain_text(f"+{strongest:#.3g}")
    expect(page.locator(".legend")).to_contain_text("nat per added copy")
    expect(page.locator(".shift")).to_contain_text("one token early")


def _walk(page: Any, tokens: Any, index: int) -> None:
    _tokens(page).focus()
    page.keyboard.press("Home")
    for _ in range(index):
        page.keyboard.press("ArrowRight")
    assert _tokens(page).get_attribute("aria-activedescendant") == tokens.nth(index).get_attribute("id")


def test_sign_is_never_by_colour_alone(show: Show, explorer: Explorer) -> None:
    page = show(explorer)
    shown = page.evaluate(
        """() => [...document.querySelectorAll(".token.marked")].map((token) => {
          const style = getComputedStyle(token);
          return [token.classList.contains("negative"), style.borderBottomStyle, token.getAttribute("aria-label")];
        })"""
    )
    assert shown
    for is_negative, line, label in shown:
        assert line == ("dashed" if is_negative else "solid")
        assert ("−" if is_negative else "+") in label


def test_whitespace_tokens_can_be_seen(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer)
    expect(_tokens(page).get_by_role("option").last).to_have_text("⏎")


def test_the_layer_profile_is_a_picture_with_words_that_asks_nobody(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    for dark in (False, True):
        page = show(explorer, dark=dark)
        picture = page.get_by_role("img", name="Effect by layer")
        expect(picture).to_have_count(1)
        expect(picture).to_have_attribute("alt", explorer._profile["alt"])
        expect(picture).to_have_class("for-dark" if dark else "for-light")
        assert picture.evaluate("async (image) => (await image.decode(), image.naturalWidth)") > 100


def test_keys_stay_inside_and_tab_leaves(show: Show, explorer: Explorer) -> None:
    page = show(explorer)
    page.evaluate("window.heard = []; document.addEventListener('keydown', (event) => window.heard.push(event.key))")
    assert _root(page).get_attribute("data-lm-suppress-shortcuts") == "true"
    for place in (_root(page), _lists(page)[0], _tokens(page)):
        place.focus()
        for key in ("ArrowLeft", "ArrowDown", "Enter", "a", "b", "x"):
            place.press(key)
    assert page.evaluate("window.heard") == []
    page.locator("#before").focus()
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(_focused(page))
        if seen[-1] == "after":
            break
    assert seen[0] == "Influence explorer"
    assert seen[-1] == "after"
    for _ in range(len(seen)):
        page.keyboard.press("Shift+Tab")
    assert _focused(page) == "before"


def _hostile() -> xr.DataTree:
    def poison(node: xr.Dataset) -> xr.Dataset:
        for i, text in enumerate(HOSTILE):
            if "token_text" in node:
                node["token_text"].to_numpy()[:, :, i] = text
                node["is_text"].to_numpy()[:, :, i] = True
            if "source" in node.coords and node["source"].dims == ("query", "rank") and i < node.sizes["rank"]:
                node["source"].to_numpy()[:, i] = text
                node["text"].to_numpy()[:, i] = text
            if "query_prompt" in node.coords:
                node["query_prompt"].to_numpy()[:] = HOSTILE[1]
        return node

    return explanation(2, 40, 8).map_over_datasets(poison)


def test_hostile_text_stays_text(show: Show) -> None:
    from playwright.sync_api import expect

    page = show(Explorer(_hostile()))
    expect(_tokens(page)).to_contain_text("<script>window.pwned = 1</script>")
    expect(_tokens(page)).to_contain_text("␀␛[31m‹202e›desrever")
    expect(_lists(page)[0].get_by_role("option").first).to_contain_text("<script>window.pwned = 1</script>")
    expect(page.get_by_role("region", name="Query")).to_contain_text("<img src=x onerror=")
    assert page.evaluate("window.pwned") is None
    assert page.locator("#host :is(script, svg, iframe)").count() == 0
    assert page.locator("#host img").evaluate_all("all => all.every((one) => one.src.startsWith('data:image/svg+xml'))")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_slow_answer_shows_that_it_is_awaited(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer, lag=300)
    page.get_by_role("button", name="Next query").click()
    expect(_place(page)).to_have_text("2 / 4")
    expect(_root(page)).to_have_attribute("aria-busy", "true")
    expect(_root(page)).to_have_attribute("aria-busy", "false")
    page.get_by_role("button", name="Next query").click()
    page.get_by_role("button", name="Next query").click()
    expect(_place(page)).to_have_text("4 / 4")
    expect(page.get_by_role("region", name="Query")).to_contain_text("query q3")


def test_an_error_in_python_is_said_and_the_widget_goes_on(show: Show) -> None:
    from playwright.sync_api import expect

    influence = FakeInfluence()
    page = show(Explorer(influence, corpus(3, "query")))
    influence.fails = "layer h.0 gives <b>NaN</b>"
    page.get_by_role("button", name="Next query").click()
    expect(page.get_by_role("alert")).to_have_text("ValueError: layer h.0 gives <b>NaN</b>")
    expect(page.get_by_role("region", name="Chosen sequence")).to_contain_text("No tokens to show.")
    influence.fails = ""
    page.get_by_role("button", name="Next query").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(_tokens(page).get_by_role("option").first).to_be_visible()


def test_an_error_in_the_view_is_said_and_the_widget_goes_on(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer)
    page.evaluate("window.take({ _page: { position: 0, query: null, positive: null, negative: [] } })")
    expect(page.get_by_role("alert")).to_contain_text("The view failed")
    page.get_by_role("button", name="Last query").click()
    expect(page.get_by_role("region", name="Query")).to_contain_text("query q3")


def test_queries_without_sequences_say_so(show: Show) -> None:
    from playwright.sync_api import expect

    def empty(node: xr.Dataset) -> xr.Dataset:
        return node.assign(influence=node["influence"] * float("nan")) if "rank" in node.dims else node

    page = show(Explorer(explanation(1).map_over_datasets(empty)))
    expect(page.get_by_text("No training sequence makes this completion more likely.")).to_be_visible()
    expect(page.get_by_text("No training sequence makes this completion less likely.")).to_be_visible()
    expect(page.get_by_text("No sequence to look into.")).to_be_visible()
    page.keyboard.press("ArrowDown")


def test_what_was_drawn_is_taken_away(show: Show, explorer: Explorer) -> None:
    page = show(explorer)
    assert page.evaluate("Object.values(window.listeners).flat().length") > 0
    page.evaluate("window.cleanUp()")
    assert page.evaluate("Object.values(window.listeners).flat().length") == 0


def test_python_moves_the_view(show: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show(explorer)
    explorer.selected = {"query": "q2", "sign": "negative", "rank": 4}
    page.evaluate("window.model.save_changes()")
    expect(_place(page)).to_have_text("3 / 4")
    expect(_lists(page)[1].get_by_role("option").nth(3)).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show: Show, explorer: Explorer, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = show(explorer, dark=dark)
    _lists(page)[1].get_by_role("option").nth(1).click()
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], node["html"][:200], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []


def test_a_long_query_scrolls_and_can_be_reached_by_key(show: Show) -> None:
    def lengthen(node: xr.Dataset) -> xr.Dataset:
        if "query_prompt" not in node.coords:
            return node
        return node.assign_coords(query_prompt=("query", ["word " * 3000] * node.sizes["query"]))

    page = show(Explorer(explanation(2).map_over_datasets(lengthen)))
    text = page.locator(".query-text")
    text.focus()
    page.keyboard.press("ArrowDown")
    _until(page, lambda: text.evaluate("box => box.scrollTop") > 0)
    assert text.evaluate("box => box.clientHeight < 200")


@pytest.mark.parametrize("width", [360, 700, 1600])
def test_it_fits_any_width(show: Show, explorer: Explorer, width: int) -> None:
    page = show(explorer)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
