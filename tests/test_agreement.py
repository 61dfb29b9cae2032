"""The linear datamodeling score: against scipy, banks whose answer is known, and simulated intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import inflab
from inflab.errors import CorpusError, NumericsError, SchemaError, SettingError

S, K, Q, N = 40, 3, 6, 30


def ids(count: int) -> np.ndarray:
    return np.array([f"q{i}" for i in range(count)], dtype=object)


def scores(value_qt: np.ndarray, **attrs: Any) -> xr.Dataset:
    coords = {"query": ids(len(value_qt)), "train": np.arange(value_qt.shape[1])}
    return xr.Dataset({"influence": (("query", "train"), value_qt)}, coords=coords, attrs=attrs)


def bank(weight_qt: np.ndarray, noise: float = 0.0, seed: int = 0, subsets: int = S, seeds: int = K) -> xr.Dataset:
    """Measurements that are exactly linear in the members, and noise that is new for every training."""
    rng = np.random.default_rng(seed)
    n_query, n_train = weight_qt.shape
    member_st = np.zeros((subsets, n_train), bool)
    for row in member_st:
        row[rng.permutation(n_train)[: n_train // 2]] = True
    linear_sq = member_st.astype(float) @ weight_qt.T
    measured = linear_sq[:, None] + noise * rng.normal(size=(subsets, seeds, n_query))
    return xr.Dataset(
        {"measurement": (("subset", "seed", "query"), measured), "is_member": (("subset", "train"), member_st)},
        coords={
            "subset": np.arange(subsets), "seed": np.arange(seeds), "query": ids(n_query),
            "train": np.arange(n_train),
        },
    )  # fmt: skip


WEIGHT = np.random.default_rng(3).normal(size=(Q, N))
OTHER = np.random.default_rng(4).normal(size=(Q, N))


def test_agrees_with_scipy() -> None:
    noisy = bank(WEIGHT, 2.0)
    rounded = np.round(OTHER)  # predictions that tie
    found = inflab.lds({"a": scores(WEIGHT), "b": scores(rounded)}, noisy, resamples=10)
    target_sq = noisy["measurement"].mean("seed").to_numpy()
    member_st = noisy["is_member"].to_numpy().astype(float)
    for name, value in (("a", WEIGHT), ("b", rounded)):
        expected = [spearmanr(member_st @ value[q], target_sq[:, q]).statistic for q in range(Q)]
        np.testing.assert_allclose(found["lds_by_query"].sel(estimator=name), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found["lds"].sel(estimator=name), np.mean(expected), atol=1e-12)


def test_true_weights_of_a_bank_without_noise_score_one() -> None:
    found = inflab.lds(scores(WEIGHT, method="EKFAC"), bank(WEIGHT), resamples=50)
    assert found["estimator"].to_numpy().tolist() == ["EKFAC"]
    np.testing.assert_allclose(found["lds"], 1)
    np.testing.assert_allclose(found["interval"], 1)
    np.testing.assert_allclose(found["ceiling"], 1)


def test_true_weights_reach_the_ceiling_and_no_more() -> None:
    # Ranks against the mean of three noisy seeds: the ceiling is what the truth itself gets.
    n = 400
    found = inflab.lds(scores(WEIGHT), bank(WEIGHT, 3.0, subsets=n), resamples=200)
    low, high = found["ceiling_interval"].to_numpy()
    assert low < float(found["ceiling"]) < high < 0.99
    assert abs(float(found["lds"][0]) - float(found["ceiling"])) < 0.03


def test_random_scores_cannot_be_told_from_nothing() -> None:
    found = inflab.lds({"truth": scores(WEIGHT), "random": scores(OTHER)}, bank(WEIGHT, 1.0))
    low, high = found["interval"].sel(estimator="random").to_numpy()
    assert low < 0 < high
    paired = found["difference_interval"].sel(estimator="truth", other="random").to_numpy()
    assert (paired > 0).all()


def test_differences_are_paired() -> None:
    # Nearly the same scores: far apart from nothing, but close to each other in every resample.
    near = WEIGHT + 0.05 * OTHER
    found = inflab.lds({"a": scores(WEIGHT), "b": scores(near)}, bank(WEIGHT, 4.0))
    apart = np.ptp(found["difference_interval"].sel(estimator="a", other="b").to_numpy())
    assert apart < 0.4 * np.ptp(found["interval"].sel(estimator="a").to_numpy())
    np.testing.assert_allclose(found["difference"], -found["difference"].to_numpy().T)


def test_intervals_cover_what_a_new_bank_gives() -> None:
    # The score of new subsets, new queries and new noise lies in a 90% interval about that often.
    draws, hits = 60, 0
    everywhere = np.random.default_rng(0).normal(size=(4000, N))
    guess = everywhere + 1.5 * np.random.default_rng(1).normal(size=everywhere.shape)
    truth = float(inflab.lds(scores(guess), bank(everywhere, 1.0, subsets=200), resamples=1)["lds"][0])
    for draw in range(draws):
        some = np.random.default_rng(100 + draw).choice(len(everywhere), 25, replace=False)
        found = inflab.lds(
            scores(guess[some]), bank(everywhere[some], 1.0, seed=draw, subsets=50), resamples=200, level=0.9
        )
        low, high = found["interval"][0].to_numpy()
        hits += low <= truth <= high
    assert hits >= 0.78 * draws


def test_intervals_of_one_query_cover_what_other_subsets_give() -> None:
    weight, guess = WEIGHT[:1], WEIGHT[:1] + OTHER[:1]
    truth = float(inflab.lds(scores(guess), bank(weight, 1.0, subsets=20_000), resamples=1)["lds"][0])
    draws, hits = 60, 0
    for draw in range(draws):
        found = inflab.lds(scores(guess), bank(weight, 1.0, seed=draw, subsets=50), resamples=200, level=0.9)
        low, high = found["interval"][0].to_numpy()
        hits += low <= truth <= high
    assert 0.78 * draws <= hits < draws


def test_invariances() -> None:
    noisy = bank(WEIGHT, 2.0)
    whole = inflab.lds({"a": scores(OTHER)}, noisy, resamples=50)
    order = np.random.default_rng(0).permutation(N)
    shuffled = scores(OTHER).isel(train=order, query=slice(None, None, -1))
    again = inflab.lds({"a": shuffled}, noisy, resamples=50)
    np.testing.assert_allclose(again["lds"], whole["lds"])
    scaled = inflab.lds({"a": scores(7 * OTHER + np.arange(Q)[:, None])}, noisy, resamples=50)  # equal sizes: a shift
    np.testing.assert_allclose(scaled["lds"], whole["lds"])
    np.testing.assert_allclose(scaled["interval"], whole["interval"])
    parts = scores(OTHER).expand_dims(layer=["one", "two"]) / 2
    np.testing.assert_allclose(inflab.lds({"a": parts}, noisy, resamples=50)["lds"], whole["lds"])


def test_some_of_the_queries() -> None:
    noisy = bank(WEIGHT, 2.0)
    whole = inflab.lds(scores(WEIGHT), noisy, resamples=5)["lds_by_query"]
    some = inflab.lds(scores(WEIGHT).isel(query=[4, 1]), noisy, resamples=5)["lds_by_query"]
    np.testing.assert_allclose(some, whole.sel(query=["q4", "q1"]))


def test_a_constant_predicts_nothing() -> None:
    found = inflab.lds(scores(np.ones((Q, N))), bank(WEIGHT, 1.0), resamples=50)
    assert float(found["lds"][0]) == 0
    assert (found["interval"] == 0).all()


def test_one_seed_has_no_ceiling() -> None:
    found = inflab.lds(scores(WEIGHT), bank(WEIGHT, 1.0, seeds=1), resamples=5)
    assert np.isnan(found["ceiling"]) and np.isnan(found["ceiling_interval"]).all()
    assert "seeds=2" in found.attrs["note"]
    assert "note" not in inflab.lds(scores(WEIGHT), bank(WEIGHT, 1.0), resamples=5).attrs


def test_result_is_valid_and_can_be_saved(tmp_path: Any) -> None:
    found = inflab.lds({"a": scores(WEIGHT), "b": scores(OTHER)}, bank(WEIGHT, 1.0), resamples=5)
    inflab.save(found, tmp_path / "lds.zarr")
    xr.testing.assert_identical(inflab.load(tmp_path / "lds.zarr").load(), found)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"scores": {}}, SettingError, "mapping from names"),
        ({"scores": scores(WEIGHT).drop_vars("influence")}, SchemaError, "no variable 'influence'"),
        ({"scores": scores(WEIGHT[:, :-1])}, CorpusError, "29 training examples, the bank is of 30"),
        ({"scores": scores(WEIGHT).assign_coords(train=np.arange(N) + 1)}, CorpusError, "train 0 of the bank"),
        ({"scores": scores(WEIGHT).assign_coords(query=list("abcdef"))}, CorpusError, "query 'a'"),
        ({"scores": {"a": scores(WEIGHT), "b": scores(WEIGHT[:2])}}, CorpusError, "other queries"),
        ({"scores": scores(np.full((Q, N), np.nan))}, NumericsError, "NaN or infinity"),
        ({"bank": bank(WEIGHT).isel(subset=[0, 1])}, SettingError, "2 subsets"),
        ({"bank": bank(WEIGHT).drop_vars("is_member")}, SchemaError, "is_member"),
        ({"bank": bank(WEIGHT) * np.nan}, NumericsError, "measurement"),
        ({"level": 95}, SettingError, "level=95"),
        ({"resamples": 0}, SettingError, "resamples=0"),
    ],
)
def test_bad_input_is_refused(changed: dict[str, Any], error: type[Exception], said: str) -> None:
    given: dict[str, Any] = {"scores": scores(WEIGHT), "bank": bank(WEIGHT)} | changed
    with pytest.raises(error, match=said):
        inflab.lds(**given)
