"""Products of the joint Gauss-Newton matrix of all covered layers with many vectors at once.

`G = E[J^T H J]` over training examples: J is the derivative of the model's outputs in the weights of every covered
layer, H that of the loss's gradient in the outputs, so that blocks between layers are there too (GB23 eq. 9;
Schraudolph 2002). For softmax cross-entropy and for squared loss it is the Fisher matrix, and labels do not matter.

A vector is a row of `(q, p)`: the matrices `(o, i)` of the layers one after another, each row by row. All vectors share
the forward pass: `J v` is a forward-mode derivative, `H u` a backward pass through the loss's gradient, `J^T u` one
through the model, each over all vectors together (`torch.func.vmap`). Where a model's operations do not allow that,
each vector is taken alone by reverse mode twice: `J v` is the derivative of `J^T w` in w, along v.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from inflab.capture import frozen
from inflab.corpus import batch
from inflab.device import model_device, to_tensor
from inflab.errors import ModelError
from inflab.functional import bound, directions, matrices, parameter_names
from inflab.layer import Layer
from inflab.memory import pass_bytes
from inflab.products import chunks
from inflab.run.local import Pass
from inflab.tasks import Batch

__all__ = ["GaussNewton", "by_layer", "width_of"]

_WORKING = 10**9  # bytes: more at a time gains nothing
_ASYMMETRY = 0.05  # rounding of a narrow dtype is less, a missing derivative more
_SHARING = 8  # vectors that should share a forward pass, where memory allows it


def width_of(layers: Sequence[Layer]) -> int:
    """Length p of a vector."""
    return sum(layer.outputs * layer.width for layer in layers)


def by_layer(layers: Sequence[Layer], value_p: Tensor) -> dict[str, Tensor]:
    """Vectors `(..., p)` as the layers' matrices `(..., o, i)`; they share memory."""
    sizes = [layer.outputs * layer.width for layer in layers]
    parts = value_p.split(sizes, dim=-1)
    return {layer.name: part.unflatten(-1, (-1, layer.width)) for layer, part in zip(layers, parts, strict=True)}


