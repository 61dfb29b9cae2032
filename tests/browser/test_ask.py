"""Ask and What if in a real browser, with a real model: typed, completed, contrasted, edited; then axe."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from inflab import Explorer
from tests.widgets.conftest import facts  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Show = Callable[..., Any]


@pytest.fixture
def explorer(facts: SimpleNamespace) -> Explorer:  # noqa: F811
    return Explorer(facts.influence, facts.queries, tokenizer=facts.tokenizer)


def _panel(page: Any, name: str) -> Any:
    page.get_by_role("tab", name=name, exact=True).click()
    return page.get_by_role("tabpanel", name=name, exact=True)


def test_questions_are_typed_completed_and_contrasted(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    place = page.get_by_label("Position in the query batch")
    ask = _panel(page, "Ask")
    ask.get_by_label("Prompt").fill("The first President of the Republic of Astrobia was")
    ask.get_by_role("button", name="Let the model complete").click()
    wrote = ask.get_by_role("group", name="What the model wrote")
    expect(wrote.get_by_role("option").first).to_be_visible()
    wrote.get_by_role("button", name="Ask").first.click()
    expect(place).to_have_text("5 / 5")
    expect(page.get_by_role("region", name="Query")).to_contain_text("Zorald Pfaff")
    ask.get_by_role("button", name="Contrast two completions").click()
    fields = ask.get_by_role("textbox")
    fields.nth(1).fill(" Zorald Pfaff.")
    fields.nth(2).fill(" Mira Quell.")
    ask.get_by_role("button", name="Ask for the difference").click()
    expect(place).to_have_text("6 / 6")
    expect(page.get_by_role("region", name="Query")).to_contain_text("Zorald Pfaff. − Mira Quell.")
    assert explorer.scores.sizes["query"] == 6
    # What cannot be asked is said, and the panel goes on.
    ask.get_by_role("button", name="Ask of one completion").click()
    fields.nth(0).fill("")
    ask.get_by_role("button", name="Ask", exact=True).click()
    expect(ask.get_by_role("alert").first).to_contain_text("prompt is empty")
    fields.nth(0).fill("The capital of Gleem is")
    ask.get_by_role("button", name="Ask", exact=True).click()
    expect(place).to_have_text("7 / 7")


def test_documents_are_left_out_and_a_sentence_is_edited(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    what_if = _panel(page, "What if")
    boxes = what_if.get_by_role("checkbox")
    expect(boxes.first).to_be_checked()
    boxes.nth(1).check()
    what_if.get_by_role("button", name="Predict").click()
    expect(what_if).to_contain_text("these 2 documents together")
    what_if.get_by_label("Add a document by its id").fill("no such id")
    page.keyboard.press("Enter")
    expect(what_if.get_by_role("alert").first).to_contain_text("no such id")
    sentence = what_if.get_by_label("The sentence, to be edited")
    for text in ("A quite different sentence about bees.", " ".join(reversed(sentence.input_value().split()))):
        sentence.fill(text)
        what_if.get_by_role("button", name="Score the edit").click()
        expect(what_if.locator(".what-if-history")).to_contain_text(text)
    assert what_if.locator(".what-if-history tbody tr").count() == 3
    assert "To retrain, pass recipe=" in what_if.inner_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, explorer: Explorer, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = show_part(explorer, dark=dark)
    ask = _panel(page, "Ask")
    ask.get_by_label("Prompt").fill("The first President of the Republic of Astrobia was")
    ask.get_by_label("Completion", exact=True).fill(" Zorald Pfaff.")
    ask.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_label("Position in the query batch")).to_have_text("5 / 5")
    for name in ("Ask", "What if", "Curvature"):
        panel = _panel(page, name)
        page.wait_for_timeout(800)
        if name == "What if":
            panel.get_by_role("button", name="Predict").click()
            expect(panel).to_contain_text("is predicted to change")
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"][:150]) for one in found] == [], name
