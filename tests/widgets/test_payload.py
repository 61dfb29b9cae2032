"""What travels is small, JSON, in nats per added copy, and the numbers of the arrays."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray as xr

from inflab import plot
from inflab.widgets import payload
from inflab.widgets.opening import open_source
from tests.widgets.synthetic import explanation


def test_a_page_holds_the_numbers_of_the_arrays() -> None:
    tree = explanation(3, 40, 5)
    page = payload.page(open_source(tree, None, 5), 1)
    best = tree["top"].to_dataset().isel(query=1)
    assert page["query"] == {
        "id": "q1", "prompt": "The president of Gleem was", "completion": " Mira Quell.",
        "meta": {"source": "letters", "year": 1901},
    }  # fmt: skip
    assert [item["train"] for item in page["positive"]] == best["train"].to_numpy().tolist()
    np.testing.assert_allclose([i["effect"] for i in page["positive"]], best["influence"] / 40, rtol=1e-5)
    np.testing.assert_allclose([i["share"] for i in page["positive"]], best["share"], rtol=1e-5)
    assert all(item["effect"] < 0 for item in page["negative"])
    assert page["positive"][0]["meta"] == {"source": "letters", "year": 1901}


def test_tokens_sum_to_the_effect_and_padding_stays_behind() -> None:
    tree = explanation(8, 40, 5)
    source = open_source(tree, None, 5)
    item = payload.page(source, 7)["positive"][1]
    selected = {"query": "q7", "train": item["train"], "rank": 2, "sign": "positive"}
    sent, pair = payload.token_view(source, 7, selected)
    assert {name: sent[name] for name in selected} == selected
    assert "".join(sent["text"]).strip() == item["text"]
    assert len(sent["text"]) == len(sent["effect"]) == int(pair["is_text"].sum())
    assert sum(sent["effect"]) == pytest.approx(item["effect"], rel=1e-4)


def test_a_query_without_completion_is_shown_whole() -> None:
    tree = explanation(1).map_over_datasets(
        lambda node: node.drop_vars(["query_prompt", "query_completion"], errors="ignore")
    )
    query = payload.page(open_source(tree, None, 5), 0)["query"]
    assert (query["prompt"], query["completion"]) == ("", "The president of Astrobia was Zorald Pfaff.")


def test_widget_and_charts_speak_of_the_same_units() -> None:
    assert payload.UNITS == plot.UNITS


def test_tokens_without_layers_have_no_profile() -> None:
    tree = explanation(1)
    pair = tree["top_tokens"].to_dataset().isel(query=0, rank=0)
    assert payload.profile(pair.sum("layer", keep_attrs=True), {}) == {}
    assert payload.profile(pair, {"rank": 1})["svg"].startswith("<svg")


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (np.float32(0.1), 0.1), (float("nan"), None), (np.float64("inf"), None), (np.int64(3), 3),
        (np.bool_(True), True), (np.str_("a"), "a"), ("a\ud800b", "a\ufffdb"), ("😀", "😀"),
        (np.datetime64("2020-01-02"), "2020-01-02"), (None, "None"),
    ],
)  # fmt: skip
def test_values_become_plain_json(value: object, sent: object) -> None:
    assert payload.plain(value) == sent
    json.dumps(payload.plain(value), allow_nan=False).encode("utf-8")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.5, "+1.50"), (-0.12345, "−0.123"), (0.0, "0"), (100.0, "+100"), (1234.0, "+1.23×10³"),
        (-4.5e-6, "−4.50×10⁻⁶"), (0.0001, "+0.000100"), (math.nan, "–"), (None, "–"),
    ],
)  # fmt: skip
def test_numbers_read_as_in_the_front_end(number: float | None, text: str) -> None:
    assert payload.signed(number) == text


def test_a_page_stays_small_for_long_sequences() -> None:
    tree = explanation(2, 40, 10)
    lengthen = lambda node: node.assign_coords(text=node["text"] + "x" * 100_000) if "text" in node.coords else node  # noqa: E731
    page = payload.page(open_source(tree.map_over_datasets(lengthen), None, 10), 0)
    assert len(json.dumps(page)) < 20_000
    assert isinstance(tree, xr.DataTree)
