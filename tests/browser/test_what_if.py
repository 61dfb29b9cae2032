"""What if in a real browser: documents ticked and left out, trained again, a sentence edited; hostile text; axe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import inflab
from inflab.widgets import WhatIfPanel
from inflab.widgets.payload import sendable, signed
from tests import tiny
from tests.truth import small
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
]
Show = Callable[..., Any]
HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "\u0001\u001b[31m\u202edesrever",
    "👩‍👩‍👧 \ud800",
    "x" * 10_000,
]


@pytest.fixture
def panel() -> WhatIfPanel:
    return WhatIfPanel(FakeInfluence(), corpus(4, "query"), tokenizer=tiny.byte_level())


def _show(show_part: Show, panel: WhatIfPanel, **settings: Any) -> Any:
    from playwright.sync_api import expect

    page = show_part(panel, **settings)
    expect(page.get_by_role("checkbox").first).to_be_visible()
    return page


def _pick(page: Any, picks: list[str]) -> None:
    page.evaluate("picks => hear({ state: { picks }, messages: [] })", picks)


def _ticked(page: Any) -> list[str]:
    labels = page.locator(".what-if-one:has(input:checked) b").all_text_contents()
    return [label.strip() for label in labels]


def _tab_to(page: Any, found: Any) -> None:
    for _ in range(60):
        if found.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("Tab does not lead there")


def test_keys_alone_tick_predict_and_go_to_another_query(show_part: Show, panel: WhatIfPanel) -> None:
    from playwright.sync_api import expect

    page = _show(show_part, panel)
    predict = page.get_by_role("button", name="Predict")
    predict.click()
    expect(page.get_by_role("alert").first).to_contain_text("No document is ticked")
    page.locator("#before").focus()
    boxes = page.get_by_role("checkbox")
    for place in (0, 2):
        _tab_to(page, boxes.nth(place))
        page.keyboard.press("Space")
    _tab_to(page, page.get_by_label("Add a document by its id"))
    page.keyboard.type("t30")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Add a document by its id")).to_have_value("")
    trains = _ticked(page)
    assert len(trains) == 3 and "t30" in trains
    _tab_to(page, predict)
    page.keyboard.press("Enter")
    found = panel._what_if.removal(0, trains)
    said = page.locator(".what-if-said")
    expect(said).to_contain_text(
        f"these 3 documents together is predicted to change this query by {signed(found['effect'])} nat ("
    )
    expect(page.get_by_role("alert").filter(visible=True)).to_have_count(0)
    rows = page.locator(".what-if-batch tbody tr")
    expect(rows).to_have_count(4)
    for row, expected in zip(rows.all(), found["batch"], strict=True):
        expect(row).to_contain_text(expected["prompt"] + expected["completion"])
        expect(row).to_contain_text(signed(expected["effect"]))
    other = next(i for i, row in enumerate(found["batch"]) if row["position"] != 0)
    _tab_to(page, rows.nth(other).get_by_role("button"))
    page.keyboard.press("Enter")
    page.wait_for_function("position => model.get('position') === position", arg=found["batch"][other]["position"])
    expect(said).to_have_text("")
    assert panel.position == found["batch"][other]["position"]


def test_only_what_the_reader_ticked_stays_ticked_when_another_sequence_is_looked_at(
    show_part: Show, panel: WhatIfPanel
) -> None:
    from playwright.sync_api import expect

    page = _show(show_part, panel)
    first, second, third = (str(one["train"]) for one in panel._what_if.start(0)["candidates"][:3])
    _pick(page, [first])
    expect(page.locator(".what-if-one:has(input:checked)")).to_have_count(1)
    page.get_by_role("checkbox").nth(1).check()
    _pick(page, [third])
    expect(page.locator(".what-if-one b").first).to_have_text(f"{third} ")
    assert set(_ticked(page)) == {third, second}


def test_a_sentence_is_edited_twice_and_the_history_keeps_both(show_part: Show, panel: WhatIfPanel) -> None:
    from playwright.sync_api import expect

    page = _show(show_part, panel)
    expect(page.get_by_text("Pick a sequence to edit it.")).to_be_visible()
    train = str(panel._what_if.start(0)["candidates"][0]["train"])
    _pick(page, [train])
    sentence = page.get_by_label("The sentence, to be edited")
    expect(sentence).not_to_have_value("")
    before = sentence.input_value()
    rows = page.locator(".what-if-history tbody tr")
    for n, text in enumerate(["Tea grows by the sea.", "The sea is wide."], 2):
        sentence.fill(text)
        page.keyboard.press("Enter")
        expect(rows).to_have_count(n)
        expect(rows.nth(1)).to_contain_text(text)  # the newest is next to what it was
        expect(rows.nth(1)).to_contain_text(signed(sendable(panel._what_if.edit(0, train, text))["difference"]))
    expect(rows.nth(0)).to_contain_text(f"{before} (as it was)")
    sentence.fill("half a sen")
    _pick(page, [train, "t30"])  # a second document is pinned meanwhile
    expect(page.get_by_role("checkbox", name="t30")).to_be_checked()
    expect(sentence).to_have_value("half a sen")
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="As it was").click()
    expect(sentence).to_have_value(before)
    sentence.fill("  ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="the edited text is empty").last).to_be_visible()
    _pick(page, ["t30"])
    expect(rows).to_have_count(0)


def test_training_again_is_laid_beside_the_prediction(show_part: Show) -> None:
    from playwright.sync_api import expect

    recipe, train, queries = small.recipe(), small.classes(), small.classes(3, "query", seed=1)
    problem = inflab.Problem(recipe.train(train, seed=0, progress=False).model, recipe.task, train)
    panel = WhatIfPanel(inflab.EKFAC().fit(problem, progress=False), queries, recipe=recipe)
    page = _show(show_part, panel)
    page.get_by_role("checkbox").nth(0).check()
    page.get_by_label("trainings").fill("2")
    page.get_by_role("button", name="Retrain and measure").click()
    said = page.locator(".what-if-said")
    expect(said).to_contain_text("Trained again without: ")
    (key,) = panel._what_if.measured
    found = panel._what_if.retrain(0, list(key[0]), seeds=2)
    expect(said).to_contain_text(f"{signed(found['measured'])} ± {signed(found['measured_se'])[1:]} nat")
    expect(page.get_by_role("columnheader", name="measured, nat")).to_be_visible()


def test_a_saved_explanation_predicts_and_says_what_it_cannot(show_part: Show) -> None:
    from playwright.sync_api import expect

    page = _show(show_part, WhatIfPanel(explanation()))
    page.get_by_role("checkbox").nth(0).check()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".what-if-said")).to_contain_text("this document is predicted to change")
    expect(page.get_by_role("button", name="Retrain and measure")).to_have_attribute("aria-disabled", "true")
    assert page.get_by_text("this is a saved explanation").count() == 2
    expect(page.get_by_label("The sentence, to be edited")).to_be_hidden()


def test_any_text_stays_text(show_part: Show) -> None:
    from playwright.sync_api import expect

    influence, queries = FakeInfluence(), corpus(4, "query")
    names = influence.train["text"].to_numpy().copy()
    names[:] = [HOSTILE[i % len(HOSTILE)] for i in range(len(names))]
    influence.train = influence.train.assign_coords(text=("train", names))
    queries = queries.assign_coords(completion=("query", [HOSTILE[i] for i in (0, 1, 3, 4)]))
    panel = WhatIfPanel(influence, queries, tokenizer=tiny.byte_level())
    page = _show(show_part, panel)
    page.get_by_role("checkbox").nth(0).check()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".what-if-batch")).to_contain_text("<script>window.pwned")
    _pick(page, ["t0"])
    expect(page.get_by_label("The sentence, to be edited")).to_be_visible()
    rows = page.locator(".what-if-history tbody tr")
    for n, text in enumerate(HOSTILE, 2):
        page.get_by_label("The sentence, to be edited").fill(text)
        page.get_by_role("button", name="Score the edit").click()
        expect(rows).to_have_count(n)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, panel: WhatIfPanel, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = _show(show_part, panel, dark=dark)
    _pick(page, ["t30"])
    expect(page.get_by_role("checkbox", name="t30")).to_be_checked()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".what-if-said")).to_contain_text("is predicted")
    page.get_by_role("button", name="Score the edit").click()
    expect(page.locator(".what-if-history")).to_contain_text("(as it was)")
    found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:150]) for one in found] == []
