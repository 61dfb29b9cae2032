"""Stepping through a query batch, and searching in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
import xarray as xr

from inflab.errors import CorpusError
from inflab.widgets.base import Part
from inflab.widgets.finding import Texts
from inflab.widgets.payload import clean, plain

__all__ = ["Queries", "QueryStepper"]

_TEXTS = ("prompt", "completion", "text")
_HIDDEN = {"query", "is_truncated", *_TEXTS}
_LABEL = 60  # characters of a query in a list of matches
_MOST = 200  # matches that are listed; all are counted


class Queries:
    """The texts and labels of a query batch: a card for each, and search in all.

    Args:
        batch: coordinates over `query`, as `inflab.encode(..., dim="query")` gives them (`prompt`, `completion`,
            `text`) or as scores carry them (`query_prompt`, ...).
    """

    def __init__(self, batch: xr.Dataset) -> None:
        found = {
            str(name).removeprefix("query_"): coord.to_numpy()
            for name, coord in sorted(batch.coords.items(), key=lambda pair: str(pair[0]))  # a store keeps no order
            if coord.dims == ("query",)
        }
        n_query = batch.sizes["query"]
        self.ids: list[Any] = [plain(one) for one in found.get("query", np.arange(n_query))]
        self._texts = {name: [clean(str(text)) for text in found[name]] for name in _TEXTS if name in found}
        self._meta = {clean(name): column for name, column in found.items() if name not in _HIDDEN}
        self._searched = Texts(self._words(position) for position in range(n_query))

    def __len__(self) -> int:
        return len(self.ids)

    def card(self, position: int) -> dict[str, Any]:
        """What is shown of a query: `id`, `prompt`, `completion`, `meta`."""
        prompt, completion, text = (self._texts[name][position] if name in self._texts else "" for name in _TEXTS)
        if not completion:  # the whole text was measured
            prompt, completion = "", text or prompt
        meta = {name: plain(column[position]) for name, column in self._meta.items()}
        return {"id": self.ids[position], "prompt": prompt, "completion": completion, "meta": meta}

    def search(self, text: str) -> dict[str, Any]:
        """Queries whose prompt, completion, id or labels hold every word of `text`.

        Args:
            text: words, or "a phrase"; case and accents make no difference.

        Returns:
            `matches`: the first of them, each with `position` and `label`; `positions` of all; `of`: all queries.
        """
        where = np.flatnonzero(self._searched.matching(text)).tolist() if text.strip() else []
        return {
            "matches": [{"position": position, "label": self._label(position)} for position in where[:_MOST]],
            "positions": where,
            "of": len(self),
        }

    def _label(self, position: int) -> str:
        card = self.card(position)
        whole = " ".join(f"{card['prompt']}{card['completion']}".split()) or str(card["id"])
        return whole if len(whole) <= _LABEL else whole[: _LABEL - 1] + "…"

    def _words(self, position: int) -> str:
        card = self.card(position)
        labels = [str(value) for value in card["meta"].values() if value is not None]
        return "\n".join([f"{card['prompt']}{card['completion']}", str(card["id"]), *labels])


class QueryStepper(Part):
    """Step through a query batch: buttons, keys, a jump to a number, and search in prompts, completions and labels.

    Args:
        queries: a corpus over `query` (`inflab.encode(..., dim="query")`), or scores, which carry its coordinates.
        position: query to begin with, counted from 0.

    Raises:
        CorpusError: when `queries` is no batch, or an empty one.
        TraitError: when `position` is outside the batch.

    Example:
        >>> stepper = inflab.widgets.QueryStepper(queries)
        >>> stepper.position = 2
    """

    part = "stepper"

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown, counted from 0. `int`, default 0. Set it to step."""

    _count = traitlets.Int(0).tag(sync=True)
    """How many queries there are. `int`."""

    _query = traitlets.Dict().tag(sync=True)
    """The query shown (`Queries.card`), with its `position`. `dict`."""

    def __init__(self, queries: xr.Dataset, *, position: int = 0) -> None:
        self._queries = Queries(checked_batch(queries))
        super().__init__(
            {"query.search": self._queries.search}, _count=len(self._queries), position=position,
        )  # fmt: skip
        self._show()
        self.observe(self._show, names="position")

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        return within("position", int(proposal["value"]), len(self._queries))

    def _show(self, change: Any = None) -> None:
        self._query = {**self._queries.card(self.position), "position": self.position}

    def __repr__(self) -> str:
        return f"QueryStepper({len(self._queries)} queries, position={self.position})"


def checked_batch(batch: Any) -> xr.Dataset:
    """Refuse what holds no query.

    Args:
        batch: a dataset with the dim `query`.

    Returns:
        The same.

    Raises:
        CorpusError: saying what was given instead.
    """
    if not isinstance(batch, xr.Dataset) or "query" not in batch.dims:
        given = f"dims {tuple(batch.dims)}" if isinstance(batch, xr.Dataset) else repr(type(batch).__name__)
        raise CorpusError(
            f"queries must be a dataset over 'query', got {given}; "
            "make it with inflab.encode(prompts, completions=..., tokenizer=..., dim='query')"
        )
    if batch.sizes["query"] == 0:
        raise CorpusError("queries is empty; give at least one query")
    return batch


def within(name: str, value: int, count: int) -> int:
    """Refuse a place that is not among `count`.

    Args:
        name: of the trait.
        value: counted from 0.
        count: how many places there are.

    Returns:
        The value.

    Raises:
        TraitError: naming the bounds.
    """
    if not 0 <= value < count:
        raise traitlets.TraitError(f"{name}={value} must lie between 0 and {count - 1}")
    return value
