"""What stands beside a method's lists: those of a lexical search, and what leaving them out of the training did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from inflab import labels
from inflab.candidates import filter_candidates
from inflab.effects import removal
from inflab.schema import variable_attrs
from inflab.trust.fits import ranked_ids, spearman

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["lexical_agreement", "removed"]

#: Variables of `inflab.removal` -> what they are called in a report.
_NAMES = {
    "effect": "predicted", "percent": "predicted_percent",
    "measured": "measured", "measured_se": "measured_se", "measured_percent": "measured_percent",
}  # fmt: skip


def lexical_agreement(
    given: xr.Dataset, best: xr.Dataset, queries: xr.Dataset, train: xr.Dataset, progress: bool
) -> dict[str, Any]:
    """How much of each list a lexical search finds too.

    Args:
        given: scores.
        best: lists.
        queries: over `query`.
        train: the training corpus.
        progress: show bars.

    Returns:
        `lexical_overlap (query)`, the share of the list that is in BM25's list of the same length, and
        `lexical_correlation (query)`, Spearman's over all training sequences; NaN for corpora without tokens.
    """
    n_query, n_train = given.sizes["query"], train.sizes["train"]
    overlap_q, correlation_q = np.full(n_query, np.nan), np.full(n_query, np.nan)
    if "token_id" in train:
        found = filter_candidates(queries, train, n_train, progress=progress)
        place_qrp, is_found_qr = labels.positions(queries, train, found)
        similarity_qr = np.where(is_found_qr, found["similarity"].to_numpy(), 0)
        similarity_qt = np.zeros((n_query, n_train))
        np.put_along_axis(similarity_qt, place_qrp[..., 1], similarity_qr, axis=1)
        short = ranked_ids(found.isel(rank=slice(best.sizes["rank"])))
        for row, (listed, closest) in enumerate(zip(ranked_ids(best), short, strict=True)):
            overlap_q[row] = len(listed & closest) / len(listed) if listed else np.nan
            score_t = given["influence"].isel(query=row).to_numpy()
            correlation_q[row] = spearman(score_t, similarity_qt[row])
    about = "by BM25 of query and training sequence; NaN where the corpus has no tokens"
    return {
        "lexical_overlap": (
            "query",
            overlap_q,
            variable_attrs("overlap with BM25", "1", f"share of the list that is also in the list {about}"),
        ),
        "lexical_correlation": (
            "query",
            correlation_q,
            variable_attrs("rank correlation with BM25", "1", f"Spearman's, of all scores with those {about}"),
        ),
    }


def removed(
    given: xr.Dataset,
    best: xr.Dataset,
    queries: xr.Dataset,
    train: xr.Dataset,
    recipe: Recipe | None,
    trainings: int,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    """What leaving out each query's list was predicted to do to it, and did.

    Args:
        given: scores.
        best: lists.
        queries: over `query`.
        train: the training corpus.
        recipe: how models are trained; None measures nothing.
        trainings: seeds of each retraining.
        seed: of their seeds.
        progress: show bars.

    Returns:
        `predicted (query)`, `predicted_percent`, and with a recipe `measured`, `measured_se`, `measured_percent`. NaN
        for an empty list.
    """
    listed, ids = ranked_ids(best), train["train"].to_numpy().tolist()
    names = given["query"].to_numpy()
    is_left_out = np.array([[label in members for label in ids] for members in listed])
    coords = {"group": names, "train": train["train"].to_numpy()}
    groups = xr.DataArray(is_left_out, dims=("group", "train"), coords=coords)
    groups = groups.isel(group=is_left_out.any(1))
    measured = None
    if recipe is not None and groups.sizes["group"]:
        from inflab.truth import leave_out

        measured = leave_out(recipe, train, queries, groups, seeds=trainings, seed=seed, progress=progress)
    found = removal(given, groups, measured=measured).reindex(group=names)
    own = {_NAMES[str(name)]: value for name, value in found.data_vars.items() if str(name) in _NAMES}
    return {
        name: ("query", np.diagonal(value.transpose("query", "group")).copy(), value.attrs)
        for name, value in own.items()
    }
