"""Sizes before work: how many examples a pass takes at a time, how many queries are held at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
import xarray as xr
from torch import nn

from inflab.corpus import corpus_dim
from inflab.errors import SettingError, check_count, is_finite_number
from inflab.layer import Layer

__all__ = ["batch_size", "available_memory", "parse_memory", "query_block"]

_CGROUP = Path("/sys/fs/cgroup")
_LARGEST_BATCH = 32
_BATCH_TOKENS = 4096  # beyond this many tokens a pass gains nothing and only costs memory
_WORKING = 10**9  # bytes: nor does it gain by more than this for what comes and goes with a batch


def parse_memory(memory: int | str | None, device: torch.device) -> int:
    """A memory budget in bytes.

    Args:
        memory: bytes, or a text such as "3GB" or "500 MB" (powers of 1000; GiB, MiB: of 1024); None takes half of
            what the device has free.
        device: where the work runs.

    Returns:
        Bytes.

    Raises:
        SettingError: when it is not a positive size.
    """
    if memory is None:
        return available_memory(device) // 2
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kmgt]?)(i?)b?\s*", memory.lower())
        if match is None:
            raise SettingError(f"memory={memory!r} is not a size; write '3GB', '500MB' or a number of bytes")
        number, scale, binary = match.groups()
        memory = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(scale or " "))
    if not is_finite_number(memory) or memory < 1:
        raise SettingError(f"memory={memory!r} must be positive; write '3GB', '500MB' or a number of bytes")
    return int(memory)


def available_memory(device: torch.device) -> int:
    """Bytes free on the device now; on a CPU, what the system or the container can give without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: a modest guess
        available = 4 * 1024**3
    try:  # a container (Binder) may have far less than its machine
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available
    return max(0, min(available, limit - used))


def batch_size(model: nn.Module, corpus: xr.Dataset, layers: Sequence[Layer], memory: int, wanted: int | None) -> int:
    """Examples in one pass: as many as the budget holds, at most 32, and about 4,096 tokens.

    Args:
        model: gives the vocabulary's size, whose logits are the largest tensor of a language model.
        corpus: gives the length of an example.
        layers: the covered layers: their activations, gradients and per-example products are held.
        memory: budget in bytes.
        wanted: the user's own choice, taken as it is.

    Returns:
        At least 1.

    Raises:
        SettingError: when `wanted` is below 1.
    """
    n = corpus.sizes[corpus_dim(corpus)]
    if wanted is not None:
        check_count("batch_size", wanted, "None for the budget's own")
        return min(wanted, n)
    tokens = corpus.sizes.get("token", 1)
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", 0)
    held = 2 * tokens * sum(layer.width for layer in layers)
    largest = 3 * max(layer.width * layer.outputs for layer in layers)
    # Logits, their selection, log-softmax, and the gradients of each.
    per_example = 4 * (held + largest + 6 * tokens * vocabulary)
    memory = min(memory // 2, _WORKING)
    return max(1, min(n, _LARGEST_BATCH, _BATCH_TOKENS // tokens or 1, memory // per_example))


def query_block(layers: Sequence[Layer], itemsize: int, memory: int, n_queries: int) -> int:
    """Queries whose preconditioned gradients fit half the budget: each block costs one pass over the training data."""
    per_query = itemsize * sum(layer.width * layer.outputs for layer in layers)
    return max(1, min(n_queries, memory // (2 * per_query)))
