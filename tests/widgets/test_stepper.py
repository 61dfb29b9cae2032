"""Stepping through queries: what a card shows, what a search finds, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import traitlets
import xarray as xr

from inflab.errors import CorpusError
from inflab.widgets import QueryStepper
from inflab.widgets.stepper import Queries
from tests.widgets.synthetic import FakeInfluence, corpus


def test_a_card_of_the_batch_is_the_card_of_its_scores() -> None:
    batch = corpus(4, "query")
    scores = FakeInfluence().score(batch)
    for position in range(4):
        assert Queries(batch).card(position) == Queries(scores).card(position)
    assert Queries(batch).card(1) == {
        "id": "q1", "prompt": "The president of Gleem was", "completion": " Mira Quell.",
        "meta": {"source": "letters", "year": 1901},
    }  # fmt: skip
    whole = Queries(batch.drop_vars(["prompt", "completion"])).card(1)
    assert (whole["prompt"], whole["completion"]) == ("", "The president of Gleem was Mira Quell.")
    assert Queries(batch.drop_vars(["prompt", "completion", "text", "query"])).card(1)["id"] == 1


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("GLEEM", [1]),
        ("mirá quell", [1]),
        ("quell mira", [1]),
        ('"quell mira"', []),
        ("letters", [1, 4]),
        ("1903", [3]),
        ("q2", [2]),
        ("president", [0, 1, 2, 3, 4]),
        ("", []),
        ("  ", []),
    ],
)
def test_a_search_finds_prompt_completion_label_and_id(text: str, positions: list[int]) -> None:
    found = Queries(corpus(5, "query")).search(text)
    assert found["positions"] == positions
    assert [match["position"] for match in found["matches"]] == positions
    assert found["of"] == 5


def test_labels_are_short_and_one_line() -> None:
    batch = corpus(300, "query")
    batch["prompt"] = ("query", np.array(["a\n" + "x" * 100] * 300, dtype=object))
    found = Queries(batch).search("xxx")
    assert len(found["positions"]) == 300
    assert len(found["matches"]) == 200
    assert found["matches"][0]["label"] == "a " + "x" * 57 + "…"


def test_a_step_from_python_brings_the_query_and_one_outside_is_refused() -> None:
    stepper = QueryStepper(corpus(4, "query"), position=1)
    assert stepper._query["id"] == "q1"
    stepper.position = 3
    assert (stepper._query["id"], stepper._query["position"]) == ("q3", 3)
    with pytest.raises(traitlets.TraitError, match="between 0 and 3"):
        stepper.position = 4
    stepper.set_state({"position": 9})  # from the browser: said, not raised
    assert "between 0 and 3" in stepper.error
    assert stepper.position == 3
    assert repr(stepper) == "QueryStepper(4 queries, position=3)"


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        (None, "NoneType"),
        (corpus(2, "train"), r"dims \('train'"),
        (corpus(2, "query").isel(query=[]), "at least one"),
        (xr.DataArray([1]), "DataArray"),
    ],
)
def test_what_is_no_batch_is_named(queries: Any, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        QueryStepper(queries)
