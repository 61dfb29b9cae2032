"""The proximal Bregman objective of some training examples, and a preconditioner for it (GB23 eqs. 7 and 8).

Of each example m it is `(1/N) sum_i D_L(h(theta, x_i), h(theta_s, x_i)) + eps L(z_m, theta) + (lambda/2) |theta -
theta_s|^2` with `D_L(y, y_s) = L(y) - L(y_s) - grad L(y_s)^T (y - y_s)`, in `u = (theta - theta_s) / eps`, which tends
to the influence of z_m on the parameters when eps tends to 0. Points share every batch: what differs between them is
the weights, which are stacked, and the weight `eps` of the loss of one example.

At theta_s the second derivative of the divergence is the Gauss-Newton matrix G, for any eps. A low-rank Nystrom
approximation of G + lambda I (Frangella, Tropp & Udell 2023), drawn from products with G, thus preconditions all
points. It knows no Kronecker factors: the response owes nothing to the methods that are held against it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.func import grad, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from inflab.device import model_device
from inflab.errors import ModelError, NumericsError
from inflab.functional import bound, directions, matrices, parameter_names
from inflab.layer import Layer
from inflab.memory import pass_bytes
from inflab.problem import Problem
from inflab.run.gauss_newton import GaussNewton, by_layer, width_of
from inflab.run.local import Pass
from inflab.tasks import Batch
from inflab.truth.material import Rows

__all__ = ["Proximal", "Sketch"]

_WORKING = 2**28  # bytes of activations of all points together
_VANISHING = 1e-13  # of the largest eigenvalue: rounding
_ROUNDING = 8
_AGREEING = 1e-3  # models differ in which kernels they run stacked


@dataclass(frozen=True)
class _Chunk:
    """Some examples.

    Attributes:
        index: their positions.
        batch: their tensors.
        slope: gradient of their losses in the outputs at theta_s.
        loss: their losses there.
        at: `loss - slope^T outputs` there.
    """

    index: Tensor
    batch: Batch
    slope: Tensor
    loss: Tensor
    at: Tensor


class Proximal:
    """The objective for some training examples; a context manager.

    Args:
        problem: model, task, corpus; the model is copied.
        layers: the covered layers; all other parameters stay as they are.
        dtype: of the copy.
        damping: lambda.
        at_once: the most points that are asked for together.

    Raises:
        ModelError: when weights are offloaded, so that the model cannot be copied.
    """

    def __init__(
        self, problem: Problem, layers: Sequence[Layer], dtype: torch.dtype, damping: float, at_once: int
    ) -> None:
        away = [name for name, value in problem.model.named_parameters() if value.is_meta]
        if away:
            raise ModelError(f"weights of {away[0]!r} are offloaded, so the model cannot be copied; load it whole")
        self.layers, self.damping = layers, damping
        self.model: nn.Module = copy.deepcopy(problem.model).to(dtype).requires_grad_(False)
        self.problem = Problem(self.model, problem.task, problem.corpus)
        self._task, self._device, self._dtype = problem.task, model_device(self.model), dtype
        self._modules = dict(self.model.named_modules())
        self._base = {name: self.model.get_parameter(name) for name in parameter_names(layers)}
        self._rows = Rows(problem.corpus, self._device, dtype)
        self.n = len(self._rows)
        token = pass_bytes(self.model, layers, dtype.itemsize) * self._rows.width
        self._size = max(1, min(self.n, _WORKING // (token * at_once)))
        self._chunks: list[_Chunk] = []
        self._is_stacked = False
        self._stack = ExitStack()

    def __enter__(self) -> Proximal:
        self._stack.enter_context(torch.inference_mode(False))
        self._stack.enter_context(torch.enable_grad())
        self._stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # fused kernels know no stacked weights
        order = torch.arange(self.n, device=self._device)
        self._chunks = [self._chunk(index) for index in order.split(self._size)]
        for chunk in self._chunks:
            is_bad = ~torch.isfinite(chunk.loss) | ~torch.isfinite(chunk.slope).flatten(1).all(1)
            if bool(is_bad.any()):
                bad = self._rows.ids[chunk.index[is_bad].cpu().numpy()].tolist()
                raise NumericsError(f"the loss of train {bad[0]!r}, or its gradient, is NaN or infinite")
        self._is_stacked = self._works_stacked()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def like(self, m: int) -> Tensor:
        """Zeros of m points, `(m, p)`."""
        return torch.zeros(m, width_of(self.layers), dtype=self._dtype, device=self._device)

    def sketch(self, rank: int, seed: int) -> Sketch:
        """A preconditioner, from `rank` products with the Gauss-Newton matrix at theta_s."""
        run = Pass(self.problem, self.layers, progress=False)
        generator = torch.Generator().manual_seed(seed)
        p = width_of(self.layers)
        rank = min(rank, p)
        start = torch.randn(p, rank, generator=generator, dtype=torch.float64).to(self._device)
        probe_kp = torch.linalg.qr(start)[0].T.to(self._dtype).contiguous()
        with GaussNewton(run, np.arange(self.n)) as matrix:
            return Sketch(probe_kp, matrix.product(probe_kp), self.damping)

    def evaluate(self, u_mp: Tensor, eps: float, points: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each point's objective, less what it is at `u = 0`, over eps^2; and its gradient in u.

        Args:
            u_mp: where.
            eps: weight of the loss.
            points: position of each point's own example.
            rows: the divergence is the mean over these examples; all when None.

        Returns:
            `(m,)`, and `(m, p)`, which is `grad L(z_m)` at `u = 0`.
        """
        weights = self._weights(u_mp, eps)
        value_m, gradient_mp = self.damping / 2 * u_mp.square().sum(1), self.damping * u_mp
        parts = [(chunk, share, points[:, None] == chunk.index) for chunk, share in self._shared(rows)]
        if rows is not None:  # a point's own example is among all, but need not be among some
            parts = [(chunk, share, torch.zeros_like(is_own)) for chunk, share, is_own in parts]
            parts.append((self._chunk(points), 0.0, torch.eye(len(points), dtype=torch.bool, device=points.device)))
        for chunk, share, is_own in parts:
            slopes, values = self._each(self._slope(chunk, share / eps), weights, is_own.to(u_mp))
            value_m += values / eps
            gradient_mp += self._joined(slopes)
        return value_m, gradient_mp

    def own(self, points: Tensor) -> Tensor:
        """The gradient of each point's own loss at `u = 0`, without the divergence, `(m, p)`."""
        found, weights = self.like(len(points)), self._weights(self.like(len(points)), 0.0)
        for part in torch.arange(len(points), device=self._device).split(self._size):
            is_own = torch.zeros(len(points), len(part), dtype=self._dtype, device=self._device)
            is_own[part, torch.arange(len(part), device=self._device)] = 1
            found += self._joined(self._each(self._slope(self._chunk(points[part]), 0.0), weights, is_own)[0])
        return found

    def rounding(self, eps: float) -> float:
        """What of the difference of two values may be rounding."""
        size = sum(float(chunk.at.abs().sum() + chunk.loss.abs().sum()) for chunk in self._chunks)
        return _ROUNDING * torch.finfo(self._dtype).eps * (size / self.n / eps**2 + abs(size / self.n / eps))

    def measured(self, queries: xr.Dataset, u_mp: Tensor, eps: float) -> Tensor:
        """What the queries measure with each point's parameters, `(m, query)`."""
        weights = self._weights(u_mp, eps)
        asked = Rows(queries, self._device, self._dtype)
        found = []
        with torch.no_grad():
            for index in torch.arange(len(asked), device=self._device).split(self._size):
                found.append(self._each(self._measure(asked.take(index)), weights))
        return torch.cat(found, dim=1)

    def _measure(self, given: Batch) -> Callable[..., Tensor]:
        def measure(values: Mapping[str, Tensor]) -> Tensor:
            return self._task.measure(self._task.forward(bound(self.model, values), given), given)

        return measure

    def _slope(self, chunk: _Chunk, share: float) -> Callable[..., tuple[dict[str, Tensor], Tensor]]:
        def objective(values: Mapping[str, Tensor], own_b: Tensor) -> Tensor:
            outputs = self._task.forward(bound(self.model, values), chunk.batch)
            loss_b = self._task.loss(outputs, chunk.batch)
            bregman_b = loss_b - _tangent(chunk.slope, outputs) - chunk.at
            return (bregman_b * share + (loss_b - chunk.loss) * own_b).sum()

        return grad_and_value(objective)

    def _shared(self, rows: Tensor | None) -> Iterator[tuple[_Chunk, float]]:
        """Chunks of examples, each with the share of an example in the mean of the divergence."""
        if rows is None:
            yield from ((chunk, 1 / self.n) for chunk in self._chunks)
        else:
            yield from ((self._chunk(index), 1 / len(rows)) for index in rows.split(self._size))

    def _chunk(self, index: Tensor) -> _Chunk:
        batch = self._rows.take(index)
        with torch.no_grad():
            outputs = self._task.forward(self.model, batch)
            loss_b = self._task.loss(outputs, batch)
        slope = grad(lambda outputs: self._task.loss(outputs, batch).sum())(outputs)
        return _Chunk(index, batch, slope, loss_b, loss_b - _tangent(slope, outputs))

    def _weights(self, u_mp: Tensor, eps: float) -> dict[str, Tensor]:
        moved = directions(self.layers, self._modules, by_layer(self.layers, u_mp * eps))
        return {name: value + moved[name] for name, value in self._base.items()}

    def _each(self, function: Callable[..., Any], *stacked: Any) -> Any:
        """A function of one point's tensors, for all points."""
        if self._is_stacked:
            return vmap(function)(*stacked)
        m = len(next(iter(stacked[0].values())))
        found = [function(*(tree_map(lambda value, i=i: value[i], part) for part in stacked)) for i in range(m)]
        return tree_map(lambda *values: torch.stack(values), *found)

    def _works_stacked(self) -> bool:
        """Whether two points together give what each gives alone, on the first example."""
        chunk = self._chunk(torch.zeros(1, dtype=torch.long, device=self._device))
        given = self._weights(self.like(2), 1.0), self.like(2)[:, :1] + 1
        found = []
        for self._is_stacked in (False, True):
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", ".*performance drop.*")  # vmap, where it would loop itself
                    found.append(self._joined(self._each(self._slope(chunk, 1.0), *given)[0]))
            except (RuntimeError, ValueError, TypeError, NotImplementedError, UserWarning):
                if not self._is_stacked:
                    raise
                return False
        return bool((found[0] - found[1]).abs().max() <= _AGREEING * found[0].abs().max())

    def _joined(self, values: dict[str, Tensor]) -> Tensor:
        found = matrices(self.layers, self._modules, values, 1)
        joined: Tensor = torch.cat([found[layer.name].flatten(1) for layer in self.layers], dim=1)
        return joined


