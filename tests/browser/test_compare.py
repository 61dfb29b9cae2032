"""The comparison in a real browser: keys, lines between the lists, the scatter, hostile text, errors, themes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import xarray as xr

from inflab.widgets.compare import Compare
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = pytest.mark.browser
Show = Callable[..., Any]
NAMES = ("EK-FAC", "dot product")
HOSTILE = ["<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>", "\u0000\u202eabc", "مرحبا",
           "x" * 10_000, "\ud800 alone", ""]  # fmt: skip


def scores(seed: int, n_train: int = 60, n_query: int = 4) -> xr.Dataset:
    return FakeInfluence(n_train, seed=seed).score(corpus(n_query, "query"))


@pytest.fixture
def widget() -> Compare:
    return Compare(scores(0), scores(1), NAMES)


def _root(page: Any) -> Any:
    return page.get_by_role("group", name="Comparison of two influences")


def _list(page: Any, name: str) -> Any:
    return page.get_by_role("listbox", name=f"{name}: most")


def _until(page: Any, holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(20)
    assert holds()


def test_a_journey_by_keys_alone(show_part: Show, widget: Compare) -> None:
    from playwright.sync_api import expect

    page = show_part(widget)
    _root(page).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("position in the query batch")).to_have_text("2 / 4")
    _until(page, lambda: widget.position == 1)
    answer = widget._comparing.query(1)
    expect(page.locator(".compare-summary")).to_contain_text(f"{answer['both']} of 10 on both lists")
    expect(page.locator(".compare-line:not(.out)")).to_have_count(answer["both"])

    left, right = (_list(page, name) for name in NAMES)
    while not left.evaluate("one => one === document.activeElement"):
        page.keyboard.press("Tab")
    # Walk to the first sequence that both lists hold, pick it, and follow its line by Tab.
    shared = next(item for item in answer["lists"][0] if item["other"] <= 10)
    for _ in range(shared["rank"] - 1):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    _until(page, lambda: widget.selected == shared["train"])
    expect(left.get_by_role("option").nth(shared["rank"] - 1)).to_have_attribute("aria-selected", "true")
    expect(right.get_by_role("option").nth(shared["other"] - 1)).to_have_attribute("aria-selected", "true")
    expect(page.locator(".compare-line.chosen")).to_have_count(1)
    expect(page.locator(".readout")).to_contain_text(f"Sequence {shared['train']}: EK-FAC")
    page.keyboard.press("Tab")
    expect(right).to_be_focused()
    active = right.get_attribute("aria-activedescendant")
    assert right.get_by_role("option").nth(shared["other"] - 1).get_attribute("id") == active
    label = right.get_by_role("option").nth(shared["other"] - 1).get_attribute("aria-label")
    assert f"place {shared['rank']} by EK-FAC" in label
    page.keyboard.press("Escape")
    expect(_root(page)).to_be_focused()


def test_length_end_and_axes_are_chosen(show_part: Show, widget: Compare) -> None:
    from playwright.sync_api import expect

    page = show_part(widget)
    page.get_by_label("Length of the lists").select_option("50")
    page.get_by_label("End of the ranking").select_option("negative")
    _until(page, lambda: (widget.k, widget.sign) == (50, "negative"))
    answer = widget._comparing.query(0, 50, "negative")
    expect(_list(page, "EK-FAC").get_by_role("option")).to_have_count(len(answer["lists"][0]))
    page.get_by_label("Axes of the scatter").select_option("rank")
    scatter = page.get_by_role("img", name="Each sequence's rank by EK-FAC")
    expect(scatter).to_contain_text("dot product, rank")
    expect(scatter.locator(".compare-mark")).to_have_count(60)
    # The batch, as strips and as a table whose rows step.
    expect(page.get_by_role("img", name="Rank correlation, 4 queries")).to_have_count(1)
    page.get_by_text("Agreement of every query as a table").click()
    page.get_by_role("button", name="3. ").click()
    _until(page, lambda: widget.position == 2)
    page.get_by_text("Ranks of this query as a table").click()
    rows = page.get_by_role("region", name="Ranks of this query").get_by_role("row")
    answer = widget._comparing.query(2, 50, "negative")
    expect(rows).to_have_count(1 + sum(map(len, answer["lists"])) - answer["both"])
    expect(page.get_by_role("cell", name="place").first).to_be_visible()


def test_a_click_on_a_mark_picks_and_python_moves_the_view(show_part: Show, widget: Compare) -> None:
    from playwright.sync_api import expect

    page = show_part(widget)
    page.locator(".compare-mark.both").first.click()
    _until(page, lambda: widget.selected is not None)
    expect(page.locator(".compare-ring")).to_have_count(1)
    widget.position, widget.selected = 3, None
    page.evaluate("hear({ state: { position: 3, selected: null }, messages: [] })")
    expect(page.get_by_label("position in the query batch")).to_have_text("4 / 4")
    expect(page.locator(".compare-ring")).to_have_count(0)
    expect(page.get_by_role("button", name="Next query")).to_have_attribute("aria-disabled", "true")


def test_an_error_is_said_and_the_widget_goes_on(show_part: Show, widget: Compare) -> None:
    from playwright.sync_api import expect

    page = show_part(widget)
    expect(page.get_by_label("position in the query batch")).to_have_text("1 / 4")
    query = widget._answers["compare.query"]

    def fail(**args: Any) -> None:
        raise ValueError("no room for <b>ranks</b>")

    widget._answers["compare.query"] = fail
    page.get_by_role("button", name="Next query").click()
    expect(page.get_by_role("alert")).to_have_text("ValueError: no room for <b>ranks</b>")
    widget._answers["compare.query"] = query
    page.get_by_role("button", name="Next query").click()
    expect(page.get_by_label("position in the query batch")).to_have_text("3 / 4")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_hostile_text_and_poor_scores_draw_something_sensible(show_part: Show) -> None:
    from playwright.sync_api import expect

    a, b = scores(0, 40, 1), scores(1, 40, 1)
    text = (HOSTILE * 6)[:40]
    a = a.assign_coords(text=("train", text), query_prompt=("query", [HOSTILE[1]]))
    page = show_part(Compare(a, abs(b).assign_attrs(b.attrs), (HOSTILE[0], "b" * 300), sign="negative"))
    expect(page.get_by_text("No sequence has negative influence by bbb")).to_be_visible()
    expect(page.locator(".compare-title").first).to_be_visible()
    expect(page.locator(".compare-strip").first).to_be_hidden()
    expect(page.locator(".compare-query")).to_contain_text("<img src=x onerror=")
    page.get_by_label("End of the ranking").select_option("positive")
    expect(page.locator(".compare-item").first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    assert page.locator("#host :is(script, img, iframe)").count() == 0
    for width in (360, 700, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, widget: Compare, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = show_part(widget, dark=dark)
    page.locator(".compare-item").nth(2).click()
    for summary in page.locator("summary").all():
        summary.click()
    found = Axe().run(page).response["violations"]
    assert [
        (one["id"], node["html"][:200], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ] == []
