"""Before any work: floating point operations, bytes and passes of every route, the route taken and why.

Operations count 2 a multiply-add. Only shapes are read, so that a model on the `meta` device, whose
weights do not exist, can be planned for: 52 billion parameters and ten million sequences on a laptop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn

from inflab.cards import PlanTable, words
from inflab.errors import SettingError, check_count
from inflab.kronecker import rotates_tokens
from inflab.layer import Layer
from inflab.memory import batch_size, factor_bytes, kept_budget, pass_bytes, query_block
from inflab.preconditioned import low_rank_costs
from inflab.products import gram_share
from inflab.sections import sections
from inflab.workload import Workload

__all__ = ["pass_flops", "plan_fit", "plan_score"]

_EIGH = 9  # operations of a symmetric eigendecomposition with vectors, times n^3


@dataclass(frozen=True)
class Row:
    """One route of one step for one layer."""

    step: str
    layer: str
    route: str
    flops: float
    bytes: float = 0.0
    is_taken: bool = True
    why: str = ""


def pass_flops(model: nn.Module, layers: Sequence[Layer], tokens: float) -> float:
    """One forward and backward pass over one example: `4 x parameters x tokens`, and attention.

    Parameters are frozen: no gradient of a weight is computed, and none at all before the first covered layer. Looked
    up embeddings multiply nothing.

    Returns:
        Operations.
    """
    names = {name for layer in layers for name in layer.modules}
    weights: list[tuple[int, bool]] = []
    seen: set[int] = set()
    is_behind = False
    for name, module in model.named_modules():
        is_behind = is_behind or name in names
        for parameter in module.parameters(recurse=False):
            tied = id(parameter) in seen
            if parameter.ndim >= 2 and (tied or not isinstance(module, nn.Embedding)):
                weights.append((parameter.numel(), is_behind))
            seen.add(id(parameter))
    config: Any = getattr(model, "config", None)
    depth, width = (getattr(config, name, 0) or 0 for name in ("num_hidden_layers", "hidden_size"))
    products = sum(2 * n * tokens * (1 + is_behind) for n, is_behind in weights)
    # Scores and values, forward; each has two products backward. Causal masks save half where the kernel uses them.
    return products + 3 * 4 * depth * width * tokens**2


def rotation(work: Workload, layer: Layer, tokens: float) -> tuple[float, str]:
    """Operations that bring one example's gradient into the eigenbasis, and how each side is rotated."""
    outputs, width = layer.outputs, layer.width
    if tokens <= 1:
        return 2 * (outputs**2 + width**2), "one token: squares of both sides, no gradient"
    sides = {"gradient": (outputs, width), "activation": (width, outputs)}
    total, how = 2 * tokens * outputs * width, []
    for side, (own, other) in sides.items():
        by_token = rotates_tokens(int(tokens), other)
        total += 2 * own * own * (tokens if by_token else other)
        how.append(f"{side} {'tokens first' if by_token else 'after forming'}")
    return total, ", ".join(how)


