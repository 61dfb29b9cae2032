"""What people say of training sequences: agreement of two raters, and what their ratings say of each method.

Ratings are given blind (`inflab.widgets.Rating`), after the human study of Grosse et al. 2023 (section 5.4), and are
set against the methods afterwards. Cohen's kappa (1960; weighted: 1968) is `(po - pe) / (1 - pe)`, with `po` the
weighted share of answers that agree and `pe` what two raters with these habits would agree in by chance. Its standard
error is the asymptotic one of Fleiss, Cohen and Everitt (1969). Labelled arrays in, labelled arrays out; no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from inflab.errors import CorpusError, SettingError, check_bootstrap, check_count, is_finite_number
from inflab.ratings import as_array, as_text, frame, is_ranked, lists_of
from inflab.schema import root_attrs, variable_attrs

__all__ = ["kappa", "relevance"]


def kappa(
    a: Any,
    b: Any,
    *,
    weights: Literal["linear", "quadratic"] | None = None,
    level: float = 0.95,
    scale: Sequence[Any] | None = None,
) -> xr.Dataset:
    """Cohen's kappa of two raters, over what both rated.

    The pairs are taken as drawn independently of one another. One answer to every pair leaves nothing that chance could
    not explain: kappa is then NaN, and the attribute `note` says so. Where the raters never differ otherwise, kappa is
    1 and its standard error 0, whatever the number of pairs: `note` says that too.

    Args:
        a: ratings of one rater (`Rating.ratings`, or a data frame with the columns query, train, rating), matched by
            query and train; or a plain sequence of answers, matched by place, with None or NaN where there is none.
        b: the other rater's, in the same form.
        weights: None counts exact agreement; "linear" and "quadratic" forgive answers that are near, by their distance
            on the scale.
        level: of the interval.
        scale: every answer there could be, in order. Default: the scale of the ratings, else the answers that occur.

    Returns:
        `kappa`, `standard_error`, `interval (bound)`, `observed` and `chance` agreement, all "1"; `n`, the pairs that
        both rated; `count (rating, other_rating)`, how often a said the one and b the other.

    Raises:
        SettingError: when a setting is outside its domain, or an answer is not on the scale.
        SchemaError: when ratings lack a column.
        CorpusError: when no pair was rated by both, or one rated a pair twice.

    Example:
        >>> ann, bob = [1, 2, 3, 1], [1, 2, 3, 2]
        >>> found = inflab.kappa(ann, bob)
        >>> float(found["observed"]), int(found["n"]), found["count"].dims
        (0.75, 4, ('rating', 'other_rating'))
    """
    if weights not in (None, "linear", "quadratic"):
        raise SettingError(f"weights={weights!r} is not one of None, 'linear', 'quadratic'")
    if not is_finite_number(level) or not 0 < level < 1:
        raise SettingError(f"level={level!r} must lie between 0 and 1; 0.95 for a 95% interval")
    x, y, points = _answers(a, b, scale)
    place = {point: i for i, point in enumerate(points)}
    lost = next((one for one in [*x, *y] if one not in place), None)
    if lost is not None:
        raise SettingError(f"the answer {lost!r} is not on the scale {points}; give scale=, all answers in order")
    count_ij = np.zeros((len(points), len(points)), dtype=np.int64)
    np.add.at(count_ij, ([place[one] for one in x], [place[one] for one in y]), 1)
    value, error, observed, chance = _kappa(count_ij, weights)
    ends = np.full(2, value)
    if abs(value) < 1:  # on Fisher's scale, where few pairs make a fairer interval, within -1 and 1
        half = norm.ppf((1 + level) / 2) * error / (1 - value**2)
        ends = np.tanh(np.arctanh(value) + np.array([-half, half]))
    noted = {}
    if not np.isfinite(value):
        answer = points[int(count_ij.sum(1).argmax())]
        noted["note"] = (
            f"both raters gave the same answer, {answer!r}, to every one of the {len(x)} pairs: chance alone explains "
            "that, and kappa is not defined"
        )
    elif error == 0:
        noted["note"] = (
            f"the standard error from these {len(x)} pairs is 0, so the interval is that one number; rate more"
        )
    named = {
        "kappa": (value, "Cohen's kappa", "agreement beyond chance, as a share of what there is beyond chance"),
        "standard_error": (error, "standard error of kappa", "asymptotic, pairs independent"),
        "observed": (observed, "observed agreement", "share of pairs alike, near answers by their weight"),
        "chance": (chance, "chance agreement", "what raters with these habits agree in by chance"),
        "n": (len(x), "pairs", "pairs that both rated"),
    }
    said = f"{level:.0%} interval, from the standard error on Fisher's scale, atanh(kappa)"
    return xr.Dataset(
        {
            **{name: ((), one, variable_attrs(title, "1", about)) for name, (one, title, about) in named.items()},
            "interval": ("bound", ends, variable_attrs("interval of kappa", "1", said)),
            "count": (
                ("rating", "other_rating"), count_ij, variable_attrs("pairs", "1", "a's answer, b's answer"),
            ),
        },
        coords={"bound": as_text(["low", "high"]), "rating": as_array(points), "other_rating": as_array(points)},
        attrs=root_attrs("kappa", weights=weights or "unweighted", level=float(level), **noted),
    )  # fmt: skip


def _kappa(count_ij: np.ndarray, weights: str | None) -> tuple[float, float, float, float]:
    """Kappa, its standard error, observed and chance agreement of a table of counts."""
    n, points = count_ij.sum(), len(count_ij)
    apart = np.abs(np.subtract.outer(np.arange(points), np.arange(points))) / max(1, points - 1)
    weight_ij = {None: (apart == 0).astype(float), "linear": 1 - apart, "quadratic": 1 - apart**2}[weights]
    p_ij = count_ij / n
    row_i, column_j = p_ij.sum(1), p_ij.sum(0)
    observed, chance = float((weight_ij * p_ij).sum()), float(row_i @ weight_ij @ column_j)
    if np.isclose(chance, 1, rtol=0, atol=1e-12):
        return np.nan, np.nan, observed, chance
    value = (observed - chance) / (1 - chance)
    expected_ij = (weight_ij @ column_j)[:, None] + (row_i @ weight_ij)[None]
    spread = (p_ij * (weight_ij - expected_ij * (1 - value)) ** 2).sum() - (value - chance * (1 - value)) ** 2
    return value, float(np.sqrt(max(0.0, spread) / n) / (1 - chance)), observed, chance


def _answers(a: Any, b: Any, scale: Sequence[Any] | None) -> tuple[list[Any], list[Any], list[Any]]:
    """What each said of the pairs that both rated, and the scale."""
    tables = [isinstance(one, (xr.Dataset, xr.DataTree, pd.DataFrame)) for one in (a, b)]
    if all(tables):
        scales = [list(one.attrs["scale"]) for one in (a, b) if "scale" in one.attrs]
        if len(scales) == 2 and scales[0] != scales[1]:
            raise SettingError(f"a was rated on the scale {scales[0]}, b on {scales[1]}; give ratings on the same")
        first, second = (_one_rater(one, name) for one, name in ((a, "a"), (b, "b")))
        both = first.merge(second, on=["query", "train"], suffixes=("", "_other"))
        x, y = both["rating"].tolist(), both["rating_other"].tolist()
        if scale is None and scales:
            scale = range(1, len(scales[0]) + 1)
    elif any(tables) or any(isinstance(one, str) or not isinstance(one, Iterable) for one in (a, b)):
        raise SettingError("a and b must both be ratings (Rating.ratings, a data frame), or both plain sequences")
    else:
        given = [np.asarray(one, dtype=object).tolist() for one in (a, b)]
        if len(given[0]) != len(given[1]):
            raise SettingError(f"a has {len(given[0])} answers, b has {len(given[1])}; give one for each pair")
        answered = [pair for pair in zip(*given, strict=True) if not pd.isna(list(pair)).any()]
        x, y = [one for one, _ in answered], [other for _, other in answered]
    if not x:
        raise CorpusError("no pair was rated by both a and b; give ratings of the same queries and training sequences")
    if scale is not None:
        return x, y, list(scale)
    try:
        return x, y, sorted({*x, *y})
    except TypeError as error:
        raise SettingError(f"answers of different kinds ({error}); give scale=, all answers in order") from error


def _one_rater(ratings: Any, name: str) -> pd.DataFrame:
    found = frame(ratings, name)
    found = found[found["rating"].notna()]
    twice = found[found.duplicated(["query", "train"])]
    if len(twice):
        pair = twice.iloc[0]
        raise CorpusError(
            f"{name} has query {pair['query']!r}, train {pair['train']!r} twice; give the ratings of one rater alone"
        )
    return found[["query", "train", "rating"]]


def relevance(
    ratings: Any,
    lists: Any,
    *,
    k: int | None = None,
    at_least: int | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """What blind ratings say of each method: mean rating, and precision at k.

    A pair that several raters saw counts with its mean rating. Each query counts alike; the bootstrap draws queries,
    the same ones for all methods.

    Args:
        ratings: `Rating.ratings`, or a data frame with query, train, rating.
        lists: what was rated: a mapping from names to top lists, one such, or an explanation.
        k: ranks that count. Default: as many as were shown (attribute `per_query`), else all.
        at_least: the rating from which a sequence counts as relevant. Default: the highest of the scale.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        Over `estimator`: `mean_rating`, `interval (estimator, bound)`, `mean_rating_by_query (estimator, query)`,
        `precision (estimator, rank)`, the share of the first `rank` with a rating of at least `at_least`, with
        `precision_interval`; `rated`, the share of the listed pairs that have a rating; paired, `difference (estimator,
        other)` of the mean ratings with `difference_interval`. NaN where nothing was rated; intervals also where there
        is one query.

    Raises:
        SettingError: when a setting is outside its domain.
        SchemaError: when ratings or lists lack what they need.
        CorpusError: when no rated pair is on any list.
    """
    check_bootstrap(resamples, level)
    check_count("seed", seed, least=0)
    named, table = lists_of(lists), frame(ratings)
    attrs = {} if isinstance(ratings, pd.DataFrame) else ratings.attrs
    deepest = max(one.sizes["rank"] for one in named.values())
    k = min(int(attrs.get("per_query", deepest)), deepest) if k is None else k
    check_count("k", k)
    at_least = (
        at_least if at_least is not None else len(attrs["scale"]) if "scale" in attrs else int(table["rating"].max())
    )
    check_count("at_least", at_least)

    mean = table.groupby(["query", "train"], sort=False)["rating"].mean().to_dict()
    queries = list(dict.fromkeys(q for one in named.values() for q in one["query"].to_numpy().tolist()))
    value_mqr = np.full((len(named), len(queries), k), np.nan)
    is_listed_mqr = np.zeros(value_mqr.shape, bool)
    for m, one in enumerate(named.values()):
        id_qr = one["train"].transpose("query", "rank").to_numpy()[:, :k]
        is_ranked_qr = is_ranked(one)[:, :k]
        for query, ids, ranked in zip(one["query"].to_numpy().tolist(), id_qr.tolist(), is_ranked_qr, strict=True):
            row = queries.index(query)
            is_listed_mqr[m, row, : len(ids)] = ranked
            value_mqr[m, row, : len(ids)] = [
                mean.get((query, i), np.nan) if r else np.nan for i, r in zip(ids, ranked, strict=True)
            ]
    if not np.isfinite(value_mqr).any():
        raise CorpusError("no rated pair is on any of the lists; give the lists that were rated")
    return _summary(list(named), queries, value_mqr, is_listed_mqr, at_least, resamples, level, seed)


def _summary(
    names: list[str], queries: list[Any], value_mqr: np.ndarray, is_listed_mqr: np.ndarray,
    at_least: int, resamples: int, level: float, seed: int,
) -> xr.Dataset:  # fmt: skip
    is_rated_mqr = np.isfinite(value_mqr)
    seen_mqr = is_rated_mqr.cumsum(2)
    hit_mqr = (np.where(is_rated_mqr, value_mqr, 0) >= at_least).cumsum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_mq = np.where(is_rated_mqr, value_mqr, 0).sum(2) / seen_mqr[..., -1]
        precision_mqr = hit_mqr / seen_mqr
        rated_m = (is_rated_mqr & is_listed_mqr).sum((1, 2)) / is_listed_mqr.sum((1, 2))
    # One column of numbers for each query: the mean rating, then the precisions.
    both_mqc = np.concatenate([mean_mq[..., None], precision_mqr], axis=2)
    rng, n = np.random.default_rng(seed), len(queries)
    weight_bq = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), resamples)])
    is_there = np.isfinite(both_mqc)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn_bmc = np.einsum("bq,mqc->bmc", weight_bq, np.where(is_there, both_mqc, 0)) / np.einsum(
            "bq,mqc->bmc", weight_bq, is_there.astype(float)
        )
    whole_mc, drawn_bmc = drawn_bmc[0], drawn_bmc[1:]

    def ends(drawn: np.ndarray) -> np.ndarray:
        """Quantiles of resamples (first axis), last axis low and high; NaN where a resample has none, or one query."""
        bounds = np.full((*drawn.shape[1:], 2), np.nan)
        for place in np.ndindex(drawn.shape[1:] if n > 1 else (0,)):
            if len(there := drawn[:, *place][np.isfinite(drawn[:, *place])]):
                bounds[place] = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
        return bounds

    whole_m, drawn_bm = whole_mc[:, 0], drawn_bmc[..., 0]
    said = f"{level:.0%} bootstrap interval over queries"
    described = {
        "mean_rating": ("mean rating", "mean over queries of the mean rating of the list"),
        "interval": ("interval of the mean rating", said),
        "mean_rating_by_query": ("mean rating of a query", "over the rated sequences of the list"),
        "precision": ("precision at k", f"share of the first `rank` that are rated {at_least} or more, of those rated"),
        "precision_interval": ("interval of the precision", said),
        "difference": ("difference of mean ratings", "estimator minus other"),
        "difference_interval": ("interval of the difference", f"{said}, paired: the same queries for both"),
        "rated": ("share rated", "of the listed pairs"),
    }
    arrays = {
        "mean_rating": (("estimator",), whole_m),
        "interval": (("estimator", "bound"), ends(drawn_bm)),
        "mean_rating_by_query": (("estimator", "query"), mean_mq),
        "precision": (("estimator", "rank"), whole_mc[:, 1:]),
        "precision_interval": (("estimator", "rank", "bound"), ends(drawn_bmc[..., 1:])),
        "difference": (("estimator", "other"), whole_m[:, None] - whole_m[None]),
        "difference_interval": (("estimator", "other", "bound"), ends(drawn_bm[:, :, None] - drawn_bm[:, None])),
        "rated": (("estimator",), rated_m),
    }
    return xr.Dataset(
        {name: (*array, variable_attrs(described[name][0], "1", described[name][1])) for name, array in arrays.items()},
        coords={
            "estimator": as_text(names), "other": as_text(names), "query": as_array(queries),
            "rank": np.arange(1, value_mqr.shape[2] + 1), "bound": as_text(["low", "high"]),
        },
        attrs=root_attrs("relevance", level=float(level), at_least=at_least, resamples=resamples, seed=seed),
    )  # fmt: skip
