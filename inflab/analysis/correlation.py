"""Whether queries are influenced by the same sequences: correlation of their influences, within and between kinds."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from inflab.analysis.labelling import check_finite, influence_of, kept, labels_of
from inflab.effects import rows
from inflab.errors import NumericsError, SchemaError, SettingError, check_count
from inflab.schema import root_attrs, variable_attrs

__all__ = ["correlation", "within"]

_LEAST = 3  # sequences; two points correlate by 1 or -1
_PAIR = ("query", "other_query")


def correlation(
    scores: xr.Dataset, *, method: Literal["pearson", "spearman"] = "pearson", k: int | None = None
) -> xr.Dataset:
    """Correlation of the influences of each two queries over the training sequences.

    With `k`, only over the sequences on either query's list of the `k` most helpful. Beware: what is on one list by
    chance is lower on the other, so that unrelated queries then correlate *below* 0; read `shared` beside it, and
    compare groups of queries with each other, not with 0.

    Args:
        scores: `influence (query, train[, layer])`, or `effect`; layers are summed.
        method: "pearson", or "spearman" of the ranks.
        k: length of the lists, of positive influence; None takes every training sequence.

    Returns:
        `correlation (query, other_query)`, "1"; NaN where influence is constant, or the lists hold fewer than three
        sequences. With `k` also `shared (query, other_query)`, how many sequences both lists hold.

    Raises:
        SchemaError: when influence or its dims are missing.
        SettingError: when `method` or `k` is outside its domain, or there are fewer than three sequences.
        NumericsError: when a score is NaN or infinite.
    """
    if method not in ("pearson", "spearman"):
        raise SettingError(f"method={method!r} is not one of 'pearson', 'spearman'")
    value = influence_of(scores, "query", "train")
    value = value.sum("layer", skipna=False) if "layer" in value.dims else value
    value = value.transpose("query", "train")
    n_query, n_train = value.shape
    if n_train < _LEAST:
        raise SettingError(f"scores hold {n_train} training sequences; a correlation needs at least {_LEAST}")
    if k is not None:
        check_count("k", k, "None for every training sequence")
        if k > n_train:
            raise SettingError(f"k={k} must lie between 1 and the number of training sequences, {n_train}")
    ids = value["query"].to_numpy()
    value_qt = np.empty(value.shape)
    for row, value_t in rows(value):
        value_qt[row] = value_t
    check_finite(value_qt, ids, "score every training sequence, without candidates")

    arrays: dict[str, Any] = {}
    about = f"{method.title()}'s correlation over"
    if k is None:
        r_qo = _correlated(value_qt, method)
        about = f"{about} all training sequences"
    else:
        r_qo, shared_qo = _of_lists(value_qt, method, k)
        said = variable_attrs("shared sequences", "1", f"on the lists of {k} of both queries")
        arrays["shared"], about = (_PAIR, shared_qo, said), f"{about} the sequences on either list of {k}"
    arrays["correlation"] = (_PAIR, r_qo, variable_attrs("correlation", "1", about))
    chosen = {} if k is None else {"k": int(k)}
    return xr.Dataset(
        arrays,
        coords=kept(value, "query") | {"other_query": ids},
        attrs={**scores.attrs, **root_attrs("correlation", correlation=method, **chosen)},
    )


def _correlated(value_qt: np.ndarray, method: str) -> np.ndarray:
    """Correlations of all rows, `(query, query)`; NaN for a constant row."""
    value_qt = stats.rankdata(value_qt, axis=1) if method == "spearman" else value_qt
    is_constant = (value_qt == value_qt[:, :1]).all(1)
    apart_qt = value_qt - value_qt.mean(1, keepdims=True)
    size_q = np.linalg.norm(apart_qt, axis=1, keepdims=True)
    apart_qt = np.divide(apart_qt, size_q, out=np.full_like(apart_qt, np.nan), where=size_q > 0)
    r_qq: np.ndarray = np.clip(apart_qt @ apart_qt.T, -1, 1)
    np.fill_diagonal(r_qq, 1.0)
    r_qq[is_constant], r_qq[:, is_constant] = np.nan, np.nan
    return r_qq


def _of_lists(value_qt: np.ndarray, method: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlations over the union of each two lists, and how many sequences both hold."""
    lists = [order[:k][row[order[:k]] > 0] for row in value_qt for order in (np.argsort(-row, kind="stable"),)]
    n = len(lists)
    r_qo, shared_qo = np.full((n, n), np.nan), np.zeros((n, n), np.int64)
    for i in range(n):
        for j in range(i, n):
            union: np.ndarray = np.union1d(lists[i], lists[j])
            shared_qo[i, j] = shared_qo[j, i] = len(lists[i]) + len(lists[j]) - len(union)
            if len(union) >= _LEAST:
                r_qo[i, j] = r_qo[j, i] = _correlated(value_qt[[i, j]][:, union], method)[0, 1]
    return r_qo, shared_qo


