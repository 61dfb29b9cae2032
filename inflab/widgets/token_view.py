"""Where in a text the influence of one pair lies: its tokens as a heat map, in three views.

"update" is GB23 eqs. 30 and 31, "output" eq. 36, "input" eqs. 37 and 38. Here labelled arrays become what the browser
draws; nothing is computed but sums and units.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from inflab.errors import CorpusError, SettingError
from inflab.widgets.payload import measure, plain, signed
from inflab.widgets.source import Source, View
from inflab.widgets.token_arrays import OfPairs, checked_tokens, pair_payload, static_tokens, token_payload

__all__ = ["VIEWS", "TokenView", "Tokens"]

VIEWS: tuple[View, ...] = ("update", "output", "input")


class Tokens:
    """Answers of the Explorer about the tokens of one pair.

    Args:
        source: gives the arrays.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._views = lru_cache(maxsize=256)(self._view)
        self._pairs = lru_cache(maxsize=32)(self._pair)

    def answers(self) -> dict[str, Callable[..., Any]]:
        """What the browser may ask: "tokens.view" and "tokens.pairs"."""
        return {"tokens.view": self.view, "tokens.pairs": self.pairs}

    def view(self, position: int, train: Any, view: View = "update") -> dict[str, Any]:
        """One pair's tokens (`token_payload`), with the pair's whole effect as `total`.

        Args:
            position: of the query, counted from 0.
            train: id of the training sequence.
            view: one of `VIEWS`.

        Returns:
            The payload with `position`, `train`, `view`, the `views` there are, and `total`.

        Raises:
            SettingError: when there is no such query or view.
        """
        self._check(position)
        if view not in VIEWS:
            raise SettingError(f"view={view!r} is not one of {', '.join(map(repr, VIEWS))}")
        if view not in self._known:
            raise SettingError(
                f"view={view!r} asks the model again, and a saved explanation holds 'update' alone; open the Explorer "
                "with the fitted Influence and the queries"
            )
        return self._views(position, train, view)

    def pairs(self, position: int, train: Any, layer: str | None = None) -> dict[str, Any]:
        """One pair token by token (`pair_payload`).

        Args:
            position: of the query, counted from 0.
            train: id of the training sequence.
            layer: one layer, or None for their sum.

        Returns:
            The payload with `position`; its `train` carries the `id`.

        Raises:
            SettingError: when there is no such query, it is a contrast, or its tokens were not kept apart.
        """
        self._check(position)
        if "pairs" not in self._source.can:
            raise SettingError(
                "a saved explanation does not hold which query token meets which training token; open the Explorer "
                "with the fitted Influence and the queries"
            )
        return self._pairs(position, train, layer)

    @property
    def _known(self) -> tuple[View, ...]:
        return tuple(view for view in VIEWS if view == "update" or view in self._source.can)

    def _check(self, position: int) -> None:
        if not 0 <= position < len(self._source.ids):
            raise SettingError(f"position={position} must lie between 0 and {len(self._source.ids) - 1}")

    def _view(self, position: int, train: Any, view: View) -> dict[str, Any]:
        sent = token_payload(self._source.tokens(position, train, view=view))
        score, _ = measure(self._source.scores.isel(query=position).sel(train=train))
        about = {"position": position, "train": train, "view": view, "views": list(self._known)}
        return {**sent, **about, "total": plain(float(score))}

    def _pair(self, position: int, train: Any, layer: str | None) -> dict[str, Any]:
        query = self._query(position)
        sent = pair_payload(self._source.tokens(position, train, pairs=True), layer, query)
        return {**sent, "position": position, "train": {**sent["train"], "id": train}}

    def _query(self, position: int) -> xr.Dataset | None:
        """The text behind a position, where it is one."""
        measured = getattr(self._source, "measured", None)
        if measured is None:
            return None if self._source.queries is None else self._source.queries.isel(query=position)
        queries, weights = measured(position)
        if len(weights) > 1:
            raise SettingError(
                f"this question contrasts {len(weights)} completions, which share no tokens to set beside the training "
                "tokens; ask one of them by itself"
            )
        one: xr.Dataset = queries.isel(query=0)
        return one


