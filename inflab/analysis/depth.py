"""Where in the network influence comes from: its mass by block, and the centre of that mass (GB23 section 5.3.2)."""

from __future__ import annotations

import numpy as np
import xarray as xr

from inflab.analysis.labelling import influence_of, kept
from inflab.errors import NumericsError, SchemaError, SettingError
from inflab.schema import root_attrs, variable_attrs
from inflab.select import Sign

__all__ = ["depth"]


def depth(scores: xr.Dataset, *, sign: Sign = "absolute") -> xr.Dataset:
    """How each query's influence is spread over the blocks of the network, and how deep its centre lies.

    A block's influence on a pair of query and training sequence is the sum over its layers (GB23 eq. 30), and over
    tokens where they are kept apart. With `w_b` the sum over training sequences of its size (or of its positive, or
    negative part), `mass_b = w_b / sum w` and `depth = sum_b mass_b (b - first) / (last - first)`.

    Args:
        scores: `influence (query, train or rank, layer)` with the coordinate `block (layer)`: `score(by="layer")`, or
            tokens of `Influence.attribute`. What was not scored (NaN) counts for nothing.
        sign: "absolute", "positive" or "negative": which part of a block's influence counts.

    Returns:
        `mass (query, block)` and `depth (query)`, "1": 0 is the first covered block, 1 the last. NaN for a query whose
        influence has no such part.

    Raises:
        SchemaError: when influence, its dims or `block` are missing.
        SettingError: when `sign` is outside its domain, a layer lies outside the blocks, or there is one block.
        NumericsError: when influence is infinite.
    """
    if sign not in ("positive", "negative", "absolute"):
        raise SettingError(f"sign={sign!r} is not one of 'positive', 'negative', 'absolute'")
    value = influence_of(scores, "query", "layer")
    if "block" not in value.coords or value["block"].dims != ("layer",):
        raise SchemaError(["/: coordinate 'block (layer)' is missing; make the scores with score(by='layer')"])
    outside = value["layer"].to_numpy()[value["block"].to_numpy() < 0]
    if len(outside):
        raise SettingError(
            f"layer {outside.tolist()[0]!r} lies outside the blocks and has no depth; "
            "give scores.isel(layer=scores.block.to_numpy() >= 0)"
        )
    by_block = value.groupby("block").sum("layer")
    by_block = by_block.sum([dim for dim in by_block.dims if dim in ("token", "query_token")])
    part = {"absolute": abs(by_block), "positive": by_block.clip(min=0), "negative": (-by_block).clip(min=0)}[sign]
    weight = part.astype(np.float64).sum([dim for dim in part.dims if dim not in ("query", "block")])
    weight_qb = weight.transpose("query", "block").to_numpy()
    if not np.isfinite(weight_qb).all():
        query = value["query"].to_numpy()[~np.isfinite(weight_qb).all(1)].tolist()[0]
        raise NumericsError(f"scores of query {query!r} hold infinity; score them again in float32 or float64")
    block = by_block["block"].to_numpy()
    if len(block) < 2:
        raise SettingError(f"scores cover {len(block)} block; depth needs two or more: fit with layers of every block")

    total_q = weight_qb.sum(1, keepdims=True)
    mass_qb = np.divide(weight_qb, total_q, out=np.full_like(weight_qb, np.nan), where=total_q > 0)
    place_b = (block - block[0]) / (block[-1] - block[0])
    said = {"absolute": "summed size of", "positive": "positive", "negative": "negative"}[sign]
    about_mass = variable_attrs("mass", "1", f"share of the query's {said} influence in the block; its layers summed")
    about_depth = variable_attrs("depth", "1", "centre of mass over the blocks: 0 is the first, 1 the last")
    return xr.Dataset(
        {"mass": (("query", "block"), mass_qb, about_mass), "depth": ("query", mass_qb @ place_b, about_depth)},
        coords=kept(value, "query") | {"block": block},
        attrs={**scores.attrs, **root_attrs("depth", sign=sign)},
    )
