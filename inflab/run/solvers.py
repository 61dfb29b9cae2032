"""Iterative solutions of `(G + lambda I) x = v` with the joint Gauss-Newton matrix, for many v at once.

Vectors are rows of `(q, p)` (`inflab.run.gauss_newton`). No vector changes what happens to another, so that results do
not depend on which are solved together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from inflab.errors import NumericsError
from inflab.kronecker import Curvature
from inflab.progress import progress_bar, stepped
from inflab.run.gauss_newton import GaussNewton, by_layer

__all__ = ["ConjugateGradient", "Iteration", "Solver", "System"]

_PROBES = 4  # minibatches whose largest eigenvalue is looked at
_POWER_STEPS = 20
_MARGIN = 1.25
_LOOK = 16  # steps between looks at whether an iteration diverges
_DIVERGED = 1e3


@dataclass(frozen=True)
class System:
    """`A = G + lambda I`, and an approximate inverse of it.

    Attributes:
        matrix: G.
        curvatures: of each layer: its damping is the layer's lambda, its damped inverse the preconditioner.
        seed: of minibatches.
        progress: whether a bar is shown.
    """

    matrix: GaussNewton
    curvatures: Mapping[str, Curvature]
    seed: int = 0
    progress: bool = True

    @property
    def examples(self) -> int:
        """How many examples G is the mean of."""
        return len(self.matrix.positions)

    def times(self, value_qp: Tensor, rows: np.ndarray | None = None) -> Tensor:
        """`A V`, with G over some examples alone when `rows` are given."""
        found = self.matrix.product(value_qp, rows)
        into, given = (by_layer(self.matrix.layers, value) for value in (found, value_qp))
        for name, part in into.items():
            part.add_(given[name], alpha=self.curvatures[name].damping)
        return found

    def precondition(self, value_qp: Tensor) -> Tensor:
        """`(P + lambda I)^-1 V`, layer by layer."""
        parts = by_layer(self.matrix.layers, value_qp)
        found = [self.curvatures[name].precondition(part).flatten(1) for name, part in parts.items()]
        return torch.cat(found, dim=1)

    def residual(self, solution_qp: Tensor, value_qp: Tensor, examples: int) -> Tensor:
        """`|A x - v| / |v|` of each solution, `(q,)`; 0 where v is.

        Args:
            solution_qp: x.
            value_qp: v.
            examples: how many, drawn by the seed, are enough.

        Returns:
            The residuals.

        Raises:
            NumericsError: when a solution is NaN or infinite.
        """
        rows = next(self.minibatches(examples, "residual"))
        lost_q = (self.times(solution_qp, rows) - value_qp).norm(dim=1)
        whole_q = value_qp.norm(dim=1)
        found = torch.where(whole_q > 0, lost_q / whole_q.clamp(min=torch.finfo(whole_q.dtype).tiny), lost_q)
        if not bool(torch.isfinite(found).all()):
            raise NumericsError("the solution of (G + lambda I) x = v holds NaN or infinity; use a larger damping=")
        return found

    def minibatches(self, size: int, what: str) -> Iterator[np.ndarray | None]:
        """Rows of one minibatch after another, each without repetition; None when that is all of them.

        Args:
            size: how many.
            what: names the stream of random numbers.

        Yields:
            Rows.
        """
        draw = np.random.default_rng([self.seed, *what.encode()])
        while True:
            yield None if size >= self.examples else np.sort(draw.choice(self.examples, size, replace=False))

    def largest(self, size: int, *, is_preconditioned: bool) -> float:
        """The largest eigenvalue of `A`, or of `(P + lambda I)^-1 A`, among some minibatches, by the power method.

        Args:
            size: of a minibatch.
            is_preconditioned: which of them.

        Returns:
            The largest of all: a step that is stable for the full matrix need not be so for each minibatch.
        """
        like = self.matrix.like()
        generator = torch.Generator().manual_seed(self.seed)
        start_p = torch.randn(like.shape[1], generator=generator, dtype=torch.float64).to(like)
        rows, found = self.minibatches(size, "largest"), 0.0
        for _ in range(1 if size >= self.examples else _PROBES):
            # In the inner product of P + lambda I the iteration is symmetric: its Rayleigh quotient is x^T y / x^T m.
            minibatch, m_qp = next(rows), start_p[None]
            x_qp = self.precondition(m_qp) if is_preconditioned else m_qp
            value = 0.0
            for _ in range(_POWER_STEPS):
                y_qp = self.times(x_qp, minibatch)
                before, value = value, float((x_qp * y_qp).sum() / (x_qp * m_qp).sum())
                if abs(value - before) <= 1e-2 * abs(value):
                    break
                size_of = y_qp.norm()
                m_qp = y_qp / size_of
                x_qp = self.precondition(m_qp) if is_preconditioned else m_qp
            found = max(found, value)
        return found


class Solver(Protocol):
    """What solves a `System`."""

    @property
    def vectors(self) -> int:
        """How many vectors of full length are held for each v."""

    def solve(self, system: System, value_qp: Tensor) -> Tensor:
        """X of each v."""

    def checked(self, examples: int) -> int:
        """Over how many of the examples the residual is measured."""


@dataclass(frozen=True)
class ConjugateGradient:
    """Preconditioned conjugate gradients (Hestenes & Stiefel 1952), each v with step lengths of its own.

    Attributes:
        steps: at most so many.
        tolerance: a v is done when its relative residual is at most this.
    """

    steps: int
    tolerance: float
    vectors: ClassVar[int] = 8

    def checked(self, examples: int) -> int:
        """All of them."""
        return examples

    def solve(self, system: System, value_qp: Tensor) -> Tensor:
        """Solve; those v that are done drop out of the products.

        Returns:
            `(q, p)`, x of each v.

        Raises:
            NumericsError: when G + lambda I is not positive.
        """
        found = torch.zeros_like(value_qp)
        size_q = value_qp.norm(dim=1)
        left = (size_q > 0).nonzero()[:, 0]
        x, r, size_q = found[left], value_qp[left], size_q[left]
        p = system.precondition(r)
        rho_q = (r * p).sum(1)
        for _ in stepped(self.steps, "CG", shown=system.progress):
            if not len(left):
                break
            a = system.times(p)
            curved_q = (p * a).sum(1)
            rounding_q = torch.finfo(p.dtype).eps * p.norm(dim=1) * a.norm(dim=1)
            if bool((curved_q < -rounding_q).any()):
                raise NumericsError(
                    "G + lambda I is negative along some direction: the loss is not convex in the model's outputs; use "
                    "a larger damping="
                )
            step_q = torch.where(curved_q > rounding_q, rho_q / curved_q, 0)
            x.addcmul_(step_q[:, None], p)
            r.addcmul_(step_q[:, None], a, value=-1)
            is_done = (r.norm(dim=1) <= self.tolerance * size_q) | (step_q == 0)
            if bool(is_done.any()):
                found[left[is_done]] = x[is_done]
                left, x, r, p, rho_q, size_q = (t[~is_done] for t in (left, x, r, p, rho_q, size_q))
            z = system.precondition(r)
            before_q, rho_q = rho_q, (r * z).sum(1)
            p = z.addcmul_((rho_q / before_q)[:, None], p)
        found[left] = x
        return found


@dataclass(frozen=True)
class Iteration:
    """`x <- x - alpha M^-1 [(G~ + lambda I) x - v]` with a new minibatch in every step (Richardson iteration).

    From `x_0 = alpha v` without preconditioner and momentum, `x_j / alpha` is LiSSA's `r_j` (GB23 eq. 10).

    Attributes:
        name: for the progress bar and errors.
        steps: how many.
        batch_size: examples of G~, the mean over a minibatch.
        repeats: the result is the mean of so many runs with other minibatches.
        alpha: length of a step; None: `(1 - momentum) / largest eigenvalue of M^-1 (G~ + lambda I)` with a margin.
        momentum: what remains of a step in the next.
        start: `x_0 = start M^-1 v`; None: alpha.
        is_preconditioned: whether M is `P + lambda I`, else it is I.
    """

    name: str
    steps: int
    batch_size: int
    repeats: int = 1
    alpha: float | None = None
    momentum: float = 0.0
    start: float | None = None
    is_preconditioned: bool = False

    @property
    def vectors(self) -> int:
        """Held for each v."""
        return 7 + (self.momentum > 0) + (self.repeats > 1)

    def checked(self, examples: int) -> int:
        """At most a quarter of what the steps look at."""
        return min(examples, max(self.batch_size, self.steps * self.repeats * self.batch_size // 4))

    def solve(self, system: System, value_qp: Tensor) -> Tensor:
        """Solve.

        Returns:
            `(q, p)`, x of each v.

        Raises:
            NumericsError: when it diverges.
        """
        alpha = self.alpha
        if alpha is None:
            largest = system.largest(self.batch_size, is_preconditioned=self.is_preconditioned)
            alpha = (1 - self.momentum) / (_MARGIN * largest)
        first_qp = system.precondition(value_qp) if self.is_preconditioned else value_qp
        # Without divergence alone x cannot grow faster than the sum of its steps.
        limit_q = _DIVERGED * (1 + alpha * self.steps / (1 - self.momentum)) * first_qp.norm(dim=1)
        total: Tensor | None = None
        n = self.steps * self.repeats
        with progress_bar(n, self.name, "step", shown=system.progress) as bar:
            for repeat in range(self.repeats):
                x = first_qp * (alpha if self.start is None else self.start)
                speed: Tensor | None = None
                rows = system.minibatches(self.batch_size, f"steps {repeat}")
                for step in range(self.steps):
                    lost = system.times(x, next(rows)).sub_(value_qp)
                    if self.is_preconditioned:
                        lost = system.precondition(lost)
                    if self.momentum:
                        speed = lost if speed is None else speed.mul_(self.momentum).add_(lost)
                        lost = speed
                    x.sub_(lost, alpha=alpha)
                    bar.update()
                    if step % _LOOK == 0 or step == self.steps - 1:
                        self._check(x, limit_q, alpha, step)
                total = x if total is None else total.add_(x)
        assert total is not None
        return total.div_(self.repeats)

    def _check(self, x_qp: Tensor, limit_q: Tensor, alpha: float, step: int) -> None:
        if not bool((x_qp.norm(dim=1) <= limit_q).all()):
            raise NumericsError(
                f"{self.name} diverges with alpha={alpha:.3g}, batch_size={self.batch_size}: after {step + 1} steps x "
                "is larger than converging steps could make it; use a smaller alpha, or a larger batch_size or damping"
            )
