"""kill -9 at random moments: what was finished is never computed again, and the arrays come out the same."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inflab
from inflab.run import tree
from inflab.run.ledger import Ledger
from tests import tiny

SHARDS = 6
KILLS = 10


@functools.cache
def fitted() -> Any:
    return tiny.fit(tiny.table_problem())


def prepared(folder: Path) -> Path:
    """A folder to work in, with a fit to ask."""
    (folder / "work").mkdir(parents=True)
    fitted().save(folder / "work" / "fit")
    return folder / "work"


def finished(work: Path) -> set[str]:
    """What the store holds, in the words of the log."""
    ledger = Ledger(work / "store")
    if not (ledger.folder / "ledger.json").exists():
        return set()
    starts = range(0, 2 * SHARDS, 2)
    sums = {"covariances": "covariance_sums", "eigenvalues": "square_sums"}
    done = {
        f"{function} {2 * shard}"
        for what, function in sums.items()
        for shard in set(range(SHARDS)) - set(tree.missing(ledger, what, SHARDS))
    }
    if len(list(ledger.folder.glob("basis.*"))) == 2:
        done |= {f"covariance_sums {start}" for start in starts}
    marked = {int(name.rsplit(".", 1)[1]) for name in ledger.marked() if name.startswith("rows")}
    return done | {f"{name} {2 * shard}" for shard in marked for name in ("score_rows", "index_rows")}


def arrays(work: Path) -> dict[str, np.ndarray]:
    found: Any = inflab.load(work / "store")
    root = found.factors if isinstance(found, inflab.Influence) else found
    nodes = root.subtree if hasattr(root, "subtree") else [root]
    return {f"{place}/{name}": v.to_numpy() for place, node in enumerate(nodes) for name, v in node.data_vars.items()}


@pytest.mark.parametrize("job", ["fit", "score", "index"])
def test_killed_at_ten_random_moments(job: str, forks: Any, tmp_path: Path) -> None:
    whole = prepared(tmp_path / "whole")
    forks.start(job, whole)
    assert forks.end() == 0
    report = json.loads((tmp_path / "whole" / "report").read_text())
    in_all = 2 * SHARDS if job == "fit" else SHARDS
    assert (report["computed"], report["resumed"]) == (in_all, 0)
    expected = arrays(whole)
    assert expected and all(np.isfinite(value).all() for value in expected.values())

    draw = random.Random(f"{job} 1")
    kills = again = 0
    while kills < KILLS:
        again += 1
        work = prepared(tmp_path / str(again))
        log = work.parent / "computed"
        ended = -9
        while ended:
            done, before = finished(work), log.read_text().splitlines() if log.exists() else []
            left = KILLS - kills
            forks.start(job, work, **({"kill_at": draw.randint(1, report["events"])} if left else {}))
            ended = forks.end()
            assert ended in (0, -9)
            kills += ended == -9
            now = (log.read_text().splitlines() if log.exists() else [])[len(before) :]
            assert not done & set(now), "a finished shard was computed again"
            assert len(now) == len(set(now))
        after = json.loads((work.parent / "report").read_text())
        assert after["computed"] + after["resumed"] == in_all
        assert after["computed"] == len(now)
        found = arrays(work)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert {path.name for path in work.iterdir()} <= {"fit", "store", "log"}, "no working files are left"
        assert not list((work / "store").rglob("*partial*"))
    assert again >= 2, "some runs came through"
