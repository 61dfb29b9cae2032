"""Work in shards: who does which examples, what a store already holds, and how a result says so.

Without a store and a client a job is one shard and runs here, as if there were no shards. With either, the corpus is
cut into shards by its own length alone, so that results do not depend on the number of workers, the memory budget or
where a run was broken off. A `Crew` does the shards: this process (`Here`), or the workers of a dask cluster
(`inflab.run.cluster`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from inflab.errors import SettingError, check_count
from inflab.run.ledger import Arrays, Ledger, opened
from inflab.run.local import Pass
from inflab.store import COUNTS, open_tree

__all__ = ["Crew", "Here", "Shard", "Work", "cut", "query_parts", "working"]

_TOKENS = 2**17  # tokens in a shard: half a minute to some minutes of work for the usual pair of model and machine
_SHARDS = 64  # a small corpus is cut into so many, so that several workers have something to do
_EXAMPLES = 32  # but not into shards shorter than a batch


@dataclass(frozen=True)
class Shard:
    """Some training examples, done together.

    Attributes:
        index: its number.
        positions: of its examples, ascending.
    """

    index: int
    positions: np.ndarray


def cut(positions: np.ndarray, tokens: int, size: int | None) -> list[Shard]:
    """Cut positions into shards.

    Args:
        positions: ascending.
        tokens: length of an example.
        size: examples in a shard; None chooses from the number and the length of the examples alone.

    Returns:
        At least one.

    Raises:
        SettingError: when `size` is below 1.
    """
    if size is None:
        most = max(_EXAMPLES, _TOKENS // max(tokens, 1))
        size = min(max(-(-len(positions) // _SHARDS), _EXAMPLES), most)
    check_count("shard_size", size, "None for one from the corpus")
    starts = range(0, len(positions), size)
    return [Shard(index, positions[start : start + size]) for index, start in enumerate(starts)]


def query_parts(positions: np.ndarray) -> list[np.ndarray]:
    """Queries of one block in parts, so that several workers share their pass; by their number alone."""
    size = min(max(-(-len(positions) // 8), 8), _EXAMPLES)
    return [positions[start : start + size] for start in range(0, len(positions), size)]


class Crew(Protocol):
    """Who does the work. What `share` and `call` return is only for handing to `call` and `each` again."""

    def share(self, value: Any, *, everyone: bool = True) -> Any:
        """Bring something to everyone, or to whoever needs it, once."""

    def call(self, function: Callable[..., Any], *args: Any, last: bool = False) -> Any:
        """Have something computed once, for `each` to use; `last` says that its arguments are of no use afterwards."""

    def each(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Compute `function(*shared, item)` for each item.

        Yields:
            Each item with its result, in whichever order they are done.
        """

    def total(
        self,
        function: Callable[..., Arrays],
        shards: Sequence[Shard],
        shared: Sequence[Any],
        done: Callable[[Shard], None],
    ) -> Arrays:
        """The sum of `function(*shared, shard)` over shards, added as `inflab.run.tree` does."""

    def budget(self, run: Pass) -> int:
        """Bytes that one worker may use, when the user names none."""

    def reaches(self, ledger: Ledger) -> bool:
        """Whether those who do the work see the disk of a store, so that they can write to it themselves."""


