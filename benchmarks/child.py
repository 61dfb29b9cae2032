"""One run of one side, in a process of its own: `python -m benchmarks.child JOB OUT`.

JOB is JSON: `side` (a module here), `step` (a key of its `STEPS`), `size`, `folder`, `options`. The numbers that the
step returns go to OUT as an npz; what was measured is the last line printed, as JSON.

Only what stands inside `Run.timed` is timed: no import, no model building, no loading of data. Peak memory is that of
the timed part: Linux lets a process reset its own high-water mark.
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import SIZES, Size

__all__ = ["Run", "main", "run_step"]


class Run:
    """What a step is given, and where it leaves its measurements.

    Args:
        size: how large everything is.
        folder: of the files that `setting.prepare` made.
    """

    def __init__(self, size: Size, folder: Path) -> None:
        self.size = size
        self.folder = folder
        self.sections: dict[str, dict[str, float]] = {}
        self.notes: dict[str, Any] = {}

    def factors(self, side: str) -> Path:
        """Where a side keeps what it fitted, for the workloads that ask of ready factors."""
        return self.folder / "factors" / side

    @contextmanager
    def timed(self, section: str) -> Iterator[None]:
        """Time what happens inside, and its largest memory.

        Args:
            section: its name in the results; it must be new.

        Yields:
            Nothing.
        """
        assert section not in self.sections
        gc.collect()
        memory = _Memory(self.size.device)
        start = time.perf_counter()
        yield
        memory.synchronize()
        self.sections[section] = {"seconds": time.perf_counter() - start, **memory.measured()}

    def repeated(self, section: str, times: int, work: Callable[[], Any]) -> None:
        """Time short work so many times in one process; the median stays.

        Args:
            section: its name in the results.
            times: odd.
            work: what is timed.
        """
        for turn in range(times):
            with self.timed(f"{section} #{turn}"):
                work()
        tried = [self.sections.pop(f"{section} #{turn}") for turn in range(times)]
        self.sections[section] = sorted(tried, key=lambda one: one["seconds"])[times // 2]

    def note(self, **notes: Any) -> None:
        """Keep numbers that belong beside the measurements."""
        self.notes |= notes


class _Memory:
    """Bytes before and at most: of the process, or of the device when that is an accelerator."""

    def __init__(self, device: str) -> None:
        self.is_cuda = device == "cuda"
        if self.is_cuda:
            import torch

            self.cuda = torch.cuda
            self.cuda.synchronize()
            self.cuda.reset_peak_memory_stats()
            self.before = float(self.cuda.memory_allocated())
        else:
            _reset_peak()
            self.before = _status("VmRSS")

    def synchronize(self) -> None:
        if self.is_cuda:
            self.cuda.synchronize()

    def measured(self) -> dict[str, float]:
        peak = float(self.cuda.max_memory_allocated()) if self.is_cuda else _status("VmHWM")
        return {"before_bytes": self.before, "peak_bytes": peak}


def _reset_peak() -> None:
    """Set the high-water mark to what is resident now (Linux; elsewhere it stays that of the whole process)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status(field: str) -> float:
    """Resident bytes now ("VmRSS") or at most ("VmHWM")."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak if sys.platform == "darwin" else 1024 * peak)


def run_step(
    size: Size, folder: Path, side: str, step: str, options: Mapping[str, Any]
) -> tuple[Run, dict[str, np.ndarray]]:
    """Run one step of one side here.

    Args:
        size: how large everything is.
        folder: of the files that `setting.prepare` made.
        side: a module of this package.
        step: a key of its `STEPS`.
        options: keywords of the step.

    Returns:
        The run with its measurements, and the numbers that the step computed.
    """
    run = Run(size, folder)
    arrays: dict[str, np.ndarray] = importlib.import_module(f"benchmarks.{side}").STEPS[step](run, **options)
    return run, arrays


def main(job: str, out: str) -> None:
    """Run one step.

    Args:
        job: JSON, see above.
        out: path of the npz.
    """
    asked = json.loads(job)
    given = (asked["side"], asked["step"], asked["options"])
    run, arrays = run_step(SIZES[asked["size"]], Path(asked["folder"]), *given)
    np.savez(out, **arrays)  # type: ignore[arg-type]
    print("\n" + json.dumps({"sections": run.sections, "notes": run.notes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
