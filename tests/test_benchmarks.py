"""The benchmarks run, hold the sides' numbers against each other before they show a ratio, and write what they say."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import charts, report
from benchmarks.agreement import TOLERANCE, compare
from benchmarks.roofline import fit_flops
from benchmarks.setting import FULL
from benchmarks.summary import budgets, growths, peaks, ratios, rows
from benchmarks.workloads import WORKLOADS
from inflab.memory import parse_memory

ROOT = Path(__file__).parent.parent
KNOWN = {workload.name: workload for workload in WORKLOADS}
OURS = KNOWN["W3"].contenders[0].name
BUDGET = KNOWN["W3"].contenders[0].options["memory"]


def timed(seconds: float, peak: float = 2e9) -> dict[str, float]:
    return {"seconds": seconds, "before_bytes": 1e9, "peak_bytes": peak}


def measured(theirs: float, *, holds: bool = True) -> dict[str, Any]:
    """A file of W3 with three runs: ours in 1, 2 and 4 s, the peer in `theirs` times as much."""
    contenders: dict[str, Any] = {
        OURS: {"options": {"memory": BUDGET}, "runs": []},
        "Kronfluence": {
            "options": {"batch_size": 16},
            "runs": [],
            "agreement": {"relative": 1e-6, "holds": holds},
        },
    }
    for seconds in (1.0, 2.0, 4.0):
        contenders[OURS]["runs"].append({"sections": {"self-influence": timed(seconds)}, "notes": {}})
        contenders["Kronfluence"]["runs"].append({"sections": {"self-influence": timed(theirs * seconds)}, "notes": {}})
    machine = {"processor": "an abacus", "threads": 2, "python": "3.11", "versions": {"inflab": "0.1.0"}}
    return {
        "workload": "W3", "size": "full", "created_at": "2026-01-01T00:00:00+00:00", "machine": machine,
        "contenders": contenders,
    }  # fmt: skip


def test_ratio_is_of_neighbouring_runs() -> None:
    (ratio,) = ratios(KNOWN["W3"], measured(5.0))
    assert (ratio.ratio, ratio.least, ratio.most) == (5.0, 5.0, 5.0)
    assert (ratio.ours_seconds, ratio.other_seconds) == (2.0, 10.0)
    row = next(rows("W3", measured(5.0)))
    assert (row.seconds, row.fastest, row.slowest, row.runs, row.grown) == (2.0, 1.0, 4.0, 3, 1e9)


@pytest.mark.parametrize(("holds", "says"), [(True, "5.0 x (5.0 to 5.0) | 3 x | yes"), (False, "numbers differ")])
def test_no_ratio_without_agreement(tmp_path: Path, holds: bool, says: str) -> None:
    (tmp_path / "W3.json").write_text(json.dumps(measured(5.0, holds=holds)))
    report.write(tmp_path, tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text()
    assert says in text
    assert ("5.0 x" in text) == holds
    drawn = [path.name for path in charts.draw(tmp_path, tmp_path / "charts")]
    assert ("ratios.svg" in drawn) == holds


def test_memory_is_held_against_the_budget_and_the_peer() -> None:
    found = measured(5.0)
    (budget,), (peak,) = budgets(KNOWN["W3"], found), peaks(KNOWN["W3"], found)
    named = parse_memory(BUDGET, torch.device("cpu"))
    assert (budget.measured, budget.limit) == (1e9, pytest.approx(1.1 * named))
    assert (peak.other, peak.measured, peak.limit) == ("Kronfluence", 2e9, 2e9)


def test_a_missed_goal_is_said(tmp_path: Path) -> None:
    (tmp_path / "W3.json").write_text(json.dumps(measured(2.9)))
    report.write(tmp_path, tmp_path / "RESULTS.md")
    assert "2.9 x (2.9 to 2.9) | 3 x | **no**" in (tmp_path / "RESULTS.md").read_text()


def test_nothing_measured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no measurement"):
        report.write(tmp_path, tmp_path / "RESULTS.md")


@pytest.mark.parametrize(("factor", "holds"), [(0.5, True), (2.0, False)])
def test_equality_is_relative_to_the_largest_entry(factor: float, holds: bool) -> None:
    theirs = {"small": np.array([1e-9, 0.0]), "large": np.array([100.0, 1.0])}
    ours = copy.deepcopy(theirs)
    ours["large"][1] += factor * TOLERANCE * 100
    found = compare(ours, theirs, "equal")
    assert found["holds"] is holds
    assert found["relative"] == pytest.approx(factor * TOLERANCE)


def test_tokens_are_compared_at_the_chosen_pairs() -> None:
    theirs = {"scores": np.arange(24.0).reshape(2, 4, 3)}
    ours = {"train": np.array([[2], [0]]), "tokens": theirs["scores"][[0, 1], [2, 0]][:, None]}
    assert compare(ours, theirs, "pairs") == {"relative": 0.0, "holds": True}
    ours["train"] = np.array([[2], [1]])
    assert not compare(ours, theirs, "pairs")["holds"]


def test_ranks_are_medians_over_queries() -> None:
    theirs = {"scores": np.stack([np.arange(20.0), np.arange(20.0), np.arange(20.0)])}
    ours = {"scores": np.stack([np.arange(20.0) ** 3, np.arange(20.0), -np.arange(20.0)])}
    found = compare(ours, theirs, "rank")
    assert found["holds"]
    assert found["spearman"] == pytest.approx(1.0)
    assert found["overlap"] == 1.0


def test_other_arrays_are_an_error() -> None:
    with pytest.raises(ValueError, match="other arrays"):
        compare({"a": np.zeros(2)}, {"a": np.zeros(3)}, "equal")


def test_growth_beyond_the_smallest_has_no_constant_part() -> None:
    sections = {f"fit {n}": timed(7.0 + 0.5 * n) for n in (64, 128, 256, 512)}
    (grown,) = growths({"contenders": {"n_train": {"runs": [{"sections": sections}]}}})
    assert grown.sizes == [64, 128, 256, 512]
    assert grown.exponent < 0.95
    assert grown.beyond == pytest.approx(1.0)


def test_flops_of_the_fit() -> None:
    """By hand, for 2 d^2 T products of one matrix, and the bias column where an activation has one."""
    flops, tokens = fit_flops(FULL), 256 * 128
    assert flops["forward"] == 2 * tokens * (4 * 12 * 256**2 + 1024 * 256) + 2 * tokens * 256 * 128 * 4
    assert flops["covariances"] == 4 * tokens * (257**2 + 1024**2 + 1025**2 + 256**2)
    assert flops["eigenbases"] == 9 * 4 * (257**3 + 1024**3 + 1025**3 + 256**3)
    rotated_by_token = 4 * 2 * tokens * (257**2 + 1024**2 + 1025**2 + 256**2 + 257 * 1024 + 1025 * 256)
    assert flops["Lambda"] <= rotated_by_token
    assert flops["total"] == sum(value for part, value in flops.items() if part != "total")


@pytest.mark.slow
@pytest.mark.peer
def test_quick_run(tmp_path: Path) -> None:
    """W1 and W3 at tiny sizes, in real processes: the numbers agree, and JSON, table and charts are written."""
    if find_spec("kronfluence") is None:
        pytest.skip("needs kronfluence")
    command = [sys.executable, "-m", "benchmarks", "W1", "W3", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--cache", str(tmp_path / "cache")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("W1", "W3"):
        found = json.loads((tmp_path / "results" / f"{name}.json").read_text())
        assert found["size"] == "quick"
        peer = found["contenders"]["Kronfluence"]
        assert peer["agreement"]["holds"]
        assert 0 < peer["agreement"]["relative"] <= TOLERANCE  # two computations, not one twice
        for row in rows(name, found):
            assert row.seconds > 0
            assert row.peak > 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "W3 self-influence" in text and "numbers differ" not in text
    assert (tmp_path / "charts" / "ratios.svg").read_text().startswith("<svg")


def test_quick_numbers_do_not_replace_real_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--quick needs --out" in done.stderr