class Here:
    """This process does the work."""

    def share(self, value: Any, *, everyone: bool = True) -> Any:
        """The thing itself."""
        return value

    def call(self, function: Callable[..., Any], *args: Any, last: bool = False) -> Any:
        """The result itself."""
        return function(*args)

    def each(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Items in order.

        Yields:
            Each item with its result.
        """
        for item in items:
            yield item, function(*shared, item)

    def total(
        self,
        function: Callable[..., Arrays],
        shards: Sequence[Shard],
        shared: Sequence[Any],
        done: Callable[[Shard], None],
    ) -> Arrays:
        """Not needed here: what is cut into shards has a store.

        Raises:
            AssertionError: always.
        """
        raise AssertionError("shards that are done here are summed in their store")

    def budget(self, run: Pass) -> int:
        """The pass's own."""
        return run.budget()

    def reaches(self, ledger: Ledger) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class Work:
    """One job, cut into shards.

    Attributes:
        run: the pass.
        crew: who does it.
        shards: all of them, also those that are done.
        ledger: the account of the store, or None.
        is_whole: whether all is one shard, done here and now, with nothing to keep.
        counts: shards that were computed now, and those that were there.
    """

    run: Pass
    crew: Crew
    shards: list[Shard]
    ledger: Ledger | None
    is_whole: bool
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    def each(
        self, function: Callable[..., Any], missing: Sequence[Shard], shared: Sequence[Any], what: str, of: int = 0
    ) -> Iterator[tuple[Shard, Any]]:
        """Do the shards that are missing, and count.

        Args:
            function: `(*shared, shard)`.
            missing: those to do.
            shared: handles of the crew.
            what: text of the progress bar.
            of: how many there are of which these are missing; all shards when 0.

        Yields:
            Each shard with its result.
        """
        self.counts["shards_resumed"] += (of or len(self.shards)) - len(missing)
        with self.bar(what, missing) as bar:
            for shard, value in self.crew.each(function, missing, *shared):
                yield shard, value
                self.counts["shards_computed"] += 1
                bar.update(len(shard.positions))

    def bar(self, what: str, missing: Sequence[Shard]) -> Any:
        """A progress bar over examples that stands where the missing ones begin."""
        whole, left = (sum(len(shard.positions) for shard in shards) for shards in (self.shards, missing))
        hidden = self.is_whole or not self.run.progress  # a pass has its own
        return tqdm(total=whole, initial=whole - left, desc=what, unit="example", disable=hidden, leave=False)

    def quiet(self) -> Pass:
        """The pass for a crew: without bars of its own, unless it is all there is."""
        return self.run if self.is_whole else replace(self.run, progress=False)

    def settled(self, choose: Callable[[Pass], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Choices of the first run, where there is one to go on with; else those of `choose`."""
        return self.ledger.settled if self.ledger is not None and self.ledger.settled else choose(self.run)

    def reopened(self) -> xr.DataTree:
        """The store, which is complete."""
        assert self.ledger is not None
        self.counts["shards_resumed"] = self.ledger.total
        return open_tree(self.ledger.path)

    def attrs(self) -> dict[str, int]:
        """What the result says of the work; nothing when there was no store and no client."""
        return {} if self.is_whole else dict(self.counts)


@contextmanager
def working(
    run: Pass,
    positions: np.ndarray,
    tokens: int,
    *,
    store: str | Path | None,
    client: Any,
    shard_size: int | None,
    identity: Callable[[], Mapping[str, Any]],
    n_bytes: int,
    settled: Callable[[Pass], Mapping[str, Any]] = lambda run: {},
) -> Iterator[Work]:
    """Set up a job.

    Args:
        run: the pass.
        positions: of the examples it is over.
        tokens: length of an example.
        store: where to keep what is finished, or None.
        client: a `dask.distributed.Client`, or None.
        shard_size: examples in a shard, or None.
        identity: what is computed from what; asked for only where there is a store.
        n_bytes: what the store will take, at most; a disk with less room is refused before the work.
        settled: choices that depend on the memory budget, and that a run that goes on must keep.

    Yields:
        The work. With a store, its `run` has the memory budget of the first run where the user names none: a batch of
        another size rounds differently.

    Raises:
        SettingError: when `shard_size` is given without a store and a client, or `client` is none.
        StoreError: when the store cannot be used.
    """
    if store is None and client is None:
        if shard_size is not None:
            raise SettingError(f"shard_size={shard_size!r} needs store= or client=; without, there is one shard")
        yield Work(run, Here(), [Shard(0, positions)], None, is_whole=True)
        return
    shards = cut(positions, tokens, shard_size)
    crew: Crew = Here()
    with ExitStack() as stack:
        if client is not None:
            from inflab.run.cluster import Cluster

            crew = stack.enter_context(Cluster(client))
        asked = run.memory
        run = replace(run, memory=run.budget() if asked is not None else crew.budget(run))
        ledger = None
        if store is not None:
            of = {**identity(), "shards": len(shards), "shard_size": len(shards[0].positions)}
            ledger = stack.enter_context(opened(store, of, {"memory": run.memory, **settled(run)}, n_bytes))
            if asked is None and ledger.settled:
                run = replace(run, memory=int(ledger.settled["memory"]))
        yield Work(run, crew, shards, ledger, is_whole=False)
