"""Plain functions from scores to the answers people read: `top`, `effect`.

Labelled arrays in, labelled arrays out; no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import xarray as xr

from inflab.errors import SchemaError, SettingError, check_count
from inflab.schema import influence_attrs, root_attrs, variable_attrs

__all__ = ["effect", "top"]

Sign = Literal["positive", "negative", "absolute"]

_BYTES = 2**28  # of scores in memory at a time


def effect(scores: xr.Dataset) -> xr.Dataset:
    """Predicted nats gained on the whole completion per added copy: `influence / n_train` (GB23 eq. 6).

    Args:
        scores: a dataset with `influence` (any dims) and the attribute `n_train`: scores, a top list, tokens.

    Returns:
        The same dataset with `effect` (nat) in place of `influence`.

    Raises:
        SchemaError: when `influence` or `n_train` is missing.
    """
    _require(scores, "influence")
    if "n_train" not in scores.attrs:
        raise SchemaError(["/: attribute 'n_train' is missing, so influence cannot be turned into nats per copy"])
    value = (scores["influence"] / scores.attrs["n_train"]).assign_attrs(_EFFECT_ATTRS)
    return scores.drop_vars("influence").assign(effect=value)


def top(scores: xr.Dataset, k: int = 10, *, sign: Sign = "positive") -> xr.Dataset:
    """The `k` most influential training sequences of each query.

    Args:
        scores: `influence (query, train[, layer])`; layers are summed.
        k: how many, at most the number of training sequences.
        sign: "positive" (most helpful first), "negative" (most harmful first), "absolute" (largest first).

    Returns:
        A dataset over `(query, rank)`, rank counted from 1: `influence` (nat per unit weight), `effect` (nat per
        added copy), `share` (of the query's total influence of that sign over the whole training set, "1"), and
        `is_ranked`, False where fewer than `k` sequences have that sign (numbers are NaN there). The coordinate
        `train (query, rank)` names the sequences; every other training coordinate is gathered beside it.

    Raises:
        SchemaError: when `influence` or its dims are missing.
        SettingError: when `k` or `sign` is outside its domain.
    """
    _require(scores, "influence", "query", "train")
    n_train = scores.sizes["train"]
    if sign not in ("positive", "negative", "absolute"):
        raise SettingError(f"sign={sign!r} is not one of 'positive', 'negative', 'absolute'")
    check_count("k", k)
    if k > n_train:
        raise SettingError(f"k={k} must lie between 1 and the number of training sequences, {n_train}")
    influence = scores["influence"]
    if "layer" in influence.dims:
        influence = influence.sum("layer")
    influence = influence.transpose("query", "train")

    chosen_qr = np.empty((influence.sizes["query"], k), dtype=np.int64)
    value_qr = np.empty((influence.sizes["query"], k))
    total_q = np.empty(influence.sizes["query"])
    for row, value_t in _rows(influence):
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
    n_total = int(scores.attrs.get("n_train", n_train))
    return xr.Dataset(
        {
            "influence": (
                dims,
                value_qr,
                influence_attrs(f"the {sign} influences of largest size, in order"),
            ),
            "effect": (dims, value_qr / n_total, _EFFECT_ATTRS),
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


_EFFECT_ATTRS = variable_attrs(
    "predicted effect",
    "nat",
    "predicted change of the query's log-probability per added copy of the training sequence: influence / n_train",
    sign="positive: an added copy makes the query's completion more likely",
)


def _rows(influence: xr.DataArray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows in float64, some queries at a time: scores may be larger than memory, and a chunk on disk holds many.

    Yields:
        Row number and values.
    """
    at_once = max(1, _BYTES // (8 * influence.sizes["train"]))
    for start in range(0, influence.sizes["query"], at_once):
        block_qt = influence[start : start + at_once].to_numpy().astype(np.float64)
        yield from enumerate(block_qt, start)


def _require(scores: xr.Dataset, variable: str, *dims: str) -> None:
    if not isinstance(scores, xr.Dataset):
        raise SchemaError([f"/: expected an xarray Dataset with `{variable}`, got {type(scores).__name__}"])
    if variable not in scores:
        raise SchemaError([f"/: variable {variable!r} is missing; the dataset holds {sorted(map(str, scores))}"])
    missing = [dim for dim in dims if dim not in scores[variable].dims]
    if missing:
        raise SchemaError([f"/: {variable!r} has dims {scores[variable].dims}, needs {missing} too"])
