"""The array schema, version 1: dims, attrs, and `validate`.

Knows xarray only. Dims are singular, every dim has a coordinate, padding is an explicit boolean mask, and
attribute values are str, int, float or list of str so that zarr and netCDF both keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr

from inflab.errors import SchemaError

__all__ = ["DIMS", "SCHEMA_VERSION", "SIGN", "root_attrs", "validate", "variable_attrs"]

SCHEMA_VERSION = 1

#: Every dim that a labelled array of inflab may carry; corpora of images or tables add their own.
DIMS = (
    "query", "train", "layer", "token", "query_token", "rank", "vocabulary",
    "activation", "activation_eigen", "gradient", "gradient_eigen", "checkpoint",
    "index_byte", "index_group", "index_coordinate", "index_sample", "subset", "seed", "group", "set", "fit",
    "estimator", "other", "bound", "share", "inspected", "pair", "rating", "other_rating",
    "fraction", "goal", "law", "block", "other_query",
)  # fmt: skip

SIGN = "positive: training on the sequence makes the query's completion more likely"

#: What a root of each kind must hold: {child path: {variable: dims}}; extra dims may follow.
_REQUIRED: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "corpus": {"/": {}},
    "scores": {"/": {"influence": ("query", "train")}},
    "self_influence": {"/": {"influence": ("train",)}},
    "top": {
        "/": {
            "influence": ("query", "rank"),
            "share": ("query", "rank"),
            "is_ranked": ("query", "rank"),
        }
    },
    "candidates": {"/": {"similarity": ("query", "rank"), "is_ranked": ("query", "rank")}},
    "tokens": {"/": {"influence": ("query", "rank", "token"), "is_text": ("query", "rank", "token")}},
    "bank": {"/": {"measurement": ("subset", "seed", "query"), "is_member": ("subset", "train")}},
    "words": {"/": {"z": ("query", "rank"), "count": ("query", "rank")}},
    "agreement": {"/": {"lds": ("estimator",), "difference": ("estimator", "other")}},
    "left_out": {"/": {"measurement": ("group", "seed", "query"), "baseline": ("seed", "query")}},
    "removal_curve": {"/": {"change": ("estimator", "share", "query"), "rise": ("estimator", "share")}},
    "mislabel_curve": {"/": {"found": ("inspected",)}},
    "trust": {"/": {"influence": ("fit", "query", "rank"), "sentence": ("query",)}},
    "removal": {"/": {"effect": ("query", "group")}},
    "tail": {"/": {"alpha": ("query",), "held": ("query", "fraction")}},
    "ratings": {"/": {"rating": ("pair",)}},
    "rank_agreement": {"/": {"spearman": ("query",), "overlap": ("query", "group", "rank")}},
    "kappa": {"/": {"kappa": (), "count": ("rating", "other_rating")}},
    "relevance": {"/": {"mean_rating": ("estimator",), "precision": ("estimator", "rank")}},
    "reweighted": {"/": {"measurement": ("set", "query")}},
    "depth": {"/": {"mass": ("query", "block"), "depth": ("query",)}},
    "permutation_test": {"/": {"difference": (), "p": (), "mean": ("group",)}},
    "overlap": {"/": {"lexical": ("query", "rank"), "is_ranked": ("query", "rank")}},
    "ratio": {"/": {"ratio": ("query",), "pooled": ()}},
    "correlation": {"/": {"correlation": ("query", "other_query")}},
    "within": {"/": {"within": ("group",), "difference": (), "p": ()}},
    "sparsity": {"/": {name: ("query", "rank") for name in ("largest", "effective", "hoyer")}},
    "dropped": {"/": {name: ("pair",) for name in ("largest", "effective", "hoyer")}},
    "enrichment": {"/": {name: ("query",) for name in ("share", "expected", "odds_ratio", "p")}},
    "factors": {"/factors": {}},
    "index": {"/": {"index_code": ("train", "index_byte"), "index_scale": ("train", "index_group")}},
    "explanation": {
        "/scores": {"influence": ("query", "train")},
        "/top": {"influence": ("query", "rank")},
        "/bottom": {"influence": ("query", "rank")},
        "/top_tokens": {"influence": ("query", "rank", "layer", "token")},
        "/bottom_tokens": {"influence": ("query", "rank", "layer", "token")},
    },
}
#: Children that need not be there: a similarity has no place in the text.
_OPTIONAL = {"explanation": ("/top_tokens", "/bottom_tokens")}
_ROOT_ATTRS = ("schema_version", "created_at", "inflab_version", "kind")
_RESULT_ATTRS = ("method", "settings", "model_fingerprint", "corpus_fingerprint", "n_train", "seed")
_RETRAINED = ("recipe", "corpus_fingerprint", "queries_fingerprint", "n_train", "seed")
#: What a root must say that no one model made; every other kind says `_RESULT_ATTRS`.
_MODEL_FREE: dict[str, tuple[str, ...]] = {
    "corpus": (),
    "candidates": ("by", "corpus_fingerprint", "n_train"),
    "agreement": (),
    "bank": _RETRAINED,
    "left_out": _RETRAINED,
    "removal_curve": _RETRAINED,
    "mislabel_curve": (),
    "reweighted": _RETRAINED,
    "ratings": ("scale",),
    "rank_agreement": (),
    "kappa": (),
    "relevance": (),
    "permutation_test": (),
    "within": (),
}
_LAYER_ATTRS = ("kind", "modules", "inputs", "outputs", "has_bias", "parameters", "tokens", "examples", "damping")
_VARIABLE_ATTRS = ("long_name", "units", "description")


def root_attrs(kind: str, **extra: Any) -> dict[str, Any]:
    """The attributes every root carries, with `extra` beside them.

    Args:
        kind: what the root is: "corpus", "factors", "scores", "top", "tokens", "explanation", ...
        **extra: further attributes; str, int, float or list of str.

    Returns:
        A new dict.
    """
    from inflab import __version__

    return {
        "schema_version": SCHEMA_VERSION,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "inflab_version": __version__,
        "kind": kind,
        **extra,
    }


def variable_attrs(long_name: str, units: str, description: str, **extra: Any) -> dict[str, Any]:
    """The attributes every variable carries: what it is called, its units, what it means."""
    return {"long_name": long_name, "units": units, "description": description, **extra}


def influence_attrs(description: str) -> dict[str, Any]:
    """The attributes of an `influence` variable (GB23 eq. 5): per unit weight, with its sign in words."""
    return variable_attrs("influence", "nat per unit weight", description, sign=SIGN)


def validate(tree: xr.DataTree | xr.Dataset) -> None:
    """Check a tree of labelled arrays against the schema.

    Args:
        tree: an `xr.DataTree` or `xr.Dataset` made by inflab, or to be read by it.

    Raises:
        SchemaError: with every violation and the path of the node where it stands.

    Example:
        >>> inflab.validate(scores)  # says nothing where all is well
        >>> found = scores.copy(deep=True)
        >>> del found["influence"].attrs["units"]
        >>> inflab.validate(found)
        Traceback (most recent call last):
            ...
        inflab.errors.SchemaError: 1 violation(s) of the schema:
        /: variable 'influence': attribute 'units' is missing
    """
    if not isinstance(tree, (xr.DataTree, xr.Dataset)):
        raise SchemaError([f"/: expected an xarray DataTree or Dataset, got {type(tree).__name__}"])
    root = tree if isinstance(tree, xr.DataTree) else xr.DataTree(tree)
    violations = list(_root_violations(root))
    for node in root.subtree:
        violations += _node_violations(node)
    if violations:
        raise SchemaError(violations)


def _root_violations(root: xr.DataTree) -> Iterator[str]:
    missing = [name for name in _ROOT_ATTRS if name not in root.attrs]
    kind = root.attrs.get("kind")
    if kind is not None:
        missing += [name for name in _MODEL_FREE.get(str(kind), _RESULT_ATTRS) if name not in root.attrs]
    yield from (f"/: attribute {name!r} is missing" for name in missing)
    version = root.attrs.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        yield f"/: schema_version is {version!r}, this inflab reads {SCHEMA_VERSION}"
    if kind is None:
        return
    if not isinstance(kind, str) or kind not in _REQUIRED:
        yield f"/: kind is {kind!r}, expected one of {sorted(_REQUIRED)}"
        return
    for path, variables in _REQUIRED[kind].items():
        if path != "/" and path.strip("/") not in root.children:
            if path not in _OPTIONAL.get(kind, ()):
                yield f"{path}: is missing from a tree of kind {kind!r}"
            continue
        node = root if path == "/" else root[path]
        assert isinstance(node, xr.DataTree)
        for name, dims in variables.items():
            if name == "influence" and name not in node and "effect" in node:
                name = "effect"  # the same per copy, made by `inflab.effect`
            if name not in node:
                yield f"{path}: variable {name!r} is missing"
            elif not set(dims) <= set(node[name].dims):
                yield f"{path}: variable {name!r} has dims {node[name].dims}, needs {dims}"


def _node_violations(node: xr.DataTree) -> list[str]:
    found: list[str] = []
    dataset = node.to_dataset(inherit=False)
    found += [
        f"{node.path}: attribute {key!r} is {type(value).__name__}; keep to str, int, float, list of str"
        for key, value in dataset.attrs.items()
        if not _is_plain(value)
    ]
    found += [f"{node.path}: dim {dim!r} has no coordinate" for dim in dataset.dims if dim not in dataset.coords]
    if node.root.attrs.get("kind") == "factors" and node.parent is not None and node.parent.path == "/factors":
        found += [f"{node.path}: attribute {key!r} is missing" for key in _LAYER_ATTRS if key not in node.attrs]
    is_corpus = node.root.attrs.get("kind") == "corpus"
    for name, variable in dataset.data_vars.items():
        where = f"{node.path}: variable {name!r}"
        found += [f"{where}: unknown dim {d!r}" for d in variable.dims if d not in DIMS and not is_corpus]
        found += [f"{where}: attribute {key!r} is missing" for key in _VARIABLE_ATTRS if key not in variable.attrs]
        found += [
            f"{where}: attribute {key!r} is {type(value).__name__}; keep to str, int, float, list of str"
            for key, value in variable.attrs.items()
            if not _is_plain(value)
        ]
        for applies, is_right, message in _VARIABLE_RULES:
            if applies(str(name)) and not is_right(variable):
                found.append(f"{where}: {message}, got dtype {variable.dtype}")
    return found


_VARIABLE_RULES: list[tuple[Callable[[str], bool], Callable[[xr.DataArray], bool], str]] = [
    (lambda name: name.startswith("is_"), lambda v: v.dtype == bool, "a mask is boolean"),
    (lambda name: name == "token_id", lambda v: np.issubdtype(v.dtype, np.integer), "token ids are integers"),
    (
        lambda name: name == "influence",
        lambda v: v.dtype in (np.float32, np.float64),
        "influence is float32 or float64",
    ),
    (lambda name: name == "influence", lambda v: "sign" in v.attrs, "influence says its sign in attrs"),
]


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, np.ndarray)):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, (str, int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
