"""Attribution of chosen pairs as labelled results: by layer and token, token by token, by output or input token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from inflab import labels
from inflab.errors import SettingError
from inflab.kronecker import Curvature
from inflab.run.local import Pass
from inflab.run.tokens import token_pairs, token_scores
from inflab.run.views import input_scores, output_scores
from inflab.schema import influence_attrs

__all__ = ["attributed", "check_view"]

#: What a number at a place is, in each view.
_DESCRIBED = {
    "update": influence_attrs("share of the pair's influence at each place"),
    "output": influence_attrs("share of the pair's influence in what each predicted token gains, at its own place"),
    "input": influence_attrs(
        "change of the pair's influence per relative change of the token's embedding: these do not sum to the influence"
    )
    | {"sign": "positive: with a larger embedding of the token, the sequence would have more influence"},
}


def check_view(view: str, pairs: bool) -> None:
    """Refuse a view that does not exist, or pairs of tokens of one that has none.

    Raises:
        SettingError: saying what there is.
    """
    if view not in _DESCRIBED:
        raise SettingError(f"view={view!r} is not one of {', '.join(map(repr, _DESCRIBED))}")
    if pairs and view != "update":
        raise SettingError(f"pairs=True needs view='update', got view={view!r}")


def attributed(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    train: xr.Dataset,
    top: xr.Dataset,
    chosen: np.ndarray,
    is_ranked: np.ndarray,
    attrs: dict[str, Any],
    *,
    view: str,
    pairs: bool,
) -> xr.Dataset:
    """Influence of chosen pairs at each place.

    Args:
        run: the pass.
        curvatures: of each layer.
        queries: the query batch.
        train: the training sequences.
        top: gives query, rank and their coordinates.
        chosen: `(query, rank, 2)` positions in both corpora (`inflab.labels.positions`).
        is_ranked: `(query, rank)` bool.
        attrs: of the result.
        view: "update", "output" or "input".
        pairs: whether the query's tokens are kept apart.

    Returns:
        `influence (query, rank, layer, token[, query_token])`; without `layer` for "output" and "input".
    """
    engine = {"output": output_scores, "input": input_scores, "update": token_pairs if pairs else token_scores}[view]
    value = engine(run, curvatures, queries, train, chosen[is_ranked])
    names = ["token"] if view != "update" else ["layer", "token", "query_token"][: value.ndim - 1]
    full = np.full((*is_ranked.shape, *value.shape[1:]), np.nan, dtype=value.dtype)
    full[is_ranked] = value
    described = _DESCRIBED[view]
    return labels.token_dataset(full, names, train, queries, top, chosen[..., 1], run.layers, attrs, described)
