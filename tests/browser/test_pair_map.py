"""The pair map in a real browser: tokens chosen by keys and pointer, on either side, answer with the right numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inflab.select import top
from inflab.widgets.pair_map import PairMap
from inflab.widgets.payload import signed
from tests.widgets.synthetic import FakeInfluence, corpus

pytestmark = pytest.mark.browser
Show = Callable[..., Any]


@pytest.fixture
def part() -> PairMap:
    influence, queries = FakeInfluence(), corpus(2, "query")
    return PairMap(influence.attribute(queries, top(influence.score(queries), 2), pairs=True), queries)


def _line(page: Any, side: str) -> Any:
    return page.get_by_role("listbox", name=f"{side} tokens")


def _numbers(page: Any, side: str) -> list[str]:
    """What each token's name says of it."""
    names = (
        _line(page, side).get_by_role("option").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    )
    return [name.rsplit(", ", 1)[1] for name in names]


def _effect(part: PairMap) -> np.ndarray:
    return np.array(part._pair["effect"])


def _near(said: list[str], numbers: np.ndarray) -> None:
    """Three digits, whatever the order of summation."""
    read = [_number(one) for one in said]
    np.testing.assert_allclose(read, numbers, rtol=6e-3, atol=1e-9)


def _number(said: str) -> float:
    digits = said.replace("−", "-").replace("+", "")
    if "×10" in digits:
        base, power = digits.split("×10")
        return float(base) * 10.0 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    return float(digits)


def test_query_tokens_are_chosen_by_keys_and_training_tokens_answer(show_part: Show, part: PairMap) -> None:
    from playwright.sync_api import expect

    page = show_part(part)
    effect = _effect(part)
    _near(_numbers(page, "Training"), effect.sum(0))
    query = _line(page, "Query")
    query.focus()
    for key in ("Home", "ArrowRight", "Space", "ArrowRight", "Shift+ArrowRight"):  # 1, then on to 3
        page.keyboard.press(key)
    expect(query.locator("[aria-selected=true]")).to_have_count(3)
    _near(_numbers(page, "Training"), effect[1:4].sum(0))
    _near(_numbers(page, "Query"), effect.sum(1))
    expect(page.locator(".pair-chosen")).to_contain_text("The training sequence answers 3 chosen query tokens with")
    expect(page.locator(".pair-chosen")).to_contain_text(signed(effect[1:4].sum()))
    page.wait_for_function("window.model.get('selected').length === 3")
    assert part.selected == [1, 2, 3]
    expect(query).to_be_focused()
    page.keyboard.press("Space")  # the last one out again
    _near(_numbers(page, "Training"), effect[1:3].sum(0))
    page.keyboard.press("Escape")
    expect(page.get_by_role("group", name="Pair map")).to_be_focused()


def test_the_other_way_round_by_pointer_and_back(show_part: Show, part: PairMap) -> None:
    from playwright.sync_api import expect

    page = show_part(part)
    effect = _effect(part)
    train = _line(page, "Training").get_by_role("option")
    _line(page, "Query").get_by_role("option").nth(0).click()
    train.nth(2).click()
    train.nth(4).click(modifiers=["Shift"])
    _near(_numbers(page, "Query"), effect[:, 2:5].sum(1))
    _near(_numbers(page, "Training"), effect.sum(0))
    expect(_line(page, "Query").locator("[aria-selected=true]")).to_have_count(0)
    page.wait_for_function("window.model.get('selected_train').length === 3")
    assert (part.selected, part.selected_train) == ([], [2, 3, 4])
    page.get_by_role("button", name="Clear selection").click()
    _near(_numbers(page, "Query"), effect.sum(1))
    expect(page.locator(".pair-chosen")).to_contain_text("Choose query tokens")
    assert part.selected_train == []


def test_one_layer_keeps_the_choice(show_part: Show, part: PairMap) -> None:
    page = show_part(part)
    _line(page, "Query").get_by_role("option").nth(3).click()
    layer = part._pair["layers"][5]
    page.get_by_label("Layer").select_option(index=6)
    page.wait_for_function("layer => window.model.get('_pair').layer === layer", arg=layer)
    assert part.layer == layer
    _near(_numbers(page, "Training"), _effect(part)[3])
    assert part.selected == [3]
    page.get_by_label("Layer").select_option(label="all layers (sum)")
    page.wait_for_function("window.model.get('_pair').layer === null")
    _near(_numbers(page, "Training"), _effect(part)[3])


def test_the_matrix_is_read_cell_by_cell(show_part: Show, part: PairMap) -> None:
    from playwright.sync_api import expect

    page = show_part(part)
    effect = _effect(part)
    readout = page.locator(".pair-matrix .token-readout")
    expect(readout).to_contain_text(signed(effect.flat[np.abs(effect).argmax()]))
    page.get_by_role("application").focus()
    for key in (*["ArrowUp"] * len(effect), "Home", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(readout).to_contain_text(signed(effect[2, 1]))
    expect(readout).to_contain_text("query token 3 of meets training token 2 president")


def test_python_chooses(show_part: Show, part: PairMap) -> None:
    from playwright.sync_api import expect

    page = show_part(part)
    part.selected_train = [1, 2]
    page.evaluate("window.model.save_changes()")
    expect(_line(page, "Training").locator("[aria-selected=true]")).to_have_count(2)
    _near(_numbers(page, "Query"), _effect(part)[:, 1:3].sum(1))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(show_part: Show, part: PairMap, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = show_part(part, dark=dark)
    _line(page, "Query").get_by_role("option").nth(3).click()
    for width in (360, 1100):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], node["html"][:200]) for one in serious for node in one["nodes"]] == []
