"""Ask and What if in a real browser, with a real model: typed, completed, contrasted, edited; then axe."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from inflab import Explorer
from inflab.widgets import AskPanel
from tests import tiny
from tests.widgets.conftest import facts  # noqa: F401
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Show = Callable[..., Any]
PROMPT = "The first President of the Republic of Astrobia was"
HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "\u0001\u001b[31m\u202edesrever",
    "مرحبا بالعالم",
    "👩‍👩‍👧 \ud800",
    "x" * 10_000,
]

# Questions wait until the test answers them.
HOLD = """() => {
  window.held = [];
  window.sends = model.send;
  model.send = (content) => held.push(content);
}"""
TELL = "([at, message]) => hear({ state: {}, messages: [{ id: held[at].id, ...message }] })"


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
    expect(page.get_by_role("listbox", name="Speaks for the second")).to_be_visible()
    expect(page.get_by_role("region", name="Chosen sequence")).to_contain_text("speak for the first completion")
    assert explorer.scores.sizes["query"] == 6
    # What cannot be asked is said, and the panel goes on.
    ask.get_by_role("button", name="Ask of one completion").click()
    fields.nth(0).fill("")
    ask.get_by_role("button", name="Ask", exact=True).click()
    expect(ask.get_by_role("alert").first).to_contain_text("prompt is empty")
    expect(page.get_by_role("alert")).to_have_count(1)  # said once
    fields.nth(0).fill("The capital of Gleem is")
    ask.get_by_role("button", name="Ask", exact=True).click()
    expect(place).to_have_text("7 / 7")


def _tab_to(page: Any, found: Any) -> None:
    for _ in range(60):
        if found.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("Tab does not lead there")


def test_keys_alone_ask_and_choose_among_the_tokens(show_part: Show, explorer: Explorer) -> None:
    from playwright.sync_api import expect

    page = show_part(explorer)
    place = page.get_by_label("Position in the query batch")
    page.get_by_role("tab", name="Tokens", exact=True).focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
        if page.get_by_role("tab", name="Ask", exact=True).get_attribute("aria-selected") == "true":
            break
    ask = page.get_by_role("tabpanel", name="Ask", exact=True)
    prompt, completion = (ask.get_by_label(name, exact=True) for name in ("Prompt", "Completion"))
    _tab_to(page, prompt)
    page.keyboard.type(PROMPT)
    page.keyboard.press("ArrowLeft")  # a key of the field, not a step to another query
    page.keyboard.press("Tab")
    expect(completion).to_be_focused()
    page.keyboard.type("Mira")
    expect(ask.get_by_text("run together into one word")).to_be_visible()
    ask.get_by_role("button", name="Put a space between").press("Enter")
    expect(completion).to_have_value(" Mira")
    expect(ask.get_by_text("run together into one word")).to_be_hidden()
    completion.fill("")
    page.keyboard.press("Enter")  # nothing typed: the model completes
    wrote = ask.get_by_role("listbox", name="Tokens that the model wrote")
    expect(wrote).to_be_focused()
    assert place.text_content() == "1 / 4"  # "what does the model say" is no question yet
    pieces = [option.text_content() for option in wrote.get_by_role("option").all()]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(wrote.locator("[aria-selected=true]")).to_have_count(1)
    page.keyboard.press("Shift+ArrowRight")
    expect(wrote.locator("[aria-selected=true]")).to_have_count(2)
    chosen = "".join(pieces[1:3])
    expect(ask.locator(".ask-written").get_by_role("status")).to_contain_text(f"{chosen} 2 of 12 tokens")
    _tab_to(page, ask.get_by_role("button", name="Ask about the chosen tokens"))
    page.keyboard.press("Enter")
    expect(place).to_have_text("5 / 5")
    expect(prompt).to_have_value(PROMPT + pieces[0])
    expect(completion).to_have_value(chosen)
    row = explorer.scores.isel(query=4)
    assert (row["query_prompt"].item(), row["query_completion"].item()) == (PROMPT + pieces[0], chosen)
    ask.get_by_role("button", name="Contrast with a wished-for text").press("Enter")
    page.keyboard.type(" Quell.")  # the field is selected: what is typed takes its place
    page.keyboard.press("Enter")
    expect(place).to_have_text("6 / 6")
    answer = ask.get_by_role("region", name="Answer")
    expect(answer).to_contain_text("For “Quell.”")
    expect(answer).to_contain_text("as likely as the second")


def test_progress_is_shown_and_waiting_can_be_given_up(show_part: Show) -> None:
    from playwright.sync_api import expect

    panel = AskPanel(FakeInfluence(), tiny.byte_level())
    page = show_part(panel)
    page.get_by_label("Prompt").fill("Tea grows")
    page.get_by_label("Completion", exact=True).fill(" by the sea")
    ask = page.get_by_role("button", name="Ask", exact=True)
    expect(page.get_by_text("Each question makes a pass")).to_be_visible()
    page.evaluate(HOLD)
    ask.click()
    expect(ask).to_have_attribute("aria-disabled", "true")
    page.evaluate(TELL, [0, {"progress": {"what": "scores", "done": 3, "total": 8}}])
    bar = page.get_by_role("progressbar", name="scores: 3 of 8")
    expect(bar).to_have_attribute("value", "3")
    stop = page.get_by_role("button", name="Stop waiting")
    stop.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("interrupt the kernel")).to_be_visible()
    expect(bar).to_be_hidden()
    expect(ask).to_have_attribute("aria-disabled", "false")
    late = panel._asking.score("Tea grows", " late", keep=False)
    page.evaluate(TELL, [0, {"answer": late}])
    page.evaluate("model.send = sends")
    assert page.get_by_role("region", name="Answer").is_hidden()
    ask.click()
    answer = page.get_by_role("region", name="Answer")
    expect(answer).to_contain_text("by the sea")
    expect(page.get_by_text("This question is now query")).to_be_visible()
    assert len(panel.asked) == 1


def test_any_text_stays_text_and_errors_leave_the_panel_alive(show_part: Show) -> None:
    from playwright.sync_api import expect

    influence = FakeInfluence()
    names = influence.train["text"].to_numpy().copy()
    names[: len(HOSTILE)] = HOSTILE
    influence.train = influence.train.assign_coords(text=("train", names))
    panel = AskPanel(influence, tiny.byte_level())
    page = show_part(panel)
    prompt, completion = page.get_by_label("Prompt"), page.get_by_label("Completion", exact=True)
    for n, text in enumerate(HOSTILE, 1):
        prompt.fill(text)
        completion.fill(f" {text}")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_text(f"This question is now query ask-{n}.")).to_be_visible()
        prompt.fill("   ")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("alert").filter(has_text="prompt is empty").last).to_be_visible()
    assert len(panel.asked) == len(HOSTILE)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_a_tokenizer_the_panel_says_what_it_needs(show_part: Show) -> None:
    from playwright.sync_api import expect

    page = show_part(Explorer(FakeInfluence(), corpus(2, "query")))
    ask = _panel(page, "Ask")
    expect(ask).to_contain_text("asking needs a tokenizer; pass tokenizer=")
    expect(ask.get_by_label("Prompt")).to_be_hidden()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_alone(show_part: Show, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = show_part(AskPanel(tiny.fitted(), tiny.byte_level()), dark=dark)
    page.get_by_label("Prompt").fill(tiny.PROMPTS[0])
    page.get_by_role("button", name="Let the model complete").click()
    page.get_by_role("button", name="Contrast with a wished-for text").click()
    page.keyboard.type(" tea")
    page.get_by_role("button", name="Ask for the difference").click()
    expect(page.get_by_text("This question is now query")).to_be_visible()
    page.evaluate(HOLD)
    page.get_by_role("button", name="Ask for the difference").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:150]) for one in found] == []


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
            expect(panel.get_by_role("checkbox").first).to_be_checked()
            panel.get_by_role("button", name="Predict").click()
            expect(panel).to_contain_text("is predicted to change")
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"][:150]) for one in found] == [], name
