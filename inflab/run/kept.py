"""Tokens captured in one pass and kept in memory for the next: a fit then passes over the data once, not twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.run.local import BatchSink

__all__ = ["Kept"]


@dataclass
class Kept:
    """Batches of tokens within a budget.

    Attributes:
        layers: the covered layers.
        budget: bytes that may be kept in all.
        batches: positions of a batch's examples, and the tokens of every layer.
        size: bytes kept so far.
    """

    layers: Sequence[Layer]
    budget: int
    batches: list[tuple[np.ndarray, dict[str, Tokens]]] = field(default_factory=list)
    size: int = 0
    _refused: np.ndarray | None = None

    def offer(self, index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        """Keep one layer's tokens of a batch; a batch that does not fit whole is dropped again."""
        if index is self._refused:
            return
        if not self.batches or self.batches[-1][0] is not index:
            self.batches.append((index, {}))
        held = self.batches[-1][1]
        twins = {id(other.activation) for other in held.values()}
        added = _bytes(tokens.gradient) + (0 if id(tokens.activation) in twins else _bytes(tokens.activation))
        tokens.memo.clear()
        held[layer.name] = tokens
        self.size += added
        if self.size > self.budget:
            self.size -= sum(_bytes(t.gradient) for t in held.values())
            self.size -= sum(_bytes(a) for a in {id(t.activation): t.activation for t in held.values()}.values())
            self.batches.pop()
            self._refused = index

    def rest(self, positions: np.ndarray) -> np.ndarray:
        """Which of these positions are not kept; a batch without all its layers (one that was halved) is dropped."""
        self.batches = [(index, held) for index, held in self.batches if len(held) == len(self.layers)]
        there = [index for index, _ in self.batches]
        return np.setdiff1d(positions, np.concatenate(there)) if there else positions

    def feed(self, sink: BatchSink, done: Callable[[int], object]) -> None:
        """Hand all tokens on, batch by batch, and give each up.

        Args:
            sink: called for each batch and layer, in the order of layers.
            done: told how many examples are through.
        """
        self.batches.reverse()
        while self.batches:
            index, held = self.batches.pop()
            for layer in self.layers:
                sink(index, layer, held.pop(layer.name))
            done(len(index))
        self.size = 0


def _bytes(value: Tensor) -> int:
    return value.untyped_storage().nbytes()
