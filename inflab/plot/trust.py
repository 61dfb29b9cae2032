"""The trust report as a chart: how stable each list is, what removing it did, and how sure each effect is."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import SchemaError, SettingError
from inflab.plot.influence import UNITS
from inflab.plot.style import NEGATIVE, POSITIVE, SOFT_INK, dress

__all__ = ["trust"]

_MOST = 12  # queries
_MEAN, _FIT, _LEXICAL = "other fits, mean", "one other fit", "BM25"
_PREDICTED, _MEASURED = "predicted", "measured, ± 2 standard errors"
_ABOVE, _REACHES = "above 0", "reaches 0"


def trust(report: xr.Dataset, *, width: int = 260) -> alt.VConcatChart:
    """A trust report: how stable each query's list is, what removing it did, and how sure each effect is.

    Args:
        report: of `Influence.trust`.
        width: of a plotting area in pixels.

    Returns:
        Above, one row a query: the share of its list that other fits keep and that BM25 finds; and, where the method
        predicts nats, what leaving the list out was predicted to change and did. Below, one panel a query: each
        listed sequence with its interval, the other fits as ticks.

    Raises:
        SchemaError: when this is no trust report.
        SettingError: when there are more than 12 queries, too many to read.

    Example:
        >>> report = ekfac.trust(queries, k=3, seeds=2, splits=1)
        >>> "vconcat" in inflab.plot.trust(report).to_dict()
        True
    """
    missing = [name for name in ("low", "high", "overlap", "stability", "sentence") if name not in report]
    if missing:
        raise SchemaError([f"/: variable {missing[0]!r} is missing; make the report with Influence.trust"])
    if report.sizes["query"] > _MOST:
        n = report.sizes["query"]
        raise SettingError(f"report has {n} queries, at most {_MOST} can be read; report.isel(query=slice({_MOST}))")
    names = _names(report)
    above: list[Any] = [_stability(report, names, width)]
    if "predicted" in report:
        above.append(_removal(report, names, width))
    both = alt.hconcat(*above, spacing=36).resolve_scale(color="independent", shape="independent")
    parts: Any = alt.vconcat(both, _intervals(report, names, width), spacing=28)
    parts = parts.resolve_scale(color="independent", shape="independent")
    said = " ".join(str(sentence) for sentence in report["sentence"].to_numpy())
    drawn: Any = dress(parts, "How far the lists can be trusted", said)
    found: alt.VConcatChart = drawn
    return found


def _names(report: xr.Dataset) -> list[str]:
    """Queries by id and the beginning of their text, so that no two are the same."""
    ids = [str(label) for label in report["query"].to_numpy().tolist()]
    if "query_text" not in report.coords:
        return ids
    texts = [" ".join(str(text).split()) for text in report["query_text"].to_numpy()]
    return [f"{label}: {_cut(text, 40)}" for label, text in zip(ids, texts, strict=True)]


def _queries(names: list[str], labels: bool = True) -> alt.Y:
    return alt.Y("query:N", sort=names, title=None, axis=alt.Axis(labelLimit=220, labels=labels, ticks=labels))


def _stability(report: xr.Dataset, names: list[str], width: int) -> Any:
    others = report.isel(fit=np.flatnonzero(report["is_moved"].to_numpy()))
    rows = [
        (name, _FIT, str(fit), share)
        for fit, shares in zip(
            others["fit"].to_numpy(), others["overlap"].transpose("fit", "query").to_numpy(), strict=True
        )
        for name, share in zip(names, shares, strict=True)
    ]
    means = {_MEAN: "stability"} | ({_LEXICAL: "lexical_overlap"} if "lexical_overlap" in report else {})
    rows += [
        (name, what, "", share)
        for what, variable in means.items()
        for name, share in zip(names, report[variable].to_numpy(), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["query", "by", "fit", "share"]).dropna(subset=["share"])
    kinds, legend = [_MEAN, _FIT, _LEXICAL], alt.Legend(orient="bottom")
    colour = alt.Scale(domain=kinds, range=[POSITIVE, SOFT_INK, NEGATIVE])
    shape = alt.Scale(domain=kinds, range=["circle", "M-0.12,-1H0.12V1H-0.12Z", "diamond"])
    axis = alt.Axis(format="%", tickCount=5)
    return (
        alt
        .Chart(frame)
        .mark_point(filled=True, size=60, opacity=1)
        .encode(
            x=alt.X(
                "share:Q", scale=alt.Scale(domain=[0, 1]), axis=axis, title="share of the list that is found again"
            ),
            y=_queries(names),
            color=alt.Color("by:N", scale=colour, legend=legend, title="by"),
            shape=alt.Shape("by:N", scale=shape, legend=legend, title="by"),
            tooltip=["query:N", "by:N", "fit:N", alt.Tooltip("share:Q", format=".0%")],
        )
        .properties(width=width, height=alt.Step(20))
    )


def _removal(report: xr.Dataset, names: list[str], width: int) -> Any:
    unit = str(report["predicted"].attrs["units"])
    parts = [pd.DataFrame({"query": names, "effect": report["predicted"].to_numpy(), "what": _PREDICTED, "error": 0.0})]
    if "measured" in report:
        error = np.nan_to_num(report["measured_se"].to_numpy())
        parts.append(
            pd.DataFrame({
                "query": names,
                "effect": report["measured"].to_numpy(),
                "what": _MEASURED,
                "error": 2 * error,
            })
        )
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["effect"])
    frame = frame.assign(low=frame["effect"] - frame["error"], high=frame["effect"] + frame["error"])
    kinds, legend = [_PREDICTED, _MEASURED][: len(parts)], alt.Legend(orient="bottom")
    colour = alt.Scale(domain=kinds, range=[POSITIVE, NEGATIVE][: len(parts)])
    base = alt.Chart(frame).encode(
        y=_queries(names, labels=False), color=alt.Color("what:N", scale=colour, legend=legend, title=None)
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("effect:Q", title=f"change when the list is left out, {unit}"),
        shape=alt.Shape(
            "what:N",
            scale=alt.Scale(domain=kinds, range=["circle", "diamond"][: len(parts)]),
            legend=legend,
            title=None,
        ),
        tooltip=["query:N", "what:N", alt.Tooltip("effect:Q", format="+.3g"), alt.Tooltip("error:Q", format=".2g")],
    )
    errors = base.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
    return alt.layer(_zero(base), errors, points).properties(width=width, height=alt.Step(20))


def _intervals(report: xr.Dataset, names: list[str], width: int) -> Any:
    is_nats = "effect" in report
    of = ("effect", "effect_low", "effect_high") if is_nats else ("influence", "low", "high")
    value_fqr, low_qr, high_qr = (report[name].transpose(..., "query", "rank").to_numpy() for name in of)
    rows = []
    for (row, place), listed in np.ndenumerate(report["is_ranked"].transpose("query", "rank").to_numpy()):
        if not listed:
            continue
        label = f"{report['rank'].to_numpy()[place]}. {_cut(str(report['train'].to_numpy()[row, place]), 30)}"
        low, high = low_qr[row, place], high_qr[row, place]
        own = {"query": names[row], "sequence": label, "place": place, "low": low, "high": high}
        own["interval"] = _ABOVE if low > 0 else _REACHES
        rows += [
            own | {"effect": value, "fit": str(fit), "is_given": number == 0}
            for number, (fit, value) in enumerate(zip(report["fit"].to_numpy(), value_fqr[:, row, place], strict=True))
        ]
    columns = ["query", "sequence", "place", "low", "high", "interval", "effect", "fit", "is_given"]
    frame = pd.DataFrame(rows, columns=columns)
    attrs = report[of[0]].attrs
    unit = UNITS if is_nats and attrs["units"] == "nat" else str(attrs["units"])
    called = "effect" if is_nats else str(attrs["long_name"])
    title = [f"{called} with its {report.attrs['level']:.0%} interval" + (f", {unit}" if unit != "1" else "")]
    title.append("ticks: the other fits")
    scale, legend = alt.Scale(domain=[_ABOVE, _REACHES], range=[POSITIVE, NEGATIVE]), alt.Legend(orient="bottom")
    base = alt.Chart().encode(
        y=alt.Y("sequence:N", sort=alt.EncodingSortField("place", op="min"), title=None),
        color=alt.Color("interval:N", scale=scale, legend=legend, title="interval"),
    )
    given = base.transform_filter("datum.is_given")
    spans = given.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    points = given.mark_point(filled=True, size=50, opacity=1).encode(
        x="effect:Q",
        shape=alt.Shape(
            "interval:N", scale=alt.Scale(domain=[_ABOVE, _REACHES], range=["circle", "triangle"]), legend=legend,
            title="interval",
        ),
        tooltip=["sequence:N", *(alt.Tooltip(f"{name}:Q", format="+.3g") for name in ("effect", "low", "high"))],
    )  # fmt: skip
    ticks = (
        base
        .transform_filter("!datum.is_given")
        .mark_tick(thickness=1, size=8)
        .encode(
            x="effect:Q",
            color=alt.value(SOFT_INK),
            tooltip=["sequence:N", "fit:N", alt.Tooltip("effect:Q", format="+.3g")],
        )
    )
    panel = alt.layer(_zero(base), spans, ticks, points, data=frame).properties(width=width, height=alt.Step(14))
    column = alt.Facet("query:N", sort=names, title=None, header=alt.Header(labelLimit=width, labelAnchor="start"))
    return panel.facet(facet=column, columns=2, spacing=24).resolve_scale(x="independent", y="independent")


def _zero(base: alt.Chart) -> Any:
    """A line at 0, which is then always in sight."""
    return base.mark_rule(strokeDash=[2, 2]).encode(x=alt.datum(0), y=alt.Y(), color=alt.value(SOFT_INK))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
