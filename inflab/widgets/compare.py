"""Two scores of the same sequences side by side: two models, two methods, two dampings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets
import xarray as xr

from inflab.widgets.base import Part
from inflab.widgets.comparing import KS, Comparing
from inflab.widgets.payload import plain
from inflab.widgets.source import SIGNS

__all__ = ["Compare", "Comparing"]


class Compare(Part):
    """Two scores side by side: lists, how ranks moved, agreement per query and over the batch, a scatter.

    Args:
        a: scores, `influence (query, train[, layer])`, or an explanation.
        b: the other scores, of the same queries and training sequences; matched by id. Other units are allowed.
        names: what they are called.
        position: query to begin with, counted from 0 among those in both.
        k: length of the lists, 10, 50 or 100.
        sign: "positive" or "negative".

    Raises:
        SettingError: when the names are not two different ones.
        SchemaError: when scores lack `influence` or its dims.
        CorpusError: when nothing matches.
        TraitError: when `position`, `k` or `sign` is outside its domain.

    Example:
        >>> bm25 = inflab.BM25().fit(problem)
        >>> both = inflab.widgets.Compare(ekfac.score(queries), bm25.score(queries), names=("EK-FAC", "BM25"))
        >>> both.position = 2
    """

    part = "compare"

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown, counted from 0 among those in both. `int`, default 0."""

    k = traitlets.Enum(KS, KS[0]).tag(sync=True)
    """Length of the lists. `int`, 10, 50 or 100, default 10."""

    sign = traitlets.Enum(SIGNS, SIGNS[0]).tag(sync=True)
    """Which end of the ranking is listed. `str`, "positive" (default) or "negative"."""

    selected = traitlets.Any(None, allow_none=True).tag(sync=True)
    """Id of the training sequence picked. `str` or `int`, default None."""

    def __init__(
        self, a: Any, b: Any, names: Sequence[str] = ("first", "second"), *,
        position: int = 0, k: int = KS[0], sign: str = SIGNS[0],
    ) -> None:  # fmt: skip
        self._comparing = Comparing(a, b, names)
        super().__init__(self._comparing.answers(), position=position, k=k, sign=sign)

    @property
    def agreement(self) -> xr.Dataset:
        """Agreement of every query: `spearman (query)`, `overlap (query, group, rank)`, `rbo (query, group)`."""
        return self._comparing.dataset()

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        position, n_query = int(proposal["value"]), len(self._comparing.ids)
        if not 0 <= position < n_query:
            raise traitlets.TraitError(f"position={position} must lie between 0 and {n_query - 1}")
        return position

    @traitlets.validate("selected")
    def _check_selected(self, proposal: dict[str, Any]) -> Any:
        wanted = None if proposal["value"] is None else plain(proposal["value"])
        if wanted is not None and wanted not in {plain(one) for one in self._comparing.train}:
            raise traitlets.TraitError(f"selected={wanted!r} is not a training sequence that both scores hold")
        return wanted

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": self._comparing.as_html()}, metadata

    def __repr__(self) -> str:
        about = self._comparing
        return f"Compare({' | '.join(about.names)}, {len(about.ids)} queries, {len(about.train):,} training sequences)"
