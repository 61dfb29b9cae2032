"""Labels of results: which coordinates of corpora and layers travel into scores and tokens.

Training coordinates keep their names; those of the queries get the prefix `query_`, since both corpora carry
`text` and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import CorpusError
from inflab.schema import variable_attrs

if TYPE_CHECKING:
    from inflab.layer import Layer

__all__ = ["check_tokens", "joined", "layered", "parted", "positions", "query_coords", "token_dataset", "train_coords"]


def train_coords(train: xr.Dataset) -> dict[str, Any]:
    """Every coordinate over `train`."""
    return {str(name): coord.variable for name, coord in train.coords.items() if coord.dims == ("train",)}


def query_coords(queries: xr.Dataset) -> dict[str, Any]:
    """Every coordinate over `query`, prefixed `query_`."""
    found = {str(name): coord.variable for name, coord in queries.coords.items() if coord.dims == ("query",)}
    return {name if name == "query" else f"query_{name}": value for name, value in found.items()}


def layered(coords: dict[str, Any], layers: Sequence[Layer]) -> dict[str, Any]:
    """Coordinates with those of `layer` beside them: `block` (-1 outside blocks), `kind` and `role`, for `groupby`.

    Args:
        coords: of the corpora. One that is called `block`, `kind` or `role` is there as `train_block`, ... instead.
        layers: the covered layers.

    Returns:
        A new dict.
    """
    own = ("block", "kind", "role")
    return {f"train_{name}" if name in own else name: value for name, value in coords.items()} | {
        "layer": ("layer", np.array([layer.name for layer in layers], dtype=object)),
        "block": ("layer", np.array([layer.block for layer in layers])),
        "kind": ("layer", np.array([layer.kind for layer in layers], dtype=object)),
        "role": ("layer", np.array([layer.role for layer in layers], dtype=object)),
    }


def positions(queries: xr.Dataset, train: xr.Dataset, top: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Where each pair of a top list stands in its corpora.

    Returns:
        `(query, rank, 2)` positions of query and training sequence, and `(query, rank)` bool: is it ranked.

    Raises:
        CorpusError: when `top` lacks `train (query, rank)`, or names an id that is not there.
    """
    if "train" not in top or set(top["train"].dims) != {"query", "rank"}:
        raise CorpusError("top needs `train (query, rank)`, the ids of the chosen sequences; make it with inflab.top")
    id_qr = top["train"].transpose("query", "rank").to_numpy()
    ranked = np.ones(id_qr.shape, bool)
    if "is_ranked" in top:
        ranked = top["is_ranked"].transpose("query", "rank").to_numpy().astype(bool)
    found = np.empty((*id_qr.shape, 2), dtype=np.int64)
    found[..., 0] = _lookup(queries["query"].to_numpy(), top["query"].to_numpy(), "query")[:, None]
    found[..., 1] = _lookup(train["train"].to_numpy(), id_qr.ravel(), "train").reshape(id_qr.shape)
    _check_texts(top["query"], top.coords.get("query_text"), queries, found[:, 0, 0], np.ones(len(found), bool))
    _check_texts(top["train"], top.coords.get("text"), train, found[..., 1], ranked)
    return found, ranked


def joined(lists: Sequence[xr.Dataset]) -> xr.Dataset:
    """Top lists of the same queries as one, rank after rank: their pairs are attributed together."""
    found: xr.Dataset = xr.concat(
        lists, "rank", data_vars="minimal", coords="minimal", compat="equals", join="exact", combine_attrs="override"
    )
    return found.assign_coords(rank=np.arange(1, found.sizes["rank"] + 1))