class GaussNewton:
    """The joint Gauss-Newton matrix of one problem; a context manager, which leaves the model as it was.

    Products run in the model's own dtype.

    Args:
        run: the pass: problem, layers, memory budget, examples at a time.
        positions: the training examples of which it is the mean.

    Raises:
        ModelError: when weights of a covered layer are offloaded.
    """

    def __init__(self, run: Pass, positions: np.ndarray) -> None:
        self.layers, self.positions = run.layers, positions
        self._task, self._model = run.problem.task, run.problem.model
        away = [layer.name for layer in run.layers if self._model.get_submodule(layer.name).weight.is_meta]
        if away:
            raise ModelError(f"Gauss-Newton products need the weights of {away[0]!r}, which are offloaded; use EKFAC")
        self._modules = dict(self._model.named_modules())
        self._corpus, self._device = run.problem.corpus, model_device(self._model)
        self._float = next(p.dtype for p in self._model.parameters() if p.is_floating_point())
        budget = run.budget()
        self._run = replace(run, memory=max(1, budget // _SHARING))
        self._bytes = min(budget // 4, _WORKING)
        self._token = pass_bytes(self._model, run.layers, run.itemsize())
        self._weights = {n: self._model.get_parameter(n).detach() for n in parameter_names(run.layers)}
        whole = sum(value.nbytes for value in self._corpus.data_vars.values())
        self._held = batch(self._corpus, np.arange(self._corpus.sizes["train"])) if whole < budget // 16 else None
        self._whole: list[np.ndarray] = []
        self._is_together: bool | None = None
        self._stack = ExitStack()

    def __enter__(self) -> GaussNewton:
        enter = self._stack.enter_context
        enter(torch.inference_mode(False))
        enter(torch.enable_grad())
        enter(frozen(self._model))
        enter(sdpa_kernel(SDPBackend.MATH))  # fused attention kernels have neither derivative
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def like(self) -> Tensor:
        """`(0, p)`: shape, dtype and device of vectors."""
        dtype = torch.float64 if self._run.itemsize() == 8 else torch.float32
        return torch.empty(0, width_of(self.layers), dtype=dtype, device=self._device)

    def product(self, value_qp: Tensor, rows: np.ndarray | None = None) -> Tensor:
        """`G V`.

        Args:
            value_qp: the vectors.
            rows: which of `positions`, for the mean over these alone; all when None.

        Returns:
            `(q, p)`.
        """
        found: Tensor | None = None
        n = len(self.positions) if rows is None else len(rows)
        for index in self._batches(rows):
            arrays = self._tensors(index)
            tokens = arrays["is_text"].shape[1] if "is_text" in arrays else 1
            parts = [
                self._one(arrays, value_qp[part], 1 / n)
                for part in chunks(len(value_qp), len(index) * tokens * self._token, self._bytes)
            ]
            part_qp = parts[0] if len(parts) == 1 else torch.cat(parts)
            found = part_qp if found is None else found.add_(part_qp)
        assert found is not None
        return found

    def _one(self, arrays: Batch, value_qp: Tensor, scale: float) -> Tensor:
        """The product of the sum over a batch, times `scale`."""
        if self._is_together is None:
            self._is_together = self._works_together({name: value[:1] for name, value in arrays.items()})
        return (self._together if self._is_together else self._alone)(arrays, value_qp, scale)

    def _works_together(self, one: Batch) -> bool:
        """Try both routes on one example."""
        why = []
        for route in (self._together, self._alone):
            try:
                if self._is_symmetric(route, one):
                    return route == self._together
                why.append("its forward and backward derivatives disagree")
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                why.append(str(error).partition("\n")[0])
        raise ModelError(
            f"{type(self._model).__name__} has no derivative of its derivative, which Gauss-Newton products need "
            f"(all vectors together: {why[0]}; each alone: {why[1]}); use EKFAC"
        )

    def _is_symmetric(self, route: Callable[..., Tensor], one: Batch) -> bool:
        """Whether `u^T G v` is `v^T G u`: torch takes some operations without a second derivative for constants."""
        generator = torch.Generator().manual_seed(0)
        like = self.like()
        value_qp = torch.randn(3, like.shape[1], generator=generator, dtype=torch.float64).to(like)
        for layer, part in zip(self.layers, by_layer(self.layers, value_qp).values(), strict=True):
            padding = getattr(self._modules[layer.name], "padding_idx", None)
            if padding is not None:  # a row without gradient
                part[..., padding] = 0
        cross_qq = value_qp @ route(one, value_qp, 1.0).T
        return bool((cross_qq - cross_qq.T).abs().max() <= _ASYMMETRY * cross_qq.abs().max())

    def _together(self, arrays: Batch, value_qp: Tensor, scale: float) -> Tensor:
        def outputs(weights: dict[str, Tensor]) -> Tensor:
            return self._task.forward(bound(self._model, weights), arrays)

        def forwards(value_p: Tensor) -> Tensor:
            tangents = directions(self.layers, self._modules, by_layer(self.layers, value_p))
            found: Tensor = jvp(outputs, (self._weights,), ({name: tangents[name] for name in self._weights},))[1]
            return found

        def slope(outputs: Tensor) -> Tensor:
            return self._task.loss(outputs, arrays).sum()

        found: Any = vjp(outputs, self._weights)
        output, back = found
        found = vjp(grad(slope), output.detach())
        bend = found[1]  # H is symmetric

        def bent(tangent: Tensor) -> Tensor:
            found: Tensor = bend(tangent)[0]
            return found * scale

        def backwards(bent: Tensor) -> Tensor:
            return self._joined(back(bent)[0], value_qp.dtype)

        return vmap(backwards)(vmap(bent)(vmap(forwards)(value_qp)))

    def _alone(self, arrays: Batch, value_qp: Tensor, scale: float) -> Tensor:
        weights = {name: value.detach().requires_grad_() for name, value in self._weights.items()}
        output = self._task.forward(bound(self._model, weights), arrays)
        ones = torch.zeros_like(output, requires_grad=True)
        at = output.detach().requires_grad_()
        slope = torch.autograd.grad(self._task.loss(at, arrays).sum(), at, create_graph=True)[0]
        wanted = list(weights.values())
        rows = torch.autograd.grad(output, wanted, ones, create_graph=True, materialize_grads=True)
        found = []
        for value_p in value_qp:
            tangents = directions(self.layers, self._modules, by_layer(self.layers, value_p))
            along = [tangents[name] for name in weights]
            # The loss may be of no curvature, and the outputs linear in some weights: both are zeros, not errors.
            (tangent,) = torch.autograd.grad(rows, ones, along, retain_graph=True, materialize_grads=True)
            if slope.requires_grad:
                (bent,) = torch.autograd.grad(slope, at, tangent, retain_graph=True, materialize_grads=True)
            else:
                bent = torch.zeros_like(tangent)
            back = torch.autograd.grad(output, wanted, bent * scale, retain_graph=True, materialize_grads=True)
            found.append(self._joined(dict(zip(weights, back, strict=True)), value_qp.dtype))
        return torch.stack(found)

    def _joined(self, weights: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        found = matrices(self.layers, self._modules, weights)
        return torch.cat([found[layer.name].reshape(-1) for layer in self.layers]).to(dtype)

    def _batches(self, rows: np.ndarray | None) -> Iterator[np.ndarray]:
        if rows is not None:
            yield from self._run._batches(self._corpus, self.positions[rows])
            return
        self._whole = self._whole or list(self._run._batches(self._corpus, self.positions))
        yield from self._whole

    def _tensors(self, index: np.ndarray) -> Batch:
        if self._held is None:
            arrays = batch(self._corpus, index)
        else:
            arrays = {name: value[index] for name, value in self._held.items()}
            if "is_text" in arrays:  # as long as the longest of these texts, not of all
                longest = int(arrays["is_text"].sum(axis=1).max())
                by_token = [name for name in arrays if set(self._corpus[name].dims) == {"train", "token"}]
                arrays |= {name: arrays[name][:, :longest] for name in by_token}
        return {name: to_tensor(value, self._device, self._float) for name, value in arrays.items()}
