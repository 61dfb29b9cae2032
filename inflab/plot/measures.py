"""How well methods do, as charts: agreement with retraining and with responses, removal, flipped labels found.

A method has a colour and a shape, an estimate has its interval, and what could be reached at best is drawn beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import SchemaError, SettingError
from inflab.plot.style import COLOURS, POSITIVE, RULE, SHAPES, SOFT_INK, Chart, dress

__all__ = ["agreement", "mislabels", "pbrf", "removal"]

_RANDOM = "random"
_LEGEND = alt.Legend(orient="bottom", columns=3, symbolOpacity=1)
_DASHES = [4, 3]


def agreement(arrays: xr.Dataset, *, width: int = 320) -> Chart:
    """Linear datamodeling scores with their intervals, the best first, and the noise ceiling as a band.

    Args:
        arrays: from `inflab.lds`.
        width: of the plotting area in pixels.

    Returns:
        A point and an interval for each estimator; no band where the bank has one seed, which tells no ceiling.

    Raises:
        SchemaError: when a variable is missing.

    Example:
        >>> found = inflab.lds({"EK-FAC": inflab.EKFAC().fit(followed).score(asked)}, bank, resamples=50)
        >>> chart = inflab.plot.agreement(found)
        >>> isinstance(chart, inflab.plot.Chart)
        True
    """
    _need(arrays, "inflab.lds", "lds", "interval")
    low, high = _bounds(arrays["interval"], "estimator")
    frame = pd.DataFrame({
        "estimator": _names(arrays, "estimator"), "lds": arrays["lds"].to_numpy(), "low": low, "high": high,
    }).sort_values("lds", ascending=False, kind="stable")  # fmt: skip
    percent = _level(arrays)
    y = alt.Y("estimator:N", sort=None, title=None)
    tips = [alt.Tooltip("estimator:N"), *(alt.Tooltip(f"{name}:Q", format="+.3f") for name in ("lds", "low", "high"))]
    base = alt.Chart(frame).encode(y=y, tooltip=tips)
    layers: list[Any] = []
    ceiling, said = float(arrays.get("ceiling", np.nan)), ""
    if np.isfinite(ceiling):
        least, most = _bounds(arrays["ceiling_interval"])
        band = pd.DataFrame({"low": [float(least)], "high": [float(most)], "ceiling": [ceiling]})
        tip = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("ceiling", "low", "high")]
        layers.append(alt.Chart(band).mark_rect(color=RULE, opacity=0.6).encode(x="low:Q", x2="high:Q", tooltip=tip))
        layers.append(alt.Chart(band).mark_rule(color=SOFT_INK, strokeDash=_DASHES).encode(x="ceiling:Q", tooltip=tip))
        words = alt.Chart(band).mark_text(color=SOFT_INK, align="center", baseline="bottom", dy=-3, fontSize=10)
        layers.append(words.encode(x="ceiling:Q", y=alt.value(0), text=alt.value("noise ceiling")))
        said = f" Noise ceiling {ceiling:.2f}."
    layers.append(base.mark_rule(color=POSITIVE, strokeWidth=2).encode(x="low:Q", x2="high:Q"))
    layers.append(
        base.mark_point(filled=True, size=60, opacity=1, color=POSITIVE).encode(
            x=alt.X("lds:Q", title=f"LDS, with {percent} interval")
        )
    )
    chart = alt.layer(*layers).properties(width=width, height=alt.Step(20))
    first = frame.iloc[0]
    described = f"Best: {first['estimator']}, {first['lds']:.2f} ({first['low']:.2f} to {first['high']:.2f}).{said}"
    return dress(chart, "Agreement with retraining", described)


def removal(arrays: xr.Dataset, *, width: int = 320) -> Chart:
    """Rise of the queries' loss when the top share of the training set is removed, by method.

    Args:
        arrays: from `inflab.truth.removal_curve`.
        width: of the plotting area in pixels.

    Returns:
        A line for each estimator over the share removed (logarithmic), with intervals; random sets dashed.

    Raises:
        SchemaError: when a variable is missing.
        SettingError: when there are more methods than can be told apart.

    Example:
        >>> scores = inflab.EKFAC().fit(followed).score(asked)
        >>> found = inflab.truth.removal_curve(recipe, table, asked, scores, shares=[0.1, 0.2], seeds=1, random=2)
        >>> isinstance(inflab.plot.removal(found), inflab.plot.Chart)
        True
    """
    _need(arrays, "inflab.truth.removal_curve", "rise", "interval")
    names, shares = _names(arrays, "estimator"), arrays["share"].to_numpy()
    low, high = _bounds(arrays["interval"], "estimator", "share")
    value = arrays["rise"].transpose("estimator", "share").to_numpy()
    # Beside one another, so that intervals can be seen apart.
    aside = 1.03 ** (np.arange(len(names)) - (len(names) - 1) / 2)
    frame = pd.DataFrame({
        "estimator": np.repeat(names, len(shares)), "share": np.tile(shares, len(names)),
        "place": (aside[:, None] * shares).ravel(), "rise": value.ravel(), "low": low.ravel(), "high": high.ravel(),
    })  # fmt: skip
    axis = alt.Axis(format="~%", values=shares.tolist(), grid=False)
    ends = [float(shares[0]) / 1.25, float(shares[-1]) * 1.25]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    tips = [
        alt.Tooltip("estimator:N"), alt.Tooltip("share:Q", format=".1%"),
        *(alt.Tooltip(f"{name}:Q", format="+.3g") for name in ("rise", "low", "high")),
    ]  # fmt: skip
    x = alt.X("place:Q", scale=scale, axis=axis, title="share of the training set removed")
    base = alt.Chart(frame).encode(x=x, color=_colour(names), tooltip=tips)
    y = alt.Y("rise:Q", title=f"rise of the loss, nat, with {_level(arrays)} interval")
    dashes = alt.StrokeDash(
        "estimator:N", scale=_scale(names, [_DASHES if n == _RANDOM else [1, 0] for n in names]), legend=None
    )
    zero = alt.Chart(pd.DataFrame({"rise": [0.0]})).mark_rule(color=SOFT_INK).encode(y="rise:Q")
    chart = alt.layer(
        zero,
        base.mark_line().encode(y=y, strokeDash=dashes),
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=45, opacity=1).encode(y=y, shape=_shape(names)),
    ).properties(width=width, height=220)
    most = [f"{name} {rise:+.2g} nat" for name, rise in zip(names, value[:, -1], strict=True)]
    described = f"Rise with {shares[-1]:.0%} removed: {', '.join(most)}."
    return dress(chart, "Loss after removing the top", described)


def mislabels(arrays: xr.Dataset | Mapping[str, xr.Dataset], *, width: int = 260) -> Chart:
    """Flipped labels found among the examples that were looked at, in order of self-influence.

    Args:
        arrays: from `inflab.truth.mislabel_curve`; or a mapping from a method's name to such.
        width: of the square plotting area in pixels.

    Returns:
        A line with its interval for each method; dashed, what the best order and a random one would find.

    Raises:
        SchemaError: when a variable is missing.
        SettingError: when there are no methods, or more than can be told apart.

    Example:
        >>> own = inflab.EKFAC().fit(followed).self_influence()
        >>> found = inflab.truth.mislabel_curve(own, np.arange(table.sizes["train"]) < 3, resamples=50)
        >>> chart = inflab.plot.mislabels({"EK-FAC": found})
        >>> isinstance(chart, inflab.plot.Chart)
        True
    """
    if isinstance(arrays, xr.Dataset):
        arrays = {str(arrays.attrs.get("method", "self-influence")): arrays}
    if not arrays:
        raise SettingError("arrays is empty; give at least one result of inflab.truth.mislabel_curve")
    parts, said = [], []
    for name, one in arrays.items():
        _need(one, "inflab.truth.mislabel_curve", "found", "interval", "best", "found_at_10_percent")
        low, high = _bounds(one["interval"], "inspected")
        parts.append(
            pd.DataFrame({
                "estimator": str(name), "inspected": one["inspected"].to_numpy(), "found": one["found"].to_numpy(),
                "low": low, "high": high,
            })
        )  # fmt: skip
        said.append(f"{name} {float(one['found_at_10_percent']):.0%}")
    names, one = [str(name) for name in arrays], next(iter(arrays.values()))
    guides = pd.concat([
        pd.DataFrame({"order": what, "inspected": one["inspected"].to_numpy(), "found": value})
        for what, value in (("best order", one["best"].to_numpy()), ("random order", one["inspected"].to_numpy()))
    ])
    x = alt.X("inspected:Q", axis=alt.Axis(format="%"), title="share of the training set inspected")
    y = alt.Y("found:Q", axis=alt.Axis(format="%"), title=f"share of flipped labels found, with {_level(one)} interval")
    tips = [
        alt.Tooltip("estimator:N"),
        *(alt.Tooltip(f"{n}:Q", format=".1%") for n in ("inspected", "found", "low", "high")),
    ]
    base = alt.Chart(pd.concat(parts, ignore_index=True)).encode(x=x, color=_colour(names), tooltip=tips)
    guide = alt.Chart(guides).mark_line(color=SOFT_INK, strokeDash=_DASHES, strokeWidth=1)
    chart = alt.layer(
        guide.encode(x=x, y=y, detail="order:N", tooltip="order:N"),
        base.mark_area(opacity=0.2).encode(y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=y),
    ).properties(width=width, height=width)
    return dress(chart, "Flipped labels found", f"Found in the first 10%: {', '.join(said)}.")


def pbrf(arrays: xr.Dataset, *, width: int = 320) -> Chart:
    """Correlation of each method with the proximal Bregman response, by data set (GB23, figure 4).

    Args:
        arrays: `correlation (case, estimator)`, such as a median over trainings of Pearson's correlation with
            `inflab.truth.pbrf`, and its `interval (case, estimator, bound)`.
        width: of the plotting area in pixels.

    Returns:
        A row a data set, a point and an interval for each method.

    Raises:
        SchemaError: when a variable or a dim is missing.
        SettingError: when there are more methods than can be told apart.

    Example:
        >>> found = xr.Dataset(
        ...     {
        ...         "correlation": (("case", "estimator"), [[0.7, 0.2]]),
        ...         "interval": (("case", "estimator", "bound"), [[[0.6, 0.8], [0.1, 0.3]]]),
        ...     },
        ...     coords={"case": ["wine"], "estimator": ["EKFAC", "Identity"], "bound": ["low", "high"]},
        ... )
        >>> isinstance(inflab.plot.pbrf(found), inflab.plot.Chart)
        True
    """
    _need(arrays, "the correlations with inflab.truth.pbrf", "correlation", "interval")
    cases, names = _names(arrays, "case"), _names(arrays, "estimator")
    low, high = _bounds(arrays["interval"], "case", "estimator")
    value = arrays["correlation"].transpose("case", "estimator").to_numpy()
    frame = pd.DataFrame({
        "case": np.repeat(cases, len(names)), "estimator": np.tile(names, len(cases)), "correlation": value.ravel(),
        "low": low.ravel(), "high": high.ravel(),
    })  # fmt: skip
    tips = [
        alt.Tooltip("case:N"), alt.Tooltip("estimator:N"),
        *(alt.Tooltip(f"{name}:Q", format="+.3f") for name in ("correlation", "low", "high")),
    ]  # fmt: skip
    base = alt.Chart(frame).encode(
        y=alt.Y("case:N", sort=None, title=None, axis=alt.Axis(grid=True, tickBand="extent", labelLimit=220)),
        yOffset=alt.YOffset("estimator:N", sort=names, scale=alt.Scale(paddingOuter=0.3)),
        color=_colour(names),
        tooltip=tips,
    )
    x = alt.X("correlation:Q", title=f"Pearson's correlation with the response, with {_level(arrays)} interval")
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x, shape=_shape(names)),
    ).properties(width=width, height=alt.Step(14, **{"for": "offset"}))
    best = [
        f"{case}: {names[int(np.nanargmax(row))]} {np.nanmax(row):.2f}" for case, row in zip(cases, value, strict=True)
    ]
    return dress(chart, "Correlation with the proximal Bregman response", f"Highest: {', '.join(best)}.")


def _need(arrays: Any, maker: str, *names: str) -> None:
    if not isinstance(arrays, xr.Dataset):
        raise SchemaError([f"/: expected an xarray Dataset, got {type(arrays).__name__}"])
    missing = [name for name in names if name not in arrays]
    if missing:
        raise SchemaError([f"/: variable {missing[0]!r} is missing; give {maker}'s result"])


def _names(arrays: xr.Dataset, dim: str) -> list[str]:
    if dim not in arrays.dims:
        raise SchemaError([f"/: dim {dim!r} is missing"])
    return [str(name) for name in arrays[dim].to_numpy().tolist()]


def _bounds(interval: xr.DataArray, *dims: str) -> tuple[np.ndarray, np.ndarray]:
    ordered = interval.transpose(*dims, "bound")
    return ordered.sel(bound="low").to_numpy(), ordered.sel(bound="high").to_numpy()


def _level(arrays: xr.Dataset) -> str:
    return f"{float(arrays.attrs['level']):.0%}" if "level" in arrays.attrs else "its"


def _inks(names: Sequence[str]) -> list[str]:
    others = [name for name in names if name != _RANDOM]
    if len(others) > len(COLOURS):
        raise SettingError(f"{len(others)} methods cannot be told apart, at most {len(COLOURS)} can; choose some")
    own = dict(zip(others, COLOURS, strict=False))
    return [own.get(name, SOFT_INK) for name in names]


def _scale(names: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=list(values))


def _colour(names: Sequence[str]) -> alt.Color:
    return alt.Color("estimator:N", scale=_scale(names, _inks(names)), title=None, legend=_LEGEND)


def _shape(names: Sequence[str]) -> alt.Shape:
    others = [name for name in names if name != _RANDOM]
    own = dict(zip(others, SHAPES, strict=False))
    shapes = [own.get(name, "stroke") for name in names]
    return alt.Shape("estimator:N", scale=_scale(names, shapes), title=None, legend=_LEGEND)
