"""The layer profile and the tail plot in a real browser: brush by mouse and keys, read by pointer and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inflab.widgets.layer_profile import LayerProfile
from inflab.widgets.tail_plot import TailPlot
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = pytest.mark.browser
Show = Callable[..., Any]
NAMES = [f"transformer.h.{block}.{role}" for block in range(6) for role in ("mlp.c_fc", "mlp.c_proj")]


@pytest.fixture
def profile() -> LayerProfile:
    scores = FakeInfluence(n_block=6).score(corpus(2, "query"), by="layer").isel(query=[0], train=[3])
    value = scores["influence"].to_numpy().copy()
    value[..., 3] *= -2
    return LayerProfile(scores.assign(influence=(scores["influence"].dims, value, scores["influence"].attrs)))


@pytest.fixture
def tail() -> TailPlot:
    return TailPlot(FakeInfluence(2000).score(corpus(3, "query")), bootstrap=20)


def _until(page: Any, holds: Callable[[], bool]) -> None:
    """Let the page's messages reach Python until something holds there."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(20)
    assert holds()


def _listbox(page: Any) -> Any:
    return page.get_by_role("listbox", name="Layers")


def _is_sound(page: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert [
        (one["id"], node["html"][:200], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ] == []


def test_a_drag_over_blocks_chooses_their_layers(show_part: Show, profile: LayerProfile) -> None:
    from playwright.sync_api import expect

    page = show_part(profile)
    expect(_listbox(page).get_by_role("option")).to_have_count(12)
    blocks = [_listbox(page).get_by_role("option", name=f"block {block}, mlp.c_fc") for block in range(6)]
    first, last = (blocks[block].bounding_box() for block in (1, 3))
    page.mouse.move(first["x"] + 4, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 4, last["y"] + 30, steps=5)
    assert profile.layers == []
    page.mouse.up()
    _until(page, lambda: profile.layers == NAMES[2:8])
    expect(blocks[1]).to_have_attribute("aria-selected", "true")
    expect(blocks[0]).to_have_attribute("aria-selected", "false")
    expect(page.locator("output")).to_contain_text("6 of 12 layers")
    blocks[5].click(modifiers=["Shift"])
    _until(page, lambda: profile.layers == [*NAMES[2:8], *NAMES[10:]])
    blocks[2].click()
    _until(page, lambda: profile.layers == NAMES[4:6])
    blocks[2].click()
    _until(page, lambda: profile.layers == [])


def test_keys_alone_choose_layers(show_part: Show, profile: LayerProfile) -> None:
    from playwright.sync_api import expect

    page = show_part(profile)
    _listbox(page).focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".readout")).to_contain_text("block 1, mlp.c_proj")
    expect(page.locator(".readout")).to_contain_text("−")
    page.keyboard.press("Space")
    _until(page, lambda: profile.layers == [NAMES[3]])
    page.keyboard.press("Shift+ArrowRight")
    _until(page, lambda: profile.layers == NAMES[2:6])
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="all")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    _until(page, lambda: profile.layers == NAMES[8:])
    expect(page.get_by_role("button", name="top third")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # opens the check boxes
    page.get_by_role("checkbox", name="block 0").focus()
    page.keyboard.press("Space")
    _until(page, lambda: profile.layers == [*NAMES[:2], *NAMES[8:]])
    page.get_by_role("checkbox", name="mlp.c_fc").uncheck()
    _until(page, lambda: profile.layers == [NAMES[1], *NAMES[9::2]])
    profile.layers = [NAMES[0]]
    page.evaluate("window.model.save_changes()")
    expect(page.locator("output")).to_contain_text("1 of 12 layers")


def test_what_cannot_be_drawn_is_left_out_and_names_stay_text(show_part: Show) -> None:
    scores = FakeInfluence(n_block=2).score(corpus(1, "query"), by="layer")
    value = scores["influence"].to_numpy().copy()
    value[..., 0] = np.nan
    hostile = ["<img src=x onerror='window.pwned = 1'>", "\u202eplain", "x" * 10_000, "z"]
    outside = scores.assign_coords(layer=hostile, block=("layer", [-1] * 4), role=("layer", hostile))
    page = show_part(LayerProfile(outside.assign(influence=(scores["influence"].dims, value))))
    assert page.evaluate("window.pwned") is None
    _listbox(page).get_by_role("option").first.hover()
    assert "<img" in (page.locator(".readout").text_content() or "")
    assert "–" in (page.locator(".readout").text_content() or "")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_tail_is_read_by_keys_and_by_pointer(show_part: Show, tail: TailPlot) -> None:
    from playwright.sync_api import expect

    page = show_part(tail)
    expect(page.get_by_text(tail._tail["words"]).first).to_be_visible()
    expect(page.locator(".chart-legend").first).to_contain_text(f"exponent {tail._tail['fit']['alpha']:.2f}")
    points = page.get_by_role("slider")
    expect(points).to_have_count(2)
    points.nth(1).focus()
    page.keyboard.press("End")
    expect(points.nth(1)).to_have_attribute(
        "aria-valuetext", r"the first 2,000 (100 % of all) hold 100 %; of another query's list 100 %"
    )
    points.first.hover()
    expect(page.locator(".readout").first).to_contain_text("of the positive sequences have")
    page.get_by_role("button", name="Compare with other curves").click()
    expect(points.nth(1)).to_have_attribute("aria-valuetext", "the first 2,000 (100 % of all) hold 100 %")
    page.get_by_role("button", name="Coverage", exact=True).click()
    expect(points).to_have_count(1)
    tail.position = 2
    page.evaluate("window.model.save_changes()")
    expect(page.get_by_text("Query q2")).to_be_visible()


def test_a_query_without_a_tail_says_why(show_part: Show) -> None:
    from playwright.sync_api import expect

    page = show_part(TailPlot(FakeInfluence(8).score(corpus(2, "query"))))
    expect(page.get_by_text("a tail needs at least 10")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, profile: LayerProfile, tail: TailPlot, dark: bool) -> None:
    page = show_part(profile, dark=dark)
    page.get_by_role("button", name="middle third").click()
    page.get_by_text("Choose blocks and kinds").click()
    _is_sound(page)
    _is_sound(show_part(tail, dark=dark))


@pytest.mark.parametrize("width", [360, 1600])
def test_it_fits_any_width(show_part: Show, profile: LayerProfile, tail: TailPlot, width: int) -> None:
    for part in (profile, tail):
        page = show_part(part)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
