"""Which reader fits the arguments of a widget: a fitted Influence with its queries, or what was saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from inflab.errors import CorpusError, SettingError
from inflab.schema import validate
from inflab.widgets.live import LiveSource
from inflab.widgets.source import SavedSource, Source

__all__ = ["open_source"]


def open_source(source: Any, queries: Any, k: Any, index: Any = None) -> Source:
    """Choose the reader that fits the arguments of a widget.

    Args:
        source: an Influence, or a saved explanation.
        queries: the query batch of an Influence; None for an explanation.
        k: longest list.
        index: `inflab.index.Index` of the training corpus, for an Influence.

    Returns:
        What answers the widget.

    Raises:
        SettingError: when `source` is neither, `k` is no positive integer, `index` is no index, or `queries` goes with
            an explanation.
        CorpusError: when an Influence comes without a usable query batch.
    """
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise SettingError(f"k={k!r} must be an integer of at least 1")
    if isinstance(source, xr.DataTree):
        if queries is not None:
            raise SettingError(
                "queries is given with a saved explanation, which holds its own; leave it out, or pass an Influence"
            )
        if index is not None:
            raise SettingError("index is given with a saved explanation, which answers no new question; leave it out")
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
    if index is not None and not callable(getattr(index, "score", None)):
        raise SettingError(
            f"index is a {type(index).__name__}; give the Index itself: influence.index(path, size=0.1), or "
            "influence.open_index(path)"
        )
    if not isinstance(queries, xr.Dataset) or "query" not in queries.dims:
        given = f"dims {tuple(queries.dims)}" if isinstance(queries, xr.Dataset) else repr(type(queries).__name__)
        raise CorpusError(
            f"queries must be a corpus over 'query', got {given}; "
            "make it with inflab.encode(prompts, completions=..., tokenizer=..., dim='query')"
        )
    if queries.sizes["query"] == 0:
        raise CorpusError("queries is empty; give at least one query")
    return _checked(LiveSource(source, queries, int(k), index))


def _checked(source: Source) -> Source:
    if not source.ids:
        raise CorpusError("source holds no query; explain at least one")
    return source
