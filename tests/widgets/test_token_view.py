"""What is sent of one pair's tokens sums to the labelled array, holds no padding, and keeps any text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import traitlets
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from inflab.errors import CorpusError, InflabError, SchemaError, SettingError
from inflab.schema import variable_attrs
from inflab.select import top
from inflab.widgets.live import LiveSource
from inflab.widgets.opening import open_source
from inflab.widgets.payload import sendable
from inflab.widgets.token_arrays import pair_payload, token_payload
from inflab.widgets.token_view import Tokens, TokenView
from tests.widgets.synthetic import FakeInfluence, attrs, corpus, explanation

#: Any text a vocabulary may hold, lone surrogates included.
TEXT = st.text(st.characters(codec=None), max_size=6)  # type: ignore[arg-type]


@st.composite
def pairs(draw: st.DrawFn) -> xr.Dataset:
    """One pair, token by token, with padding that holds numbers, which must never be sent."""
    n_layer, n_token, n_query_token = (draw(st.integers(1, n)) for n in (3, 5, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    value = rng.standard_t(2, (n_layer, n_token, n_query_token))
    is_text, is_query_text = (np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))) for n in value.shape[1:])
    text, query_text = (np.array([draw(TEXT) for _ in range(n)], dtype=object) for n in value.shape[1:])
    about = {"is_text": ("token", is_text), "token_text": ("token", text)}
    asked = {"is_query_text": ("query_token", is_query_text), "query_token_text": ("query_token", query_text)}
    units = draw(st.sampled_from(["nat per unit weight", "1"]))
    influence = (("layer", "token", "query_token"), value, variable_attrs("influence", units, "made up"))
    dims = {
        "layer": [f"h.{i}" for i in range(n_layer)],
        "token": np.arange(n_token),
        "query_token": np.arange(n_query_token),
    }
    return xr.Dataset({"influence": influence, **about, **asked}, coords=dims, attrs=attrs("tokens", 40))


def _read(pair: xr.Dataset) -> tuple[xr.DataArray, list[str]]:
    """The array as a reader sees it, and its text, told anew."""
    scale = 40 if pair["influence"].attrs["units"] == "nat per unit weight" else 1
    text = [str(t).encode("utf-16", "surrogatepass").decode("utf-16", "replace") for t in pair["token_text"].values]
    return (pair["influence"] / scale).where(pair["is_text"], drop=False), text


@given(pairs())
def test_tokens_are_the_sums_of_the_array(pair: xr.Dataset) -> None:
    sent = json.loads(json.dumps(token_payload(pair)))
    value, text = _read(pair)
    keep = pair["is_text"].values
    assert sent["text"] == [t for t, is_text in zip(text, keep, strict=True) if is_text]
    np.testing.assert_allclose(sent["effect"], value.sum(["layer", "query_token"]).values[keep], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sent["sum"], value.sum().values, rtol=1e-4, atol=1e-5)
    heat = np.array(sent["heat"]["effect"]).reshape(pair.sizes["layer"], keep.sum())
    np.testing.assert_allclose(
        heat, value.sum("query_token").transpose("layer", "token").values[:, keep], rtol=1e-4, atol=1e-6
    )
    assert sent["units"] == ("nat per added copy" if "nat" in pair["influence"].attrs["units"] else "1")


@given(pairs())
def test_token_pairs_are_the_cells_of_the_array_and_layers_sum(pair: xr.Dataset) -> None:
    whole = json.loads(json.dumps(pair_payload(pair)))
    value, text = _read(pair)
    rows, columns = pair["is_query_text"].values, pair["is_text"].values
    shape = (rows.sum(), columns.sum())
    expected = value.sum("layer").transpose("query_token", "token").values[rows][:, columns]
    np.testing.assert_allclose(np.reshape(whole["effect"], shape), expected, rtol=1e-4, atol=1e-6)
    each = [np.reshape(pair_payload(pair, layer)["effect"], shape) for layer in whole["layers"]]
    np.testing.assert_allclose(np.sum(each, 0), expected, rtol=1e-4, atol=1e-5)
    assert whole["train"]["text"] == [t for t, is_text in zip(text, columns, strict=True) if is_text]
    with pytest.raises(SettingError, match="h.9"):
        pair_payload(pair, "h.9")


def _source(**settings: Any) -> tuple[FakeInfluence, LiveSource]:
    influence = FakeInfluence(**settings)
    source = open_source(influence, corpus(3, "query"), 4)
    assert isinstance(source, LiveSource)
    return influence, source


def test_a_live_source_answers_each_view_once() -> None:
    influence, source = _source()
    tokens = Tokens(source)
    train = source.ranked(1, "positive")["train"].to_numpy()[1]
    for _ in range(2):
        sent = {view: tokens.view(1, train, view) for view in ("update", "output", "input")}
    assert len(influence.attributed) == 3
    effect = source.scores["influence"].isel(query=1).sel(train=train).item() / 40
    assert [one["total"] for one in sent.values()] == pytest.approx([effect] * 3)
    assert sent["update"]["sum"] == pytest.approx(effect, rel=1e-4)
    assert [one["heat"] is None for one in sent.values()] == [False, True, True]
    assert sent["output"]["views"] == ["update", "output", "input"]
    assert sendable(sent) == sent


def test_query_texts_come_from_the_queries_where_the_array_has_none() -> None:
    influence, source = _source()
    tokens = Tokens(source)
    train = source.ranked(0, "positive")["train"].to_numpy()[0]
    sent = tokens.pairs(0, train)
    assert "".join(sent["query"]["text"]) == "The president of Astrobia was Zorald Pfaff.\n"
    assert sent["train"]["id"] == train
    assert np.sum(sent["effect"]) == pytest.approx(tokens.view(0, train)["total"], rel=1e-3)
    asked = len(influence.attributed)
    one = tokens.pairs(0, train, sent["layers"][2])
    assert one["layer"] == sent["layers"][2]
    assert len(influence.attributed) == asked  # all layers came with the first look


def test_questions_asked_since_have_tokens_and_a_contrast_no_pairs() -> None:
    influence, source = _source()
    tokens = Tokens(source)
    later = corpus(5, "query").isel(query=[4])
    at = source.add(later, influence.score(later))
    sent = tokens.pairs(at, "t4")
    assert "".join(sent["query"]["text"]) == "The president of Quessia was Perrin Ashe.\n"
    assert np.sum(sent["effect"]) == pytest.approx(tokens.view(at, "t4")["total"], rel=1e-3)
    both = corpus(2, "query")
    contrast = source.add(both, influence.score(later), weights=(1.0, -1.0))
    with pytest.raises(SettingError, match="contrasts 2 completions"):
        tokens.pairs(contrast, "t4")


def test_a_saved_explanation_has_one_view_and_says_so() -> None:
    source = open_source(explanation(2), None, 5)
    tokens = Tokens(source)
    train = source.ranked(0, "positive")["train"].to_numpy()[0]
    assert tokens.view(0, train)["views"] == ["update"]
    with pytest.raises(SettingError, match="'output'.*fitted Influence"):
        tokens.view(0, train, "output")
    with pytest.raises(SettingError, match="query token meets"):
        tokens.pairs(0, train)
    with pytest.raises(SettingError, match="view='sideways'"):
        tokens.view(0, train, "sideways")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="position=2 must lie between 0 and 1"):
        tokens.view(2, train)


def _arrays(view: str = "update", k: int = 3) -> xr.Dataset:
    influence, queries = FakeInfluence(), corpus(2, "query")
    return influence.attribute(queries, top(influence.score(queries), k), view=view).assign_attrs(view=view, n_train=40)


def test_the_widget_moves_between_pairs_and_views() -> None:
    update, output = _arrays(), _arrays("output")
    widget = TokenView(update, output, position=1, rank=2)
    value = update["influence"].isel(query=1, rank=1).sum("layer") / 40
    assert widget.token == int(np.abs(value.values).argmax())
    widget.token = 3
    widget.view = "output"
    assert widget.token == 3  # the same text: the reader's place is kept
    assert widget._tokens["total"] == pytest.approx(value.sum().item(), rel=1e-4)
    assert widget._tokens["heat"] is None
    with pytest.raises(traitlets.TraitError, match="view='input'.*update.*output"):
        widget.view = "input"
    with pytest.raises(traitlets.TraitError, match="rank=4 must lie between 1 and 3"):
        widget.rank = 4
    one = TokenView(update.isel(query=1, rank=1))  # chosen beforehand
    widget.view = "update"
    assert one._tokens["effect"] == widget._tokens["effect"]
    assert one._choices["queries"] == ["q1: The president of Gleem was Mira Quell."]


@pytest.mark.parametrize(
    ("give", "error", "words"),
    [
        (lambda a: [a.drop_vars("token_text")], SchemaError, "token_text"),
        (lambda a: [a.to_dataarray()], SchemaError, "Dataset"),
        (lambda a: [a.isel(rank=[])], CorpusError, "no rank"),
        (lambda a: [a, a], SettingError, "'update' is given twice"),
        (lambda a: [a, _arrays("output", k=2)], CorpusError, "different pairs"),
        (lambda a: [a.drop_attrs()], SchemaError, "n_train"),
    ],
)
def test_what_cannot_be_shown_is_refused(give: Any, error: type[InflabError], words: str) -> None:
    with pytest.raises(error, match=words):
        TokenView(*give(_arrays()))


def test_the_static_view_is_escaped_and_tells_the_sign() -> None:
    tokens = _arrays()
    tokens["token_text"].to_numpy()[:] = "<script>alert(1)</script>"
    html = TokenView(tokens)._repr_mimebundle_()[0]["text/html"]  # type: ignore[index]
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == int(tokens["is_text"].values[0, 0].sum())
    assert "<sub>+" in html
