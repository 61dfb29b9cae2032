"""Eigenvalues of all layers in one glance: sorted, on a log scale, with the damping lambda marked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np
import xarray as xr

from inflab.cards.page import BLUE, ORANGE
from inflab.cards.words import count, number, percent, span

__all__ = ["Spectrum", "spectrum_of", "svg"]

_MOST_READ = 2**20  # eigenvalues that a display reads from disk
_MOST_SEEN = 2**22  # that it looks at one by one; of more, a sample
_MOST_SORTED = 2**15
_DECADES = 12  # drawn below the largest; what lies deeper is far below any damping
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 216, 92, 48, 202, 8, 18


@dataclass(frozen=True)
class Spectrum:
    """Numbers about the eigenvalues of all layers.

    Attributes:
        n: how many there are.
        low: the smallest.
        high: the largest.
        share_below: how many lie below the lambda of their own layer.
        damping: smallest and largest lambda of a layer.
        sorted_n: some of them, the largest first.
        is_sample: whether the numbers are those of a sample.
    """

    n: int
    low: float
    high: float
    share_below: float
    damping: tuple[float, float]
    sorted_n: np.ndarray
    is_sample: bool = False

    def words(self) -> str:
        """Range, and where the damping lies in it."""
        about = "about " if self.is_sample else ""
        below = "none below lambda" if not self.share_below else f"{about}{percent(self.share_below)} below lambda"
        return f"{span(self.low, self.high)}, {below}"


def spectrum_of(nodes: Iterable[xr.DataTree]) -> Spectrum | str:
    """The spectrum of fitted layers.

    Args:
        nodes: children of `/factors`.

    Returns:
        Numbers to draw; or, in words, why there are none.
    """
    found = [(node["eigenvalues"], float(node.attrs["damping"])) for node in nodes if "eigenvalues" in node]
    if not found:
        return "none: the identity in its place"
    n = sum(value.size for value, _ in found)
    if not all(value.variable._in_memory for value, _ in found) and n > _MOST_READ:
        return f"{count(n)} on disk, read when a question needs them"
    seen, draw = min(1.0, _MOST_SEEN / n), np.random.default_rng(0)
    low, high, below, looked = math.inf, -math.inf, 0, 0
    kept = []
    for array, damping in found:
        value = array.to_numpy().reshape(-1)
        if seen < 1:
            value = value[draw.integers(0, value.size, max(1, int(seen * value.size)))]
        low, high = min(low, float(value.min())), max(high, float(value.max()))
        below, looked = below + int((value < damping).sum()), looked + value.size
        # At random rather than at even steps, which would fall on the same few columns of the matrix.
        most = max(1, int(_MOST_SORTED * array.size / n))
        kept.append(value if value.size <= most else value[draw.integers(0, value.size, most)])
    of_layers = [damping for _, damping in found]
    ordered = np.sort(np.concatenate(kept).astype(np.float64))[::-1]
    ordered[0] = high
    return Spectrum(n, low, high, below / looked, (min(of_layers), max(of_layers)), ordered, seen < 1)


def svg(spectrum: Spectrum) -> str:
    """A small chart, with what it shows in words for those who do not see it; "" when nothing can be drawn."""
    if not (math.isfinite(spectrum.high) and spectrum.high > 0):
        return ""
    top = math.log10(spectrum.high)
    bottom = max(top - _DECADES, math.log10(spectrum.low) if spectrum.low > 0 else -math.inf)
    bottom = min(bottom, top - 1)  # all alike: a line at the top

    def y(value: float) -> float:
        place = (top - math.log10(value)) / (top - bottom) if value > 0 else 1.0
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * min(max(place, 0.0), 1.0), 1)

    drawn = spectrum.sorted_n[np.linspace(0, len(spectrum.sorted_n) - 1, 120).round().astype(int)]
    across = np.linspace(_LEFT, _RIGHT, len(drawn)).round(1)
    points = [(x, y(value)) for x, value in zip(across.tolist(), drawn.tolist(), strict=True)]
    inside = [point for point in points if point[1] < _HEIGHT - _BOTTOM]
    points = points[: len(inside) + 1]  # the line ends where it leaves the picture
    line = " ".join(f"{x},{height}" for x, height in points)
    label = f"eigenvalues of all layers, sorted, log scale: {spectrum.words()}"
    low, high = spectrum.damping
    if high > 0:
        label += f"; lambda is {span(low, high)}"
    text = f'style="fill:currentColor;font-size:10px" text-anchor="end" x="{_LEFT - 5}"'
    axis = f'x1="{_LEFT}" x2="{_RIGHT}" style="stroke:currentColor;stroke-opacity:.22"'
    floor = _HEIGHT - _BOTTOM
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" style="flex:none;align-self:center;max-width:100%;overflow:visible">'
        f"<title>{escape(label)}</title>"
        f'<line {axis} y1="{floor}" y2="{floor}"/>'
        f'<text {text} y="{_TOP + 4}">{number(spectrum.high)}</text>'
        f'<text {text} y="{floor}">{number(10**bottom)}</text>'
        f"{_lambda(y(low), y(high)) if high > 0 else ''}"
        f'<polyline points="{line}" style="fill:none;stroke:{BLUE};stroke-width:1.6;stroke-linejoin:round"/>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 5}" style="fill:currentColor;font-size:10px;fill-opacity:.8">'
        f"{count(spectrum.n, 'eigenvalue')}</text></svg>"
    )


def _lambda(low: float, high: float) -> str:
    """The band of the layers' dampings, with a dashed line at each of its ends."""
    ends = "".join(
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}" style="stroke:{ORANGE};stroke-dasharray:4 3"/>'
        for y in sorted({low, high})
    )
    place = f'x="{_LEFT}" y="{high}" width="{_RIGHT - _LEFT}" height="{max(low - high, 0):.1f}"'
    name = f'x="{_RIGHT + 4}" y="{(low + high) / 2 + 3.5:.1f}" style="fill:currentColor;font-size:12px"'
    return f'<rect {place} style="fill:{ORANGE};fill-opacity:.16"/>{ends}<text {name}>λ</text>'
