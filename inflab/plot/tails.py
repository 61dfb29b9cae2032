"""Charts of what is heavy-tailed: positive influence, and the curvature's spectrum."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from inflab.effects import predicts
from inflab.errors import SchemaError, SettingError
from inflab.plot.influence import UNITS, values
from inflab.plot.style import POSITIVE, Chart, dress
from inflab.spectra import spectral_layers
from inflab.spectra import spectrum as spectrum_of

__all__ = ["spectrum", "tail"]

_MOST = 20  # queries or layers
_SOLID, _DASHED, _DOTTED = [1.0, 0.0], [6.0, 4.0], [1.5, 3.0]
_CURVES = {"this query's list": "held", "another query's list": "held_shuffled", "exponential": "held_exponential"}


def tail(arrays: xr.Dataset, *, width: int = 320) -> Chart:
    """How heavy the tail of positive influence is (GB23 section 5.2.1).

    Args:
        arrays: of `inflab.tail`; or scores, `influence (query, train)` with `n_train` in attrs.
        width: of a plotting area in pixels.

    Returns:
        Of `inflab.tail`: the share of positive sequences beyond each value, with the fitted power law, and the coverage
        curve with both curves to compare it with. Of scores: positive effects against their rank, a line a query. A
        power law is a straight line in both.

    Raises:
        SchemaError: when a variable, its dims or `n_train` is missing.
        SettingError: when there are more than 20 queries, too many to tell apart.

    Example:
        >>> chart = inflab.plot.tail(inflab.tail(scores, bootstrap=0))
        >>> "hconcat" in chart.to_dict()
        True
    """
    if "held" in getattr(arrays, "data_vars", ()):
        return _fitted(arrays, width)
    value, units = values(arrays, "query", "train")
    value = value.sum("layer") if "layer" in value.dims else value
    _refuse_many("query", value.sizes["query"])
    parts = []
    for query in value["query"].to_numpy():
        row = value.sel(query=query).to_numpy()
        row = np.sort(row[row > 0])[::-1]
        # Log-spaced ranks: a line looks the same with 200 points as with a million.
        ranks = np.unique(np.geomspace(1, len(row), 200).round().astype(int)) if len(row) else np.array([], int)
        parts.append(pd.DataFrame({"query": str(query), "rank": ranks, "effect": row[ranks - 1]}))
    frame = pd.concat(parts, ignore_index=True)
    lines = (
        alt
        .Chart(frame)
        .mark_line()
        .encode(
            x=alt.X("rank:Q", scale=alt.Scale(type="log"), title="rank among positive training sequences"),
            y=alt.Y("effect:Q", scale=alt.Scale(type="log"), title=units, axis=alt.Axis(tickCount=5)),
            color=alt.Color("query:N", title="query", scale=alt.Scale(scheme="viridis")),
            tooltip=["query:N", "rank:Q", alt.Tooltip("effect:Q", format="+.3g")],
        )
        .properties(width=width, height=220)
    )
    return dress(lines, "Tail of positive effects", f"{value.sizes['query']} queries, logarithmic axes.")


def spectrum(factors: xr.DataTree, *, width: int = 320) -> Chart:
    """The curvature's spectrum: each layer's eigenvalues by rank, and its damping lambda as a dashed line.

    Args:
        factors: of an Influence (`influence.factors`); choose layers with `filter` or a subtree.
        width: of the plotting area in pixels.

    Returns:
        One line a layer, both axes logarithmic.

    Raises:
        SchemaError: when this is no tree, or no layer has eigenvalues.
        SettingError: when there are more than 20 layers, too many to tell apart.

    Example:
        >>> chart = inflab.plot.spectrum(ekfac.factors)
        >>> isinstance(chart, inflab.plot.Chart)
        True
    """
    if not isinstance(factors, xr.DataTree):
        raise SchemaError([f"/: expected the factors, an xarray DataTree, got {type(factors).__name__}"])
    names = spectral_layers(factors)
    if not names:
        raise SchemaError(["/: no layer has 'eigenvalues'; give influence.factors of a method with curvature"])
    _refuse_many("layer", len(names))
    parts, marks, said = [], [], []
    for name in names:
        found = spectrum_of(factors, name)
        is_shown = found.value > 0
        parts.append(pd.DataFrame({"layer": name, "rank": found.rank[is_shown], "value": found.value[is_shown]}))
        if found.damping > 0:
            marks.append({"layer": name, "damping": found.damping})
            said.append(f"{found.below:.0%} of {name} lie below lambda")
    colour = alt.Color("layer:N", sort=names, scale=alt.Scale(scheme="viridis"), legend=alt.Legend(labelLimit=220))
    lines = (
        alt
        .Chart(pd.concat(parts, ignore_index=True))
        .mark_line()
        .encode(
            x=alt.X("rank:Q", scale=alt.Scale(type="log"), title="rank of the eigenvalue"),
            y=alt.Y("value:Q", scale=alt.Scale(type="log"), title="eigenvalue, nat²", axis=alt.Axis(tickCount=6)),
            color=colour,
            tooltip=["layer:N", "rank:Q", alt.Tooltip("value:Q", format=".3g")],
        )
    )
    rules: Any = (
        alt
        .Chart(pd.DataFrame(marks, columns=["layer", "damping"]))
        .mark_rule(strokeDash=_DASHED)
        .encode(y="damping:Q", color=colour, tooltip=["layer:N", alt.Tooltip("damping:Q", format=".3g")])
    )
    both: Any = (lines + rules).properties(width=width, height=240)
    return dress(both, "Spectrum of the curvature", "; ".join(said) + ("." if said else ""))


def _fitted(arrays: xr.Dataset, width: int) -> Chart:
    _refuse_many("query", arrays.sizes["query"])
    missing = [name for name in ("alpha", "xmin", "value", "n_positive") if name not in arrays]
    if missing:
        raise SchemaError([f"/: variable {missing[0]!r} is missing; make the dataset with inflab.tail"])
    like = arrays[["value"]].rename(value="influence")
    per_copy, units = 1.0, str(arrays["value"].attrs.get("units", "1"))
    if predicts(like):
        if "n_train" not in arrays.attrs:
            raise SchemaError(["/: attribute 'n_train' is missing, so influence cannot be turned into nats per copy"])
        per_copy, units = float(arrays.attrs["n_train"]), UNITS
    names = [str(label) for label in arrays["query"].to_numpy().tolist()]
    count = arrays["sequences"].to_numpy()
    tails, curves = [], []
    for row, name in enumerate(names):
        one = arrays.isel(query=row)
        value, n = one["value"].to_numpy() / per_copy, float(one["n_positive"])
        tails.append(pd.DataFrame({"query": name, "value": value, "beyond": count / n, "curve": "sequences"}))
        start, alpha = float(one["xmin"]) / per_copy, float(one["alpha"])
        ends = np.array([start, np.nanmax(value)])
        law = float(one["n_tail"]) / n * (ends / start) ** (1 - alpha)
        tails.append(pd.DataFrame({"query": name, "value": ends, "beyond": law, "curve": "power law"}))
        for curve, variable in _CURVES.items():
            held = {"fraction": one["fraction"].to_numpy(), "held": one[variable].to_numpy()}
            curves.append(pd.DataFrame({"query": name, **held, "curve": curve}))
    scale = alt.Scale(scheme="viridis") if len(names) > 1 else alt.Scale(range=[POSITIVE])
    colour = alt.Color("query:N", sort=names, scale=scale, legend=alt.Legend() if len(names) > 1 else None)
    log = alt.Scale(type="log")
    left = (
        alt
        .Chart(pd.concat(tails, ignore_index=True).dropna())
        .mark_line()
        .encode(
            x=alt.X("value:Q", scale=log, title=units, axis=alt.Axis(tickCount=5)),
            y=alt.Y("beyond:Q", scale=log, title="share of positive sequences beyond", axis=alt.Axis(tickCount=5)),
            color=colour,
            strokeDash=_dashes(["sequences", "power law"], [_SOLID, _DASHED]),
            tooltip=["query:N", "curve:N", alt.Tooltip("value:Q", format=".3g"), alt.Tooltip("beyond:Q", format=".3g")],
        )
    )
    right = (
        alt
        .Chart(pd.concat(curves, ignore_index=True).dropna())
        .mark_line()
        .encode(
            x=alt.X("fraction:Q", scale=log, title="first of all sequences", axis=alt.Axis(format="~%", tickCount=5)),
            y=alt.Y("held:Q", title="share of positive influence held", axis=alt.Axis(format="%")),
            color=colour,
            strokeDash=_dashes(list(_CURVES), [_SOLID, _DASHED, _DOTTED]),
            tooltip=[
                "query:N", "curve:N", alt.Tooltip("fraction:Q", format=".2%"), alt.Tooltip("held:Q", format=".1%"),
            ],
        )
    )  # fmt: skip
    panels = [panel.properties(width=width, height=220) for panel in (left, right)]
    both: Any = alt.hconcat(*panels, spacing=36).resolve_scale(strokeDash="independent", color="shared")
    said = " ".join(str(sentence) for sentence in arrays["sentence"].to_numpy()) if "sentence" in arrays else ""
    return dress(both, "Tail of positive influence", said)


def _dashes(names: list[str], dashes: list[list[float]]) -> alt.StrokeDash:
    return alt.StrokeDash(
        "curve:N", scale=alt.Scale(domain=names, range=dashes), legend=alt.Legend(orient="bottom", title=None),
    )  # fmt: skip


def _refuse_many(what: str, count: int) -> None:
    if count > _MOST:
        mend = "choose some with .isel(query=slice(20))" if what == "query" else "choose some with .filter"
        raise SettingError(f"there are {count} of {what}, at most {_MOST} can be told apart; {mend}")
