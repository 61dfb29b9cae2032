"""The lessons in a real JupyterLab: a point is dragged, a slider pushed, a question answered, the Explorer stepped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import Lab, running_lab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "screenshots"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Lab]:
    pytest.importorskip("jupyterlab")
    copy = tmp_path_factory.mktemp("repository")  # JupyterLab saves what it shows
    shutil.copytree(ROOT / "notebooks" / "course", copy / "notebooks" / "course")
    (copy / "benchmarks").symlink_to(ROOT / "benchmarks")
    with running_lab(tmp_path_factory.mktemp("lab"), copy) as lab:
        yield lab


def _run(lab: Lab, new_page: Callable[..., Any], name: str) -> Any:
    page = new_page(lab.home)
    page.set_default_timeout(60_000)
    lab.open(page, f"notebooks/course/{name}.ipynb")
    lab.run_all(page, 240)
    return page


def _playground(page: Any, label: str) -> Any:
    root = page.get_by_role("group", name=label, exact=True)
    root.scroll_into_view_if_needed()
    return root


def _shoot(page: Any, name: str) -> None:
    """A picture to be looked at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(400)
    page.screenshot(path=SHOTS / f"{name}.png")


def test_lesson_1_answers_a_question_and_a_dragged_point_pulls_the_line(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _run(lab, new_page, "1-one-points-pull")
    page.get_by_label("by 6").first.check()
    expect(page.get_by_text("You expected: by 6")).to_be_visible()
    root = _playground(
        page, "Hours and scores, and the line through them; a disc's area is the point's Cook's distance"
    )
    words = root.locator(".plane-words")
    expect(words).to_contain_text("slope 0.4")
    before = words.text_content()
    box = root.get_by_role("slider", name="Point 12").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(middle[0], middle[1] + 8 * step)
        page.wait_for_timeout(30)
    page.mouse.up()
    expect(words).not_to_have_text(before)
    expect(words).not_to_contain_text("slope 0.4")
    _shoot(page, "lesson-1")


def test_lesson_3_follows_its_sliders(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _run(lab, new_page, "3-nets-and-damping")
    root = _playground(page, "A net, its response to more weight on one example, and the response predicted")
    curve, words = root.locator("path.curve.other"), root.locator(".plane-words")
    before, said = curve.get_attribute("d"), words.text_content()
    root.get_by_role("slider", name="damping").focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    expect(words).not_to_have_text(said)
    page.wait_for_timeout(500)
    assert curve.get_attribute("d") != before
    _shoot(page, "lesson-3")


@pytest.mark.parametrize("name", ["6-retrieval", "7-word-order"])
def test_the_explorer_of_a_lesson_is_stepped_through(lab: Lab, new_page: Callable[..., Any], name: str) -> None:
    from playwright.sync_api import expect

    page = _run(lab, new_page, name)
    root = page.get_by_role("group", name="Influence explorer").first
    root.scroll_into_view_if_needed()
    place = root.get_by_label("Position in the query batch")
    expect(place).to_contain_text("1 / ")
    root.get_by_role("button", name="Next query").click()
    expect(place).to_contain_text("2 / ")
    _shoot(page, f"lesson-{name[0]}")


def test_a_sentence_is_written_in_the_word_order_lab(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _run(lab, new_page, "7-word-order")
    box = page.get_by_label("sentence").first
    box.scroll_into_view_if_needed()
    reply = page.get_by_text("Seen once more, it").first
    expect(reply).to_contain_text("+100.0%")
    box.fill("It rained and nobody came")
    page.get_by_role("button", name="What would it do?").click()
    expect(page.get_by_text("The model has never met").first).to_be_visible()
