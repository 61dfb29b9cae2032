"""Labelled arrays on disk: zarr v3, written beside the target and moved into place when complete.

A missing zarr chunk reads as zeros, silently, and groups are listed in any order; therefore a manifest of every
file and its size, and of the groups in order, is written last, into the root's attributes, and checked on opening.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import xarray as xr

from inflab.errors import StoreError
from inflab.schema import SCHEMA_VERSION, validate

__all__ = ["open_tree", "save"]

_MANIFEST = "manifest"  # an attribute of the root on disk only: bytes of each file, nodes in order, as JSON text
_CHUNK = 4096  # training sequences in one chunk: shards of a score matrix can be written alone


def save(arrays: xr.DataTree | xr.Dataset, path: str | Path) -> None:
    """Write labelled arrays (scores, a top list, an explanation, a corpus) as a zarr v3 store.

    Args:
        arrays: a valid tree or dataset (`inflab.validate`).
        path: a directory that does not exist yet.

    Raises:
        StoreError: when `path` exists, cannot be written, or the disk is too full.
        SchemaError: when the arrays break the schema.
    """
    validate(arrays)
    tree = arrays if isinstance(arrays, xr.DataTree) else xr.DataTree(arrays)
    target = check_free(path, tree.nbytes)
    partial = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        # Dask chunks and encodings inherited from another file must not dictate this one.
        plain = tree.map_over_datasets(lambda node: node.drop_encoding())
        plain.to_zarr(partial, mode="w-", zarr_format=3, consolidated=False, encoding=_chunks(plain))
        _write_manifest(partial, [node.path for node in plain.subtree])
        partial.rename(target)
    except OSError as error:
        raise StoreError(
            f"path={str(target)!r} could not be written ({error}); choose a folder you can write to"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(path: str | Path, n_bytes: int) -> Path:
    """Check that a store of `n_bytes` can be written at `path`.

    Returns:
        `path`, absolute enough to write to.

    Raises:
        StoreError: when it exists, its parent cannot be made, or the disk has too little room.
    """
    target = Path(path).expanduser()
    if target.exists():
        raise StoreError(f"path={str(target)!r} exists; choose another path, or remove it first")
    try:
        # Folders are made after the check, so that a refusal leaves nothing behind.
        there = next(folder for folder in target.absolute().parents if folder.exists())
        free = shutil.disk_usage(there).free
        if free < n_bytes:
            raise StoreError(
                f"path={str(target)!r} needs {n_bytes:,} bytes at most, {free:,} are free; choose another disk"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"path={str(target)!r} cannot be made ({error}); choose another folder") from error
    return target


def open_tree(path: str | Path) -> xr.DataTree:
    """Open a store lazily after checking that it is complete and of this schema version.

    Args:
        path: the store.

    Returns:
        Its tree; arrays are read when they are used.

    Raises:
        StoreError: when nothing is there, it is no inflab store, half written, or of another schema version.
    """
    target = Path(path).expanduser()
    if not target.exists():
        raise StoreError(f"path={str(target)!r} does not exist")
    try:
        attrs: dict[str, Any] = json.loads((target / "zarr.json").read_text())["attributes"]
        manifest, version = json.loads(attrs[_MANIFEST]), attrs["schema_version"]
        files, nodes = dict(manifest["files"]), list(manifest["nodes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"path={str(target)!r} is not an inflab store, or it is half written (its manifest is missing or "
            "broken); write it again with save"
        ) from error
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"path={str(target)!r} has schema version {version!r}, this inflab reads {SCHEMA_VERSION}; "
            "write it again with this version, or read it with the one that wrote it"
        )
    broken = [n for n, size in files.items() if not (target / n).is_file() or (target / n).stat().st_size != size]
    if broken:
        raise StoreError(
            f"path={str(target)!r} is damaged: {len(broken)} of {len(files)} files are missing or of the wrong "
            f"size, the first is {broken[0]!r}; write it again with save"
        )
    found = xr.open_datatree(target, engine="zarr", consolidated=False, chunks=None)
    # A folder lists its entries in any order; layers keep the model's.
    datasets = {node.path: node.to_dataset(inherit=False) for node in found.subtree}
    tree: xr.DataTree = xr.DataTree.from_dict({node: datasets[node] for node in nodes})
    del tree.attrs[_MANIFEST]
    return tree


def _write_manifest(folder: Path, nodes: list[str]) -> None:
    root = folder / "zarr.json"
    files = {f.relative_to(folder).as_posix(): f.stat().st_size for f in folder.rglob("*") if f.is_file() and f != root}
    metadata = json.loads(root.read_text())
    metadata["attributes"][_MANIFEST] = json.dumps({"files": files, "nodes": nodes})
    root.write_text(json.dumps(metadata))


def _chunks(tree: xr.DataTree) -> dict[str, Any]:
    """Chunk along `train`, so that regions can be written alone; ranked tokens by query, so that one is read alone."""
    encoding: dict[str, Any] = {}
    for node in tree.subtree:
        for name, variable in node.to_dataset(inherit=False).data_vars.items():
            if "train" in variable.dims and variable.sizes["train"] > _CHUNK:
                sizes = tuple(_CHUNK if dim == "train" else size for dim, size in variable.sizes.items())
                encoding.setdefault(node.path, {})[name] = {"chunks": sizes}
            elif {"query", "rank", "token"} <= set(variable.dims):
                sizes = tuple(1 if dim == "query" else size for dim, size in variable.sizes.items())
                encoding.setdefault(node.path, {})[name] = {"chunks": sizes}
    return encoding
