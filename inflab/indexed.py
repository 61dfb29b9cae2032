"""What a fitted method does beside scoring: an index to answer without the training data, and a plan before the work.

Opening a saved result needs no torch: the engine is imported when a question needs a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from inflab.fitted import Fitted

if TYPE_CHECKING:
    import pandas as pd

    from inflab.index import Index

__all__ = ["Indexed"]


class Indexed(Fitted):
    """Index and plan; see `inflab.Influence`."""

    def index(
        self,
        path: str | Path,
        *,
        size: float | None = None,
        fidelity: float | None = None,
        train: xr.Dataset | None = None,
        client: Any = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        shard_size: int | None = None,
        progress: bool = True,
    ) -> Index:
        """Compress the training gradients into a store, so that later questions make no pass over the training data.

        Args:
            path: the store. A run that was broken off goes on when it is called again; a finished one is opened.
            size: bytes of a sequence as a share of its gradient in float32, such as 0.025; at most 0.25.
            fidelity: instead, the smallest size at which scores of a sample have this rank correlation with exact ones.
            train: other sequences to index instead of the training corpus.
            client: a `dask.distributed.Client` whose workers make the pass.
            memory: budget of each worker, such as "3GB"; codes that fit half of it stay in memory between questions.
            batch_size: examples in one pass; from the budget when None.
            shard_size: sequences done and kept together; from the corpus when None.
            progress: whether to show progress bars.

        Returns:
            An `Index`: `Index.score(queries)`, and attrs `size`, `kept_energy`, `fidelity` and `top_overlap`.

        Raises:
            CorpusError: when the corpus has fewer than three sequences.
            SettingError: when not exactly one of `size` and `fidelity` is given, or one cannot be had.
            StoreError: the store holds something else, is being written by another process, or cannot be written.
        """
        from inflab.index import build

        self._check_diagonal("an index")
        return build(
            self, path, size=size, fidelity=fidelity, train=train, client=client, memory=memory, batch_size=batch_size,
            shard_size=shard_size, progress=progress,
        )  # fmt: skip

    def open_index(self, path: str | Path, *, memory: int | str | None = None) -> Index:
        """Reopen what `index` wrote.

        Args:
            path: the store.
            memory: budget such as "3GB"; codes that fit half of it stay in memory between questions.

        Returns:
            The index.

        Raises:
            StoreError: nothing there, not finished, no index, or made with another model, corpus, damping or factors.
        """
        from inflab.index import Index

        self._check_diagonal("an index")
        return Index.open(path, self, memory=memory)

    def plan(
        self,
        queries: xr.Dataset,
        *,
        rank: int | None = None,
        train: xr.Dataset | None = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        rate: float | None = None,
    ) -> pd.DataFrame:
        """What `score` would do, before any work: operations, bytes and passes of each route, and the route taken.

        Args:
            queries: a corpus over `query`.
            rank: as for `score`; likewise `train`, `memory` and `batch_size`.
            train: the sequences to be scored.
            memory: budget such as "3GB".
            batch_size: examples in one pass.
            rate: floating point operations in a second; measured here in a fraction of a second when None.

        Returns:
            A table: `step`, `layer`, `route`, `flops`, `bytes`, `share`, `seconds`, `taken`, `why`; totals in `attrs`.
        """
        from inflab.plan import plan_score
        from inflab.workload import mean_tokens, workload

        train = self._train(train)
        self.problem.check_corpus(queries, "query")
        work = workload(
            self.problem.model,
            self._layers(),
            examples=train.sizes["train"],
            tokens=mean_tokens(train),
            memory=memory,
            rate=rate,
            batch=batch_size,
        )
        return plan_score(work, queries=queries.sizes["query"], query_tokens=mean_tokens(queries), rank=rank)
