"""The pair map shows one layer or their sum, of queries that are named by the array or given beside it."""

from __future__ import annotations

import numpy as np
import pytest
import traitlets
import xarray as xr

from inflab.errors import CorpusError, SchemaError, SettingError
from inflab.select import top
from inflab.widgets.pair_map import PairMap
from tests.widgets.synthetic import FakeInfluence, corpus


def _pairs() -> tuple[xr.Dataset, xr.Dataset]:
    influence, queries = FakeInfluence(), corpus(2, "query")
    best = top(influence.score(queries), 3)
    return influence.attribute(queries, best, pairs=True), queries


def test_layers_pairs_and_picks_are_traits() -> None:
    pairs, queries = _pairs()
    widget = PairMap(pairs, queries, position=1, rank=2)
    value = pairs["influence"].isel(query=1, rank=1) / 40
    keep = pairs["is_text"].values[1, 1]
    shown = widget._pair
    assert "".join(shown["query"]["text"]) == "The president of Gleem was Mira Quell.\n"
    cells = value.transpose("layer", "query_token", "token").values[:, queries["is_text"].values[1]][:, :, keep]
    np.testing.assert_allclose(shown["effect"], cells.sum(0), rtol=1e-3, atol=1e-6)
    widget.layer = shown["layers"][5]
    np.testing.assert_allclose(widget._pair["effect"], cells[5], rtol=1e-3, atol=1e-6)

    widget.selected = [3, 1, 3]
    assert widget.selected == [1, 3]
    widget.selected_train = [2]
    assert (widget.selected, widget.selected_train) == ([], [2])  # one side at a time
    with pytest.raises(traitlets.TraitError, match="selected=9 must lie between 0 and 8"):
        widget.selected = [9]
    widget.rank = 3
    assert widget.selected_train == []
    assert widget.layer == shown["layers"][5]


def test_an_array_that_names_the_query_tokens_needs_no_queries() -> None:
    pairs, queries = _pairs()
    words = queries["vocabulary_text"].values[queries["token_id"].values]
    named = pairs.assign(query_token_text=(("query", "query_token"), np.where(queries["is_text"], words, "")))
    assert PairMap(named)._pair == PairMap(pairs, queries.isel(query=[1, 0]))._pair  # by id, in any order


def test_the_static_view_names_both_sides_and_is_escaped() -> None:
    pairs, queries = _pairs()
    pairs["token_text"].to_numpy()[:] = "<b>"
    html = PairMap(pairs, queries)._repr_mimebundle_()[0]["text/html"]  # type: ignore[index]
    assert "<b>" not in html
    assert "Tokens of the query" in html
    assert html.count("&lt;b&gt;") == int(pairs["is_text"].values[0, 0].sum())


def test_what_cannot_be_shown_is_refused() -> None:
    pairs, queries = _pairs()
    with pytest.raises(SchemaError, match="query_token_text.*queries"):
        PairMap(pairs)
    with pytest.raises(SchemaError, match="query_token"):
        PairMap(pairs.isel(query_token=0), queries)
    with pytest.raises(CorpusError, match="no query 'q1'"):
        PairMap(pairs, queries.isel(query=[0]))
    with pytest.raises(CorpusError, match="7 token columns"):
        PairMap(pairs, queries.isel(token=slice(7)))
    with pytest.raises(SettingError, match="layer='h.9'"):
        PairMap(pairs, queries, layer="h.9")
    widget = PairMap(pairs, queries)
    with pytest.raises(SettingError, match="layer='h.9'"):
        widget.layer = "h.9"
