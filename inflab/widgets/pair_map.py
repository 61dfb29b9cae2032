"""Token by token: which token of the query meets which token of the training sequence.

`I[s, t] = sum_ij (g_s,i a_s,j)(g_t,i a_t,j) / (Lambda_ij + lambda)` in the eigenbasis: rows and columns sum to the
attributions of either side alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
import xarray as xr

from inflab.errors import CorpusError
from inflab.widgets.payload import sendable
from inflab.widgets.token_arrays import OfPairs, checked_tokens, pair_payload, static_tokens

__all__ = ["PairMap"]


class PairMap(OfPairs):
    """Choose tokens of the query and see the training tokens that answer them, and the other way round.

    Args:
        tokens: from `Influence.attribute(..., pairs=True)`, of one or several pairs.
        queries: the query batch it was made with, where `tokens` holds no `query_token_text`.
        position: query shown first, counted from 0.
        rank: sequence of its list shown first, counted from 1.
        layer: one layer, or None for their sum.

    Raises:
        SchemaError: when an array is missing.
        CorpusError: when there is no pair, or `queries` does not hold those of `tokens`.
        SettingError: when a layer is chosen that is not kept.
        TraitError: when there is no such query or rank.

    Example:
        >>> pairs = ekfac.attribute(queries, best, pairs=True)
        >>> inflab.widgets.PairMap(pairs, queries, rank=2).selected_train
        []
    """

    part = "pair_map"

    layer = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    """The layer shown, or None for the sum of all. `str | None`, default None."""

    selected = traitlets.List(traitlets.Int()).tag(sync=True)
    """Query tokens chosen, counted from 0 among those that are text. `list[int]`, default []."""

    selected_train = traitlets.List(traitlets.Int()).tag(sync=True)
    """Training tokens chosen, counted likewise; one side is chosen from at a time. `list[int]`, default []."""

    _pair = traitlets.Dict().tag(sync=True)
    """What is drawn (`pair_payload`). `dict`."""

    def __init__(
        self,
        tokens: xr.Dataset,
        queries: xr.Dataset | None = None,
        *,
        position: int = 0,
        rank: int = 1,
        layer: str | None = None,
    ) -> None:
        self._arrays = checked_tokens(tokens, "query_token")
        self._queries = None if queries is None else _matching(queries, self._arrays)
        super().__init__(self._arrays, position, rank, layer=layer)
        self._show()
        self.observe(lambda change: self._show(), names=["layer"])
        self.observe(lambda change: self._show_other(), names=["position", "rank"])

    @traitlets.validate("selected", "selected_train")
    def _check_selected(self, proposal: dict[str, Any]) -> list[int]:
        side = "query" if proposal["trait"].name == "selected" else "train"
        n_token = len(self._pair[side]["text"]) if self._pair else 0
        wrong = [place for place in proposal["value"] if not 0 <= place < n_token]
        if wrong:
            raise traitlets.TraitError(f"{proposal['trait'].name}={wrong[0]} must lie between 0 and {n_token - 1}")
        return sorted(set(proposal["value"]))

    @traitlets.observe("selected", "selected_train")
    def _on_selected(self, change: Any) -> None:
        if change["new"]:  # one side is chosen from at a time
            other = "selected_train" if change["name"] == "selected" else "selected"
            setattr(self, other, [])

    def _show_other(self) -> None:
        self.selected, self.selected_train = [], []
        self._show()

    def _show(self) -> None:
        query = None if self._queries is None else self._queries.isel(query=self.position)
        sent = pair_payload(self._pair_of(self._arrays), self.layer, query)
        self.error = ""
        self._choices = self._choices_of(self._arrays)
        self._pair = sent

    def _static(self) -> str:
        """Each side's tokens, with their sums over the other's."""
        sent = self._pair
        shape = (len(sent["query"]["text"]), len(sent["train"]["text"]))
        effect = np.array([[np.nan if n is None else n for n in row] for row in sent["effect"]]).reshape(shape)
        sums = {"query": effect.sum(1), "train": effect.sum(0)}
        return "".join(
            static_tokens(f"Tokens of the {name}, in {sent['units']}.", sent[side]["text"], sendable(sums[side]))
            for side, name in (("query", "query"), ("train", "training sequence"))
        )

    def __repr__(self) -> str:
        n_query, n_rank = self._sizes["position"], self._sizes["rank"]
        return f"PairMap({n_query} queries x {n_rank} sequences, {self._arrays.sizes['query_token']} query tokens)"


def _matching(queries: Any, tokens: xr.Dataset) -> xr.Dataset:
    """The queries of `tokens`, in its order."""
    if not isinstance(queries, xr.Dataset) or "query" not in queries.dims or "is_text" not in queries:
        raise CorpusError("queries must be the corpus over 'query' that the pairs were made with")
    wanted, known = tokens["query"].to_numpy().tolist(), queries["query"].to_numpy().tolist()
    lost = [name for name in wanted if name not in known]
    if lost:
        raise CorpusError(f"queries has no query {lost[0]!r}; give the corpus the pairs were made with")
    return queries.isel(query=[known.index(name) for name in wanted])
