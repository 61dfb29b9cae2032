"""Scoring passes: query gradients, one pass over the training data, self-influence, attribution of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inflab import kronecker
from inflab.errors import LayerError
from inflab.kronecker import Curvature
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.plan import query_block
from inflab.run.local import Pass

__all__ = ["pair_blocks", "query_gradients", "score_pairs", "score_rows", "self_influence", "token_pairs", "token_scores"]


def query_gradients(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    positions: np.ndarray,
    rank: int | None = None,
) -> dict[str, Tensor]:
    """Preconditioned gradient of each query's measurement: `(G + lambda I)^-1 grad f`.

    Args:
        run: the pass.
        curvatures: of each layer.
        queries: the query batch.
        positions: which queries.
        rank: truncate each to this rank (GB23 section 3.2.2), or None.

    Returns:
        Layer name -> `(q, o, i)`.
    """
    # Written in place: parts to be joined later would need twice the memory.
    ready: dict[str, Tensor] = {}
    row_of = {int(position): row for row, position in enumerate(positions)}

    def keep(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        curvature = curvatures[layer.name]
        ready_qoi = curvature.restore(curvature.rotated_gradients(tokens.activation, tokens.gradient, tokens.width))
        if layer.name not in ready:
            ready[layer.name] = ready_qoi.new_empty(len(positions), *ready_qoi.shape[1:])
        rows = [row_of[int(position)] for position in index]
        ready[layer.name][rows] = ready_qoi if rank is None else kronecker.truncate(ready_qoi, rank)

    run.over(queries, "measurement", keep, what="queries", positions=positions)
    return ready


def score_rows(
    run: Pass, queries: Mapping[str, Tensor], train: xr.Dataset, positions: np.ndarray, *, by_layer: bool
) -> np.ndarray:
    """Influence of some training sequences on the queries: one pass over them for all queries.

    Args:
        run: the pass.
        queries: of `query_gradients`.
        train: the training corpus.
        positions: which training sequences.
        by_layer: whether layers are kept apart.

    Returns:
        `(query, position)`, or `(query, position, layer)`: `grad f^T (G + lambda I)^-1 grad L`, the sign being positive
        when training on the sequence raises f.
    """
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    n_query = len(next(iter(queries.values())))
    shape = (n_query, len(positions), len(run.layers)) if by_layer else (n_query, len(positions))
    scores = np.zeros(shape, dtype=_dtype(run))

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        columns = np.searchsorted(positions, index)
        grad_boi = kronecker.example_gradients(tokens.activation, tokens.gradient, tokens.width)
        # The loss is -log p of the sequence, f is log p of the completion: the gradient of L enters with a minus.
        value_qb = -(queries[layer.name].flatten(1) @ grad_boi.flatten(1).T).cpu().numpy()
        if by_layer:
            scores[:, columns, place[layer.name]] = value_qb
        else:
            scores[:, columns] += value_qb

    run.over(train, "loss", add, what="scores", positions=positions)
    return scores


def score_pairs(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    train: xr.Dataset,
    *,
    by_layer: bool,
    rank: int | None,
) -> np.ndarray:
    """Influence of every training sequence on every query.

    All queries that fit the memory budget share one pass over the training data; each further block costs one more.

    Returns:
        `(query, train)`, or `(query, train, layer)` when `by_layer`.
    """
    positions = np.arange(train.sizes["train"])
    blocks = []
    for rows in _query_blocks(run, queries.sizes["query"], np.dtype(_dtype(run)).itemsize):
        ready = query_gradients(run, curvatures, queries, rows, rank)
        blocks.append(score_rows(run, ready, train, positions, by_layer=by_layer))
    return np.concatenate(blocks)


def self_influence(
    run: Pass, curvatures: Mapping[str, Curvature], train: xr.Dataset, positions: np.ndarray, *, by_layer: bool
) -> np.ndarray:
    """Influence of each sequence on its own log-probability: `sum G_rot^2 / (Lambda + lambda)`, never rotated back.

    Returns:
        `(position,)`, or `(position, layer)` when `by_layer`; never negative.
    """
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    values = np.zeros((len(positions), len(run.layers)), dtype=_dtype(run))

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        curvature = curvatures[layer.name]
        rotated_boi = curvature.rotated_gradients(tokens.activation, tokens.gradient, tokens.width)
        values[np.searchsorted(positions, index), place[layer.name]] = curvature.norm(rotated_boi).cpu().numpy()

    run.over(train, "loss", add, what="self-influence", positions=positions)
    return values if by_layer else values.sum(axis=1)


def token_scores(
    run: Pass, curvatures: Mapping[str, Curvature], queries: xr.Dataset, train: xr.Dataset, pairs: np.ndarray
) -> np.ndarray:
    """Influence by layer and training token of chosen pairs (GB23 eqs. 30, 31).

    Args:
        run: the pass.
        curvatures: of each layer.
        queries: the query batch.
        train: the training corpus.
        pairs: `(pair, 2)`: positions of query and training sequence.

    Returns:
        `(pair, layer, token)`, tokens at their columns in `train`. Sums over layers and tokens are the scores.
    """
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    is_text = train["is_text"].transpose("train", "token").to_numpy()
    values = np.zeros((len(pairs), len(run.layers), is_text.shape[1]), dtype=_dtype(run))
    for mine, rows in pair_blocks(run, pairs, values.itemsize):
        ready = query_gradients(run, curvatures, queries, rows)
        wanted = np.unique(pairs[mine, 1])

        def add(
            index: np.ndarray, layer: Layer, tokens: Tokens,
            ready: dict[str, Tensor] = ready, rows: np.ndarray = rows, mine: np.ndarray = mine,
        ) -> None:  # fmt: skip
            width = int(is_text[index].sum(axis=1).max())
            for row, position in enumerate(index):
                columns = np.flatnonzero(is_text[position])  # texts begin at the first column of a batch
                here = mine[pairs[mine, 1] == position]
                matrix_poi = ready[layer.name][np.searchsorted(rows, pairs[here, 0])]
                repeat = (a[row].expand(len(here), *a.shape[1:]) for a in (tokens.activation, tokens.gradient))
                value_pt = -kronecker.token_influence(matrix_poi, *repeat)
                value_pt = _sum_uses(value_pt, width, layer)[:, : len(columns)]
                values[here[:, None], place[layer.name], columns[None]] = value_pt.cpu().numpy()

        run.over(train, "loss", add, what="tokens", positions=wanted)
    return values


def token_pairs(
    run: Pass, curvatures: Mapping[str, Curvature], queries: xr.Dataset, train: xr.Dataset, pairs: np.ndarray
) -> np.ndarray:
    """Influence by layer, training token and query token of chosen pairs (METHOD section 5).

    Returns:
        `(pair, layer, token, query_token)`. Sums over query tokens are `token_scores`.
    """
    kept: dict[tuple[str, int], tuple[Tensor, Tensor, int]] = {}
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    text_q, text_t = (c["is_text"].transpose(d, "token").to_numpy() for c, d in ((queries, "query"), (train, "train")))
    shape = (len(pairs), len(run.layers), text_t.shape[1], text_q.shape[1])
    values = np.zeros(shape, dtype=_dtype(run))

    def keep(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        for row, position in enumerate(index):
            kept[layer.name, int(position)] = tokens.activation[row], tokens.gradient[row], tokens.width

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        width = int(text_t[index].sum(axis=1).max())
        for row, position in enumerate(index):
            columns = np.flatnonzero(text_t[position])
            train_tokens = (tokens.activation[row], tokens.gradient[row], tokens.width)
            for pair in np.flatnonzero(pairs[:, 1] == position):
                query = int(pairs[pair, 0])
                value_st = -kronecker.pair_influence(curvatures[layer.name], kept[layer.name, query], train_tokens)
                value_st = _sum_uses(value_st, width, layer)[:, : len(columns)]
                query_columns = np.flatnonzero(text_q[query])
                value_ts = _sum_uses(value_st.T, query_width, layer)[:, : len(query_columns)]
                values[pair, place[layer.name], columns[:, None], query_columns[None]] = value_ts.cpu().numpy()

    wanted_q, wanted_t = (np.unique(pairs[:, side]) for side in (0, 1))
    query_width = int(text_q[wanted_q].sum(axis=1).max())  # one query batch, so that all queries share their width
    whole = Pass(**{**vars(run), "batch_size": max(len(wanted_q), 1)})
    whole.over(queries, "measurement", keep, what="query tokens", positions=wanted_q)
    run.over(train, "loss", add, what="token pairs", positions=wanted_t)
    return values


def _query_blocks(run: Pass, n_query: int, itemsize: int) -> Iterator[np.ndarray]:
    """Positions of the queries, in blocks whose gradients fit the memory budget together.

    Yields:
        Positions of one block.
    """
    size = query_block(run.layers, itemsize, run.budget(), n_query)
    for start in range(0, n_query, size):
        yield np.arange(start, min(start + size, n_query))


def pair_blocks(run: Pass, pairs: np.ndarray, itemsize: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of `pairs`, in blocks whose queries' gradients fit the memory budget together.

    Yields:
        Rows of one block, and the positions of its queries, ascending.
    """
    asked = np.unique(pairs[:, 0])
    for block in _query_blocks(run, len(asked), itemsize):
        yield np.flatnonzero(np.isin(pairs[:, 0], asked[block])), asked[block]


def _sum_uses(value_pt: Tensor, length: int, layer: Layer) -> Tensor:
    """Tokens of a layer used several times come in a row: sum over uses."""
    if value_pt.shape[1] % length:
        raise LayerError(
            f"{layer.name!r} has {value_pt.shape[1]} positions where the text has {length} tokens: its influence has "
            "no place in the text; fit without it, with layers="
        )
    return value_pt.reshape(len(value_pt), -1, length).sum(1)


def _dtype(run: Pass) -> type[np.floating]:
    is_double = any(p.dtype == torch.float64 for p in run.problem.model.parameters())
    return np.float64 if is_double else np.float32
