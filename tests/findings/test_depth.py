"""Memorised strings and rules in the same words: what is asked is what the notebook says, measures are as defined."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from benchmarks.findings import checkpoint, depth

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def split(item: tuple[str, str]) -> tuple[list[str], list[str]]:
    return item[0].split()[1:4], item[1].split()


def test_held_out_items_are_not_trained_on() -> None:
    items = depth.texts()
    for rule in depth.RULES:
        taught = {prompt for prompt, _ in items[rule]}
        assert len(taught) == depth.PER_RULE
        assert not taught & {prompt for prompt, _ in items[f"held out: {rule}"]}
    assert len({prompt for prompt, _ in items["recall"]}) == depth.MEMORISED


def test_rules_are_followed_and_what_is_memorised_follows_none() -> None:
    items = depth.texts()
    expected = {
        "copy": lambda w: w, "reverse": lambda w: w[::-1], "sort": sorted,
        "next": lambda w: [depth.WORDS[(depth.WORDS.index(one) + 1) % len(depth.WORDS)] for one in w],
    }  # fmt: skip
    for rule, apply in expected.items():
        for item in (*items[rule], *items[f"held out: {rule}"]):
            asked, answer = split(item)
            assert apply(asked) == answer
    by_chance = [apply(asked) == answer for asked, answer in map(split, items["recall"]) for apply in expected.values()]
    assert np.mean(by_chance) < 0.02


def test_words_and_lengths_are_the_same_for_both_kinds() -> None:
    corpus, queries = depth.corpus(), depth.queries(3)
    assert bool(corpus["is_text"].all()) and bool(queries["is_text"].all())
    assert set(corpus["is_target"].sum("token").to_numpy()) == set(queries["is_target"].sum("token").to_numpy()) == {3}
    items = depth.texts()
    assert all(len(set(split(item)[0])) == len(set(split(item)[1])) == 3 for some in items.values() for item in some)


def test_kinds_are_asked_equally_often_and_differ_in_what_was_seen() -> None:
    queries = depth.queries(3)
    kind, prompt = queries["kind"].to_numpy(), queries["prompt"].to_numpy()
    taught = set(depth.corpus()["prompt"].to_numpy().tolist())
    assert {name: int((kind == name).sum()) for name in depth.KINDS} == dict.fromkeys(depth.KINDS, 12)
    assert [bool(p in taught) for p in prompt] == [k != "rule" for k in kind]


def test_contrast_is_one_at_the_ends_and_zero_when_even() -> None:
    mass = xr.DataArray(
        [[0.5, 0, 0, 0, 0, 0, 0, 0.5], [0, 0, 0, 1, 0, 0, 0, 0], [1 / 8] * 8],
        dims=("query", "block"), coords={"block": range(8)},
    )  # fmt: skip
    np.testing.assert_allclose(depth.contrast(mass), [1, -1, 0], atol=1e-12)


@pytest.mark.parametrize("blocks", [2, 3, 4, 5])
def test_contrast_of_few_blocks_keeps_the_first_and_last_as_ends(blocks: int) -> None:
    mass = xr.DataArray(np.eye(blocks), dims=("query", "block"), coords={"block": range(blocks)})
    assert depth.contrast(mass).to_numpy()[[0, -1]].tolist() == [1, 1]


def scores() -> xr.Dataset:
    influence = np.array([[[1.0, 1.0], [5.0, -1.0], [0.0, -3.0]]])
    return xr.Dataset(
        {"influence": (("query", "train", "layer"), influence)},
        coords={"query": ["q"], "train": ["a", "b", "c"], "layer": ["one", "two"], "block": ("layer", [0, 1])},
    )


def test_heaviest_orders_by_the_sum_over_layers() -> None:
    assert depth.heaviest(scores(), 2)["influence"].to_numpy().tolist() == [[[5.0, -1.0], [1.0, 1.0]]]


def test_relative_divides_each_layer_by_its_mean_self_influence() -> None:
    own = xr.Dataset({"influence": (("train", "layer"), [[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]])})
    np.testing.assert_allclose(depth.relative(scores(), own)["influence"], scores()["influence"] / np.array([2.0, 4.0]))


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_checkpoints_are_of_this_recipe_and_know_what_they_are_asked(seed: int) -> None:
    checkpoint.card(depth.RECIPES["layers"], seed)
    known = depth.accuracy(checkpoint.load(depth.RECIPES["layers"], seed), depth.queries(24))
    right = known["is_right"].groupby("kind").mean()
    assert float(right.sel(kind="memorised")) > 0.9
    assert float(right.sel(kind="rule")) > 0.75
    assert ((known["probability"] > 0) & (known["probability"] < 1)).all()
