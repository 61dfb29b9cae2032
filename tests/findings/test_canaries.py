"""Planted quotes: what stands in the corpus, and a precision that is known."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from benchmarks.findings import canaries, checkpoint

CORPUS = canaries.corpus()
PLANTED = canaries.canaries()


def test_each_quote_is_planted_as_often_as_said_and_in_other_surroundings() -> None:
    count = Counter(zip(CORPUS["kind"].to_numpy(), CORPUS["canary"].to_numpy(), strict=True))
    for number, (begin, rest, copies, others) in enumerate(PLANTED):
        own = [text for text in CORPUS["text"].to_numpy() if begin + rest in text]
        assert len(own) == len(set(own)) == copies == len(others) == count["copy", number]
    plain = PLANTED[: -canaries.CROWDED]
    assert Counter(copies for _, _, copies, _ in plain) == dict.fromkeys(canaries.COPIES, canaries.PER_COUNT)
    assert len({begin for begin, *_ in PLANTED}) == len(PLANTED)


def test_decoys_hold_the_same_words_and_keep_no_two_neighbours() -> None:
    for begin, rest, _, others in PLANTED[: -canaries.CROWDED]:
        words = (begin + rest).split()
        for other in others:
            assert Counter(other.split()) == Counter(words)
            assert not set(pairwise(other.split())) & set(pairwise(words))


def test_near_misses_hold_the_same_words_and_begin_otherwise() -> None:
    for begin, rest, _, others in PLANTED[-canaries.CROWDED :]:
        assert len(set(others)) == len(others)
        for other in others:
            assert Counter(other.split()) == Counter((begin + rest).split())
            assert not other.startswith(begin)


def test_no_quote_begins_in_a_verse_and_unread_verses_are_not_in_the_corpus() -> None:
    read, _ = canaries.verses(True)
    assert not any(begin in text for begin, *_ in PLANTED for text in read)
    texts = set(CORPUS["text"].to_numpy())
    assert set(canaries.queries("read")["text"].to_numpy()) <= texts
    assert not set(canaries.queries("unread")["text"].to_numpy()) & texts


@pytest.mark.parametrize("kind", ["canary", "read", "unread"])
def test_queries_give_three_words(kind: str) -> None:
    asked = canaries.queries(kind, limit=8)
    assert {len(text.split()) for text in asked["prompt"].to_numpy()} == {3}
    assert set(asked["kind"].to_numpy()) == {kind}
    if kind == "canary":
        assert set(asked["copies"].to_numpy()) == set(canaries.COPIES)
        assert {"decoy", "near miss"} == set(asked["beside"].to_numpy())


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'canary', 'read' or 'unread'"):
        canaries.queries("sung")


def scores(value: list[float], copies: int = 2) -> xr.Dataset:
    return xr.Dataset(
        {"influence": (("query", "train"), np.array([value]))},
        coords={
            "query": ["canary 3"], "train": list("abcd"), "kind": ("train", ["copy", "copy", "decoy", "verse"]),
            "canary": ("train", [3, 3, 3, -1]), "query_canary": ("query", [3]), "query_copies": ("query", [copies]),
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "copy", "decoy"),
    [([4, 3, 2, 1], 1, 0), ([4, 1, 3, 2], 0.5, 0.5), ([1, 2, 4, 3], 0, 0.5), ([1, 1, 1, 1], 0.5, 0.25),
     ([4, 2, 2, 1], 0.75, 0.25)],
)  # fmt: skip
def test_precision_of_lists_that_are_known(value: list[float], copy: float, decoy: float) -> None:
    assert float(canaries.precision(scores(value))[0]) == copy
    assert float(canaries.precision(scores(value), kind="decoy")[0]) == decoy


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_checkpoints_are_of_this_recipe_and_know_quotes_but_not_for_certain(seed: int) -> None:
    model = checkpoint.load(canaries.RECIPES["canaries"], seed)
    asked = canaries.queries("canary")
    known = canaries.is_verbatim(model, asked)
    share = [float(known[asked["copies"] == copies].mean()) for copies in canaries.COPIES]
    assert share[0] <= share[1] <= share[2] <= share[3] and share[0] < 0.5 < share[3]
    assert checkpoint.card(canaries.RECIPES["canaries"], seed)["loss"] > 1
