"""The workers of a `dask.distributed` cluster do the shards.

The pass (model, task, corpus) goes to every worker once. Each worker does one shard at a time with as many threads as
it has, since hooks on a model serve one pass. Dask does the shards of a lost worker again; what was brought to the
workers and went down with the last of them is brought again. Sums are added on the workers, in the order of
`inflab.run.tree`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import torch

from inflab.device import model_device
from inflab.errors import MissingDependencyError, SettingError
from inflab.memory import available_memory
from inflab.run import tree
from inflab.run.boxes import boxed, unboxed
from inflab.run.ledger import Arrays, Ledger
from inflab.run.local import Pass
from inflab.run.work import Shard

__all__ = ["Cluster"]

_LOST = ("cancelled", "lost")
_ROUNDS = 3
_MEND = "most often memory was too small: give a smaller memory=, batch_size= or shard_size=, or larger workers"


@dataclass
class _Handle:
    """Something that is on the workers, and how to have it there again when it is lost."""

    make: Callable[[], Any]
    future: Any = None

    def live(self) -> Any:
        """The future, made when there is none or its value went down with a worker."""
        if self.future is None or self.future.status in _LOST:
            self.future = self.make()
        return self.future


class Cluster:
    """A `inflab.run.work.Crew` of dask workers; a context manager, which lets go of what it brought to them.

    Args:
        client: a synchronous `dask.distributed.Client`.

    Raises:
        MissingDependencyError: when dask.distributed is not installed.
        SettingError: when `client` is none.
    """

    def __init__(self, client: Any) -> None:
        try:
            import distributed
        except ImportError as error:
            raise MissingDependencyError(
                "client= needs dask.distributed; install it with: pip install 'inflab[distributed]'"
            ) from error
        if not isinstance(client, distributed.Client) or client.asynchronous:
            raise SettingError(
                f"client={client!r} is not a dask.distributed.Client; give Client(cluster), not asynchronous"
            )
        self._client = client
        self._lock = f"inflab-{uuid.uuid4().hex}"
        self._running: set[Any] = set()  # what `each` waits for; also when whoever asked does not come back for it

    def __enter__(self) -> Cluster:
        self._client.wait_for_workers(1)
        return self

    def __exit__(self, *error: Any) -> None:
        self._drop(list(self._running))

    def share(self, value: Any, *, everyone: bool = True) -> _Handle:
        """Bring something to the workers."""

        def scatter() -> Any:
            self._client.wait_for_workers(1)
            return self._client.scatter([boxed(value)], broadcast=everyone, hash=False)[0]

        return _Handle(scatter)

    def call(self, function: Callable[..., Any], *args: Any, last: bool = False) -> _Handle:
        """Have something computed by one worker; it stays there, and others fetch it from it."""

        def submit() -> Any:
            future = self._submit(function, *map(_live, args), priority=1)
            for handle in (arg for arg in args if last and isinstance(arg, _Handle)):
                handle.future = None  # dask frees it when it was used, and makes it again where it must
            return future

        return _Handle(submit)

    def each(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Items in whichever order they are done.

        Yields:
            Each item with its result.
        """
        from distributed import as_completed

        waiting, rounds = list(items), 0
        while waiting:
            # What a worker took down with it, beyond what dask has done again by itself, goes into the next round.
            rounds = self._another(rounds)
            asked = {self._submit(function, *map(_live, shared), _live(item)): item for item in waiting}
            self._running.update(asked)
            waiting = []
            try:
                for future in as_completed(list(asked)):
                    item = asked.pop(future)
                    try:
                        value = self._result(future)
                    except CancelledError:
                        waiting.append(item)
                        continue
                    finally:
                        self._running.discard(future)
                    yield item, value
                    rounds = 0
            finally:
                self._drop(asked)

    def total(
        self,
        function: Callable[..., Arrays],
        shards: Sequence[Shard],
        shared: Sequence[Any],
        done: Callable[[Shard], None],
    ) -> Arrays:
        """The sum over shards: a tree of tasks, of which only the root comes here."""
        rounds = 0
        while True:
            rounds = self._another(rounds)
            ready = [_live(handle) for handle in shared]
            leaves = {self._submit(function, *ready, shard): shard for shard in shards}
            root = self._added(list(leaves), (0, len(shards)))
            try:
                self._watch(leaves, done)
                return dict(self._result(root))
            except CancelledError:
                continue
            finally:
                self._drop([*leaves, root])

    def budget(self, run: Pass) -> int:
        """Half of what is free on the smallest accelerator, or of the smallest worker's memory."""
        device = model_device(run.problem.model)
        if device.type != "cpu":
            return int(min(self._client.run(available_memory, device).values()) // 2)
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        return int(min(limits) // 2) if limits else run.budget()

    def reaches(self, ledger: Ledger) -> bool:
        """Whether every worker sees the store's disk."""
        seen = self._client.run(_sees, ledger, on_error="return").values()
        return bool(seen) and all(answer is True for answer in seen)

    def _another(self, rounds: int) -> int:
        """Count rounds in which every worker was lost before anything was done."""
        if rounds == _ROUNDS:
            raise SettingError(f"every worker was lost {rounds} times before a shard was done; {_MEND}")
        return rounds + 1

    def _watch(self, leaves: dict[Any, Shard], done: Callable[[Shard], None]) -> None:
        """Tell of each shard that is done. With no hold on it here, its sums are freed when they are added."""
        from distributed import as_completed

        for future in as_completed(list(leaves)):
            shard = leaves.pop(future)
            if future.status == "error":
                self._result(future)
            done(shard)

    def _added(self, leaves: Sequence[Any], span: tree.Span) -> Any:
        if span[1] - span[0] == 1:
            return leaves[span[0]]
        # Adding comes before further shards: it frees memory.
        return self._submit(tree.add, *(self._added(leaves, half) for half in tree.halves(span)), priority=1)

    def _submit(self, function: Callable[..., Any], *args: Any, priority: int = 0) -> Any:
        key = f"{function.__name__}-{uuid.uuid4()}"
        return self._client.submit(_alone, self._lock, function, *args, priority=priority, pure=False, key=key)

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        try:
            return unboxed(future.result())
        except KilledWorker as error:
            raise SettingError(f"a shard ended every worker that tried it ({error}); {_MEND}") from error

    def _drop(self, futures: Iterable[Any]) -> None:
        held = list(futures)
        unfinished = [future for future in held if not future.done()]
        if unfinished:
            self._client.cancel(unfinished)
        self._running.difference_update(held)


def _live(value: Any) -> Any:
    """What a handle stands for, also inside a tuple; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_live(part) for part in value)
    return value.live() if isinstance(value, _Handle) else value


def _sees(ledger: Ledger) -> bool:
    return ledger.is_here()


def _alone(lock: str, function: Callable[..., Any], *args: Any) -> Any:
    """Run on a worker: nothing else of this job in the process meanwhile, and all the worker's threads for torch.

    Dask arrays in a corpus are read here: asking the cluster for them could wait for the very thread that asks.

    Returns:
        The function's result, ready to travel.
    """
    import dask
    from dask.utils import SerializableLock
    from distributed import get_worker

    with SerializableLock(lock), dask.config.set(scheduler="synchronous"):
        before = torch.get_num_threads()
        torch.set_num_threads(get_worker().state.nthreads)
        try:
            return boxed(function(*map(unboxed, args)))
        finally:
            torch.set_num_threads(before)
