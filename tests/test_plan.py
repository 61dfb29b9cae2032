"""Sizes follow the budget: a container's limit counts, batches and query blocks shrink with memory, never below one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inflab import plan
from inflab.layer import select_layers
from tests import tiny

CPU = torch.device("cpu")


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_CGROUP", tmp_path)
    whole = plan.available_memory(CPU)
    assert whole > 10**8
    (tmp_path / "memory.max").write_text("50000000\n")
    (tmp_path / "memory.current").write_text("20000000\n")
    assert plan.available_memory(CPU) == 30_000_000
    assert plan.parse_memory(None, CPU) == 15_000_000
    (tmp_path / "memory.current").write_text("60000000\n")
    assert plan.available_memory(CPU) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert plan.available_memory(CPU) > 10**8


def test_batches_and_query_blocks_shrink_with_memory() -> None:
    problem = tiny.language_problem()
    layers = select_layers(problem.model)
    sizes = [plan.batch_size(problem.model, problem.corpus, layers, memory, None) for memory in (1, 10**6, 10**9)]
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[-1] == problem.corpus.sizes["train"]
    blocks = [plan.query_block(layers, 4, memory, 100) for memory in (1, 10**6, 10**9)]
    assert blocks[0] == 1
    assert blocks == sorted(blocks)
    assert blocks[-1] == 100
