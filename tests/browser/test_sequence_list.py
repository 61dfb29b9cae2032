"""The lists on their own in a real browser: filters, pins, notes, files, marks, hostile text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from inflab.widgets import SequenceList
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = pytest.mark.browser
Show = Callable[..., Any]

HOSTILE = [
    "<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>", "\u0000\u001b[31m\u202edesrever",
    "مرحبا بالعالم", "👩‍👩‍👧", "x" * 10_000, "\ud800 alone", "",
]  # fmt: skip


@pytest.fixture
def scores() -> xr.Dataset:
    return FakeInfluence(60).score(corpus(3, "query"))


def _list(page: Any, word: str = "more") -> Any:
    return page.get_by_role("listbox", name=f"Makes it {word} likely")


def _until(page: Any, holds: Callable[[], bool]) -> None:
    """Let the page's messages reach Python until something holds there."""
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(20)
    assert holds()


def _at(page: Any, rank: int) -> Any:
    return _list(page).locator(f"[aria-posinset='{rank}']")


def test_search_labels_and_a_typed_range_filter_and_say_how_many_are_left(show_part: Show, scores: xr.Dataset) -> None:
    from playwright.sync_api import expect

    found = SequenceList(scores)
    page = show_part(found)
    of = found._page["positive"]["of"]
    count = page.locator(".list-count").first
    expect(count).to_have_text(str(of))
    page.get_by_label("Search in the training sequences").fill("GLEEM")
    expect(count).to_contain_text(f" of {of}")
    for option in _list(page).get_by_role("option").all():
        assert "Gleem" in option.inner_text()
    _until(page, lambda: found.text == "GLEEM")
    page.locator("summary", has_text="source").focus()
    page.keyboard.press("Enter")
    page.get_by_role("checkbox", name="letters").focus()
    page.keyboard.press("Space")
    _until(page, lambda: found.facets == {"source": ["letters"]})
    page.keyboard.press("Escape")
    expect(page.get_by_role("checkbox", name="letters")).to_have_count(0)  # put away
    expect(page.locator("summary", has_text="source")).to_be_focused()
    page.get_by_role("button", name="Clear filters").click()
    expect(count).to_have_text(str(of))
    _until(page, lambda: (found.text, found.facets) == ("", {}))
    assert page.get_by_role("checkbox", name="letters", include_hidden=True).is_checked() is False

    page.get_by_text("Scores of the whole training set").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("img", name="Histogram of scores")).to_be_visible()
    page.get_by_label("From, effect").fill("0.05")
    page.get_by_role("button", name="Filter to this range").press("Enter")
    value = scores["influence"].isel(query=0).to_numpy() / 60
    expect(count).to_contain_text(f"{int((value >= np.float32(0.05)).sum())} of {of}")
    expect(page.locator(".list-count").last).to_contain_text("0 of")
    page.get_by_role("button", name="All", exact=True).click()
    expect(count).to_have_text(str(of))
    # By the pointer: the right half of the picture is what is above 0.
    box = page.get_by_role("img", name="Histogram of scores").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(count).to_contain_text(f" of {of}")
    expect(page.locator(".list-count").last).to_contain_text("0 of")


