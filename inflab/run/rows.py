"""Results with a value for each training example: scores, self-influence, an index. Shards write their own regions.

A template says what the result looks like: its coordinates and attributes, and variables of which only dims, sizes and
dtype count (`blank`). With a store it is laid out first; each shard then writes whole chunks along `train`, by itself
when it sees the disk, and a mark that says so. Without one, shards are gathered into arrays.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from inflab import store
from inflab.run.ledger import Arrays, Ledger
from inflab.run.work import Shard, Work

__all__ = ["Block", "blank", "filled"]

#: Some queries: a pass over the training data serves so many. A result without queries has one block, {}.
Block = Mapping[str, slice]


def blank(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array that takes no memory, to say shape and dtype in a template."""
    return np.broadcast_to(np.zeros((), dtype), tuple(shape))


def filled(
    work: Work,
    template: xr.Dataset,
    function: Callable[..., Arrays],
    shared: Sequence[Any],
    *,
    blocks: Sequence[Block] = ({},),
    prepare: Callable[[Block], Sequence[Any]] = lambda block: (),
    what: str,
) -> xr.Dataset:
    """Compute a template's variables, shard by shard.

    Args:
        work: its shards cut `train` in order, and the whole of it.
        template: the result without its values; every variable has the dim `train`.
        function: `(*shared, *prepared, positions)` -> variable -> values at these positions of `train`, and in the
            block; dims in the template's order. Must be found by its name, since workers import it.
        shared: handles of the crew.
        blocks: slices of other dims, done one after the other.
        prepare: what a block needs beside, as handles; called only where shards of a block are missing.
        what: text of the progress bar.

    Returns:
        The result; of a store, as dask arrays where dask is installed.
    """
    ledger, attrs = work.ledger, template.attrs
    if ledger is not None and ledger.is_finished:
        work.counts["shards_resumed"] = ledger.total
        return _opened(ledger, work.attrs())
    if ledger is None:
        values = {str(n): np.empty(v.shape, v.dtype) for n, v in template.data_vars.items()}
    else:
        _lay_out(ledger, template, blocks, work.shards)
    is_there = ledger is not None and work.crew.reaches(ledger)
    for number, block in enumerate(blocks):
        done = ledger.marked() if ledger is not None else set()
        missing = [shard for shard in work.shards if _mark(number, shard) not in done]
        if not missing:
            work.counts["shards_resumed"] += len(work.shards)
            continue
        to = _To(ledger if is_there else None, number, block)
        given = [work.crew.share(_Job(function, to)), *shared, *prepare(block)]
        for shard, found in work.each(_rows, missing, given, what):
            region = _region(block, shard)
            if ledger is None:
                for name, value in found.items():
                    values[name][tuple(region.get(str(d), slice(None)) for d in template[name].dims)] = value
            elif not is_there:
                _write(ledger, number, shard, found, region)
        given.clear()  # the gradients of a block's queries go before those of the next come
    if ledger is None:
        new = {n: (template[n].dims, value, template[n].attrs) for n, value in values.items()}
        return template.assign(new).assign_attrs({**attrs, **work.attrs()})
    ledger.finish(["/"], sum(work.counts.values()))
    return _opened(ledger, work.attrs())


@dataclass(frozen=True)
class _To:
    """Where a shard goes: to a store by itself, or back."""

    ledger: Ledger | None
    number: int
    block: Block


@dataclass(frozen=True)
class _Job:
    """What is computed of each shard."""

    function: Callable[..., Arrays]
    to: _To


def _rows(job: _Job, *rest: Any) -> Arrays:
    *shared, shard = rest
    if job.to.ledger is None:
        return job.function(*shared, shard.positions)
    if job.to.ledger.is_marked(_mark(job.to.number, shard)):  # asked again because the answer was lost, not the work
        return {}
    found = job.function(*shared, shard.positions)
    _write(job.to.ledger, job.to.number, shard, found, _region(job.to.block, shard))
    return {}


def _write(ledger: Ledger, number: int, shard: Shard, found: Arrays, region: Mapping[str, slice]) -> None:
    with ledger.writing():
        ledger.mark(_mark(number, shard), store.write_region(ledger.arrays, found, region))


def _lay_out(ledger: Ledger, template: xr.Dataset, blocks: Sequence[Block], shards: Sequence[Shard]) -> None:
    """Lay the template out, unless that was done before."""
    if "layout" in ledger.marked():
        return
    chunks = {dim: place.stop - place.start for dim, place in blocks[0].items()}
    with ledger.writing():
        shutil.rmtree(ledger.arrays, ignore_errors=True)
        store.lay_out(template, ledger.arrays, {**chunks, "train": len(shards[0].positions)})
        ledger.mark("layout", [path for path in ledger.arrays.rglob("*") if path.is_file()])


def _opened(ledger: Ledger, attrs: Mapping[str, int]) -> xr.Dataset:
    found: xr.Dataset = store.open_tree(ledger.path, with_dask=True).to_dataset()
    return found.assign_attrs(attrs)


def _region(block: Block, shard: Shard) -> dict[str, slice]:
    return {**block, "train": slice(int(shard.positions[0]), int(shard.positions[-1]) + 1)}


def _mark(number: int, shard: Shard) -> str:
    return f"rows.{number}.{shard.index}"
