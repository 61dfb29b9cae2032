"""Whether a list holds more of a kind than the corpus does, such as the query's persona (GB23 section 5.3.5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from inflab.analysis.labelling import kept, of_list, of_query, of_train
from inflab.effects import require
from inflab.errors import CorpusError, SettingError
from inflab.schema import root_attrs, variable_attrs

__all__ = ["enrichment"]


def enrichment(best: xr.Dataset, *, along: str, train: Any = None, value: Any = None) -> xr.Dataset:
    """Share of each query's list that is of a kind, against the share of the corpus.

    With x of the n listed and K of all N sequences of the kind, `p` is the chance that n sequences drawn without
    replacement hold x or more (hypergeometric, Fisher's exact test, one-sided), and the odds ratio is
    `x (N - K - n + x) / ((n - x) (K - x))`.

    Args:
        best: from `inflab.top`.
        along: coordinate that tells the kind, `along (query, rank)`, or `train_along`.
        train: what says how common each kind is: the training corpus, the scores that the list was made from, or the
            coordinate's values for all training sequences.
        value: the kind that counts. Default: the query's own, of the coordinate `query_along (query)`.

    Returns:
        Over `query`: `share` of the list and `expected` share, that of the corpus; `odds_ratio` (inf where no other
        kind is listed, or all of the kind are; NaN where kind or list is empty or everything); `p`; `count` and
        `count_train` of the kind, `listed`, the length of the list. All "1".

    Raises:
        SchemaError: when a variable, a dim or a coordinate is missing.
        SettingError: when `train` is missing, or no training sequence is of the kind `value`.
        CorpusError: when a list is empty, or holds more of a kind than the corpus.
    """
    require(best, "is_ranked", "query", "rank")
    kind_qr = of_list(best, along)
    if train is None:
        raise SettingError("train=None: a list does not say how common a kind is; give train=scores, or the corpus")
    kind_t = of_train(train, along) if isinstance(train, (xr.Dataset, xr.DataArray)) and train.coords else train
    all_kinds = np.asarray(kind_t, dtype=object).tolist()
    is_ranked_qr = best["is_ranked"].transpose("query", "rank").to_numpy()
    own_q = [value] * len(kind_qr) if value is not None else of_query(best, along).tolist()
    if value is not None and value not in all_kinds:
        there = sorted({str(kind) for kind in all_kinds})
        raise SettingError(f"value={value!r} is no {along!r} of any training sequence; there are {there[:20]}")

    columns: dict[str, list[float]] = {name: [] for name in _ABOUT}
    for query, own, kinds, is_ranked in zip(
        best["query"].to_numpy().tolist(), own_q, kind_qr.tolist(), is_ranked_qr, strict=True
    ):
        total, common = len(all_kinds), sum(kind == own for kind in all_kinds)
        n, x = int(is_ranked.sum()), sum(bool(ok) and kind == own for kind, ok in zip(kinds, is_ranked, strict=True))
        if not n:
            raise CorpusError(f"the list of query {query!r} is empty; leave the query out")
        table = np.array([[x, n - x], [common - x, total - common - n + x]])
        if (table < 0).any():
            raise CorpusError(
                f"the list of query {query!r} holds {x} of {n} with {along}={own!r}, the corpus {common} of {total}; "
                "give the corpus that the list was made from"
            )
        test = stats.fisher_exact(table, alternative="greater")
        found = (x / n, common / total, float(test.statistic), float(test.pvalue), x, common, n)
        for name, one in zip(columns, found, strict=True):
            columns[name].append(one)
    said = {} if value is None else {"value": str(value)}
    return xr.Dataset(
        {
            name: ("query", np.array(columns[name], dtype=dtype), variable_attrs(called, "1", text))
            for name, (dtype, called, text) in _ABOUT.items()
        },
        coords=kept(best, "query"),
        attrs={**best.attrs, **root_attrs("enrichment", along=along, **said)},
    )


_ABOUT: dict[str, tuple[Any, str, str]] = {
    "share": (np.float64, "share of the list", "sequences of the kind, of those listed"),
    "expected": (np.float64, "share of the corpus", "sequences of the kind, of all training sequences"),
    "odds_ratio": (np.float64, "odds ratio", "odds of the kind in the list, by those in the rest of the corpus"),
    "p": (np.float64, "p", "hypergeometric: that a random list holds as many or more"),
    "count": (np.int64, "count", "sequences of the kind in the list"),
    "count_train": (np.int64, "count in the corpus", "sequences of the kind in the corpus"),
    "listed": (np.int64, "length of the list", "sequences listed"),
}
