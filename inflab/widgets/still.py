"""A playground as a picture: what a page without a kernel shows of it, drawn by Altair with no browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["plane"]

#: The looks of widgets/axes.css: colour and dashes.
_LOOKS = {
    "data": ("#0072b2", (1, 0)),
    "law": ("#595959", (6, 4)),
    "other": ("#d55e00", (8, 3, 2, 3)),
    "third": ("#767676", (2, 3)),
}


def plane(axes: Mapping[str, Any], points: Sequence[Sequence[float]], drawn: Mapping[str, Any]) -> str:
    """Points, lines and words as HTML with an SVG picture.

    Args:
        axes: `x` and `y`, each with `label`, `low`, `high`; and `label`.
        points: pairs.
        drawn: `lines`, `sizes` (0 to 1) and `words`, as the widget sends them.

    Returns:
        HTML; all text is escaped.
    """
    import altair as alt

    from inflab.plot import to_svg

    x, y = (
        kind(
            f"{name}:Q",
            title=axes[name]["label"],
            scale=alt.Scale(domain=[axes[name]["low"], axes[name]["high"]], nice=False, zero=False),
        )
        for name, kind in (("x", alt.X), ("y", alt.Y))
    )
    layers = []
    for line in drawn["lines"]:
        colour, dashes = _LOOKS[line["look"]]
        rows = [{"x": a, "y": b, "i": i} for i, (a, b) in enumerate(zip(line["x"], line["y"], strict=True))]
        mark = alt.Chart({"values": rows}).mark_line(color=colour, strokeDash=list(dashes), clip=True)
        layers.append(mark.encode(x=x, y=y, order="i:Q"))
    sizes = drawn["sizes"] or [0.1] * len(points)
    rows = [{"x": a, "y": b, "size": 30 + 570 * (size or 0)} for (a, b), size in zip(points, sizes, strict=True)]
    size = alt.Size("size:Q", scale=None, legend=None)
    layers.append(alt.Chart({"values": rows}).mark_circle(color="#0072b2", clip=True).encode(x=x, y=y, size=size))
    picture = to_svg(alt.layer(*layers).properties(width=480, height=260, description=axes["label"]))
    names = {"data": "blue line", "law": "dashed line", "other": "orange line", "third": "dotted line"}
    said = [f"{names[line['look']]}: {escape(line['name'])}" for line in drawn["lines"] if line["name"]]
    legend = f"<p>{'; '.join(said)}</p>" if said else ""
    words = escape(drawn["words"]).replace("\n", "<br>")
    return f'<div class="inflab-playground-static">{picture}{legend}<p>{words}</p></div>'
