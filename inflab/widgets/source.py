"""Where a widget's answers come from: an Influence that is asked, or arrays that were saved.

Both give the same labelled arrays, one query at a time, so a widget need not know which it has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import xarray as xr

from inflab.errors import CorpusError, SettingError
from inflab.schema import validate
from inflab.select import top

__all__ = ["SIGNS", "LiveSource", "SavedSource", "Sign", "Source", "open_source"]

Sign = Literal["positive", "negative"]
SIGNS: tuple[Sign, Sign] = ("positive", "negative")
_CHILD = {"positive": "top", "negative": "bottom"}


class Source(Protocol):
    """Ranked lists and their tokens, one query at a time.

    Attributes:
        ids: ids of the queries, in order.
        attrs: of the scores: method, n_train, ...
    """

    ids: list[Any]
    attrs: dict[str, Any]

    def ranked(self, position: int, sign: Sign) -> xr.Dataset:
        """The list of one query, over `rank`: influence, effect, share and coordinates; only ranks that exist."""

    def tokens(self, position: int, sign: Sign, rank: int) -> xr.Dataset:
        """Influence of one pair over `(layer, token)`, with `token_text` and `is_text`."""


class SavedSource:
    """Reads an explanation (`Influence.explain`), from memory or lazily from its store.

    Args:
        tree: children `scores`, `top`, `bottom`, `top_tokens`, `bottom_tokens`.
        k: longest list shown.
    """

    def __init__(self, tree: xr.DataTree, k: int) -> None:
        self._lists = {sign: tree[_CHILD[sign]].to_dataset() for sign in SIGNS}
        self._tokens = {sign: tree[f"{_CHILD[sign]}_tokens"].to_dataset() for sign in SIGNS}
        self._k = k
        # A store may keep many queries in one chunk: unpack it once for all ranks of a list, not for each look.
        self._tokens_of = lru_cache(maxsize=32)(self._read_tokens)
        self.ids: list[Any] = self._lists["positive"]["query"].to_numpy().tolist()
        self.attrs = {str(name): value for name, value in tree.attrs.items()}

    def ranked(self, position: int, sign: Sign) -> xr.Dataset:
        """The list of one query (see `Source`)."""
        return _existing(self._lists[sign].isel(query=position, rank=slice(self._k)).load())

    def tokens(self, position: int, sign: Sign, rank: int) -> xr.Dataset:
        """Influence of one pair over `(layer, token)`."""
        return self._tokens_of(position, sign).sel(rank=rank)

    def _read_tokens(self, position: int, sign: Sign) -> xr.Dataset:
        return self._tokens[sign].isel(query=position, rank=slice(self._k)).load()


class LiveSource:
    """Asks a fitted method: scores once, tokens of one query's list when they are first looked at.

    Args:
        influence: has `score(queries)` and `attribute(queries, top)`.
        queries: a corpus over `query`.
        k: longest list shown.
    """

    def __init__(self, influence: Any, queries: xr.Dataset, k: int) -> None:
        self._influence, self._queries = influence, queries
        scores = influence.score(queries)
        k = min(k, scores.sizes["train"])
        self._lists = {sign: top(scores, k, sign=sign) for sign in SIGNS}
        self._tokens_of = lru_cache(maxsize=256)(self._ask_tokens)
        self.ids: list[Any] = scores["query"].to_numpy().tolist()
        self.attrs = {str(name): value for name, value in scores.attrs.items()}

    def ranked(self, position: int, sign: Sign) -> xr.Dataset:
        """The list of one query (see `Source`)."""
        return _existing(self._lists[sign].isel(query=position))

    def tokens(self, position: int, sign: Sign, rank: int) -> xr.Dataset:
        """Influence of one pair over `(layer, token)`; the first look at a list costs one pass over it."""
        return self._tokens_of(position, sign).sel(rank=rank)

    def _ask_tokens(self, position: int, sign: Sign) -> xr.Dataset:
        here = {"query": [position]}
        chosen = self._lists[sign].isel(here).sel(rank=self.ranked(position, sign)["rank"].to_numpy())
        # No progress bar: the pass is short, and its output would land in whichever cell ran last.
        found: xr.Dataset = self._influence.attribute(self._queries.isel(here), chosen, progress=False)
        return found.isel(query=0)


def open_source(source: Any, queries: Any, k: Any) -> Source:
    """Choose the reader that fits the arguments of a widget.

    Args:
        source: an Influence, or a saved explanation.
        queries: the query batch of an Influence; None for an explanation.
        k: longest list.

    Returns:
        What answers the widget.

    Raises:
        SettingError: when `source` is neither, `k` is no positive integer, or `queries` goes with an explanation.
        CorpusError: when an Influence comes without a usable query batch.
    """
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise SettingError(f"k={k!r} must be an integer of at least 1")
    if isinstance(source, xr.DataTree):
        if queries is not None:
            raise SettingError(
                "queries is given with a saved explanation, which holds its own; leave it out, or pass an Influence"
            )
        if source.attrs.get("kind") != "explanation":
            raise SettingError(
                f"source is a tree of kind {source.attrs.get('kind')!r}; the Explorer opens an explanation, "
                "made by influence.explain(queries)"
            )
        validate(source)
        return _checked(SavedSource(source, int(k)))
    if not (callable(getattr(source, "score", None)) and callable(getattr(source, "attribute", None))):
        raise SettingError(
            f"source is a {type(source).__name__}; give a fitted Influence with queries, or a saved explanation "
            "opened with inflab.load(path)"
        )
    if not isinstance(queries, xr.Dataset) or "query" not in queries.dims:
        given = f"dims {tuple(queries.dims)}" if isinstance(queries, xr.Dataset) else repr(type(queries).__name__)
        raise CorpusError(
            f"queries must be a corpus over 'query', got {given}; "
            "make it with inflab.encode(prompts, completions=..., tokenizer=..., dim='query')"
        )
    if queries.sizes["query"] == 0:
        raise CorpusError("queries is empty; give at least one query")
    return _checked(LiveSource(source, queries, int(k)))


def _checked(source: Source) -> Source:
    if not source.ids:
        raise CorpusError("source holds no query; explain at least one")
    return source


def _existing(ranked: xr.Dataset) -> xr.Dataset:
    """Only the ranks that exist: fewer sequences than ranks may have the sign."""
    return ranked.isel(rank=np.flatnonzero(np.isfinite(ranked["influence"].to_numpy())))
