"""Distinctive words: Monroe, Colaresi & Quinn 2008 by hand; a planted word is found, chance is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from inflab.errors import SchemaError
from inflab.schema import influence_attrs, root_attrs, validate
from inflab.wording import distinctive_words, log_odds, words


def _scores(texts: list[str], value: np.ndarray) -> xr.Dataset:
    own = {"method": "EKFAC", "settings": "{}", "model_fingerprint": "0", "corpus_fingerprint": "1", "seed": 0}
    return xr.Dataset(
        {"influence": (("query", "train"), np.atleast_2d(value), influence_attrs("invented"))},
        coords={"query": np.arange(len(np.atleast_2d(value))), "train": np.arange(len(texts)),
                "text": ("train", np.array(texts, dtype=object))},
        attrs=root_attrs("scores", n_train=len(texts), **own),
    )  # fmt: skip


def test_log_odds_are_those_of_the_paper() -> None:
    # 6 of 20 words here, 3 of 80 there; prior 2 of 10.
    delta, z = log_odds(np.array([6.0]), 20, np.array([3.0]), 80, np.array([2.0]), 10)
    expected = math.log(8 / (20 + 10 - 8)) - math.log(5 / (80 + 10 - 5))
    assert delta[0] == pytest.approx(expected, rel=1e-12)
    assert z[0] == pytest.approx(expected / math.sqrt(1 / 8 + 1 / 5), rel=1e-12)


def test_a_planted_word_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    common = [f"word{chr(97 + i)}" for i in range(20)]
    texts = [" ".join(rng.choice(common, 12)) for _ in range(400)]
    value = rng.standard_normal(400)
    best = np.argsort(-value)[:50]
    for place in best:
        texts[place] += " zorald"
    found = distinctive_words(_scores(texts, value), k=50, n=3)
    assert found["word"].isel(query=0, rank=0).item() == "zorald"
    assert float(found["z"].isel(query=0, rank=0)) > 5
    assert np.nanmax(np.abs(found["z"].isel(query=0, rank=[1, 2]))) < 4
    validate(found)


def test_words_of_any_script() -> None:
    assert list(words("L'état, c'est moi – 42 Жизнь! naïve co-op")) == [
        "l'état", "c'est", "moi", "жизнь", "naïve", "co-op"
    ]  # fmt: skip


def test_a_corpus_without_texts_is_refused() -> None:
    with pytest.raises(SchemaError, match="text"):
        distinctive_words(_scores(["a", "b"], np.ones(2)).drop_vars("text"))
