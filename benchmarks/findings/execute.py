"""Execute a notebook of the findings at full size, and keep it as a reader will find it.

Progress bars and widget state are left out; how long it took and the most memory its kernel held stand in its
metadata, since each must run on a small machine.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOKS", "execute", "rows"]

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks" / "findings"
# Linux counts the parent's memory in ru_maxrss, but not in VmHWM; elsewhere ru_maxrss has to do.
_PEAK = """import pathlib, re, resource, sys
status = pathlib.Path("/proc/self/status")
if status.exists():
    print(int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) // 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 1024))"""
_WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path, *, timeout: int = 3600) -> dict[str, Any]:
    """Execute a notebook in place.

    Args:
        path: of the notebook.
        timeout: seconds that a cell may take.

    Returns:
        Seconds and peak memory in MB, as they stand in its metadata.
    """
    notebook = nbformat.read(path, as_version=4)
    # The last cell asks the kernel what it held, and is not kept.
    notebook.cells.append(nbformat.v4.new_code_cell(_PEAK))
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    began = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - began
    peak = int("".join(o.get("text", "") for o in notebook.cells.pop().outputs).split()[0])
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_noise(output)]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "inflab": {"seconds": round(seconds, 1), "peak_mb": peak},
    }
    nbformat.write(notebook, path)
    return dict(notebook.metadata["inflab"])


def rows(path: Path, mime: str) -> list[dict[str, Any]]:
    """The rows that an executed notebook shows.

    Args:
        path: of the notebook.
        mime: of the rows.

    Returns:
        One dictionary a row, in the order of the cells.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [o["data"][mime] for cell in cells for o in cell.outputs if mime in o.get("data", {})]


def _is_noise(output: Any) -> bool:
    """A progress bar: on the error stream, or a widget with no page of its own."""
    data = output.get("data", {})
    return output.get("name") == "stderr" or (_WIDGET in data and "text/html" not in data)
