"""The pass over the queries: their gradients, preconditioned and held ready for scoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inflab.kronecker import Curvature, rotate
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.memory import query_block
from inflab.preconditioned import Preconditioned, Sides, choose_sides, low_rank, truncation_weights
from inflab.run.gauss_newton import by_layer
from inflab.run.local import Pass
from inflab.run.solve import Solved, raw_gradients

__all__ = ["Truncation", "query_blocks", "query_gradients", "truncation_error"]

#: "whitened" minimises the error of scores, "plain" that of the gradients (GB23 section 3.2.2).
Truncation = Literal["whitened", "plain"]


def query_gradients(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    positions: np.ndarray,
    rank: int | None = None,
    *,
    truncation: Truncation = "plain",
    against: xr.Dataset | None = None,
    among: int | None = None,
) -> dict[str, Preconditioned]:
    """Preconditioned gradient of each query's measurement: `(G + lambda I)^-1 grad f`.

    Args:
        run: the pass.
        curvatures: of each layer; or a `Solved`, which finds the product iteratively, over all layers jointly.
        queries: the query batch.
        positions: which queries.
        rank: truncate each to this rank (GB23 section 3.2.2), or None.
        truncation: in which norm, with `rank`.
        against: the training sequences these will be scored against: decides which sides stay in the eigenbasis.
            None rotates both back.
        among: how many queries will be scored in one pass with these; only these when None.

    Returns:
        Layer name -> `Preconditioned`, rows in the order of `positions`.
    """
    if isinstance(curvatures, Solved):
        return _solved(run, curvatures, queries, positions, rank, truncation)
    # Written in place: parts to be joined later would need twice the memory.
    held: dict[str, dict[str, Tensor]] = {layer.name: {} for layer in run.layers}
    among = len(positions) if among is None else among
    sides = {layer.name: _sides(curvatures[layer.name], layer, among, rank, against) for layer in run.layers}
    row_of = {int(position): row for row, position in enumerate(positions)}

    def keep(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        curvature = curvatures[layer.name]
        rows = np.array([row_of[int(position)] for position in index])
        ready = curvature.rotated(tokens.activation, tokens.gradient, tokens.width, tokens.memo)
        mine, into = held[layer.name], None
        if rank is None:
            if "dense" not in mine:
                mine["dense"] = tokens.gradient.new_empty(len(positions), layer.outputs, layer.width)
            if (np.diff(rows) == 1).all():  # formed where they stay
                into = mine["dense"][rows[0] : rows[0] + len(rows)]
        for part, grad_qoi in ready.parts(into):
            found = _finish(curvature.divide(grad_qoi), curvature, sides[layer.name], rank, truncation)
            for name, value in found.items():
                if name not in mine:
                    mine[name] = value.new_empty(len(positions), *value.shape[1:])
                if into is None or value.data_ptr() != into[part].data_ptr():
                    mine[name][_slice(rows[part])] = value

    run.over(queries, "measurement", keep, what="queries", positions=positions)
    return {
        layer.name: Preconditioned(curvatures[layer.name], sides[layer.name], **held[layer.name])
        for layer in run.layers
    }


def _slice(rows: np.ndarray) -> slice | Tensor:
    """Rows to be written to: in a row, as a slice, for which nothing is asked of a GPU."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if (np.diff(rows) == 1).all() else torch.from_numpy(rows)


def _solved(
    run: Pass,
    solved: Solved,
    queries: xr.Dataset,
    positions: np.ndarray,
    rank: int | None,
    truncation: Truncation,
) -> dict[str, Preconditioned]:
    """The same, found iteratively: solutions are in the layers' own bases, and training gradients meet them there."""
    held: dict[str, dict[str, Tensor]] = {layer.name: {} for layer in run.layers}
    own = Sides(gradient=False, activation=False)
    for part in solved.blocks(run, len(positions)):
        value_qp = raw_gradients(run, queries, "measurement", positions[part], "queries")
        found_qp, residual_q = solved.solve(run, value_qp)
        del value_qp
        for name, value_qoi in by_layer(run.layers, found_qp).items():
            found: dict[str, Tensor] = {"dense": value_qoi}
            if rank is not None and rank < min(value_qoi.shape[1:]):
                curvature = solved[name]
                value_qoi = rotate(value_qoi, curvature.gradient_basis, curvature.activation_basis)
                found = _finish(value_qoi, curvature, own, rank, truncation)
            for kind, value in (found | {"residual": residual_q}).items():
                if kind not in held[name]:
                    held[name][kind] = value.new_empty(len(positions), *value.shape[1:])
                held[name][kind][part] = value
    return {name: Preconditioned(solved[name], own, **parts) for name, parts in held.items()}


def query_blocks(run: Pass, n_query: int, rank: int | None = None) -> Iterator[np.ndarray]:
    """Positions of the queries, in blocks whose gradients fit the memory budget together.

    Yields:
        Positions of one block.
    """
    size = query_block(run.problem.model, run.layers, run.itemsize(), run.budget(), n_query, rank)
    for start in range(0, n_query, size):
        yield np.arange(start, min(start + size, n_query))


def truncation_error(ready: Mapping[str, Preconditioned]) -> np.ndarray:
    """Relative error of each truncated query over all layers, `(q,)`, in the norm that was minimised; 0 if exact."""
    n = len(next(iter(ready.values())))
    lost, whole = np.zeros(n), np.zeros(n)
    for held in ready.values():
        if held.lost is not None and held.whole is not None:
            lost += held.lost.double().cpu().numpy()
            whole += held.whole.double().cpu().numpy()
    return np.sqrt(lost / np.where(whole > 0, whole, 1))


def _sides(curvature: Curvature, layer: Layer, queries: int, rank: int | None, against: xr.Dataset | None) -> Sides:
    if against is None:
        return Sides(gradient=False, activation=False)
    is_text = against.get("is_text")
    tokens = 1.0 if is_text is None else float(is_text.sum()) / against.sizes["train"]
    return choose_sides(curvature, (layer.outputs, layer.width), queries, against.sizes["train"], tokens, rank)


def _finish(
    value_qoi: Tensor, curvature: Curvature, sides: Sides, rank: int | None, truncation: Truncation
) -> dict[str, Any]:
    """Truncate in the eigenbasis where that is asked for, and rotate the sides back that are met in the layer's own."""
    left = None if sides.gradient or curvature.gradient_basis is None else curvature.gradient_basis.T
    right = None if sides.activation or curvature.activation_basis is None else curvature.activation_basis.T
    if rank is None or rank >= min(value_qoi.shape[1:]):
        return {"dense": rotate(value_qoi, left, right)}
    weights = truncation_weights(curvature) if truncation == "whitened" else None
    left_qor, right_qri, lost_q, whole_q = low_rank(value_qoi, rank, weights)
    return {
        "left": rotate(left_qor, left, None),
        "right": rotate(right_qri, None, right),
        "lost": lost_q,
        "whole": whole_q,
    }
