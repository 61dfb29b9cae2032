"""What the filter is held against: facts asked in words that no telling has, recall and agreement by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import inflab
from benchmarks.findings import checkpoint, retrieval


@pytest.mark.parametrize("name", list(retrieval.RECIPES))
@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_a_committed_model_is_of_todays_recipe(name: str, seed: int) -> None:
    recipe = retrieval.RECIPES[name]
    assert 0 < checkpoint.card(recipe, seed)["loss"] < np.log(len(recipe.tokenizer()))


def test_the_two_languages_share_no_word() -> None:
    english, spanish = (
        {word for fact in retrieval.facts() for frame in range(len(retrieval.FRAMES))
         for word in "".join(retrieval.sentence(fact, frame, language)).split()}
        for language in (0, 1)
    )  # fmt: skip
    assert not english & spanish


def test_what_is_asked_was_told_in_english_alone() -> None:
    corpus = retrieval.habits()
    for kind in retrieval.KINDS:
        asked = retrieval.habit_queries(kind, 12)
        told = corpus.isel(train=np.flatnonzero(np.isin(corpus["fact"].to_numpy(), asked["fact"].to_numpy())))
        assert set(told["language"].to_numpy().tolist()) == {"eng"}
        own = set(" ".join(asked["text"].to_numpy().tolist()).split())
        words = set(" ".join(told["text"].to_numpy().tolist()).split())
        assert (own <= words) if kind == "memorised" else not own & words
    with pytest.raises(ValueError, match="not one of"):
        retrieval.habit_queries("other", 3)


def _scores(value_qt: np.ndarray) -> xr.Dataset:
    coords = {"query": np.arange(value_qt.shape[0]), "train": np.arange(value_qt.shape[1])}
    return xr.Dataset(
        {"influence": (("query", "train"), value_qt)}, coords=coords, attrs={"n_train": value_qt.shape[1]}
    )


def test_recall_counts_by_hand() -> None:
    exact = _scores(np.array([[5.0, 4, 3, 2, 1, -1]]))
    rough = inflab.top(_scores(np.array([[1.0, 9, 8, 7, 2, 6]])), 6)
    found = retrieval.recall(exact, rough, [1, 2, 6], k=3)
    # The exact three are 0, 1, 2; the other order is 1, 2, 3, 5, 4, 0.
    np.testing.assert_allclose(found.to_numpy(), [[1 / 3, 2 / 3, 1]])


def test_agreement_is_that_of_numpy_and_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 40))
    found = retrieval.agreement(_scores(a), _scores(b), k=5)
    for row in range(3):
        assert float(found["pearson"][row]) == pytest.approx(np.corrcoef(a[row], b[row])[0, 1])
        assert float(found["spearman"][row]) == pytest.approx(spearmanr(a[row], b[row]).statistic)
        tops = [set(np.argsort(-one[row])[:5]) for one in (a, b)]
        assert float(found["overlap"][row]) == len(tops[0] & tops[1]) / 5


def test_low_rank_takes_a_smaller_share_and_never_more_than_all() -> None:
    model = checkpoint.blank(next(iter(retrieval.RECIPES.values())).build_config(), seed=0)
    shares = [retrieval.share_of_bytes(model, rank) for rank in (1, 2, 8, 10_000)]
    assert shares == sorted(shares)
    assert shares[0] < 0.1 and shares[-1] == 1
