"""Comparison: against scipy and by its symmetries; ids are matched, other units said, nothing in common an error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from traitlets import TraitError

import inflab
from inflab.errors import CorpusError, SchemaError, SettingError
from inflab.widgets.compare import Compare, Comparing
from inflab.widgets.payload import sendable
from inflab.widgets.rank_agreement import rank_biased_overlap
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

NAMES = ("EK-FAC", "dot product")


def scores(seed: int = 0, n_train: int = 40, n_query: int = 3) -> xr.Dataset:
    return FakeInfluence(n_train, seed=seed).score(corpus(n_query, "query"))


BASE = scores(0, 200)


@given(seed=st.integers(0, 10_000), n_train=st.integers(2, 200), sign=st.sampled_from(["positive", "negative"]))
def test_with_itself_it_agrees_and_sides_swap(seed: int, n_train: int, sign: str) -> None:
    rng = np.random.default_rng(seed)
    a, b = (
        BASE.isel(train=slice(n_train)).assign(
            influence=lambda one: one["influence"].copy(data=rng.standard_t(2, one["influence"].shape))
        )
        for _ in range(2)
    )
    itself = Comparing(a, a.isel(train=rng.permutation(n_train)), NAMES).query(1, 10, sign)
    assert itself["spearman"] == pytest.approx(1)
    for name in ("overlap", "rbo"):
        assert itself[name] == pytest.approx(1) or (np.isnan(itself[name]) and itself["lists"][0] == [])
    assert all(item["rank"] == item["other"] for item in itself["lists"][0])

    found, swapped = Comparing(a, b, NAMES).query(1, 10, sign), Comparing(b, a, NAMES[::-1]).query(1, 10, sign)
    assert found["lists"] == swapped["lists"][::-1]
    for name in ("spearman", "overlap", "rbo"):
        assert found[name] == pytest.approx(swapped[name], nan_ok=True)
    x, y = (one["influence"].isel(query=1) for one in (a, b))
    assert found["spearman"] == pytest.approx(spearmanr(x, y).statistic)


def test_lists_are_those_of_top_and_places_those_of_the_whole_order() -> None:
    a, b = scores(0), scores(1)
    found = Comparing(a, b, NAMES).query(2, 10, "negative")
    for side, one in enumerate((a, b)):
        expected = inflab.top(one, 10, sign="negative").isel(query=2)
        assert [item["train"] for item in found["lists"][side]] == expected["train"].to_numpy().tolist()
        np.testing.assert_allclose([item["value"] for item in found["lists"][side]], expected["effect"], rtol=1e-6)
    order = b["influence"].isel(query=2).to_series().sort_values().index.tolist()
    assert [item["other"] for item in found["lists"][0]] == [order.index(i["train"]) + 1 for i in found["lists"][0]]
    ids = [{item["train"] for item in one} for one in found["lists"]]
    assert (found["both"], found["overlap"]) == (len(ids[0] & ids[1]), len(ids[0] & ids[1]) / 10)


def test_rank_biased_overlap_by_hand() -> None:
    # Webber et al.'s eq. 32 with two lists of three: agreement at depths 1, 2, 3 is 0, 1, 2/3.
    p = 0.9
    expected = 2 / 3 * p**3 + (1 - p) / p * (0 * p + 1 * p**2 + 2 / 3 * p**3)
    assert rank_biased_overlap(np.array([1, 2, 3]), np.array([2, 1, 4]), p) == pytest.approx(expected)
    assert np.isnan(rank_biased_overlap(np.array([], int), np.array([1])))


def test_only_what_both_hold_counts_and_the_reader_is_told() -> None:
    a, b = scores(0), scores(1).isel(train=slice(5, None), query=[2, 0])
    b["influence"].attrs["units"] = "1"
    b["influence"][0, 3] = np.nan
    b = b.assign_coords(text=("train", ["other", *b["text"].to_numpy()[1:]]))
    comparing = Comparing(a, b, NAMES)
    assert comparing.ids == ["q0", "q2"]
    assert (comparing.query(0)["n"], comparing.query(1)["n"]) == (35, 34)
    said = " ".join(comparing.notes)
    for words in ("2 queries are in both, out of 3", "35 training sequences are in both", "compare ranks, not sizes",
                  "1 of the matched train ids have another text"):  # fmt: skip
        assert words in said
    x = a["influence"].sel(query="q0", train=b["train"])
    assert comparing.query(0)["spearman"] == pytest.approx(spearmanr(x, b["influence"].sel(query="q0")).statistic)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda one: one.assign_coords(train=np.arange(40)), CorpusError, "0 train ids are in both"),
        (lambda one: one.assign_coords(query=[7, 8, 9]), CorpusError, "0 query ids are in both"),
        (lambda one: one.assign_coords(train=["t0"] * 40), CorpusError, "twice"),
        (lambda one: one.drop_vars("influence"), SchemaError, "influence"),
        (lambda one: 3, SchemaError, "int"),
    ],
)
def test_what_does_not_match_is_said(change: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Compare(scores(), change(scores(1)))


def test_names_and_settings_are_checked() -> None:
    for names in (("a", "a"), ("a",), "ab", ("a", "")):
        with pytest.raises(SettingError, match="names"):
            Compare(scores(), scores(1), names)
    widget = Compare(scores(), explanation(3), NAMES)
    for name, value in (("position", 3), ("k", 11), ("sign", "up"), ("selected", "nobody")):
        with pytest.raises(TraitError):
            setattr(widget, name, value)
    widget.set_state({"position": -1})
    assert "between 0 and 2" in widget.error


def test_the_batch_says_what_each_query_says() -> None:
    widget = Compare(scores(0), scores(1), NAMES)
    comparing = Comparing(scores(0), scores(1), NAMES)
    batch = widget._answers["compare.batch"]()
    assert comparing.batch(start=1)["queries"] == batch["queries"][1:]  # a moment is enough for two
    for position, row in enumerate(batch["queries"]):
        for sign in ("positive", "negative"):
            one = comparing.query(position, 50, sign)
            assert row[sign]["overlap"]["50"] == one["overlap"]
            assert row["spearman"] == one["spearman"]
    inflab.validate(widget.agreement)
    assert (
        float(widget.agreement["overlap"].sel(query="q1", group="negative", rank=10))
        == comparing.query(1, 10, "negative")["overlap"]
    )


def test_marks_are_few_and_keep_both_tops() -> None:
    a, b = scores(0, 5000), scores(1, 5000)
    found = Comparing(a, b, NAMES).query(0, 100)
    marks = found["scatter"]
    assert len(marks["train"]) == 1500
    assert {item["train"] for one in found["lists"] for item in one} <= set(marks["train"])
    assert len(json.dumps(sendable(found))) < 250_000
    assert marks["group"][marks["train"].index(found["lists"][1][0]["train"])] & 2


def test_sequences_that_all_tie_break_nothing() -> None:
    flat = scores() * 0
    flat = flat.assign(influence=flat["influence"].assign_attrs(scores()["influence"].attrs)).assign_attrs(
        scores().attrs
    )
    found = sendable(Comparing(flat, scores(1), NAMES).query(0))
    assert (found["spearman"], found["overlap"], found["rbo"], found["lists"][0]) == (None, 0, None, [])


def test_the_static_view_is_escaped() -> None:
    a = scores()
    a = a.assign_coords(text=("train", ["<script>alert(1)</script>"] * 40), query_prompt=("query", ["<img src=x>"] * 3))
    data, _ = Compare(a, scores(1), ("<b>", "dot"))._repr_mimebundle_()
    html = data["text/html"]
    assert "&lt;script&gt;" in html
    assert not {tag for tag in ("<script", "<img", "<b>,") if tag in html}
    assert data["text/plain"] == "Compare(<b> | dot, 3 queries, 40 training sequences)"
    assert html.count("<tr>") == 4
