"""Lists of any length: in the order of `inflab.top`, whole however they are cut, and no filter changes a rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import inflab
from inflab.errors import SettingError
from inflab.widgets.lists import Lists
from inflab.widgets.opening import open_source
from inflab.widgets.ranking import Filter, Ranking
from inflab.widgets.source import SIGNS
from tests.widgets.synthetic import FakeInfluence, corpus


class Scores:
    """Scores alone, as a source of ranks."""

    def __init__(self, scores: xr.Dataset) -> None:
        self.scores, self.ids = scores, scores["query"].to_numpy().tolist()

    def by_layer(self, position: int) -> xr.DataArray:
        raise AssertionError(position)


@pytest.fixture
def scores() -> xr.Dataset:
    found = FakeInfluence(300).score(corpus(3, "query"))
    value = found["influence"].to_numpy()
    value[1, 5:40] = 3.0  # ties
    value[2, ::7] = np.nan
    value[0, 100:110] = 0
    return found


def _all(ranking: Ranking, position: int, sign: Any, kept: Filter | None = None, size: int = 37) -> list[Any]:
    found: list[Any] = []
    while True:
        window = ranking.window(position, sign, len(found), size, kept)
        if not window["items"]:
            assert len(found) == window["total"]
            return found
        found += window["items"]


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("sign", SIGNS)
def test_the_order_is_that_of_top_and_windows_are_the_whole_list(scores: xr.Dataset, position: int, sign: Any) -> None:
    ranking = Ranking(Scores(scores))
    items = _all(ranking, position, sign)
    best = inflab.top(scores.isel(query=[position]), 300, sign=sign).isel(query=0)
    n = int(best["is_ranked"].sum())
    assert [item["train"] for item in items] == best["train"].to_numpy()[:n].tolist()
    assert [item["rank"] for item in items] == list(range(1, n + 1))
    np.testing.assert_allclose([item["effect"] for item in items], best["effect"][:n], rtol=1e-5)
    np.testing.assert_allclose([item["share"] for item in items], best["share"][:n], rtol=1e-5)


def test_filters_change_no_rank_and_count_what_they_leave(scores: xr.Dataset) -> None:
    ranking = Ranking(Scores(scores))
    whole = {item["train"]: item for item in _all(ranking, 0, "positive")}
    for kept in (
        Filter.of(text="NORVIK"), Filter.of(facets={"source": ["letters"]}), Filter.of(low=0.001, high=0.1),
        Filter.of(text='"of gleem"', facets={"source": ["letters", "archive"]}),
    ):  # fmt: skip
        some = _all(ranking, 0, "positive", kept)
        assert 0 < len(some) < len(whole)
        assert all({**whole[item["train"]], "text": ""} == {**item, "text": ""} for item in some)
    texts = dict(zip(scores["train"].to_numpy(), scores["text"].to_numpy(), strict=True))
    assert {i["train"] for i in _all(ranking, 0, "positive", Filter.of(text="NORVIK"))} == {
        train for train in whole if "Norvik" in texts[train]
    }
    counted = {one["name"]: one["values"] for one in ranking.columns.facets()}
    assert counted["source"] == [{"value": name, "count": 100} for name in ("almanac", "archive", "letters")]


def test_search_knows_no_case_no_accent_and_finds_an_id(scores: xr.Dataset) -> None:
    scores["text"].to_numpy()[7] = "Élan vital à la Norvège"
    ranking = Ranking(Scores(scores))

    def found(text: str) -> list[Any]:
        return [item["train"] for sign in SIGNS for item in _all(ranking, 0, sign, Filter.of(text=text))]

    assert found("elan NORVEGE") == found('"a la norvege"') == found("t7") == ["t7"]
    assert found("elan vitriol") == []


def test_layers_and_dampings_rank_by_other_scores() -> None:
    source = open_source(FakeInfluence(), corpus(2, "query"), 5)
    layers = tuple(source.by_layer(1)["layer"].to_numpy().tolist()[:3])
    asked: list[Any] = []

    def rescored(position: int, damping: float | None, layers: Any) -> np.ndarray:
        asked.append((position, damping, layers))
        return -source.scores["influence"].isel(query=position).to_numpy()

    ranking = Ranking(source, rescored)
    value = source.by_layer(1).sel(layer=list(layers)).sum("layer")
    first = ranking.window(1, "positive", 0, 1, Filter(layers=layers))["items"][0]
    assert first["train"] == value["train"].to_numpy()[value.to_numpy().argmax()]
    worst = ranking.window(1, "negative", 0, 1)["items"][0]
    assert ranking.window(1, "positive", 0, 1, Filter(damping=3.0))["items"][0]["train"] == worst["train"]
    assert asked == [(1, 3.0, None)]
    with pytest.raises(SettingError, match="one damping"):
        Ranking(source).window(1, "positive", 0, 1, Filter(damping=3.0))
    with pytest.raises(SettingError, match="no filter is called 'colour'"):
        Filter.of(colour="red")


def test_the_histogram_counts_every_sequence_and_its_bins_are_what_a_range_leaves(scores: xr.Dataset) -> None:
    lists = Lists(Scores(scores))
    for position in range(3):
        bins = lists.histogram(position)
        assert sum(bins["counts"]) + bins["missing"] == 300
        value = scores["influence"].isel(query=position).to_numpy()
        assert (bins["missing"], bins["zero"]) == (np.isnan(value).sum(), (value == 0).sum())
        last = len(bins["counts"]) - 1
        window = lists.window(position, "positive", low=bins["edges"][last - 5], high=bins["edges"][last + 1])
        assert window["total"] == sum(bins["counts"][last - 5 :])


def test_nothing_breaks_without_texts_sequences_of_a_sign_or_numbers() -> None:
    bare = FakeInfluence(6).score(corpus(1, "query")).drop_vars(["text", "source", "year"])
    lists = Lists(Scores(bare))
    assert lists.page(0)["positive"]["items"][0]["text"] == ""
    assert lists.words(0, "positive")["words"] == []
    empty = Lists(Scores(bare.assign(influence=bare["influence"] * np.nan)))
    assert empty.page(0)["positive"]["total"] == 0
    assert empty.histogram(0)["edges"] == []
    with pytest.raises(SettingError, match="position=1"):
        lists.window(1, "positive")
