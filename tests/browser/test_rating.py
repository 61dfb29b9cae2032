"""Blind rating in a real browser: by keys alone, back and on, notes, breaking off, hostile text, errors, themes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import inflab
from inflab.widgets.rating import Rating
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = pytest.mark.browser
Show = Callable[..., Any]
HOSTILE = ["<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>", "\u202eabc", "مرحبا",
           "x" * 10_000, "\ud800 alone", "line\n" * 200, ""]  # fmt: skip


def lists(n_query: int = 2) -> dict[str, xr.Dataset]:
    queries = corpus(n_query, "query")
    return {name: inflab.top(FakeInfluence(40, seed=i).score(queries), 5) for i, name in enumerate(("EK-FAC", "dot"))}


@pytest.fixture
def rating() -> Rating:
    return Rating(lists(), rater="Ann", per_query=3)


def _root(page: Any) -> Any:
    return page.get_by_role("group", name="Blind rating of relevance")


def _place(page: Any) -> Any:
    return page.locator("output")


def _until(page: Any, holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(20)
    assert holds()


def test_a_journey_by_keys_alone(show_part: Show, rating: Rating) -> None:
    from playwright.sync_api import expect

    page = show_part(rating)
    total = len(rating._sheet.order)
    expect(_place(page)).to_have_text(f"Pair 1 of {total} · 0 of {total} rated")
    shown = rating._sheet.texts[rating._sheet.order[0]]
    expect(page.get_by_role("region", name="Training sequence")).to_contain_text(shown["text"])
    expect(page.get_by_role("region", name="Query").locator("mark")).to_have_text(shown["completion"].strip())
    page.evaluate("window.heard = []; document.addEventListener('keydown', (event) => window.heard.push(event.key))")
    _root(page).focus()
    page.keyboard.press("3")
    expect(_place(page)).to_have_text(f"Pair 2 of {total} · 1 of {total} rated")
    page.keyboard.press("s")
    expect(_place(page)).to_have_text(f"Pair 3 of {total} · 1 of {total} rated, 1 skipped")
    page.keyboard.press("n")
    expect(page.get_by_label("Note on this pair")).to_be_focused()
    page.keyboard.type("1 is no rating here")
    page.keyboard.press("Escape")
    expect(_root(page)).to_be_focused()
    page.keyboard.press("1")
    expect(_place(page)).to_have_text(f"Pair 4 of {total} · 2 of {total} rated, 1 skipped")
    expect(page.get_by_label("Note on this pair")).to_have_value("")
    # Back shows what was said, and lets it be changed.
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="1 not relevant")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Note on this pair")).to_have_value("1 is no rating here")
    page.keyboard.press("2")
    expect(_place(page)).to_contain_text("Pair 4")
    for place in range(4, total + 1):
        expect(_place(page)).to_contain_text(f"Pair {place} of")
        page.keyboard.press("3")
    expect(_place(page)).to_have_text(f"End of the pairs · {total - 1} of {total} rated, 1 skipped")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Rate what was skipped (1)")).to_be_focused()
    page.keyboard.press("Enter")
    expect(_place(page)).to_contain_text("Pair 2 of")
    expect(_root(page)).to_be_focused()  # the button went away; the keys still work
    page.keyboard.press("1")
    expect(page.get_by_text("Every pair is rated. Thank you.")).to_be_visible()
    assert page.evaluate("window.heard.filter((key) => key !== 'Tab')") == []

    found = rating.ratings
    said = dict(
        zip(
            zip(found["query"].to_numpy(), found["train"].to_numpy(), strict=True),
            found["rating"].to_numpy(),
            strict=True,
        )
    )
    assert [said[pair] for pair in rating._sheet.order[:4]] == [3, 1, 2, 3]
    assert rating.rated == total
    assert "1 is no rating here" in found["note"].to_numpy()
    assert (found["seconds"] > 0).all()


def test_buttons_rate_and_what_is_left_comes_after_a_break(show_part: Show, rating: Rating) -> None:
    from playwright.sync_api import expect

    page = show_part(rating)
    page.get_by_role("button", name="2 somewhat").click()
    expect(_place(page)).to_contain_text("Pair 2 of")
    note = page.get_by_label("Note on this pair")
    note.fill("half a thought")
    page.get_by_role("button", name="Next →").click()  # on without a rating: the note is kept
    expect(_place(page)).to_contain_text("Pair 3 of")
    order, total = rating._sheet.order, len(rating._sheet.order)

    resumed = Rating(lists(), per_query=3, ratings=rating.ratings)
    page = show_part(resumed)
    expect(_place(page)).to_have_text(f"Pair 1 of {total - 1} · 1 of {total} rated")
    expect(page.get_by_role("region", name="Training sequence")).to_contain_text(rating._sheet.texts[order[1]]["text"])
    expect(page.get_by_label("Note on this pair")).to_have_value("half a thought")
    resumed.position = 3
    page.evaluate("hear({ state: { position: 3 }, messages: [] })")
    expect(_place(page)).to_contain_text("Pair 4 of")


def test_what_was_said_is_saved_as_a_file(show_part: Show, rating: Rating, tmp_path: Path) -> None:
    page = show_part(rating)
    page.get_by_label("Note on this pair").fill("=1+1")
    page.get_by_role("button", name="3 relevant").click()
    _until(page, lambda: rating.rated == 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    download.value.save_as(tmp_path / "ratings.csv")
    assert download.value.suggested_filename == "ratings.csv"
    text = (tmp_path / "ratings.csv").read_text("utf-8")
    assert "'=1+1" in text
    assert ",3,relevant,Ann," in text


def test_an_error_is_said_and_the_widget_goes_on(show_part: Show, rating: Rating) -> None:
    from playwright.sync_api import expect

    page = show_part(rating)
    expect(_place(page)).to_contain_text("Pair 1 of")
    give = rating._answers["rating.give"]

    def fail(**args: Any) -> None:
        raise OSError("the disk is <b>full</b>")

    rating._answers["rating.give"] = fail
    page.get_by_role("button", name="3 relevant").click()
    expect(page.get_by_role("alert")).to_have_text("OSError: the disk is <b>full</b>")
    expect(_place(page)).to_contain_text("Pair 1 of")
    rating._answers["rating.give"] = give
    page.get_by_role("button", name="3 relevant").click()
    expect(_place(page)).to_contain_text("Pair 2 of")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_hostile_text_stays_text_and_fits(show_part: Show) -> None:
    from playwright.sync_api import expect

    made = lists(1)["EK-FAC"].isel(rank=slice(1)).expand_dims({"copy": len(HOSTILE)}).isel(copy=0, drop=True)
    many = xr.concat([made.assign_coords(query=[f"q{i}"]) for i in range(len(HOSTILE))], "query")
    many = many.assign_coords(
        text=(("query", "rank"), [[text] for text in HOSTILE]), query_prompt=("query", HOSTILE),
    )  # fmt: skip
    rating = Rating({"a": many}, scale=("<b>no</b>", "y" * 300))
    page = show_part(rating)
    for width in (360, 1100):
        page.set_viewport_size({"width": width, "height": 900})
        for place in range(len(HOSTILE)):
            expect(_place(page)).to_contain_text(f"Pair {place + 1} of")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.get_by_role("button", name="Next →").click()
        rating.position = 0
        page.evaluate("hear({ state: { position: 0 }, messages: [] })")
    expect(page.get_by_role("button", name="1 <b>no</b>")).to_be_visible()
    assert page.evaluate("window.pwned") is None
    assert page.locator("#host :is(script, img, iframe)").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, rating: Rating, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = show_part(rating, dark=dark)
    page.get_by_role("button", name="3 relevant").click()
    expect(_place(page)).to_contain_text("Pair 2 of")
    page.get_by_role("button", name="← Back").click()
    expect(_place(page)).to_contain_text("Pair 1 of")
    found = Axe().run(page).response["violations"]
    assert [
        (one["id"], node["html"][:200], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ] == []
