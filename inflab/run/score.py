"""Scoring passes: one pass over training sequences for all queries, and self-influence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from inflab.kronecker import Curvature
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.preconditioned import Preconditioned
from inflab.products import Scratch
from inflab.run.gathered import Gathered
from inflab.run.local import Pass

__all__ = ["score_rows", "self_influence"]


def score_rows(
    run: Pass, queries: Mapping[str, Preconditioned], train: xr.Dataset, positions: np.ndarray, *, by_layer: bool
) -> np.ndarray:
    """Influence of some training sequences on the queries: one pass over them for all queries.

    Args:
        run: the pass.
        queries: of `query_gradients`.
        train: the training corpus.
        positions: which training sequences, ascending.
        by_layer: whether layers are kept apart.

    Returns:
        `(query, position)`, or `(query, position, layer)`: `grad f^T (G + lambda I)^-1 grad L`, the sign being positive
        when training on the sequence raises f.
    """
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    n_query = len(next(iter(queries.values())))
    shape = (n_query, len(positions), len(run.layers)) if by_layer else (n_query, len(positions))
    scores = np.zeros(shape, dtype=np.float64 if run.itemsize() == 8 else np.float32)

    def put(where: tuple[np.ndarray, int], value_qb: np.ndarray) -> None:
        columns, row = where
        # The loss is -log p of the sequence, f is log p of the completion: the gradient of L enters with a minus.
        if by_layer:
            scores[:, columns, row] = -value_qb
        else:
            scores[:, columns] -= value_qb

    gathered, scratch = Gathered(put), Scratch()

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        ready = queries[layer.name]
        met = ready.meet(tokens.activation, tokens.gradient, tokens.width, tokens.memo)
        gathered.add((np.searchsorted(positions, index), place[layer.name]), ready.scores(met, scratch))

    run.over(train, "loss", add, what="scores", positions=positions)
    gathered.flush()
    return scores


def self_influence(
    run: Pass, curvatures: Mapping[str, Curvature], train: xr.Dataset, positions: np.ndarray, *, by_layer: bool
) -> np.ndarray:
    """Influence of each sequence on its own log-probability: `sum G_rot^2 / (Lambda + lambda)`, never rotated back.

    Returns:
        `(position,)`, or `(position, layer)` when `by_layer`; never negative.
    """
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    weights = {name: curvature.weights() for name, curvature in curvatures.items()}
    values = np.zeros((len(positions), len(run.layers)), dtype=np.float64 if run.itemsize() == 8 else np.float32)

    gathered = Gathered(values.__setitem__)

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        ready = curvatures[layer.name].rotated(tokens.activation, tokens.gradient, tokens.width, tokens.memo)
        value_b = ready.norms(weights[layer.name])
        gathered.add((np.searchsorted(positions, index), place[layer.name]), value_b)

    run.over(train, "loss", add, what="self-influence", positions=positions)
    gathered.flush()
    return values if by_layer else values.sum(axis=1)
