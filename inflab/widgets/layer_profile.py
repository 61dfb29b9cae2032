"""The layer profile: where in the network an effect comes from, and which layers to rank by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from inflab.effects import require
from inflab.errors import SchemaError
from inflab.widgets import payload
from inflab.widgets.base import Answers, Part
from inflab.widgets.source import SIGNS, Source

__all__ = ["LayerProfile", "Layers"]


class LayerProfile(Part):
    """A bar for each layer, by block and kind; brush layers to choose them.

    Args:
        arrays: `influence` over `layer`: tokens of `Influence.attribute`, or scores with `by="layer"`. Tokens are
            summed; other dims (queries, ranks, training sequences) are averaged over, and the widget says of how many.
        layers: names chosen first; [] for all.

    Raises:
        SchemaError: when `influence` or `layer` is missing.
        TraitError: when `layers` names a layer that is not there.

    Example:
        >>> profile = inflab.widgets.LayerProfile(ekfac.score(queries, by="layer"))
        >>> profile.layers = ["transformer.h.0.mlp.c_fc"]
    """

    part = "layer_profile"

    layers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Names of the layers chosen, in the order of the network. `list` of `str`, default []: all of them."""

    _profile = traitlets.Dict().tag(sync=True)
    """What is drawn, but for the choice. `dict`, sent once."""

    def __init__(self, arrays: xr.Dataset, layers: list[str] | tuple[str, ...] = ()) -> None:
        value, units, label = _averaged(arrays)
        rows = described(value)
        self._names = [str(layer["name"]) for layer in rows]
        sent = {"layers": rows, "units": units, "label": label}
        super().__init__(_profile=payload.sendable(sent), layers=list(layers))

    @traitlets.validate("layers")
    def _check_layers(self, proposal: dict[str, Any]) -> list[str]:
        wanted = set(proposal["value"])
        if lost := sorted(wanted - set(self._names)):
            raise traitlets.TraitError(f"layers: {lost[0]!r} is not one of the {len(self._names)} layers")
        return [name for name in self._names if name in wanted]

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": _as_html(self._profile)}, metadata

    def __repr__(self) -> str:
        return f"LayerProfile({len(self._names)} layers, {len(self.layers) or 'all'} chosen)"


class Layers:
    """Answers about layers, for the Explorer.

    Args:
        source: where the arrays come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sums = lru_cache(maxsize=64)(self._summed)

    def answers(self) -> Answers:
        """Question -> what answers it: "layers.profile"."""
        return {"layers.profile": self.profile}

    def profile(self, position: int, train: Any = None) -> dict[str, Any]:
        """Effects by layer of one pair, and of all sequences of each sign together.

        Args:
            position: of the query.
            train: id of the sequence; None leaves the pair out.

        Returns:
            `units`; `can_rank`, whether scores by layer are there; `pair`, `positive`, `negative`: each a list of
            `{name, block, role, kind, effect}`, or None where there is none; `counts` of sequences of each sign. A
            sign's effect is the sum over all training sequences of that sign. An explanation with layers summed knows
            the pairs of its lists only.
        """
        can_rank = "layers" in self._source.can
        pair = None
        if train is not None:
            pair = self._by_layer(position).sel(train=train) if can_rank else self._of_tokens(position, train)
        own = {"pair": None if pair is None else self._rows(pair), "can_rank": can_rank, "units": self._units()}
        return {**own, **(self._sums(position) if can_rank else {"positive": None, "negative": None, "counts": {}})}

    def _by_layer(self, position: int) -> xr.DataArray:
        return self._source.by_layer(position)

    def _of_tokens(self, position: int, train: Any) -> xr.DataArray | None:
        found = self._source.tokens(position, train)
        value: xr.DataArray = found["influence"]
        return value.sum("token", keep_attrs=True) if "layer" in value.dims else None

    def _summed(self, position: int) -> dict[str, Any]:
        value_tl = self._by_layer(position)
        total_t = value_tl.sum("layer")
        chosen = {"positive": total_t > 0, "negative": total_t < 0}
        sums = {sign: value_tl.where(chosen[sign], 0).sum("train", keep_attrs=True) for sign in SIGNS}
        rows: dict[str, Any] = {sign: self._rows(one) for sign, one in sums.items()}
        return {**rows, "counts": {sign: int(chosen[sign].sum()) for sign in SIGNS}}

    def _measured(self, value: xr.DataArray) -> tuple[xr.DataArray, str]:
        like = self._source.scores["influence"].attrs
        return payload.measure(xr.Dataset({"influence": value.assign_attrs(like)}, attrs=self._source.attrs))

    def _rows(self, value: xr.DataArray) -> list[dict[str, Any]]:
        return described(self._measured(value)[0])

    def _units(self) -> str:
        return self._measured(xr.DataArray(0.0))[1]


def described(value: xr.DataArray) -> list[dict[str, Any]]:
    """Each layer with its place in the network and its effect; a place that the array does not say is outside."""
    names = [str(name) for name in value["layer"].to_numpy()]

    def column(name: str, otherwise: list[Any]) -> list[Any]:
        return list(value[name].to_numpy().tolist()) if name in value.coords else otherwise

    block, role = column("block", [-1] * len(names)), column("role", names)
    kind, effect = column("kind", [""] * len(names)), value.to_numpy().astype(np.float64).tolist()
    keys = ("name", "block", "role", "kind", "effect")
    return [dict(zip(keys, row, strict=True)) for row in zip(names, block, role, kind, effect, strict=True)]


def _averaged(arrays: Any) -> tuple[xr.DataArray, str, str]:
    name = "effect" if "effect" in getattr(arrays, "data_vars", ()) else "influence"
    require(arrays, name)
    if "layer" not in arrays[name].dims:
        raise SchemaError([f"/: {name!r} has dims {arrays[name].dims}, needs 'layer' too; score with by='layer'"])
    value, units = (arrays[name], payload.UNITS) if name == "effect" else payload.measure(arrays)
    value = value.sum("token", min_count=1) if "token" in value.dims else value
    others = [str(dim) for dim in value.dims if dim != "layer"]
    pairs = int(value.notnull().any("layer").sum())
    label = "Effect by layer" + (f", mean of {pairs:,} pairs" if pairs > 1 else "")
    return value.mean(others), units, label


def _as_html(profile: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(layer["name"])}</th>'
        f"<td>{payload.signed(layer['effect'])}</td></tr>"
        for layer in profile["layers"]
    )
    caption = f'<caption style="text-align:left">{escape(profile["label"])}, {escape(profile["units"])}</caption>'
    head = '<thead><tr><th scope="col">layer</th><th scope="col">effect</th></tr></thead>'
    return f'<table class="inflab-layer-profile-static">{caption}{head}<tbody>{rows}</tbody></table>'
