"""Whether two sides gave the same numbers: no ratio of times is shown before this holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

__all__ = ["TOLERANCE", "compare"]

#: Largest difference relative to the largest entry of an array.
TOLERANCE = 1e-4

Arrays = Mapping[str, np.ndarray]


def compare(ours: Arrays, theirs: Arrays, how: str) -> dict[str, Any]:
    """Hold a contender's arrays against those of the first.

    Args:
        ours: name -> array of the first contender.
        theirs: of the other.
        how: "equal", "pairs" or "rank", see `workloads.Contender`.

    Returns:
        `holds`; `relative`, the largest difference relative to an array's largest entry; and of scores over `(query,
        train)` the medians over queries of `spearman` and `overlap`, the share of the top 10 that both have, and
        `pearson` of all.

    Raises:
        ValueError: when the arrays differ in name or shape.
    """
    if how == "pairs":
        chosen = np.take_along_axis(theirs["scores"], ours["train"][:, :, None].astype(int), axis=1)
        ours, theirs = {"tokens": ours["tokens"]}, {"tokens": chosen}
    shapes, other_shapes = ({name: value.shape for name, value in side.items()} for side in (ours, theirs))
    if shapes != other_shapes:
        raise ValueError(f"the sides returned other arrays: {shapes} and {other_shapes}")
    relative = max(
        float(np.abs(value - theirs[name]).max() / np.abs(theirs[name]).max()) for name, value in ours.items()
    )
    found: dict[str, Any] = {"relative": relative, "holds": how == "rank" or relative <= TOLERANCE}
    if ours.get("scores", np.zeros(0)).ndim == 2:
        found |= _ranks(ours["scores"], theirs["scores"])
    return found


def _ranks(ours_qt: np.ndarray, theirs_qt: np.ndarray, k: int = 10) -> dict[str, float]:
    ranked_qt, their_ranked_qt = (rankdata(value, axis=1) for value in (ours_qt, theirs_qt))
    pairs = list(zip(ranked_qt, their_ranked_qt, strict=True))
    k = min(k, ours_qt.shape[1])
    overlap = [len({*np.argsort(-a)[:k]} & {*np.argsort(-b)[:k]}) / k for a, b in pairs]
    return {
        "spearman": float(np.median([np.corrcoef(a, b)[0, 1] for a, b in pairs])),
        "overlap": float(np.median(overlap)),
        "pearson": float(np.corrcoef(ours_qt.ravel(), theirs_qt.ravel())[0, 1]),
    }