def test_pins_by_key_notes_files_and_unpinning_reach_python(
    show_part: Show, scores: xr.Dataset, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    found = SequenceList(scores)
    page = show_part(found)
    _list(page).focus()
    page.keyboard.press("p")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("p")
    _until(page, lambda: len(found.picks) == 2)
    expect(_at(page, 1)).to_have_attribute("aria-label", re.compile("Pinned"))
    page.get_by_text("Pinned (2)").click()
    note = page.get_by_label("Note on sequence t0")
    note.fill('=the same fact, "so"')
    note.press("Tab")
    _until(page, lambda: found.picks[0]["note"].startswith("=the"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    saved = Path(download.value.path()).read_text("utf-8")
    ours = list(csv.reader(io.StringIO(found.picks_csv(), newline="")))
    theirs = list(csv.reader(io.StringIO(saved, newline="")))
    assert [line[:4] + line[6:] for line in theirs] == [line[:4] + line[6:] for line in ours]
    assert theirs[1][6] == '\'=the same fact, "so"'
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as markdown").click()
    assert Path(download.value.path()).read_text("utf-8").startswith("| query | train |")
    # What Python sets is shown, in another query too, and can be taken away there.
    found.picks = [{"query": "q2", "train": "t2", "note": "from Python"}]
    page.evaluate("window.model.save_changes()")
    expect(page.get_by_label("Note on sequence t2")).to_have_value("from Python")
    found.picks = [{"query": "q2", "train": "t2", "note": "changed"}]
    page.evaluate("window.model.save_changes()")
    expect(page.get_by_label("Note on sequence t2")).to_have_value("changed")
    page.get_by_role("button", name="Unpin sequence t2").click()
    _until(page, lambda: found.picks == [])


def test_a_window_that_failed_is_asked_for_again(show_part: Show) -> None:
    from playwright.sync_api import expect

    found = SequenceList(FakeInfluence(800).score(corpus(1, "query")))
    whole = found._answers["list.window"]

    def fails(**asked: Any) -> Any:
        raise ValueError("the store is gone")

    page = show_part(found)
    found._answers["list.window"] = fails
    _list(page).evaluate("(box) => { box.scrollTop = 200 * 60; }")
    expect(page.get_by_role("alert").first).to_contain_text("the store is gone")
    found._answers["list.window"] = whole
    _list(page).evaluate("(box) => { box.scrollTop += 60; }")
    expect(_at(page, 203)).to_contain_text("id t")


def test_the_histogram_marks_what_is_chosen_and_pinned_for_those_who_hear_too(
    show_part: Show, scores: xr.Dataset
) -> None:
    from playwright.sync_api import expect

    found = SequenceList(scores)
    found.selected = {"train": "t0"}
    found.picks = [{"query": "q0", "train": "t5"}, {"query": "q1", "train": "t7"}]
    page = show_part(found)
    page.get_by_text("Scores of the whole training set").click()
    expect(page.locator(".histogram-mark")).to_have_count(2)
    marked = page.locator(".histogram-marked")
    expect(marked).to_contain_text("sequence t0 (chosen) +1.00")
    expect(marked).to_contain_text("sequence t5 (pinned)")
    found.picks = []
    page.evaluate("window.model.save_changes()")
    expect(page.locator(".histogram-mark")).to_have_count(1)


def test_words_of_the_lists_come_when_the_reader_stays(show_part: Show, scores: xr.Dataset) -> None:
    from playwright.sync_api import expect

    page = show_part(SequenceList(scores))
    page.get_by_label("Search in the training sequences").fill("gleem")
    expect(page.locator(".list-words").first).to_contain_text("gleem")


def test_hostile_text_stays_text(show_part: Show) -> None:
    from playwright.sync_api import expect

    text = np.array([HOSTILE[i % len(HOSTILE)] for i in range(40)], dtype=object)
    scores = FakeInfluence().score(corpus(2, "query")).assign_coords(
        text=("train", text), source=("train", text), query_prompt=("query", text[:2])
    )  # fmt: skip
    page = show_part(SequenceList(scores))
    expect(page.locator("#host")).to_contain_text("<script>window.pwned = 1</script>")
    page.locator("summary", has_text="source").click()
    page.get_by_role("checkbox").first.check()
    expect(page.get_by_role("button", name="Clear filters")).to_be_visible()
    assert page.evaluate("window.pwned") is None
    assert page.locator("#host :is(script, img, iframe)").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, scores: xr.Dataset, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = SequenceList(scores)
    found.picks = [{"query": "q0", "train": "t3", "note": "why"}]
    found.selected = {"train": "t0"}
    page = show_part(found, dark=dark)
    page.get_by_text("Scores of the whole training set").click()
    page.get_by_text("Pinned (1)").click()
    page.locator("summary", has_text="source").click()
    page.wait_for_timeout(400)
    serious = [
        (one["id"], node["html"][:200], node["failureSummary"])
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []


@pytest.mark.parametrize("empty", ["numbers", "texts", "others"])
def test_what_is_missing_draws_something_sensible(show_part: Show, scores: xr.Dataset, empty: str) -> None:
    from playwright.sync_api import expect

    if empty == "numbers":
        page = show_part(SequenceList(scores.assign(influence=scores["influence"] * np.nan)))
        expect(page.get_by_text("No training sequence", exact=False).first).to_be_visible()
        page.get_by_text("Scores of the whole training set").click()
        expect(page.locator(".histogram-readout")).to_contain_text("60 without a number")
    elif empty == "texts":
        page = show_part(SequenceList(scores.drop_vars("text")))
        expect(_at(page, 1)).to_contain_text("sequence t0")
    else:
        page = show_part(SequenceList(scores.isel(query=[0], train=[0])))
        expect(_list(page).get_by_role("option")).to_have_count(1)
        expect(page.get_by_text("1 / 1")).to_be_visible()
