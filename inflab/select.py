"""Plain functions from scores to the answers people read: `top`, and `effect` beside it.

Labelled arrays in, labelled arrays out; no torch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from inflab.effects import effect, effect_attrs, predicts, require, rows, summed
from inflab.errors import SettingError, check_count
from inflab.schema import influence_attrs, root_attrs, variable_attrs

__all__ = ["effect", "top"]

Sign = Literal["positive", "negative", "absolute"]


def top(scores: xr.Dataset, k: int = 10, *, sign: Sign = "positive") -> xr.Dataset:
    """The `k` most influential training sequences of each query.

    Args:
        scores: `influence (query, train[, layer])`; layers are summed.
        k: how many, at most the number of training sequences.
        sign: "positive" (most helpful first), "negative" (most harmful first), "absolute" (largest first).

    Returns:
        A dataset over `(query, rank)`, rank counted from 1: `influence` (nat per unit weight), `effect` (nat per
        added copy; left out where `influence` is a similarity or on another scale), `share` (of the query's total
        influence of that sign over the whole training set, "1"), and `is_ranked`, False where fewer than `k` sequences
        have that sign (numbers are NaN there). The coordinate `train (query, rank)` names the sequences; every other
        training coordinate is gathered beside it.

    Raises:
        SchemaError: when `influence` or its dims are missing.
        SettingError: when `k` or `sign` is outside its domain.

    Example:
        >>> best = inflab.top(scores, 3)
        >>> dict(best["influence"].sizes)
        {'query': 3, 'rank': 3}
        >>> bool((best["influence"].diff("rank") <= 0).all())
        True
        >>> best["train"].dims, best["text"].dims
        (('query', 'rank'), ('query', 'rank'))
    """
    require(scores, "influence", "query", "train")
    n_train = scores.sizes["train"]
    if sign not in ("positive", "negative", "absolute"):
        raise SettingError(f"sign={sign!r} is not one of 'positive', 'negative', 'absolute'")
    check_count("k", k)
    if k > n_train:
        raise SettingError(f"k={k} must lie between 1 and the number of training sequences, {n_train}")
    influence = summed(scores)

    chosen_qr = np.empty((influence.sizes["query"], k), dtype=np.int64)
    value_qr = np.empty((influence.sizes["query"], k))
    total_q = np.empty(influence.sizes["query"])
    for row, value_t in rows(influence):
        key_t = {"positive": value_t, "negative": -value_t, "absolute": np.abs(value_t)}[sign]
        key_t = np.where(np.isnan(key_t), -np.inf, key_t)
        # Ties are broken by position, so that equal scores give the same list every time.
        order = np.flatnonzero(key_t >= np.partition(key_t, n_train - k)[n_train - k])
        chosen_qr[row] = order[np.argsort(-key_t[order], kind="stable")[:k]]
        value_qr[row] = value_t[chosen_qr[row]]
        total_q[row] = key_t[key_t > 0].sum()

    signed_qr = {"positive": value_qr > 0, "negative": value_qr < 0, "absolute": np.abs(value_qr) > 0}[sign]
    value_qr = np.where(signed_qr, value_qr, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        share_qr = np.abs(value_qr) / total_q[:, None]
    dims = ("query", "rank")
    coords: dict[str, object] = {"rank": np.arange(1, k + 1)}
    for name, coord in scores.coords.items():
        if coord.dims == ("train",):
            coords[str(name)] = (dims, coord.to_numpy()[chosen_qr])
        elif coord.dims in (("query",), ()):
            coords[str(name)] = coord
    described = influence_attrs(f"the {sign} influences of largest size, in order")
    if not predicts(scores):
        own = scores["influence"].attrs
        described |= {name: own[name] for name in ("long_name", "units", "sign") if name in own}
        effects = {}
    else:
        effects = {"effect": (dims, value_qr / int(scores.attrs.get("n_train", n_train)), effect_attrs(scores))}
    return xr.Dataset(
        {
            "influence": (dims, value_qr, described),
            **effects,
            "share": (
                dims,
                share_qr,
                variable_attrs("share of total", "1", f"share of the query's total {sign} influence over `train`"),
            ),
            "is_ranked": (
                dims,
                signed_qr,
                variable_attrs("is ranked", "1", f"False where fewer sequences than ranks have {sign} influence"),
            ),
        },
        coords=coords,
        attrs={**scores.attrs, **root_attrs("top", sign=sign)},
    )
