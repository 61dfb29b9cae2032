"""One pass: hooks in, (activation, gradient) out, model left as it was.

Parameters are frozen and the graph starts at the first covered layer, so a pass computes no weight gradients:
about 4 x parameters x tokens floating point operations. Each layer's tokens go to the sink
as soon as the backward pass reaches it, and are freed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from inflab.device import TF32, autocast_dtype, model_device, on_cores, read_later, summing, to_tensor
from inflab.errors import LayerError, NumericsError, SettingError
from inflab.layer import Layer
from inflab.layout import Tokens, lay_out
from inflab.linear import quick_linear
from inflab.problem import Problem
from inflab.products import is_finite, tfloat32
from inflab.tasks import Batch, Draws

__all__ = ["Capture", "Quantity", "Sink", "frozen"]

Quantity = Literal["loss", "pseudo_loss", "measurement"]
Sink = Callable[[Layer, Tokens], None]


class Capture:
    """Passes over batches of one problem with hooks on the chosen layers; a context manager.

    On leaving, also after an error or an interrupt, hooks are gone and every parameter's `requires_grad` is back.

    Args:
        problem: model and task.
        layers: the layers to watch.
        shared: layer -> the first layer that reads the same input (`shared_inputs`), checked in every batch.
        dtype: of the pass: None keeps the model's own; a narrower one runs under autocast. Tokens leave in float32,
            or float64 when the model is float64.

    Raises:
        SettingError: when `dtype` is unknown, or wider than the model's.
    """

    def __init__(
        self,
        problem: Problem,
        layers: Sequence[Layer],
        dtype: str | None = None,
        shared: Mapping[str, str] | None = None,
    ) -> None:
        self._problem = problem
        self._layers = layers
        self._dtype = dtype
        self._autocast = autocast_dtype(problem.model, dtype)
        self._on_cores = on_cores(problem.model, dtype)
        self._modules = dict(problem.model.named_modules())
        self._inputs: dict[str, list[tuple[Tensor, int]]] = {}
        self._arrived: dict[str, dict[int, Tensor]] = {}
        self._shared = dict(shared or {})
        self._waiting = Counter(self._shared.values())
        self._twins: dict[str, tuple[int, Tokens]] = {}
        self._mask: tuple[Tensor | None, bool] = None, False
        self._pending: tuple[Sequence[Any], Callable[[], dict[str, bool]]] = (), dict
        self._stack: Any = None
        self._deliver: Callable[[Layer], None] | None = None
        floats = [p.dtype for p in problem.model.parameters() if p.is_floating_point()]
        self._float = floats[0] if floats else torch.float32

    def __enter__(self) -> Self:
        self._stack = _watching(self._problem.model, self._layers, self._modules, self._on_forward)
        self._stack.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None:
            self._check_finite()
        self._inputs.clear()
        self._arrived.clear()
        self._twins.clear()
        self._deliver = None  # it knows the sink, and through it all that a caller holds

    def run(
        self,
        arrays: dict[str, np.ndarray],
        quantity: Quantity,
        sink: Sink,
        *,
        ids: Sequence[Any],
        seed: int = 0,
    ) -> Tensor:
        """One forward and backward pass over a batch.

        Args:
            arrays: variable name -> array, first axis the example (`inflab.corpus.batch`).
            quantity: what is differentiated: "loss", "pseudo_loss" (labels sampled by the model), "measurement".
            sink: called once for each layer with its `Tokens`, during the backward pass.
            ids: the examples' ids: keys of the pseudo-labels, and names in errors.
            seed: of the pseudo-labels.

        Returns:
            The quantity of each example, `(example,)`, detached.

        Raises:
            NumericsError: NaN or infinity in the quantity, an activation or a gradient: the layer and batch are named.
            LayerError: a layer that did not run, or whose output never reaches the quantity.
        """
        task, model = self._problem.task, self._problem.model
        device = model_device(model)
        with torch.inference_mode(False):
            ready = task.prepare(arrays)
            batch: Batch = {name: to_tensor(value, device, self._float) for name, value in ready.items()}
        self._inputs = {layer.name: [] for layer in self._layers}
        self._arrived = {layer.name: {} for layer in self._layers}
        self._twins = {}
        mask = task.mask(batch)
        # Asking a GPU whether anything is masked would wait for it.
        self._mask = mask, mask is not None and mask.device.type == "cpu" and bool(mask.all())
        flags: dict[str, Tensor | bool] = {}

        def deliver(layer: Layer) -> None:
            tokens = self._tokens(layer, len(ids))
            flags[layer.name] = is_finite(tokens.activation) & is_finite(tokens.gradient)
            with summing(device, self._on_cores):
                sink(layer, tokens)

        self._deliver = deliver
        with torch.inference_mode(False), torch.enable_grad(), self._passing(device):
            with quick_linear(model):
                outputs = task.forward(model, batch)
            value_b = _quantity(task, outputs, batch, quantity, Draws(seed, ids))
            self._check_shared()
            self._check_value(value_b, quantity, ids, flags)
            if value_b.requires_grad:
                value_b.sum().backward()
        for layer in self._layers:
            self._check_reached(layer, quantity)
            if layer.name not in flags:  # several uses: complete only now
                deliver(layer)
        self._check_finite()  # of the batch before: on a GPU this one is under way meanwhile
        self._pending = ids, read_later(flags, device)
        if device.type != "cuda":
            self._check_finite()
        return value_b.detach()

    def _on_forward(self, layer: Layer, args: Any, kwargs: Any, output: Any) -> Tensor:
        given: Tensor = args[0] if args else next(iter(kwargs.values()))
        if not isinstance(output, Tensor):
            raise LayerError(f"{layer.name!r} returned a {type(output).__name__}; only tensors are supported")
        if not output.requires_grad:
            # The graph starts here. A sum, not requires_grad_(): the model may change a layer's output in place.
            output = output + torch.zeros((), dtype=output.dtype, device=output.device, requires_grad=True)
        elif output._is_view():
            output = output.clone()  # changed in place (ReLU(inplace=True)), a view would lose its hook
        started: Tensor = output
        use = len(self._inputs[layer.name])
        self._inputs[layer.name].append((given, given._version))
        if started.requires_grad:  # not where the model switches gradients off
            started.register_hook(lambda grad: self._on_backward(layer, use, grad))
        return started

    def _on_backward(self, layer: Layer, use: int, grad: Tensor) -> None:
        self._arrived[layer.name][use] = grad.detach()
        if len(self._inputs[layer.name]) == 1:  # gradients are summed over uses before any product
            assert self._deliver is not None
            self._deliver(layer)

    def _tokens(self, layer: Layer, n: int) -> Tokens:
        uses = []
        for use, grad in sorted(self._arrived[layer.name].items()):
            given, version = self._inputs[layer.name][use]
            if given._version != version:
                raise LayerError(
                    f"the input of {layer.name!r} was changed in place after it ran; use out-of-place operations "
                    "(for instance ReLU(inplace=False)), or leave the layer out with layers="
                )
            uses.append((given.detach(), grad))
        leader = self._shared.get(layer.name, layer.name)
        left, twin = self._twins.pop(leader, (self._waiting[leader], None))
        mask, is_whole = self._mask
        tokens = lay_out(layer, self._modules[layer.name], uses, mask, n, is_whole=is_whole, twin=twin)
        if left > 1:  # kept until the last layer that reads this input has had it
            self._twins[leader] = left - 1, tokens
        self._inputs[layer.name] = [(_EMPTY, 0)] * len(uses)  # free the activations
        return tokens

    def shared_inputs(self, arrays: dict[str, np.ndarray]) -> dict[str, str]:
        """Which layers read one and the same input (q, k, v; gate, up): they share A and its eigenbasis.

        Args:
            arrays: a batch; one example is enough.

        Returns:
            Layer -> the first layer that reads the same input with the same bias column, for layers used once.
        """
        self._inputs = {layer.name: [] for layer in self._layers}
        device = model_device(self._problem.model)
        with torch.inference_mode(False), torch.no_grad(), self._passing(device):
            ready = self._problem.task.prepare(arrays)
            batch = {name: to_tensor(value, device, self._float) for name, value in ready.items()}
            with quick_linear(self._problem.model):
                self._problem.task.forward(self._problem.model, batch)
        first: dict[tuple[int, bool], str] = {}
        found = {}
        for layer in self._layers:
            if len(self._inputs[layer.name]) == 1 and layer.kind in ("Linear", "Conv1D"):
                key = id(self._inputs[layer.name][0][0]), layer.has_bias
                found[layer.name] = first.setdefault(key, layer.name)
        self._inputs.clear()
        return found

    def _check_shared(self) -> None:
        for name, leader in self._shared.items():
            mine, others = self._inputs[name], self._inputs[leader]
            if name != leader and (len(mine) != 1 or len(others) != 1 or mine[0][0] is not others[0][0]):
                raise LayerError(
                    f"{name!r} and {leader!r} read the same input in the first example, and not in this batch; "
                    "leave one of them out with layers="
                )

    def _check_finite(self) -> None:
        ids, answer = self._pending
        self._pending = (), dict
        bad = [name for name, ok in answer().items() if not ok]
        if bad:
            raise NumericsError(f"NaN or infinity in activation or gradient of {bad[-1]!r} in the batch of {_ids(ids)}")

    def _check_value(
        self, value_b: Tensor, quantity: Quantity, ids: Sequence[Any], flags: dict[str, Tensor | bool]
    ) -> None:
        if value_b.shape != (len(ids),):
            raise SettingError(
                f"{type(self._problem.task).__name__} gave a {quantity} of shape {tuple(value_b.shape)} for "
                f"{len(ids)} examples; return one number an example, ({len(ids)},)"
            )
        is_bad = ~torch.isfinite(value_b.detach())
        if is_bad.device.type == "cuda":
            flags[quantity] = ~is_bad.any()
        elif bool(is_bad.any()):
            for layer in self._layers:
                if not all(bool(torch.isfinite(given).all()) for given, _ in self._inputs[layer.name]):
                    raise NumericsError(
                        f"NaN or infinity in the activation of {layer.name!r} in the batch of {_ids(ids)}, and in the "
                        f"{quantity}; it is the first covered layer that has it: look at what comes before"
                    )
            bad = [i for i, b in zip(ids, is_bad.tolist(), strict=True) if b]
            raise NumericsError(f"the {quantity} is NaN or infinite in the batch of {_ids(ids)}, first for {bad[0]!r}")

    def _check_reached(self, layer: Layer, quantity: Quantity) -> None:
        if not self._inputs[layer.name]:
            raise LayerError(f"{layer.name!r} did not run in the forward pass; leave it out with layers=")
        if not self._arrived[layer.name]:
            raise LayerError(f"the output of {layer.name!r} never reaches the {quantity}; leave it out with layers=")

    @contextmanager
    def _passing(self, device: torch.device) -> Iterator[None]:
        narrow = nullcontext() if self._autocast is None else torch.autocast(device.type, self._autocast)
        with narrow, tfloat32() if self._dtype == TF32 else nullcontext():
            yield


_EMPTY = torch.empty(0)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Parameters need no gradient inside; afterwards each one's flag is as it was."""
    flags = [(name, p, p.requires_grad) for name, p in model.named_parameters()]
    try:
        for _, parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        now = dict(model.named_parameters())
        for name, parameter, flag in flags:
            parameter.requires_grad_(flag)
            now.get(name, parameter).requires_grad_(flag)  # offloading puts new tensors in place of the old


@contextmanager
def _watching(
    model: nn.Module,
    layers: Sequence[Layer],
    modules: dict[str, nn.Module],
    on_forward: Callable[..., Tensor],
) -> Iterator[None]:
    handles = []
    with frozen(model):
        try:
            for layer in layers:
                for name in layer.modules:

                    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any, layer: Layer = layer) -> Tensor:
                        return on_forward(layer, args, kwargs, output)

                    handles.append(modules[name].register_forward_hook(hook, with_kwargs=True, prepend=True))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _quantity(task: Any, outputs: Tensor, batch: Batch, quantity: Quantity, draws: Draws) -> Tensor:
    if quantity == "measurement":
        value: Tensor = task.measure(outputs, batch)
        return value
    if quantity == "pseudo_loss":
        batch = task.sample(outputs, batch, draws)
    value = task.loss(outputs, batch)
    return value


def _ids(ids: Sequence[Any]) -> str:
    return f"{ids[0]!r} to {ids[-1]!r}" if len(ids) > 1 else f"{ids[0]!r}"
