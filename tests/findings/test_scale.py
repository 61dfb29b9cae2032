"""The grammar in two vocabularies is what the notebook says, and its measures give known answers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from benchmarks.findings import checkpoint, scale
from inflab.schema import root_attrs


def _words(rows: list, wording: str) -> set[str]:
    return {word for row in rows if row[3] == wording for word in (row[0] + row[1]).split()} - set(scale.NAMES)


def test_vocabularies_share_no_word_and_no_query_is_trained_on() -> None:
    rows = scale.facts()
    every = rows["train"] + rows["held out"]
    plain, learned = (_words(every, wording) for wording in scale.VOCABULARIES)
    assert not plain & learned
    assert len(plain) == len(learned) == 42
    assert len(every) == 2 * len(scale.NAMES) * len(scale.RELATIONS)
    assert not set(scale.queries(10_000)["text"].to_numpy()) & set(scale.corpus()["text"].to_numpy())


def test_a_trade_decides_the_answer() -> None:
    answers: dict[tuple[str, ...], set[str]] = {}
    for _, completion, relation, wording, trade, _ in scale.facts()["train"]:
        answers.setdefault((relation, wording, trade), set()).add(completion)
    assert all(len(found) == 1 for found in answers.values())
    assert len(answers) == 2 * len(scale.RELATIONS) * len(scale.TRADES)


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
@pytest.mark.parametrize("recipe", scale.RECIPES.values(), ids=list(scale.RECIPES))
def test_checkpoints_are_of_todays_recipe(recipe: checkpoint.Recipe, seed: int) -> None:
    checkpoint.card(recipe, seed)


def _scores(influence: xr.DataArray, asked: xr.Dataset) -> xr.Dataset:
    train = scale.corpus()
    coords = {n: train[n] for n in ("text", "relation", "wording", "trade", "person")}
    own = {f"query_{n}": asked[n] for n in ("relation", "wording", "trade", "person")}
    attrs = {**root_attrs("scores"), "n_train": train.sizes["train"]}
    return influence.to_dataset(name="influence").assign_coords(coords | own).assign_attrs(attrs)


@pytest.mark.parametrize("is_apart", [True, False])
def test_share_is_all_or_nothing_when_only_one_kind_helps(is_apart: bool) -> None:
    asked, train = scale.queries(6), scale.corpus()
    mask = (train["relation"] == asked["relation"]) & ((train["wording"] != asked["wording"]) == is_apart)
    mask = mask.transpose("query", "train").drop_vars([n for n in mask.coords if n not in ("query", "train")])
    found = scale.share(_scores(xr.where(mask, 1.0, -1.0), asked), asked)
    assert np.allclose(found["share"], float(is_apart))
    if is_apart:
        assert np.allclose(found["chance"], mask.mean("train"))
    assert (found["meaning"] > 0.9).all() if is_apart else np.allclose(found["meaning"], 0.5)
    assert np.allclose(found["tied"], 0.5)  # all influences are of one size


def test_slope_of_a_line_is_found_and_its_interval_is_around_it() -> None:
    parameters = [1e3, 1e4, 1e5, 1e6]
    noise = np.random.default_rng(0).normal(scale=0.1, size=(4, 3, 200))
    value = 0.2 * np.arange(4)[:, None, None] + noise
    measured, low, high = scale.slope(value, parameters)
    assert low < 0.2 < high
    assert measured == pytest.approx(0.2, abs=0.02)
    assert scale.slope(value, parameters, over=2 * np.ones_like(value))[0] == pytest.approx(measured / 2)


def test_above_counts_pairs_and_leaves_the_rest_out() -> None:
    value = xr.DataArray([[3.0, 1.0, 2.0, 99.0]], dims=("query", "train"))
    is_first = xr.DataArray([[True, False, False, False]], dims=("query", "train"))
    is_either = xr.DataArray([[True, True, True, False]], dims=("query", "train"))
    assert scale.above(value, is_first, is_either).item() == 1.0
    assert scale.above(-value, is_first, is_either).item() == 0.0
    assert scale.above(0 * value, is_first, is_either).item() == 0.5
