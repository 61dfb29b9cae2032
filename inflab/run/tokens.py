"""Attribution passes: influence of chosen pairs by layer and token, one-sided and token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inflab import kronecker
from inflab.errors import LayerError
from inflab.kronecker import Curvature
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.preconditioned import Preconditioned
from inflab.run.local import Pass
from inflab.run.queries import query_blocks, query_gradients

__all__ = ["pair_blocks", "token_pairs", "token_scores"]


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
    values = np.zeros(
        (len(pairs), len(run.layers), is_text.shape[1]), dtype=np.float64 if run.itemsize() == 8 else np.float32
    )
    for mine, rows in pair_blocks(run, pairs):
        ready = query_gradients(run, curvatures, queries, rows)
        wanted = np.unique(pairs[mine, 1])

        def add(
            index: np.ndarray, layer: Layer, tokens: Tokens,
            ready: dict[str, Preconditioned] = ready, rows: np.ndarray = rows, mine: np.ndarray = mine,
        ) -> None:  # fmt: skip
            width = int(is_text[index].sum(axis=1).max())
            for row, position in enumerate(index):
                columns = np.flatnonzero(is_text[position])  # texts begin at the first column of a batch
                here = mine[pairs[mine, 1] == position]
                matrix_poi = ready[layer.name].to_dense(torch.from_numpy(np.searchsorted(rows, pairs[here, 0])))
                repeat = (a[row].expand(len(here), *a.shape[1:]) for a in (tokens.activation, tokens.gradient))
                value_pt = -kronecker.token_influence(matrix_poi, *repeat)
                value_pt = _sum_uses(value_pt, width, layer)[:, : len(columns)]
                values[here[:, None], place[layer.name], columns[None]] = value_pt.cpu().numpy()

        run.over(train, "loss", add, what="tokens", positions=wanted)
        del ready, add  # before the next block's come
    return values


def token_pairs(
    run: Pass, curvatures: Mapping[str, Curvature], queries: xr.Dataset, train: xr.Dataset, pairs: np.ndarray
) -> np.ndarray:
    """Influence by layer, training token and query token of chosen pairs.

    Returns:
        `(pair, layer, token, query_token)`. Sums over query tokens are `token_scores`.
    """
    kept: dict[tuple[str, int], tuple[Tensor, Tensor, int]] = {}
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    text_q, text_t = (c["is_text"].transpose(d, "token").to_numpy() for c, d in ((queries, "query"), (train, "train")))
    shape = (len(pairs), len(run.layers), text_t.shape[1], text_q.shape[1])
    values = np.zeros(shape, dtype=np.float64 if run.itemsize() == 8 else np.float32)

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
    whole = replace(run, batch_size=max(len(wanted_q), 1))
    whole.over(queries, "measurement", keep, what="query tokens", positions=wanted_q)
    run.over(train, "loss", add, what="token pairs", positions=wanted_t)
    return values


def pair_blocks(run: Pass, pairs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of `pairs`, in blocks whose queries' gradients fit the memory budget together.

    Yields:
        Rows of one block, and the positions of its queries, ascending.
    """
    asked = np.unique(pairs[:, 0])
    for block in query_blocks(run, len(asked)):
        yield np.flatnonzero(np.isin(pairs[:, 0], asked[block])), asked[block]


def _sum_uses(value_pt: Tensor, length: int, layer: Layer) -> Tensor:
    """Tokens of a layer used several times come in a row: sum over uses."""
    if value_pt.shape[1] % length:
        raise LayerError(
            f"{layer.name!r} has {value_pt.shape[1]} positions where the text has {length} tokens: its influence has "
            "no place in the text; fit without it, with layers="
        )
    return value_pt.reshape(len(value_pt), -1, length).sum(1)
