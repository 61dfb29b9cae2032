"""Lists of any length in a real browser: rows in sight, search, labels, the brushed histogram, by keys alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inflab.widgets import QueryStepper, SequenceList
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = pytest.mark.browser
Show = Callable[..., Any]


def _list(page: Any, word: str = "more") -> Any:
    return page.get_by_role("listbox", name=f"Makes it {word} likely")


def _until(page: Any, holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(20)
    assert holds()


def test_thousands_of_rows_are_walked_and_only_those_in_sight_are_drawn(show_part: Show) -> None:
    from playwright.sync_api import expect

    lists = SequenceList(FakeInfluence(10_000).score(corpus(2, "query")))
    ranked = lists._lists.ranking.places(0, "positive", _everything())
    page = show_part(lists)
    rows = _list(page).get_by_role("option")
    expect(rows.first).to_have_attribute("aria-setsize", str(len(ranked)))
    _list(page).evaluate("box => { box.scrollTop = 3000 * 60; }")
    there = _list(page).locator("[aria-posinset='3002']")
    expect(there).to_contain_text(f"id {lists._scores.scores['train'].to_numpy()[ranked[3001]]}")
    assert rows.count() < 30
    _list(page).focus()
    page.keyboard.press("End")
    last = _list(page).locator(f"[aria-posinset='{len(ranked)}']")
    expect(last).to_contain_text(f"id {lists._scores.scores['train'].to_numpy()[ranked[-1]]}")
    assert _list(page).get_attribute("aria-activedescendant") == last.get_attribute("id")
    for key in ("PageUp", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    _until(page, lambda: bool(lists.selected))
    assert lists.selected["rank"] < len(ranked) - 1
    page.keyboard.press("Home")
    page.keyboard.press("p")
    first = lists._scores.scores["train"].to_numpy()[ranked[0]]
    _until(page, lambda: lists.picks == [{"query": "q0", "train": first, "note": ""}])


def _everything() -> Any:
    from inflab.widgets.ranking import Filter

    return Filter()


def test_search_labels_and_range_leave_what_python_says(show_part: Show) -> None:
    from playwright.sync_api import expect

    lists = SequenceList(FakeInfluence(400).score(corpus(2, "query")))
    page = show_part(lists)
    page.get_by_label("Search in the training sequences").fill("norvik")
    _until(page, lambda: lists.text == "norvik")
    expect(_list(page).get_by_role("option").first).to_contain_text("Norvik")
    page.locator(".facet summary").click()
    page.get_by_role("checkbox", name="archive").check()
    _until(page, lambda: lists.facets == {"source": ["archive"]})
    n = lists._lists.window(0, "positive", text="norvik", facets={"source": ["archive"]})["total"]
    expect(_list(page).get_by_role("option").first).to_have_attribute("aria-setsize", str(n))
    page.get_by_role("button", name="Clear filters").click()
    _until(page, lambda: (lists.text, lists.facets) == ("", {}))
    expect(_list(page).get_by_role("option").first).to_contain_text("id t0")
    # The range, by its fields; then by dragging over the right half of the histogram.
    page.get_by_text("Scores of the whole training set").click()
    page.get_by_label("From, effect").fill("0.01")
    page.get_by_role("button", name="Filter to this range").click()
    n = lists._lists.window(0, "positive", low=0.01)["total"]
    expect(_list(page).get_by_role("option").first).to_have_attribute("aria-setsize", str(n))
    expect(page.get_by_text("No sequence passes the filter.").last).to_be_visible()  # of the negative ones
    box = page.locator(".histogram-picture").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.93 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.999 * box["width"], y, steps=4)
    page.mouse.up()
    low = float(page.get_by_label("From, effect").input_value())
    assert low > 0.01
    n = lists._lists.window(0, "positive", low=low)["total"]
    expect(_list(page).get_by_role("option").first).to_have_attribute("aria-setsize", str(n))


def test_python_filters_too_and_an_error_is_said(show_part: Show) -> None:
    from playwright.sync_api import expect

    lists = SequenceList(FakeInfluence(60).score(corpus(2, "query")))
    page = show_part(lists)
    lists.text = "gleem"
    page.evaluate("window.model.save_changes()")
    expect(page.get_by_label("Search in the training sequences")).to_have_value("gleem")
    expect(_list(page).get_by_role("option").first).to_contain_text("Gleem")
    lists._answers["list.window"] = _fails
    page.get_by_label("Search in the training sequences").fill("norvik")
    expect(page.get_by_role("alert").first).to_contain_text("the disk is gone")
    lists._answers["list.window"] = lists._lists.window
    page.get_by_label("Search in the training sequences").fill("talmora")
    expect(_list(page).get_by_role("option").first).to_contain_text("Talmora")
    expect(page.get_by_role("alert")).to_have_count(0)


def _fails(**_: Any) -> None:
    raise OSError("the disk is gone")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    lists = SequenceList(FakeInfluence(60).score(corpus(3, "query")))
    lists.picks = [{"query": "q0", "train": "t3", "note": "one"}]
    page = show_part(lists, dark=dark)
    page.get_by_text("Scores of the whole training set").click()
    page.get_by_text("Pinned (1)").click()
    page.locator(".facet summary").click()
    page.wait_for_timeout(500)
    found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:150]) for one in found] == []


def test_a_stepper_alone_jumps_and_searches(show_part: Show) -> None:
    from playwright.sync_api import expect

    stepper = QueryStepper(corpus(12, "query"))
    page = show_part(stepper)
    page.get_by_label("Go to query").fill("13")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Go to query")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Search in the queries").fill("gleem")
    options = page.get_by_role("listbox", name="Matching queries").get_by_role("option")
    expect(options).to_have_count(2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    _until(page, lambda: stepper.position == 7)
    expect(page.get_by_role("region", name="Query")).to_contain_text("Mira Quell.")