def plan_fit(work: Workload, *, blocks: int = 1, shared: dict[str, str] | None = None) -> PlanTable:
    """The plan of an EK-FAC fit.

    Args:
        work: sizes.
        blocks: diagonal blocks of each covariance (GB23 App. A).
        shared: layer -> the first layer that reads the same input.

    Returns:
        One row a route; see `table`.
    """
    one = pass_flops(work.model, work.layers, work.tokens)
    total = work.examples * work.tokens
    kept = kept_budget(work.model, work.layers, work.itemsize, work.memory)
    needed = work.itemsize * total * sum(layer.width + layer.outputs for layer in work.layers)
    again = sections(work.model, work.layers) if needed > kept else []
    outside = [layer for layer in work.layers if all(layer not in section.layers for section in again)]
    ends = (
        work.itemsize
        * total
        * (sum(section.width for section in again) + sum(layer.width + layer.outputs for layer in outside))
    )
    held = ends if again else needed
    share = min(1.0, kept / held)
    # Forward through every layer of a section, backward through all but the first.
    replay = 2 * total * sum(2 * sum(n.parameters for n in s.layers) - s.layers[0].parameters for s in again)
    rows = [
        Row("pass", "", "twice", 2 * work.examples * one, 0, share == 0, "no captured token fits beside the factors"),
        Row(
            "pass",
            "",
            f"once, keeping {share:.0%} of {'what modules run again from' if again else 'the tokens'}",
            (2 - share) * work.examples * one + share * replay,
            share * held,
            share > 0,
            f"tokens take {words.size(needed)}"
            + (f", what they can be had from {words.size(ends)}" if again else "")
            + f", {words.size(kept)} are left for them",
        ),
    ]
    for layer in work.layers:
        rows += _fit_rows(work, layer, blocks, (shared or {}).get(layer.name, layer.name))
    size = batch_size(work.model, work.layers, math.ceil(work.tokens), work.memory, work.itemsize, work.batch)
    return table(work, rows, passes=2 - share, batch_size=size, kept=share)


def _fit_rows(work: Workload, layer: Layer, blocks: int, leader: str) -> Iterator[Row]:
    total = work.examples * work.tokens
    outputs, width = layer.outputs, layer.width
    is_one_hot = layer.kind == "Embedding"
    widths = [outputs, *([] if is_one_hot else [width])]
    held = work.itemsize * (outputs**2 + (width if is_one_hot else width**2))
    yield Row("covariances", layer.name, "whole", 2 * total * sum(n**2 for n in widths), held, False)
    is_shared = leader != layer.name
    sides = widths[:1] if is_shared else widths
    half = 2 * total * sum(n**2 * gram_share(n) for n in sides)
    how, why = ("upper half, A shared", f"as {leader}") if is_shared else ("upper half", "symmetric")
    yield Row("covariances", layer.name, how, half, held, True, why)
    bases = work.itemsize * sum(n**2 for n in sides)  # kept whole, zero outside the blocks
    yield Row("eigenbases", layer.name, f"{blocks} blocks", sum(_EIGH * n**3 / blocks**2 for n in sides), bases)
    formed = work.examples * (2 * work.tokens * outputs * width + 2 * outputs * width * (outputs + width))
    each, how = rotation(work, layer, work.tokens)
    yield Row("eigenvalues", layer.name, "gradients formed, then rotated", formed, 0, False)
    squares = work.itemsize * outputs * width
    yield Row(
        "eigenvalues", layer.name, how, work.examples * each, squares, True, "fewer multiplications, side by side"
    )


