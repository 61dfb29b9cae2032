"""Where tokens do not fit the memory: what goes into the smallest module around some layers, and its output's gradient.

From these two the module runs again, forward and backward, and its layers' tokens come out as they did in the pass: an
MLP of width 4 d costs 2 d numbers a token instead of 10 d, and a replay a fraction of a pass. Each layer's tokens are
held to the norms they had; a module that depends on more than its input is found out, and passed over again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inflab.capture import Capture
from inflab.device import summing
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.linear import quick_linear
from inflab.run.kept import Kept
from inflab.run.local import BatchSink, Pass, token_counts
from inflab.sections import Section, sections

__all__ = ["Differs", "Replays", "keeper"]

_SLAB = 2**26  # bytes: enough for pages of its own, which are taken only as they are written
_SAME = 1e-4  # of a norm: the same products rounded otherwise stay far below


class Differs(RuntimeError):
    """A module that ran again gave other tokens than in the pass."""


def keeper(run: Pass, positions: np.ndarray, budget: int) -> Kept | Replays:
    """What keeps the tokens of a pass for the next: themselves where all fit the budget, else what brings them back."""
    leaders = {run.shared.get(layer.name, layer.name) for layer in run.layers}
    width = sum(layer.outputs + (layer.width if layer.name in leaders else 0) for layer in run.layers)
    needed = run.itemsize() * width * int(token_counts(run.problem.corpus, positions).sum())
    found = sections(run.problem.model, run.layers) if needed > budget else []
    return Replays(run, budget, found) if found else Kept(run.layers, budget)


@dataclass
class _Batch:
    """What is kept of one batch.

    Attributes:
        index: positions of its examples.
        is_text: by layer in a section.
        norms: of activation and gradient, likewise.
        tokens: of the layers in no section.
        ends: input and output gradient of each section.
    """

    index: np.ndarray
    is_text: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)
    ends: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        held = [value for pair in self.ends.values() for value in pair]
        for tokens in self.tokens.values():
            held += [tokens.activation, tokens.gradient]
        return sum(value.untyped_storage().nbytes() for value in {id(value): value for value in held}.values())


@dataclass
class Replays:
    """Batches of sections' ends within a budget; used as `Kept` is.

    Attributes:
        run: the pass.
        budget: bytes that may be kept in all.
        sections: the modules that will run again.
        batches: those that are kept.
        size: bytes kept so far.
    """

    run: Pass
    budget: int
    sections: list[Section]
    batches: list[_Batch] = field(default_factory=list)
    size: int = 0
    _inside: frozenset[str] = frozenset()
    _slab: tuple[Tensor | None, int] = (None, 0)
    _ends: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _runs: Counter[str] = field(default_factory=Counter)
    _open: _Batch | None = None
    _refused: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._inside = frozenset(layer.name for section in self.sections for layer in section.layers)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Watch the sections during a pass.

        Yields:
            Nothing.
        """
        handles = []
        try:
            for section in self.sections:
                module = self.run.problem.model.get_submodule(section.name)
                handles.append(module.register_forward_hook(self._watch(section.name), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._ends, self._open, self._slab = {}, None, (None, 0)

    def offer(self, index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        """One layer's tokens of a batch; with the last of them the batch is kept, or dropped where it does not fit."""
        if index is self._refused:
            return
        if self._open is None or self._open.index is not index:
            self._open = _Batch(index)
        held = self._open
        if layer.name in self._inside:
            held.is_text[layer.name], held.norms[layer.name] = tokens.is_text, _norms(tokens)
        else:
            tokens.memo.clear()
            held.tokens[layer.name] = tokens
        if len(held.norms) + len(held.tokens) < len(self.run.layers):
            return
        is_once = all(self._runs[section.name] == 1 for section in self.sections)  # a shared module may run twice
        held.ends, self._ends, self._open = self._ends, {}, None
        self._runs.clear()
        if is_once and len(held.ends) == len(self.sections) and self.size + held.size <= self.budget:
            self.size += held.size
            held.ends = {name: (self._placed(start), self._placed(grad)) for name, (start, grad) in held.ends.items()}
            self.batches.append(held)
        else:
            self._refused = index

    def _placed(self, value: Tensor) -> Tensor:
        """A copy in a slab: many small things that stay would leave holes between what comes and goes."""
        slab, used = self._slab
        size = value.numel()
        if slab is None or slab.dtype != value.dtype or slab.device != value.device or used + size > len(slab):
            slab, used = value.new_empty(max(size, _SLAB // value.element_size())), 0
        self._slab = slab, used + size
        return slab[used : used + size].view(value.shape).copy_(value)

    def rest(self, positions: np.ndarray) -> np.ndarray:
        """Which of these positions are not kept."""
        there = [held.index for held in self.batches]
        return np.setdiff1d(positions, np.concatenate(there)) if there else positions

    def feed(self, sink: BatchSink, done: Callable[[int], object]) -> None:
        """Run the sections again, hand all tokens on, batch by batch, and give each up.

        Args:
            sink: called for each batch and layer.
            done: told how many examples are through.

        Raises:
            Differs: when a layer's tokens are not those of the pass; the module is named.
        """
        run = self.run
        self.batches.reverse()
        with _Again(run.problem, run.layers, run.dtype, run.shared) as again:
            while self.batches:
                held = self.batches.pop()
                for layer in run.layers:
                    if layer.name in held.tokens:
                        sink(held.index, layer, held.tokens.pop(layer.name))
                for section in self.sections:

                    def deliver(layer: Layer, tokens: Tokens, held: _Batch = held, name: str = section.name) -> None:
                        for found, expected in zip(_norms(tokens), held.norms[layer.name], strict=True):
                            if not torch.isclose(found, expected, rtol=_SAME, atol=0):
                                raise Differs(name)
                        sink(held.index, layer, tokens)

                    again.section(section, *held.ends.pop(section.name), held.is_text, deliver)
                done(len(held.index))
        self.size = 0

    def _watch(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._runs[name] += 1
            given = [*args, *kwargs.values()]
            if len(given) != 1 or not all(isinstance(one, Tensor) for one in (*given, output)):
                return
            if output.requires_grad:
                start = given[0].detach()
                output.register_hook(lambda grad: self._ends.__setitem__(name, (start, grad.detach())))

        return hook


class _Again(Capture):
    """Runs single modules again."""

    def section(
        self,
        section: Section,
        start: Tensor,
        grad: Tensor,
        is_text: Mapping[str, Tensor],
        sink: Callable[[Layer, Tokens], None],
    ) -> None:
        """One forward and backward pass through a module.

        Args:
            section: which.
            start: its input.
            grad: the gradient at its output.
            is_text: `(example, token)` bool of each layer, of all its uses in a row.
            sink: called once for each of its layers.

        Raises:
            Differs: when it does not do what it did in the pass.
        """
        device = start.device
        self._inputs = {layer.name: [] for layer in self._layers}
        self._arrived = {layer.name: {} for layer in self._layers}
        self._twins = {}

        left = {layer.name: layer for layer in section.layers}

        def deliver(layer: Layer) -> None:
            mask = is_text[layer.name]
            mask = mask[:, : mask.shape[1] // len(self._arrived[layer.name])]
            self._mask = mask, device.type == "cpu" and bool(mask.all())
            tokens = self._tokens(layer, len(mask))
            left.pop(layer.name, None)
            with summing(device, self._on_cores):
                sink(layer, tokens)

        self._deliver = deliver
        with torch.inference_mode(False), torch.enable_grad(), self._passing(device):
            with quick_linear(self._problem.model):
                output = self._modules[section.name](start)
            if output.shape != grad.shape or not output.requires_grad:
                raise Differs(section.name)
            output.backward(grad)
        for layer in list(left.values()):  # used several times: complete only now
            if not self._arrived[layer.name]:
                raise Differs(section.name)
            deliver(layer)


def _norms(tokens: Tokens) -> tuple[Tensor, Tensor]:
    return torch.linalg.vector_norm(tokens.activation), torch.linalg.vector_norm(tokens.gradient)
