"""Removal curves against models trained by hand, and mislabel curves against counting and scikit-learn."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

import inflab
from inflab import truth
from inflab.errors import CorpusError, NumericsError, SchemaError, SettingError, StoreError
from tests import tiny
from tests.truth import small

Q = 3
CORPUS, QUERIES = small.classes(), small.asked(Q)
QUIET: dict[str, Any] = {"progress": False}


def scores(value_qt: np.ndarray, corpus: xr.Dataset = CORPUS, queries: xr.Dataset = QUERIES) -> xr.Dataset:
    coords = {"query": queries["query"].to_numpy(), "train": corpus["train"].to_numpy()}
    return xr.Dataset({"influence": (("query", "train"), value_qt)}, coords=coords)


def drawn(seed: int = 0) -> xr.Dataset:
    return scores(np.random.default_rng(seed).standard_normal((Q, small.N)))


def curve(given: Any = None, **settings: Any) -> xr.Dataset:
    plain: dict[str, Any] = {"shares": (0.1, 0.3), "seeds": 2, "random": 2, "resamples": 20, **QUIET}
    return truth.removal_curve(small.recipe(), CORPUS, QUERIES, drawn() if given is None else given, **plain | settings)


def by_hand(is_out: np.ndarray, seed: int) -> np.ndarray:
    """What the queries measure after training on the others."""
    recipe = small.recipe()
    model = recipe.train(CORPUS, rows=np.flatnonzero(~is_out), seed=seed, progress=False).model
    given = {"input": torch.from_numpy(QUERIES["input"].values), "target": torch.from_numpy(QUERIES["target"].values)}
    with torch.no_grad():
        return recipe.task.measure(model(given["input"]), given).numpy()


def test_change_is_that_of_models_trained_by_hand() -> None:
    given = {"one": drawn(0), "other": drawn(1)}
    found = curve(given)
    seeds = truth.leave_out(small.recipe(), CORPUS, QUERIES, [[0]], seeds=2, **QUIET)["seed"].to_numpy().tolist()
    nothing = np.zeros(small.N, bool)
    before = np.mean([by_hand(nothing, seed) for seed in seeds], axis=0)
    assert found["removed"].to_numpy().tolist() == [1, 4]
    for name, one in given.items():
        for share, k in ((0.1, 1), (0.3, 4)):
            for q in range(Q):
                value_t = one["influence"].to_numpy()[q]
                is_out = value_t >= np.sort(value_t)[-k]
                after = np.mean([by_hand(is_out, seed)[q] for seed in seeds])
                change = found["change"].sel(estimator=name, share=share)[q]
                np.testing.assert_allclose(change, after - before[q], atol=1e-12)
    np.testing.assert_allclose(found["rise"], -found["change"].mean("query"))


def test_the_truth_removes_best() -> None:
    # Scores that are what leaving one example out really changed: one removal costs each query the most there is.
    alone = truth.leave_out(
        small.recipe(), CORPUS, QUERIES, [[i] for i in CORPUS["train"].to_numpy()], seeds=2, **QUIET
    )
    loss_qt = -alone["change"].transpose("query", "group").to_numpy()
    found = curve({"truth": scores(loss_qt)}, shares=[1 / small.N], random=small.N)
    np.testing.assert_allclose(found["change"].sel(estimator="truth")[0], -loss_qt.max(1), atol=1e-12)
    assert float(found["difference"].sel(estimator="truth", other="random")[0]) > 0


def test_random_sets_are_the_same_for_all_queries_and_apart_from_scores() -> None:
    first, second = curve({"a": drawn(0)}), curve({"b": drawn(1)})
    np.testing.assert_array_equal(first["change"].sel(estimator="random"), second["change"].sel(estimator="random"))
    alone = curve({"a": drawn(0)}, random=0)
    assert alone["estimator"].to_numpy().tolist() == ["a"]
    np.testing.assert_allclose(alone["change"].sel(estimator="a"), first["change"].sel(estimator="a"), atol=1e-12)
    assert not np.allclose(first["change"].sel(estimator="random"), curve(seed=1)["change"].sel(estimator="random"))


def test_intervals_are_a_bootstrap_over_queries() -> None:
    found = curve({"a": drawn(0), "b": drawn(1)}, resamples=20_000, level=0.9)
    rise = -found["change"]

    def expected(value_q: xr.DataArray) -> tuple[float, float]:
        drawn = bootstrap((value_q.to_numpy(),), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile")
        return tuple(drawn.confidence_interval)

    for share in (0.1, 0.3):
        one, other = (rise.sel(estimator=name, share=share) for name in ("a", "b"))
        size = float(abs(one).max())
        interval = found["interval"].sel(estimator="a", share=share)
        np.testing.assert_allclose(interval, expected(one), atol=0.05 * size)
        paired = found["difference_interval"].sel(estimator="a", other="b", share=share)
        np.testing.assert_allclose(paired, expected(one - other.to_numpy()), atol=0.05 * size)


def test_equal_scores_differ_in_nothing() -> None:
    found = curve({"a": drawn(), "b": drawn()})
    assert (found["difference_interval"].sel(estimator="a", other="b") == 0).all()
    np.testing.assert_array_equal(found["change"][0], found["change"][1])


def test_one_query_has_no_interval() -> None:
    one = QUERIES.isel(query=[1])
    found = truth.removal_curve(
        small.recipe(), CORPUS, one, drawn(), shares=[0.1], seeds=1, random=1, resamples=5, **QUIET
    )
    assert np.isnan(found["interval"]).all() and np.isfinite(found["rise"]).all()


def test_scores_are_matched_by_id_and_layers_summed() -> None:
    expected = curve()["change"]
    order = np.random.default_rng(0).permutation(small.N)
    shuffled = drawn().isel(train=order, query=[2, 0, 1])
    np.testing.assert_allclose(curve(shuffled)["change"], expected, atol=1e-12)
    layered = drawn().expand_dims(layer=["one", "two"]) / 2
    np.testing.assert_allclose(curve(layered)["change"], expected, atol=1e-12)


def test_equal_influences_go_in_the_corpus_order() -> None:
    recipe, corpus = small.recipe(batch_size=500), small.classes(1000)
    value_t = np.arange(1000) % 3 == 0  # many that are equal
    given = scores(np.tile(value_t.astype(float), (Q, 1)), corpus)
    found = truth.removal_curve(recipe, corpus, QUERIES, given, shares=[0.006], random=0, resamples=5, **QUIET)
    out = truth.leave_out(recipe, corpus, QUERIES, [[0, 3, 6, 9, 12, 15]], **QUIET)["change"]
    np.testing.assert_allclose(found["change"][0], out, atol=1e-12)


def test_random_is_the_mean_of_sets_that_a_seed_draws() -> None:
    which, others = [], []
    for seed in range(4):
        groups = [[i] for i in CORPUS["train"].to_numpy()]
        alone = truth.leave_out(small.recipe(), CORPUS, QUERIES, groups, seeds=2, seed=seed, **QUIET)[
            "change"
        ].to_numpy()
        one, two = (curve(shares=[1 / small.N], random=n, seed=seed)["change"].sel(estimator="random") for n in (1, 2))
        first = int(abs(alone - one.to_numpy()).sum(1).argmin())
        np.testing.assert_allclose(one[0], alone[first], atol=1e-12)
        other = 2 * two.to_numpy()[0] - alone[first]
        assert abs(alone - other).max(1).min() < 1e-12
        which.append(first)
        others.append(int(abs(alone - other).max(1).argmin()))
    assert len(set(which)) > 1 and which != others


def test_texts_of_unequal_length() -> None:
    recipe, corpus, queries = small.language()
    value = np.random.default_rng(0).standard_normal((queries.sizes["query"], corpus.sizes["train"]))
    found = truth.removal_curve(
        recipe, corpus, queries, scores(value, corpus, queries), shares=[0.3], seeds=1, random=1, resamples=5, **QUIET
    )
    assert np.isfinite(found["change"]).all()


def test_a_store_is_taken_up_again(tmp_path: Path) -> None:
    plain = curve()
    kept = curve(store=tmp_path / "curve.zarr")
    again = curve(store=tmp_path / "curve.zarr")
    np.testing.assert_allclose(kept["change"], plain["change"], atol=1e-12)
    xr.testing.assert_identical(again, kept)
    inflab.validate(kept)
    with pytest.raises(StoreError):
        curve(drawn(1), store=tmp_path / "curve.zarr")


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"shares": []}, SettingError, "shares"),
        ({"shares": 0.1}, SettingError, "must be a list"),
        ({"shares": [0.1, 1.0]}, SettingError, "holds 1.0"),
        ({"shares": [0.3, 0.1]}, SettingError, "ascend"),
        ({"shares": [0.001]}, SettingError, "0 of 14 examples"),
        ({"seeds": 0}, SettingError, "seeds=0"),
        ({"random": -1}, SettingError, "random=-1"),
        ({"level": 95}, SettingError, "level=95"),
        ({"resamples": 0}, SettingError, "resamples=0"),
        ({"given": {}}, SettingError, "mapping from names"),
        ({"given": {"random": drawn()}}, SettingError, "'random'"),
        ({"given": drawn().drop_vars("influence")}, SchemaError, "no variable 'influence'"),
        ({"given": drawn().isel(train=slice(5))}, CorpusError, "5 training examples, the corpus is of 14"),
        ({"given": drawn().isel(query=[0])}, CorpusError, "query 1 of the corpus"),
        ({"given": drawn().assign_coords(train=np.arange(small.N) + 1)}, CorpusError, "train 0 of the corpus"),
        ({"given": drawn() * np.nan}, NumericsError, "NaN"),
    ],
)
def test_bad_input_is_refused(changed: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        curve(**changed)


# --- flipped labels --------------------------------------------------------------------------------------------------


def self_influence(value: Any, **attrs: Any) -> xr.Dataset:
    value = np.asarray(value, float)
    return xr.Dataset({"influence": ("train", value)}, coords={"train": np.arange(len(value)) * 10}, attrs=attrs)


def test_found_is_counted() -> None:
    value, flipped = [5, 1, 9, 3, 7, 2, 8, 4, 6, 0], np.zeros(10, bool)
    flipped[[2, 4, 1]] = True  # the 1st, 3rd and 9th to be looked at
    found = truth.mislabel_curve(self_influence(value, method="EKFAC"), flipped, resamples=5)
    np.testing.assert_allclose(found["found"], np.array([0, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3]) / 3)
    np.testing.assert_allclose(found["inspected"], np.arange(11) / 10)
    np.testing.assert_allclose(found["best"], np.minimum(1, np.arange(11) / 3))
    assert (
        found.attrs["found_at_10_percent"] == pytest.approx(1 / 3) == pytest.approx(float(found["found_at_10_percent"]))
    )
    assert found.attrs["method"] == "EKFAC" and found.attrs["n_flipped"] == 3


def test_ties_count_as_the_mean_over_their_orders() -> None:
    value, flipped = np.array([2, 1, 1, 1, 0]), np.array([False, True, False, True, False])
    orders = [[0, *middle, 4] for middle in permutations([1, 2, 3])]
    expected = np.mean([np.concatenate([[0], flipped[order].cumsum() / 2]) for order in orders], axis=0)
    np.testing.assert_allclose(truth.mislabel_curve(self_influence(value), flipped, resamples=5)["found"], expected)


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_area_is_that_of_scikit_learn(digits: int) -> None:
    draw = np.random.default_rng(digits)
    flipped = draw.random(300) < 0.2
    value = (draw.gamma(1.0, size=300) + flipped).round(digits)  # many ties, some, none
    share = flipped.mean()
    expected = share / 2 + (1 - share) * roc_auc_score(flipped, value)
    found = truth.mislabel_curve(self_influence(value), flipped, resamples=5)
    assert found.attrs["auc"] == pytest.approx(expected, abs=1e-12)


def test_perfect_order_is_the_best_there_is() -> None:
    flipped = np.arange(1000) % 10 == 3
    found = truth.mislabel_curve(self_influence(flipped + np.linspace(0, 0.5, 1000)), flipped, resamples=50)
    np.testing.assert_allclose(found["found"], found["best"])
    assert found.attrs["auc"] == pytest.approx(1 - 0.1 / 2)
    assert found.attrs["found_at_10_percent"] == 1.0


def test_intervals_cover_the_truth() -> None:
    draw = np.random.default_rng(0)

    def sample(n: int) -> tuple[xr.Dataset, np.ndarray]:
        flipped = draw.random(n) < 0.1
        return self_influence(draw.normal(size=n) + 1.5 * flipped), flipped

    true = truth.mislabel_curve(*sample(100_000), resamples=1).attrs
    inside = np.zeros(2)
    for _ in range(60):
        found = truth.mislabel_curve(*sample(400), resamples=200, level=0.9)
        for i, name in enumerate(("auc", "found_at_10_percent")):
            low, high = found[f"{name}_interval"].to_numpy()
            inside[i] += low <= true[name] <= high
    assert (inside >= 0.78 * 60).all() and (inside < 60).any()


def test_flipped_are_matched_by_label_and_layers_summed() -> None:
    value = self_influence(np.random.default_rng(0).random(20))
    flipped = xr.DataArray(np.arange(20) % 5 == 0, dims="train", coords={"train": value["train"]})
    expected = truth.mislabel_curve(value, flipped, resamples=5)
    again = truth.mislabel_curve(value.expand_dims(layer=["a", "b"]) / 2, flipped[::-1], resamples=5)
    np.testing.assert_allclose(again["found"], expected["found"])
    np.testing.assert_allclose(truth.mislabel_curve(value, flipped.values, resamples=5)["found"], expected["found"])


def test_a_fit_gives_a_curve_that_can_be_saved(tmp_path: Path) -> None:
    alone = tiny.fit(tiny.table_problem()).self_influence(progress=False)
    found = truth.mislabel_curve(alone, np.arange(12) < 3, resamples=5)
    inflab.save(found, tmp_path / "curve.zarr")
    xr.testing.assert_identical(inflab.load(tmp_path / "curve.zarr").load(), found)


ALONE = self_influence(np.arange(6))


@pytest.mark.parametrize(
    ("given", "flipped", "settings", "error", "said"),
    [
        (ALONE["influence"], np.arange(6) < 2, {}, SchemaError, "no variable 'influence'"),
        (drawn(), np.arange(small.N) < 2, {}, SchemaError, "needs"),
        (ALONE, np.arange(5) < 2, {}, CorpusError, "one bool for each of the 6"),
        (ALONE, np.arange(6), {}, CorpusError, "dtype int64"),
        (ALONE, np.zeros(6, bool), {}, CorpusError, "0 of 6"),
        (ALONE, np.ones(6, bool), {}, CorpusError, "6 of 6"),
        (ALONE, xr.DataArray(np.arange(6) < 2, coords={"train": range(6)}), {}, CorpusError, "train 10"),
        (ALONE * np.nan, np.arange(6) < 2, {}, NumericsError, "train 0 is NaN"),
        (ALONE, np.arange(6) < 2, {"level": 0}, SettingError, "level=0"),
        (ALONE, np.arange(6) < 2, {"seed": -1}, SettingError, "seed=-1"),
    ],
)
def test_bad_curves_are_refused(
    given: Any, flipped: Any, settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        truth.mislabel_curve(given, flipped, **settings)
