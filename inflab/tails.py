"""How heavy the tail of positive influence is, and how few sequences hold it (GB23 section 5.2.1).

Two views of each query: a power law fitted to the largest positive influences (Clauset, Shalizi & Newman 2009, see
`inflab.power_law`), and the coverage curve, the share of all positive influence that the first sequences hold, beside
two curves of what it could have been. Labelled arrays in, labelled arrays out; no torch.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import xarray as xr

from inflab import power_law
from inflab.effects import require, rows
from inflab.errors import CorpusError, NumericsError, SchemaError, check_count
from inflab.schema import root_attrs, variable_attrs

__all__ = ["GOALS", "LAWS", "tail"]

#: Laws that the power law is held against.
LAWS = ("exponential", "lognormal")
#: Shares of the total whose number of sequences is counted.
GOALS = (0.25, 0.5, 0.8)
RULED_OUT = 0.1  # of p: Clauset et al. section 4
_FEWEST = 10  # positive influences that a query must have


def tail(
    scores: xr.Dataset,
    *,
    bootstrap: int = 100,
    least: int = 50,
    thresholds: int | None = 100,
    points: int = 100,
    others: xr.Dataset | None = None,
    lists: int = 20,
    seed: int = 0,
) -> xr.Dataset:
    """How heavy the tail of positive influence is, for each query: a power law, and the coverage curve.

    The law is fitted above `xmin`, the threshold of least Kolmogorov-Smirnov distance; `p` is its goodness of fit by
    semiparametric bootstrap (a law is ruled out at .1 or less), and Vuong's test holds it against an exponential and
    a lognormal one. A fit of a few dozen values rules out little: read `p` beside `n_tail`.

    The coverage curve `held` stands beside two others. `held_shuffled` shuffles which list belongs to which query: the
    share of this query's positive influence that the first sequences of another query's list hold, mean over other
    queries. Where it comes near `held`, the same sequences matter to every query; a list as good as random holds the
    fraction itself. `held_exponential` is what the first would hold if positive influences of the same number and mean
    were exponential: `p (1 - ln p)` of the share p of the positive ones, a tail that is not heavy.

    Costs about .1 s for a query over 10,000 sequences with 100 resamples (100 queries: about 15 s), growing with both
    numbers. Without `thresholds`, every value is tried, as published: quadratic in the length of the tail.

    Args:
        scores: `influence (query, train[, layer])`, or `effect`; layers are summed.
        bootstrap: resamples for `p`, whose standard error is at most `.5 / sqrt(bootstrap)`; 0 leaves `p` NaN.
        least: values that a tail must have; where a query has fewer than twice as many positive ones, half of those.
        thresholds: how many values are tried as `xmin`, log-spaced in the length of the tail; None tries every one.
        points: of the curves, log-spaced.
        others: scores whose lists make the shuffled curve, over the same sequences; `scores` when None.
        lists: other queries that are drawn for it, at most.
        seed: of bootstrap and draw. A query gets the same numbers alone and in a batch.

    Returns:
        Over `query`: `alpha`, `alpha_se`, `xmin`, `n_tail`, `n_positive`, `distance`, `p`, `top_percent` (share that
        the first 1% of sequences hold) and `sentence`; `ratio (query, law)` (positive favours the power law) and
        `ratio_p`; `count (query, goal)`, the sequences that hold 25, 50 and 80%; over `(query, fraction)`, fraction of
        all sequences: `held`, `held_shuffled` (NaN without another query), `held_exponential`, and `value`, the
        smallest among them (NaN beyond the positive ones).

    Raises:
        SchemaError: when neither `influence` nor `effect` is there, or a dim is missing.
        SettingError: when a setting is outside its domain.
        CorpusError: when `others` are over other sequences.
        NumericsError: NaN or infinity in the scores; a query with fewer than 10 positive influences, or equal ones.

    Example:
        >>> found = inflab.tail(scores, bootstrap=0)
        >>> found["alpha"].dims, found["held"].dims, found["ratio"].dims
        (('query',), ('query', 'fraction'), ('query', 'law'))
    """
    check_count("bootstrap", bootstrap, least=0)
    check_count("least", least, least=_FEWEST)
    check_count("points", points, least=2)
    check_count("lists", lists)
    check_count("seed", seed, least=0)
    if thresholds is not None:
        check_count("thresholds", thresholds, "None to try every value", least=2)
    value_qt = _values(scores)
    n_train, ids = value_qt.sizes["train"], value_qt["query"].to_numpy().tolist()
    rank = np.unique(np.geomspace(1, n_train, points).round().astype(np.int64))
    orders = _orders(value_qt if others is None else _like(_values(others), value_qt), lists, seed)
    columns: dict[str, list[Any]] = {name: [] for name in _ABOUT}
    for row, value_t in rows(value_qt):
        positive = _positive(ids[row], value_t)
        rng = np.random.default_rng([seed, zlib.crc32(str(ids[row]).encode())])
        found = _fitted(ids[row], positive, bootstrap, least, thresholds, rng)
        found |= _coverage(value_t, positive, rank, [order for name, order in orders.items() if name != ids[row]])
        found["sentence"] = _sentence(found)
        for name, column in columns.items():
            column.append(found[name])
    return _assembled(scores, value_qt, columns, rank, bootstrap=bootstrap, least=least, bootstrap_seed=seed)


def _values(scores: Any) -> xr.DataArray:
    name = "effect" if "effect" in getattr(scores, "data_vars", ()) else "influence"
    require(scores, name, "query", "train")
    value: xr.DataArray = scores[name]
    value = value.sum("layer", skipna=False, keep_attrs=True) if "layer" in value.dims else value
    if set(value.dims) != {"query", "train"}:
        raise SchemaError([f"/: {name!r} has dims {value.dims}, expected ('query', 'train')"])
    if value.sizes["train"] < 1:
        raise CorpusError("scores holds no training sequence")
    return value.transpose("query", "train")


def _like(others: xr.DataArray, value_qt: xr.DataArray) -> xr.DataArray:
    if not np.array_equal(others["train"].to_numpy(), value_qt["train"].to_numpy()):
        raise CorpusError("others is over other training sequences than scores, or in another order; score the same")
    return others


def _orders(value_qt: xr.DataArray, lists: int, seed: int) -> dict[Any, np.ndarray]:
    """Lists of some queries, one more than are needed, since none serves its own query."""
    n_query = value_qt.sizes["query"]
    drawn = np.sort(np.random.default_rng(seed).permutation(n_query)[: lists + 1])
    chosen = value_qt.isel(query=drawn)
    names = chosen["query"].to_numpy().tolist()
    return {names[row]: np.argsort(-value_t, kind="stable") for row, value_t in rows(chosen)}


def _positive(query: Any, value_t: np.ndarray) -> np.ndarray:
    if not np.isfinite(value_t).all():
        raise NumericsError(
            f"scores of query {query!r} hold NaN or infinity; score every training sequence, without candidates"
        )
    positive = np.sort(value_t[value_t > 0])[::-1]
    if len(positive) < _FEWEST:
        raise NumericsError(
            f"query {query!r} has {len(positive)} positive influences, a tail needs at least {_FEWEST}; score more "
            "training sequences, or leave the query out"
        )
    return positive


def _fitted(
    query: Any, positive: np.ndarray, bootstrap: int, least: int, thresholds: int | None, rng: np.random.Generator
) -> dict[str, Any]:
    least = max(_FEWEST, min(least, len(positive) // 2))
    law = power_law.fit(positive, least, thresholds)
    if law is None:
        raise NumericsError(f"the positive influences of query {query!r} are all equal; they have no tail")
    p = power_law.goodness(positive, law, bootstrap, rng, least, thresholds) if bootstrap else np.nan
    tests = [power_law.compare(positive, law, other) for other in LAWS]
    return {
        "alpha": law.alpha, "alpha_se": law.error, "xmin": law.xmin, "n_tail": law.n_tail, "n_positive": len(positive),
        "distance": law.distance, "p": p,
        "ratio": [test.ratio for test in tests], "ratio_p": [test.p for test in tests],
    }  # fmt: skip


def _coverage(value_t: np.ndarray, positive: np.ndarray, rank: np.ndarray, orders: list[np.ndarray]) -> dict[str, Any]:
    n_train, n = len(value_t), len(positive)
    held_n = np.cumsum(positive)
    total = held_n[-1]
    share = np.minimum(rank / n, 1)
    gain_t = np.clip(value_t, 0, None)
    shuffled = [np.cumsum(gain_t[order])[rank - 1] / total for order in orders]
    return {
        "held": held_n[np.minimum(rank, n) - 1] / total,
        "held_shuffled": np.mean(shuffled, axis=0) if shuffled else np.full(len(rank), np.nan),
        "held_exponential": share * (1 - np.log(share)),
        "value": np.where(rank <= n, positive[np.minimum(rank, n) - 1], np.nan),
        "top_percent": held_n[min(-(-n_train // 100), n) - 1] / total,
        "count": [int(np.searchsorted(held_n, goal * total * (1 - 1e-12)) + 1) for goal in GOALS],
    }


def _sentence(found: dict[str, Any]) -> str:
    """The fit in plain words."""
    p, n_tail = found["p"], found["n_tail"]
    law = f"a power law with exponent {found['alpha']:.2f} ± {found['alpha_se']:.2f}"
    where = f"the {n_tail:,} largest of {found['n_positive']:,} positive influences"
    few = ", too few to rule out much" if n_tail < 50 else ""
    if np.isnan(p):
        said = f"{where[0].upper()}{where[1:]} are closest to {law}; how well was not tested (bootstrap=0){few}."
    elif p > RULED_OUT:
        said = f"{where[0].upper()}{where[1:]} agree with {law} (p = {p:.2f}){few}."
    else:
        said = f"Not a power law: {where} are closest to {law}, but differ from it (p = {p:.2f}){few}."
    words = [_compared(*row) for row in zip(LAWS, found["ratio"], found["ratio_p"], strict=True)]
    half = found["count"][GOALS.index(0.5)]
    held = f"Half of all positive influence lies in {half:,} sequence{'s' if half > 1 else ''}"
    return f"{said} {' '.join(words)} {held}, {found['top_percent']:.0%} in the first 1%."


def _compared(law: str, ratio: float, p: float) -> str:
    called = f"{'An' if law[0] in 'aeiou' else 'A'} {law} tail"
    if p > RULED_OUT:
        return f"{called} fits as well (p = {p:.2f})."
    size = f"p = {p:.2f}" if p >= 0.005 else "p < 0.005"
    return f"{called} fits {'worse' if ratio > 0 else 'better'} ({size})."


#: Dims, dtype, long name, units ("" stands for those of the scores) and description of what `tail` gives.
_ABOUT: dict[str, tuple[tuple[str, ...], Any, str, str, str]] = {
    "alpha": ((), np.float64, "exponent", "1", "alpha of the density p(x) ~ x^-alpha above xmin, maximum likelihood"),
    "alpha_se": ((), np.float64, "standard error of the exponent", "1", "(alpha - 1) / sqrt(n_tail)"),
    "xmin": ((), np.float64, "threshold", "", "where the tail begins: least Kolmogorov-Smirnov distance"),
    "n_tail": ((), np.int64, "sequences in the tail", "1", "positive values of at least xmin"),
    "n_positive": ((), np.int64, "positive sequences", "1", "training sequences with positive influence"),
    "distance": ((), np.float64, "Kolmogorov-Smirnov distance", "1", "between the tail and the fitted law"),
    "p": ((), np.float64, "goodness of fit", "1", "share of semiparametric resamples farther from their own fit"),
    "ratio": (("law",), np.float64, "Vuong's ratio", "1", "normalised log-likelihood ratio; positive: power law fits"),
    "ratio_p": (("law",), np.float64, "p of Vuong's ratio", "1", "that both laws fit equally well"),
    "count": (("goal",), np.int64, "sequences that hold it", "1", "fewest sequences that hold this share of the total"),
    "top_percent": ((), np.float64, "share of the first 1%", "1", "of all positive influence; 1% is rounded up"),
    "held": (("fraction",), np.float64, "share held", "1", "of all positive influence, in the first of all sequences"),
    "held_shuffled": (
        ("fraction",), np.float64, "share held by another query's list", "1",
        "the same for the first sequences of other queries' lists, mean over them",
    ),
    "held_exponential": (
        ("fraction",), np.float64, "share held in an exponential tail", "1",
        "the same if positive influences of this number and mean were exponential",
    ),
    "value": (("fraction",), np.float64, "smallest value", "", "of the first sequences; NaN beyond the positive ones"),
    "sentence": ((), object, "in words", "1", "the fit and the coverage as a sentence"),
}  # fmt: skip


def _assembled(
    scores: xr.Dataset, value_qt: xr.DataArray, columns: dict[str, list[Any]], rank: np.ndarray, **settings: int
) -> xr.Dataset:
    own = value_qt.attrs
    variables = {}
    for name, (dims, dtype, long_name, units, description) in _ABOUT.items():
        attrs = variable_attrs(long_name, units or str(own.get("units", "1")), description)
        column = np.array(columns[name], dtype=dtype)
        if not len(column):
            sizes = {"law": len(LAWS), "goal": len(GOALS), "fraction": len(rank)}
            column = column.reshape(0, *(sizes[dim] for dim in dims))
        variables[name] = (("query", *dims), column, attrs)
    kept = {str(name): coord for name, coord in value_qt.coords.items() if coord.dims in (("query",), ())}
    grid: dict[str, Any] = {
        "law": np.array(LAWS, dtype=object),
        "goal": np.array(GOALS),
        "fraction": rank / value_qt.sizes["train"],
        "sequences": ("fraction", rank),
    }
    return xr.Dataset(variables, coords={**kept, **grid}, attrs={**scores.attrs, **root_attrs("tail", **settings)})
