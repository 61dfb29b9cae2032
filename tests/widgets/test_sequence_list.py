"""The lists on their own: what Python sets and reads, what is refused, what is shown where no widget runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import traitlets
import xarray as xr

from inflab.errors import CorpusError, SchemaError
from inflab.widgets import SequenceList
from tests.widgets.synthetic import FakeInfluence, corpus


@pytest.fixture
def scores() -> xr.Dataset:
    return FakeInfluence().score(corpus(3, "query"))


def test_a_choice_is_completed_from_either_end_and_goes_to_its_query(scores: xr.Dataset) -> None:
    found = SequenceList(scores)
    found.selected = {"sign": "positive", "rank": 1}
    assert found.selected == {"query": "q0", "train": "t0", "rank": 1, "sign": "positive"}
    found.selected = {"query": "q2", "train": "t2"}
    assert found.selected == {"query": "q2", "train": "t2", "rank": 1, "sign": "positive"}
    assert (found.position, found._page["query"]["id"]) == (2, "q2")
    last = found._page["negative"]["of"]
    found.selected = {"sign": "negative", "rank": last}
    assert found.selected["rank"] == last
    found.selected = {}
    assert found.selected == {}


@pytest.mark.parametrize(
    ("trait", "value", "words"),
    [
        ("selected", {"query": "q9", "train": "t0"}, "'q9'"),
        ("selected", {"train": "t99"}, "'t99'"),
        ("selected", {"sign": "positive", "rank": 0}, "rank=0"),
        ("selected", {"sign": "positive", "rank": 41}, "rank=41"),
        ("selected", {"rank": 1}, "needs train"),
        ("picks", [{"query": "q0"}], "needs query and train"),
        ("picks", [{"query": "q0", "train": "t99"}], "'t99'"),
        ("facets", {"year": [1900]}, "year"),
        ("facets", {"source": "letters"}, "lists of values"),
        ("position", 3, "between 0 and 2"),
    ],
)
def test_what_is_not_there_is_refused(scores: xr.Dataset, trait: str, value: Any, words: str) -> None:
    found = SequenceList(scores)
    before = getattr(found, trait)
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(found, trait, value)
    assert getattr(found, trait) == before
    found.set_state({trait: value})
    assert words.split("'")[0] in found.error


def test_picks_are_a_table_with_whole_texts(scores: xr.Dataset) -> None:
    long = np.array(["=1 " + "word " * 200] * 40, dtype=object)
    found = SequenceList(scores.assign_coords(text=("train", long)))
    found.picks = [{"query": "q1", "train": "t1", "note": "-first"}, {"train": "t5"}, {"query": "q1", "train": "t1"}]
    assert found.picks == [{"query": "q1", "train": "t1", "note": ""}, {"query": "q0", "train": "t5", "note": ""}]
    found.picks = [{"query": "q1", "train": "t1", "note": "-first"}]
    table = found.picks_table()
    assert table.loc[0, ["query", "train", "sign", "rank", "note", "source"]].tolist() == [
        "q1", "t1", "positive", 1, "-first", "letters",
    ]  # fmt: skip
    assert table["text"][0] == long[0]
    assert table["effect"][0] == pytest.approx(61 / 40)
    assert "'-first" in found.picks_csv() and "'=1 word" in found.picks_csv()
    assert found.picks_markdown().startswith("| query | train | sign |")


def test_the_static_view_is_escaped(scores: xr.Dataset) -> None:
    hostile = np.array(["<script>alert(1)</script>"] * 40, dtype=object)
    found = SequenceList(scores.assign_coords(text=("train", hostile), query_prompt=("query", hostile[:3])))
    data = found._repr_mimebundle_()[0]  # type: ignore[index]
    assert "<script" not in data["text/html"]
    assert data["text/html"].count("&lt;script&gt;") == 21  # ten of each sign, and the query
    assert data["text/plain"] == "SequenceList(3 queries, 40 training sequences, 0 picked)"


def test_scores_by_layer_and_similarities_are_taken(scores: xr.Dataset) -> None:
    by_layer = SequenceList(FakeInfluence().score(corpus(3, "query"), by="layer"))
    assert (
        by_layer._page["positive"]["items"][0]["train"] == SequenceList(scores)._page["positive"]["items"][0]["train"]
    )
    scores["influence"].attrs["units"] = "1"
    similar = SequenceList(scores)
    assert "more likely" not in similar._repr_mimebundle_()[0]["text/html"]  # type: ignore[index]


def test_what_are_no_scores_is_named(scores: xr.Dataset) -> None:
    with pytest.raises(SchemaError, match="influence"):
        SequenceList(corpus(2, "train"))
    with pytest.raises(SchemaError, match="Dataset"):
        SequenceList("scores.zarr")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="at least one"):
        SequenceList(scores.isel(query=[]))


def test_a_single_sequence_and_a_query_without_numbers_are_shown(scores: xr.Dataset) -> None:
    one = SequenceList(scores.isel(train=[0]))
    assert [one._page[sign]["total"] for sign in ("positive", "negative")] == [1, 0]
    none = SequenceList(scores.assign(influence=scores["influence"] * np.nan))
    assert [none._page[sign]["total"] for sign in ("positive", "negative")] == [0, 0]
    assert "none" in none._repr_mimebundle_()[0]["text/html"]  # type: ignore[index]
