"""The Explorer in a real JupyterLab: run all, step by key and button, pick; Python sees it, nobody else is asked."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import inflab
from tests.browser.lab import Lab, running_lab
from tests.widgets.synthetic import explanation

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUICKSTART = Path(__file__).resolve().parents[2] / "notebooks" / "quickstart.ipynb"
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
CELLS = (
    "import sys\nimport inflab\ntree = inflab.load('explanation.zarr')",
    "explorer = inflab.Explorer(tree, k=5)\nexplorer",
    "rating = inflab.widgets.Rating(tree, rater='Ann', per_query=2)\nrating",
    "print([explorer.position, explorer.selected, explorer.error, 'torch' in sys.modules])",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Lab]:
    pytest.importorskip("jupyterlab")
    notebooks = tmp_path_factory.mktemp("notebooks")
    inflab.save(explanation(3, 40, 5), notebooks / "explanation.zarr")
    cells = [
        {"cell_type": "code", "id": f"c{i}", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        for i, source in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (notebooks / "saved.ipynb").write_text(json.dumps(book), encoding="utf-8")
    if QUICKSTART.exists():
        shutil.copy(QUICKSTART, notebooks)
    with running_lab(tmp_path_factory.mktemp("lab"), notebooks) as lab:
        yield lab


def _open(lab: Lab, new_page: Callable[..., Any], notebook: str = "saved.ipynb", timeout: float = 60) -> Any:
    page = new_page(lab.home)
    page.set_default_timeout(30_000)
    lab.open(page, notebook)
    lab.run_all(page, timeout)
    return page


def _root(page: Any) -> Any:
    return page.get_by_role("group", name="Influence explorer")


def _place(root: Any) -> Any:
    return root.get_by_label("Position in the query batch")


def _tab(root: Any, name: str) -> Any:
    root.get_by_role("tab", name=name, exact=True).click()
    return root.get_by_role("tabpanel", name=name, exact=True)


def _theme(page: Any, name: str) -> None:
    page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{ theme: '{name}' }})")
    page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str('Dark' not in name).lower()}'")


def _shoot(root: Any, name: str) -> None:
    """A picture to be looked at; some stand in the README."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    root.page.wait_for_timeout(400)
    root.screenshot(path=SHOTS / f"{name}.png")


