"""The small web of the tails: no two pieces alike, nothing unread is read, facts are told as often as they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import xarray as xr

from benchmarks.findings import checkpoint, tails


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_a_committed_model_is_of_todays_recipe(seed: int) -> None:
    about = checkpoint.card(tails.RECIPES["tails"], seed)
    assert 0.5 < about["loss"] < np.log(1024)


def test_the_corpus_is_large_and_nothing_stands_in_it_twice() -> None:
    corpus = tails.corpus()
    assert corpus.sizes["train"] >= 50_000
    texts = corpus["text"].to_numpy().tolist()
    assert len(set(texts)) == len(texts)
    assert len(set(corpus["train"].to_numpy().tolist())) == len(texts)
    assert int(corpus["is_text"].sum("token").max()) <= 48


def test_no_unread_piece_is_among_the_read_ones() -> None:
    assert not set(tails.pieces(True)[0]) & set(tails.pieces(False)[0])


def test_facts_are_told_as_often_as_they_say() -> None:
    corpus = tails.corpus()
    counted = Counter(corpus["fact"].to_numpy()[corpus["kind"].to_numpy() == "fact"].tolist())
    assert [counted[number] for number in range(tails.FACTS)] == [times for *_, times in tails.told()]
    prompts = [prompt for prompt, *_ in tails.told()]
    assert len(set(prompts)) == tails.FACTS


def test_queries_of_each_kind_fit_and_do_not_depend_on_how_many() -> None:
    asked = tails.queries(4)
    assert asked["kind"].to_numpy().tolist() == [kind for kind in tails.KINDS for _ in range(4)]
    assert int(asked["is_text"].sum("token").max()) <= 24
    fewer = tails.queries(2)
    assert set(fewer["query"].to_numpy().tolist()) <= set(asked["query"].to_numpy().tolist())


def test_a_part_keeps_the_scores_and_their_order() -> None:
    scores = xr.Dataset(
        {"influence": (("query", "train"), np.arange(20.0)[None])}, coords={"query": [0], "train": np.arange(20)}
    )
    found = tails.part(scores, 7, seed=3)
    assert found["train"].to_numpy().tolist() == sorted(found["train"].to_numpy().tolist())
    np.testing.assert_array_equal(found["influence"].to_numpy()[0], found["train"].to_numpy())
    assert found.sizes["train"] == 7
