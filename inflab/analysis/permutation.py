"""Whether two groups of queries differ: a permutation test of the difference of their means."""

from __future__ import annotations

from collections import Counter
from math import comb
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from inflab.analysis.labelling import BOUNDS, bootstrap_note, labels_of, units_of
from inflab.errors import NumericsError, SchemaError, SettingError, check_bootstrap, check_count
from inflab.schema import root_attrs, variable_attrs

__all__ = ["permutation_test"]

_AT_ONCE = 2**22  # numbers


def permutation_test(
    values: xr.DataArray,
    labels: Any,
    *,
    first: Any,
    second: Any,
    resamples: int = 9999,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Difference of the means of two groups, and how often chance alone makes one as large.

    Under the null hypothesis labels are exchangeable. All ways to deal them out are tried where there are at most
    `resamples`, else as many are drawn; `p` is twice the smaller tail, at most 1, and counts the labels as they are
    (`scipy.stats.permutation_test`). So p is never 0, and with few values it cannot be small: 3 against 3 give .1.

    Args:
        values: over one dim, such as `depth (query)`.
        labels: the name of a coordinate over that dim (its prefix `query_` may be left out), or a label for each value.
        first: the label of the one group.
        second: the label of the other; values of other labels are left out.
        resamples: of test and bootstrap.
        level: of the interval.
        seed: of both.

    Returns:
        `difference`, first minus second, with its `interval (bound)`; `p` ("1"); `mean (group)` and `count (group)`.
        The attribute `permutations` says how many ways to deal labels were counted.

    Raises:
        SchemaError: when values are no array over one dim, or there is no such coordinate.
        SettingError: when a setting is outside its domain, or a label has fewer than two values.
        NumericsError: when a value is NaN or infinite.
    """
    check_bootstrap(resamples, level)
    check_count("seed", seed, least=0)
    is_array = isinstance(values, xr.DataArray)
    if not is_array or values.ndim != 1:
        has = f"/: values is a {type(values).__name__} with dims {tuple(getattr(values, 'dims', ()))}"
        raise SchemaError([f"{has}; give an array over one dim, such as analysis.depth(scores).depth"])
    label_q = labels_of(values, labels)
    if first == second:
        raise SettingError(f"first={first!r} and second={second!r} are the same label; give two")
    x, y = (_group(values, label_q, name, label) for name, label in (("first", first), ("second", second)))

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> Any:
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    at_once = {"n_resamples": resamples, "batch": max(1, _AT_ONCE // (len(x) + len(y))), "vectorized": True}
    test = stats.permutation_test((x, y), difference, random_state=np.random.default_rng(seed), **at_once)
    drawn = stats.bootstrap(
        (x, y), difference, method="percentile", confidence_level=level,
        random_state=np.random.default_rng(seed), **at_once,
    )  # fmt: skip
    ends = np.array(drawn.confidence_interval)
    units, called = units_of(values), str(values.attrs.get("long_name", values.name))
    groups = np.empty(2, dtype=object)
    groups[:] = [first, second]
    said, minus = bootstrap_note(level, "the values of each group"), f"of means: {first} minus {second}"
    return xr.Dataset(
        {
            "difference": ((), x.mean() - y.mean(), variable_attrs(f"difference of {called}", units, minus)),
            "interval": ("bound", ends, variable_attrs("interval of the difference", units, said)),
            "p": ((), float(test.pvalue), variable_attrs("p", "1", "permutation test of the difference, two-sided")),
            "mean": ("group", [x.mean(), y.mean()], variable_attrs(f"mean {called}", units, "of the group")),
            "count": ("group", [len(x), len(y)], variable_attrs("count", "1", "values of the group")),
        },
        coords={"bound": BOUNDS, "group": groups},
        attrs=root_attrs(
            "permutation_test", first=str(first), second=str(second), resamples=resamples, level=float(level),
            seed=seed, permutations=min(comb(len(x) + len(y), len(x)), resamples),
        ),
    )  # fmt: skip


def _group(values: xr.DataArray, label_q: np.ndarray, name: str, label: Any) -> np.ndarray:
    is_in_q = np.array([one == label for one in label_q.tolist()], bool)
    if is_in_q.sum() < 2:
        there = ", ".join(f"{one} ({count})" for one, count in Counter(map(str, label_q.tolist())).most_common(20))
        raise SettingError(f"{name}={label!r} has {is_in_q.sum()} value(s), a group needs two; there are {there}")
    found: np.ndarray = values.to_numpy().astype(np.float64)[is_in_q]
    if not np.isfinite(found).all():
        place = np.flatnonzero(is_in_q)[~np.isfinite(found)][0]
        dim = values.dims[0]
        which = values[dim].to_numpy().tolist()[place] if dim in values.coords else place
        raise NumericsError(
            f"values of {dim} {which!r} is NaN or infinite; leave it out, as with values.dropna({dim!r})"
        )
    return found