def test_a_saved_explanation_is_stepped_through_and_python_sees_it(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _open(lab, new_page)
    root = _root(page)
    expect(_place(root)).to_have_text("1 / 3")
    root.get_by_role("button", name="Next query").click()
    expect(_place(root)).to_have_text("2 / 3")
    expect(root.get_by_role("region", name="Query")).to_contain_text("The president of Gleem was Mira Quell.")
    n_cell = page.locator(".jp-Cell").count()
    root.focus()
    page.keyboard.press("ArrowRight")
    expect(_place(root)).to_have_text("3 / 3")
    expect(root).to_have_attribute("aria-busy", "false")
    for key in ("a", "b", "x", "d", "d"):
        page.keyboard.press(key)
    assert page.locator(".jp-Cell").count() == n_cell
    # Text that is typed stays in its field too.
    root.get_by_label("Search in the training sequences").fill("norvik")
    expect(root.get_by_text("of 40").first.or_(root.get_by_text(" of ").first)).to_be_visible()
    page.keyboard.type(" dd")
    assert page.locator(".jp-Cell").count() == n_cell
    root.get_by_role("button", name="Clear filters").click()
    worse = root.get_by_role("listbox", name="Makes it less likely").get_by_role("option").nth(1)
    wanted = worse.locator(".snippet").text_content()
    tokens = root.get_by_role("listbox", name="Tokens of the chosen sequence")
    assert not tokens.text_content().startswith(wanted)
    worse.click()
    expect(tokens).to_contain_text(wanted)
    root.get_by_role("button", name="Pin", exact=True).click()
    root.get_by_text("Pinned (1)").click()
    note = root.get_by_placeholder("a note")
    note.fill("dd x")
    note.press("Enter")
    expect(_tab(root, "Layers").get_by_role("listbox", name="Layers")).to_be_visible()
    expect(_tab(root, "Tail")).to_contain_text("positive")
    assert page.locator(".jp-Cell").count() == n_cell

    position, selected, error, has_torch = ast.literal_eval(lab.run_last_cell(page))
    assert (position, error, has_torch) == (2, "", False)
    assert (selected["query"], selected["rank"], selected["sign"]) == ("q2", 2, "negative")
    expect(root.get_by_role("region", name="Chosen sequence")).to_contain_text(f"Sequence {selected['train']}")
    # Rating, blindly: a key rates and goes on, and the notebook hears nothing of it.
    rating = page.get_by_role("group", name="Blind rating of relevance")
    rating.focus()
    page.keyboard.press("3")
    expect(rating.locator("output").first).to_contain_text("Pair 2")
    assert page.locator(".jp-Cell").count() == n_cell
    assert lab.ask(page, "print(int(rating.ratings['rating'].notnull().sum()))").strip() == "1"
    picks = ast.literal_eval(lab.ask(page, "print(explorer.picks)"))
    assert picks == [{"query": "q2", "train": selected["train"], "note": "dd x"}]


def test_it_follows_the_theme(lab: Lab, new_page: Callable[..., Any]) -> None:
    page = _open(lab, new_page)
    root = _root(page)
    light = root.evaluate("root => getComputedStyle(root).backgroundColor")
    _theme(page, "JupyterLab Dark")
    page.wait_for_function(
        "light => getComputedStyle(document.querySelector('.inflab-explorer')).backgroundColor !== light", arg=light
    )


def test_a_view_of_the_same_model_goes_along(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _open(lab, new_page)
    roots = _root(page)
    expect(roots).to_have_count(1)
    page.evaluate(
        """() => {
          const panel = window.jupyterapp.shell.currentWidget;
          panel.content.activeCellIndex = 1;
          return window.jupyterapp.commands.execute("notebook:create-output-view");
        }"""
    )
    expect(roots).to_have_count(2)
    roots.first.get_by_role("button", name="Last query").click()
    for i in range(2):
        expect(_place(roots.nth(i))).to_have_text("3 / 3")
        expect(roots.nth(i).get_by_role("region", name="Query")).to_contain_text("Norvik")


def test_the_quickstart_is_asked_live(lab: Lab, new_page: Callable[..., Any]) -> None:
    """One reader's way through every part, with the model behind it."""
    from playwright.sync_api import expect

    page = _open(lab, new_page, "quickstart.ipynb", timeout=400)
    page.set_viewport_size({"width": 1400, "height": 1200})
    _theme(page, "JupyterLab Light")  # whatever another test has left
    root = _root(page)
    root.scroll_into_view_if_needed()
    expect(_place(root)).to_have_text("1 / 100")
    root.focus()
    page.keyboard.press("ArrowRight")
    expect(_place(root)).to_have_text("2 / 100")
    root.get_by_role("button", name="Next query").click()
    expect(_place(root)).to_have_text("3 / 100")
    expect(root).to_have_attribute("aria-busy", "false")
    chosen = root.get_by_role("region", name="Chosen sequence")
    tokens = chosen.get_by_role("tabpanel", name="Tokens", exact=True)
    expect(tokens.get_by_role("option").first).to_be_visible()
    _shoot(root, "explorer-light")
    _theme(page, "JupyterLab Dark")
    _shoot(root, "explorer-dark")
    _theme(page, "JupyterLab Light")

    before = chosen.text_content()
    root.get_by_role("listbox", name="Makes it more likely").get_by_role("option").nth(1).click()
    expect(chosen).to_contain_text("rank 2")
    expect(tokens.get_by_role("option").first).to_be_visible()
    assert chosen.text_content() != before
    said = lab.ask(
        page, "print([explorer.position, explorer.selected, explorer.error, float(explorer.tokens.influence.sum())])"
    )
    position, selected, error, total = ast.literal_eval(said)
    assert (position, selected["rank"], selected["sign"], error) == (2, 2, "positive", "")
    n_train = int(lab.ask(page, "print(corpus.sizes['train'])"))
    number = chosen.locator(".headline .number").text_content()
    assert float(number.split()[0].replace("+", "")) == pytest.approx(total / n_train, rel=0.01)

    # Tokens: the three views.
    for view, words in [("output", "predicted token itself"), ("input", "embedding"), ("update", "one token early")]:
        tokens.get_by_role("radio", name=view).click()
        expect(tokens).to_contain_text(words)
    # Token by token.
    pairs = _tab(root, "Token × token")
    expect(pairs.get_by_role("listbox").first).to_be_visible()
    _shoot(root, "pairs-light")
    # Layers: the first third ranks.
    layers = _tab(root, "Layers")
    layers.get_by_role("button", name="top third").click()
    expect(layers).to_contain_text("Ranked by")
    page.wait_for_timeout(1500)
    assert len(ast.literal_eval(lab.ask(page, "print(explorer.layers)"))) > 0
    layers.get_by_role("button", name="all", exact=True).click()
    page.wait_for_timeout(1500)
    assert ast.literal_eval(lab.ask(page, "print(explorer.layers)")) == []
    # Curvature: another damping ranks anew.
    curvature = _tab(root, "Curvature")
    slider = curvature.get_by_role("slider").first
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    expect(curvature).to_contain_text("rank correlation", ignore_case=True)
    _shoot(root, "curvature-light")
    damping = ast.literal_eval(lab.ask(page, "print(explorer.damping)"))
    assert damping > 0.1
    _theme(page, "JupyterLab Dark")
    _shoot(root, "curvature-dark")
    _theme(page, "JupyterLab Light")
    assert ast.literal_eval(lab.ask(page, "print(explorer.error == '')"))
    expect(_tab(root, "Tail")).to_contain_text("positive")
    _shoot(root, "tail-light")
    # Ask.
    ask = _tab(root, "Ask")
    ask.get_by_label("Prompt").fill("The first President of the Republic of Astrobia was")
    ask.get_by_label("Completion", exact=True).fill(" Zorald Pfaff.")
    ask.get_by_role("button", name="Ask", exact=True).click()
    expect(_place(root)).to_have_text("101 / 101")
    expect(root.get_by_role("region", name="Query")).to_contain_text("Zorald Pfaff.")
    _shoot(root, "ask-light")
    assert lab.ask(page, "print(explorer.scores.sizes['query'])").strip() == "101"
    # What if.
    what_if = _tab(root, "What if")
    expect(what_if.get_by_role("checkbox").first).to_be_checked()
    what_if.get_by_role("button", name="Predict").click()
    expect(what_if).to_contain_text("is predicted to change this query by")
    sentence = what_if.get_by_label("The sentence, to be edited")
    sentence.fill(" ".join(reversed(sentence.input_value().split(" "))))
    what_if.get_by_role("button", name="Score the edit").click()
    expect(what_if).to_contain_text("(as it was)")
    _shoot(root, "what-if-light")
    # Compare: of the queries that both were asked.
    root.get_by_role("button", name="First query").click()
    compare = _tab(root, "Compare")
    expect(compare).to_contain_text("dot product")
    _shoot(root, "compare-light")
    expect(root.get_by_role("alert")).to_have_count(0)
    assert lab.ask(page, "print(repr(explorer.error))").strip() == "''"
