"""A real Chromium, and a bare page on which the front end meets the Python half without a notebook between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inflab.widgets.base import Part

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()

#: Traits of every widget that are of no concern here.
SETTLED = {"layout", "tabbable", "tooltip", "comm", "keys", "log", "_esm", "_css", "_anywidget_id"}

# A model as anywidget gives it, whose other half is `tell`: it takes what was set or asked, and says what changed.
PART = """
async ([source, state]) => {
  const listeners = {};
  const unsaved = {};
  const emit = (name, ...values) => [...(listeners[name] ?? [])].forEach((call) => call(...values));
  // What the Python side says: traits that changed, then messages, in order.
  const hear = window.hear = (said) => {
    for (const [name, value] of Object.entries(said.state)) { state[name] = value; emit(`change:${name}`); }
    for (const message of said.messages) emit("msg:custom", message, []);
  };
  const model = window.model = {
    get: (name) => state[name],
    set(name, value) { state[name] = value; unsaved[name] = value; emit(`change:${name}`); },
    async save_changes() {
      const sent = JSON.stringify({ state: unsaved });
      for (const name of Object.keys(unsaved)) delete unsaved[name];
      hear(JSON.parse(await window.tell(sent)));
    },
    async send(content) { hear(JSON.parse(await window.tell(JSON.stringify({ content })))); },
    on(name, call) { (listeners[name] ??= []).push(call); },
    off(name, call) { listeners[name] = (listeners[name] ?? []).filter((one) => one !== call); },
  };
  window.listeners = listeners;
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  window.cleanUp = module.default.render({ model, el: document.getElementById("host") });
}
"""
PAGE = """<!doctype html><html lang="en"><head><title>Explorer</title>
<style>body {{ margin: 16px; }} {css}</style></head>
<body data-jp-theme-light="{light}" style="background: {background}">
<main><button id="before">before</button><div id="host"></div><button id="after">after</button></main></body></html>"""


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """The system's Chromium, headless."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """Console errors and requests to elsewhere; a test fails when any is left in the list."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def new_page(browser: Any, complaints: list[str]) -> Iterator[Callable[..., Any]]:
    """Open pages that report errors and requests beyond `home`."""
    contexts = []

    def open_page(home: str = "about:", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1100, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        ours = (home, "data:", "blob:", "about:")
        page.on("request", lambda request: request.url.startswith(ours) or complaints.append(f"request {request.url}"))
        page.on("pageerror", lambda error: complaints.append(f"error {error}"))
        page.on("console", lambda said: said.type == "error" and complaints.append(f"console {said.text}"))
        page.set_default_timeout(15_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def show_part(new_page: Callable[..., Any]) -> Callable[..., Any]:
    """Show a part on a bare page: traits and questions reach it, and it answers, as through a kernel.

    A change made in Python arrives with the next message of the browser, or with `page.evaluate("hear", ...)`.
    """

    def show(part: Part, *, dark: bool = False) -> Any:
        names = [name for name in part.keys if name not in SETTLED and not name.startswith(("_model", "_view", "_dom"))]

        def state() -> dict[str, Any]:
            return {name: part.trait_metadata(name, "to_json", _same)(getattr(part, name), part) for name in names}

        known = json.loads(json.dumps(state()))
        messages: list[Any] = []
        part.send = lambda content, buffers=None: messages.append(content)  # type: ignore[method-assign]

        def tell(sent: str) -> str:
            said = json.loads(sent)
            if "content" in said:
                part._on_question(part, said["content"], [])
            else:
                known.update(said["state"])
                part.set_state(said["state"])
            now = json.loads(json.dumps(state()))
            news = {name: value for name, value in now.items() if value != known[name]}
            known.update(news)
            answer = json.dumps({"state": news, "messages": messages})
            messages.clear()
            return answer

        page = new_page()
        page.set_content(PAGE.format(css=part._css, light=str(not dark).lower(), background="#111" if dark else "#fff"))
        page.expose_function("tell", tell)
        page.evaluate(PART, [part._esm, dict(known)])
        return page

    return show


def _same(value: Any, widget: Any) -> Any:
    return value
