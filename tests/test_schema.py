"""Every array that is made follows the schema, and `validate` names every breach with its path."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import xarray as xr

import inflab
from inflab import KFAC, Diagonal, Identity, adapters, effect, top, validate
from inflab.errors import SchemaError
from inflab.schema import DIMS, SCHEMA_VERSION
from tests import tiny

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def _attribute(**settings: Any) -> xr.Dataset:
    found: xr.Dataset = tiny.fitted().attribute(tiny.queries(), top(tiny.scored(), 2), progress=False, **settings)
    return found


def _factors(method: Any = None) -> xr.DataTree:
    fitted = tiny.fitted() if method is None else tiny.fit(tiny.language_problem(), method)
    root = xr.Dataset(attrs=fitted.attrs)
    return xr.DataTree.from_dict({"/": root, "/factors": fitted.factors})


MADE: dict[str, Callable[[], xr.Dataset | xr.DataTree]] = {
    "texts": tiny.corpus,
    "texts with an int, a bool and a date": lambda: tiny.corpus(
        n=range(6), is_web=[True, False] * 3, day=np.arange("2020-01-01", "2020-01-07", dtype="M8[D]").astype("M8[ns]")
    ),
    "queries": lambda: tiny.queries(ids=["a", "b"]),
    "a table": tiny.table,
    "images": lambda: adapters.from_arrays(np.zeros((2, 1, 3, 3)), [0, 1]),
    "scores": tiny.scored,
    "scores by layer": lambda: tiny.fitted().score(tiny.queries(), by="layer", progress=False),
    "scores of a low rank": lambda: tiny.fitted().score(tiny.queries(), rank=2, progress=False),
    "self-influence": lambda: tiny.fitted().self_influence(progress=False),
    "self-influence by layer": lambda: tiny.fitted().self_influence(by="layer", progress=False),
    "effects": lambda: effect(tiny.scored()),
    "top": lambda: top(tiny.scored(), 3),
    "bottom, with ranks that do not exist": lambda: top(tiny.scored(), 6, sign="negative"),
    "tokens": _attribute,
    "token pairs": lambda: _attribute(pairs=True),
    "output tokens": lambda: _attribute(view="output"),
    "input tokens": lambda: _attribute(view="input"),
    "explanation": lambda: tiny.fitted().explain(tiny.queries(), 3, progress=False),
    "EK-FAC factors": _factors,
    "K-FAC factors": lambda: _factors(KFAC()),
    "diagonal factors": lambda: _factors(Diagonal()),
    "identity factors": lambda: _factors(Identity()),
}


@functools.cache
def _made(name: str) -> xr.Dataset | xr.DataTree:
    return MADE[name]()


def made(name: str) -> Any:
    return _made(name).copy(deep=True)


def nodes(arrays: xr.Dataset | xr.DataTree) -> dict[str, xr.Dataset]:
    tree = arrays if isinstance(arrays, xr.DataTree) else xr.DataTree(arrays)
    return {node.path: node.to_dataset(inherit=False) for node in tree.subtree}


EVERYTHING = pytest.mark.parametrize("name", MADE)


@EVERYTHING
def test_what_is_made_is_valid(name: str) -> None:
    validate(made(name))


@EVERYTHING
def test_attrs_are_of_types_that_zarr_and_netcdf_keep(name: str) -> None:
    def is_plain(value: Any) -> bool:
        if isinstance(value, list):
            return all(type(item) is str for item in value)
        return type(value) in (str, int, float)

    for path, node in nodes(made(name)).items():
        for where in (node, *node.variables.values()):
            assert {key: type(value) for key, value in where.attrs.items() if not is_plain(value)} == {}, path


@EVERYTHING
def test_every_dim_is_known_and_has_a_coordinate(name: str) -> None:
    for path, node in nodes(made(name)).items():
        assert set(node.dims) <= set(node.coords), path
        if name not in ("a table", "images"):
            assert set(node.dims) <= set(DIMS), path


@EVERYTHING
def test_a_round_trip_through_zarr_changes_nothing(name: str, tmp_path: Any) -> None:
    arrays = made(name)
    inflab.save(arrays, tmp_path / "arrays")
    back = inflab.load(tmp_path / "arrays")
    if isinstance(back, inflab.Influence):
        assert back.factors.identical(arrays["factors"])
        assert back.attrs == arrays.attrs
    else:
        assert type(back) is type(arrays)
        assert back.identical(arrays)
    assert {key: type(value) for key, value in back.attrs.items()} == {k: type(v) for k, v in arrays.attrs.items()}


@pytest.mark.parametrize("name", ["scores", "top", "explanation"])
def test_root_attrs_say_what_made_it(name: str) -> None:
    attrs, problem = made(name).attrs, tiny.fitted().problem
    assert attrs["schema_version"] == SCHEMA_VERSION
    assert attrs["inflab_version"] == inflab.__version__
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(attrs["created_at"]) < timedelta(hours=1)
    assert attrs["kind"] == name
    assert attrs["method"] == "EKFAC"
    assert '"damping": 0.1' in attrs["settings"]
    assert attrs["model_fingerprint"] == problem.model_fingerprint()
    assert attrs["corpus_fingerprint"] == problem.corpus_fingerprint()
    assert (attrs["n_train"], attrs["seed"]) == (6, 0)


@EVERYTHING
def test_influence_says_its_units_and_its_sign(name: str) -> None:
    for node in nodes(made(name)).values():
        if "influence" in node:
            attrs = node["influence"].attrs
            assert attrs["units"] == "nat per unit weight"
            said = "positive: training on the sequence makes the query's completion more likely"
            if name == "input tokens":  # slopes, whose sign is about an embedding
                said = "positive: with a larger embedding of the token, the sequence would have more influence"
            assert attrs["sign"] == said


# --- breaches ---------------------------------------------------------------------------------------------------


def _without_attr(name: str, path: str = "/") -> Callable[[Any], Any]:
    def change(tree: Any) -> Any:
        del (tree if path == "/" else tree[path]).attrs[name]
        return tree

    return change


def _with_attr(**attrs: Any) -> Callable[[Any], Any]:
    return lambda tree: tree.assign_attrs(attrs)


def _without_child(path: str) -> Callable[[Any], Any]:
    def change(tree: Any) -> Any:
        del tree[path]
        return tree

    return change


BREACHES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a root attribute": ("scores", _without_attr("schema_version"), "/: attribute 'schema_version' is missing"),
    "what made it": ("scores", _without_attr("model_fingerprint"), "/: attribute 'model_fingerprint' is missing"),
    "kind": ("scores", _without_attr("kind"), "/: attribute 'kind' is missing"),
    "another version": ("scores", _with_attr(schema_version=2), "/: schema_version is 2, this inflab reads 1"),
    "another kind": ("scores", _with_attr(kind="score"), "/: kind is 'score', expected one of ["),
    "a kind that is no text": ("scores", _with_attr(kind=["scores"]), "/: kind is ['scores'], expected one of"),
    "None": ("scores", _with_attr(note=None), "/: attribute 'note' is NoneType; keep to str, int, float, list of str"),
    "a bool": ("scores", _with_attr(note=True), "/: attribute 'note' is bool"),
    "a dict": ("scores", _with_attr(note={}), "/: attribute 'note' is dict"),
    "a list of ints": ("scores", _with_attr(note=[1]), "/: attribute 'note' is list"),
    "a tuple": ("scores", _with_attr(note=("a",)), "/: attribute 'note' is tuple"),
    "a variable": ("scores", lambda s: s.drop_vars("influence"), "/: variable 'influence' is missing"),
    "a dim": ("scores", lambda s: s.isel(query=0), "/: variable 'influence' has dims ('train',), needs ('query'"),
    "a mask": ("top", lambda t: t.drop_vars("is_ranked"), "/: variable 'is_ranked' is missing"),
    "a child": ("explanation", _without_child("top"), "/top: is missing from a tree of kind"),
    "the factors": ("EK-FAC factors", _without_child("factors"), "/factors: is missing from a tree of kind 'factors'"),
    "a coordinate": ("scores", lambda s: s.drop_vars("train"), "/: dim 'train' has no coordinate"),
    "an unknown dim": ("scores", lambda s: s.rename(train="doc"), "/: variable 'influence': unknown dim 'doc'"),
    "units": ("scores", _without_attr("units", "influence"), "/: variable 'influence': attribute 'units' is missing"),
    "a sign": ("scores", _without_attr("sign", "influence"), "/: variable 'influence': influence says its sign"),
    "a mask of numbers": (
        "texts", lambda c: c.assign(is_text=c["is_text"].astype(int).assign_attrs(c["is_text"].attrs)),
        "/: variable 'is_text': a mask is boolean, got dtype int64",
    ),
    "ids that are not whole": (
        "texts", lambda c: c.assign(token_id=c["token_id"].astype(float).assign_attrs(c["token_id"].attrs)),
        "/: variable 'token_id': token ids are integers, got dtype float64",
    ),
    "whole influences": (
        "scores", lambda s: s.assign(influence=s["influence"].astype(int).assign_attrs(s["influence"].attrs)),
        "/: variable 'influence': influence is float32 or float64, got dtype int64",
    ),
    "a breach in a child": (
        "explanation", _without_attr("long_name", "top/share"), "/top: variable 'share': attribute 'long_name'"
    ),
    "an attribute of a layer": (
        "EK-FAC factors", _without_attr("damping", "factors/transformer.h.0.mlp.c_fc"),
        "/factors/transformer.h.0.mlp.c_fc: attribute 'damping' is missing",
    ),
    "not arrays": ("scores", lambda s: s["influence"], "/: expected an xarray DataTree or Dataset, got DataArray"),
    "nothing": ("scores", lambda s: None, "/: expected an xarray DataTree or Dataset, got NoneType"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "says"), BREACHES.values(), ids=BREACHES)
def test_a_breach_is_reported_with_its_path(name: str, change: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(SchemaError) as caught:
        validate(change(made(name)))
    assert [v for v in caught.value.violations if v.startswith(says)], caught.value.violations
    assert says in str(caught.value)


def test_every_breach_is_reported_at_once() -> None:
    tree = made("explanation")
    del tree["bottom"]
    del tree.attrs["n_train"]
    tree["scores"].attrs["note"] = None
    del tree["top/effect"].attrs["units"]
    with pytest.raises(SchemaError) as caught:
        validate(tree)
    assert sorted(v.split(":")[0] for v in caught.value.violations) == ["/", "/bottom", "/scores", "/top"]
    assert str(caught.value).startswith("4 violation(s) of the schema:")


def test_an_explanation_may_have_no_tokens() -> None:
    tree = made("explanation")
    del tree["top_tokens"]
    del tree["bottom_tokens"]
    validate(tree)


def test_extra_variables_coordinates_and_attrs_are_welcome() -> None:
    described = {"long_name": "x", "units": "1", "description": "x"}
    more = made("scores").assign(extra=("train", np.zeros(6), described)).assign_coords(mine=("query", [1, 2]))
    validate(more.assign_attrs(note="mine", numbers=["1", "2"], weight=0.5))
