"""Questions over the training data, as labelled results: scores and self-influence, in shards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from inflab import labels
from inflab.corpus import fingerprint
from inflab.kronecker import Curvature
from inflab.memory import query_block
from inflab.preconditioned import Preconditioned, joined
from inflab.problem import Problem
from inflab.run import score
from inflab.run.ledger import Arrays
from inflab.run.local import Pass
from inflab.run.queries import Truncation, query_gradients, truncation_error
from inflab.run.rows import Block, blank, filled
from inflab.run.solve import Solved, solved_self_influence
from inflab.run.work import query_parts, working
from inflab.schema import SCHEMA_VERSION, influence_attrs, variable_attrs

__all__ = ["identity", "scores", "self_influence"]

_RESIDUAL = variable_attrs("solver residual", "1", "|(G + lambda I) x - v| / |v| of what was solved for iteratively")


def identity(what: str, problem: Problem, attrs: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What a store is computed from: a run that differs in any of it is refused.

    Args:
        what: "fit", "scores", ...
        problem: gives the fingerprints of model and corpus, and the task.
        attrs: of the fit: method, settings, seed.
        **more: what else decides the result.

    Returns:
        JSON values.
    """
    task: Any = problem.task
    return {
        "what": what,
        "schema_version": SCHEMA_VERSION,
        "method": attrs["method"],
        "settings": json.loads(attrs["settings"]),
        "seed": int(attrs["seed"]),
        "model_fingerprint": problem.model_fingerprint(),
        "corpus_fingerprint": problem.corpus_fingerprint(),
        "task": repr(task) if dataclasses.is_dataclass(task) else type(task).__qualname__,
        **more,
    }


