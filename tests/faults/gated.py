"""A task that waits at a gate, so that a test can strike while work is under way; it notes what has passed.

Imported by its bare name, also by workers and kernels: the name `tests` is taken there by another package.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inflab import Classification


@dataclass(frozen=True)
class Gated(Classification):
    """While `folder/hold` is there and at least `after` shards of `folder/store` are done, passes wait."""

    folder: str = ""
    after: int = 2

    def forward(self, model: Any, batch: Any) -> Any:
        folder = Path(self.folder)
        while (folder / "hold").exists() and len(marks(folder)) >= self.after:
            time.sleep(0.005)
        line = f"{batch['input'][:, 0].tolist()}\n"
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, line.encode())
        os.close(log)
        return super().forward(model, batch)


def marks(folder: Path) -> list[Path]:
    """Finished shards of the store that is being made in a folder."""
    return list((folder / "store.unfinished").glob("rows.*.mark.json"))


def hold(folder: Path) -> None:
    (folder / "hold").touch()


def release(folder: Path) -> None:
    (folder / "hold").unlink()


def passed(folder: Path) -> Counter[str]:
    """How often each batch has passed the gate."""
    log = folder / "log"
    return Counter(log.read_text().splitlines() if log.exists() else [])


def wait(condition: Any) -> None:
    """Until it holds; a minute is far more than it takes, and less than for ever."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("what the test waits for does not come")
