"""Charts of influence: where it comes from in network, text and corpus."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from inflab.effects import effect, predicts
from inflab.errors import SchemaError, SettingError
from inflab.plot.style import NEGATIVE, NEUTRAL, POSITIVE, Chart, dress

__all__ = ["UNITS", "layer_profile", "tokens", "top_bar", "values"]

UNITS = "nat per added copy"
_MORE, _LESS = "more likely", "less likely"


def layer_profile(arrays: xr.Dataset, *, width: int = 260) -> Chart:
    """Where in the network the influence comes from: effect by layer (GB23 eq. 30).

    Args:
        arrays: `influence` over `layer` with `n_train` in attrs: tokens of `Influence.attribute`, or scores with
            `by="layer"`. Tokens are summed; any other dims (queries, ranks, training sequences) are averaged over.
        width: of the plotting area in pixels.

    Returns:
        Bars over blocks, one row for each role ("mlp.c_fc", ...); bars by layer name when some layer stands outside
        the blocks.

    Raises:
        SchemaError: when `influence`, `layer` or `n_train` is missing.

    Example:
        >>> chart = inflab.plot.layer_profile(ekfac.score(queries, by="layer"))
        >>> isinstance(chart, inflab.plot.Chart)
        True
    """
    value, units = values(arrays, "layer")
    pairs = [str(dim) for dim in value.dims if dim not in ("layer", "token")]
    value = value.sum("token", min_count=1) if "token" in value.dims else value
    n_pairs = int(value.notnull().any("layer").sum())
    value = value.mean(pairs)
    names = [str(name) for name in value["layer"].to_numpy()]
    block = value["block"].to_numpy() if "block" in value.coords else np.full(len(names), -1)
    role = [str(name) for name in value["role"].to_numpy()] if "role" in value.coords else names
    frame = _signed(pd.DataFrame({"layer": names, "block": block, "role": role, "effect": value.to_numpy()}))

    title = units if n_pairs == 1 else f"{units}, mean of {n_pairs:,} pairs"
    described = "No layer has a number."
    if frame["effect"].notna().any():
        largest = int(frame["effect"].abs().to_numpy().argmax())
        described = f"Largest: {names[largest]}, {frame['effect'].to_numpy()[largest]:+.3g} {title}."
    base = alt.Chart(frame).mark_bar().encode(color=_sign_colour(), tooltip=_tooltip(units, "layer"))
    if (block < 0).any():
        bars = base.properties(width=width, height=alt.Step(14)).encode(
            x=alt.X("effect:Q", title=title), y=alt.Y("layer:N", sort=None, title="layer")
        )
        return dress(bars, "Effect by layer", described)
    rows = base.properties(width=width, height=64).encode(
        x=alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("effect:Q", title=None, axis=alt.Axis(tickCount=3)),
    )
    facet = alt.Row(
        "role:N", title=title, sort=list(dict.fromkeys(role)), header=alt.Header(labelOrient="top", labelAnchor="start")
    )
    return dress(rows.encode(row=facet), "Effect by layer", described)


def top_bar(top: xr.Dataset, *, width: int = 320) -> Chart:
    """The ranked list of one query as bars.

    Args:
        top: from `inflab.top`, of one query (`top.isel(query=[0])`).
        width: of the plotting area in pixels.

    Returns:
        One bar a rank, labelled with the id of the training sequence; text and share of total in the tooltip.

    Raises:
        SchemaError: when `effect` or `share` is missing.
        SettingError: when there is more than one query.

    Example:
        >>> chart = inflab.plot.top_bar(best.isel(query=[0]))  # of one query
        >>> isinstance(chart, inflab.plot.Chart)
        True
    """
    if "share" not in top:
        raise SchemaError(["/: variable 'share' is missing; make the list with inflab.top"])
    one = _one(top, "query", "top.isel(query=[0])")
    value, units = values(one, "rank")
    text = one["text"].to_numpy() if "text" in one.coords else np.full(value.sizes["rank"], "")
    ids = one["train"].to_numpy()
    frame = pd.DataFrame({
        "rank": one["rank"].to_numpy(),
        "label": [f"{rank}. {train}" for rank, train in zip(one["rank"].to_numpy(), ids, strict=True)],
        "sequence": [_cut(str(item), 160) for item in text],
        "effect": value.to_numpy(),
        "share": one["share"].to_numpy(),
    })
    frame = _signed(frame.dropna(subset=["effect"]))
    bars = (
        alt
        .Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("effect:Q", title=units),
            y=alt.Y("label:N", sort=None, title="rank and training sequence"),
            color=_sign_colour(),
            tooltip=[*_tooltip(units, "label"), alt.Tooltip("share:Q", format=".1%"), "sequence:N"],
        )
        .properties(width=width, height=alt.Step(16))
    )
    total = f"{len(frame)} training sequences" + (f", {frame['share'].sum():.0%} of the total" if len(frame) else "")
    return dress(bars, "Most influential training sequences", f"{total}.")


def tokens(arrays: xr.Dataset) -> Chart:
    """Where in the text one pair's influence comes from: a heat strip, with one row a layer where layers are kept.

    Heat sits one token early: the position that reads a token predicts the next one (GB23 eq. 31).

    Args:
        arrays: from `Influence.attribute`, one pair (`.isel(query=[0], rank=[0])`); `.sum("layer")` gives one row.

    Returns:
        A diverging heat map over tokens and layers.

    Raises:
        SchemaError: when `influence`, `token_text` or `n_train` is missing.
        SettingError: when there is more than one pair.

    Example:
        >>> chart = inflab.plot.tokens(tokens.isel(query=[0], rank=[0]).sum("layer", keep_attrs=True))
        >>> isinstance(chart, inflab.plot.Chart)
        True
    """
    if "token_text" not in arrays:
        raise SchemaError(["/: variable 'token_text' is missing; make the array with Influence.attribute"])
    pair = _one(_one(arrays, "query", "tokens.isel(query=[0])"), "rank", "tokens.isel(rank=[0])")
    value, units = values(pair, "token")
    if "layer" not in value.dims:
        value = value.expand_dims(layer=["all layers"])
    value = value.transpose("layer", "token")
    keep = pair["is_text"].to_numpy() if "is_text" in pair else np.full(value.sizes["token"], True)
    texts = [_visible(str(text)) for text in pair["token_text"].to_numpy()[keep]]
    labels = [f"{i} {_cut(text, 24)}" for i, text in enumerate(texts, start=1)]
    frame = pd.DataFrame([
        {"layer": str(name), "token": label, "effect": number}
        for name, row in zip(value["layer"].to_numpy(), value.to_numpy()[:, keep], strict=True)
        for label, number in zip(labels, row, strict=True)
    ])
    limit = float(np.nanmax(np.abs(value.to_numpy()), initial=0.0)) or 1.0
    heat = alt.Scale(domain=[-limit, 0, limit], range=[NEGATIVE, NEUTRAL, POSITIVE])
    cells = (
        alt
        .Chart(_signed(frame))
        .mark_rect()
        .encode(
            x=alt.X("token:N", sort=None, title="token of the training sequence", axis=alt.Axis(labelAngle=-60)),
            y=alt.Y("layer:N", sort=None, title=None),
            color=alt.Color("effect:Q", scale=heat, title=[units, f"below 0: {_LESS}", f"above 0: {_MORE}"]),
            tooltip=_tooltip(units, "layer", "token"),
        )
        .properties(width=alt.Step(18), height=alt.Step(18))
    )
    return dress(cells, "Effect by token", f"{len(texts)} tokens, effect in {units}.")


def values(arrays: xr.Dataset, *dims: str) -> tuple[xr.DataArray, str]:
    """What is drawn and its units: the effect, or a similarity, which is none; `dims` must be there."""
    if not isinstance(arrays, xr.Dataset):
        raise SchemaError([f"/: expected an xarray Dataset, got {type(arrays).__name__}"])
    units = UNITS
    if "effect" in arrays:
        value = arrays["effect"]
        if (copies := float(value.attrs.get("copies", 1))) != 1:
            units = f"nat for {copies:+g} copies"
    elif "influence" in arrays and not predicts(arrays):
        value = arrays["influence"]
        units = str(value.attrs.get("long_name", value.attrs["units"]))
    else:
        value = effect(arrays)["effect"]
    missing = [dim for dim in dims if dim not in value.dims]
    if missing:
        raise SchemaError([f"/: 'influence' has dims {value.dims}, needs {missing} too"])
    return value, units


def _one(arrays: xr.Dataset, dim: str, mend: str) -> xr.Dataset:
    if arrays.sizes.get(dim, 1) != 1:
        raise SettingError(f"the chart shows one {dim}, the array has {arrays.sizes[dim]}; choose one with {mend}")
    return arrays.squeeze(dim) if dim in arrays.dims else arrays


def _signed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(sign=np.where(frame["effect"] < 0, _LESS, _MORE))


def _sign_colour() -> alt.Color:
    scale = alt.Scale(domain=[_MORE, _LESS], range=[POSITIVE, NEGATIVE])
    return alt.Color("sign:N", title="makes the completion", scale=scale, legend=alt.Legend(orient="bottom"))


def _tooltip(units: str, *names: str) -> list[alt.Tooltip]:
    number = alt.Tooltip("effect:Q", format="+.3g", title=units)
    return [*(alt.Tooltip(f"{name}:N") for name in names), number, alt.Tooltip("sign:N")]


def _visible(text: str) -> str:
    """Whitespace as a reader can see it."""
    return text.replace("\n", "⏎").replace("\t", "⇥") if text.strip() else text.translate(_BLANKS) or "∅"


_BLANKS = str.maketrans({"\n": "⏎", "\t": "⇥", " ": "␣", "\r": "␍"})


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
