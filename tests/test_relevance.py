"""Ratings: kappa against scikit-learn and in a simulation, methods unblinded by hand-made ratings, kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

import inflab
from inflab.errors import CorpusError, SchemaError, SettingError
from inflab.ratings import labelled
from inflab.relevance import relevance

SCALE = ("not relevant", "somewhat", "relevant")
WEIGHTS: tuple[Literal["linear", "quadratic"] | None, ...] = (None, "linear", "quadratic")


def ratings(values: dict[tuple[Any, Any], float | None], rater: str = "Ann", **attrs: Any) -> xr.Dataset:
    return labelled(
        [{"query": q, "train": t, "rating": value, "rater": rater} for (q, t), value in values.items()], SCALE, **attrs
    )


@given(answers=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
@pytest.mark.parametrize("weights", WEIGHTS)
def test_kappa_is_scikit_learns(answers: list[tuple[int, int]], weights: Literal["linear", "quadratic"] | None) -> None:
    a, b = map(list, zip(*answers, strict=True))
    found = inflab.kappa(a, b, weights=weights)
    inflab.validate(found)
    if len({*a, *b}) == 1:
        assert np.isnan(found["kappa"])
        assert "not defined" in found.attrs["note"]
        return
    assert float(found["kappa"]) == pytest.approx(cohen_kappa_score(a, b, weights=weights), abs=1e-12)
    assert int(found["count"].sum()) == int(found["n"]) == len(answers)
    swapped = inflab.kappa(b, a, weights=weights)
    assert float(swapped["kappa"]) == pytest.approx(float(found["kappa"]), abs=1e-12)
    np.testing.assert_array_equal(swapped["count"], found["count"].to_numpy().T)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_pairs_are_matched_and_an_unused_point_of_the_scale_still_counts(
    weights: Literal["linear", "quadratic"] | None,
) -> None:
    rng = np.random.default_rng(0)
    said = rng.choice([1, 3], (2, 30)).astype(float)
    pairs = [(f"q{i % 4}", i) for i in range(30)]
    a = ratings({**dict(zip(pairs, said[0], strict=True)), ("q9", 1): 2.0, ("q9", 2): None})
    mixed = rng.permutation(30)
    b = ratings({**{pairs[i]: said[1][i] for i in mixed}, ("q9", 2): 1.0}, "Bob")
    found = inflab.kappa(a, b, weights=weights)
    assert int(found["n"]) == 30
    expected = cohen_kappa_score(*said.astype(int), labels=[1, 2, 3], weights=weights)
    assert float(found["kappa"]) == pytest.approx(expected, abs=1e-12)
    # A data frame, as read from a table, says the same when it is given the scale.
    frames = [one.to_dataframe().reset_index() for one in (a, b)]
    assert float(inflab.kappa(*frames, weights=weights, scale=[1, 2, 3])["kappa"]) == pytest.approx(expected, abs=1e-12)


P_IJ = np.array([[0.25, 0.08, 0.02], [0.07, 0.2, 0.08], [0.02, 0.06, 0.22]])


def _repeated(count_ij: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cell = np.repeat(np.arange(9), count_ij.ravel())
    return cell // 3, cell % 3


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_standard_error_is_the_delta_methods(weights: Literal["linear", "quadratic"] | None) -> None:
    """Against the gradient of scikit-learn's kappa in each cell, by differences."""
    answers, weight_ij = _repeated(np.ones((3, 3), int)), P_IJ.ravel()

    def value(p: np.ndarray) -> float:
        return float(cohen_kappa_score(*answers, weights=weights, sample_weight=p))

    step = np.eye(9) * 1e-5
    gradient = np.array([(value(weight_ij + one) - value(weight_ij - one)) / 2e-5 for one in step])
    spread = weight_ij @ gradient**2 - (weight_ij @ gradient) ** 2
    found = inflab.kappa(*_repeated(np.round(P_IJ * 100).astype(int)), weights=weights)
    assert float(found["standard_error"]) == pytest.approx(np.sqrt(spread / 100), rel=1e-4)


@pytest.mark.parametrize("weights", [None, "quadratic"])
def test_the_interval_covers_at_about_its_level(weights: Literal["quadratic"] | None) -> None:
    rng = np.random.default_rng(7)
    truth = cohen_kappa_score(*_repeated(np.round(P_IJ * 100).astype(int)), weights=weights)
    inside, n = 0, 600
    for _ in range(n):
        drawn = rng.multinomial(100, P_IJ.ravel()).reshape(3, 3)
        low, high = inflab.kappa(*_repeated(drawn), weights=weights, level=0.9)["interval"].to_numpy()
        inside += low <= truth <= high
    assert abs(inside / n - 0.9) < 0.04  # about three standard errors


