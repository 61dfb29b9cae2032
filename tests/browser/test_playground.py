"""The playground in a real browser: a point is dragged, moved by keys, a slider is pushed; Python's answer is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from inflab.widgets import Playground
from tests.browser.test_layers import _until

pytestmark = pytest.mark.browser
Show = Callable[..., Any]
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


@pytest.fixture
def plane() -> Playground:
    def follow(x: np.ndarray, y: np.ndarray, tilt: float) -> dict[str, Any]:
        slope, start = np.polyfit(x, y, 1)
        ends = np.array([-1.0, 6.0])
        leverage = 1 / len(x) + (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
        return {
            "lines": {"least squares": (ends, start + slope * ends), "tilted": (ends, tilt * ends)},
            "sizes": leverage, "marks": [f"leverage {h:.2f}" for h in leverage],
            "words": f"slope {slope:.2f}, tilt {tilt:.2f}",
        }  # fmt: skip

    x = np.arange(6.0)
    return Playground(
        x, x + np.array([0, 0.5, -0.4, 0.2, -0.1, 0.3]), follow, sliders={"tilt": (0, 2, 0.5)}, x_label="hours",
        y_label="score, points", y_domain=(-2, 8), label="A line through six points",
    )  # fmt: skip


def test_a_dragged_point_pulls_the_line(show_part: Show, plane: Playground) -> None:
    from playwright.sync_api import expect

    page = show_part(plane)
    expect(page.locator(".plane-words")).to_have_text("slope 1.01, tilt 0.50")
    before = page.locator("path.curve.data").get_attribute("d")
    box = page.get_by_role("slider", name="Point 6").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(1, 16):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 10 * step)
    page.mouse.up()
    _until(page, lambda: plane.points[5][1] < 1.5)
    expect(page.locator(".plane-words")).not_to_contain_text("slope 1.01")
    _until(page, lambda: page.locator(".plane-words").text_content() == plane._drawn["words"])
    assert page.locator("path.curve.data").get_attribute("d") != before
    assert plane.points[5][0] == pytest.approx(5, abs=0.2)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "playground.png")


def test_keys_move_a_point_and_it_keeps_the_focus(show_part: Show, plane: Playground) -> None:
    page = show_part(plane)
    page.get_by_role("slider", name="Point 1").focus()
    for _ in range(5):
        page.keyboard.press("ArrowUp")
    _until(page, lambda: plane.points[0][1] == pytest.approx(5 * 10 / 50))
    page.wait_for_timeout(100)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Point 1")
    page.keyboard.press("Shift+ArrowRight")
    _until(page, lambda: 0 < plane.points[0][0] < 0.05)


def test_a_slider_is_followed(show_part: Show, plane: Playground) -> None:
    from playwright.sync_api import expect

    page = show_part(plane)
    page.get_by_role("slider", name="tilt").focus()
    page.keyboard.press("End")
    expect(page.locator(".plane-words")).to_contain_text("tilt 2.00")
    assert plane.values == {"tilt": 2.0}


def test_lines_alone_are_drawn(show_part: Show) -> None:
    from playwright.sync_api import expect

    def follow(x: np.ndarray, y: np.ndarray, k: float) -> dict[str, Any]:
        return {"lines": {"a": (np.arange(3.0), k * np.arange(3.0))}, "words": f"k {k:.2f}"}

    page = show_part(
        Playground([], [], follow, sliders={"k": (0, 1, 0.5)}, move="none", x_domain=(0, 2), y_domain=(0, 2))
    )
    before = page.locator("path.curve.data").get_attribute("d")
    page.get_by_role("slider", name="k").focus()
    page.keyboard.press("End")
    expect(page.locator(".plane-words")).to_have_text("k 1.00")
    assert page.locator("path.curve.data").get_attribute("d") != before
    expect(page.locator(".plane-dot")).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_stands_in_the_way_of_a_reader(show_part: Show, plane: Playground, dark: bool) -> None:
    page = show_part(plane, dark=dark)
    page.wait_for_selector(".plane-dot")
    found = Axe().run(page)
    serious = [one for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
    assert serious == []
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"playground-{'dark' if dark else 'light'}.png")
