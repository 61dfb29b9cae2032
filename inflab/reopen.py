"""`load`: reopen what was saved, also what is not finished, and refuse another model or corpus. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from inflab import store
from inflab.errors import SettingError, StoreError
from inflab.influence import Influence
from inflab.run.ledger import Ledger, unfinished
from inflab.schema import validate

if TYPE_CHECKING:
    from inflab.problem import Problem

__all__ = ["load"]


def load(
    path: str | Path, problem: Problem | None = None, *, partial: bool = False
) -> Influence | xr.Dataset | xr.DataTree:
    """Reopen what `Influence.save`, `inflab.save` or a call with `store=` wrote; arrays are read when they are used.

    Args:
        path: the store.
        problem: the model, task and corpus of the fit, to ask further questions of a saved Influence.
        partial: open a store of scores that is not finished, with the training sequences that are done: attrs
            `shards_done` and `shards` say how many there are. A finished store is opened as ever.

    Returns:
        An `Influence` for saved factors; otherwise the dataset or tree that was saved.

    Raises:
        StoreError: nothing there, half written, not finished (how far it is, and how to go on), another schema
            version, or another model or corpus than `problem`: both fingerprints are named.
        SettingError: when `problem` is not one.

    Example:
        >>> ekfac.save("ekfac.zarr")
        >>> inflab.load("ekfac.zarr", problem).score(queries)["influence"].dims
        ('query', 'train')
    """
    target = Path(path).expanduser().absolute()
    if unfinished(target) is not None:
        tree = xr.DataTree(_partial(target, partial))
    else:
        tree = store.open_tree(path)
    validate(tree)
    if problem is not None and tree.attrs["kind"] != "corpus":
        if not hasattr(problem, "model_fingerprint"):
            raise SettingError(f"problem is a {type(problem).__name__}; expected an inflab.Problem")
        for what in ("model", "corpus", "checkpoints"):
            saved = tree.attrs.get(f"{what}_fingerprint")
            if saved is None:  # only what followed training depends on checkpoints
                continue
            given = getattr(problem, f"{what}_fingerprint")()
            if saved != given:
                raise StoreError(
                    f"path={str(path)!r} was made from the {what} with fingerprint {saved}, problem has {given}; "
                    f"give the same {what}, or fit again"
                )
    if tree.attrs["kind"] != "factors":
        return tree if tree.children else tree.to_dataset()
    if problem is None:
        return Influence(tree)
    from inflab.methods import of_attrs

    method = of_attrs(tree.attrs)
    return method.result(tree, problem, method)


def _partial(path: Path, is_wanted: bool) -> xr.Dataset:
    """The training sequences that an unfinished store is done with.

    Returns:
        The result over these alone, lazily.

    Raises:
        StoreError: not wanted, nothing done yet, or a fit, whose sums are of no use before the last.
    """
    found = unfinished(path)
    assert found is not None
    held, marked = found
    what, count, size = (held["identity"][name] for name in ("what", "shards", "shard_size"))
    blocks = held["settled"].get("blocks", 0)
    done = [shard for shard in range(count) if blocks and all(f"rows.{b}.{shard}" in marked for b in range(blocks))]
    standing = f"path={str(path)!r} is not finished: {_standing(what, held, marked)}; go on with the same call"
    if not is_wanted or not done:
        raise StoreError(
            f"{standing} and store={str(path)!r}" + (", or open what there is with partial=True" if done else "")
        )
    whole = xr.open_zarr(Ledger(path).arrays, consolidated=False, chunks=store.chunks_of(with_dask=True))
    n = whole.sizes["train"]
    positions = np.concatenate([np.arange(shard * size, min((shard + 1) * size, n)) for shard in done])
    part: xr.Dataset = whole.isel(train=positions)
    return part.assign_attrs(shards_done=len(done), shards=count)


def _standing(what: str, held: dict[str, Any], marked: set[str]) -> str:
    blocks, count = held["settled"].get("blocks"), held["identity"]["shards"]
    if blocks is None:
        return f"a {what} over {count} shards is under way"
    done = sum(name.startswith("rows.") for name in marked)
    return f"{done} of {count * blocks} shards of its {what} are done"
