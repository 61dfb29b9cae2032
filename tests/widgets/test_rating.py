"""Blind rating: what is sent names nothing, each pair comes once in the seed's order, resuming shows what is left."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

import inflab
from inflab.errors import CorpusError, SettingError
from inflab.widgets.payload import sendable
from inflab.widgets.rating import Rating
from tests.widgets.synthetic import FakeInfluence, corpus, explanation


def lists(k: int = 6, n_query: int = 3, names: tuple[str, str] = ("SECRET-A", "SECRET-B")) -> dict[str, xr.Dataset]:
    queries = corpus(n_query, "query")
    return {
        name: inflab.top(FakeInfluence(40, seed=seed).score(queries), k, sign=sign)  # type: ignore[arg-type]
        for seed, (name, sign) in enumerate(zip(names, ("positive", "negative"), strict=True))
    }


def answer(widget: Rating, kind: str, **args: Any) -> Any:
    """Ask as the browser does."""
    sent: list[Any] = []
    widget.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]
    widget._on_question(widget, {"id": 1, "kind": kind, "args": args}, [])
    assert "error" not in sent[-1], sent[-1]
    return sent[-1]["answer"]


def rate(rating: Rating, count: int) -> list[dict[str, Any]]:
    """Rate some pairs from where the widget stands; what was sent."""
    sent = [answer(rating, "rating.open", place=rating.position)]
    for turn in range(count):
        sent.append(answer(rating, "rating.give", place=rating.position, rating=1 + turn % 3, seconds=1.5))
    return sent


def test_what_is_sent_says_nothing_of_where_a_sequence_comes_from() -> None:
    rating = Rating(lists(), rater="Ann", per_query=4)
    sent = rate(rating, 5)
    known = {"_esm", "_css", "_anywidget_id", "layout", "tabbable", "tooltip"}
    state = {
        name: v
        for name, v in rating.get_state().items()
        if name not in known and not name.startswith(("_m", "_v", "_dom"))
    }
    assert set(state) == {"position", "rated", "error"}
    assert {key for one in sent for key in one} == set(
        "place total rated of skipped next scale pair rating note".split()
    )
    assert {key for one in sent for key in one["pair"]} == {"prompt", "completion", "text"}
    said = json.dumps(sendable([state, sent]))
    # No method, no id, no sign, no score: no number with a fraction at all.
    assert not re.findall(r"SECRET|EKFAC|positive|negative|\b[qt]\d+\b|\d\.\d", said)


@given(seed=st.integers(0, 1000), per_query=st.integers(1, 6))
def test_each_pair_comes_once_and_the_order_is_the_seeds(seed: int, per_query: int) -> None:
    made = lists()
    expected = {
        (query, train)
        for one in made.values()
        for i, query in enumerate(one["query"].to_numpy().tolist())
        for train in one["train"].to_numpy()[i, :per_query].tolist()
    }
    order = Rating(made, per_query=per_query, seed=seed)._sheet.order
    assert set(order) == expected
    assert len(order) == len(expected)
    # The names and the order of the lists say nothing.
    renamed = {name: made[old] for name, old in zip("zy", reversed(list(made)), strict=True)}
    assert Rating(renamed, per_query=per_query, seed=seed)._sheet.order == order
    changes = [a[0] != b[0] for a, b in zip(order, order[1:], strict=False)]
    assert sum(changes) == 2  # a query's sequences come one after the other


@given(count=st.integers(1, 20))
def test_resuming_shows_only_what_is_left_in_the_same_order(count: int) -> None:
    whole = Rating(lists(), rater="Ann", seed=3)
    order = whole._sheet.order
    count = min(count, len(order))
    rate(whole, count)
    assert whole.rated == count
    resumed = Rating(lists(), seed=3, ratings=whole.ratings)
    assert resumed._sheet.order == order[count:]
    assert (resumed.rated, resumed.ratings.sizes["pair"]) == (count, count)
    rate(resumed, len(order) - count)
    assert resumed.rated == len(order) == resumed.position + count
    pd.testing.assert_series_equal(
        resumed.ratings["rating"].to_series()[:count], whole.ratings["rating"].to_series(), check_names=False
    )
    assert set(resumed.ratings["rater"].to_numpy()) == {"Ann"}


def test_skips_and_notes_are_kept_and_asked_again(tmp_path: Path) -> None:
    rating = Rating(lists(), rater="Ann", per_query=2)
    state = answer(rating, "rating.give", place=0, rating=None, note="=cmd|'/c calc'!A1")
    assert (state["place"], state["skipped"], rating.rated) == (1, [0], 0)
    answer(rating, "rating.note", place=2, note="a | b")
    assert answer(rating, "rating.open", place=2)["note"] == "a | b"
    state = answer(rating, "rating.give", place=1, rating=3, seconds=2)
    assert state["place"] == 2  # a note is no answer
    assert answer(rating, "rating.open", place=1)["rating"] == 3
    answer(rating, "rating.give", place=1, rating=2, seconds=1)  # the rater thought again
    found = rating.ratings
    inflab.save(found, tmp_path / "ratings.zarr")
    back = inflab.load(tmp_path / "ratings.zarr")
    xr.testing.assert_identical(back.load(), found)
    by_pair = {(q, t): r for q, t, r in zip(*(found[n].to_numpy() for n in ("query", "train", "rating")), strict=True)}
    order = rating._sheet.order
    assert by_pair[order[1]] == 2
    assert np.isnan(by_pair[order[0]])
    assert float(found["seconds"].max()) == 3
    again = Rating(lists(), per_query=2, ratings=back)
    assert again._sheet.order == [order[0], *order[2:]]
    assert again._sheet.open(0)["note"].startswith("=cmd")

    table = list(csv.DictReader(io.StringIO(rating.ratings_csv())))
    assert {row["note"] for row in table} == {"'=cmd|'/c calc'!A1", "a | b", ""}
    assert [row["rating"] for row in table if row["rating"]] == ["2"]
    assert "a \\| b" in rating.ratings_markdown()
    frame = pd.DataFrame({"query": ["q9"], "train": ["t9"], "rating": [1]})
    with pytest.raises(CorpusError, match="of other pairs"):
        Rating(lists(), ratings=frame)


def test_raters_meet_in_kappa_and_methods_in_relevance() -> None:
    raters = [Rating(lists(), rater=name, per_query=3) for name in ("Ann", "Bob")]
    for one in raters:
        rate(one, len(one._sheet.order))
    assert float(inflab.kappa(raters[0].ratings, raters[1].ratings)["kappa"]) == 1
    found = raters[0].relevance(resamples=50)
    assert found["estimator"].to_numpy().tolist() == ["SECRET-A", "SECRET-B"]
    assert found["rated"].to_numpy().tolist() == [1, 1]
    assert found["precision"].sizes["rank"] == 3


def test_an_explanation_is_rated_on_both_ends() -> None:
    rating = Rating(explanation(2), per_query=2)
    assert list(rating._sheet.lists) == ["EKFAC, positive", "EKFAC, negative"]
    assert len(rating._sheet.order) == 8
    empty = explanation(2).map_over_datasets(
        lambda node: node.assign(is_ranked=node["is_ranked"] & False) if "is_ranked" in node else node
    )
    with pytest.raises(CorpusError, match="rank no sequence"):
        Rating(empty)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"scale": ("one",)}, SettingError, "2 to 9"),
        ({"scale": ("a", "a")}, SettingError, "different"),
        ({"scale": "abc"}, SettingError, "scale"),
        ({"per_query": 0}, SettingError, "per_query"),
        ({"seed": -1}, SettingError, "seed"),
        ({"rater": "Bob"}, SettingError, r"by \['Ann'\]"),
        ({"scale": ("no", "yes")}, SettingError, "not on a scale of 2|on the scale"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], error: type[Exception], said: str) -> None:
    before = Rating(lists(), rater="Ann")
    rate(before, 3)
    with pytest.raises(error, match=said):
        Rating(lists(), ratings=before.ratings, **settings)


def test_lists_without_text_and_places_out_of_range_are_said() -> None:
    with pytest.raises(CorpusError, match="holds no texts"):
        Rating({"a": lists()["SECRET-A"].drop_vars("text")})
    with pytest.raises(SettingError, match="lists is a int"):
        Rating(3)
    rating = Rating(lists())
    with pytest.raises(TraitError):
        rating.position = 1000
    for kind, args in (
        ("rating.open", {"place": -1}),
        ("rating.give", {"place": 0, "rating": 4}),
        ("rating.give", {"place": 10**6, "rating": 1}),
    ):
        sent: list[Any] = []
        rating.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]  # noqa: B023
        rating._on_question(rating, {"id": 1, "kind": kind, "args": args}, [])
        assert "SettingError" in sent[-1]["error"]
    assert rating.rated == 0


def test_the_static_view_is_escaped() -> None:
    made = {name: one.assign_coords(text=one["text"] + "<script>") for name, one in lists().items()}
    rating = Rating(made, rater="<img>", scale=("<i>no", "yes"))
    answer(rating, "rating.give", place=0, rating=1, note="<b>")
    data, _ = rating._repr_mimebundle_()
    assert not {tag for tag in ("<script", "<img", "<b>", "<i>", "SECRET") if tag in data["text/html"]}
    assert "1 &lt;i&gt;no" in data["text/html"]
    assert data["text/plain"] == f"Rating('<img>', 1 of {len(rating._sheet.texts)} pairs rated)"
