"""Processes to be killed, and a cluster to lose workers of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `gated`, which workers and kernels import by its bare name too


class Forks:
    """Has jobs done by children of a process that is ready (`forks.py`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forks.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, job: str, folder: Path, **more: Any) -> int:
        """Begin a job.

        Returns:
            The child's process id.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, "folder": str(folder), **more}) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """How the job ended: 0, or minus the signal that killed it."""
        return int(self._line())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    pytest.importorskip("distributed", reason="needs dask.distributed")
    found = Forks()
    yield found
    found.close()
