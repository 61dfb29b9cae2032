"""How well scores predict retraining: the linear datamodeling score (Park et al. 2023, arXiv 2303.14186).

The prediction for a subset of the training data is the sum of its members' influences. The score of a query is
Spearman's correlation, over the subsets of a bank (`inflab.truth.retrain_bank`), between that sum and what the query
measured after training on the subset, averaged over seeds. Labelled arrays in, labelled arrays out; no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from inflab.errors import CorpusError, NumericsError, SchemaError, SettingError, check_bootstrap, check_count
from inflab.schema import root_attrs, variable_attrs

__all__ = ["by_name", "lds", "matched"]

_LEAST = 3  # subsets; Spearman's correlation of two points is 1 or -1


def lds(
    scores: xr.Dataset | Mapping[str, xr.Dataset],
    bank: xr.Dataset,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Linear datamodeling score of one or several methods, with intervals, paired differences and the noise ceiling.

    Subsets and queries are drawn again together in every resample, the same ones for all methods. Ranks are those among
    all subsets of the bank; a resample weighs them. A query for which a method says the same of every subset counts
    as 0: nothing was predicted.

    Args:
        scores: `influence (query, train[, layer])`, or a mapping from a name to such; layers are summed. Matched with
            the bank by id; the queries may be some of the bank's, the same for every method.
        bank: `measurement (subset, seed, query)` and `is_member (subset, train)`.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        Over `estimator`: `lds` ("1"), `lds_by_query (estimator, query)`, `interval (estimator, bound)`; paired:
        `difference (estimator, other)`, estimator minus other, and `difference_interval (estimator, other, bound)`. The
        `ceiling` is the score of a perfect prediction of the mean over all seeds there could be: the root of the
        reliability of the mean over the bank's seeds, by Spearman and Brown from the correlation between single seeds;
        with `ceiling_interval (bound)`; NaN for a bank of one seed.

    Raises:
        SchemaError: when a variable is missing.
        CorpusError: when ids of scores and bank do not match.
        SettingError: when a setting is outside its domain, or the bank has fewer than three subsets.
        NumericsError: NaN or infinity in scores or bank.

    Example:
        >>> found = inflab.lds({"EK-FAC": inflab.EKFAC().fit(followed).score(asked)}, bank, resamples=50)
        >>> found["lds"].dims, found["interval"].dims
        (('estimator',), ('estimator', 'bound'))
    """
    check_bootstrap(resamples, level)
    check_count("seed", seed, least=0)
    named = by_name(scores)
    measured_skq, member_st, queries = _target(bank, named)
    names = list(named)
    predicted_msq = np.stack([
        member_st @ matched(name, one, queries, bank["train"].to_numpy(), "the bank").T for name, one in named.items()
    ])

    target_sq = _ranks(measured_skq.mean(axis=1), axis=0)
    rank_msq = _ranks(predicted_msq, axis=1)
    rank_skq = _ranks(measured_skq, axis=0)
    pairs = list(combinations(range(measured_skq.shape[1]), 2))

    def found(weight_bs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Correlations of each method, `(resample, method, query)`, and between single seeds, `(resample, query)`."""
        r_bmq = np.stack([_correlation(weight_bs, one, target_sq) for one in rank_msq], axis=1)
        single = [_correlation(weight_bs, rank_skq[:, i], rank_skq[:, j]) for i, j in pairs]
        return r_bmq, np.mean(single, axis=0) if single else np.full((len(weight_bs), target_sq.shape[1]), np.nan)

    n_subset, n_query = target_sq.shape
    whole_bmq, single_bq = found(np.ones((1, n_subset)))
    rng = np.random.default_rng(seed)
    subset_bs = rng.multinomial(n_subset, np.full(n_subset, 1 / n_subset), resamples).astype(np.float64)
    query_bq = rng.multinomial(n_query, np.full(n_query, 1 / n_query), resamples) / n_query
    drawn_bm, ceiling_b = np.empty((resamples, len(names))), np.empty(resamples)
    for part in np.array_split(np.arange(resamples), -(-resamples * len(names) * n_query // 2**22)):
        r_bmq, one_bq = found(subset_bs[part])
        drawn_bm[part] = np.einsum("bmq,bq->bm", r_bmq, query_bq[part])
        ceiling_b[part] = _ceiling((one_bq * query_bq[part]).sum(axis=1), measured_skq.shape[1])
    return _assembled(
        names, queries, whole_bmq[0], drawn_bm, _ceiling(single_bq.mean(axis=1), measured_skq.shape[1]), ceiling_b,
        level, {"resamples": resamples, "seed": seed, "subsets": n_subset, "seeds": measured_skq.shape[1]},
    )  # fmt: skip


def _assembled(
    names: list[str],
    queries: np.ndarray,
    r_mq: np.ndarray,
    drawn_bm: np.ndarray,
    ceiling: np.ndarray,
    ceiling_b: np.ndarray,
    level: float,
    attrs: dict[str, int],
) -> xr.Dataset:
    ends = [(1 - level) / 2, (1 + level) / 2]
    value_m = r_mq.mean(axis=1)
    drawn_bmo = drawn_bm[:, :, None] - drawn_bm[:, None, :]
    said = f"{level:.0%} bootstrap interval over subsets and queries"
    noted = {} if attrs["seeds"] > 1 else {"note": "a bank of one seed tells no noise: retrain with seeds=2 or more"}
    least, most = np.quantile(ceiling_b, ends) if np.isfinite(ceiling).all() else (np.nan, np.nan)
    return xr.Dataset(
        {
            "lds": ("estimator", value_m, variable_attrs("LDS", "1", "linear datamodeling score, mean over queries")),
            "lds_by_query": (
                ("estimator", "query"),
                r_mq,
                variable_attrs("LDS of a query", "1", "Spearman's correlation over subsets of predicted and measured"),
            ),
            "interval": (
                ("estimator", "bound"),
                np.quantile(drawn_bm, ends, axis=0).T,
                variable_attrs("interval of the LDS", "1", said),
            ),
            "difference": (
                ("estimator", "other"),
                value_m[:, None] - value_m[None],
                variable_attrs("difference of LDS", "1", "estimator minus other"),
            ),
            "difference_interval": (
                ("estimator", "other", "bound"),
                np.moveaxis(np.quantile(drawn_bmo, ends, axis=0), 0, -1),
                variable_attrs("interval of the difference", "1", f"{said}, paired: the same resamples for both"),
            ),
            "ceiling": (
                (),
                float(ceiling[0]),
                variable_attrs("ceiling", "1", "LDS of a perfect prediction, given the noise between seeds"),
            ),
            "ceiling_interval": ("bound", [least, most], variable_attrs("interval of the ceiling", "1", said)),
        },
        coords={
            "estimator": np.array(names, dtype=object),
            "other": np.array(names, dtype=object),
            "query": queries,
            "bound": np.array(["low", "high"], dtype=object),
        },
        attrs=root_attrs("agreement", level=level, **attrs, **noted),
    )


def by_name(scores: Any) -> dict[str, xr.Dataset]:
    """Scores of one or several methods, by name.

    Returns:
        Name -> scores.

    Raises:
        SettingError: when they are neither a dataset nor a mapping of such.
    """
    if isinstance(scores, xr.Dataset):
        return {str(scores.attrs.get("method", "scores")): scores}
    if not isinstance(scores, Mapping) or not scores:
        raise SettingError(f"scores is {scores!r:.60}; give a dataset of scores, or a mapping from names to such")
    return {str(name): one for name, one in scores.items()}


def _target(bank: xr.Dataset, named: Mapping[str, xr.Dataset]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measurements `(subset, seed, query)` of what was scored, members `(subset, train)`, and the queries' ids."""
    for name, dims in (("measurement", {"subset", "seed", "query"}), ("is_member", {"subset", "train"})):
        if name not in bank or set(bank[name].dims) != dims:
            raise SchemaError([f"/: bank needs {name!r} over {sorted(dims)}; make one with inflab.truth.retrain_bank"])
    if bank.sizes["subset"] < _LEAST:
        raise SettingError(f"bank has {bank.sizes['subset']} subsets; ranks need at least {_LEAST}, and 100 are usual")
    first = next(iter(named))
    for name, one in named.items():
        _check_influence(name, one)
        if set(one["query"].to_numpy().tolist()) != set(named[first]["query"].to_numpy().tolist()):
            raise CorpusError(f"scores of {name!r} are of other queries than those of {first!r}; score the same ones")
    queries = named[first]["query"].to_numpy()
    place = _places(bank, "query", queries, f"scores of {first!r}")
    measured = bank["measurement"].transpose("subset", "seed", "query").to_numpy()[:, :, place].astype(np.float64)
    if not np.isfinite(measured).all():
        raise NumericsError("bank's measurement holds NaN or infinity; train again with a lower learning rate")
    return measured, bank["is_member"].transpose("subset", "train").to_numpy().astype(np.float64), queries


def matched(name: str, one: xr.Dataset, queries: np.ndarray, train: np.ndarray, whose: str) -> np.ndarray:
    """Influence in the order of some queries and of all training examples.

    Args:
        name: of the scores.
        one: the scores, `influence (query, train[, layer])`; layers are summed.
        queries: ids, some of the scores'.
        train: ids, all of the scores'.
        whose: the ids are, for messages.

    Returns:
        `(query, train)`, float64.

    Raises:
        SchemaError: when there is no such influence.
        CorpusError: when the ids do not match.
        NumericsError: when a number is NaN or infinite.
    """
    _check_influence(name, one)
    value = one["influence"].sum("layer") if "layer" in one["influence"].dims else one["influence"]
    if len(train) != one.sizes["train"]:
        raise CorpusError(
            f"scores of {name!r} are of {one.sizes['train']} training examples, {whose} is of {len(train)}; score the "
            "whole corpus"
        )
    rows = _places(one, "query", queries, whose)
    columns = _places(one, "train", train, whose)
    found: np.ndarray = value.transpose("query", "train").to_numpy()[np.ix_(rows, columns)].astype(np.float64)
    if not np.isfinite(found).all():
        raise NumericsError(
            f"scores of {name!r} hold NaN or infinity; score every training example, without candidates"
        )
    return found


def _check_influence(name: str, one: Any) -> None:
    if not isinstance(one, xr.Dataset) or "influence" not in one:
        raise SchemaError([f"/: scores of {name!r} have no variable 'influence'"])
    if not {"query", "train"} <= set(one["influence"].dims) <= {"query", "train", "layer"}:
        raise SchemaError([f"/: influence of {name!r} has dims {one['influence'].dims}, needs ('query', 'train')"])


def _places(holder: xr.Dataset, dim: str, wanted: np.ndarray, whose: str) -> np.ndarray:
    place = pd.Index(holder[dim].to_numpy().tolist(), dtype=object).get_indexer(wanted.tolist())
    if (place < 0).any():
        lost = wanted[place < 0].tolist()[0]
        raise CorpusError(
            f"{dim} {lost!r} of {whose} is not among the other's {holder.sizes[dim]}; use the same corpora"
        )
    return np.asarray(place)


def _ranks(value: np.ndarray, axis: int) -> np.ndarray:
    """Ranks along an axis, ties averaged, of mean 0."""
    rank: np.ndarray = rankdata(value, axis=axis)
    rank -= rank.mean(axis=axis, keepdims=True)
    return rank


def _correlation(weight_bs: np.ndarray, x_sq: np.ndarray, y_sq: np.ndarray) -> np.ndarray:
    """Pearson's correlation over subsets under each row of weights, `(resample, query)`; 0 for a constant."""
    share_bs = weight_bs / weight_bs.sum(axis=1, keepdims=True)
    mean_x, mean_y = share_bs @ x_sq, share_bs @ y_sq
    covariance = share_bs @ (x_sq * y_sq) - mean_x * mean_y
    spread_x = share_bs @ (x_sq * x_sq) - mean_x * mean_x
    spread_y = share_bs @ (y_sq * y_sq) - mean_y * mean_y
    scale = np.sqrt(np.clip(spread_x, 0, None) * np.clip(spread_y, 0, None))
    least = 1e-12 * len(x_sq) ** 2  # what rounding leaves of a constant's spread
    found: np.ndarray = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > least)
    return found


def _ceiling(single: np.ndarray, seeds: int) -> np.ndarray:
    """Root of the reliability of the mean over seeds, from the mean correlation between single ones."""
    reliability = seeds * single / (1 + (seeds - 1) * single)
    root: np.ndarray = np.sqrt(np.clip(reliability, 0, None))
    return root
