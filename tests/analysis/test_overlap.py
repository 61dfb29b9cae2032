"""Overlap counts words as a loop does, and what a random list would have is the mean over all sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from inflab import analysis, top, validate
from inflab.errors import CorpusError, NumericsError, SchemaError, SettingError
from inflab.wording import words
from tests.analysis import made

RNG = np.random.default_rng(0)
POOL = made.text(["The", "fox", "fuchs", "river", "Zorald", "of", "co-op", "was", "42"])
TEXTS = [" ".join(RNG.choice(POOL, 5)) + "." for _ in range(30)]
ASKED = ["The fox was ZORALD, the fox", "river of"]
SCORES = made.scores(RNG.standard_normal((2, 30)), text=("train", TEXTS))
VECTORS = (RNG.standard_normal((2, 4)), RNG.standard_normal((30, 4)))


def _queries(texts: list[str] = ASKED) -> xr.Dataset:
    ids = made.text(f"q{i}" for i in range(len(texts)))
    return xr.Dataset(coords={"query": ids, "text": ("query", made.text(texts))})


@pytest.mark.parametrize("stop", [(), ("The", "of")])
def test_overlap_is_that_of_a_loop(stop: tuple[str, ...]) -> None:
    found = analysis.overlap(SCORES, _queries(), 5, embeddings=VECTORS, stop=stop)
    validate(found)
    best = top(SCORES, 5)
    np.testing.assert_array_equal(found["train"], best["train"])
    for q, asked in enumerate(ASKED):
        own = set(words(asked)) - {word.casefold() for word in stop}
        share_t = np.array([len(own & set(words(text))) / len(own) for text in TEXTS])
        cosine_t = np.array([
            v @ VECTORS[0][q] / np.linalg.norm(v) / np.linalg.norm(VECTORS[0][q]) for v in VECTORS[1]
        ])  # fmt: skip
        place = [int(train[1:]) for train in best["train"].to_numpy()[q]]
        np.testing.assert_allclose(found["lexical"][q], share_t[place])
        np.testing.assert_allclose(found["shared"][q], share_t[place] * len(own))
        np.testing.assert_allclose(found["semantic"][q], cosine_t[place])
        assert float(found["lexical_expected"][q]) == pytest.approx(share_t.mean())
        assert float(found["semantic_expected"][q]) == pytest.approx(cosine_t.mean())
        assert int(found["words"][q]) == len(own)


def test_a_random_list_has_what_is_expected() -> None:
    value = np.random.default_rng(1).random((200, 30))
    scores = made.scores(value, text=("train", TEXTS))
    found = analysis.overlap(scores, _queries([ASKED[0]] * 200), 5)
    error = float(found["lexical"].mean("rank").std("query")) / np.sqrt(200)
    assert float(found["lexical"].mean()) == pytest.approx(float(found["lexical_expected"][0]), abs=4 * error)


@given(seed=st.integers(0, 1000))
def test_order_of_training_and_queries_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order_t, order_q = rng.permutation(30), rng.permutation(2)
    mixed = SCORES.isel(train=order_t, query=order_q)
    one = analysis.overlap(SCORES, _queries(), 4, embeddings=VECTORS)
    two = analysis.overlap(mixed, _queries(), 4, embeddings=(VECTORS[0], VECTORS[1][order_t]))
    tagged = (
        xr.DataArray(VECTORS[0], dims=("query", "d"), coords={"query": SCORES["query"]}),
        xr.DataArray(VECTORS[1], dims=("train", "d"), coords={"train": SCORES["train"]}),
    )
    three = analysis.overlap(mixed, _queries(), 4, embeddings=tagged)
    xr.testing.assert_allclose(two, one.isel(query=order_q))
    xr.testing.assert_allclose(three, one.isel(query=order_q))


def test_ranks_and_words_that_are_not_there_have_no_overlap() -> None:
    scores = made.scores([[1.0, -1.0, -1.0]] * 2, text=("train", TEXTS[:3]))
    found = analysis.overlap(scores, _queries(["fox", "12 13"]), 2)
    assert found["lexical"].isnull().to_numpy().tolist() == [[False, True], [True, True]]
    assert found["shared"].to_numpy()[:, 1].tolist() == [0, 0]
    assert found["words"].to_numpy().tolist() == [1, 0]
    assert found["lexical_expected"].isnull().to_numpy().tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: analysis.overlap(SCORES, _queries(), 31), SettingError, "k=31"),
        (lambda: analysis.overlap(SCORES.drop_vars("text"), _queries(), 3), SchemaError, r"'text \(train\)' of scores"),
        (
            lambda: analysis.overlap(SCORES, _queries().drop_vars("text"), 3),
            SchemaError,
            r"'text \(query\)' of queries",
        ),
        (lambda: analysis.overlap(SCORES, _queries(["a"]), 3), CorpusError, "queries has no query 'q1'"),
        (lambda: analysis.overlap(SCORES, _queries(), 3, stop="the"), SettingError, "stop='the'"),
        (lambda: analysis.overlap(SCORES, _queries(), 3, embeddings=VECTORS[0]), SettingError, "no pair"),
        (
            lambda: analysis.overlap(SCORES, _queries(), 3, embeddings=VECTORS[::-1]),
            CorpusError,
            r"query have shape \(30, 4\)",
        ),
        (
            lambda: analysis.overlap(SCORES, _queries(), 3, embeddings=(VECTORS[0][:, :2], VECTORS[1])),
            CorpusError,
            "2 columns",
        ),
        (
            lambda: analysis.overlap(SCORES, _queries(), 3, embeddings=(VECTORS[0], VECTORS[1] * 0)),
            NumericsError,
            "train 't0' is zero",
        ),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
