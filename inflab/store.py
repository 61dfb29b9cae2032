"""Labelled arrays on disk: zarr v3, written beside the target and moved into place when complete.

A missing zarr chunk reads as zeros, silently, and groups are listed in any order; therefore a manifest of every
file and its size, and of the groups in order, is written last, into the root's attributes, and checked on opening.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from inflab.errors import StoreError
from inflab.schema import SCHEMA_VERSION, validate

__all__ = ["COUNTS", "lay_out", "manifest_of", "open_tree", "save", "seal", "write_region", "write_tree"]

#: Attributes that say what a result took: of one call only, so they do not travel into other results.
COUNTS = ("shards_computed", "shards_resumed")

#: In the name of a file that is being written.
TEMPORARY = ".partial-"

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

    Example:
        >>> inflab.save(scores, "scores.zarr")
        >>> inflab.load("scores.zarr")["influence"].equals(scores["influence"])
        True
    """
    validate(arrays)
    tree = arrays if isinstance(arrays, xr.DataTree) else xr.DataTree(arrays)
    target = check_free(path, tree.nbytes)
    partial = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        _write_manifest(partial, write_tree(tree, partial))
        partial.rename(target)
    except OSError as error:
        raise StoreError(
            f"path={str(target)!r} could not be written ({error}); choose a folder you can write to"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_tree(tree: xr.DataTree, folder: Path) -> list[str]:
    """Write a tree without its manifest.

    Returns:
        Paths of its nodes, in order.
    """
    # Dask chunks and encodings inherited from another file must not dictate this one.
    plain = tree.map_over_datasets(lambda node: node.drop_encoding())
    plain.to_zarr(folder, mode="w-", zarr_format=3, consolidated=False, encoding=_chunks(plain))
    return [node.path for node in plain.subtree]


def lay_out(template: xr.Dataset, folder: Path, chunks: Mapping[str, int]) -> None:
    """Write everything of a dataset but its values, which `write_region` fills in.

    Args:
        template: coordinates, attributes, and variables of which only dims, sizes and dtype count.
        folder: must not exist.
        chunks: dim -> length of a chunk; a region must begin and end with one. Other dims are not cut.
    """
    bare = template.drop_vars(list(template.data_vars)).drop_encoding()
    bare.to_zarr(folder, mode="w-", zarr_format=3, consolidated=False)
    group = zarr.open_group(folder, mode="r+")
    for name, variable in template.data_vars.items():
        is_float = np.issubdtype(variable.dtype, np.floating)
        group.create_array(
            str(name),
            shape=variable.shape,
            dtype=variable.dtype,
            chunks=tuple(max(1, chunks.get(str(dim), size)) for dim, size in variable.sizes.items()),
            dimension_names=tuple(map(str, variable.dims)),
            attributes=variable.attrs,
            fill_value=math.nan if is_float else 0,
        )


def write_region(folder: Path, values: Mapping[str, np.ndarray], region: Mapping[str, slice]) -> list[Path]:
    """Write a region of laid out variables, as whole chunks; other regions may be written by others meanwhile.

    Args:
        folder: of `lay_out`.
        values: variable -> its values in the region.
        region: dim -> from where to where; dims left out are whole.

    Returns:
        The files that hold the region; they are on the disk.
    """
    files: list[Path] = []
    for name, value in values.items():
        # Chunks of zeros too: what a finished region lacks is then what was lost.
        array = zarr.open_array(folder / name, mode="r+", config={"write_empty_chunks": True})
        dims = getattr(array.metadata, "dimension_names", None) or ()
        places = [region.get(str(dim), slice(0, size)) for dim, size in zip(dims, array.shape, strict=True)]
        array[tuple(places)] = value
        numbers = [
            range(place.start // size, -(-place.stop // size)) for place, size in zip(places, array.chunks, strict=True)
        ]
        files += [folder / name / "c" / "/".join(map(str, number)) for number in itertools.product(*numbers)]
    for path in files:
        flush(path)
    return files


def seal(folder: Path, nodes: list[str], **own: Any) -> None:
    """Flush a written store to the disk and give it its manifest, which makes it complete.

    Args:
        folder: the store.
        nodes: paths of its nodes, in order.
        **own: JSON values that the manifest keeps too, such as what the store was computed from.
    """
    for path in list(folder.rglob("*")):
        if path.name.endswith(".partial") or TEMPORARY in path.name:
            path.unlink()  # a writer was ended while it wrote
        elif path.is_file():
            flush(path)
    _write_manifest(folder, nodes, **own)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Have a file appear whole or not at all.

    Yields:
        A name beside `path`; what is written there takes the place of `path` when it is on the disk.
    """
    partial = path.with_name(f"{path.name}{TEMPORARY}{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text)


def flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete store, or None: nothing there, half written, or something else."""
    try:
        found = json.loads(json.loads((folder / "zarr.json").read_text())["attributes"][_MANIFEST])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


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
        check_room(target, n_bytes)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"path={str(target)!r} cannot be made ({error}); choose another folder") from error
    return target


def check_room(target: Path, n_bytes: int) -> None:
    """Refuse a disk with too little room.

    Raises:
        StoreError: naming what is needed and what is free.
    """
    there = next(folder for folder in target.absolute().parents if folder.exists())
    free = shutil.disk_usage(there).free
    if free < n_bytes:
        raise StoreError(
            f"path={str(target)!r} needs {n_bytes:,} bytes at most, {free:,} are free; choose another disk"
        )


def open_tree(path: str | Path, *, with_dask: bool = False) -> xr.DataTree:
    """Open a store lazily after checking that it is complete and of this schema version.

    Args:
        path: the store.
        with_dask: open as dask arrays, where dask is installed: sums and products then stay lazy too.

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
    found = xr.open_datatree(target, engine="zarr", consolidated=False, chunks=chunks_of(with_dask))
    # A folder lists its entries in any order; layers keep the model's.
    datasets = {node.path: node.to_dataset(inherit=False) for node in found.subtree}
    tree: xr.DataTree = xr.DataTree.from_dict({node: datasets[node] for node in nodes})
    del tree.attrs[_MANIFEST]
    return tree


def chunks_of(with_dask: bool) -> dict[str, int] | None:
    """What to tell xarray of chunks: those of the file as dask arrays, or None without dask."""
    return {} if with_dask and find_spec("dask") else None


def _write_manifest(folder: Path, nodes: list[str], **own: Any) -> None:
    root = folder / "zarr.json"
    files = {f.relative_to(folder).as_posix(): f.stat().st_size for f in folder.rglob("*") if f.is_file() and f != root}
    metadata = json.loads(root.read_text())
    metadata["attributes"][_MANIFEST] = json.dumps({"files": files, "nodes": nodes, **own})
    write_text(root, json.dumps(metadata))


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
