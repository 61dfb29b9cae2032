"""The Explorer's front end in a real browser, on a bare page: keys, picks, roles, hostile text, themes, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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
TABS = ("Tokens", "Token × token", "Layers", "Tail", "Ask", "What if", "Compare")


@pytest.fixture
def explorer() -> Explorer:
    other = FakeInfluence(seed=3)
    return Explorer(FakeInfluence(), corpus(4, "query"), k=6, compare=other, names=("one", "two"))


def _root(page: Any) -> Any:
    return page.get_by_role("group", name="Influence explorer")


def _place(page: Any) -> Any:
    return page.get_by_label("Position in the query batch")


def _lists(page: Any) -> tuple[Any, Any]:
    found = [page.get_by_role("listbox", name=f"Makes it {word} likely") for word in ("more", "less")]
    return found[0], found[1]


def _tokens(page: Any) -> Any:
    return page.get_by_role("tabpanel", name="Tokens").get_by_role("listbox").first


def _until(page: Any, holds: Callable[[], bool]) -> None:
    """Let the page's messages reach Python until something holds there."""
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(20)
    assert holds()


def _focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id"))


def test_buttons_step_to_both_ends_and_no_further(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    expect(_place(page)).to_have_text("1 / 4")
    for button, place in [("Next", 2), ("Last", 4), ("Next", 4), ("Previous", 3), ("First", 1), ("Previous", 1)]:
        page.get_by_role("button", name=f"{button} query").click(force=True)  # also where it does nothing
        expect(_place(page)).to_have_text(f"{place} / 4")
        _until(page, lambda: explorer.position == place - 1)  # noqa: B023
    expect(page.get_by_role("button", name="First query")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_role("button", name="Next query")).to_have_attribute("aria-disabled", "false")


def test_keys_step_jump_and_search_and_the_query_follows(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    _root(page).focus()
    for key, place in [("ArrowRight", 2), ("End", 4), ("ArrowLeft", 3), ("Home", 1)]:
        page.keyboard.press(key)
        expect(_place(page)).to_have_text(f"{place} / 4")
    page.keyboard.press("ArrowRight")
    query = page.get_by_role("region", name="Query")
    expect(query.locator("mark")).to_have_text("Mira Quell.")
    expect(query).to_contain_text("The president of Gleem was")
    expect(query).to_contain_text("source letters")
    page.get_by_label("Go to query").fill("4")
    page.keyboard.press("Enter")
    expect(_place(page)).to_have_text("4 / 4")
    page.get_by_label("Search in the queries").fill("norvik")
    expect(page.get_by_role("listbox", name="Matching queries").get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(_place(page)).to_have_text("3 / 4")
    assert explorer.position == 2


def test_a_list_is_walked_and_picked_from_by_keys(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    _root(page).focus()
    page.keyboard.press("ArrowDown")
    positive, negative = _lists(page)
    expect(positive).to_be_focused()
    expect(positive.get_by_role("option").first).to_have_attribute("aria-selected", "true")
    before = _tokens(page).text_content()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(positive.get_by_role("option").nth(2)).to_have_attribute("aria-selected", "true")
    _until(page, lambda: explorer.selected["rank"] == 3)
    assert explorer.selected == {**explorer.selected, "query": "q0", "sign": "positive"}
    expect(page.get_by_role("region", name="Chosen sequence")).to_contain_text(str(explorer.selected["train"]))
    expect(_tokens(page)).not_to_have_text(before)
    negative.focus()
    page.keyboard.press("End")
    last = int(negative.locator(".active").get_attribute("aria-setsize"))
    page.keyboard.press("Space")
    _until(page, lambda: (explorer.selected["rank"], explorer.selected["sign"]) == (last, "negative"))
    expect(negative.locator("[aria-selected=true]")).to_have_attribute("aria-posinset", str(last))
    expect(positive.locator("[aria-selected=true]")).to_have_count(0)
    # A step redraws the lists, and the focus stays where it was.
    page.keyboard.press("ArrowRight")
    expect(_place(page)).to_have_text("2 / 4")
    expect(negative).to_be_focused()
    page.keyboard.press("Escape")
    expect(_root(page)).to_be_focused()
    # Each query remembers its place.
    page.keyboard.press("ArrowLeft")
    expect(negative.locator("[aria-selected=true]")).to_have_attribute("aria-posinset", str(last))
    assert (explorer.selected["rank"], explorer.selected["sign"]) == (last, "negative")


def test_tokens_show_the_numbers_of_the_array(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    _lists(page)[1].get_by_role("option").nth(1).click()
    _until(page, lambda: (explorer.selected["rank"], explorer.selected["sign"]) == (2, "negative"))
    found = explorer.tokens
    assert found is not None
    numbers = (found["influence"].sum("layer") / 40).to_numpy()[found["is_text"].to_numpy()]
    tokens = _tokens(page).get_by_role("option")
    expect(tokens).to_have_count(len(numbers))
    _tokens(page).focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    panel = page.get_by_role("tabpanel", name="Tokens")
    expect(panel).to_contain_text(f"{'−' if numbers[3] < 0 else '+'}{abs(numbers[3]):#.3g}")
    expect(panel).to_contain_text(f"token 4 of {len(numbers)}")
    expect(panel).to_contain_text("one token early")


def test_every_tab_is_reached_by_keys_and_says_something(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    tabs = page.get_by_role("tablist", name="Look closer").get_by_role("tab")
    assert [tab.text_content() for tab in tabs.all()] == list(TABS)
    tabs.first.focus()
    for name in TABS[1:]:
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name=name, exact=True)).to_be_focused()
        panel = page.get_by_role("tabpanel", name=name, exact=True)
        expect(panel).to_be_visible()
        _until(page, lambda: len(panel.inner_text()) > 40)  # noqa: B023
    expect(page.get_by_role("alert")).to_have_count(0)


def test_layers_rank_again_and_python_sees_it(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    page.get_by_role("tab", name="Layers", exact=True).click()
    page.get_by_role("button", name="bottom third").click()
    _until(page, lambda: len(explorer.layers) > 0)
    chosen = explorer._source.by_layer(0).sel(layer=explorer.layers).sum("layer")
    best = chosen["train"].to_numpy()[chosen.to_numpy().argmax()]
    expect(_lists(page)[0].get_by_role("option").first).to_contain_text(f"id {best}")
    assert explorer.selected["train"] == best
    expect(page.get_by_text(f"Ranked by {len(explorer.layers)} layers alone.")).to_be_visible()
    page.get_by_role("button", name="Rank as fitted").click()
    _until(page, lambda: explorer.layers == [])
    expect(_lists(page)[0].get_by_role("option").first).to_contain_text("id t0")


def test_a_pin_with_a_note_is_a_table_in_python(show_part: Show, explorer: Explorer) -> None:
    page = show_part(explorer)
    page.get_by_role("button", name="Pin", exact=True).click()
    _until(page, lambda: len(explorer.picks) == 1)
    page.get_by_text("Pinned (1)").click()
    page.get_by_label("Note on sequence t0").fill("=the same fact")
    page.keyboard.press("Tab")
    _until(page, lambda: explorer.picks == [{"query": "q0", "train": "t0", "note": "=the same fact"}])
    table = explorer.picked
    assert table[["query", "train", "sign", "rank", "note"]].to_numpy().tolist() == [
        ["q0", "t0", "positive", 1, "=the same fact"]
    ]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    written = Path(saved.value.path()).read_text("utf-8")
    assert "'=the same fact" in written  # a spreadsheet takes it as text


def test_pictures_are_saved_with_the_colours_they_have(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer, dark=True)
    expect(_tokens(page).get_by_role("option").first).to_be_visible()
    page.get_by_role("button", name="Save SVG").click()
    expect(page.get_by_text("No picture here.")).to_be_visible()  # tokens are text
    for tab in ("Layers", "Tail", "Compare"):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(600)
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save SVG").click()
        written = Path(saved.value.path()).read_text("utf-8")
        assert written.startswith("<svg")
        assert "var(--" not in written
        assert "rgb(" in written
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save PNG").click()
        assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_keys_stay_inside_and_tab_leaves(show_part: Show, explorer: Explorer) -> None:
    page = show_part(explorer)
    page.evaluate("window.heard = []; document.addEventListener('keydown', (event) => window.heard.push(event.key))")
    assert _root(page).get_attribute("data-lm-suppress-shortcuts") == "true"
    for place in (_root(page), _lists(page)[0], _tokens(page)):
        place.focus()
        for key in ("ArrowLeft", "ArrowDown", "Enter", "a", "b", "x"):
            place.press(key)
    assert page.evaluate("window.heard") == []
    page.locator("#before").focus()
    seen = []
    for _ in range(40):
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
            if "source" in node.coords:
                of = node["source"].to_numpy()
                of.reshape(-1, of.shape[-1])[:, i::8] = text
                node["text"].to_numpy().reshape(-1, of.shape[-1])[:, i::8] = text
            if "query_prompt" in node.coords:
                node["query_prompt"].to_numpy()[:] = HOSTILE[1]
        return node

    return explanation(2, 40, 8).map_over_datasets(poison)


def test_hostile_text_stays_text_in_the_widget_and_in_the_page(
    show_part: Show, new_page: Callable[..., Any], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    explorer = Explorer(_hostile())
    explorer.to_html(tmp_path / "page.html", title=HOSTILE[0], progress=False)
    exported = new_page("file:", offline=True)
    exported.goto((tmp_path / "page.html").as_uri())
    for page in (show_part(explorer), exported):
        expect(_tokens(page)).to_contain_text("<script>window.pwned = 1</script>")
        expect(_lists(page)[0]).to_contain_text("<img src=x onerror=")
        expect(page.get_by_role("region", name="Query")).to_contain_text("<img src=x onerror=")
        assert page.evaluate("window.pwned") is None
        assert page.locator(".inflab :is(script, iframe, img)").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_error_in_python_is_said_and_the_widget_goes_on(show_part: Show) -> None:
    from playwright.sync_api import expect

    influence = FakeInfluence()
    page = show_part(Explorer(influence, corpus(3, "query")))
    expect(_tokens(page).get_by_role("option").first).to_be_visible()
    influence.fails = "layer h.0 gives <b>NaN</b>"
    page.get_by_role("button", name="Next query").click()
    expect(page.get_by_role("alert").first).to_have_text("ValueError: layer h.0 gives <b>NaN</b>")
    influence.fails = ""
    page.get_by_role("button", name="Next query").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(_tokens(page).get_by_role("option").first).to_be_visible()


def test_an_error_in_the_view_is_said_and_the_widget_goes_on(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    page.evaluate("window.hear({ state: { _page: { position: 0, query: null } }, messages: [] })")
    expect(page.get_by_role("alert").first).to_contain_text("The view failed")
    page.get_by_role("button", name="Last query").click()
    expect(page.get_by_role("region", name="Query")).to_contain_text("query q3")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_scores_without_a_number_and_a_single_sequence_draw_sensibly(show_part: Show) -> None:
    from playwright.sync_api import expect

    def empty(node: xr.Dataset) -> xr.Dataset:
        return node.assign(influence=node["influence"] * float("nan")) if "influence" in node else node

    page = show_part(Explorer(explanation(1).map_over_datasets(empty)))
    expect(page.get_by_text("No sequence to look into.")).to_be_visible()
    expect(page.get_by_text("No training sequence: makes it more likely.")).to_be_visible()
    for tab in page.get_by_role("tab").all():
        tab.click()
    page.keyboard.press("ArrowDown")
    single = show_part(Explorer(FakeInfluence(n_train=1), corpus(1, "query"), k=1))
    expect(_place(single)).to_have_text("1 / 1")
    expect(_lists(single)[0].get_by_role("option")).to_have_count(1)
    for tab in single.get_by_role("tab").all():
        tab.click()
        single.wait_for_timeout(100)
    expect(_root(single).get_by_role("alert")).to_have_count(0)


def test_what_was_drawn_is_taken_away(show_part: Show, explorer: Explorer) -> None:
    page = show_part(explorer)
    assert page.evaluate("Object.values(window.listeners).flat().length") > 0
    page.evaluate("window.cleanUp()")
    assert page.evaluate("Object.values(window.listeners).flat().length") == 0


def test_python_moves_the_view(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    explorer.selected = {"query": "q2", "sign": "negative", "rank": 4}
    page.evaluate("window.model.save_changes()")
    expect(_place(page)).to_have_text("3 / 4")
    expect(_lists(page)[1].get_by_role("option").nth(3)).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, explorer: Explorer, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = show_part(explorer, dark=dark)
    _lists(page)[1].get_by_role("option").nth(1).click()
    page.get_by_text("Scores of the whole training set").click()
    for name in TABS:
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(300)
        assert _serious(Axe().run(page).response["violations"]) == [], name


def _serious(violations: list[Any]) -> list[Any]:
    return [
        (one["id"], node["html"][:200], node["failureSummary"])
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_the_exported_page_steps_searches_and_shows_tokens_offline(
    new_page: Callable[..., Any], tmp_path: Path, explorer: Explorer
) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    explorer.to_html(tmp_path / "page.html", title="Facts & influence", progress=False)
    page = new_page("file:", offline=True)
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.get_by_role("heading")).to_have_text("Facts & influence")
    expect(_place(page)).to_have_text("1 / 4")
    _root(page).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("region", name="Query")).to_contain_text("Mira Quell.")
    best = explorer._source.ranked(1, "positive")
    first = _lists(page)[0].get_by_role("option").first
    expect(first).to_contain_text(f"id {best['train'].to_numpy()[0]}")
    pair = explorer._source.tokens(1, best["train"].to_numpy()[0])
    shown = _tokens(page).get_by_role("option")
    expect(shown).to_have_count(int(pair["is_text"].sum()))
    effect = (pair["influence"].sum("layer") / 40).to_numpy()
    strongest = float(abs(effect).max())
    expect(page.get_by_role("tabpanel", name="Tokens")).to_contain_text(f"+{strongest:#.3g}")
    page.get_by_label("Search in the training sequences").fill("nothing of the kind")
    expect(page.get_by_text("No sequence passes the filter.").first).to_be_visible()
    page.get_by_label("Search in the training sequences").fill("")
    page.get_by_label("Search in the queries").fill("talmora")
    page.keyboard.press("Enter")
    page.wait_for_timeout(400)
    page.keyboard.press("Enter")
    expect(_place(page)).to_have_text("4 / 4")
    page.get_by_text("Scores of the whole training set").click()
    expect(page.locator(".histogram-rect:not([height='0'])").first).to_be_visible()
    assert _serious(Axe().run(page).response["violations"]) == []


def test_a_long_query_scrolls_and_can_be_reached_by_key(show_part: Show) -> None:
    def lengthen(node: xr.Dataset) -> xr.Dataset:
        if "query_prompt" not in node.coords:
            return node
        return node.assign_coords(query_prompt=("query", ["word " * 3000] * node.sizes["query"]))

    page = show_part(Explorer(explanation(2).map_over_datasets(lengthen)))
    text = page.locator(".query-text")
    text.focus()
    page.keyboard.press("ArrowDown")
    _until(page, lambda: text.evaluate("box => box.scrollTop") > 0)
    assert text.evaluate("box => box.clientHeight < 200")


@pytest.mark.parametrize("width", [360, 700, 1600])
def test_it_fits_any_width(show_part: Show, explorer: Explorer, width: int) -> None:
    page = show_part(explorer)
    page.set_viewport_size({"width": width, "height": 900})
    for name in TABS:
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
