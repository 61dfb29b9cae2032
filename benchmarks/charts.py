"""The charts: from the JSON files to SVG, as the table. Altair draws with vl-convert; nothing is fetched."""

from __future__ import annotations

import math
from pathlib import Path

import altair as alt
import pandas as pd

from benchmarks.report import AXES
from benchmarks.summary import Found, growths, ratios, read, rows
from benchmarks.workloads import WORKLOADS
from inflab.plot import NEGATIVE, POSITIVE

__all__ = ["draw"]

_NAMES = alt.Axis(labelLimit=500)
#: Readers have another sans-serif than the one that widths were computed for: room for the longest label.
_ROOM = {"left": 48, "top": 8, "right": 12, "bottom": 8}
#: One of Okabe and Ito's colours for each work, told apart by shape too.
_INKS = {"fit": POSITIVE, "score": NEGATIVE, "self-influence": "#009E73"}
_SIDES = alt.Scale(domain=["inflab", "peer"], range=[POSITIVE, NEGATIVE])


def draw(results: Path, charts: Path) -> list[Path]:
    """Draw what has been measured.

    Args:
        results: folder of the JSON files.
        charts: folder of the SVG files.

    Returns:
        The files written.
    """
    found = read(results)
    drawn: dict[str, alt.Chart | alt.LayerChart | alt.HConcatChart | None] = {
        "ratios": _ratios(found),
        "memory": _memory(found),
        "growth": _growth(found["growth"]) if "growth" in found else None,
    }
    charts.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in drawn.items():
        if chart is not None:
            written.append(charts / f"{name}.svg")
            chart.configure(font="sans-serif", padding=_ROOM).configure_view(stroke=None).save(written[-1])
    return written


def _ratios(found: dict[str, Found]) -> alt.LayerChart | None:
    """How many times faster, with the spread of pairs, and the goal as a tick."""
    reached = [ratio for one in WORKLOADS if one.name in found for ratio in ratios(one, found[one.name])]
    frame = pd.DataFrame([
        {"label": f"{one.workload} {one.what}: {one.ours} against {one.other}"} | vars(one)
        for one in reached
        if not math.isnan(one.ratio)
    ])
    if frame.empty:
        return None
    y = alt.Y("label:N", sort=None, title=None, axis=_NAMES)
    least, most = frame[["least", "goal"]].min(axis=None), frame[["most", "goal"]].max(axis=None)
    scale = alt.Scale(type="log", domain=[min(1.0, 0.9 * least), 1.1 * most], nice=False)
    base = alt.Chart(frame)
    bars = base.mark_bar(color=POSITIVE, height=10).encode(
        x=alt.X("ratio:Q", scale=scale, title="times faster than the peer (tick: the goal)"), y=y, x2=alt.datum(1)
    )
    spread = base.mark_rule(color="#333333").encode(x="least:Q", x2="most:Q", y=y)
    goals = base.mark_tick(color="#333333", thickness=2, size=16).encode(x="goal:Q", y=y)
    return (bars + spread + goals).properties(width=420, height=alt.Step(22), title="Faster than the peer")


def _memory(found: dict[str, Found]) -> alt.Chart | None:
    """Peak memory of each contender."""
    known = {workload.name for workload in WORKLOADS}
    frame = pd.DataFrame([
        {"label": f"{row.workload} {row.contender}", "side": _side(row.contender), "peak": row.peak / 1e9}
        for name, one in found.items()
        if name in known
        for row in rows(name, one)
    ])
    if frame.empty:
        return None
    frame = frame.groupby(["label", "side"], sort=False, as_index=False)["peak"].max()
    return (
        alt
        .Chart(frame)
        .mark_bar(height=10)
        .encode(
            x=alt.X("peak:Q", title="peak memory, GB"),
            y=alt.Y("label:N", sort=None, title=None, axis=_NAMES),
            color=alt.Color("side:N", scale=_SIDES, title=None),
        )
        .properties(width=420, height=alt.Step(18), title="Peak memory")
    )


def _side(contender: str) -> str:
    return "inflab" if contender.startswith("inflab") else "peer"


def _growth(found: Found) -> alt.HConcatChart:
    """Seconds against each size, both logarithmic, the fitted exponent in the legend."""
    grown = list(growths(found))
    panels = []
    for axis in dict.fromkeys(one.axis for one in grown):
        own = [one for one in grown if one.axis == axis]
        names = {one.work: f"{one.work}, exponent {one.exponent:.2f}" for one in own}
        frame = pd.DataFrame([
            {"size": size, "seconds": seconds, "work": names[one.work]}
            for one in own
            for size, seconds in zip(one.sizes, one.seconds, strict=True)
        ])
        scale = alt.Scale(domain=list(names.values()), range=[_INKS[work] for work in names])
        legend = alt.Legend(orient="bottom", direction="vertical")
        ticks = alt.Axis(values=own[0].sizes, format="d")
        lines = alt.Chart(frame).mark_line(point=True)
        panels.append(
            lines.encode(
                x=alt.X("size:Q", scale=alt.Scale(type="log", nice=False), title=AXES[axis], axis=ticks),
                y=alt.Y("seconds:Q", scale=alt.Scale(type="log"), title="seconds", axis=alt.Axis(tickCount=4)),
                color=alt.Color("work:N", title=None, scale=scale, legend=legend),
                shape=alt.Shape("work:N", title=None, scale=alt.Scale(domain=list(names.values())), legend=legend),
            ).properties(width=190, height=170)
        )
    return alt.hconcat(*panels, title="Growth of time").resolve_scale(color="independent", shape="independent")
