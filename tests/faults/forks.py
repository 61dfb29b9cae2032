"""A process that has everything imported and forks a child for each job: killing one costs no start-up.

Run as a script. A line of JSON on standard input is a job; the answers are the child's process id, then how it ended.
A job may name the moment at which it kills itself: at its n-th operation on a file of the folder it works in.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import distributed  # noqa: E402
import gated  # noqa: E402
import tiny  # noqa: E402

import inflab  # noqa: E402
from inflab.run import fitting, indexing  # noqa: E402
from inflab.run import score as score_room  # noqa: E402

FILES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def problem(folder: Path) -> Any:
    return inflab.Problem(tiny.mlp(), gated.Gated(folder=str(folder)), tiny.table(12))


def queries() -> Any:
    return tiny.table(3, "query", 1)


def fit(folder: Path, **more: Any) -> Any:
    return inflab.EKFAC().fit(problem(folder), progress=False, **more)


def score(folder: Path, **more: Any) -> Any:
    return inflab.load(folder / "fit", problem(folder)).score(queries(), progress=False, **more)


def index(folder: Path, store: Path, **more: Any) -> Any:
    return inflab.load(folder / "fit", problem(folder)).index(store, size=0.25, progress=False, **more)


JOBS = {job.__name__: job for job in (fit, score, index)}


def noting(function: Any, log: Path) -> Any:
    """Write down which shards are computed."""

    def noted(*args: Any, **settings: Any) -> Any:
        positions = next(a for a in args[::-1] if getattr(a, "dtype", None) == "int64")
        name = getattr(function, "__name__", "")
        with log.open("a") as file:
            file.write(f"{name} {positions[0]}\n")
        return function(*args, **settings)

    return noted


def run(job: dict[str, Any]) -> None:
    folder = Path(job["folder"])
    log, count = folder.parent / "computed", 0
    functions = {"covariance_sums": fitting, "square_sums": fitting, "score_rows": score_room, "index_rows": indexing}
    for name, room in functions.items():
        setattr(room, name, noting(getattr(room, name), log))

    def strike(event: str, args: Any) -> None:
        nonlocal count
        if event in FILES and (str(args[0]).startswith(str(folder)) or not str(args[0]).startswith("/")):
            count += 1
            if count == job.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)

    settings = {"store": folder / "store", "shard_size": 2}
    if "scheduler" in job:
        settings["client"] = distributed.Client(job["scheduler"])
    sys.addaudithook(strike)
    result = JOBS[job["job"]](folder, **settings)
    report = {"events": count, "computed": result.attrs["shards_computed"], "resumed": result.attrs["shards_resumed"]}
    (folder.parent / "report").write_text(json.dumps(report))


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run(json.loads(line))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