class TokenView(OfPairs):
    """The tokens of a training sequence, coloured by what each adds to the query.

    Args:
        tokens: from `Influence.attribute`, of one or several pairs.
        *more: the same pairs in other views (`view="output"`, `view="input"`), to switch between.
        position: query shown first, counted from 0.
        rank: sequence of its list shown first, counted from 1.

    Raises:
        SchemaError: when an array is missing.
        CorpusError: when there is no pair, or `more` holds other pairs.
        SettingError: when a view is given twice.
        TraitError: when there is no such query or rank.

    Example:
        >>> update = ekfac.attribute(queries, best)
        >>> view = inflab.widgets.TokenView(update, ekfac.attribute(queries, best, view="output"))
        >>> view.view
        'update'
    """

    part = "token_view"

    view = traitlets.Unicode("update").tag(sync=True)
    """Which token view is shown: "update", "output" or "input", of those given. `str`, default the first given."""

    token = traitlets.Int(0).tag(sync=True)
    """The active token, counted from 0 among those that are text. `int`, default the one of the largest effect."""

    _tokens = traitlets.Dict().tag(sync=True)
    """What is drawn (`token_payload`). `dict`."""

    def __init__(self, tokens: xr.Dataset, *more: xr.Dataset, position: int = 0, rank: int = 1) -> None:
        self._arrays: dict[str, xr.Dataset] = {}
        for given in (tokens, *more):
            checked = checked_tokens(given)
            name = str(given.attrs.get("view", "update"))
            if name in self._arrays:
                raise SettingError(f"view={name!r} is given twice; give each view once")
            self._arrays[name] = checked
        first, *others = self._arrays.values()
        if not all(_has_same_pairs(first, other) for other in others):
            raise CorpusError("the views are of different pairs; attribute them all with the same queries and top")
        super().__init__(first, position, rank, view=next(iter(self._arrays)))
        self._show()
        self.observe(lambda change: self._show(), names=["position", "rank", "view"])

    @traitlets.validate("view")
    def _check_view(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] not in self._arrays:
            raise traitlets.TraitError(f"view={proposal['value']!r} is not one of those given: {list(self._arrays)}")
        return str(proposal["value"])

    def _show(self) -> None:
        arrays = self._arrays[self.view]
        sent = token_payload(self._pair_of(arrays))
        whole = self._arrays.get("update")
        total = None if whole is None else token_payload(self._pair_of(whole))["sum"]
        is_new = self._tokens.get("text") != sent["text"]
        self.error = ""
        self._choices = self._choices_of(arrays)
        self._tokens = {**sent, "view": self.view, "views": list(self._arrays), "total": total}
        if is_new:  # another view of the same text keeps the reader's place
            size = np.abs([number or 0.0 for number in sent["effect"]])
            self.token = int(size.argmax()) if len(size) else 0

    def _static(self) -> str:
        sent = self._tokens
        about = f"Tokens (view {sent['view']!r}), in {sent['units']}; they sum to {signed(sent['sum'])}."
        return static_tokens(about, sent["text"], sent["effect"])

    def __repr__(self) -> str:
        n_query, n_rank = self._sizes["position"], self._sizes["rank"]
        return f"TokenView({n_query} queries x {n_rank} sequences, view {' or '.join(self._arrays)})"


def _has_same_pairs(one: xr.Dataset, other: xr.Dataset) -> bool:
    def known(arrays: xr.Dataset) -> tuple[Any, ...]:
        text = arrays["token_text"].transpose("query", "rank", "token").to_numpy()
        train = arrays["train"].to_numpy().ravel().tolist() if "train" in arrays else []
        return text.shape, text.tolist(), train

    return known(one) == known(other)