def test_edges_are_said_in_words() -> None:
    same = inflab.kappa([2, 2, 2], [2, 2, 2])
    assert np.isnan(same["interval"]).all()
    assert same.attrs["note"].startswith("both raters gave the same answer, 2, to every one of the 3 pairs")
    perfect = inflab.kappa(["a", "b", "a"], ["a", "b", None])
    assert (float(perfect["kappa"]), int(perfect["n"])) == (1, 2)
    assert "rate more" in perfect.attrs["note"]
    for a, b, error, said in [
        ([1, 2], [1], SettingError, "a has 2 answers"),
        ([1, None], [None, 1], CorpusError, "no pair was rated by both"),
        ([1, "x"], [1, "x"], SettingError, "different kinds"),
        (ratings({("q", 1): 1}), [1], SettingError, "both be ratings"),
        (ratings({("q", 1): 1}), ratings({("p", 1): 1}), CorpusError, "no pair"),
        (ratings({("q", 1): 7}), ratings({("q", 1): 1}), SettingError, "7.0 is not on the scale"),
        (pd.DataFrame({"query": [1]}), pd.DataFrame({"query": [1]}), SchemaError, "no 'train'"),
        (xr.concat([ratings({("q", 1): 1})] * 2, "pair"), ratings({("q", 1): 1}), CorpusError, "twice"),
    ]:
        with pytest.raises(error, match=said):
            inflab.kappa(a, b)
    with pytest.raises(SettingError, match="weights"):
        inflab.kappa([1], [1], weights="cubic")  # type: ignore[arg-type]


def top(ids: list[list[Any]]) -> xr.Dataset:
    coords = {"query": [f"q{i}" for i in range(len(ids))], "rank": np.arange(1, len(ids[0]) + 1)}
    return xr.Dataset(coords={**coords, "train": (("query", "rank"), np.array(ids))})


def test_methods_are_unblinded_by_their_lists() -> None:
    lists = {"good": top([[1, 2, 9], [1, 2, 9], [1, 2, 9]]), "bad": top([[3, 1, 9], [3, 4, 9], [5, 6, 9]])}
    said = {("q0", 1): 3, ("q0", 2): 3, ("q0", 3): 1, ("q1", 1): 3, ("q1", 2): 2, ("q1", 3): 1, ("q1", 4): None}
    found = relevance(ratings(said, per_query=2), lists)
    inflab.validate(found)
    assert found["mean_rating_by_query"].sel(query=["q0", "q1"]).to_numpy().tolist() == [[3, 2.5], [2, 1]]
    assert found["mean_rating"].to_numpy().tolist() == [2.75, 1.5]
    assert found["precision"].sel(estimator="good").to_numpy().tolist() == [1, 0.75]
    assert found["precision"].sel(estimator="bad").to_numpy().tolist() == [0, 0.25]
    assert found["rated"].to_numpy().tolist() == pytest.approx([4 / 6, 3 / 6])
    assert float(found["difference"].sel(estimator="good", other="bad")) == 1.25
    low, high = found["interval"].sel(estimator="good").to_numpy()
    assert (low, high) == (2.5, 3)
    # Paired: of the two queries, one differs by 1 and one by 1.5, whichever are drawn.
    assert found["difference_interval"].sel(estimator="good", other="bad").to_numpy().tolist() == [1, 1.5]
    lenient = relevance(ratings(said), lists, k=1, at_least=2)
    assert lenient["precision"].to_numpy().tolist() == [[1], [0]]
    with pytest.raises(CorpusError, match="on any of the lists"):
        relevance(ratings({("q7", 1): 3}), lists)
    one = relevance(ratings({("q0", 1): 3}), {"good": lists["good"].isel(query=[0])})
    assert np.isnan(one["interval"]).all()


def test_results_are_kept_on_disk(tmp_path: Path) -> None:
    for name, one in {
        "ratings": ratings({("q0", "<b>"): 3, ("q1", "t"): None}),
        "empty": ratings({}),
        "kappa": inflab.kappa([1, 2], [1, 1]),
        "relevance": relevance(ratings({("q0", 1): 3}), top([[1]])),
    }.items():
        inflab.save(one, tmp_path / name)
        xr.testing.assert_identical(inflab.load(tmp_path / name).load(), one)
