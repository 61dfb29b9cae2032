"""Execute a notebook without a browser: print what it prints, leave it as an HTML page.

    python notebooks/run.py notebooks/quickstart.ipynb build/quickstart.html

The page is published without widget state: with it, the HTML shows a blank place for each widget when there
is no network; without it, the static view that every widget of inflab carries is shown.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import NotebookNode

# nbconvert's page asks the network for these three. The page needs none of them to be read.
_NO_NETWORK = {"require_js_url": "", "jquery_url": "", "mathjax_url": ""}


def _print_streams(cell: NotebookNode, cell_index: int, execute_reply: dict[str, object]) -> None:
    """Print a finished cell's standard output, as soon as it is there."""
    for output in cell.get("outputs", ()):
        if output.output_type == "stream" and output.name == "stdout":
            print(output.text, end="" if output.text.endswith("\n") else "\n", flush=True)


def _is_bare_widget(output: NotebookNode) -> bool:
    """Whether nothing but a widget's name would be left on a page: a progress bar, say."""
    data = output.get("data", {})
    return "application/vnd.jupyter.widget-view+json" in data and "text/html" not in data


def main(source: Path, target: Path) -> int:
    """Execute `source` in a fresh kernel and write `target`, also when a cell fails.

    Returns:
        0, or 1 when a cell raised; its traceback is then printed and stands in the page.
    """
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],  # not a warning that sockets of this machine are not encrypted
        resources={"metadata": {"path": str(source.parent)}},
        on_cell_executed=_print_streams,
    )
    print(f"Executing {source} ...", flush=True)
    start = time.perf_counter()
    failure = None
    try:
        client.execute()
    except CellExecutionError as error:
        failure = error
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell["outputs"] = [output for output in cell.get("outputs", ()) if not _is_bare_widget(output)]
        if cell.cell_type != "code":
            del cell["outputs"]
    page, _ = HTMLExporter(**_NO_NETWORK).from_notebook_node(notebook)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    if failure is not None:
        print(failure, file=sys.stderr)
    verdict = f"{'Failed' if failure else 'Done'} in {time.perf_counter() - start:.0f} s"
    print(f"{verdict}. The executed notebook: {target}")
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
