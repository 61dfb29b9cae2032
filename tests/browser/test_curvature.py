"""The curvature panel in a real browser: a drag asks once, the words follow the slider, errors are said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inflab.widgets.curvature import CurvaturePanel
from tests.browser.test_layers import _is_sound, _until
from tests.widgets.synthetic import corpus
from tests.widgets.test_curvature import WithFactors

pytestmark = pytest.mark.browser
Show = Callable[..., Any]


@pytest.fixture
def influence() -> WithFactors:
    return WithFactors()


@pytest.fixture
def panel(influence: WithFactors) -> CurvaturePanel:
    return CurvaturePanel(influence, corpus(2, "query"))


def _slider(page: Any) -> Any:
    return page.get_by_role("slider", name="Damping, logarithmic")


def test_a_drag_asks_once_and_the_words_follow_it(show_part: Show, panel: CurvaturePanel, influence: Any) -> None:
    from playwright.sync_api import expect

    page = show_part(panel)
    below = page.locator(".damping-below")
    expect(below).to_contain_text("72 % of the directions of this layer lie below λ")
    expect(page.get_by_text("fitted 0.1")).to_be_visible()
    box = _slider(page).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.62, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in range(60, 20, -2):
        page.mouse.move(box["x"] + box["width"] * share / 100, box["y"] + box["height"] / 2)
        page.wait_for_timeout(15)
    page.wait_for_timeout(300)
    expect(below).not_to_contain_text("72 %")
    assert influence.dampings == []
    page.mouse.up()
    _until(page, lambda: panel.damping is not None)
    page.wait_for_timeout(400)
    assert len(influence.dampings) == 1
    assert panel.damping == influence.dampings[0][0] < 1e-3
    expect(page.locator("output")).to_contain_text("by a pass over the training data")
    assert (panel.scores != panel._source.scores["influence"].isel(query=0)).any()
    page.get_by_role("button", name="Reset").click()
    _until(page, lambda: panel.damping is None)
    expect(page.locator("output")).to_have_text("Ranked with the damping of the fit.")
    expect(below).to_contain_text("72 %")
    assert len(influence.dampings) == 1


def test_keys_alone_set_the_damping_and_many_presses_ask_once(show_part: Show, panel: Any, influence: Any) -> None:
    from playwright.sync_api import expect

    page = show_part(panel)
    _slider(page).focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    _until(page, lambda: panel.damping is not None)
    assert len(influence.dampings) == 1
    assert panel.damping == pytest.approx(0.1 * 10 ** (12 * 0.05), rel=0.02)
    field = page.get_by_role("spinbutton", name="Damping, times the mean eigenvalue")
    field.fill("2.5")
    field.press("Enter")
    _until(page, lambda: panel.damping == 2.5)
    expect(_slider(page)).to_have_attribute("aria-valuetext", "2.50 times the mean eigenvalue")
    field.fill("1e9")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("must lie between")
    assert panel.damping == 2.5
    page.get_by_label("Layer", exact=True).select_option("h.1")
    page.get_by_role("slider", name="Point of").press("End")
    points = len(panel._curvature.spectrum("h.1")["rank"])
    expect(page.get_by_role("slider", name="Point of")).to_have_attribute("aria-valuenow", str(points))
    expect(page.locator(".readout")).to_contain_text("eigenvalue 2,000 of 2,000")
    panel.position = 1
    page.evaluate("window.model.save_changes()")  # another query under the same damping
    _until(page, lambda: [query for _, query in influence.dampings][-1] == "q1")


def test_an_error_is_said_and_the_panel_goes_on(show_part: Show, panel: Any, influence: Any) -> None:
    from playwright.sync_api import expect

    page = show_part(panel)
    influence.fails = "layer h.0 gives <b>NaN</b>"
    _slider(page).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("alert").first).to_contain_text("layer h.0 gives <b>NaN</b>")
    influence.fails = ""
    page.keyboard.press("ArrowRight")
    _until(page, lambda: panel.damping is not None)
    expect(page.locator("output")).to_contain_text("Scored again")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_without_factors_a_sentence_stands_there(show_part: Show) -> None:
    from playwright.sync_api import expect

    from tests.widgets.synthetic import FakeInfluence

    page = show_part(CurvaturePanel(FakeInfluence(), corpus(1, "query")))
    expect(page.get_by_text("uses no curvature")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, panel: CurvaturePanel, dark: bool) -> None:
    page = show_part(panel, dark=dark)
    page.locator(".damping-below").wait_for()
    _is_sound(page)
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