def plan_score(work: Workload, *, queries: int, query_tokens: float, rank: int | None = None) -> PlanTable:
    """The plan of scoring a query batch against the training data.

    Args:
        work: sizes.
        queries: how many.
        query_tokens: tokens of one, on average.
        rank: of the truncation, or None.

    Returns:
        One row a route; see `table`.

    Raises:
        SettingError: when a size is outside its domain.
    """
    check_count("queries", queries)
    if query_tokens < 1:
        raise SettingError(f"query_tokens={query_tokens!r} must be at least 1")
    block = query_block(work.model, work.layers, work.itemsize, work.memory, queries, rank)
    passes = -(-queries // block)
    one = pass_flops(work.model, work.layers, work.tokens)
    rows = [
        Row("query pass", "", "once", queries * pass_flops(work.model, work.layers, query_tokens)),
        Row("pass", "", "once a query", queries * work.examples * one, 0, False),
        Row("pass", "", f"{passes} for all queries", passes * work.examples * one, 0, True, f"{block} queries fit"),
    ]
    for layer in work.layers:
        rows += _score_rows(work, layer, queries, query_tokens, block, rank)
    size = batch_size(work.model, work.layers, math.ceil(work.tokens), work.memory, work.itemsize, work.batch)
    return table(work, rows, passes=passes, batch_size=size, query_block=block)


def _score_rows(
    work: Workload, layer: Layer, queries: int, query_tokens: float, block: int, rank: int | None
) -> Iterator[Row]:
    outputs, width = layer.outputs, layer.width
    passes, entries = -(-queries // block), outputs * width
    each, how = rotation(work, layer, query_tokens)
    rotated = each + (2 * query_tokens * entries if query_tokens <= 1 else 0)
    held = work.itemsize * block * (entries if rank is None else min(rank, outputs, width) * (outputs + width))
    if rank is not None and rank < min(outputs, width):  # the smaller Gram matrix, and one factor
        rotated += 2 * entries * (min(outputs, width) + rank)
    yield Row("query gradients", layer.name, how, queries * rotated, held)
    for side, own, other in (("gradient", outputs, width), ("activation", width, outputs)):
        if side == "activation" and layer.kind == "Embedding":
            continue
        by_token = work.tokens if rotates_tokens(int(work.tokens), other) else other
        forward = passes * work.examples * 2 * own * own * by_token
        across = other if rank is None else min(rank, outputs, width)
        back = queries * 2 * own * own * across
        is_forward = work.examples * by_token < block * across
        where = f"{side} side"
        yield Row(where, layer.name, "training tokens into the eigenbasis", forward, 0, is_forward, "many queries")
        yield Row(where, layer.name, "queries out of it", back, 0, not is_forward, "few queries")
    form = passes * work.examples * 2 * work.tokens * entries
    if rank is None or rank >= min(outputs, width):
        yield Row("products", layer.name, "gradients, then one product", form + 2 * queries * work.examples * entries)
        return
    size = batch_size(work.model, work.layers, math.ceil(work.tokens), work.memory, work.itemsize, work.batch)
    size = min(size, work.examples)
    costs = low_rank_costs(block, rank, size, work.tokens, (outputs, width))
    batches = 2 * passes * work.examples / size
    for cost, is_taken, how in (
        (costs[0], costs[0] < costs[1], "token by token at low rank"),
        (costs[1], costs[0] >= costs[1], "gradients, queries written out"),
    ):
        yield Row("products", layer.name, how, batches * cost, 0, is_taken, f"rank {rank}")


def table(work: Workload, rows: Sequence[Row], **settled: float) -> PlanTable:
    """The rows as a labelled table.

    Returns:
        Columns `step`, `layer`, `route`, `flops`, `bytes` (held while the step runs), `share` (of the operations of the
        routes taken), `seconds` (at the measured or given rate), `taken`, `why`. `attrs`: `flops`, `seconds`,
        `bytes` (the largest that is held at once, factors included), `memory` (the budget), `parameters`, `passes`,
        `batch_size` and more.
    """
    frame = pd.DataFrame([vars(row) for row in rows]).rename(columns={"is_taken": "taken"})
    taken = frame[frame["taken"]]
    total = float(taken["flops"].sum())
    frame["share"] = (frame["flops"] / total).where(frame["taken"], 0.0)
    frame["seconds"] = frame["flops"] / work.rate if work.rate else math.nan
    factors = factor_bytes(work.layers, work.itemsize)
    working = settled["batch_size"] * math.ceil(work.tokens) * pass_bytes(work.model, work.layers, work.itemsize)
    parts = taken.groupby("step")["bytes"].sum()
    held = float(parts.get("pass", 0.0) + parts.get("query gradients", 0.0))
    totals: dict[str, float] = {
        "flops": total,
        "seconds": total / work.rate if work.rate else math.nan,
        "bytes": factors + working + held,
        "memory": work.memory,
        "factor_bytes": factors,
        "parameters": sum(p.numel() for p in work.model.parameters()),
        "covered": sum(layer.parameters for layer in work.layers),
        "examples": work.examples,
        "tokens": work.tokens,
    }
    found = PlanTable(frame[["step", "layer", "route", "flops", "bytes", "share", "seconds", "taken", "why"]])
    found.attrs.update({**totals, **settled})
    return found
