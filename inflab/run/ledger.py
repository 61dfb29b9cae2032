"""What is finished, on disk: whose work it is, which parts are done, and who is writing.

While a store `scores` is not complete there is a folder `scores.unfinished` beside it. In it stand `ledger.json`, which
says what is computed from what and is written before anything else; a lock that dies with its process; the finished
parts; and the arrays that one rename makes the store. Every file appears whole or not at all: it is written beside its
name, flushed to the disk, and renamed. A file that was damaged later is found by its length, which a safetensors header
tells and a mark records, and its part is computed again.

Why not a transactional store (icechunk): a part here is a file of its own, which a rename makes atomic, and no two
parts share a chunk, so there is nothing to reconcile between writers; the manifest, written last, is the commit.
Icechunk's commits are not safe for several processes on a file system (its issues 804 and 1494), which is where
clusters keep their data; parts of one session are lost with the client unless every part commits by itself; and what
it writes can be opened only with it, while a plain zarr store opens everywhere.

Reads and writes arrays only: loads no torch.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from inflab import store
from inflab.errors import StoreError

__all__ = ["Arrays", "Ledger", "opened", "unfinished"]

#: What a part holds: name -> array.
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Ledger:
    """The account of one store. Workers get a copy of it: it holds paths, no open files.

    Attributes:
        path: the store, absolute.
        is_finished: whether the store is complete, so that nothing is left to do.
        total: shards that went into a complete store.
        token: what `ledger.json` on this disk says; a worker that reads another one looks at another disk.
        settled: choices of the first run that a resumed one keeps, such as the memory budget.
        identity: what is computed from what.
    """

    path: Path
    is_finished: bool = False
    total: int = 0
    token: str = ""
    settled: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where unfinished work stands."""
        return _folder(self.path)

    @property
    def arrays(self) -> Path:
        """The zarr store in the making."""
        return self.folder / "arrays"

    def names(self) -> set[str]:
        """Names of the parts that are there."""
        return {f.name.removesuffix(".safetensors") for f in self.folder.glob("*.safetensors")}

    def keep(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one part.

        Raises:
            StoreError: when it cannot be written; what was there before is as it was.
        """
        whole = {key: np.asarray(value, order="C") for key, value in arrays.items()}
        with self.writing(), store.replacing(self.folder / f"{name}.safetensors") as partial:
            save_file(whole, partial)

    def read(self, name: str) -> Arrays | None:
        """One part, or None when it is not there or damaged; a damaged one is removed."""
        path = self.folder / f"{name}.safetensors"
        try:
            with safe_open(path, framework="numpy") as held:
                return {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            return None
        except SafetensorError:  # cut short, or no such file at all
            path.unlink(missing_ok=True)
            return None

    def is_whole(self, name: str) -> bool:
        """Whether a part is there with every byte that its header tells; a damaged one is removed."""
        path = self.folder / f"{name}.safetensors"
        try:
            with safe_open(path, framework="numpy"):
                return True
        except (FileNotFoundError, SafetensorError):
            path.unlink(missing_ok=True)
            return False

    def drop(self, name: str) -> None:
        """Remove a part that another one has taken the place of."""
        (self.folder / f"{name}.safetensors").unlink(missing_ok=True)

    def mark(self, name: str, files: list[Path]) -> None:
        """Note that a part of the arrays is done, with the length of each of its files."""
        sizes = {f.relative_to(self.arrays).as_posix(): f.stat().st_size for f in files}
        with self.writing():
            store.write_text(self.folder / f"{name}.mark.json", json.dumps(sizes))

    def is_marked(self, name: str) -> bool:
        """Whether a part of the arrays is done, and its files are there at full length."""
        return _is_whole(self.folder, self.folder / f"{name}.mark.json")

    def marked(self) -> set[str]:
        """All parts of the arrays that are done."""
        return _marked(self.folder)

    def finish(self, nodes: list[str], shards: int) -> None:
        """Complete the arrays and put them in place; closing the ledger removes the working files.

        Args:
            nodes: paths of the arrays' nodes, in order.
            shards: that went into them.

        Raises:
            StoreError: when a file cannot be written or moved; calling again goes on.
        """
        with self.writing():
            store.seal(self.arrays, nodes, identity=dict(self.identity), shards=shards)
            self.arrays.rename(self.path)
            store.flush(self.path.parent)

    def is_here(self) -> bool:
        """Whether this process sees the disk that the ledger was opened on."""
        try:
            return bool(_read(self.folder)["token"] == self.token)
        except StoreError:
            return False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say of an error of the disk which store it struck and that it can be gone on with.

        Raises:
            StoreError: in place of the error.
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"store={str(self.path)!r} could not be written ({error}); what was finished is kept: make room, or "
                "make the folder writable, and call again with the same store="
            ) from error


@contextmanager
def opened(path: str | Path, identity: Mapping[str, Any], settled: Mapping[str, Any], n_bytes: int) -> Iterator[Ledger]:
    """Open a store for writing, or find it complete.

    Args:
        path: the store: nothing yet, one that this same work began, or one that it completed.
        identity: what is computed from what; JSON values. Another one in the store is refused.
        settled: choices to keep for a run that goes on; those of the first run win.
        n_bytes: what a new store will take, at most.

    Yields:
        The ledger; while it is open, no other process can open it.

    Raises:
        StoreError: the store holds something else, is being written by another process, or cannot be written.
    """
    target = Path(path).expanduser().absolute()
    if store.manifest_of(target) is not None:
        ledger = _complete(target, identity)
        shutil.rmtree(_folder(target), ignore_errors=True)  # left when a process was ended at its very last step
        yield ledger
        return
    if target.exists():
        raise StoreError(f"store={str(target)!r} exists and is no complete store; choose another path, or remove it")
    folder = _folder(target)
    lock = FileLock(folder / "lock", timeout=0)
    with Ledger(target).writing():
        if not (folder / "ledger.json").exists():
            store.check_room(target, n_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"store={str(target)!r} is being written by another process; wait for it to end, or choose another path"
            ) from None
    try:
        if store.manifest_of(target) is not None:  # the other process finished it just now
            yield _complete(target, identity)
            return
        yield _begun(target, identity, settled)
    finally:
        lock.release()
    if store.manifest_of(target) is not None:
        shutil.rmtree(folder, ignore_errors=True)


def unfinished(path: Path) -> tuple[dict[str, Any], set[str]] | None:
    """What an unfinished store says of itself.

    Returns:
        Its `ledger.json`, and the parts of its arrays that are done; None where there is no unfinished store.

    Raises:
        StoreError: when the ledger is broken.
    """
    folder = _folder(path)
    if path.exists() or not (folder / "ledger.json").exists():
        return None
    return _read(folder), _marked(folder)


def _complete(target: Path, identity: Mapping[str, Any]) -> Ledger:
    """The ledger of a store that is complete, when it is of this identity."""
    manifest = store.manifest_of(target) or {}
    _refuse_another(target, manifest.get("identity"), identity)
    return Ledger(target, is_finished=True, total=int(manifest.get("shards", 0)))


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.unfinished")


def _begun(target: Path, identity: Mapping[str, Any], settled: Mapping[str, Any]) -> Ledger:
    """The ledger of a store that is new, or goes on."""
    folder = _folder(target)
    for stale in folder.glob(f"*{store.TEMPORARY}*"):
        stale.unlink(missing_ok=True)
    if (folder / "ledger.json").exists():
        held = _read(folder)
        _refuse_another(target, held["identity"], identity)
        ledger = Ledger(target, token=held["token"], settled=held["settled"], identity=held["identity"])
        if store.manifest_of(ledger.arrays) is None:
            return ledger
        with ledger.writing():
            ledger.arrays.rename(target)  # complete, but for this
        return _complete(target, identity)
    held = {"identity": dict(identity), "token": uuid.uuid4().hex, "settled": dict(settled)}
    with Ledger(target).writing():
        store.write_text(folder / "ledger.json", json.dumps(held))
    return Ledger(target, **held)


def _refuse_another(target: Path, held: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
    """Refuse a store that another work began or completed.

    Raises:
        StoreError: naming the first difference, both values and the mend.
    """
    if held is None:
        raise StoreError(f"store={str(target)!r} was written by save; choose another path, or remove it")
    before, now = _flat(held), _flat(given)
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            raise StoreError(
                f"store={str(target)!r} was begun with {name} {before.get(name)!r}, this run has {now.get(name)!r}; "
                "go on with the same, or choose another path"
            )


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values under dotted names, so that a difference can be named."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{before}{name}.") if nested else {f"{before}{name}": json.loads(json.dumps(value))}
    return flat


def _read(folder: Path) -> dict[str, Any]:
    try:
        held = json.loads((folder / "ledger.json").read_text())
        return {name: held[name] for name in ("identity", "token", "settled")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{str(folder)!r} has no readable ledger ({error}); remove the folder and begin again"
        ) from error


def _marked(folder: Path) -> set[str]:
    return {mark.name.removesuffix(".mark.json") for mark in folder.glob("*.mark.json") if _is_whole(folder, mark)}


def _is_whole(folder: Path, mark: Path) -> bool:
    try:
        sizes = json.loads(mark.read_text())
        return all((folder / "arrays" / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):  # a damaged part is one that is not done
        return False
