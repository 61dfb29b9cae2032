"""The tail plot draws what `inflab.tail` gives, in the units that people read, one query at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import traitlets

import inflab
from inflab.errors import CorpusError, SchemaError
from inflab.widgets.opening import open_source
from inflab.widgets.tail_plot import TailPlot, Tails
from tests.widgets.synthetic import FakeInfluence, corpus, explanation

SCORES = FakeInfluence(400).score(corpus(3, "query"))


def test_it_draws_the_numbers_of_tail() -> None:
    plot = TailPlot(SCORES, position=2)
    expected = inflab.tail(inflab.effect(SCORES), points=120).isel(query=2)
    drawn = json.loads(json.dumps(plot._tail))
    assert (drawn["query"], drawn["units"]) == ("q2", "nat per added copy")
    assert drawn["words"] == str(expected["sentence"].item())
    for name in ("alpha", "alpha_se", "xmin", "p", "n_tail"):
        assert drawn["fit"][name] == pytest.approx(float(expected[name]), rel=1e-5)
    positive = np.sort(SCORES["influence"].to_numpy()[2] / 400)[::-1]
    assert drawn["ccdf"]["x"][0] == pytest.approx(positive[0], rel=1e-5)
    assert drawn["ccdf"]["y"][-1] == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(drawn["coverage"]["held"], expected["held"], rtol=1e-5)
    np.testing.assert_allclose(drawn["coverage"]["null"], expected["held_shuffled"], rtol=1e-5)


def test_a_step_draws_another_query_and_wrong_places_are_refused() -> None:
    plot = TailPlot(SCORES)
    plot.position = 1
    assert plot._tail["query"] == "q1"
    with pytest.raises(traitlets.TraitError, match="between 0 and 2"):
        plot.position = 3
    data, _ = plot._repr_mimebundle_()
    assert "exponent" in data["text/html"]


def test_the_explorer_gets_the_same() -> None:
    answer = Tails(open_source(explanation(3, 40, 5), None, 5)).answers()["tail.query"](1)
    alone = TailPlot(explanation(3, 40, 5)["scores"].to_dataset(), position=1)._tail
    assert answer["words"] == alone["words"]


def test_one_query_has_no_list_to_compare_with() -> None:
    drawn = TailPlot(SCORES.isel(query=[0]))._tail
    assert set(drawn["coverage"]["null"]) == {None}


def test_a_query_without_a_tail_says_why() -> None:
    drawn = TailPlot(FakeInfluence(8).score(corpus(1, "query")))._tail
    assert "a tail needs at least 10" in drawn["words"]
    assert drawn["fit"] is None


def test_wrong_arrays_are_named() -> None:
    with pytest.raises(SchemaError):
        TailPlot(SCORES["influence"])
    with pytest.raises(CorpusError, match="no query"):
        TailPlot(SCORES.isel(query=[]))
