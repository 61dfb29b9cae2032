"""Notebook 7 shows what JupyterLab shows: a card, and a widget that Python hears of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import inflab
from tests.browser.lab import Lab, running_lab
from tests.widgets.synthetic import explanation

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = (
    "import anywidget, numpy, torch, traitlets\nimport inflab\nfrom inflab.adapters import from_arrays\n"
    "corpus = from_arrays(numpy.eye(3, dtype='float32'), numpy.arange(3), source=['a', 'b', 'c'])\n"
    "problem = inflab.Problem(torch.nn.Sequential(torch.nn.Linear(3, 3)).eval(), inflab.Classification(), corpus)\n"
    "problem",
    "class Count(anywidget.AnyWidget):\n"
    "    _esm = '''export default { render({ model, el }) {\n"
    "      const button = document.createElement('button');\n"
    "      const draw = () => { button.textContent = 'pressed ' + model.get('n'); };\n"
    "      button.onclick = () => { model.set('n', model.get('n') + 1); model.save_changes(); };\n"
    "      model.on('change:n', draw); draw(); el.append(button); } };'''\n"
    "    n = traitlets.Int(0).tag(sync=True)\n\ncounted = Count()\ncounted",
    "explorer = inflab.Explorer(inflab.load('explanation.zarr'), k=5)\nexplorer",
    "print(counted.n, explorer.position, explorer.selected['rank'], repr(explorer.error))",
)
# Of Notebook 7 itself, word for word, whatever is open in it.
NOISE = {
    # Its shortcuts plugin hears of settings that a page of a single notebook does not load, and looks for their schema.
    "error Cannot read properties of undefined (reading 'schema')",
}


@pytest.fixture(scope="module")
def notebook7(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Lab]:
    pytest.importorskip("notebook")
    notebooks = tmp_path_factory.mktemp("notebooks")
    cells = [
        {"cell_type": "code", "id": f"c{i}", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        for i, source in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    inflab.save(explanation(3, 40, 5), notebooks / "explanation.zarr")
    (notebooks / "small.ipynb").write_text(json.dumps(book), encoding="utf-8")
    with running_lab(tmp_path_factory.mktemp("notebook"), notebooks, "notebook") as server:
        yield server


def test_a_card_and_a_widget_in_notebook_7(notebook7: Lab, new_page: Callable[..., Any], complaints: list[str]) -> None:
    from playwright.sync_api import expect

    page = new_page(notebook7.home)
    page.set_default_timeout(30_000)
    notebook7.open(page, "small.ipynb")
    notebook7.run_all(page)
    card = page.get_by_role("group", name="Problem Sequential")
    expect(card).to_contain_text("12 of 12 parameters (100%) in 1 layer")
    assert card.bounding_box()["height"] < 220
    light = card.evaluate("card => getComputedStyle(card).color")
    button = page.get_by_role("button", name="pressed 0")
    button.click()
    expect(page.get_by_role("button", name="pressed 1")).to_be_visible()
    assert notebook7.ask(page, "print(counted.n, '12 parameters' in repr(problem))").strip() == "1 True"
    root = page.get_by_role("group", name="Influence explorer")
    place = root.get_by_label("Position in the query batch")
    expect(place).to_have_text("1 / 3")
    n_cell = page.locator(".jp-Cell").count()
    root.focus()
    page.keyboard.press("ArrowRight")
    expect(place).to_have_text("2 / 3")
    for key in ("a", "b", "d", "d"):
        page.keyboard.press(key)
    assert page.locator(".jp-Cell").count() == n_cell
    root.get_by_role("listbox", name="Makes it more likely").get_by_role("option").nth(1).click()
    expect(root.get_by_role("region", name="Chosen sequence")).to_contain_text("rank 2")
    tokens = root.get_by_role("listbox", name="Tokens of the chosen sequence")
    expect(tokens.get_by_role("option").first).to_be_visible()
    assert notebook7.run_last_cell(page).strip() == "1 1 2 ''"
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    assert card.evaluate("card => getComputedStyle(card).color") != light
    complaints[:] = [complaint for complaint in complaints if complaint not in NOISE]
