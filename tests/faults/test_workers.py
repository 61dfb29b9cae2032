"""A worker that is killed, and a client that is killed, lose what was not finished, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gated
import numpy as np
import pytest
import xarray as xr

from inflab import EKFAC, Influence, Problem
from tests import tiny

N, SHARD = 12, 2
SHARDS = N // SHARD


def problem(folder: Path) -> Problem:
    return Problem(tiny.mlp(), gated.Gated(folder=str(folder)), tiny.table(N))


def prepared(folder: Path) -> Influence:
    """A folder with a fit to ask, whose gate is down."""
    fitted = EKFAC().fit(problem(folder), progress=False)
    fitted.save(folder / "fit")
    (folder / "log").unlink()
    gated.hold(folder)
    return fitted


def score(fitted: Influence, **more: Any) -> xr.Dataset:
    queries = tiny.table(3, "query", 1)
    found: xr.Dataset = fitted.score(queries, progress=False, **({"shard_size": SHARD} if more else {}), **more)
    return found


def batches(shards: list[int]) -> set[str]:
    """What the log says of these shards."""
    inputs = tiny.table(N)["input"].to_numpy()[:, 0].astype(np.float32)
    return {str([float(x) for x in inputs[2 * shard : 2 * shard + 2]]) for shard in shards}


@pytest.fixture
def under_way(tmp_path: Path, client: Any) -> Iterator[Any]:
    """Two of six shards are done, and both workers wait at the gate with another."""
    fitted = prepared(tmp_path)
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(score, fitted, store=tmp_path / "store", client=client)
        gated.wait(lambda: len(gated.marks(tmp_path)) >= 2)
        yield fitted, job
        if (tmp_path / "hold").exists():
            gated.release(tmp_path)


def finished(folder: Path) -> list[int]:
    return sorted(int(path.name.split(".")[2]) for path in gated.marks(folder))


@pytest.mark.parametrize("how_many", [1, 2], ids=["one", "all"])
def test_a_lost_worker_costs_what_it_was_doing(how_many: int, under_way: Any, client: Any, tmp_path: Path) -> None:
    fitted, job = under_way
    done = finished(tmp_path)
    for worker in list(client.run(os.getpid).values())[:how_many]:
        os.kill(worker, signal.SIGKILL)
    gated.release(tmp_path)
    found = job.result()
    assert (found.attrs["shards_computed"], found.attrs["shards_resumed"]) == (SHARDS, 0)
    passes = gated.passed(tmp_path)
    assert {passes[batch] for batch in batches(done)} == {1}, "a finished shard was computed again"
    assert batches(list(range(SHARDS))) <= set(passes)
    expected = score(fitted, store=tmp_path / "here")
    assert np.array_equal(found["influence"], expected["influence"])


def test_a_killed_client_is_gone_on_from(forks: Any, client: Any, tmp_path: Path) -> None:
    fitted = prepared(tmp_path)
    other = forks.start("score", tmp_path, scheduler=client.scheduler.address)
    gated.wait(lambda: len(gated.marks(tmp_path)) >= 2)
    os.kill(other, signal.SIGKILL)
    assert forks.end() == -signal.SIGKILL
    gated.wait(lambda: len(client.scheduler_info()["workers"]) == 2)
    done = finished(tmp_path)
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(score, fitted, store=tmp_path / "store", client=client)
        gated.release(tmp_path)
        found = job.result()
    assert found.attrs["shards_resumed"] >= len(done)
    assert found.attrs["shards_computed"] == SHARDS - found.attrs["shards_resumed"]
    passes = gated.passed(tmp_path)
    assert {passes[batch] for batch in batches(done)} == {1}, "a finished shard was computed again"
    assert np.array_equal(found["influence"], score(fitted, store=tmp_path / "here")["influence"])


@pytest.mark.parametrize("with_store", [True, False], ids=["store", "gathered"])
def test_a_fit_survives_a_lost_worker(with_store: bool, client: Any, tmp_path: Path) -> None:
    expected = EKFAC().fit(problem(tmp_path), store=tmp_path / "here", shard_size=SHARD, progress=False)
    (tmp_path / "log").unlink()
    more: dict[str, Any] = {"store": tmp_path / "there"} if with_store else {}
    with ThreadPoolExecutor(1) as thread:
        more |= {"client": client, "shard_size": SHARD, "progress": False}
        job = thread.submit(EKFAC().fit, problem(tmp_path), **more)
        gated.wait(lambda: len(gated.passed(tmp_path)) >= 3)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        found = job.result()
    for name, node in expected.factors.children.items():
        assert node.to_dataset().identical(found.factors[name].to_dataset())
