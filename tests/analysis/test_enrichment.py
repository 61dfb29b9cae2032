"""Enrichment is the hypergeometric test by hand, and chance alone enriches nothing."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inflab import analysis, top, validate
from inflab.errors import CorpusError, SchemaError, SettingError
from tests.analysis import made

RNG = np.random.default_rng(0)
WHO = [str(one) for one in RNG.choice(["pirate", "clerk", "poet"], 60, p=[0.2, 0.3, 0.5])]
SCORES = made.scores(RNG.standard_normal((3, 60)), who=("train", WHO), query_who=("query", ["pirate", "clerk", "poet"]))
BEST = top(SCORES, 12)


@pytest.mark.parametrize("value", [None, "clerk"])
def test_the_hypergeometric_test_by_hand(value: str | None) -> None:
    found = analysis.enrichment(BEST, along="who", train=SCORES, value=value)
    validate(found)
    for q, own in enumerate(["pirate", "clerk", "poet"]):
        kind = value or own
        x = int((BEST["who"].to_numpy()[q] == kind).sum())
        k, n, total = WHO.count(kind), 12, 60
        p = sum(comb(k, i) * comb(total - k, n - i) for i in range(x, min(k, n) + 1)) / comb(total, n)
        mine = found.isel(query=q)
        assert float(mine["p"]) == pytest.approx(p)
        assert float(mine["p"]) == pytest.approx(stats.hypergeom.sf(x - 1, total, k, n))
        assert float(mine["odds_ratio"]) == pytest.approx(x * (total - k - n + x) / ((n - x) * (k - x)))
        assert (float(mine["share"]), float(mine["expected"])) == pytest.approx((x / 12, k / 60))
        assert (int(mine["count"]), int(mine["count_train"]), int(mine["listed"])) == (x, k, 12)


def test_corpus_scores_and_values_say_the_same() -> None:
    corpus = xr.Dataset(coords={"train": SCORES["train"], "who": SCORES["who"]})
    found = [analysis.enrichment(BEST, along="who", train=train) for train in (SCORES, corpus, WHO, SCORES["who"])]
    for one in found[1:]:
        xr.testing.assert_equal(one, found[0])


def test_a_coordinate_called_kind_is_found_beside_the_layers_own() -> None:
    """Scores by layer call it `train_kind`, since layers have a kind of their own."""
    kinds = {"train_kind": ("train", WHO), "query_kind": ("query", ["pirate", "clerk", "poet"])}
    by_layer = made.layered(SCORES["influence"].to_numpy()[..., None] * [0.5, 0.5], [0, 1], **kinds)
    by_layer = by_layer.assign_coords(kind=("layer", made.text(["Linear", "Linear"])))
    found = analysis.enrichment(top(by_layer, 12), along="kind", train=by_layer)
    expected = analysis.enrichment(BEST, along="who", train=SCORES)
    np.testing.assert_array_equal(found["p"], expected["p"])


@given(seed=st.integers(0, 1000))
def test_order_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order_q = rng.permutation(3)
    mixed = SCORES.isel(train=rng.permutation(60), query=order_q)
    one = analysis.enrichment(BEST, along="who", train=SCORES)
    two = analysis.enrichment(top(mixed, 12), along="who", train=mixed)
    xr.testing.assert_allclose(two, one.isel(query=order_q))


def test_chance_is_rarely_significant_and_a_planted_kind_always() -> None:
    rng = np.random.default_rng(2)
    label = ["a"] * 40 + ["b"] * 60
    chance = made.scores(rng.standard_normal((400, 100)), who=("train", label))
    found = analysis.enrichment(top(chance, 20), along="who", train=chance, value="a")
    assert float((found["p"] <= 0.05).mean()) < 0.08
    assert float(found["share"].mean()) == pytest.approx(0.4, abs=0.03)
    planted = made.scores(np.r_[np.ones(10) + 1, np.arange(90) / 90][None], who=("train", ["a"] * 10 + ["b"] * 90))
    found = analysis.enrichment(top(planted, 10), along="who", train=planted, value="a")
    assert float(found["p"][0]) == pytest.approx(1 / comb(100, 10))
    assert np.isinf(float(found["odds_ratio"][0]))


def test_dropped_ranks_do_not_count() -> None:
    kept = BEST["is_ranked"].copy()
    kept[:, 6:] = False
    found = analysis.enrichment(BEST.assign(is_ranked=kept), along="who", train=SCORES)
    xr.testing.assert_equal(found, analysis.enrichment(top(SCORES, 6), along="who", train=SCORES))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: analysis.enrichment(BEST, along="who"), SettingError, "train=None: .* give train=scores"),
        (lambda: analysis.enrichment(BEST, along="tone", train=SCORES), SchemaError, "'tone' over .*'who'"),
        (lambda: analysis.enrichment(SCORES, along="who", train=SCORES), SchemaError, "is_ranked"),
        (
            lambda: analysis.enrichment(BEST.drop_vars("query_who"), along="who", train=SCORES),
            SchemaError,
            "'who' over .'query'",
        ),
        (
            lambda: analysis.enrichment(BEST, along="who", train=SCORES.drop_vars("who")),
            SchemaError,
            "'who' over .'train'",
        ),
        (
            lambda: analysis.enrichment(BEST, along="who", train=SCORES, value="king"),
            SettingError,
            "value='king' .*'clerk'",
        ),
        (
            lambda: analysis.enrichment(BEST, along="who", train=["pirate", "clerk", "poet"]),
            CorpusError,
            "the corpus 1 of 3",
        ),
        (
            lambda: analysis.enrichment(BEST.assign(is_ranked=BEST["is_ranked"] & False), along="who", train=SCORES),
            CorpusError,
            "'q0' is empty",
        ),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
