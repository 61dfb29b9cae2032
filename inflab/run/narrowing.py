"""Less than everything: only candidate pairs, or a first look at low rank and a second, exact one at the best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from inflab import labels
from inflab.corpus import fingerprint
from inflab.errors import CorpusError, SettingError, check_count
from inflab.kronecker import Curvature
from inflab.run.local import Pass
from inflab.run.queries import query_blocks, query_gradients
from inflab.run.score import score_rows
from inflab.schema import variable_attrs

__all__ = ["among", "check_rank", "rescored"]


def check_rank(rank: int | None, truncation: str, rescore: int | None) -> None:
    """Refuse ranks and truncations that do not exist, and a second look without a first.

    Raises:
        SettingError: naming the setting.
    """
    if rank is not None:
        check_count("rank", rank, "None for exact")
    if truncation not in ("whitened", "plain"):
        raise SettingError(f"truncation={truncation!r} is not one of 'whitened', 'plain'")
    if rescore is not None:
        check_count("rescore", rescore, "None for none")
        if rank is None:
            raise SettingError(f"rescore={rescore} needs rank=; without it every score is exact already")


def among(queries: xr.Dataset, train: xr.Dataset, candidates: xr.Dataset) -> tuple[xr.Dataset, xr.DataArray]:
    """The training sequences that some query names as a candidate.

    Args:
        queries: the query batch.
        train: the training corpus the candidates were chosen from.
        candidates: `train (query, rank)`, from `inflab.filter_candidates` or `inflab.top`.

    Returns:
        These sequences in the corpus' order, and `is_candidate (query, train)`.

    Raises:
        CorpusError: when the candidates were chosen from another corpus, or a query has none.
    """
    if not isinstance(candidates, xr.Dataset):
        raise CorpusError(
            f"candidates is a {type(candidates).__name__}; give what inflab.filter_candidates(queries, corpus, n) made"
        )
    made_from = candidates.attrs.get("corpus_fingerprint")
    if candidates.attrs.get("kind") == "candidates" and made_from != fingerprint(train):
        raise CorpusError(
            f"candidates were chosen from the corpus with fingerprint {made_from}, this one has {fingerprint(train)}; "
            "filter this corpus"
        )
    chosen, is_ranked = labels.positions(queries, train, candidates)
    mask = np.zeros((queries.sizes["query"], train.sizes["train"]), dtype=bool)
    mask[tuple(chosen[is_ranked].T)] = True
    empty = queries["query"].to_numpy()[~mask.any(axis=1)]
    if len(empty):
        raise CorpusError(
            f"candidates name no sequence for query {empty.tolist()[0]!r}; filter again, or leave the query out"
        )
    wanted = np.flatnonzero(mask.any(axis=0))
    attrs = variable_attrs("is candidate", "1", "True where the pair was scored")
    coords = {"query": queries["query"].to_numpy(), "train": train["train"].to_numpy()[wanted]}
    return train.isel(train=wanted), xr.DataArray(mask[:, wanted], coords, ("query", "train"), attrs=attrs)


def rescored(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    train: xr.Dataset,
    found: xr.Dataset,
    k: int,
    *,
    by_layer: bool,
) -> xr.Dataset:
    """Scores of low rank with the first `k` of each query, and whatever shares their pass, made exact.

    Args:
        run: the pass.
        curvatures: of each layer.
        queries: the query batch.
        train: the training sequences.
        found: their scores at low rank.
        k: how many of each query's sequences, from the most positive on, whatever their sign.
        by_layer: whether layers are kept apart.

    Returns:
        The scores, and `is_exact (query, train)`.
    """
    value = found["influence"].to_numpy().copy()
    whole_qn = value.sum(-1) if by_layer else value
    first_qk = np.argsort(-whole_qn, axis=1, kind="stable")[:, :k]  # NaN, of pairs that are no candidates, comes last
    wanted = np.unique(first_qk[~np.isnan(np.take_along_axis(whole_qn, first_qk, 1))])
    is_exact = np.zeros((queries.sizes["query"], train.sizes["train"]), dtype=bool)
    for rows in query_blocks(run, queries.sizes["query"]):
        ready = query_gradients(run, curvatures, queries, rows, against=train.isel(train=wanted))
        exact = score_rows(run, ready, train, wanted, by_layer=by_layer)
        del ready  # before the next block's come
        here = ~np.isnan(value[np.ix_(rows, wanted)])  # pairs that are no candidates stay so
        value[np.ix_(rows, wanted)] = np.where(here, exact, np.nan)
        is_exact[np.ix_(rows, wanted)] = here.any(axis=-1) if by_layer else here
    attrs = variable_attrs("is exact", "1", "True where the score is of full rank")
    return found.assign(
        influence=found["influence"].copy(data=value), is_exact=(("query", "train"), is_exact, attrs)
    ).assign_attrs(rescored=k)
