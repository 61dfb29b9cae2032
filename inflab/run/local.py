"""Passes over a corpus on this machine: texts of like length together, a progress bar, the model as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr

from inflab.capture import Capture, Quantity
from inflab.corpus import batch, corpus_dim
from inflab.device import model_device
from inflab.errors import check_count
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.memory import batch_size, give_back, parse_memory
from inflab.problem import Problem
from inflab.progress import progress_bar

__all__ = ["BatchSink", "Pass", "shared_inputs", "token_counts"]

_IMAGE = 128  # tokens

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
        shared: layer -> the first layer that reads the same input.
    """

    problem: Problem
    layers: Sequence[Layer]
    dtype: str | None = None
    memory: int | str | None = None
    batch_size: int | None = None
    seed: int = 0
    progress: bool = True
    shared: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size, "None for the budget's own")

    def budget(self) -> int:
        """The memory budget in bytes."""
        return parse_memory(self.memory, model_device(self.problem.model))

    def itemsize(self) -> int:
        """Bytes of a number: sums are float32, or float64 for a model that has such weights."""
        return 8 if any(p.dtype == torch.float64 for p in self.problem.model.parameters()) else 4

    def over(
        self,
        corpus: xr.Dataset,
        quantity: Quantity,
        sink: BatchSink,
        *,
        what: str,
        positions: np.ndarray | None = None,
    ) -> None:
        """One pass over the rows of a corpus.

        Where a batch does not fit the memory of the device it is halved, with a warning, and so are those after it;
        layers that had their tokens already do not get them twice.

        Args:
            corpus: training corpus or query batch.
            quantity: what is differentiated.
            sink: called for each batch and layer. It must add what it computed as its last step, so that a batch that
                runs out of memory leaves nothing half added.
            what: text of the progress bar.
            positions: which rows; all when None.
        """
        dim = corpus_dim(corpus)
        rows = np.arange(corpus.sizes[dim]) if positions is None else positions
        ids = corpus[dim].to_numpy()
        bar = progress_bar(len(rows), what, "example", shown=self.progress)
        with bar, Capture(self.problem, self.layers, self.dtype, self.shared) as capture:
            most = len(rows)
            for whole in self._batches(corpus, rows):
                waiting = [(whole, frozenset[str]())]
                while waiting:
                    index, done = waiting.pop()
                    if len(index) > most:
                        waiting += [(index[most:], done), (index[:most], done)]
                        continue
                    had = self._one(capture, batch(corpus, index), quantity, sink, index, ids[index].tolist(), done)
                    if had is None:
                        bar.update(len(index))
                        continue
                    most = len(index) // 2
                    warnings.warn(
                        f"out of memory in a batch of {len(index)} examples; going on with {most} at a time "
                        "(batch_size= or a smaller memory= would start there)",
                        stacklevel=2,
                    )
                    waiting.append((index, had))
        give_back()

    def _one(
        self,
        capture: Capture,
        arrays: dict[str, np.ndarray],
        quantity: Quantity,
        sink: BatchSink,
        index: np.ndarray,
        names: list[object],
        done: frozenset[str],
    ) -> frozenset[str] | None:
        """Run one batch.

        Returns:
            None, or the layers that had their tokens before the memory ran out.

        Raises:
            RuntimeError: what went wrong, when it was not memory or the batch is a single example.
            OutOfMemoryError: likewise, on a GPU.
        """
        had = set(done)

        def deliver(layer: Layer, tokens: Tokens) -> None:
            if layer.name not in done:
                sink(index, layer, tokens)
                had.add(layer.name)

        try:
            capture.run(arrays, quantity, deliver, ids=names, seed=self.seed)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            is_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if not is_memory or len(index) == 1:
                raise
        else:
            return None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return frozenset(had)

    def _batches(self, corpus: xr.Dataset, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Rows in batches, those of like length together, so that little is computed on padding.

        Yields:
            Positions of one batch.
        """
        lengths = token_counts(corpus, rows)
        order = np.argsort(-lengths, kind="stable")  # the longest first: what does not fit shows at once
        rows, lengths = rows[order], lengths[order]
        model, budget, itemsize = self.problem.model, self.budget(), self.itemsize()
        start = 0
        while start < len(rows):
            tokens = max(int(lengths[start]), 1)
            size = batch_size(model, self.layers, tokens, budget, itemsize, self.batch_size)
            yield np.sort(rows[start : start + size])
            start += size


def shared_inputs(run: Pass, positions: np.ndarray) -> dict[str, str]:
    """Which layers read one and the same input: they share a covariance and its eigenbasis.

    Args:
        run: the pass.
        positions: the first of these training examples is run forward once.

    Returns:
        Layer -> the first layer, in the model's order, that reads its input.
    """
    with Capture(run.problem, run.layers, run.dtype) as capture:
        return capture.shared_inputs(batch(run.problem.corpus, positions[:1]))


def token_counts(corpus: xr.Dataset, rows: np.ndarray) -> np.ndarray:
    """Tokens of text in each of these rows of a corpus, `(row,)`."""
    if "is_text" not in corpus:  # a row of a table is one token; how many an image has depends on the model
        return np.full(len(rows), 1 if corpus["input"].ndim <= 2 else _IMAGE)
    return np.asarray(corpus["is_text"].transpose(corpus_dim(corpus), "token").to_numpy()[rows].sum(axis=1))
