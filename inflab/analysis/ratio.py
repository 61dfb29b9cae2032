"""What one kind of training sequence does beside another: ratios of influence (GB23 sections 5.3.1 and 5.3.4).

Such as translated beside original, key phrases flipped beside in order.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import xarray as xr
from scipy import stats

from inflab.analysis.labelling import (
    BOUNDS,
    bootstrap_note,
    check_finite,
    influence_of,
    kept,
    of_query,
    of_train,
    units_of,
)
from inflab.effects import rows
from inflab.errors import CorpusError, SettingError, check_bootstrap, check_count
from inflab.schema import root_attrs, variable_attrs

__all__ = ["ratio"]


def ratio(
    scores: xr.Dataset,
    *,
    along: str,
    of: Any,
    to: Any,
    match: str | None = None,
    statistic: Literal["mean", "sum"] = "mean",
    resamples: int = 9999,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Influence of training sequences of one kind, divided by that of another kind, for each query and pooled.

    Influence has a sign: read a ratio beside its numerator and denominator. A denominator near 0 makes the ratio of a
    query wild; the pooled ratio, of the sums over queries, is steadier.

    Args:
        scores: `influence (query, train[, layer])`, or `effect`; layers are summed.
        along: coordinate of the training sequences that tells the kinds.
        of: the kind above.
        to: the kind below.
        match: count only sequences that share this label with the query: the coordinate `match (train)`, and
            `query_match (query)` or `match (query)`.
        statistic: "mean" over the sequences of a kind, or their "sum".
        resamples: of the bootstrap.
        level: of the interval.
        seed: of the bootstrap.

    Returns:
        Over `query`: `numerator`, `denominator`, `ratio` ("1"; NaN where the denominator is 0), and the numbers of
        sequences `count_of` and `count_to`. `pooled`, the ratio of the sums over queries (NaN where their denominator
        is 0), with `pooled_interval (bound)`: NaN for one query, or where a resample's denominator is 0.

    Raises:
        SchemaError: when influence, its dims or a coordinate is missing.
        SettingError: when a setting is outside its domain, or no training sequence is of a kind.
        CorpusError: when a query has no training sequence of a kind that matches it.
        NumericsError: when a score that counts is NaN or infinite.
    """
    check_bootstrap(resamples, level)
    check_count("seed", seed, least=0)
    if statistic not in ("mean", "sum"):
        raise SettingError(f"statistic={statistic!r} is not one of 'mean', 'sum'")
    if of == to:
        raise SettingError(f"of={of!r} and to={to!r} are the same kind; give two")
    value = influence_of(scores, "query", "train")
    value = value.sum("layer", skipna=False, keep_attrs=True) if "layer" in value.dims else value
    value = value.transpose("query", "train")
    kind_t = of_train(scores, along).tolist()
    is_kind_kt = np.array([[one == kind for one in kind_t] for kind in (of, to)], bool)
    for name, kind, is_kind_t in zip(("of", "to"), (of, to), is_kind_kt, strict=True):
        if not is_kind_t.any():
            there = sorted({str(one) for one in kind_t})
            raise SettingError(f"{name}={kind!r} is no {along!r} of any training sequence; there are {there[:20]}")
    own_t, own_q = (None, None) if match is None else (of_train(scores, match), of_query(scores, match))
    ids = value["query"].to_numpy()

    part_kq, count_kq = np.empty((2, len(ids))), np.empty((2, len(ids)), np.int64)
    for row, value_t in rows(value):
        is_own_t = True if own_t is None or own_q is None else own_t == own_q[row]
        for place, kind in enumerate((of, to)):
            chosen = value_t[is_kind_kt[place] & is_own_t]
            if not len(chosen):
                named = f"{match}={own_q[row]!r} and " if own_q is not None else ""
                raise CorpusError(
                    f"query {ids.tolist()[row]!r} has no training sequence with {named}{along}={kind!r}; leave the "
                    "query out, or add such sequences to the corpus"
                )
            check_finite(chosen[None], ids[[row]], "score every training sequence, without candidates")
            part_kq[place, row] = chosen.mean() if statistic == "mean" else chosen.sum()
            count_kq[place, row] = len(chosen)

    ends = np.full(2, np.nan)
    if len(ids) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", stats.DegenerateDataWarning
            )  # a resample without a ratio: NaN, as said above
            drawn = stats.bootstrap(
                tuple(part_kq), _pooled, paired=True, vectorized=True, method="percentile", n_resamples=resamples,
                confidence_level=level, batch=max(1, 2**22 // len(ids)), random_state=np.random.default_rng(seed),
            )  # fmt: skip
        ends = np.array(drawn.confidence_interval)
    units, matched = units_of(value), f" with the query's {match}" if match else ""
    about = {
        "numerator": (part_kq[0], units, f"{statistic} of influence of sequences whose {along} is {of}{matched}"),
        "denominator": (part_kq[1], units, f"{statistic} of influence of sequences whose {along} is {to}{matched}"),
        "ratio": (_divided(*part_kq), "1", "numerator / denominator; NaN where that is 0"),
        "count_of": (count_kq[0], "1", "sequences in the numerator"),
        "count_to": (count_kq[1], "1", "sequences in the denominator"),
    }
    said = bootstrap_note(level, "queries")
    arrays: dict[str, Any] = {
        name: ("query", one, variable_attrs(name.replace("_", " "), unit, text))
        for name, (one, unit, text) in about.items()
    }
    about_pooled = variable_attrs("pooled ratio", "1", "ratio of the sums over queries")
    arrays["pooled"] = ((), float(_pooled(*part_kq)), about_pooled)
    arrays["pooled_interval"] = ("bound", ends, variable_attrs("interval of the pooled ratio", "1", said))
    return xr.Dataset(
        arrays,
        coords=kept(value, "query") | {"bound": BOUNDS},
        attrs={
            **scores.attrs,
            **root_attrs(
                "ratio", along=along, of=str(of), to=str(to), match=match or "", statistic=statistic,
                resamples=resamples, level=float(level), bootstrap_seed=seed,
            ),
        },
    )  # fmt: skip


def _divided(x: Any, y: Any) -> Any:
    return np.divide(x, y, out=np.full(np.shape(y), np.nan), where=np.asarray(y) != 0)


def _pooled(x: np.ndarray, y: np.ndarray, axis: int = -1) -> Any:
    return _divided(x.sum(axis), y.sum(axis))