def within(correlation: xr.Dataset | xr.DataArray, labels: Any, *, resamples: int = 9999, seed: int = 0) -> xr.Dataset:
    """Mean correlation of queries that share a label, and of those that do not.

    The test deals the labels out anew over the queries (every way where there are at most `resamples`, else as many are
    drawn), so that pairs which share a query are not taken as independent; p is two-sided.

    Args:
        correlation: from `correlation`, or its array `(query, other_query)`.
        labels: the name of a coordinate of the queries (its prefix `query_` may be left out), or a label for each.
        resamples: of the test.
        seed: of the test.

    Returns:
        `within (group)`, the mean over pairs of queries of the label (NaN where it has one query), `between (group)`,
        over pairs of one query of the label and one of another; `mean (group, other)`, both as a table; `count (group)`
        of queries. Over all pairs: `within_all`, `between_all`, `difference` and its `p`. The sizes are "1".

    Raises:
        SchemaError: when this is no correlation of queries, or there is no such coordinate.
        SettingError: when there are fewer than two labels, or no label has two queries.
        NumericsError: when a correlation is NaN.
    """
    check_count("resamples", resamples)
    check_count("seed", seed, least=0)
    array = correlation["correlation"] if isinstance(correlation, xr.Dataset) and "correlation" in correlation else None
    array = correlation if isinstance(correlation, xr.DataArray) else array
    if array is None or set(array.dims) != set(_PAIR):
        raise SchemaError(["/: 'correlation (query, other_query)' is missing; make it with analysis.correlation"])
    r_qo = array.transpose(*_PAIR).to_numpy().astype(np.float64)
    label_q = labels_of(array.isel(other_query=0, drop=True), labels)
    code_q, group = pd.factorize(pd.Series(label_q.tolist(), dtype=object), sort=False)
    if (code_q < 0).any():
        raise SettingError(
            f"labels holds none for query {array['query'].to_numpy()[code_q < 0].tolist()[0]!r}; give one"
        )
    count_g = np.bincount(code_q)
    if len(group) < 2 or count_g.max() < 2:
        raise SettingError(f"labels has {len(group)} label(s) of {len(r_qo)} queries; give two, one with two queries")
    first, second = np.triu_indices(len(r_qo), 1)
    r_p = r_qo[first, second]
    if not np.isfinite(r_p).all():
        lost = array["query"].to_numpy()[~np.isfinite(r_qo).any(1)].tolist()
        which = f"query {lost[0]!r}" if lost else "a pair of queries"
        raise NumericsError(f"the correlation of {which} is NaN; leave it out of the scores, or raise k")

    def statistic(code: np.ndarray, axis: int = -1) -> Any:
        same = code[..., first] == code[..., second]
        return np.where(same, r_p, 0).sum(axis) / same.sum(axis) - np.where(same, 0, r_p).sum(axis) / (~same).sum(axis)

    test = stats.permutation_test(
        (code_q,), statistic, permutation_type="pairings", vectorized=True, n_resamples=resamples,
        batch=max(1, 2**21 // len(r_p)), random_state=np.random.default_rng(seed),
    )  # fmt: skip
    is_in_gq = code_q == np.arange(len(group))[:, None]
    off_qo = np.where(np.eye(len(r_qo), dtype=bool), 0, r_qo)
    sums_go = is_in_gq @ off_qo @ is_in_gq.T
    pairs_go = np.outer(count_g, count_g) - np.diag(count_g)
    rest_g = pairs_go.sum(1) - pairs_go.diagonal()
    same_p = code_q[first] == code_q[second]
    mean_go = np.divide(sums_go, pairs_go, out=np.full(sums_go.shape, np.nan), where=pairs_go > 0)
    names = np.empty(len(group), dtype=object)
    names[:] = list(group)
    arrays: dict[str, tuple[Any, Any, str, str]] = {
        "within": ("group", mean_go.diagonal(), "correlation within", "mean over pairs of queries of the label"),
        "between": (
            "group", (sums_go.sum(1) - sums_go.diagonal()) / rest_g, "correlation between",
            "mean over pairs of one query of the label and one of another",
        ),
        "mean": (("group", "other"), mean_go, "mean correlation", "over pairs of different queries of the two labels"),
        "count": ("group", count_g, "queries", "of the label"),
        "within_all": ((), r_p[same_p].mean(), "correlation within", "mean over all pairs that share a label"),
        "between_all": ((), r_p[~same_p].mean(), "correlation between", "mean over all pairs that do not"),
        "difference": ((), r_p[same_p].mean() - r_p[~same_p].mean(), "difference", "within minus between, all pairs"),
        "p": ((), float(test.pvalue), "p", "permutation test of the difference, two-sided"),
    }  # fmt: skip
    return xr.Dataset(
        {name: (dims, one, variable_attrs(called, "1", text)) for name, (dims, one, called, text) in arrays.items()},
        coords={"group": names, "other": names},
        attrs=root_attrs("within", resamples=resamples, seed=seed),
    )
