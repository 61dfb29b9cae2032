"""Sequences that owe their influence to a token or two: how sparse each is, and a list without them.

Influence by token is that of GB23 eq. 31. With `a_t` its size at text token t of n:

    largest   = max a / sum a
    effective = (sum a)^2 / sum a^2                                 the participation ratio
    hoyer     = (sqrt n - sum a / sqrt(sum a^2)) / (sqrt n - 1)     Hoyer 2004, J. Mach. Learn. Res. 5:1457
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.analysis.labelling import influence_of, kept
from inflab.effects import require
from inflab.errors import CorpusError, SettingError, is_finite_number
from inflab.schema import root_attrs, variable_attrs

__all__ = ["drop_sparse", "sparsity"]

_DIMS = ("query", "rank")


def sparsity(tokens: xr.Dataset) -> xr.Dataset:
    """How few tokens carry a sequence's influence.

    Args:
        tokens: from `Influence.attribute`: `influence (query, rank[, layer], token)` and `is_text`; layers and query
            tokens are summed, padding does not count.

    Returns:
        Over `(query, rank)`, "1": `largest`, the share of the size of influence on the largest token; `effective`, the
        number of tokens that carry it; `hoyer`, 0 for an even spread, 1 for one token, also where there is only one;
        `position` of the largest token, and its `token_text`. NaN (-1, "") where the pair has no influence.

    Raises:
        SchemaError: when influence or its dims are missing.
    """
    value = influence_of(tokens, *_DIMS, "token")
    value = value.sum([dim for dim in value.dims if dim in ("layer", "query_token")], skipna=False)
    size_qrt = np.abs(value.transpose(*_DIMS, "token").to_numpy().astype(np.float64))
    is_text_qrt = np.ones(size_qrt.shape, bool)
    if "is_text" in tokens:
        is_text_qrt = tokens["is_text"].transpose(*_DIMS, "token").to_numpy().astype(bool)
    size_qrt = np.where(is_text_qrt, size_qrt, 0)
    n_qr, sum_qr = is_text_qrt.sum(-1), size_qrt.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share_qrt = size_qrt / sum_qr[..., None]  # of one scale, so that no square overflows
        effective_qr = 1 / (share_qrt**2).sum(-1)
        root_qr = np.sqrt(n_qr)
        hoyer_qr = np.clip((root_qr - np.sqrt(effective_qr)) / (root_qr - 1), 0, 1)
    largest_qr = share_qrt.max(-1)
    is_there_qr = np.isfinite(largest_qr)
    hoyer_qr = np.where(n_qr == 1, np.where(is_there_qr, 1.0, np.nan), hoyer_qr)
    place_qr = np.where(is_there_qr, np.nan_to_num(share_qrt).argmax(-1), 0)
    position_qr = np.where(is_there_qr, value["token"].to_numpy()[place_qr], -1)
    arrays: dict[str, Any] = {
        "largest": (largest_qr, "share of the largest token", "of the summed size of influence by token"),
        "effective": (effective_qr, "effective tokens", "participation ratio: tokens that carry the influence"),
        "hoyer": (hoyer_qr, "Hoyer's sparsity", "0: spread evenly over the text, 1: on one token"),
        "position": (position_qr, "position of the largest token", "along `token`; -1 where there is no influence"),
    }
    if "token_text" in tokens:
        text_qrt = tokens["token_text"].transpose(*_DIMS, "token").to_numpy()
        text_qr = np.take_along_axis(text_qrt, place_qr[..., None], -1)[..., 0]
        arrays["token_text"] = (np.where(is_there_qr, text_qr, ""), "largest token", "its readable piece")
    return xr.Dataset(
        {name: (_DIMS, one, variable_attrs(called, "1", text)) for name, (one, called, text) in arrays.items()},
        coords=kept(tokens, *_DIMS),
        attrs={**tokens.attrs, **root_attrs("sparsity")},
    )


def drop_sparse(
    best: xr.Dataset, tokens: xr.Dataset, *, hoyer: float | None = None, largest: float | None = None
) -> tuple[xr.Dataset, xr.Dataset]:
    """A list without the sequences whose influence sits on few tokens, and what was dropped.

    Args:
        best: from `inflab.top`.
        tokens: from `Influence.attribute`, of that list.
        hoyer: drop sequences whose Hoyer sparsity is at least this.
        largest: or those whose largest token has at least this share. Give one of the two.

    Returns:
        The list, with `is_ranked` False and its numbers NaN where a sequence was dropped; ranks stay as they were. And
        a dataset over `pair` with `query`, `train` and `rank` of what was dropped, its `influence`, `largest`,
        `effective`, `hoyer`, `position` and `token_text`: empty where nothing was.

    Raises:
        SchemaError: when a variable or a dim is missing.
        SettingError: when not one threshold is given, or it lies outside 0 to 1.
        CorpusError: when the tokens are of another list.
    """
    given = {name: value for name, value in (("hoyer", hoyer), ("largest", largest)) if value is not None}
    if len(given) != 1:
        raise SettingError(f"hoyer={hoyer!r} and largest={largest!r}; give one of them, such as hoyer=0.8")
    name, least = next(iter(given.items()))
    if not is_finite_number(least) or not 0 < least <= 1:
        raise SettingError(f"{name}={least!r} must lie above 0 and at most at 1, such as 0.8")
    require(best, "is_ranked", *_DIMS)
    value = influence_of(best, *_DIMS)
    found = _of_list(sparsity(tokens), best)
    is_ranked = best["is_ranked"].transpose(*_DIMS)
    is_ranked_qr = is_ranked.to_numpy()
    is_dropped_qr = is_ranked_qr & (found[name].to_numpy() >= least)
    is_kept = is_ranked.copy(data=is_ranked_qr & ~is_dropped_qr)
    numbers = {
        str(of): best[of].where(is_kept).assign_attrs(best[of].attrs)
        for of in best.data_vars
        if set(_DIMS) <= set(best[of].dims) and np.issubdtype(best[of].dtype, np.floating)
    }
    row_p, place_p = np.nonzero(is_dropped_qr)

    def chosen(array: xr.DataArray) -> np.ndarray:
        picked: np.ndarray = array.transpose(*_DIMS).to_numpy()[row_p, place_p]
        return picked

    dropped = xr.Dataset(
        {
            str(value.name): ("pair", chosen(value), value.attrs),
            **{str(of): ("pair", chosen(found[of]), found[of].attrs) for of in found.data_vars},
        },
        coords={
            "pair": np.arange(len(row_p)),
            "query": ("pair", best["query"].to_numpy()[row_p]),
            "rank": ("pair", best["rank"].to_numpy()[place_p]),
            "train": ("pair", chosen(best["train"])),
        },
        attrs={**best.attrs, **root_attrs("dropped", by=name, least=float(least))},
    )
    return best.assign(numbers).assign(is_ranked=is_kept), dropped


def _of_list(found: xr.Dataset, best: xr.Dataset) -> xr.Dataset:
    """Sparsity in the order of the list, whose sequences it is of."""
    for dim in _DIMS:
        place = pd.Index(found[dim].to_numpy().tolist(), dtype=object).get_indexer(best[dim].to_numpy().tolist())
        if (place < 0).any():
            lost = best[dim].to_numpy()[place < 0].tolist()[0]
            raise CorpusError(f"tokens has no {dim} {lost!r} of best; attribute the whole list")
        found = found.isel({dim: place})
    if "train" in found.coords and "train" in best.coords:
        one, other = (holder["train"].transpose(*_DIMS).to_numpy() for holder in (found, best))
        if not ((one == other) | ~best["is_ranked"].transpose(*_DIMS).to_numpy()).all():
            raise CorpusError("tokens is of another list than best; give influence.attribute(queries, best)")
    return found