def _tangent(slope: Tensor, outputs: Tensor) -> Tensor:
    """`slope^T outputs` of each example. Outputs at padding may be NaN; their slope is 0."""
    return torch.where(slope != 0, slope * outputs, 0).flatten(1).sum(1)


class Sketch:
    """`(G + lambda I)^-1`, approximately: exact on the largest eigenvectors of a Nystrom approximation of G.

    Args:
        probe_kp: orthonormal rows.
        image_kp: G times each.
        damping: lambda.
    """

    def __init__(self, probe_kp: Tensor, image_kp: Tensor, damping: float) -> None:
        core_kk = (probe_kp @ image_kp.T).double()
        value_k, basis_kk = torch.linalg.eigh((core_kk + core_kk.T) / 2)
        is_kept = value_k > _VANISHING * value_k[-1].clamp(min=0)
        root_kk = (basis_kk[:, is_kept] / value_k[is_kept].sqrt()).T
        half_kp = root_kk.to(image_kp) @ image_kp
        value_k, basis_kk = torch.linalg.eigh((half_kp @ half_kp.T).double())
        is_real = value_k > _VANISHING * (value_k[-1:] if len(value_k) else 1)
        value_k, basis_kk = value_k[is_real], basis_kk[:, is_real]
        self._basis_kp = (basis_kk / value_k.sqrt()).T.to(half_kp) @ half_kp
        # A sketch that found fewer directions than it asked for found all there are.
        is_whole = len(value_k) < len(probe_kp) or len(probe_kp) == probe_kp.shape[1]
        rest = damping if is_whole else float(value_k[0]) + damping
        self._rest = rest
        self._extra_k = (1 / (value_k + damping) - 1 / rest).to(half_kp)

    def solve(self, value_mp: Tensor) -> Tensor:
        """`(G + lambda I)^-1 v` of each, approximately."""
        found: Tensor = value_mp / self._rest + ((value_mp @ self._basis_kp.T) * self._extra_k) @ self._basis_kp
        return found
