"""Curvature: the spectrum of each layer, and scores under another damping from the same eigenbasis."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import traitlets
import xarray as xr
from scipy.stats import rankdata

from inflab.errors import SettingError, is_finite_number
from inflab.spectra import spectral_layers, spectrum
from inflab.widgets.base import Answers, Part
from inflab.widgets.live import LiveSource, weighed
from inflab.widgets.opening import open_source
from inflab.widgets.source import Source

__all__ = ["Curvature", "CurvaturePanel"]

_TOP = 10
_KEPT = 64  # scores under a damping
#: Called with the query's position, the damping (relative, None for that of the fit) and `influence (train)`.
OnScores = Callable[[int, float | None, xr.DataArray], None]


class Curvature:
    """Answers about curvature, for the Explorer.

    Args:
        source: where the answers come from; one with `index` (an `inflab.Index`) is asked through it.
        on_scores: told the scores of a query under a damping.
    """

    def __init__(self, source: Source, on_scores: OnScores = lambda position, damping, scores: None) -> None:
        self._source, self._on_scores = source, on_scores
        self._spectra: dict[str, dict[str, Any]] = {}
        self._scores: OrderedDict[tuple[int, float | None], xr.DataArray] = OrderedDict()

    def answers(self) -> Answers:
        """Question -> what answers it: "curvature.spectrum", "curvature.rescore"."""
        return {"curvature.spectrum": self.spectrum, "curvature.rescore": self.rescore}

    def spectrum(self, layer: str | None = None) -> dict[str, Any]:
        """The thinned spectrum of one layer, and what layers there are.

        Args:
            layer: which; the first when None.

        Returns:
            `layers`, `layer`, `rank`, `value`, `size`, `mean`, `damping`, `below` as of `inflab.spectra.Spectrum`;
            `fitted`, the damping of the fit relative to the mean eigenvalue, None where it is absolute; `note`, why
            there is no spectrum.
        """
        names, note = self._layers()
        if not names:
            return {"layers": [], "layer": "", "fitted": None, "note": note}
        layer = names[0] if layer is None else layer
        if layer not in self._spectra:
            self._spectra[layer] = vars(spectrum(self._source.influence.factors, layer))
        return {"layers": names, "layer": layer, "fitted": self._fitted(), "note": "", **self._spectra[layer]}

    def rescore(self, position: int, damping: float | None) -> dict[str, Any]:
        """Score a query under another damping; the scores go to `on_scores`.

        Args:
            position: of the query.
            damping: times each layer's mean eigenvalue; None for that of the fit, which costs nothing.

        Returns:
            `damping`, `seconds`, `source` ("index", "pass", "fitted"); against the damping of the fit `agreement`
            (Spearman's correlation; None where an order is constant) and `overlap`, how many of the first `top`. An
            index is compared with its own scores: what it loses is not the damping's doing.

        Raises:
            SettingError: when `damping` is no positive number, or saved arrays are read.
        """
        started = time.perf_counter()
        fitted = self._source.scores["influence"].isel(query=position)
        where = "fitted"
        value, other = fitted, fitted
        if damping is not None and damping != self._fitted():
            if not (is_finite_number(damping) and damping > 0):
                raise SettingError(f"damping={damping!r} must be a positive number")
            value, where = self.under(position, float(damping))
        seconds = time.perf_counter() - started
        self._on_scores(position, damping if where != "fitted" else None, value)
        if where == "index":
            other, _ = self.under(position, None)
        pair = [scores.to_numpy().astype(np.float64) for scores in (value, other)]
        top = min(_TOP, len(pair[0]))
        best = [set(np.argsort(-scores, kind="stable")[:top].tolist()) for scores in pair]
        return {
            "damping": damping, "seconds": seconds, "source": where, "agreement": _spearman(*pair),
            "overlap": len(best[0] & best[1]), "top": top,
        }  # fmt: skip

    def under(self, position: int, damping: float | None) -> tuple[xr.DataArray, str]:
        """Influence of every training sequence under a damping, and what gave it.

        Args:
            position: of the query.
            damping: times each layer's mean eigenvalue; None for that of the fit.

        Returns:
            `influence (train)`, and "index" or "pass".

        Raises:
            SettingError: when saved arrays are read.
        """
        where = "pass" if self._source.index is None else "index"
        key = (position, damping)
        if key not in self._scores:
            self._scores[key] = self._scored(position, damping)
            if len(self._scores) > _KEPT:
                self._scores.popitem(last=False)
        self._scores.move_to_end(key)
        return self._scores[key], where

    def by_layer(self, position: int, damping: float | None) -> xr.DataArray:
        """Influence of every training sequence under a damping, `(train, layer)`; as `under`, and not kept."""
        return self._scored(position, damping, by="layer").transpose("train", "layer")

    def _scored(self, position: int, damping: float | None, by: str | tuple[()] = ()) -> xr.DataArray:
        if not isinstance(self._source, LiveSource):
            raise SettingError("saved scores have one damping; open the Explorer on the fitted Influence to change it")
        asked = self._source.influence if self._source.index is None else self._source.index
        asked = asked if damping is None else asked.with_damping(damping, "relative")
        queries, weights = self._source.measured(position)
        return weighed(asked.score(queries, by=by, progress=False)["influence"], weights)

    def _layers(self) -> tuple[list[str], str]:
        if self._source.influence is None:
            return [], "Saved arrays hold no factors: open the Explorer on the fitted Influence to see its curvature."
        factors = getattr(self._source.influence, "factors", None)
        names = spectral_layers(factors) if isinstance(factors, xr.DataTree) else []
        method = self._source.attrs.get("method", "This method")
        return names, "" if names else f"{method} uses no curvature: there is no spectrum and no damping."

    def _fitted(self) -> float | None:
        """The damping of the fit, if it is relative."""
        settings = json.loads(str(self._source.attrs.get("settings", "{}")))
        damping = settings.get("damping")
        is_relative = settings.get("damping_kind") == "relative" and is_finite_number(damping)
        return float(damping) if is_relative else None


class CurvaturePanel(Part):
    """The spectrum of each layer, with a slider that scores a query again under another damping.

    Args:
        influence: a fitted method with curvature.
        queries: a corpus over `query`.
        position: query to begin with, counted from 0.

    Raises:
        SettingError: when `influence` cannot be asked.
        CorpusError: when `queries` cannot be used.
        TraitError: when `position` is outside the batch.

    Example:
        >>> panel = inflab.widgets.CurvaturePanel(ekfac, queries)
        >>> panel.position
        0
    """

    part = "curvature"

    position = traitlets.Int(0).tag(sync=True)
    """Which query is scored, counted from 0. `int`, default 0."""

    damping = traitlets.Float(None, allow_none=True).tag(sync=True)
    """The damping chosen, times each layer's mean eigenvalue. `float`, default None: that of the fit."""

    _can_rescore = traitlets.Bool(True).tag(sync=True)
    """Whether a damping can be chosen. `bool`."""

    def __init__(self, influence: Any, queries: xr.Dataset, position: int = 0) -> None:
        self._source = open_source(influence, queries, 1)
        self._curvature = Curvature(self._source, self._take)
        self._found: tuple[int, xr.DataArray] | None = None
        can_rescore = callable(getattr(influence, "with_damping", None))
        super().__init__(self._curvature.answers(), position=position, _can_rescore=can_rescore)

    @property
    def scores(self) -> xr.DataArray:
        """Influence on the query shown under the damping chosen, over `train`, as soon as it was scored."""
        if self._found is not None and self._found[0] == self.position:
            return self._found[1]
        return self._source.scores["influence"].isel(query=self.position)

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        position, n_query = int(proposal["value"]), len(self._source.ids)
        if not 0 <= position < n_query:
            raise traitlets.TraitError(f"position={position} must lie between 0 and {n_query - 1}")
        return position

    def _take(self, position: int, damping: float | None, scores: xr.DataArray) -> None:
        self._found = (position, scores)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": f"<p>{self._in_words()}</p>"}, metadata

    def _in_words(self) -> str:
        first = self._curvature.spectrum()
        if first["note"]:
            return str(first["note"])
        return f"Curvature of {len(first['layers'])} layers; {first['below']:.0%} of the first one lies below lambda."

    def __repr__(self) -> str:
        return f"CurvaturePanel({len(self._source.ids)} queries; {self._in_words()})"


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    ranks = np.stack([rankdata(one), rankdata(other)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / scale if scale > 0 else None
