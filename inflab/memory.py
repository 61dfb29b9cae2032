"""Sizes before work, from a memory budget: examples in a pass, queries held at once, tokens kept between passes."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inflab.errors import SettingError, is_finite_number
from inflab.layer import Layer

__all__ = [
    "available_memory",
    "batch_size",
    "decompositions",
    "factor_bytes",
    "give_back",
    "kept_budget",
    "parse_memory",
    "pass_bytes",
    "query_block",
    "working_bytes",
]

_CGROUP = Path("/sys/fs/cgroup")
_LEAST = 1000  # bytes: who writes 3 hardly means three of them
_BATCH_TOKENS = 4096  # beyond this many tokens a pass gains nothing and only costs memory
_WORKING = 10**9  # bytes: nor does it gain by more than this for what comes and goes with a batch
_GPU_TOKENS = 8192  # what fills a GPU, which takes as much memory as that needs


def parse_memory(memory: int | str | None, device: torch.device) -> int:
    """A memory budget in bytes.

    Args:
        memory: bytes, or a text such as "3GB" or "500 MB" (powers of 1000; GiB, MiB: of 1024); None takes half of
            what the device has free.
        device: where the work runs.

    Returns:
        Bytes.

    Raises:
        SettingError: when it is no size, or a bare number below 1,000.
    """
    if memory is None:
        return available_memory(device) // 2
    is_bare = not isinstance(memory, str)
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kmgt]?)(i?)(b?)\s*", memory.lower())
        if match is None or not (match[2] or match[4]):  # "3" is hardly three bytes
            raise SettingError(f"memory={memory!r} is not a size; write '3GB', '500MB' or a number of bytes")
        number, scale, binary, _ = match.groups()
        memory = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(scale or " "))
    if not is_finite_number(memory) or memory < 1:
        raise SettingError(f"memory={memory!r} must be positive; write '3GB', '500MB' or a number of bytes")
    if is_bare and memory < _LEAST:
        raise SettingError(f"memory={memory!r} means so many bytes, in which nothing fits; write '3GB' or '500MB'")
    return int(memory)


def available_memory(device: torch.device) -> int:
    """Bytes free on the device now; on a CPU, what the system or the container can give without swapping."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(
            device
        )  # torch's own, to be used again
        return int(torch.cuda.mem_get_info(device)[0]) + unused
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


def give_back() -> None:
    """Return freed memory to the system where the C library would keep it: a fit frees tokens by the gigabyte."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def pass_bytes(model: nn.Module, layers: Sequence[Layer], itemsize: int = 4) -> int:
    """Bytes that come and go with each token of a batch: logits and their gradients, activations held for the layers.

    Logits, their selection, log-softmax and the gradients of each make six. Covered layers hold three times their own
    inputs and outputs. Where few are covered, all linear layers behind the first still wait for the backward pass, with
    a fifth as much of what lies between them, and three of the widest are under way. Measured on a GPT-NeoX of width
    256, in thousands: 110 to 124 with all MLP layers covered (147 are taken), 94 to 106 with the first alone (111), 42
    to 47 with the last (46).

    Returns:
        Bytes.
    """
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", 0)
    covered = sum(layer.width + layer.outputs for layer in layers)
    behind, widest, is_behind = 0, 0, False
    find: Any = getattr(model, "get_output_embeddings", None)
    head = None if find is None else find()
    for name, module in model.named_modules():
        is_behind = is_behind or name == layers[0].modules[0]
        if module is not head:
            size = _ends(module)
            widest, behind = max(widest, size), behind + is_behind * size
    return itemsize * (max(3 * covered, 6 * behind // 5 + 3 * widest) + 6 * vocabulary)


def _ends(module: nn.Module) -> int:
    """Numbers a token that go into a linear module and come out of it; 0 for any other."""
    sizes = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if isinstance(sizes[0], int) and isinstance(sizes[1], int):  # quantised weights have other shapes
        return sizes[0] + sizes[1]
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Embedding) or not isinstance(weight, Tensor) or not weight.is_floating_point():
        return 0
    return sum(weight.shape) if weight.ndim == 2 else 0


def batch_size(
    model: nn.Module, layers: Sequence[Layer], tokens: int, memory: int, itemsize: int = 4, wanted: int | None = None
) -> int:
    """Examples in one pass: as many as the budget holds, at most about 4,096 tokens, on a GPU 8,192.

    Args:
        model: gives the vocabulary's size, whose logits are the largest tensor of a language model.
        layers: the covered layers: their activations and gradients are held.
        tokens: of the longest example.
        memory: budget in bytes; a quarter of it is used, on a GPU half.
        itemsize: bytes of a number.
        wanted: the user's own choice, taken as it is.

    Returns:
        At least 1.
    """
    if wanted is not None:
        return wanted
    most, working = _largest_batch(model, memory)
    return max(1, min(most // tokens, working // (tokens * pass_bytes(model, layers, itemsize))))


def working_bytes(model: nn.Module, layers: Sequence[Layer], memory: int, itemsize: int = 4) -> int:
    """What of a budget comes and goes with the batches of a pass: at most what a full one takes, and `batch_size`'s."""
    most, working = _largest_batch(model, memory)
    return min(working, most * pass_bytes(model, layers, itemsize))


