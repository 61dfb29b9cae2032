"""Charts of analyses: where in the network influence comes from, and which queries share it."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import SchemaError, SettingError
from inflab.plot.style import COLOURS, NEGATIVE, NEUTRAL, POSITIVE, SHAPES, SOFT_INK, Chart, dress

__all__ = ["correlation", "depth"]

_ALL = "all queries"
_MOST = 60  # queries of a heat map
_NUMBERED = 16  # queries up to which each cell shows its number
_SIDE = 420  # pixels of a heat map, about
_EVEN = "spread evenly"
_PART = {"absolute": "influence, by size", "positive": "positive influence", "negative": "negative influence"}
_MINUS = -0.1  # from where on down a minus is written into a cell
_BLACK, _WHITE = "#222222", "#ffffff"  # on cells, whose colours are the same on light and dark pages


def depth(arrays: xr.Dataset, *, by: str | None = None, width: int = 320) -> Chart:
    """Where in the network influence comes from, by group of queries (GB23 section 5.3.2).

    Args:
        arrays: of `inflab.analysis.depth`.
        by: coordinate of the queries that tells the groups (its prefix `query_` may be left out); None draws one line.
        width: of the plotting area in pixels.

    Returns:
        A line a group, its mean share of influence in each block, with two standard errors over queries each way; the
        group's mean depth as a dashed rule; and what an even spread would have. A query without influence is left out.

    Raises:
        SchemaError: when a variable or the coordinate is missing.
        SettingError: when there are more groups than can be told apart.
    """
    for name, dims in (("mass", {"query", "block"}), ("depth", {"query"})):
        if name not in getattr(arrays, "data_vars", ()) or set(arrays[name].dims) != dims:
            raise SchemaError([f"/: variable {name!r} over {sorted(dims)} is missing; make it with analysis.depth"])
    mass_qb, depth_q = arrays["mass"].transpose("query", "block").to_numpy(), arrays["depth"].to_numpy()
    block = arrays["block"].to_numpy()
    label_q = np.full(len(depth_q), _ALL, dtype=object) if by is None else _labels(arrays, by)
    groups = list(dict.fromkeys(label_q))
    if len(groups) > len(COLOURS):
        raise SettingError(f"by={by!r} has {len(groups)} groups, at most {len(COLOURS)} can be told apart")
    lines, rules, said = [], [], []
    for place, group in enumerate(groups):
        chosen = (label_q == group) & np.isfinite(depth_q)
        n, mean = int(chosen.sum()), float(depth_q[chosen].mean()) if chosen.any() else np.nan
        name = f"{group} ({n} {'query' if n == 1 else 'queries'})"
        groups[place] = name
        mass = mass_qb[chosen]
        share = mass.mean(0) if n else np.full(len(block), np.nan)
        error = 2 * mass.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(block), np.nan)
        # Beside one another, so that intervals can be seen apart.
        aside = (place - (len(groups) - 1) / 2) * 0.012 * (block[-1] - block[0])
        lines.append(
            pd.DataFrame({
                "group": name, "block": block, "place": block + aside,
                "share": share, "low": np.clip(share - error, 0, None), "high": share + error,
            })
        )  # fmt: skip
        rules.append({"group": name, "depth": mean, "at": block[0] + mean * (block[-1] - block[0])})
        said.append(f"{name}: mean depth {mean:.2f}")
    share_of = f"share of the query's {_PART.get(str(arrays.attrs.get('sign')), 'influence')}"
    chart = _depth_chart(pd.concat(lines, ignore_index=True), pd.DataFrame(rules), block, groups, share_of, width)
    return dress(chart, "Influence by block, mean ± 2 standard errors", f"{'; '.join(said)}.")


def _depth_chart(
    lines: pd.DataFrame, rules: pd.DataFrame, block: np.ndarray, groups: list[str], share_of: str, width: int
) -> Any:
    legend = alt.Legend(orient="bottom", columns=2, symbolOpacity=1, labelLimit=width)
    colour = alt.Color("group:N", title=None, scale=alt.Scale(domain=groups, range=list(COLOURS[: len(groups)])))
    colour, shape = colour.legend(legend), alt.Scale(domain=groups, range=list(SHAPES[: len(groups)]))
    axis = alt.Axis(values=block.tolist(), format="d", grid=False, labelOverlap=True)
    margin = 0.06 * float(block[-1] - block[0])
    scale = alt.Scale(domain=[float(block[0]) - margin, float(block[-1]) + margin], nice=False)
    x = alt.X("place:Q", title="block (dashed rule: mean depth of the group)", axis=axis, scale=scale)
    y = alt.Y("share:Q", title=share_of, axis=alt.Axis(format="%", tickCount=5))
    tips = [
        alt.Tooltip("group:N"), alt.Tooltip("block:Q"),
        *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("share", "low", "high")),
    ]  # fmt: skip
    base = alt.Chart(lines.dropna(subset=["share"])).encode(x=x, color=colour, tooltip=tips)
    even = pd.DataFrame({"share": [1 / len(block)], "place": [float(block[-1]) + margin], "words": [_EVEN]})
    flat = alt.Chart(even)
    tip = [alt.Tooltip("group:N"), alt.Tooltip("depth:Q", format=".3f")]
    centres = alt.Chart(rules.dropna(subset=["depth"])).encode(x="at:Q", color=colour, tooltip=tip)
    marks = alt.Shape("group:N", title=None, scale=shape, legend=legend)
    layers: list[Any] = [
        flat.mark_rule(color=SOFT_INK, strokeDash=[1.5, 3]).encode(y="share:Q"),
        flat.mark_text(color=SOFT_INK, align="right", baseline="bottom", dy=-2, fontSize=10).encode(
            x="place:Q", y="share:Q", text="words:N"
        ),
        centres.mark_rule(strokeDash=[5, 3], strokeWidth=1.5, opacity=0.8),
        centres.mark_point(filled=True, size=60, opacity=1).encode(y=alt.value(0), shape=marks),
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y, shape=marks),
    ]
    return alt.layer(*layers).properties(width=width, height=220)


def correlation(arrays: xr.Dataset | xr.DataArray, *, by: str | None = None) -> Chart:
    """Which queries are influenced by the same sequences: a heat map of their correlations.

    Args:
        arrays: of `inflab.analysis.correlation`.
        by: coordinate of the queries that tells their kinds (its prefix `query_` may be left out): rows are put in
            order by it, and labelled.

    Returns:
        A cell for each two queries, blue above 0 and vermilion below; with its number where there are at most 16
        queries, else a minus where it is -0.1 or below.

    Raises:
        SchemaError: when the correlation or the coordinate is missing.
        SettingError: when there are more than 60 queries, too many to read.
    """
    is_there = isinstance(arrays, xr.Dataset) and "correlation" in arrays
    array: Any = arrays["correlation"] if is_there else arrays
    if not isinstance(array, xr.DataArray) or set(array.dims) != {"query", "other_query"}:
        raise SchemaError(["/: 'correlation (query, other_query)' is missing; make it with analysis.correlation"])
    n = array.sizes["query"]
    if n > _MOST or array.sizes["other_query"] != n:
        raise SettingError(f"there are {n} queries, at most {_MOST} can be read; choose some before correlating")
    r_qo = array.transpose("query", "other_query").to_numpy()
    label_q = None if by is None else _labels(array, by)
    order = np.arange(n) if label_q is None else np.argsort(label_q.astype(str), kind="stable")
    names, ids = _names(array, label_q), [str(one) for one in array["query"].to_numpy().tolist()]
    rows = [(names[i], ids[j], r_qo[i, j], _written(r_qo[i, j], n)) for i in order for j in order]
    frame = pd.DataFrame(rows, columns=["query", "other", "correlation", "text"])
    step = max(9, min(40, _SIDE // max(n, 1)))
    axis = alt.Axis(labelLimit=240, labelFontSize=min(10, step), labelOverlap=False)
    below = alt.Axis(labelLimit=100, labelAngle=-60, labelFontSize=min(10, step), labelOverlap=False)
    heat = alt.Scale(domain=[-1, 0, 1], range=[NEGATIVE, NEUTRAL, POSITIVE])
    base = alt.Chart(frame).encode(
        x=alt.X("other:N", sort=[ids[i] for i in order], title=None, axis=below),
        y=alt.Y("query:N", sort=[names[i] for i in order], title=None, axis=axis),
    )
    bar = alt.Legend(titleLimit=200, gradientLength=min(200, max(80, step * n)), format=".1f")
    title = ["correlation"] if n <= _NUMBERED else ["correlation", f"(− from {_MINUS} down)".replace("-", "−")]
    cells = base.mark_rect(stroke=_WHITE, strokeWidth=0.5).encode(
        color=alt.Color("correlation:Q", scale=heat, title=title, legend=bar),
        tooltip=["query:N", "other:N", alt.Tooltip("correlation:Q", format="+.3f")],
    )
    white = alt.condition("abs(datum.correlation) > 0.85", alt.value(_WHITE), alt.value(_BLACK))
    words = base.mark_text(fontSize=min(10, step * 0.34) if n <= _NUMBERED else min(10, step)).encode(
        text="text:N", color=white
    )
    chart = alt.layer(cells, words).properties(width=step * n, height=step * n)
    off = r_qo[np.triu_indices(n, 1)]
    off = off[np.isfinite(off)]
    said = f"{n} queries, no two correlated."
    if len(off):
        said = f"{n} queries; pairs from {off.min():+.2f} to {off.max():+.2f}, mean {off.mean():+.2f}."
    return dress(chart, "Correlation of the queries' influences", said)


def _written(value: float, n: int) -> str:
    if not np.isfinite(value):
        return "none" if n <= _NUMBERED else ""
    if n <= _NUMBERED:
        return f"{value:+.2f}".replace("-", "−")
    return "−" if value <= _MINUS else ""


def _labels(arrays: xr.Dataset | xr.DataArray, by: str) -> np.ndarray:
    for name in (by, f"query_{by}"):
        if name in arrays.coords and arrays.coords[name].dims == ("query",):
            return np.array([str(one) for one in arrays.coords[name].to_numpy().tolist()], dtype=object)
    there = sorted(str(name) for name, coord in arrays.coords.items() if coord.dims == ("query",))
    raise SchemaError([f"/: coordinate by={by!r} over ('query',) is missing; there are {there}"])


def _names(array: xr.DataArray, label_q: np.ndarray | None) -> list[str]:
    """Queries by kind and id, and the beginning of the text where it is there: no two are the same."""
    names = [str(one) for one in array["query"].to_numpy().tolist()]
    if "query_text" in array.coords:
        texts = [" ".join(str(text).split()) for text in array["query_text"].to_numpy().tolist()]
        names = [f"{name}: {_cut(text, 24)}" for name, text in zip(names, texts, strict=True)]
    return names if label_q is None else [f"{kind} · {name}" for kind, name in zip(label_q, names, strict=True)]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