def scores(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    train: xr.Dataset,
    attrs: Mapping[str, Any],
    *,
    by_layer: bool,
    rank: int | None,
    truncation: Truncation,
    store: str | Path | None = None,
    client: Any = None,
    shard_size: int | None = None,
) -> xr.Dataset:
    """Influence of every training sequence on every query.

    All queries that fit the memory budget share one pass over the training data; each further block costs one more.

    Args:
        run: the pass.
        curvatures: of each layer.
        queries: the query batch.
        train: the training sequences.
        attrs: of the result.
        by_layer: whether layers are kept apart.
        rank: of the truncation, or None.
        truncation: in which norm.
        store: where to keep what is finished, or None.
        client: a dask client, or None.
        shard_size: examples in a shard, or None.

    Returns:
        `influence (query, train[, layer])`; `truncation_error (query)` with a rank, `solver_residual (query)` of a
        `Solved`: NaN for queries whose scores a store held already.
    """
    note = f"truncated to rank {rank} ({truncation})" if rank is not None else "exact for this curvature"
    described = influence_attrs(f"influence of each training sequence on each query, {note}")
    coords = {**labels.train_coords(train), **labels.query_coords(queries)}
    template = _template(run, queries.sizes["query"], train, coords, described, attrs, by_layer)
    n_query = queries.sizes["query"]

    def settled(run: Pass) -> dict[str, int]:
        size = query_block(run.problem.model, run.layers, run.itemsize(), run.budget(), n_query, rank)
        return {"query_block": size, "blocks": -(-n_query // size)}

    def of() -> dict[str, Any]:
        own = {"queries_fingerprint": fingerprint(queries), "train_fingerprint": fingerprint(train)}
        return identity("scores", run.problem, attrs, **own, rank=rank, truncation=truncation, by_layer=by_layer)

    with working(
        run, _all(train), _tokens(train), store=store, client=client, shard_size=shard_size, identity=of,
        n_bytes=template.nbytes, settled=settled,
    ) as work:  # fmt: skip
        size = work.settled(settled)["query_block"]
        blocks = [{"query": slice(start, min(start + size, n_query))} for start in range(0, n_query, size)]
        crew, other = work.crew, None if train is run.problem.corpus else train
        shared = [crew.share(work.quiet()), crew.share(other)]
        own = [crew.share(curvatures), crew.share(queries)]

        lost, residual = np.full(n_query, np.nan), np.full(n_query, np.nan)

        def prepare(block: Block) -> list[Any]:
            positions = np.arange(block["query"].start, block["query"].stop)
            among = len(positions)
            cuts = [positions] if work.is_whole else query_parts(positions)
            parts = [crew.call(_ready, *shared, *own, part, among, rank, truncation) for part in cuts]
            ready = parts[0] if len(parts) == 1 else crew.call(_joined, *parts, last=True)
            if rank is not None:
                lost[block["query"]] = dict(crew.each(_lost, [0], ready))[0]
            if isinstance(curvatures, Solved):
                residual[block["query"]] = dict(crew.each(_residual, [0], ready))[0]
            return [ready, by_layer]

        found = filled(work, template, _score_rows, shared, blocks=blocks, prepare=prepare, what="scores")
        if rank is not None:
            for block in blocks:  # of blocks that were there already
                if np.isnan(lost[block["query"]]).any():
                    prepare(block)
        if isinstance(curvatures, Solved):
            found = found.assign(solver_residual=("query", residual, _RESIDUAL))
        if rank is None:
            return found
        described = variable_attrs("truncation error", "1", f"relative norm of what rank {rank} loses ({truncation})")
        return found.assign(truncation_error=("query", lost, described))


def self_influence(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    train: xr.Dataset,
    attrs: Mapping[str, Any],
    *,
    by_layer: bool,
    store: str | Path | None = None,
    client: Any = None,
    shard_size: int | None = None,
) -> xr.Dataset:
    """Influence of each training sequence on its own log-probability; arguments as for `scores`.

    Returns:
        `influence (train[, layer])`; `solver_residual (train)` of a `Solved`.
    """
    described = influence_attrs("influence of each training sequence on its own log-probability")
    template = _template(run, None, train, labels.train_coords(train), described, attrs, by_layer)
    if isinstance(curvatures, Solved):
        template = template.assign(solver_residual=("train", blank((train.sizes["train"],), np.float32), _RESIDUAL))

    def of() -> dict[str, Any]:
        own = {"train_fingerprint": fingerprint(train), "by_layer": by_layer}
        return identity("self-influence", run.problem, attrs, **own)

    with working(
        run, _all(train), _tokens(train), store=store, client=client, shard_size=shard_size, identity=of,
        n_bytes=template.nbytes, settled=lambda run: {"blocks": 1},
    ) as work:  # fmt: skip
        other = None if train is run.problem.corpus else train
        shared = [work.crew.share(value) for value in (work.quiet(), other, curvatures)]
        return filled(work, template, _self_rows, [*shared, by_layer], what="self-influence")


def _template(
    run: Pass,
    n_query: int | None,
    train: xr.Dataset,
    coords: dict[str, Any],
    described: Mapping[str, Any],
    attrs: Mapping[str, Any],
    by_layer: bool,
) -> xr.Dataset:
    sizes = {} if n_query is None else {"query": n_query}
    sizes |= {"train": train.sizes["train"], **({"layer": len(run.layers)} if by_layer else {})}
    value = blank(tuple(sizes.values()), np.float64 if run.itemsize() == 8 else np.float32)
    coords = labels.layered(coords, run.layers) if by_layer else coords
    return xr.Dataset({"influence": (tuple(sizes), value, described)}, coords=coords, attrs=dict(attrs))


def _all(train: xr.Dataset) -> np.ndarray:
    return np.arange(train.sizes["train"])


def _tokens(train: xr.Dataset) -> int:
    return int(train.sizes.get("token", 1))


# What workers run: found by name, so not inside the functions above.


def _ready(
    run: Pass,
    train: xr.Dataset | None,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    positions: np.ndarray,
    among: int,
    rank: int | None,
    truncation: Truncation,
) -> dict[str, Preconditioned]:
    corpus = run.problem.corpus if train is None else train
    return query_gradients(
        run, curvatures, queries, positions, rank, truncation=truncation, against=corpus, among=among
    )


def _joined(*parts: dict[str, Preconditioned]) -> dict[str, Preconditioned]:
    return {name: joined([part[name] for part in parts]) for name in parts[0]}


def _lost(ready: Mapping[str, Preconditioned], item: int) -> np.ndarray:
    return truncation_error(ready)


def _residual(ready: Mapping[str, Preconditioned], item: int) -> np.ndarray:
    held = next(iter(ready.values())).residual
    assert held is not None
    return held.double().cpu().numpy()


def _score_rows(
    run: Pass, train: xr.Dataset | None, ready: Mapping[str, Preconditioned], by_layer: bool, positions: np.ndarray
) -> Arrays:
    corpus = run.problem.corpus if train is None else train
    return {"influence": score.score_rows(run, ready, corpus, positions, by_layer=by_layer)}


def _self_rows(
    run: Pass, train: xr.Dataset | None, curvatures: Mapping[str, Curvature], by_layer: bool, positions: np.ndarray
) -> Arrays:
    corpus = run.problem.corpus if train is None else train
    if isinstance(curvatures, Solved):
        return solved_self_influence(run, curvatures, corpus, positions, by_layers=by_layer)
    return {"influence": score.self_influence(run, curvatures, corpus, positions, by_layer=by_layer)}
