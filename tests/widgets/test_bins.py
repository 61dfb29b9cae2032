"""A histogram counts every value once, and a range of its edges is what its bins count; search as a reader types."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inflab.widgets.bins import signed_bins
from inflab.widgets.finding import Texts, folded, snippet, terms

VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 10.0, np.nan, np.inf, -np.inf, 1e-30, -1e-30, 1e30]), st.floats(-1e6, 1e6)
)


@given(st.lists(VALUES, max_size=50))
def test_every_value_is_in_one_bin_and_a_range_of_edges_keeps_what_its_bins_count(values: list[float]) -> None:
    array = np.array(values, np.float64)
    found = json.loads(json.dumps(signed_bins(array)))  # as the browser has it
    finite = array[np.isfinite(array)]
    assert found["missing"] == len(array) - len(finite)
    assert found["positive"] + found["negative"] + found["zero"] == len(finite)
    edges, counts = found["edges"], found["counts"]
    if not finite.any():
        assert (edges, counts) == ([], [])
        return
    assert sum(counts) == len(finite)
    assert edges == sorted(set(edges))
    assert edges == [-edge for edge in reversed(edges)]
    assert len(counts) < 150
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        assert count == ((finite >= low) & (finite < high)).sum()


def test_powers_of_ten_are_edges_and_the_tail_is_told_apart() -> None:
    value = np.concatenate([np.random.default_rng(0).normal(0, 1e-3, 5000), [0.5, -2.0]])
    found = signed_bins(value)
    edges, counts = found["edges"], found["counts"]
    assert {1e-4, 1e-3, 1e-2, 0.1, 1.0, -1.0} <= set(edges)
    assert sum(counts[i] for i, edge in enumerate(edges[:-1]) if edge >= 0.1) == 1
    assert counts[len(counts) // 2] < 0.1 * len(value)


def test_search_knows_neither_case_nor_accents_and_takes_phrases() -> None:
    assert folded("Émile  ZOLA\nß") == "emile zola ss"
    assert terms('Zola "à la  carte" ""') == ["zola", "a la carte"]
    assert terms('"a phrase not clo') == ["a", "phrase", "not", "clo"]
    texts = Texts(["Émile Zola à la carte", "la carte a", "ZOLA"])
    assert texts.matching('zola "A LA carte"').tolist() == [True, False, False]
    assert texts.matching('"').tolist() == [True, True, True]


def test_a_snippet_shows_what_was_searched_for() -> None:
    text = "filler " * 100 + "Needle here. " + "filler " * 100
    assert snippet("short", "x", 10) == "short"
    assert snippet(text, "", 320) == text[:320] + "…"
    for wanted in ("needle", '"needle here"', "filler needle"):
        found = snippet(text, wanted, 320)
        assert len(found) <= 322
        assert "Needle" in found  # the first of the terms that lies beyond the beginning
