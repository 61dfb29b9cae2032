"""Effects in nats and percent: copies scale them, groups sum them, what is no nat per unit weight has none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from inflab import effect, removal, top
from inflab.errors import CorpusError, SchemaError, SettingError
from inflab.schema import influence_attrs, root_attrs, variable_attrs
from tests import tiny

VALUES = np.array([[30.0, -10.0, 0.0, 50.0, -40.0], [-1.0, -2.0, -3.0, 0.0, -5.0]])
IDS = ["a", "b", "c", "d", "e"]


def scores(values: Any = VALUES, dims: tuple[str, ...] = ("query", "train"), **attrs: Any) -> xr.Dataset:
    value = np.asarray(values, dtype=np.float64)
    own = {"method": "EKFAC", "settings": "{}", "model_fingerprint": "m", "corpus_fingerprint": "c", "seed": 0}
    coords: dict[str, Any] = {dim: np.arange(size) for dim, size in zip(dims, value.shape, strict=True)}
    coords |= {"train": IDS[: value.shape[dims.index("train")]]} if "train" in dims else {}
    root = root_attrs("scores", **{**own, "n_train": 50, **attrs})
    return xr.Dataset({"influence": (dims, value, influence_attrs("made up"))}, coords=coords, attrs=root)


def similarities() -> xr.Dataset:
    attrs = variable_attrs("BM25", "1", "a similarity", sign="positive: alike")
    found = scores(method="BM25")
    return found.assign(influence=found["influence"].drop_attrs().assign_attrs(attrs))


def measured(groups: list[Any], queries: list[int], change: Any, **more: Any) -> xr.Dataset:
    change = np.asarray(change, dtype=np.float64)
    values = {"change": (("group", "query"), change), "change_se": (("group", "query"), np.abs(change) / 10)}
    return xr.Dataset(values | more, coords={"group": groups, "query": queries})


@pytest.mark.parametrize("copies", [1, 3, -1, 0.5, -2])
def test_copies_scale_an_effect_and_say_so(copies: float) -> None:
    found = effect(scores(), copies=copies)
    tiny.agree(found["effect"], copies * VALUES / 50, 1e-15)
    tiny.agree(found["percent"], 100 * (np.exp(copies * VALUES / 50) - 1), 1e-14)
    assert found["effect"].attrs["units"] == "nat"
    assert found["percent"].attrs["units"] == "%"
    for name in ("effect", "percent"):
        assert found[name].attrs["copies"] == copies
        said = {True: "an added copy makes", False: "leaving it out makes" if copies < 0 else "adding them makes"}
        assert said[copies == 1] in found[name].attrs["sign"]
    described = found["effect"].attrs["description"]
    assert ("per added copy" if copies == 1 else f"{abs(copies)} copies") in described
    assert ("removed" in described) is (copies < 0)


def test_halving_and_doubling_are_minus_50_and_100_percent() -> None:
    value = effect(scores(50 * np.log([[2.0, 0.5]])))["percent"]
    assert value.values == pytest.approx(np.array([[100, -50]]))


def test_a_change_beyond_all_numbers_is_infinite_without_a_warning() -> None:
    found = effect(scores(np.array([[1e6, -1e6]], np.float32)))["percent"]
    assert found.values.tolist() == [[np.inf, -100]]


@pytest.mark.parametrize("dim", ["layer", "token", "query_token"])
def test_parts_have_no_percent_but_their_sums_do(dim: str) -> None:
    parts = scores(VALUES[..., None] * [0.25, 0.75], ("query", "train", dim))
    assert "percent" not in effect(parts)
    whole = effect(parts.sum(dim, keep_attrs=True))
    tiny.agree(whole["percent"], effect(scores())["percent"], 1e-12)


@pytest.mark.parametrize(
    ("measurement", "unit", "called"),
    [("margin", "nat", "margin"), ("output", "unit of the output", "output"), ("custom", "unit of the", "measurement")],
)
def test_only_a_log_probability_has_percent(measurement: str, unit: str, called: str) -> None:
    for found in (effect(scores(measurement=measurement)), removal(scores(measurement=measurement), [["a"]])):
        assert "percent" not in found
        assert found["effect"].attrs["units"].startswith(unit)
        assert f"query's {called}" in found["effect"].attrs["description"]
    assert "percent" in effect(scores(measurement="log_probability"))


def test_a_top_list_becomes_removals_and_keeps_its_gaps() -> None:
    ranked = top(scores(), 4)
    found = effect(ranked, copies=-1)
    tiny.agree(found["effect"].values[0, :2], [-1.0, -0.6], 1e-15)
    assert (found["percent"].isnull() == ~ranked["is_ranked"]).all()


def test_lazy_scores_stay_lazy() -> None:
    dask = pytest.importorskip("dask.array")
    lazy = effect(scores().chunk(query=1), copies=-1)
    assert all(isinstance(lazy[name].data, dask.Array) for name in ("effect", "percent"))
    xr.testing.assert_allclose(lazy.compute(), effect(scores(), copies=-1))


def test_similarities_rank_but_predict_nothing() -> None:
    found = top(similarities(), 2)
    assert found["train"].values[0].tolist() == ["d", "a"]
    assert "effect" not in found
    assert found["influence"].attrs["units"] == "1"
    assert found["influence"].attrs["sign"] == "positive: alike"
    for ask in (lambda: effect(similarities()), lambda: effect(found), lambda: removal(similarities(), [["a"]])):
        with pytest.raises(SchemaError, match=re.escape("'influence' of BM25 is a similarity (units '1')")):
            ask()


def test_another_scale_predicts_nothing_either() -> None:
    other = scores(method="TracIn")
    other["influence"].attrs["units"] = "nat"
    with pytest.raises(SchemaError, match="TracIn has units 'nat', and predicts no change"):
        effect(other)
    assert "effect" not in top(other, 2)


def as_array(members: list[list[str]], order: list[str]) -> xr.DataArray:
    value = np.array([[label in group for label in order] for group in members])
    return xr.DataArray(value, dims=("group", "train"), coords={"train": order})


GROUPS = [["a", "e"], ["d"], []]
SHAPES: dict[str, Any] = {
    "lists": GROUPS,
    "names": {0: ["e", "a"], 1: ("d",), 2: []},
    "an array": as_array(GROUPS, IDS),
    "in another order": as_array(GROUPS, IDS[::-1]).transpose("train", "group"),
    "of some sequences": as_array(GROUPS, ["e", "d", "a"]),
    "without ids": as_array(GROUPS, IDS).drop_vars("train"),
}


@pytest.mark.parametrize("groups", SHAPES.values(), ids=SHAPES)
def test_a_group_loses_what_its_members_gave(groups: Any) -> None:
    found = removal(scores(), groups)
    expected = -np.array([[30 - 40, 50, 0], [-1 - 5, 0, 0]]) / 50
    tiny.agree(found["effect"].transpose("query", "group"), expected, 1e-15)
    tiny.agree(found["percent"], 100 * np.expm1(expected), 1e-14)
    assert found["size"].values.tolist() == [2, 1, 0]
    assert found["group"].values.tolist() == [0, 1, 2]
    assert "leaving it out" in found["effect"].attrs["sign"]


def test_one_sequence_left_out_is_one_copy_removed() -> None:
    found = removal(scores(), [[label] for label in IDS])
    alone = effect(scores(), copies=-1)
    for name in ("effect", "percent"):
        tiny.agree(found[name], alone[name], 1e-15)


def test_layers_are_summed_and_what_was_not_scored_is_not_known() -> None:
    layers = scores(VALUES[..., None] * [0.25, 0.75], ("query", "train", "layer"))
    tiny.agree(removal(layers, GROUPS)["effect"], removal(scores(), GROUPS)["effect"], 1e-12)
    some = removal(scores(np.where(VALUES == 30, np.nan, VALUES)), GROUPS)["effect"]
    assert np.isnan(some.values).tolist() == [[True, False, False], [False, False, False]]


def test_what_was_measured_stands_beside_by_label() -> None:
    change = np.array([[0.1, -0.2], [-0.7, 0.3]])  # group y, x; query 1, 0
    asked = measured(["y", "x", "more"], [1, 0], np.vstack([change, [[9, 9]]]))
    found = removal(scores(), {"x": ["a"], "y": ["d"]}, measured=asked)
    assert found["measured"].sel(query=0, group="x").item() == 0.3
    assert found["measured"].sel(query=1, group="y").item() == 0.1
    tiny.agree(found["measured_se"], np.abs(found["measured"]) / 10, 1e-15)
    tiny.agree(found["measured_percent"], 100 * np.expm1(found["measured"]), 1e-14)
    assert found["measured"].attrs["units"] == found["measured_se"].attrs["units"] == "nat"
    assert "measured" in found["measured_percent"].attrs["long_name"]


def test_groups_of_what_was_measured_must_be_the_same() -> None:
    left_out = as_array([["a"], ["d"]], IDS)
    asked = measured([0, 1], [0, 1], np.ones((2, 2)), is_left_out=left_out)
    assert "measured" in removal(scores(), asked["is_left_out"], measured=asked)
    with pytest.raises(CorpusError, match="other sequences out of group 1"):
        removal(scores(), [["a"], ["e"]], measured=asked)


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "copies as text": (lambda: effect(scores(), copies="2"), SettingError, "copies='2' must be a finite number"),  # type: ignore[arg-type]
    "endless copies": (lambda: effect(scores(), copies=np.inf), SettingError, "copies=inf"),
    "a flat list": (lambda: removal(scores(), ["a", "b"]), SettingError, "groups is one flat list"),
    "a number": (lambda: removal(scores(), 3), SettingError, "groups is a int"),  # type: ignore[arg-type]
    "numbers for bools": (lambda: removal(scores(), as_array(GROUPS, IDS).astype(int)), SettingError, "needs bool"),
    "too few columns": (
        lambda: removal(scores(), as_array(GROUPS, IDS[:3]).drop_vars("train")), SettingError, "has 3 sequences"
    ),
    "a member twice": (lambda: removal(scores(), [["a", "a"]]), SettingError, "group 0 has a member twice"),
    "a stranger": (lambda: removal(scores(), {"g": ["a", "zz"]}), CorpusError, "group 'g' names train 'zz'"),
    "nothing measured": (lambda: removal(scores(), [["a"]], measured=scores()), SchemaError, "has no variable 'change"),
    "a group unmeasured": (
        lambda: removal(scores(), [["a"], ["b"]], measured=measured([0], [0, 1], [[1, 1]])), CorpusError, "no group 1"
    ),
    "a query unmeasured": (
        lambda: removal(scores(), [["a"]], measured=measured([0], [1], [[1]])), CorpusError, "no query 0"
    ),
    "self-influence": (lambda: removal(scores([1.0], ("train",)), [["a"]]), SchemaError, "needs ['query'] too"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "error", "says"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused(ask: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        ask()
