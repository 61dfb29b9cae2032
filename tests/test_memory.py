"""Sizes follow the budget: a container's limit counts; batches and query blocks shrink with it, never below one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from inflab import memory
from inflab.layer import select_layers
from tests import tiny

CPU = torch.device("cpu")


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    whole = memory.available_memory(CPU)
    assert whole > 10**8
    (tmp_path / "memory.max").write_text("50000000\n")
    (tmp_path / "memory.current").write_text("20000000\n")
    assert memory.available_memory(CPU) == 30_000_000
    assert memory.parse_memory(None, CPU) == 15_000_000
    (tmp_path / "memory.current").write_text("60000000\n")
    assert memory.available_memory(CPU) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory(CPU) > 10**8


def test_batches_and_query_blocks_shrink_with_memory() -> None:
    problem = tiny.language_problem()
    layers = select_layers(problem.model)
    sizes = [memory.batch_size(problem.model, layers, 16, budget) for budget in (1, 10**6, 10**9)]
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[-1] == 4096 // 16
    blocks = [memory.query_block(problem.model, layers, 4, budget, 100) for budget in (1, 10**6, 10**9)]
    assert blocks[0] == 1
    assert blocks == sorted(blocks)
    assert blocks[-1] == 100
    low, whole = (memory.query_block(problem.model, layers, 4, 10**6, 100, rank) for rank in (1, None))
    assert low > whole
    kept = [memory.kept_budget(problem.model, layers, 4, budget) for budget in (1, 10**6, 10**9)]
    assert kept[0] == 0
    assert 0 < kept[2] < 10**9


def test_layers_behind_the_first_covered_one_count_though_they_are_not_covered() -> None:
    model = tiny.gpt2(n_embd=64, n_layer=4)
    layers = select_layers(model)
    whole, first, last = (memory.pass_bytes(model, some) for some in (layers, layers[:1], layers[-1:]))
    assert whole / 2 < first < whole
    assert last < first / 2
    logits = 4 * 6 * model.config.vocab_size
    assert memory.pass_bytes(model, layers[:1], 8) == 2 * first
    assert last > logits
    packed = tiny.llama()
    some = select_layers(packed)[:1]
    before = memory.pass_bytes(packed, some)
    for module in packed.modules():  # as quantised layers hold their weights
        if isinstance(module, torch.nn.Linear) and module is not packed.get_submodule(some[0].name):
            module.weight = torch.nn.Parameter(torch.zeros(module.weight.numel() // 2, 1, dtype=torch.uint8), False)
    assert memory.pass_bytes(packed, some) == before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    """Blocks below the size that glibc maps alone stay with the process until they are asked back."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    held = [torch.ones(2_000_000) for _ in range(100)]
    fence = torch.ones(1000)
    before = resident()
    del held
    memory.give_back()
    assert before - resident() > 400_000_000
    assert float(fence.sum()) == 1000
