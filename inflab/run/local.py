"""Passes over a corpus on this machine: batches in order, a progress bar, the model as it was afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from inflab.capture import Capture, Quantity, model_device
from inflab.corpus import batch, corpus_dim
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.plan import batch_size, parse_memory
from inflab.problem import Problem

__all__ = ["Pass", "BatchSink"]

#: Receives the positions of the batch's examples in the corpus, the layer, and its tokens.
BatchSink = Callable[[np.ndarray, Layer, Tokens], None]


@dataclass(frozen=True)
class Pass:
    """Everything that passes over one problem share.

    Attributes:
        problem: model, task, training corpus.
        layers: the covered layers.
        dtype: of the pass (see `Capture`).
        memory: budget in bytes, or None: half of what is free.
        batch_size: examples at a time, or None: from the budget.
        seed: of the pseudo-labels.
        progress: whether a bar is shown.
    """

    problem: Problem
    layers: Sequence[Layer]
    dtype: str | None = None
    memory: int | str | None = None
    batch_size: int | None = None
    seed: int = 0
    progress: bool = True

    def budget(self) -> int:
        """The memory budget in bytes."""
        return parse_memory(self.memory, model_device(self.problem.model))

    def over(
        self,
        corpus: xr.Dataset,
        quantity: Quantity,
        sink: BatchSink,
        *,
        what: str,
        positions: np.ndarray | None = None,
    ) -> list[Tensor]:
        """One pass over the rows of a corpus.

        Args:
            corpus: training corpus or query batch.
            quantity: what is differentiated.
            sink: called for each batch and layer.
            what: text of the progress bar.
            positions: which rows; all when None.

        Returns:
            The quantity of each example, one tensor a batch.
        """
        dim = corpus_dim(corpus)
        rows = np.arange(corpus.sizes[dim]) if positions is None else positions
        size = batch_size(self.problem.model, corpus, self.layers, self.budget(), self.batch_size)
        ids = corpus[dim].to_numpy()
        values = []
        bar = tqdm(total=len(rows), desc=what, unit="example", disable=not self.progress, leave=False)
        with bar, Capture(self.problem, self.layers, self.dtype) as capture:
            for start in range(0, len(rows), size):
                index = rows[start : start + size]

                def deliver(layer: Layer, tokens: Tokens, index: np.ndarray = index) -> None:
                    sink(index, layer, tokens)

                names = ids[index].tolist()
                values.append(capture.run(batch(corpus, index), quantity, deliver, ids=names, seed=self.seed))
                bar.update(len(index))
        return values
