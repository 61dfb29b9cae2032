"""`python -m benchmarks.explorer`: how the Explorer feels, measured in a real JupyterLab and in its exported page.

A batch of 100 queries, each with 100 sequences of 256 tokens (50 of each sign), out of 5,000 training sequences: time
to the first paint after the cell returns, bytes received until then, time of a step, frames while all sequences of a
sign are scrolled through, and size and steps of the exported page. Writes `benchmarks/explorer.json` and prints it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import inflab
from inflab.schema import influence_attrs, root_attrs, variable_attrs

_HERE = Path(__file__).parent
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
STEPS = 40
CELLS = (
    "import inflab\ntree = inflab.load('explanation.zarr')\nfrom inflab.widgets import Explorer",
    "explorer = Explorer(tree, k=50)\nexplorer",
    "print(explorer.position, explorer.error)",
)

#: Notes when the output area gets the widget, and when the first row of a list and the first token are painted.
WATCH = """
() => {
  window.seen = {};
  const painted = (done) => requestAnimationFrame(() => setTimeout(done));
  const note = (name) => { if (!(name in seen)) painted(() => (seen[name] ??= performance.now())); };
  const look = () => {
    if (document.querySelector(".inflab-explorer")) note("root");
    if (document.querySelector(".inflab-explorer [role=option]")) note("row");
    if (document.querySelector(".inflab-explorer .token")) note("token");
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  kernel.iopubMessage.connect((_, message) => {
    const kind = message.header.msg_type;
    if (kind === "display_data" || kind === "execute_result") seen.shown ??= performance.now();
    const isIdle = kind === "status" && message.content.execution_state === "idle";
    if (isIdle && seen.shown) seen.returned ??= performance.now();
  });
}
"""
STEP = """
async () => {
  const root = document.querySelector(".inflab-explorer");
  const card = root.querySelector(".query-text");
  const before = card.textContent;
  const start = performance.now();
  root.focus();
  root.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true }));
  await new Promise((done) => {
    const look = () => {
      const isDrawn = card.textContent !== before && root.getAttribute("aria-busy") !== "true";
      if (isDrawn) requestAnimationFrame(() => setTimeout(done));
      else setTimeout(look, 1);
    };
    look();
  });
  return performance.now() - start;
}
"""
SCROLL = """
async () => {
  const list = document.querySelector(".inflab-explorer .sequence-lists [role=listbox]");
  list.scrollIntoView({ block: "center" });
  const frames = [];
  let last = performance.now();
  const most = list.scrollHeight - list.clientHeight;
  for (let i = 1; i <= 240; i++) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - last);
    last = now;
    list.scrollTop = (most * i) / 240;
  }
  const rows = list.querySelector("[aria-setsize]")?.getAttribute("aria-setsize");
  return { frames: frames.slice(1), rows: Number(rows ?? 0) };
}
"""


def explanation(n_query: int, n_train: int, k: int, n_token: int, n_layer: int = 8, seed: int = 0) -> xr.DataTree:
    """An invented explanation of the size asked for, with words of every length and a heavy tail."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, 1 + int(n))) for n in rng.poisson(4, 4000)], dtype=object)
    token_of = words[np.minimum(rng.zipf(1.3, (n_train, n_token)) - 1, len(words) - 1)]
    pieces = np.array([[w if j == 0 else f" {w}" for j, w in enumerate(row)] for row in token_of], dtype=object)
    text = np.array(["".join(row) for row in pieces], dtype=object)
    value = (rng.standard_t(2, (n_query, n_train)) * 3).astype(np.float32)
    own = {
        "method": "EKFAC", "settings": "{}", "model_fingerprint": "0" * 16, "corpus_fingerprint": "1" * 16,
        "n_train": n_train, "seed": seed,
    }  # fmt: skip
    query = np.array([f"q{i}" for i in range(n_query)], dtype=object)
    asked = {
        "query": query,
        "query_prompt": ("query", np.array([f"Question {i}: {text[i][:80]}" for i in range(n_query)], dtype=object)),
        "query_completion": ("query", np.array([f" {words[i]}." for i in range(n_query)], dtype=object)),
    }
    source = np.array([("almanac", "letters", "archive")[i % 3] for i in range(n_train)], dtype=object)
    coords = {**asked, "train": np.arange(n_train), "text": ("train", text), "source": ("train", source)}
    scores = xr.Dataset(
        {"influence": (("query", "train"), value, influence_attrs("invented"))}, coords=coords,
        attrs=root_attrs("scores", **own),
    )  # fmt: skip
    layer = np.array([f"h.{i // 2}.mlp.{('in', 'out')[i % 2]}" for i in range(n_layer)], dtype=object)
    children: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=root_attrs("explanation", **own)), "scores": scores}
    for name, sign in (("top", "positive"), ("bottom", "negative")):
        ranked = inflab.top(scores, k, sign=sign)  # type: ignore[arg-type]
        weight = rng.standard_t(3, (n_query, k, n_layer, n_token)).astype(np.float32)
        weight /= np.abs(weight).sum((2, 3), keepdims=True)
        dims = ("query", "rank", "token")
        tokens = {
            "influence": (("query", "rank", "layer", "token"), weight * ranked["influence"].to_numpy()[..., None, None]
                          .astype(np.float32), influence_attrs("invented")),
            "is_text": (dims, np.ones((n_query, k, n_token), bool), variable_attrs("is text", "1", "True where text")),
            "token_text": (dims, pieces[ranked["train"].to_numpy()], variable_attrs("token text", "1", "a piece")),
        }  # fmt: skip
        held = {str(n): c.variable for n, c in ranked.coords.items() if n not in ("text",)}
        held |= {
            "layer": layer, "block": ("layer", np.arange(n_layer) // 2), "token": np.arange(n_token),
            "role": ("layer", np.array([("mlp.in", "mlp.out")[i % 2] for i in range(n_layer)], dtype=object)),
            "kind": ("layer", np.array(["Linear"] * n_layer, dtype=object)),
        }  # fmt: skip
        children |= {name: ranked, f"{name}_tokens": xr.Dataset(tokens, coords=held, attrs=root_attrs("tokens", **own))}
    return xr.DataTree.from_dict(children)


def in_lab(folder: Path, browser: Any) -> dict[str, float]:
    """First paint, steps and scrolling in JupyterLab."""
    running_lab = _lab().running_lab
    cells = [
        {"cell_type": "code", "id": f"c{i}", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        for i, source in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "bench.ipynb").write_text(json.dumps(book), encoding="utf-8")
    with running_lab(folder.parent / "server", folder) as lab:
        page = browser.new_context(viewport={"width": 1200, "height": 1000}).new_page()
        received = [0]
        page.on("websocket", lambda ws: ws.on("framereceived", lambda frame: _count(received, frame)))
        lab.open(page, "bench.ipynb")
        lab.ask(page, "\n".join(["import inflab", *CELLS[0].splitlines()[1:]]))
        page.evaluate(WATCH)
        before = received[0]
        page.evaluate("() => { const book = jupyterapp.shell.currentWidget.content; book.activeCellIndex = 1; "
                      "return jupyterapp.commands.execute('notebook:run-cell'); }")  # fmt: skip
        page.wait_for_function("() => seen.token && seen.returned", timeout=120_000)
        seen, payload = page.evaluate("seen"), received[0] - before
        page.wait_for_timeout(500)
        steps = []
        for _ in range(STEPS):
            steps.append(page.evaluate(STEP))
            page.wait_for_timeout(150)
        scrolled = page.evaluate(SCROLL)
    frames = sorted(scrolled["frames"])
    return {
        "first_row_after_return_s": max(0.0, (seen["row"] - seen["returned"]) / 1e3),
        "first_token_after_return_s": max(0.0, (seen["token"] - seen["returned"]) / 1e3),
        "payload_at_first_paint_MB": payload / 1e6,
        "step_median_ms": statistics.median(steps),
        "step_p95_ms": float(np.quantile(steps, 0.95)),
        "step_max_ms": max(steps),
        "scrolled_rows": scrolled["rows"],
        "frame_median_ms": statistics.median(frames),
        "frame_max_ms": frames[-1],
    }


def exported(path: Path, browser: Any) -> dict[str, float]:
    """Size, first paint and steps of the exported page, opened from the file with the network off."""
    context = browser.new_context(viewport={"width": 1200, "height": 1000}, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector(".inflab-explorer .token", timeout=60_000)
    opened = page.evaluate("performance.now()")
    steps = [page.evaluate(STEP) for _ in range(STEPS)]
    return {
        "page_MB": path.stat().st_size / 1e6,
        "page_opens_s": opened / 1e3,
        "page_step_median_ms": statistics.median(steps),
        "page_step_max_ms": max(steps),
    }


def _lab() -> Any:
    """The tests' JupyterLab: by its path, because another distribution may have installed a package `tests`."""
    spec = importlib.util.spec_from_file_location("lab", _HERE.parent / "tests" / "browser" / "lab.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["lab"] = found
    spec.loader.exec_module(found)
    return found


def _count(received: list[int], frame: Any) -> None:
    received[0] += len(frame if isinstance(frame, bytes) else frame.encode())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser("python -m benchmarks.explorer", description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a smoke test: few queries and sequences")
    parser.add_argument("--out", type=Path, default=_HERE / "explorer.json")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    sizes = {"n_query": 100, "n_train": 5000, "k": 50, "n_token": 256}
    if asked.small:
        sizes = {"n_query": 50, "n_train": 300, "k": 5, "n_token": 32}
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "notebooks"
        folder.mkdir()
        tree = explanation(**sizes)
        inflab.save(tree, folder / "explanation.zarr")
        inflab.Explorer(tree, k=sizes["k"]).to_html(folder / "page.html")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        found = {**sizes, **in_lab(folder, browser), **exported(folder / "page.html", browser)}
        browser.close()
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, value in found.items():
        print(f"{name:28} {value:.4g}")


if __name__ == "__main__":
    main()
