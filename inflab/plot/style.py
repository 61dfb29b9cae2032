"""What all charts share: colours, inks of light and dark pages, and drawing without a browser."""

from __future__ import annotations

from typing import Any

import altair as alt

__all__ = [
    "COLOURS", "DARK_INKS", "INK", "NEGATIVE", "NEUTRAL", "POSITIVE", "RULE", "SHAPES", "SOFT_INK", "Chart", "dress",
    "to_svg",
]  # fmt: skip

#: Blue and vermilion, which colour-blind readers can tell apart (Okabe and Ito 2008).
POSITIVE, NEGATIVE = "#0072B2", "#D55E00"
#: More of theirs, which read on light and dark pages, and a shape for each, so that none is told by colour alone.
COLOURS = (POSITIVE, NEGATIVE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
#: Inks of the light theme, and what stands for them on a dark page.
DARK_INKS = {"#333333": "#e6e6e6", "#595959": "#b8b8b8", "#dddddd": "#4d4d4d", "#f7f7f7": "#1a1a1a"}
INK, SOFT_INK, RULE, NEUTRAL = DARK_INKS

Chart = alt.Chart | alt.LayerChart | alt.FacetChart


def to_svg(chart: Chart, *, dark: bool = False) -> str:
    """Draw a chart as SVG text, with no browser and no network.

    Args:
        chart: one of this module's charts, or any other Altair chart.
        dark: use inks for a dark page; the background is transparent either way.

    Returns:
        The SVG document.

    Example:
        >>> chart = inflab.plot.top_bar(best.isel(query=[0]))
        >>> inflab.plot.to_svg(chart)[:4]
        '<svg'
    """
    import vl_convert

    spec = chart.to_dict()
    spec.setdefault("background", "transparent")
    svg: str = vl_convert.vegalite_to_svg(spec)
    for light, night in DARK_INKS.items() if dark else ():
        svg = svg.replace(light, night)
    return svg


def dress(chart: Any, title: str, description: str) -> Chart:
    """Title, words for screen readers, and inks that read on light and dark pages."""
    dressed: Chart = (
        chart.properties(title=title, description=f"{title}. {description}")
        .configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_facet(spacing=6)
        .configure_title(color=INK, anchor="start", fontSize=12, fontWeight=600)
        .configure_axis(
            labelColor=SOFT_INK, titleColor=SOFT_INK, domainColor=SOFT_INK, tickColor=RULE, gridColor=RULE,
            labelFontSize=10, titleFontSize=10, titleFontWeight="normal",
        )
        .configure_header(
            labelColor=INK, titleColor=SOFT_INK, labelFontSize=11, titleFontSize=10, titleFontWeight="normal",
            labelPadding=2, titlePadding=2,
        )
        .configure_legend(
            labelColor=SOFT_INK, titleColor=SOFT_INK, labelFontSize=10, titleFontSize=10,
            titleFontWeight="normal", offset=6,
        )
    )  # fmt: skip
    return dressed
