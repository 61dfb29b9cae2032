"""Runs the contenders of each workload by turns, each in a fresh process, compares their numbers, writes JSON.

This process imports neither torch nor any side, so a child's memory is its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agreement import compare
from benchmarks.setting import Size
from benchmarks.workloads import BATCHES, FASTEST, KRONFLUENCE, Contender, Workload

__all__ = ["ChildError", "measure"]

_ROOT = Path(__file__).parent.parent


class ChildError(RuntimeError):
    """A contender's process ended with an error; its last words are in the message."""


class _Bench:
    """The measurements of one call: what all of them share.

    Args:
        size: how large everything is.
        cache: folder under which each size keeps its files.
        in_process: whether runs share this process.
    """

    def __init__(self, size: Size, cache: Path, in_process: bool = False) -> None:
        self.size = size
        self.in_process = in_process
        self.folder = cache.resolve() / size.name
        self.fastest: dict[str, int] = {}

    def child(self, side: str, step: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a child measured, and the numbers it computed."""
        if self.in_process:
            from benchmarks.child import run_step

            run, arrays = run_step(self.size, self.folder, side, step, options)
            return {"sections": run.sections, "notes": run.notes}, arrays
        job = {"side": side, "step": step, "size": self.size.name, "folder": str(self.folder), "options": options}
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "arrays.npz"
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.child", json.dumps(job), str(out)],
                cwd=_ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise ChildError(f"{side}.{step} {dict(options)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
            with np.load(out) as arrays:
                return json.loads(done.stdout.splitlines()[-1]), dict(arrays)

    def run(self, contender: Contender) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """One run of a contender."""
        return self.child(contender.side, contender.step, self.options(contender))

    def options(self, contender: Contender) -> dict[str, Any]:
        """A contender's options with sizes and the fastest batch size filled in."""
        return {key: self._filled(contender.step, value) for key, value in contender.options.items()}

    def _filled(self, step: str, value: Any) -> Any:
        if value == FASTEST:
            return self.fastest[step]
        if isinstance(value, str) and value.startswith("size."):
            return getattr(self.size, value.removeprefix("size."))
        return value

    def ready(self, sides: Sequence[str]) -> None:
        """Fit what a workload needs fitted, when no fit has been measured before."""
        for side in sides:
            if not (self.folder / "factors" / side.removeprefix("peer_")).exists():
                _say(f"  fitting {side} first")
                self.run(Contender("", side, "fit", {"batch_size": FASTEST} if side == KRONFLUENCE else {}))

    def probe(self, is_quick: bool) -> None:
        """Find Kronfluence's fastest batch sizes; in a hurry, take the first of each."""
        if is_quick:
            self.fastest = {step: tried[0] for step, tried in BATCHES.items()}
            return
        _say("probing Kronfluence's batch sizes")
        found, _ = self.child(KRONFLUENCE, "probe", {"batches": BATCHES})
        self.fastest = found["notes"]["fastest"]
        _say(", ".join(f"{section} {value['seconds']:.2f} s" for section, value in found["sections"].items()))


def measure(
    workloads: Sequence[Workload],
    size: Size,
    cache: Path,
    results: Path,
    *,
    runs: int = 3,
    in_process: bool = False,
) -> dict[str, str]:
    """Measure workloads and write one JSON file each.

    Args:
        workloads: what to measure.
        size: how large everything is.
        cache: folder for models, texts and factors.
        results: folder for the JSON files; a workload's old file is removed first.
        runs: runs of each contender, by turns. One run is a smoke test: no batch size is probed for it.
        in_process: whether all runs share this process: on an accelerator, whose time is dear, starting one costs as
            much as what is measured, and memory is the device's own.

    Returns:
        Workload -> why it has no result; empty when all have one.
    """
    bench = _Bench(size, cache, in_process)
    results.mkdir(parents=True, exist_ok=True)
    _say(f"preparing {bench.folder}")
    prepared, _ = bench.child("setting", "prepare", {})
    shutil.rmtree(bench.folder / "factors", ignore_errors=True)
    if any(contender.side == KRONFLUENCE for workload in workloads for contender in workload.contenders):
        bench.probe(is_quick=runs == 1 or size.device != "cpu")
    failures = {}
    for workload in workloads:
        path = results / f"{workload.name}.json"
        path.unlink(missing_ok=True)
        _say(f"{workload.name}: {workload.title}")
        try:
            bench.ready(workload.needs)
            for contenders in _by_turns(bench, workload, runs):  # written after each: a later one may be cut short
                found = {
                    "workload": workload.name,
                    "size": size.name,
                    "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "machine": prepared["notes"],
                    "contenders": contenders,
                }
                path.write_text(json.dumps(found, indent=1) + "\n")
        except (ChildError, ValueError) as error:
            path.unlink(missing_ok=True)
            failures[workload.name] = str(error)
            _say(f"  no result: {error}")
    return failures


def _by_turns(bench: _Bench, workload: Workload, runs: int) -> Iterator[dict[str, Any]]:
    """Contender -> options, runs, and how its numbers agree with the first contender's, at worst.

    Yields:
        The same after each turn, with one run more.
    """
    found: dict[str, Any] = {}
    for turn in range(runs):
        first: dict[str, np.ndarray] | None = None
        for contender in workload.contenders:
            if turn and contender.once:
                continue
            start = time.perf_counter()
            measured, arrays = bench.run(contender)
            own = found.setdefault(contender.name, {"options": bench.options(contender), "runs": []})
            own["runs"].append(measured)
            said = ", ".join(f"{name} {value['seconds']:.2f} s" for name, value in measured["sections"].items())
            if first is None:
                first = arrays
            elif arrays:
                agreed = compare(first, arrays, contender.agrees)
                if agreed["relative"] >= own.get("agreement", agreed)["relative"]:
                    own["agreement"] = agreed
                said += f"; differs by {agreed['relative']:.1e}"
            _say(f"  {turn + 1}. {contender.name}: {said} ({time.perf_counter() - start:.0f} s in all)")
        yield found


def _say(text: str) -> None:
    print(text, flush=True)
