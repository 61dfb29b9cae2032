"""How far two scores of the same sequences agree in their order: plain arrays in, numbers out.

Spearman's correlation over all; overlap of the first k; rank-biased overlap, which weighs the first ranks most (Webber,
Moffat and Zobel 2010, extrapolated, eq. 32).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

__all__ = ["first", "overlap", "places", "rank_biased_overlap", "spearman", "thinned"]

P = 0.9  # of rank-biased overlap: the first ten ranks carry 86% of the weight


def places(value_t: np.ndarray, sign: str) -> np.ndarray:
    """Place of each sequence, counted from 1, the strongest of the sign first; equal ones in their order."""
    order = np.argsort(-value_t if sign == "positive" else value_t, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(1, len(order) + 1)
    return place


def first(value_t: np.ndarray, sign: str, k: int) -> np.ndarray:
    """Positions of the first `k`, the strongest first, equal ones in their order; fewer where fewer have the sign."""
    key_t = value_t if sign == "positive" else -value_t
    if len(key_t) > k:  # a whole sort costs more than all the rest
        found = np.flatnonzero(key_t >= np.partition(key_t, -k)[-k])
    else:
        found = np.arange(len(key_t))
    found = found[key_t[found] > 0]
    return found[np.argsort(-key_t[found], kind="stable")][:k]


def spearman(x_t: np.ndarray, y_t: np.ndarray) -> float:
    """Correlation of ranks, ties averaged; NaN for fewer than two, or where one side is constant."""
    if len(x_t) < 2:
        return np.nan
    x, y = (rankdata(one) - (len(one) + 1) / 2 for one in (x_t, y_t))
    scale = np.sqrt((x @ x) * (y @ y))
    return float(np.clip((x @ y) / scale, -1, 1)) if scale > 0 else np.nan


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    """How many are on both lists, and their share of the longer one; NaN when both are empty."""
    both = len(np.intersect1d(a, b))
    longer = max(len(a), len(b))
    return both, both / longer if longer else np.nan


def rank_biased_overlap(a: np.ndarray, b: np.ndarray, p: float = P) -> float:
    """Rank-biased overlap of two lists, as deep as the shorter; NaN when one is empty."""
    depth = min(len(a), len(b))
    if depth == 0:
        return np.nan
    place = {one: d for d, one in enumerate(b.tolist(), 1)}
    met_d = np.zeros(depth + 1)  # at which depth a member of both has been seen on both
    for d, one in enumerate(a.tolist()[:depth], 1):
        if place.get(one, depth + 1) <= depth:
            met_d[max(d, place[one])] += 1
    depth_d = np.arange(1, depth + 1)
    agreement_d = met_d.cumsum()[1:] / depth_d
    return float(agreement_d[-1] * p**depth + (1 - p) / p * (agreement_d * p**depth_d).sum())


def thinned(n: int, keep: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Positions of at most `most` of `n`: all of `keep`, and others at random."""
    keep = np.unique(keep)[:most]
    rest = np.setdiff1d(np.arange(n), keep, assume_unique=True)
    room = min(most - len(keep), len(rest))
    chosen = np.random.default_rng(seed).choice(rest, room, replace=False) if room else rest[:0]
    return np.sort(np.concatenate([keep, chosen]))
