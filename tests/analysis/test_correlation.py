"""Correlations are those of numpy and scipy, pair by pair; within and between are means over pairs, dealt out anew."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inflab import analysis, top, validate
from inflab.errors import NumericsError, SchemaError, SettingError
from tests.analysis import made

RNG = np.random.default_rng(0)
KINDS = ["a", "a", "b", "b", "b"]
VALUE = RNG.standard_t(3, (5, 40)) + np.repeat(RNG.standard_t(3, (2, 40)), [2, 3], axis=0)
SCORES = made.scores(VALUE, query_kind=("query", KINDS))


def test_pearson_is_that_of_numpy() -> None:
    found = analysis.correlation(SCORES)
    validate(found)
    np.testing.assert_allclose(found["correlation"], np.corrcoef(VALUE), rtol=1e-12)
    assert found["other_query"].to_numpy().tolist() == found["query"].to_numpy().tolist()


def test_spearman_is_that_of_scipy_with_ties() -> None:
    rounded = SCORES.assign(influence=SCORES["influence"].round())
    found = analysis.correlation(rounded, method="spearman")["correlation"]
    np.testing.assert_allclose(found, stats.spearmanr(VALUE.round(), axis=1).statistic, rtol=1e-12)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_lists_are_those_of_top(method: Any) -> None:
    found = analysis.correlation(SCORES, method=method, k=6)
    validate(found)
    lists = [{int(name[1:]) for name in row} for row in top(SCORES, 6)["train"].to_numpy()]
    theirs = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method]
    for i, j in combinations(range(5), 2):
        union = sorted(lists[i] | lists[j])
        assert float(found["correlation"][i, j]) == pytest.approx(theirs(VALUE[i, union], VALUE[j, union]).statistic)
        assert float(found["correlation"][j, i]) == float(found["correlation"][i, j])
        assert int(found["shared"][i, j]) == len(lists[i] & lists[j])
    assert found["shared"].to_numpy().diagonal().tolist() == [6] * 5


def test_unrelated_lists_correlate_below_zero_as_the_docstring_warns() -> None:
    value = np.random.default_rng(1).standard_normal((10, 2000))
    found = analysis.correlation(made.scores(value), k=50)["correlation"].to_numpy()
    assert found[np.triu_indices(10, 1)].max() < -0.5


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_order_and_scale_change_nothing(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    order_q = rng.permutation(5)
    mixed = SCORES.isel(train=rng.permutation(40), query=order_q)
    mixed = mixed.assign(influence=mixed["influence"] * scale)
    for k in (None, 7):
        one = analysis.correlation(SCORES, k=k)["correlation"].to_numpy()
        np.testing.assert_allclose(analysis.correlation(mixed, k=k)["correlation"], one[np.ix_(order_q, order_q)])


def test_what_does_not_vary_has_no_correlation() -> None:
    value = VALUE.copy()
    value[1] = 0.1
    found = analysis.correlation(made.scores(value))["correlation"].to_numpy()
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    assert np.isfinite(np.delete(np.delete(found, 1, 0), 1, 1)).all()
    short = analysis.correlation(made.scores([[1.0, 0, 0, 0], [2.0, 0, 0, 0]]), k=2)
    assert short["correlation"].isnull().all()
    assert short["shared"].to_numpy().tolist() == [[1, 1], [1, 1]]


def test_within_and_between_are_means_over_pairs() -> None:
    found = analysis.correlation(SCORES)
    r = found["correlation"].to_numpy()
    mine = analysis.within(found, "kind", resamples=999)
    validate(mine)
    inside = {"a": [r[0, 1]], "b": [r[2, 3], r[2, 4], r[3, 4]]}
    across = [r[i, j] for i in (0, 1) for j in (2, 3, 4)]
    np.testing.assert_allclose(mine["within"], [np.mean(inside["a"]), np.mean(inside["b"])])
    np.testing.assert_allclose(mine["between"], [np.mean(across)] * 2)
    np.testing.assert_allclose(
        mine["mean"], [[np.mean(inside["a"]), np.mean(across)], [np.mean(across), np.mean(inside["b"])]]
    )
    assert float(mine["within_all"]) == pytest.approx(np.mean(inside["a"] + inside["b"]))
    assert float(mine["between_all"]) == pytest.approx(np.mean(across))
    difference = np.mean(inside["a"] + inside["b"]) - np.mean(across)
    assert float(mine["difference"]) == pytest.approx(difference)
    drawn = []
    for dealt in permutations(KINDS):
        same = [r[i, j] for i, j in combinations(range(5), 2) if dealt[i] == dealt[j]]
        other = [r[i, j] for i, j in combinations(range(5), 2) if dealt[i] != dealt[j]]
        drawn.append(np.mean(same) - np.mean(other))
    more, less = np.mean(np.array(drawn) >= difference - 1e-12), np.mean(np.array(drawn) <= difference + 1e-12)
    assert float(mine["p"]) == pytest.approx(min(1, 2 * min(more, less)))


def test_p_of_within_is_uniform_where_labels_mean_nothing_and_small_where_they_do() -> None:
    rng = np.random.default_rng(5)
    label = list("aaaabbbbcccc")
    drawn = [analysis.correlation(made.scores(rng.standard_normal((12, 30)))) for _ in range(200)]
    p = [float(analysis.within(one, label, resamples=199, seed=i)["p"]) for i, one in enumerate(drawn)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    shared = np.repeat(rng.standard_normal((3, 30)), 4, axis=0) + rng.standard_normal((12, 30))
    found = analysis.within(analysis.correlation(made.scores(shared)), label, resamples=999)
    assert float(found["p"]) < 0.01 and float(found["difference"]) > 0.2


def test_a_label_of_one_query_has_no_within() -> None:
    found = analysis.within(analysis.correlation(SCORES)["correlation"], list("aabbc"))
    assert found["within"].isnull().to_numpy().tolist() == [False, False, True]
    assert found["count"].to_numpy().tolist() == [2, 2, 1]


HOLED = made.scores(np.where(np.arange(40) == 3, np.nan, VALUE))
FLAT = analysis.correlation(made.scores(np.vstack([VALUE[:3], np.ones((1, 40))])))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: analysis.correlation(HOLED), NumericsError, "'q0' hold NaN"),
        (lambda: analysis.correlation(SCORES, method="kendall"), SettingError, "method='kendall'"),  # type: ignore[arg-type]
        (lambda: analysis.correlation(SCORES, k=0), SettingError, "k=0"),
        (lambda: analysis.correlation(SCORES, k=41), SettingError, "k=41"),
        (lambda: analysis.correlation(SCORES.isel(train=[0, 1])), SettingError, "hold 2 training"),
        (lambda: analysis.correlation(SCORES["influence"]), SchemaError, "DataArray"),
        (lambda: analysis.within(SCORES, "kind"), SchemaError, "analysis.correlation"),
        (lambda: analysis.within(FLAT, list("aabb")), NumericsError, "query 'q3' is NaN"),
        (lambda: analysis.within(analysis.correlation(SCORES), list("abcde")), SettingError, r"5 label\(s\) of 5"),
        (lambda: analysis.within(analysis.correlation(SCORES), list("aaaaa")), SettingError, r"1 label\(s\)"),
        (
            lambda: analysis.within(analysis.correlation(SCORES), ["a", "a", "b", "b", None]),
            SettingError,
            "none for query 'q4'",
        ),
        (lambda: analysis.within(analysis.correlation(SCORES), "sort"), SchemaError, "'sort'"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_the_array_alone_and_the_dataset_say_the_same() -> None:
    found = analysis.correlation(SCORES)
    one, two = (analysis.within(array, "kind", resamples=99) for array in (found, found["correlation"]))
    xr.testing.assert_equal(one, two)
