"""Depth is the centre of mass over blocks, whatever the scale, the order and the layers within a block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import inflab
from inflab import analysis, effect, top, validate
from inflab.errors import NumericsError, SchemaError, SettingError
from tests.analysis import made

RNG = np.random.default_rng(0)
BLOCKS = [0, 0, 1, 1, 2, 2, 3, 3]
SCORES = made.layered(RNG.standard_t(3, (3, 20, 8)), BLOCKS, query_kind=("query", ["a", "b", "a"]))


@pytest.mark.parametrize("block", range(4))
def test_all_mass_in_one_block_lies_at_its_place(block: int) -> None:
    value = np.zeros((1, 5, 8))
    value[..., 2 * block] = RNG.standard_normal((1, 5))
    found = analysis.depth(made.layered(value, BLOCKS))
    assert float(found["depth"][0]) == pytest.approx(block / 3)
    np.testing.assert_allclose(found["mass"][0], np.eye(4)[block])


def test_mass_is_that_of_a_loop() -> None:
    found = analysis.depth(SCORES)
    validate(found)
    for q in range(3):
        by_block = SCORES["influence"].to_numpy()[q].reshape(20, 4, 2).sum(-1)
        for sign, part in (("absolute", np.abs(by_block)), ("positive", np.maximum(by_block, 0)),
                           ("negative", np.maximum(-by_block, 0))):  # fmt: skip
            mine = analysis.depth(SCORES, sign=sign)  # type: ignore[arg-type]
            mass = part.sum(0) / part.sum()
            np.testing.assert_allclose(mine["mass"][q], mass)
            assert float(mine["depth"][q]) == pytest.approx((mass * [0, 1 / 3, 2 / 3, 1]).sum())
    assert found["query_kind"].to_numpy().tolist() == ["a", "b", "a"]


@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 100))
def test_scale_and_order_change_nothing(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixed = SCORES.isel(train=rng.permutation(20), layer=rng.permutation(8), query=rng.permutation(3))
    mixed = mixed.assign(influence=mixed["influence"] * scale)
    expected = analysis.depth(SCORES).sel(query=mixed["query"])
    found = analysis.depth(mixed)
    xr.testing.assert_allclose(found[["mass", "depth"]], expected[["mass", "depth"]])


def test_evenly_spread_is_in_the_middle_and_effects_do_as_well() -> None:
    assert float(analysis.depth(made.layered(np.ones((1, 3, 8)), BLOCKS))["depth"][0]) == pytest.approx(0.5)
    xr.testing.assert_allclose(analysis.depth(effect(SCORES))["depth"], analysis.depth(SCORES)["depth"])


def test_blocks_that_are_not_covered_keep_their_place() -> None:
    found = analysis.depth(made.layered([[[1.0, 1.0, 1.0]]], [2, 3, 6]))
    assert float(found["depth"][0]) == pytest.approx((0 + 0.25 + 1) / 3)
    assert found["block"].to_numpy().tolist() == [2, 3, 6]


def test_tokens_of_a_list_are_summed_and_pairs_that_are_not_there_left_out() -> None:
    value = RNG.standard_normal((2, 3, 8))
    split = RNG.dirichlet(np.ones(4), size=value.shape)
    ranked = made.layered(value, BLOCKS).rename(train="rank").isel(rank=slice(3))
    by_token = ranked.assign(influence=(("query", "rank", "layer", "token"), value[..., None] * split))
    xr.testing.assert_allclose(analysis.depth(by_token)["mass"], analysis.depth(ranked)["mass"])
    holed = ranked.assign(influence=ranked["influence"].where(ranked["rank"] != "t2"))
    xr.testing.assert_allclose(analysis.depth(holed)["mass"], analysis.depth(ranked.isel(rank=slice(2)))["mass"])


def test_scores_opened_lazily_from_a_store(tmp_path: Any) -> None:
    inflab.save(SCORES, tmp_path / "scores")
    lazy = inflab.load(tmp_path / "scores")
    assert lazy["influence"].chunks is not None or not lazy["influence"].variable._in_memory
    xr.testing.assert_equal(analysis.depth(lazy), analysis.depth(SCORES))
    xr.testing.assert_equal(analysis.correlation(lazy), analysis.correlation(SCORES))


def test_a_query_without_that_part_has_no_depth() -> None:
    found = analysis.depth(made.layered(-np.ones((1, 2, 8)), BLOCKS), sign="positive")
    assert found["depth"].isnull().all() and found["mass"].isnull().all()
    validate(found)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: analysis.depth(SCORES, sign="both"), SettingError, "sign='both'"),  # type: ignore[arg-type]
        (lambda: analysis.depth(made.scores(np.ones((1, 3)))), SchemaError, "layer"),
        (lambda: analysis.depth(top(SCORES, 3)), SchemaError, "layer"),
        (lambda: analysis.depth(SCORES.drop_vars("block")), SchemaError, r"score\(by='layer'\)"),
        (lambda: analysis.depth(SCORES["influence"]), SchemaError, "DataArray"),
        (lambda: analysis.depth(made.layered(np.ones((1, 2, 2)), [-1, 0])), SettingError, "'h.-1.mlp.0' lies outside"),
        (lambda: analysis.depth(made.layered(np.ones((1, 2, 2)), [1, 1])), SettingError, "cover 1 block"),
        (lambda: analysis.depth(made.layered(np.full((1, 2, 2), np.inf), [0, 1])), NumericsError, "'q0' hold infinity"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