def parted(tokens: xr.Dataset, lists: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """The tokens of joined lists, list by list, each with the columns that its own texts fill."""
    found, start = [], 0
    for one in lists:
        mine = tokens.isel(rank=slice(start, start + one.sizes["rank"])).assign_coords(rank=one["rank"])
        found.append(mine.isel(token=np.flatnonzero(mine["is_text"].any(["query", "rank"]))))
        start += one.sizes["rank"]
    return found


def token_dataset(
    value: np.ndarray,
    names: Sequence[str],
    train: xr.Dataset,
    queries: xr.Dataset,
    top: xr.Dataset,
    chosen: np.ndarray,
    layers: Sequence[Layer],
    attrs: dict[str, Any],
    described: dict[str, Any],
) -> xr.Dataset:
    """Token influence with its text.

    Args:
        value: `(query, rank, *names)`; `token` runs over the columns of `train`.
        names: dims after query and rank.
        train: training corpus.
        queries: query batch.
        top: gives query, rank and their coordinates.
        chosen: `(query, rank)` positions in `train`.
        layers: the covered layers.
        attrs: of the root.
        described: attrs of `influence`.

    Returns:
        `influence`, `token_text`, `is_text`, and with pairs the query's tokens too.
    """
    is_text = train["is_text"].transpose("train", "token").to_numpy()[chosen]
    columns = np.flatnonzero(is_text.any(axis=(0, 1)))
    value = np.take(value, columns, axis=2 + list(names).index("token"))
    is_text = is_text[..., columns]
    coords: dict[str, Any] = {
        str(name): coord.variable
        for name, coord in top.coords.items()
        if set(coord.dims) <= {"query", "rank"} and coord.dims
    }
    coords["token"] = train["token"].to_numpy()[columns]
    if "layer" in names:
        coords = layered(coords, layers)
    dims = ("query", "rank", "token")
    variables: dict[str, Any] = {
        "influence": (("query", "rank", *names), value, described),
        "is_text": (dims, is_text, variable_attrs("is text", "1", "True where a token is text, not padding")),
        "token_text": (
            dims,
            token_text(train, train["token_id"].transpose("train", "token").to_numpy()[chosen][..., columns], is_text),
            variable_attrs("token text", "1", "readable piece of the training sequence"),
        ),
    }
    if "query_token" in names:
        place = _lookup(queries["query"].to_numpy(), top["query"].to_numpy(), "query")
        id_q = queries["token_id"].transpose("query", "token").to_numpy()[place]
        text_q = queries["is_text"].transpose("query", "token").to_numpy()[place]
        coords["query_token"] = queries["token"].to_numpy()
        query_dims = ("query", "query_token")
        variables["query_token_text"] = (
            query_dims,
            token_text(queries, id_q, text_q),
            variable_attrs("token text", "1", "readable piece of the query"),
        )
        variables["is_query_text"] = (
            query_dims,
            text_q,
            variable_attrs("is text", "1", "True where a query token is text"),
        )
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def check_tokens(train: xr.Dataset) -> None:
    """Refuse a corpus without tokens."""
    if "is_text" not in train:
        raise CorpusError("attribute needs a text corpus with tokens; this one has none")


def token_text(corpus: xr.Dataset, token_id: np.ndarray, is_text: np.ndarray) -> np.ndarray:
    """Readable piece of each token, "" where not text; `[id]` for a corpus without a vocabulary."""
    if "vocabulary_text" not in corpus:
        pieces = np.array([f"[{i}]" for i in token_id.ravel()], dtype=object).reshape(token_id.shape)
    else:
        known = corpus["vocabulary"].to_numpy()
        place = np.searchsorted(known, token_id).clip(max=len(known) - 1)
        pieces = corpus["vocabulary_text"].to_numpy().astype(object)[place]
    return np.where(is_text, pieces, "").astype(object)


def _check_texts(
    ids: xr.DataArray, said: xr.DataArray | None, corpus: xr.Dataset, place: np.ndarray, counts: np.ndarray
) -> None:
    """Refuse a corpus whose ids are there, as 0, 1, 2 always are, and stand for other texts."""
    if said is None or said.dims != ids.dims or "text" not in corpus.coords:
        return
    dims = ("query", "rank")[: ids.ndim]
    given, there = said.transpose(*dims).to_numpy(), corpus["text"].to_numpy()[place]
    other = np.argwhere((given != there) & counts)
    if len(other):
        at, dim = tuple(other[0]), str(ids.name)
        raise CorpusError(
            f"top says that {dim} {ids.transpose(*dims).to_numpy()[at]!r} is {given[at]!r}, this corpus has "
            f"{there[at]!r}; use the {dim} corpus it was made from"
        )


def _lookup(ids: np.ndarray, wanted: np.ndarray, dim: str) -> np.ndarray:
    found = pd.Index(ids.tolist(), dtype=object).get_indexer(wanted.tolist())
    if (found < 0).any():
        lost = wanted[found < 0].tolist()[0]
        raise CorpusError(f"top names {dim} {lost!r}, which is not in the corpus; use the corpus it was made from")
    return np.asarray(found)
