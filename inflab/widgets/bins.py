"""A histogram of values of both signs and many sizes: bins of equal width in the logarithm of the size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["signed_bins"]

_PER_DECADE = 8
_DECADES = 6  # the tail is what is looked at: smaller values share the middle bin


def signed_bins(value_t: np.ndarray) -> dict[str, Any]:
    """Counts over bins of equal width in the logarithm, eight a decade, both signs; between +-linear lies one bin.

    Args:
        value_t: values; NaN and infinity are counted apart.

    Returns:
        `edges` (ascending), `counts` (one fewer), `linear`, `positive` and `negative` (how many of each sign), `zero`,
        `missing` (not finite). No edges where no value differs from 0.
    """
    finite_t = value_t[np.isfinite(value_t)]
    size_t = np.abs(finite_t[finite_t != 0])
    about = {
        "positive": int((finite_t > 0).sum()), "negative": int((finite_t < 0).sum()),
        "zero": int((finite_t == 0).sum()), "missing": int(value_t.size - finite_t.size),
    }  # fmt: skip
    if not len(size_t):
        return {"edges": [], "counts": [], "linear": 0.0, **about}
    most = float(size_t.max())
    # A power of ten, and edges at those that follow, so that ticks can be: below it lie a twentieth of the values at
    # most, or those out of reach.
    power = max(math.floor(math.log10(np.quantile(size_t, 0.05))), math.ceil(math.log10(most)) - _DECADES)
    # As they are sent, so that a range of edges keeps what its bins count; the ends lie beyond the extremes.
    edge_e = np.array([_edge(power, i) for i in range(_PER_DECADE * (_DECADES + 2))])
    edge_e = edge_e[: max(2, int(np.searchsorted(edge_e, most, side="right")) + 1)]
    edges = np.concatenate([-edge_e[::-1], edge_e])
    # Half-open, [low, high): as the lists are filtered. searchsorted, because np.histogram closes the last bin.
    place_t = np.searchsorted(edges, finite_t, side="right") - 1
    counts = np.bincount(place_t, minlength=len(edges) - 1)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "linear": float(edge_e[0]), **about}


def _edge(power: int, i: int) -> float:
    return float(f"{10 ** (i % _PER_DECADE / _PER_DECADE):.6g}e{power + i // _PER_DECADE}")
