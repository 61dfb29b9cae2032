"""Where a widget's answers come from: an Influence that is asked, or arrays that were saved.

Both give the same labelled arrays, one query at a time, so a widget need not know which it has.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import xarray as xr

from inflab.errors import SettingError

__all__ = ["SIGNS", "SavedSource", "Sign", "Source", "View", "existing"]

Sign = Literal["positive", "negative"]
View = Literal["update", "output", "input"]
SIGNS: tuple[Sign, Sign] = ("positive", "negative")
_CHILD = {"positive": "top", "negative": "bottom"}


class Source(Protocol):
    """Scores of all training sequences, and the tokens of chosen pairs.

    Attributes:
        ids: ids of the queries, in order.
        attrs: of the scores: method, n_train, ...
        k: sequences of each sign whose tokens are read together, and are there in a saved explanation.
        can: what else may be asked: "layers" (`by_layer`), "tokens" (of a pair), "output" and "input" (other views of
            them), "pairs" (token by token), "live" (an `influence` that answers new questions).
        influence: the fitted method; None when saved arrays are read.
        queries: the query batch as it was given; None when saved arrays are read.
        index: of the training corpus, to answer new questions from; None without one.
    """

    ids: list[Any]
    attrs: dict[str, Any]
    k: int
    can: frozenset[str]
    influence: Any
    queries: xr.Dataset | None
    index: Any

    @property
    def scores(self) -> xr.Dataset:
        """`influence (query, train)` with the coordinates of both corpora; may be lazy."""

    def ranked(self, position: int, sign: Sign) -> xr.Dataset:
        """The first `k` of one query, over `rank`: influence, effect, share and coordinates; only ranks that exist."""

    def by_layer(self, position: int) -> xr.DataArray:
        """Influence on one query over `(train, layer)`; the first look at a query may cost a pass."""

    def tokens(self, position: int, train: Any, *, view: View = "update", pairs: bool = False) -> xr.Dataset:
        """Influence of one pair over `([layer, ]token[, query_token])`, with `token_text`, `is_text`."""

    def listed(self, position: int, sign: Sign) -> xr.Dataset:
        """Influence of all pairs of `ranked`, over `(rank[, layer], token)`."""


class SavedSource:
    """Reads an explanation (`Influence.explain`), from memory or lazily from its store.

    Args:
        tree: children `scores`, `top`, `bottom`, `top_tokens`, `bottom_tokens`.
        k: longest list shown.
    """

    influence: Any = None
    queries: xr.Dataset | None = None
    index: Any = None

    def __init__(self, tree: xr.DataTree, k: int) -> None:
        self._lists = {sign: tree[_CHILD[sign]].to_dataset() for sign in SIGNS}
        held = {sign: f"{_CHILD[sign]}_tokens" for sign in SIGNS}
        self._tokens = {sign: tree[name].to_dataset() for sign, name in held.items() if name in tree.children}
        self._scores = tree["scores"].to_dataset()
        self.k = k
        # A store may keep many queries in one chunk: unpack it once for all ranks of a list, not for each look.
        self._tokens_of = lru_cache(maxsize=32)(self._read_tokens)
        self.ids: list[Any] = self._lists["positive"]["query"].to_numpy().tolist()
        self.attrs = {str(name): value for name, value in tree.attrs.items()}
        has_layers = "layer" in self._scores["influence"].dims
        self.can = frozenset([*(["layers"] if has_layers else []), *(["tokens"] if self._tokens else [])])

    @cached_property
    def scores(self) -> xr.Dataset:
        """`influence (query, train)` (see `Source`)."""
        return _without_layers(self._scores)

    def ranked(self, position: int, sign: Sign) -> xr.Dataset:
        """The list of one query (see `Source`)."""
        return existing(self._lists[sign].isel(query=position, rank=slice(self.k)).load())

    def by_layer(self, position: int) -> xr.DataArray:
        """Influence on one query over `(train, layer)`.

        Returns:
            The array.

        Raises:
            SettingError: when the explanation was saved with layers summed.
        """
        if "layers" not in self.can:
            raise SettingError("this explanation was saved with layers summed; make it with explain(by='layer')")
        return self._scores["influence"].isel(query=position).transpose("train", "layer").load()

    def tokens(self, position: int, train: Any, *, view: View = "update", pairs: bool = False) -> xr.Dataset:
        """Influence of one pair over `(layer, token)`.

        Returns:
            The dataset.

        Raises:
            SettingError: when the explanation does not hold it.
        """
        if not self._tokens:
            raise SettingError(f"{self.attrs.get('method')} has no tokens: its scores are of whole sequences")
        if view != "update" or pairs:
            raise SettingError(f"a saved explanation holds the view 'update' alone, not view={view!r}, pairs={pairs}")
        for sign in SIGNS:
            held = self._tokens_of(position, sign)
            place = np.flatnonzero(held["train"].to_numpy() == train)
            if len(place):
                return held.isel(rank=place[0])
        raise SettingError(
            f"train={train!r} is not among the first {self._lists['positive'].sizes['rank']} of either sign, whose "
            "tokens the explanation holds; make it with a larger k"
        )

    def listed(self, position: int, sign: Sign) -> xr.Dataset:
        """Influence of all pairs of `ranked` (see `Source`)."""
        return self._tokens_of(position, sign).sel(rank=self.ranked(position, sign)["rank"].to_numpy())

    def _read_tokens(self, position: int, sign: Sign) -> xr.Dataset:
        return self._tokens[sign].isel(query=position).load()


def existing(ranked: xr.Dataset) -> xr.Dataset:
    """Only the ranks that exist: fewer sequences than ranks may have the sign."""
    return ranked.isel(rank=np.flatnonzero(np.isfinite(ranked["influence"].to_numpy())))


def _without_layers(scores: xr.Dataset) -> xr.Dataset:
    if "layer" not in scores["influence"].dims:
        return scores
    return scores.assign(influence=scores["influence"].sum("layer", keep_attrs=True)).drop_dims("layer")
