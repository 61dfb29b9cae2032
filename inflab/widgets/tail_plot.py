"""The tail plot: how heavy the tail of one query's positive influence is, and how few sequences hold it."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from inflab.effects import require
from inflab.errors import CorpusError, NumericsError
from inflab.tails import tail
from inflab.widgets import payload
from inflab.widgets.base import Answers, Part
from inflab.widgets.source import Source

__all__ = ["TailPlot", "Tails"]

_CURVE = 120  # points of a curve
_NOTHING: dict[str, list[Any]] = {"x": [], "y": []}


class TailPlot(Part):
    """The tail of one query's positive influence with the fitted power law, and its coverage curve.

    Args:
        scores: `influence (query, train[, layer])`, or `effect`.
        position: query to begin with, counted from 0.
        bootstrap: resamples for the goodness of fit, as of `inflab.tail`.

    Raises:
        SchemaError: when a variable or a dim is missing.
        CorpusError: when there is no query.
        TraitError: when `position` is outside the batch.

    Example:
        >>> plot = inflab.widgets.TailPlot(scores, bootstrap=0)
        >>> plot.position = 1
    """

    part = "tail_plot"

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown, counted from 0. `int`, default 0."""

    _tail = traitlets.Dict().tag(sync=True)
    """Curves, fit and words of the query shown. `dict`."""

    def __init__(self, scores: xr.Dataset, position: int = 0, *, bootstrap: int = 100) -> None:
        self._drawn = _Drawn(scores, bootstrap)
        if not self._drawn.ids:
            raise CorpusError("scores holds no query; score at least one")
        super().__init__(position=position)
        self._show()
        self.observe(lambda change: self._show(), names="position")

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        position, n_query = int(proposal["value"]), len(self._drawn.ids)
        if not 0 <= position < n_query:
            raise traitlets.TraitError(f"position={position} must lie between 0 and {n_query - 1}")
        return position

    def _show(self) -> None:
        query = payload.clean(str(self._drawn.ids[self.position]))
        self._tail = payload.sendable({"query": query, **self._drawn.of(self.position)})

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        words = f"<p>Query {escape(self._tail['query'])}: {escape(self._tail['words'])}</p>"
        return {**data, "text/plain": repr(self), "text/html": words}, metadata

    def __repr__(self) -> str:
        return f"TailPlot({len(self._drawn.ids)} queries, query {self._tail['query']}: {self._tail['words']})"


class Tails:
    """Answers about tails, for the Explorer.

    Args:
        source: where the scores come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._drawn = _Drawn(source.scores, 100)

    def answers(self) -> Answers:
        """Question -> what answers it: "tail.query"."""
        return {"tail.query": self.query}

    def query(self, position: int) -> dict[str, Any]:
        """Curves, fit and words of one query: `ccdf`, `fit`, `coverage`, `units`, `words`."""
        if len(self._drawn.ids) != len(self._source.ids):  # questions were asked since
            self._drawn = _Drawn(self._source.scores, 100)
        return self._drawn.of(position)


class _Drawn:
    """What is drawn of each query: curves in the units that people read."""

    def __init__(self, scores: xr.Dataset, bootstrap: int) -> None:
        name = "effect" if "effect" in getattr(scores, "data_vars", ()) else "influence"
        require(scores, name, "query", "train")
        value, self.units = (scores[name], payload.UNITS) if name == "effect" else payload.measure(scores)
        if "layer" in value.dims:
            value = value.sum("layer", skipna=False, keep_attrs=True)
        self._scores = xr.Dataset({"effect": value}, attrs=scores.attrs)
        self.ids = value["query"].to_numpy().tolist()
        self._bootstrap = bootstrap
        self.of = lru_cache(maxsize=256)(self._of)

    def _of(self, position: int) -> dict[str, Any]:
        one = self._scores.isel(query=[position])
        try:
            found = tail(one, others=self._scores, bootstrap=self._bootstrap, points=_CURVE).isel(query=0)
        except NumericsError as error:  # a query without a tail is no failure of the widget
            empty: dict[str, list[Any]] = {"share": [], "count": [], "held": [], "null": [], "exponential": []}
            return {"ccdf": _NOTHING, "fit": None, "coverage": empty, "units": self.units, "words": f"No tail: {error}"}
        beyond = found["sequences"].to_numpy() / int(found["n_positive"])
        is_there = np.isfinite(found["value"].to_numpy())
        fit = {name: found[name].item() for name in ("alpha", "alpha_se", "xmin", "p", "n_tail", "n_positive")}
        return {
            "ccdf": {"x": found["value"].to_numpy()[is_there], "y": beyond[is_there]},
            "fit": fit,
            "coverage": {
                "share": found["fraction"].to_numpy(),
                "count": found["sequences"].to_numpy(),
                "held": found["held"].to_numpy(),
                "null": found["held_shuffled"].to_numpy(),
                "exponential": found["held_exponential"].to_numpy(),
            },
            "units": self.units,
            "words": str(found["sentence"].item()),
        }
