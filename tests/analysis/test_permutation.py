"""The permutation test is exact enumeration where groups are small, and fair where nothing differs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inflab import analysis, validate
from inflab.errors import NumericsError, SchemaError, SettingError
from tests.analysis import made


def _values(value: Any, kind: Any) -> xr.DataArray:
    value = np.asarray(value, float)
    return xr.DataArray(
        value, dims="query", coords={"query": np.arange(len(value)), "query_kind": ("query", made.text(kind))},
        name="depth", attrs={"units": "1", "long_name": "depth"},
    )  # fmt: skip


def _enumerated(x: np.ndarray, y: np.ndarray) -> float:
    both, n = np.concatenate([x, y]), len(x)
    observed = x.mean() - y.mean()
    drawn = []
    for chosen in combinations(range(len(both)), n):
        is_in = np.isin(np.arange(len(both)), chosen)
        drawn.append(both[is_in].mean() - both[~is_in].mean())
    more = np.mean(np.array(drawn) >= observed - 1e-12)
    less = np.mean(np.array(drawn) <= observed + 1e-12)
    return float(min(1, 2 * min(more, less)))


@pytest.mark.parametrize(("n", "m"), [(3, 3), (2, 5), (4, 4), (2, 2)])
def test_small_groups_are_enumerated(n: int, m: int) -> None:
    value = np.random.default_rng(n).standard_normal(n + m)
    found = analysis.permutation_test(_values(value, "a" * n + "b" * m), "kind", first="a", second="b", resamples=999)
    assert float(found["p"]) == pytest.approx(_enumerated(value[:n], value[n:]))
    assert float(found["difference"]) == pytest.approx(value[:n].mean() - value[n:].mean())
    np.testing.assert_allclose(found["mean"], [value[:n].mean(), value[n:].mean()])
    assert found["count"].to_numpy().tolist() == [n, m]
    validate(found)


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(7)
    label = ["a"] * 12 + ["b"] * 18
    p = [
        float(analysis.permutation_test(_values(rng.exponential(size=30), label), "query_kind", first="a", second="b",
                                        resamples=399, seed=i)["p"])
        for i in range(300)
    ]  # fmt: skip
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.1


def test_what_differs_is_found_and_the_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(8)
    value = np.concatenate([rng.normal(1, 1, 60), rng.normal(0, 1, 60)])
    found = analysis.permutation_test(_values(value, "a" * 60 + "b" * 60), "kind", first="a", second="b", resamples=999)
    low, high = found["interval"].to_numpy()
    assert low < 1 < high and low > 0
    assert float(found["p"]) == pytest.approx(2 / 1000)
    standard = np.sqrt(value[:60].var() / 60 + value[60:].var() / 60)
    assert high - low == pytest.approx(2 * 1.96 * standard, rel=0.15)


@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5))
def test_order_shift_and_sides_do_not_matter(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    values = _values(rng.standard_normal(8), "aaabbbbc")
    mixed = (values + shift).isel(query=rng.permutation(8))
    one = analysis.permutation_test(values, "kind", first="a", second="b", resamples=99)
    two = analysis.permutation_test(mixed, "kind", first="b", second="a", resamples=99)
    assert float(one["p"]) == pytest.approx(float(two["p"]))
    assert float(one["difference"]) == pytest.approx(-float(two["difference"]), abs=1e-12)
    assert one.attrs["permutations"] == 35


def test_labels_by_name_by_place_and_by_id_are_the_same() -> None:
    values = _values([1.0, 2.0, 4.0, 8.0], "abab")
    by_id = values["query_kind"].isel(query=[3, 2, 1, 0]).drop_vars("query_kind")
    by_id.values = made.text("baba")
    found = [
        analysis.permutation_test(values, labels, first="a", second="b", resamples=50)
        for labels in ("kind", "query_kind", list("abab"), by_id, values["query_kind"])
    ]
    assert {float(one["difference"]) for one in found} == {2.5 - 5}


GOOD = _values([1.0, 2.0, 4.0, np.nan, 1.0], "aabcc")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: analysis.permutation_test(GOOD, "kind", first="a", second="c"),
            NumericsError,
            r"query 3 is NaN.*dropna",
        ),
        (
            lambda: analysis.permutation_test(GOOD, "kind", first="a", second="z"),
            SettingError,
            r"second='z' has 0 .*a \(2\), c \(2\), b \(1\)",
        ),
        (
            lambda: analysis.permutation_test(GOOD, "kind", first="a", second="b"),
            SettingError,
            "second='b' has 1 value",
        ),
        (lambda: analysis.permutation_test(GOOD, "kind", first="a", second="a"), SettingError, "the same label"),
        (
            lambda: analysis.permutation_test(GOOD, "sort", first="a", second="b"),
            SchemaError,
            "'sort' over .*query_kind",
        ),
        (lambda: analysis.permutation_test(GOOD, ["a"], first="a", second="b"), SettingError, "labels has shape"),
        (lambda: analysis.permutation_test(GOOD.to_dataset(), "kind", first="a", second="b"), SchemaError, "Dataset"),
        (
            lambda: analysis.permutation_test(GOOD, "kind", first="a", second="b", resamples=0),
            SettingError,
            "resamples=0",
        ),
        (lambda: analysis.permutation_test(GOOD, "kind", first="a", second="b", level=2), SettingError, "level=2"),
        (lambda: analysis.permutation_test(GOOD, "kind", first="a", second="b", seed=-1), SettingError, "seed=-1"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
