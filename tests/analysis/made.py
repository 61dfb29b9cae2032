"""Scores of invented sequences, for analyses to be held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from inflab.schema import influence_attrs, root_attrs


def root(kind: str, n_train: int) -> dict[str, Any]:
    return root_attrs(
        kind, method="EKFAC", settings="{}", model_fingerprint="m", corpus_fingerprint="c", n_train=n_train, seed=0
    )


def text(values: Any) -> np.ndarray:
    return np.array(list(values), dtype=object)


def scores(value: Any, **coords: Any) -> xr.Dataset:
    """`influence (query, train)`; coordinates are `name=(dim, values)`."""
    value = np.asarray(value, np.float64)
    named = {name: (dim, text(one) if isinstance(one[0], str) else one) for name, (dim, one) in coords.items()}
    own = {"query": text(f"q{i}" for i in range(len(value))), "train": text(f"t{i}" for i in range(value.shape[1]))}
    return xr.Dataset(
        {"influence": (("query", "train"), value, influence_attrs("made up"))},
        coords=own | named, attrs=root("scores", value.shape[1]),
    )  # fmt: skip


def layered(value_qtl: Any, block: Any, **coords: Any) -> xr.Dataset:
    """`influence (query, train, layer)`, with the block of each layer."""
    value = np.asarray(value_qtl, np.float64)
    flat = scores(value.sum(-1), **coords)
    names = text(f"h.{b}.mlp.{i}" for i, b in enumerate(block))
    return flat.assign(influence=(("query", "train", "layer"), value, influence_attrs("made up"))).assign_coords(
        layer=names, block=("layer", np.asarray(block))
    )


def tokens(value_qrt: Any, is_text: Any = None, trains: Any = None) -> xr.Dataset:
    """`influence (query, rank, token)` as of `Influence.attribute`."""
    value = np.asarray(value_qrt, np.float64)
    dims = ("query", "rank", "token")
    is_text = np.ones(value.shape, bool) if is_text is None else np.asarray(is_text, bool)
    mask = {"long_name": "is text", "units": "1", "description": "True where text"}
    pieces = np.broadcast_to(text(f" w{i}" for i in range(value.shape[2])), value.shape)
    coords: dict[str, Any] = {
        "query": text(f"q{i}" for i in range(value.shape[0])),
        "rank": np.arange(1, value.shape[1] + 1),
        "token": np.arange(value.shape[2]),
    }
    if trains is not None:
        coords["train"] = (("query", "rank"), trains)
    return xr.Dataset(
        {
            "influence": (dims, value, influence_attrs("made up")),
            "is_text": (dims, is_text, mask),
            "token_text": (dims, np.where(is_text, pieces, ""), mask | {"long_name": "token text"}),
        },
        coords=coords, attrs=root("tokens", 100),
    )  # fmt: skip
