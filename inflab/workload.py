"""Work in sizes alone, as a plan reads it: a model's shapes, a corpus' lengths, a budget, and how fast products are."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import xarray as xr
from torch import nn

from inflab.corpus import corpus_dim
from inflab.errors import SettingError, check_count
from inflab.layer import Layer
from inflab.memory import parse_memory
from inflab.products import as_right_side, product

__all__ = ["Workload", "mean_tokens", "product_rate", "workload"]


@dataclass(frozen=True)
class Workload:
    """What is to be done, in sizes.

    Attributes:
        model: any module; only its shapes are read.
        layers: the covered layers.
        examples: training sequences.
        tokens: tokens of one of them, on average.
        memory: budget in bytes.
        rate: floating point operations in a second that matrix products reach; None gives no times.
        itemsize: bytes of a number.
        batch: examples in a pass, or None for the budget's own.
    """

    model: nn.Module
    layers: Sequence[Layer]
    examples: int
    tokens: float
    memory: int
    rate: float | None = None
    itemsize: int = 4
    batch: int | None = None

    def __post_init__(self) -> None:
        check_count("examples", self.examples)
        if not (math.isfinite(self.tokens) and self.tokens >= 1):
            raise SettingError(f"tokens={self.tokens!r} must be at least 1, the mean length of an example")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise SettingError(f"rate={self.rate!r} must be positive: floating point operations in a second")


def workload(
    model: nn.Module,
    layers: Sequence[Layer],
    *,
    examples: int,
    tokens: float,
    memory: int | str | None = None,
    rate: float | None = None,
    batch: int | None = None,
) -> Workload:
    """Sizes of work with this model, its budget and its rate; a model on `meta` is taken to run on this machine's CPU.

    Args:
        model: any module.
        layers: the covered layers.
        examples: training sequences.
        tokens: tokens of one of them, on average.
        memory: budget such as "80GB"; half of what is free when None.
        rate: floating point operations in a second; measured in a fraction of a second when None.
        batch: examples in a pass, or None.

    Returns:
        A `Workload`.
    """
    weights = [*model.parameters(), *model.buffers()]
    device = next((value.device for value in weights if not value.is_meta), torch.device("cpu"))
    itemsize = 8 if any(value.dtype == torch.float64 for value in weights) else 4
    budget = parse_memory(memory, device)
    rate = product_rate(device) if rate is None else rate
    return Workload(model, layers, examples, tokens, budget, rate, itemsize, batch)


def mean_tokens(corpus: xr.Dataset) -> float:
    """Tokens of text of an example, on average; 1 for tables."""
    is_text = corpus.get("is_text")
    return 1.0 if is_text is None else float(is_text.sum()) / corpus.sizes[corpus_dim(corpus)]


def product_rate(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 1024) -> float:
    """Floating point operations in a second that a large matrix product reaches here: the median of five."""
    a = torch.randn(2 * size, size, dtype=dtype, device=device)
    b = as_right_side(torch.randn(size, size, dtype=dtype, device=device))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        product(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 4 * size**3 / sorted(seconds[1:])[2]
