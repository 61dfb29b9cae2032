"""The stop button of a notebook: what is done can be used in the next cell, and the same cell goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gated
import pytest
from jupyter_client.manager import start_new_kernel

SET_UP = """
import inflab, tiny, gated, numpy as np
folder = {folder!r}
model = tiny.mlp()
problem = inflab.Problem(model, gated.Gated(folder=folder), tiny.table(12))
fitted = inflab.EKFAC().fit(problem)
plain = fitted.score(tiny.table(3, "query", 1), progress=False)
before = tiny.state(model)
gated.hold(gated.Path(folder))
"""
ASK = "scores = fitted.score(tiny.table(3, 'query', 1), store=folder + '/store', shard_size=2)"
LOOK = """
part = inflab.load(folder + '/store', partial=True)
best = inflab.top(part, 2)
assert part.sizes['train'] == 4 and part.attrs['shards_done'] == 2
assert np.allclose(part['influence'], plain['influence'][:, :4], rtol=1e-4, atol=1e-4)
assert best['train'].isin(range(4)).all()
after = tiny.state(model)
assert [name for name in before if before[name] != after[name]] == []
gated.release(gated.Path(folder))
"""
CHECK = """
assert (scores.attrs['shards_computed'], scores.attrs['shards_resumed']) == (4, 2)
assert np.allclose(scores['influence'], plain['influence'], rtol=1e-4, atol=1e-4)
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent), str(here.parent.parent)]))
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client: Any, code: str) -> dict[str, Any]:
    """Run a cell.

    Returns:
        The kernel's reply.
    """
    return reply(client, client.execute(code))


def reply(client: Any, cell: str) -> dict[str, Any]:
    while True:
        message = client.get_shell_msg(timeout=120)
        if message["parent_header"].get("msg_id") == cell:
            found: dict[str, Any] = message["content"]
            return found


def test_stop_look_go_on(kernel: Any, tmp_path: Path) -> None:
    manager, client = kernel
    done = run(client, SET_UP.format(folder=str(tmp_path)))
    assert done["status"] == "ok", done
    cell = client.execute(ASK, stop_on_error=False)  # or the cells after it are dropped
    gated.wait(lambda: len(gated.marks(tmp_path)) == 2)
    manager.signal_kernel(signal.SIGINT)
    assert reply(client, cell)["ename"] == "KeyboardInterrupt"
    for code in (LOOK, ASK, CHECK):
        done = run(client, code)
        assert done["status"] == "ok", done
    assert not (tmp_path / "store.unfinished").exists()
