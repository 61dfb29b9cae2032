"""What every test relies on: generated examples by profile, optional parts, and no silent skip.

A missing optional part (Chromium, node, a peer) skips the tests that need it, with the reason. With
INFLAB_REQUIRE_ALL set, as `.ci/run` sets it, any such skip is a failure instead; only tests marked `gpu` may
still be skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile("fast")  # pytest --hypothesis-profile=thorough chooses the other

REQUIRE_ALL = "INFLAB_REQUIRE_ALL"
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _refuse_skip(report: Report) -> Report:
    """Turn a skip into a failure when every optional part is required."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(REQUIRE_ALL):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason}\n{REQUIRE_ALL} is set, so nothing may be skipped."
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    return report if item.get_closest_marker("gpu") else _refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an accelerator")


def _program(names: tuple[str, ...], what: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"needs {what}; none of {', '.join(names)} is on the PATH")
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium; nothing is ever downloaded."""
    return _program(("chromium", "chromium-browser", "google-chrome"), "Chromium")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two workers of one thread, each a process of its own."""
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed")
    # Workers must not find another package's `tests`; what they run besides inflab lies in tests/faults.
    settings = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    env = {"PYTHONPATH": str(Path(__file__).parent / "faults")}
    with distributed.LocalCluster(**settings, silence_logs=50, env=env) as found:
        yield found


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """A client of the cluster, whose two workers are up."""
    import distributed

    with distributed.Client(cluster) as found:
        found.wait_for_workers(2)
        yield found


@pytest.fixture(scope="session")
def node() -> str:
    """Path of node."""
    return _program(("node", "nodejs"), "node")
