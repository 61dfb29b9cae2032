"""Saved arrays and a live Influence give a widget the same answers, and no more is asked than is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import inflab
from inflab.errors import CorpusError, SchemaError, SettingError
from inflab.widgets.opening import open_source
from inflab.widgets.source import SIGNS
from tests.widgets.synthetic import FakeInfluence, corpus, explanation


def test_saved_and_live_agree() -> None:
    queries = corpus(3, "query")
    influence = FakeInfluence()
    live, saved = open_source(influence, queries, 5), open_source(explanation(3, 40, 5), None, 5)
    assert live.ids == saved.ids == ["q0", "q1", "q2"]
    for position in range(3):
        for sign in SIGNS:
            a, b = live.ranked(position, sign), saved.ranked(position, sign)
            xr.testing.assert_equal(a.drop_attrs(), b.drop_attrs())
            for train, influence in zip(a["train"].to_numpy(), a["influence"].to_numpy(), strict=True):
                for source in (live, saved):
                    tokens = source.tokens(position, train)
                    np.testing.assert_allclose(tokens["influence"].sum(), influence, rtol=1e-4)


def test_live_scores_once_and_asks_for_tokens_when_they_are_looked_at() -> None:
    influence = FakeInfluence()
    source = open_source(influence, corpus(3, "query"), 4)
    assert (influence.scored, influence.attributed) == (1, [])
    best, worst = (source.ranked(1, sign)["train"].to_numpy() for sign in SIGNS)
    for _ in range(2):
        source.tokens(1, best[1])
        source.tokens(1, best[3])
    assert influence.attributed == [(["q1"], [1, 2, 3, 4])]
    source.tokens(1, worst[0])
    assert len(influence.attributed) == 2
    assert influence.scored == 1


def test_beyond_the_lists_one_pair_is_asked_for() -> None:
    influence = FakeInfluence()
    source = open_source(influence, corpus(3, "query"), 4)
    order = np.argsort(-source.scores["influence"].isel(query=1).to_numpy())
    train = source.scores["train"].to_numpy()[order[7]]
    tokens = source.tokens(1, train)
    assert influence.attributed == [(["q1"], [1])]
    expected = source.scores["influence"].isel(query=1).sel(train=train)
    np.testing.assert_allclose(tokens["influence"].sum(), expected, rtol=1e-4)
    # Other views and pairs are dearer: of one pair, whatever list it is in.
    pairs = source.tokens(1, source.ranked(1, "positive")["train"].to_numpy()[0], pairs=True)
    assert influence.attributed[1] == (["q1"], [1])
    assert pairs["influence"].dims == ("layer", "token", "query_token")


def test_layers_are_asked_for_one_query_at_a_time_and_sum_to_the_scores() -> None:
    influence = FakeInfluence()
    source = open_source(influence, corpus(3, "query"), 4)
    for _ in range(2):
        layers = source.by_layer(2)
    assert influence.scored == 2
    np.testing.assert_allclose(layers.sum("layer"), source.scores["influence"].isel(query=2), rtol=1e-5)


def test_a_saved_explanation_says_what_it_does_not_hold() -> None:
    source = open_source(explanation(3, 40, 5), None, 5)
    assert source.can == {"tokens"}
    with pytest.raises(SettingError, match="layers summed"):
        source.by_layer(0)
    best = source.ranked(0, "positive")["train"].to_numpy()[0]
    with pytest.raises(SettingError, match="view='output'"):
        source.tokens(0, best, view="output")
    middle = np.argsort(source.scores["influence"].isel(query=0).to_numpy())[20]
    with pytest.raises(SettingError, match="larger k"):
        source.tokens(0, source.scores["train"].to_numpy()[middle])


def test_ranks_that_do_not_exist_are_left_out_and_not_asked_for() -> None:
    influence = FakeInfluence(n_train=6)
    source = open_source(influence, corpus(1, "query"), 6)
    sizes = {sign: source.ranked(0, sign).sizes["rank"] for sign in SIGNS}
    assert sum(sizes.values()) == 6
    assert 0 < sizes["negative"] < 6
    source.tokens(0, source.ranked(0, "negative")["train"].to_numpy()[0])
    assert influence.attributed == [(["q0"], list(range(1, sizes["negative"] + 1)))]


@pytest.mark.parametrize(("k", "shown"), [(1, 1), (3, 3), (1000, 5)])
def test_a_list_is_at_most_k_long_and_no_longer_than_what_was_saved(k: int, shown: int) -> None:
    assert open_source(explanation(1, 40, 5), None, k).ranked(0, "positive").sizes["rank"] == shown


def test_a_store_is_read_lazily(tmp_path: Path) -> None:
    inflab.save(explanation(), tmp_path / "explanation.zarr")
    tree = inflab.load(tmp_path / "explanation.zarr")
    assert isinstance(tree, xr.DataTree)
    source = open_source(tree, None, 5)
    best = source.ranked(2, "positive")
    xr.testing.assert_equal(best, open_source(explanation(), None, 5).ranked(2, "positive"))
    source.tokens(2, best["train"].to_numpy()[0])
    assert not tree["top_tokens/influence"].variable._in_memory


def _broken() -> xr.DataTree:
    tree = explanation()
    del tree["bottom"]
    return tree


@pytest.mark.parametrize(
    ("source", "queries", "k", "error", "words"),
    [
        (explanation(), corpus(1, "query"), 5, SettingError, "leave it out"),
        (FakeInfluence(), None, 5, CorpusError, "dim='query'"),
        (FakeInfluence(), corpus(2, "train"), 5, CorpusError, "'train'"),
        (FakeInfluence(), corpus(2, "query").isel(query=[]), 5, CorpusError, "at least one query"),
        (explanation().isel(query=[]), None, 5, CorpusError, "at least one"),
        ("explanation.zarr", None, 5, SettingError, r"inflab.load\(path\)"),
        (explanation()["scores"], None, 5, SettingError, "kind 'scores'"),
        (_broken(), None, 5, SchemaError, "/bottom"),
        (explanation(), None, 0, SettingError, "k=0"),
        (explanation(), None, 2.5, SettingError, "k=2.5"),
    ],
)
def test_wrong_arguments_are_named(source: Any, queries: Any, k: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        open_source(source, queries, k)
