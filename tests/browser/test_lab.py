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
CELLS = (
    "import sys\nimport inflab\ntree = inflab.load('explanation.zarr')",
    "explorer = inflab.Explorer(tree, k=5)\nexplorer",
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


def test_a_saved_explanation_is_stepped_through_and_python_sees_it(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _open(lab, new_page)
    root = page.get_by_role("group", name="Influence explorer")
    place = root.locator("output")
    expect(place).to_have_text("1 / 3")
    root.get_by_role("button", name="Next query").click()
    expect(place).to_have_text("2 / 3")
    expect(root.get_by_role("region", name="Query")).to_contain_text("The president of Gleem was Mira Quell.")
    n_cell = page.locator(".jp-Cell").count()
    root.focus()
    page.keyboard.press("ArrowRight")
    expect(place).to_have_text("3 / 3")
    expect(root).to_have_attribute("aria-busy", "false")
    for key in ("a", "b", "x", "d", "d"):
        page.keyboard.press(key)
    assert page.locator(".jp-Cell").count() == n_cell
    worse = root.get_by_role("listbox", name="Makes it less likely").get_by_role("option").nth(1)
    wanted = worse.locator(".snippet").text_content()
    tokens = root.get_by_role("listbox", name="Tokens of the chosen sequence")
    assert not tokens.text_content().startswith(wanted)
    worse.click()
    expect(tokens).to_contain_text(wanted)
    expect(root.get_by_role("img", name="Effect by layer")).to_be_visible()

    position, selected, error, has_torch = ast.literal_eval(lab.run_last_cell(page))
    assert (position, error, has_torch) == (2, "", False)
    assert (selected["query"], selected["rank"], selected["sign"]) == ("q2", 2, "negative")
    expect(root.get_by_role("region", name="Chosen sequence")).to_contain_text(f"Sequence {selected['train']}")


def test_it_follows_the_theme(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _open(lab, new_page)
    root = page.get_by_role("group", name="Influence explorer")
    expect(root.locator("img.for-light")).to_be_visible()
    light = root.evaluate("root => getComputedStyle(root).backgroundColor")
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    expect(root.locator("img.for-dark")).to_be_visible()
    expect(root.locator("img.for-light")).to_be_hidden()
    assert root.evaluate("root => getComputedStyle(root).backgroundColor") != light


def test_a_view_of_the_same_model_goes_along(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _open(lab, new_page)
    roots = page.get_by_role("group", name="Influence explorer")
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
        expect(roots.nth(i).locator("output")).to_have_text("3 / 3")
        expect(roots.nth(i).get_by_role("region", name="Query")).to_contain_text("Norvik")


def test_the_quickstart_is_asked_live(lab: Lab, new_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = _open(lab, new_page, "quickstart.ipynb", timeout=400)
    root = page.get_by_role("group", name="Influence explorer")
    root.scroll_into_view_if_needed()
    expect(root.locator("output")).to_have_text("1 / 100")
    root.focus()
    page.keyboard.press("ArrowRight")
    expect(root.locator("output")).to_have_text("2 / 100")
    root.get_by_role("button", name="Next query").click()
    expect(root.locator("output")).to_have_text("3 / 100")
    expect(root).to_have_attribute("aria-busy", "false")
    chosen = root.get_by_role("region", name="Chosen sequence")
    expect(chosen.get_by_role("option").first).to_be_visible()
    before = chosen.text_content()
    root.get_by_role("listbox", name="Makes it more likely").get_by_role("option").nth(1).click()
    expect(chosen).to_contain_text("rank 2")
    expect(chosen.get_by_role("option").first).to_be_visible()
    expect(chosen.get_by_role("img", name="Effect by layer")).to_be_visible()
    assert chosen.text_content() != before

    said = lab.ask(
        page, "print([explorer.position, explorer.selected, explorer.error, float(explorer.tokens.influence.sum())])"
    )
    position, selected, error, total = ast.literal_eval(said)
    assert (position, selected["rank"], selected["sign"], error) == (2, 2, "positive", "")
    n_train = int(lab.ask(page, "print(corpus.sizes['train'])"))
    number = chosen.locator(".headline .number").text_content()
    assert float(number.split()[0].replace("+", "")) == pytest.approx(total / n_train, rel=0.01)
