"""The small web of the tails: no two pieces alike, nothing unread is read, its sentences are those of the file."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from benchmarks.findings import checkpoint, python_help, tails


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_committed_models_are_of_todays_recipe(seed: int) -> None:
    little, much = (checkpoint.card(tails.RECIPES[name], seed)["loss"] for name in ("tails-early", "tails"))
    assert 0.5 < much < little - 1 < np.log(800)


def test_the_corpus_is_large_and_nothing_stands_in_it_twice() -> None:
    corpus = tails.corpus()
    assert corpus.sizes["train"] >= 50_000
    texts = corpus["text"].to_numpy().tolist()
    assert len(set(texts)) == len(texts)
    assert len(set(corpus["train"].to_numpy().tolist())) == len(texts)
    assert int(corpus["is_text"].sum("token").max()) <= 48


def test_no_unread_piece_is_among_the_read_ones() -> None:
    assert not set(tails.pieces(True)[0]) & set(tails.pieces(False)[0])


def test_sentences_of_help_are_sentences_and_each_is_there_once() -> None:
    every = python_help.read()
    assert len(set(every)) == len(every) == 6000 > tails.HELP
    assert min(len(sentence.split()) for sentence in every) >= 6
    own = list(python_help._sentences("A list of *six words* stands here.\n\n>>> f(x, y, z, 1, 2, 3)\n\nToo short."))
    assert own == ["A list of six words stands here."]


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
