"""A plane of points that a reader drags, and sliders; what follows from them is computed in Python at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import traitlets

from inflab.errors import SettingError
from inflab.widgets import payload
from inflab.widgets.base import Part, in_words

__all__ = ["Playground"]

_KEYS = ("lines", "sizes", "marks", "words")
_LOOKS = ("data", "law", "other", "third")
_ROOM = 0.15  # of the data's range, around it


class Playground(Part):
    """Points in a plane that can be dragged, sliders, and the lines and words that follow.

    `follow(x, y, **values)` is called with the points as arrays and the sliders by name, whenever one moves. It returns
    a mapping with any of: `lines`, name -> (x, y) or an array of y for the points' own x; `sizes`, one number of at
    least 0 a point, drawn as its area beside the largest; `marks`, a few words a point; `words`, a sentence below.

    Args:
        x: of n points; none at all where only lines are shown.
        y: of n points.
        follow: what follows from them.
        sliders: name -> (lowest, highest, first value); logarithmic where the highest is at least 100 times the lowest.
        move: the axes along which points may be moved; "none" leaves only the sliders.
        x_label: of the axis, with its unit.
        y_label: of the axis, with its unit.
        x_domain: lowest and highest x; None leaves room around the points.
        y_domain: lowest and highest y.
        label: what it is, for those who hear it.

    Raises:
        SettingError: for points of unequal length, or none and no domain, an unknown `move`, a slider outside of its
            range, or something else than a mapping of the four names from `follow`.

    Example:
        >>> def line(x, y, slope):
        ...     return {"lines": {"fit": (x, slope * x)}, "words": f"slope {slope}"}
        >>> play = inflab.widgets.Playground([0.0, 1.0], [0.0, 2.0], line, sliders={"slope": (0.0, 4.0, 2.0)})
        >>> play.values
        {'slope': 2.0}
    """

    part = "playground"

    points: traitlets.List[list[float]] = traitlets.List().tag(sync=True)
    """The points as [x, y] pairs. `list` of `list` of two `float`."""

    values = traitlets.Dict().tag(sync=True)
    """The sliders' values by name. `dict` of `float`."""

    _plane = traitlets.Dict().tag(sync=True)
    """Axes, sliders, what may be moved. `dict`, sent once."""

    _drawn = traitlets.Dict().tag(sync=True)
    """What follows from points and values. `dict`."""

    def __init__(
        self,
        x: Sequence[float] | np.ndarray,
        y: Sequence[float] | np.ndarray,
        follow: Callable[..., Any],
        *,
        sliders: Mapping[str, tuple[float, float, float]] | None = None,
        move: Literal["both", "x", "y", "none"] = "both",
        x_label: str = "x",
        y_label: str = "y",
        x_domain: tuple[float, float] | None = None,
        y_domain: tuple[float, float] | None = None,
        label: str = "Playground",
    ) -> None:
        x_n, y_n = np.asarray(x, float), np.asarray(y, float)
        if x_n.ndim != 1 or x_n.shape != y_n.shape:
            raise SettingError(f"x has shape {x_n.shape} and y {y_n.shape}; give one number of each for every point")
        if not len(x_n) and (x_domain is None or y_domain is None):
            raise SettingError("x is empty; without points, give x_domain and y_domain, so that the axes have ends")
        if not np.isfinite([x_n, y_n]).all():
            raise SettingError("x or y holds NaN or infinity; a point needs a place")
        if move not in ("both", "x", "y", "none"):
            raise SettingError(f"move={move!r} is not one of 'both', 'x', 'y', 'none'")
        self._follow = follow
        rows = [_slider(name, *given) for name, given in (sliders or {}).items()]
        plane = {
            "x": {"label": x_label, **_domain(x_n, x_domain, "x_domain")},
            "y": {"label": y_label, **_domain(y_n, y_domain, "y_domain")},
            "move": move, "sliders": rows, "label": label,
        }  # fmt: skip
        points = np.stack([x_n, y_n], -1).tolist()
        values = {name: float(given[2]) for name, given in (sliders or {}).items()}
        self._drawn = self._followed(points, values)
        super().__init__(_plane=plane, points=points, values=values)
        self.observe(lambda change: self._again(), names=["points", "values"])

    def _again(self) -> None:
        try:
            self._drawn, self.error = self._followed(self.points, self.values), ""
        except Exception as error:  # where it is computed, no cell shows a traceback
            self.error = in_words(error)

    def _followed(self, points: list[list[float]], values: Mapping[str, float]) -> dict[str, Any]:
        x_n, y_n = np.asarray(points, float).reshape(-1, 2).T
        found = self._follow(x_n, y_n, **values)
        if not isinstance(found, Mapping) or set(found) - set(_KEYS):
            raise SettingError(f"follow gave {found!r:.80}; let it return a mapping with some of {', '.join(_KEYS)}")
        return _sendable(found, x_n)

    @traitlets.validate("points")
    def _check_points(self, proposal: dict[str, Any]) -> list[list[float]]:
        points = [[float(x), float(y)] for x, y in proposal["value"]]
        if self.points and len(points) != len(self.points):
            raise traitlets.TraitError(f"points: {len(points)} given, {len(self.points)} are drawn")
        return points

    @traitlets.validate("values")
    def _check_values(self, proposal: dict[str, Any]) -> dict[str, float]:
        values = {str(name): float(value) for name, value in proposal["value"].items()}
        if self.values and set(values) != set(self.values):
            raise traitlets.TraitError(f"values has {sorted(values)}, the sliders are {sorted(self.values)}")
        return values

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": _as_html(self)}, metadata

    def __repr__(self) -> str:
        set_to = "".join(f", {name} = {value:g}" for name, value in self.values.items())
        return f"Playground({len(self.points)} points{set_to}): {self._drawn['words']}"


