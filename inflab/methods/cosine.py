"""Cosine of gradients: the dot product of `inflab.Identity` without the lengths of both gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from inflab import kronecker
from inflab.combined import folder_of
from inflab.errors import SettingError
from inflab.influence import Influence
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.methods.identity import Identity
from inflab.problem import Problem
from inflab.schema import variable_attrs

__all__ = ["Cosine", "CosineInfluence"]

_SIGN = "positive: the gradients say that training on the sequence makes the query's completion more likely"


class CosineInfluence(Influence):
    """Cosines of gradients; see `inflab.Influence` for the questions.

    A score is `grad f . grad log p / (|grad f| |grad log p|)`, lengths over all covered layers: a similarity between -1
    and 1, not nats. With `store=`, dot products and squared lengths are kept in the folders `products` and `squares`
    there, and the cosines are made of them when both are done. An index holds no lengths and is refused.
    """

    offers = Influence.offers - {"input", "index"}

    def score(self, queries: xr.Dataset, *, store: str | Path | None = None, **settings: Any) -> xr.Dataset:
        """Cosine of every training sequence's gradient with that of every query: two passes over the training data.

        Args:
            queries: a corpus over `query`.
            store: a folder for dot products and lengths, so that a run that was broken off goes on.
            **settings: as for `inflab.Influence.score`, without `rescore`.

        Returns:
            `influence (query, train[, layer])`, "1"; sums over layers are the cosines. 0 where a gradient is zero.

        Raises:
            SettingError: when `rescore` is given, which chooses by dot products.
        """
        if settings.pop("rescore", None) is not None:
            raise SettingError("rescore= chooses by dot products, not by cosines; leave rank= and rescore= out")
        found = self._dot.score(queries, store=folder_of(store, "products"), **settings)
        own = ("client", "memory", "batch_size", "shard_size", "progress")
        given = {name: settings[name] for name in own if name in settings}
        train = _rows(self._train(settings.get("train")), found["train"].to_numpy())
        squares = self._dot.self_influence(train=train, store=folder_of(store, "squares"), **given)["influence"]
        return self._made("scores", found, self._over_queries(queries, settings) * _inverse(squares))

    def self_influence(self, *, by: str | Iterable[str] = (), **settings: Any) -> xr.Dataset:
        """1 for each sequence whose gradient is not zero, or the share of each layer in its squared length.

        Args:
            by: "layer" keeps the layers apart.
            **settings: as for `inflab.Influence.self_influence`.

        Returns:
            `influence (train[, layer])`, "1".
        """
        store = settings.pop("store", None)
        found = self._dot.self_influence(by=by, store=folder_of(store, "squares"), **settings)
        square = found["influence"]
        whole = square.sum("layer") if "layer" in square.dims else square
        return self._made("self_influence", found, _inverse(whole) ** 2)

    def attribute(self, queries: xr.Dataset, top: xr.Dataset, **settings: Any) -> xr.Dataset:
        """The dot products by layer and token, divided by the same lengths: sums are the cosines.

        Args:
            queries: a corpus over `query`; must hold every query of `top`.
            top: `train (query, rank)`, from `inflab.top`.
            **settings: as for `inflab.Influence.attribute`.

        Returns:
            `influence (query, rank, layer, token[, query_token])`, "1"; without `layer` for `view="output"`.

        Raises:
            SettingError: when `view` is "input".
        """
        if settings.get("view") == "input":
            raise SettingError(
                "view='input' changes the length of the sequence's gradient too, by which a cosine is divided; use "
                "Identity, or another view"
            )
        found = self._dot.attribute(queries, top, **settings)
        train = _rows(self._train(settings.get("train")), found["train"].to_numpy())
        over_qr = _inverse(self._squares(train, "loss", settings)).sel(train=found["train"])
        over_q = self._over_queries(queries, settings).sel(query=found["query"].to_numpy())
        return self._made("tokens", found, over_q * over_qr)

    def _check_diagonal(self, what: str) -> None:
        if what != "pairs=True":  # pairs of tokens are divided like all else
            raise SettingError(f"{what} holds no lengths of gradients, which Cosine needs; use Identity")

    @property
    def _dot(self) -> Influence:
        """The same layers under `Identity`, whose stores say that they hold dot products."""
        tree = self._tree.copy()
        tree.attrs = {name: value for name, value in self._tree.attrs.items() if name != "units"} | {
            "method": "Identity"
        }
        return Influence(tree, self.problem, Identity(**vars(self.method)))

    def _over_queries(self, queries: xr.Dataset, settings: dict[str, Any]) -> xr.DataArray:
        return _inverse(self._squares(queries, "measurement", settings))

    def _squares(self, corpus: xr.Dataset, quantity: Any, settings: dict[str, Any]) -> xr.DataArray:
        """Squared length of each example's gradient, over all covered layers."""
        run, _ = self._prepare(settings.get("memory"), settings.get("batch_size"), settings.get("progress", True))
        dim = "query" if "query" in corpus.dims else "train"
        value = np.zeros(corpus.sizes[dim], dtype=np.float64 if run.itemsize() == 8 else np.float32)

        def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
            ready = kronecker.rotated(tokens.activation, tokens.gradient, tokens.width, None, None)
            value[index] += ready.norms(None).cpu().numpy()

        run.over(corpus, quantity, add, what="lengths")
        return xr.DataArray(value, {dim: corpus[dim].to_numpy()}, (dim,))

    def _made(self, kind: str, found: xr.Dataset, factor: xr.DataArray) -> xr.Dataset:
        dims = found["influence"].dims
        value = (found["influence"] * factor.drop_vars(factor.coords)).transpose(*dims)
        value = value.astype(found["influence"].dtype)
        description = "cosine of the gradients of query and training sequence: a similarity, not nats"
        described = variable_attrs("cosine of gradients", "1", description, sign=_SIGN)
        return found.assign(influence=value.assign_attrs(described)).assign_attrs(self._attrs(kind))


@dataclass(frozen=True, kw_only=True)
class Cosine(Identity):
    """Cosine of gradients: a similarity between -1 and 1, not nats. Fitting runs no pass; damping has no effect.

    Example:
        >>> found = inflab.Cosine(layers="*.mlp.*").fit(problem).score(queries)["influence"]
        >>> found.attrs["units"], bool((abs(found) <= 1).all())
        ('1', True)
    """

    result: ClassVar[type[Influence]] = CosineInfluence

    def needs(self, problem: Problem) -> dict[str, str]:
        """The units of scores, which are no nats."""
        return {"units": "1"}


def _rows(train: xr.Dataset, ids: np.ndarray) -> xr.Dataset:
    """The rows of a corpus with these ids; the corpus itself when they are all."""
    is_wanted = pd.Index(train["train"].to_numpy().tolist(), dtype=object).isin(ids.ravel().tolist())
    return train if is_wanted.all() else train.isel(train=np.flatnonzero(is_wanted))


def _inverse(square: xr.DataArray) -> xr.DataArray:
    """One over the root; 0 where there is nothing."""
    return 1 / square.where(square > 0, np.inf) ** 0.5