def _largest_batch(model: nn.Module, memory: int) -> tuple[int, int]:
    """Tokens, and bytes of a budget."""
    if any(value.is_cuda for value in model.parameters()):
        return _GPU_TOKENS, memory // 2
    return _BATCH_TOKENS, min(memory // 4, _WORKING)


def factor_bytes(layers: Sequence[Layer], itemsize: int = 4) -> int:
    """Both eigenbases and the eigenvalues of every layer."""
    return itemsize * sum(layer.width**2 + layer.outputs**2 + layer.width * layer.outputs for layer in layers)


def query_block(
    model: nn.Module, layers: Sequence[Layer], itemsize: int, memory: int, n_queries: int, rank: int | None = None
) -> int:
    """Queries whose preconditioned gradients fit beside factors and batches; each block costs a pass over the data.

    Args:
        model: gives the size of a batch.
        layers: the covered layers.
        itemsize: bytes of a number.
        memory: budget in bytes.
        n_queries: how many there are.
        rank: of the truncation, or None.

    Returns:
        At least 1, at most `n_queries`.
    """
    sizes = [
        layer.width * layer.outputs
        if rank is None
        else min(rank, layer.width, layer.outputs) * (layer.width + layer.outputs)
        for layer in layers
    ]
    left = memory - working_bytes(model, layers, memory, itemsize) - factor_bytes(layers, itemsize)
    return max(1, min(n_queries, max(left, memory // 4) // (itemsize * sum(sizes))))


def decompositions(model: nn.Module, layers: Sequence[Layer], memory: int) -> int:
    """Eigendecompositions side by side, one a core, as a quarter of the budget holds."""
    if any(value.is_cuda for value in model.parameters()):
        return 1
    return max(1, min(torch.get_num_threads(), memory // 4 // _decomposition_bytes(layers)))


def kept_budget(model: nn.Module, layers: Sequence[Layer], itemsize: int, memory: int) -> int:
    """Bytes that a fit may keep from its first pass for its second: what its largest step leaves over, less a quarter.

    That is a pass beside the sums, or the eigendecompositions, where covariances and eigenvectors are there together.

    Returns:
        Bytes, not negative.
    """
    factors = factor_bytes(layers, itemsize)
    decomposing = 2 * factors + decompositions(model, layers, memory) * _decomposition_bytes(layers)
    passing = working_bytes(model, layers, memory, itemsize) + factors
    return max(0, memory - memory // 4 - max(decomposing, passing))


def _decomposition_bytes(layers: Sequence[Layer]) -> int:
    """Of the widest: the matrix, its symmetric part, eigenvectors and room to work, about seven in float64."""
    return 7 * 8 * max(max(layer.width, layer.outputs) for layer in layers) ** 2