def _slider(name: str, low: float, high: float, value: float) -> dict[str, Any]:
    if not low < high or not low <= value <= high:
        raise SettingError(f"sliders: {name!r} is ({low}, {high}, {value}); give lowest < highest, and a value between")
    label = name.replace("_", " ")
    return {"name": name, "label": label, "low": float(low), "high": float(high), "isLog": 0 < 100 * low <= high}


def _domain(values: np.ndarray, given: tuple[float, float] | None, name: str) -> dict[str, float]:
    if given is not None:
        low, high = map(float, given)
        if not low < high:
            raise SettingError(f"{name}={given} is no range; give the lowest and then the highest value")
        return {"low": low, "high": high}
    room = _ROOM * (float(np.ptp(values)) or 1.0)
    return {"low": float(values.min() - room), "high": float(values.max() + room)}


def _sendable(found: Mapping[str, Any], x_n: np.ndarray) -> dict[str, Any]:
    lines = []
    for number, (name, line) in enumerate((found.get("lines") or {}).items()):
        across, up = line if isinstance(line, tuple) else (x_n, line)
        across, up = np.broadcast_arrays(np.asarray(across, float), np.asarray(up, float))
        look = _LOOKS[number % len(_LOOKS)]
        lines.append({"name": str(name), "look": look, "x": across.tolist(), "y": up.tolist()})
    sizes = found.get("sizes")
    if sizes is not None:
        size_n = np.asarray(sizes, float)
        if size_n.shape != x_n.shape or not (size_n >= 0).all():
            raise SettingError(
                f"sizes has shape {size_n.shape}; give one number of at least 0 for each of {len(x_n)} points"
            )
        sizes = (size_n / max(float(size_n.max()), np.finfo(float).tiny)).tolist()
    marks = [str(mark) for mark in found.get("marks", [""] * len(x_n))]
    sent: dict[str, Any] = payload.sendable({
        "lines": lines, "sizes": sizes, "marks": marks, "words": str(found.get("words", "")),
    })  # fmt: skip
    return sent


def _as_html(shown: Playground) -> str:
    """The picture as it stands, for a page without a kernel."""
    from inflab.widgets.still import plane

    return plane(shown._plane, shown.points, shown._drawn)
