"""The top list is the sorted scores: ties by position, shares of the whole, every coordinate at its place."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inflab import effect, top, validate
from inflab.errors import SchemaError, SettingError
from inflab.schema import influence_attrs, root_attrs
from tests import tiny

KEY = {"positive": lambda v: v, "negative": lambda v: -v, "absolute": np.abs}
SIGNS = pytest.mark.parametrize("sign", list(KEY))


def scores(values: Any, dims: tuple[str, ...] = ("query", "train"), **coords: Any) -> xr.Dataset:
    value = np.asarray(values, dtype=np.float32)
    attrs = root_attrs(
        "scores", method="EKFAC", settings="{}", model_fingerprint="m", corpus_fingerprint="c", n_train=50, seed=0
    )
    axes = {dim: np.arange(size) for dim, size in zip(dims, value.shape, strict=True)}
    return xr.Dataset({"influence": (dims, value, influence_attrs("made up"))}, coords=axes | coords, attrs=attrs)


VALUES = [[3.0, -1.0, 0.0, 5.0, -4.0], [-1.0, -2.0, -3.0, 0.0, -5.0]]


@given(
    arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 30)), elements=st.integers(-3, 3).map(float)),
    st.integers(1, 30),
    st.sampled_from(list(KEY)),
)
def test_a_top_list_is_what_a_stable_sort_gives(values: np.ndarray, k: int, sign: Any) -> None:
    k = min(k, values.shape[1])
    found = top(scores(values), k, sign=sign)
    for row, value in enumerate(values):
        key = KEY[sign](value)
        expected = sorted(range(len(value)), key=lambda i: (-key[i], i))[:k]
        counted = [i for i in expected if key[i] > 0]
        is_ranked = found["is_ranked"].values[row]
        assert found["train"].values[row].tolist() == expected
        assert is_ranked.tolist() == [key[i] > 0 for i in expected]
        assert found["influence"].values[row][is_ranked].tolist() == value[counted].tolist()
        assert np.isnan(found["influence"].values[row][~is_ranked]).all()
        if counted:
            total = key[key > 0].sum()
            tiny.agree(found["share"].values[row][is_ranked], key[counted] / total, 1e-6)


def test_ties_are_broken_by_position_in_long_rows_too() -> None:
    value = np.random.default_rng(0).integers(0, 4, (1, 5000))
    assert top(scores(value), 7)["train"].values[0].tolist() == np.flatnonzero(value[0] == 3)[:7].tolist()
    assert top(scores(np.ones((1, 5000))), 7)["train"].values[0].tolist() == list(range(7))


@SIGNS
def test_a_rank_that_does_not_exist_is_masked(sign: Any) -> None:
    found = top(scores(VALUES), 5, sign=sign)
    validate(found)
    expected = {"positive": [2, 0], "negative": [2, 4], "absolute": [4, 4]}[sign]
    assert found["is_ranked"].sum("rank").values.tolist() == expected
    for name in ("influence", "effect", "share"):
        assert (found[name].isnull() == ~found["is_ranked"]).all()


@SIGNS
def test_what_is_not_a_number_is_never_ranked(sign: Any) -> None:
    values = np.array(VALUES)
    values[:, 3:] = np.nan
    found = top(scores(values), 5, sign=sign)
    assert not np.isin(found["train"].where(found["is_ranked"], -1), [3, 4]).any()
    whole, without = top(scores(values), 3, sign=sign), top(scores(values).isel(train=[0, 1, 2]), 3, sign=sign)
    for name in ("influence", "share", "is_ranked", "train"):
        assert np.array_equal(whole[name], without[name], equal_nan=name in ("influence", "share")), name


@SIGNS
def test_shares_of_all_ranks_sum_to_one(sign: Any) -> None:
    assert top(scores([[3.0, -1, 2, 5, -4]]), 5, sign=sign)["share"].sum().item() == pytest.approx(1)


def test_a_share_is_of_the_whole_training_set_not_of_the_list() -> None:
    assert top(scores(VALUES), 1)["share"].values[0].tolist() == [5 / 8]
    assert top(scores(VALUES), 1, sign="negative")["share"].values[0].tolist() == [4 / 5]
    assert top(scores(VALUES), 1, sign="absolute")["share"].values[0].tolist() == [5 / 13]


def test_layers_are_summed() -> None:
    value = np.random.default_rng(0).standard_normal((2, 6, 3))
    layers = scores(value, ("query", "train", "layer"), block=("layer", [0, 0, 1]))
    found, expected = top(layers, 4), top(scores(value.sum(2)), 4)
    assert np.array_equal(found["train"], expected["train"])
    assert np.allclose(found["influence"], expected["influence"], rtol=1e-6, equal_nan=True)
    assert not {"layer", "block"} & set(found.coords)


def test_the_order_of_dims_does_not_matter() -> None:
    assert top(scores(VALUES).transpose(), 3).equals(top(scores(VALUES), 3))


def test_every_coordinate_goes_with_its_sequence() -> None:
    given_ = scores(
        VALUES, source=("train", list("abcde")), query_text=("query", ["x", "y"]), note=5, other=("unused", [1, 2])
    ).assign_coords(train=[10, 20, 30, 40, 50])
    found = top(given_, 2)
    assert found["train"].values.tolist() == [[40, 10], [40, 10]]
    assert found["source"].values.tolist() == [["d", "a"], ["d", "a"]]
    assert found["rank"].values.tolist() == [1, 2]
    assert found["query_text"].values.tolist() == ["x", "y"]
    assert found["note"].item() == 5
    assert "other" not in found.coords


def test_an_effect_is_influence_per_training_example() -> None:
    assert np.array_equal(effect(scores(VALUES))["effect"], np.array(VALUES, np.float32) / 50)
    ranked = top(scores(VALUES), 2)
    assert np.array_equal(ranked["effect"], ranked["influence"] / 50, equal_nan=True)
    assert "influence" not in effect(ranked)
    for value in (effect(scores(VALUES))["effect"], ranked["effect"]):
        assert value.attrs["units"] == "nat"
        assert "more likely" in value.attrs["sign"]
    assert ranked["influence"].attrs["units"] == "nat per unit weight"
    assert ranked["share"].attrs["units"] == "1"


def test_an_effect_can_be_validated_like_the_rest() -> None:
    validate(effect(scores(VALUES)))
    validate(effect(top(scores(VALUES), 2)))


def test_nothing_given_is_changed() -> None:
    given_ = scores(VALUES)
    before = given_.copy(deep=True)
    top(given_, 3, sign="absolute")
    effect(given_)
    assert given_.identical(before)


BAD: dict[str, tuple[Any, str]] = {
    "no rank": (lambda: top(scores(VALUES), 0), "k=0 must be a whole number, at least 1"),
    "fewer than none": (lambda: top(scores(VALUES), -3), "k=-3"),
    "more than there are": (lambda: top(scores(VALUES), 6), "k=6 must lie between 1 and the number"),
    "half a rank": (lambda: top(scores(VALUES), 2.5), "k=2.5 must be a whole number"),
    "a text": (lambda: top(scores(VALUES), "3"), "k='3' must be a whole number"),
    "another sign": (lambda: top(scores(VALUES), 1, sign="up"), "sign='up' is not one of 'positive', 'negative'"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "says"), BAD.values(), ids=BAD)
def test_settings_outside_their_domain_are_refused(ask: Any, says: str) -> None:
    with pytest.raises(SettingError, match=re.escape(says)):
        ask()


UNREADABLE: dict[str, tuple[Any, str]] = {
    "an array": (lambda: top(scores(VALUES)["influence"]), "expected an xarray Dataset with `influence`"),
    "a list": (lambda: top(VALUES), "got list"),
    "no influence": (lambda: top(tiny.corpus()), "variable 'influence' is missing"),
    "an effect": (lambda: top(effect(scores(VALUES))), "variable 'influence' is missing; the dataset holds ['effect'"),
    "self-influence": (lambda: top(scores([1.0, 2], ("train",))), "needs ['query'] too"),
    "no n_train": (lambda: effect(scores(VALUES).drop_attrs()), "attribute 'n_train' is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "says"), UNREADABLE.values(), ids=UNREADABLE)
def test_arrays_that_hold_something_else_are_refused(ask: Any, says: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(says)):
        ask()
