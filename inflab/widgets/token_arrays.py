"""Labelled arrays of tokens as the browser draws them, and what the widgets that show chosen pairs share."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from inflab.effects import require
from inflab.errors import CorpusError, SchemaError, SettingError
from inflab.labels import token_text
from inflab.widgets.base import Part
from inflab.widgets.payload import clean, measure, sendable, signed

__all__ = ["OfPairs", "checked_tokens", "pair_payload", "static_tokens", "token_payload"]

_NAME = 80  # characters of a text in a list of choices
_MARKED = 0.2  # of the largest number: above it a token has its number in the static view
_CHARACTERS = 200  # of a token in the static view


def token_payload(pair: xr.Dataset) -> dict[str, Any]:
    """One pair's text tokens with their numbers; padding stays behind.

    Args:
        pair: `influence ([layer, ]token[, query_token])` with `token_text` and `is_text`.

    Returns:
        `text` and `effect` of each token that is text, `units`, their `sum`, and `heat` with `layers` and `effect
        (layer, token)`, or None where no layers are kept.
    """
    value, units = _summed(pair, "query_token")
    keep = np.flatnonzero(pair["is_text"].to_numpy())
    heat = None
    if "layer" in value.dims:
        value = value.transpose("layer", "token")
        heat = {"layers": [str(name) for name in value["layer"].to_numpy()], "effect": value.to_numpy()[:, keep]}
        value = value.sum("layer", skipna=False)
    effect = value.to_numpy()[keep]
    sent: dict[str, Any] = sendable({
        "text": [str(text) for text in pair["token_text"].to_numpy()[keep]],
        "effect": effect,
        "units": units,
        "sum": float(effect.sum()),
        "heat": heat,
    })
    return sent


def pair_payload(pair: xr.Dataset, layer: str | None = None, query: xr.Dataset | None = None) -> dict[str, Any]:
    """Token by token: which token of the query meets which token of the training sequence.

    Args:
        pair: `influence ([layer, ]token, query_token)` with `token_text` and `is_text`.
        layer: one layer, or None for their sum.
        query: the query as a corpus without its dim, where `pair` has no `query_token_text`.

    Returns:
        `query` and `train`, each with its `text`; `effect (query token, training token)`, `units`, `layer`, `layers`.

    Raises:
        CorpusError: when `query` is not the one the pair was made with.
        SchemaError: when the query's tokens are not kept apart, or their text is nowhere.
        SettingError: when there is no such layer.
    """
    require(pair, "influence", "token", "query_token")
    layers = [str(name) for name in pair["layer"].to_numpy()] if "layer" in pair["influence"].dims else []
    if layer is not None:
        if layer not in layers:
            raise SettingError(f"layer={layer!r} is not among the layers kept: {layers}")
        pair = pair.isel(layer=layers.index(layer))
    value, units = _summed(pair, "layer")
    text, is_text = _query_text(pair, query)
    rows, columns = np.flatnonzero(is_text), np.flatnonzero(pair["is_text"].to_numpy())
    sent: dict[str, Any] = sendable({
        "query": {"text": [str(text[i]) for i in rows]},
        "train": {"text": [str(piece) for piece in pair["token_text"].to_numpy()[columns]]},
        "effect": value.transpose("query_token", "token").to_numpy()[np.ix_(rows, columns)],
        "units": units,
        "layer": layer,
        "layers": layers,
    })
    return sent


def checked_tokens(tokens: Any, *dims: str) -> xr.Dataset:
    """Tokens of pairs over `query` and `rank`, whatever of these was left out by choosing one.

    Args:
        tokens: from `Influence.attribute`.
        *dims: that `influence` needs besides `token`.

    Returns:
        The arrays with both dims.

    Raises:
        CorpusError: when there is no pair.
        SchemaError: when a variable or a dim is missing.
    """
    require(tokens, "influence", "token", *dims)
    missing = [name for name in ("token_text", "is_text") if name not in tokens]
    if missing:
        raise SchemaError([f"/: variable {missing[0]!r} is missing; make the array with Influence.attribute"])
    found: xr.Dataset = tokens
    for dim in ("rank", "query"):
        if dim not in found.dims:
            found = found.expand_dims(dim)
    empty = [dim for dim in ("query", "rank") if found.sizes[dim] == 0]
    if empty:
        raise CorpusError(f"tokens has no {empty[0]}; attribute at least one pair")
    measure(found.isel(query=0, rank=0))  # fails early where no number can be told
    return found


class OfPairs(Part):
    """A widget that shows one of the pairs that were attributed.

    Args:
        arrays: over `query` and `rank`.
        position: query shown first.
        rank: sequence shown first.
        **traits: first values of others.
    """

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown, counted from 0. `int`, default 0."""

    rank = traitlets.Int(1).tag(sync=True)
    """Which sequence of the query's list is shown, counted from 1. `int`, default 1."""

    _choices = traitlets.Dict().tag(sync=True)
    """Names of the `queries`, and of the `sequences` of the query shown. `dict`."""

    def __init__(self, arrays: xr.Dataset, position: int, rank: int, **traits: Any) -> None:
        self._sizes = {"position": arrays.sizes["query"], "rank": arrays.sizes["rank"]}
        super().__init__(position=position, rank=rank, **traits)

    @traitlets.validate("position", "rank")
    def _check_place(self, proposal: dict[str, Any]) -> int:
        name, value = proposal["trait"].name, int(proposal["value"])
        first, last = (0, self._sizes[name] - 1) if name == "position" else (1, self._sizes[name])
        if not first <= value <= last:
            raise traitlets.TraitError(f"{name}={value} must lie between {first} and {last}")
        return value

    def _static(self) -> str:
        """What stands where widgets do not run, as escaped HTML."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": self._static()}, metadata

    def _pair_of(self, arrays: xr.Dataset) -> xr.Dataset:
        return arrays.isel(query=self.position, rank=self.rank - 1)

    def _choices_of(self, arrays: xr.Dataset) -> dict[str, list[str]]:
        """What a reader chooses from."""
        here = arrays.isel(query=self.position)
        ranked = _named(here, "rank", "train", "text")
        return {
            "queries": _named(arrays, "query", "query", "query_prompt", "query_completion"),
            "sequences": [f"{place}. {name}" for place, name in enumerate(ranked, start=1)],
        }


def static_tokens(caption: str, text: list[str], effect: list[float | None]) -> str:
    """Coloured tokens where widgets do not run, the strong ones with their number. All escaped."""
    most = max((abs(number) for number in effect if number is not None), default=0.0)
    pieces = "".join(_piece(piece, number, most) for piece, number in zip(text, effect, strict=True))
    return (
        f'<figure class="inflab-tokens-static" style="margin:0"><figcaption>{escape(caption)}</figcaption>'
        f'<p dir="auto" style="white-space:pre-wrap;overflow-wrap:anywhere">{pieces}</p></figure>'
    )


def _piece(text: str, number: float | None, most: float) -> str:
    shown = escape(text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + "…")
    if number is None or abs(number) <= _MARKED * most:
        return shown
    colour, line = ("0,114,178", "solid") if number > 0 else ("213,94,0", "dashed")
    style = f"background:rgba({colour},{0.45 * abs(number) / most:.2f});border-bottom:2px {line} rgb({colour})"
    return f'<span style="{style}">{shown}</span><sub>{signed(number)}</sub>'


def _named(arrays: xr.Dataset, dim: str, name: str, *texts: str) -> list[str]:
    """The ids along a dim, each with the beginning of its text."""

    def along(name: str) -> list[str]:
        if name not in arrays.variables or arrays[name].dims not in ((dim,), ()):
            return [""] * arrays.sizes[dim]
        return [clean(str(one)) for one in np.broadcast_to(arrays[name].to_numpy(), arrays.sizes[dim])]

    said = zip(along(name), *map(along, texts), strict=True)
    whole = [f"{first}: {''.join(rest)}" if "".join(rest) else first for first, *rest in said]
    return [one if len(one) <= _NAME else one[: _NAME - 1] + "…" for one in whole]


def _summed(pair: xr.Dataset, dim: str) -> tuple[xr.DataArray, str]:
    """Numbers for people, in float64, summed over a dim where it is kept."""
    value, units = measure(pair)
    value = value.astype(np.float64)
    return (value.sum(dim, skipna=False) if dim in value.dims else value), units


def _query_text(pair: xr.Dataset, query: xr.Dataset | None) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of the query, and which of them are text, over `query_token`."""
    if "query_token_text" in pair:
        text = pair["query_token_text"].to_numpy()
        return text, pair["is_query_text"].to_numpy() if "is_query_text" in pair else text != ""
    if query is None:
        raise SchemaError([
            "/: variable 'query_token_text' is missing; make the array with Influence.attribute(..., pairs=True), or "
            "give queries, the corpus it was made with"
        ])
    is_text = query["is_text"].to_numpy().astype(bool)
    if is_text.shape != (pair.sizes["query_token"],):
        raise CorpusError(
            f"queries has {is_text.size} token columns, the pairs have {pair.sizes['query_token']} query tokens; give "
            "the corpus they were made with"
        )
    return token_text(query, query["token_id"].to_numpy(), is_text), is_text
