"""Answers of a fitted method: scores at once, the rest when it is looked at; questions that are asked since join in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from inflab.errors import SettingError
from inflab.select import top
from inflab.widgets.source import SIGNS, Sign, View, existing

__all__ = ["LiveSource", "weighed"]

_ALL = frozenset({"layers", "tokens", "output", "input", "pairs"})


class LiveSource:
    """Asks a fitted method: scores once, tokens of one query's list when they are first looked at.

    Args:
        influence: has `score(queries)` and `attribute(queries, top)`.
        queries: a corpus over `query`.
        k: longest list shown.
        index: answers new questions without a pass over the training data.
    """

    def __init__(self, influence: Any, queries: xr.Dataset, k: int, index: Any = None) -> None:
        self.influence: Any = influence
        self.queries: xr.Dataset | None = queries
        self.index: Any = index
        self._asked: list[tuple[xr.Dataset, np.ndarray]] = []
        self._scores: xr.Dataset = influence.score(queries)
        self.k = min(k, self._scores.sizes["train"])
        self._ranked = lru_cache(maxsize=256)(self._rank)
        self._tokens_of = lru_cache(maxsize=64)(self._ask_tokens)
        self._layers_of = lru_cache(maxsize=32)(self._ask_layers)
        self.ids: list[Any] = self._scores["query"].to_numpy().tolist()
        self.attrs = {str(name): value for name, value in self._scores.attrs.items()}
        self.can: frozenset[str] = getattr(influence, "offers", _ALL) | {"live"}

    @property
    def scores(self) -> xr.Dataset:
        """`influence (query, train)` (see `Source`)."""
        return self._scores

    def add(self, queries: xr.Dataset, scores: xr.Dataset, weights: tuple[float, ...] = (1.0,)) -> int:
        """Append a question that was asked since.

        Args:
            queries: what is measured: one query, or several whose measurements are summed with the weights.
            scores: `influence (query, train)` of the one question, with its id and coordinates.
            weights: of the queries.

        Returns:
            Its position.
        """
        ours = {str(n) for n, c in self._scores.coords.items() if c.dims == ("query",)}
        given = {str(n) for n, c in scores.coords.items() if c.dims == ("query",)}
        blank = {n: ("query", np.array([""] * scores.sizes["query"], dtype=object)) for n in ours - given}
        row = scores[["influence"]].drop_vars(given - ours).assign_coords(blank)
        row = row.drop_vars([n for n in row.coords if n not in self._scores.coords])
        whole = xr.concat(
            [self._scores[["influence"]], row], "query", coords="minimal", compat="override", join="override"
        )
        self._scores = whole.assign_attrs(self._scores.attrs)
        self._scores["influence"].attrs = scores["influence"].attrs
        self.ids = [*self.ids, scores["query"].to_numpy().tolist()[0]]
        self._asked.append((queries, np.asarray(weights, np.float64)))
        return len(self.ids) - 1

    def measured(self, position: int) -> tuple[xr.Dataset, np.ndarray]:
        """The queries behind a position, and the weights of their sum: mostly one query, with weight 1."""
        assert self.queries is not None
        n = self.queries.sizes["query"]
        if position < n:
            return self.queries.isel(query=[position]), np.ones(1)
        return self._asked[position - n]

    def ranked(self, position: int, sign: Sign) -> xr.Dataset:
        """The list of one query (see `Source`)."""
        return self._ranked(position, sign)

    def by_layer(self, position: int) -> xr.DataArray:
        """Influence on one query over `(train, layer)`; the first look at a query costs a pass."""
        return self._layers_of(position)

    def tokens(self, position: int, train: Any, *, view: View = "update", pairs: bool = False) -> xr.Dataset:
        """Influence of one pair; the first look at a list costs one pass over all of it.

        Returns:
            The dataset.

        Raises:
            SettingError: when the method has no tokens.
        """
        if "tokens" not in self.can:
            raise SettingError(f"{self.attrs.get('method')} has no tokens: its scores are of whole sequences")
        asked = (train,)
        if view == "update" and not pairs:  # the others are dear: only of the pair looked at
            lists = [tuple(self.ranked(position, sign)["train"].to_numpy().tolist()) for sign in SIGNS]
            asked = next((mine for mine in lists if train in mine), asked)
        found = self._tokens_of(position, asked, view, pairs)
        return found.isel(rank=asked.index(train))

    def listed(self, position: int, sign: Sign) -> xr.Dataset:
        """Influence of all pairs of `ranked` (see `Source`)."""
        trains = tuple(self.ranked(position, sign)["train"].to_numpy().tolist())
        return self._tokens_of(position, trains, "update", False)

    def _rank(self, position: int, sign: Sign) -> xr.Dataset:
        return existing(top(self._scores.isel(query=[position]), self.k, sign=sign).isel(query=0))

    def _ask_layers(self, position: int) -> xr.DataArray:
        queries, weights = self.measured(position)
        found = self.influence.score(queries, by="layer", progress=False)["influence"]
        return weighed(found, weights).transpose("train", "layer")

    def _ask_tokens(self, position: int, asked: tuple[Any, ...], view: View, pairs: bool) -> xr.Dataset:
        queries, weights = self.measured(position)
        shape = (len(weights), len(asked))
        value = self._scores["influence"].isel(query=position).sel(train=list(asked)).to_numpy()
        ids = np.empty(shape, dtype=np.int64 if all(isinstance(one, int) for one in asked) else object)
        ids[:] = asked
        dims = ("query", "rank")
        chosen = xr.Dataset(
            {"influence": (dims, np.broadcast_to(value, shape)), "is_ranked": (dims, np.ones(shape, bool))},
            coords={"query": queries["query"], "rank": np.arange(1, len(asked) + 1), "train": (dims, ids)},
            attrs=self._scores.attrs,
        )
        # No progress bar: the pass is short, and its output would land in whichever cell ran last.
        found: xr.Dataset = self.influence.attribute(queries, chosen, view=view, pairs=pairs, progress=False)
        value_of = weighed(found["influence"], weights)
        return found.isel(query=0).assign(influence=value_of)


def weighed(found: xr.DataArray, weights: np.ndarray) -> xr.DataArray:
    """Sum over queries with weights; one query is taken as it is."""
    if len(weights) == 1:
        return found.isel(query=0) * weights[0] if weights[0] != 1 else found.isel(query=0)
    weight = xr.DataArray(weights.astype(found.dtype), dims="query")
    return (found * weight).sum("query", skipna=False).assign_attrs(found.attrs)
