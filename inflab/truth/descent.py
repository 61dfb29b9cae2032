"""From the trained parameters to the minimum of a proximal objective, many points at once.

Two ways: L-BFGS (Nocedal & Wright 2006, section 7.2) on full batches, preconditioned by `inflab.truth.proximal.Sketch`;
and Adam (Kingma & Ba 2015). A point is left alone from where its gradient is small enough.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from torch import Tensor

from inflab.errors import NumericsError
from inflab.truth.proximal import Proximal, Sketch

__all__ = ["VECTORS", "Descent"]

_PAIRS = 8  # that L-BFGS remembers
#: Vectors as long as the parameters that each point holds.
VECTORS = 2 * _PAIRS + 12
_Pairs = deque[tuple[Tensor, Tensor, float]]  # of step, change of the gradient, and the inverse of their product
_FLAT = 0.9  # of the slope along a step: what may be left at its end, turned round
_FALLEN, _HALF = 1e-4, 0.5  # of what the slope promised; by how much a step that was too long is shortened at least
_BETAS, _TINY = (0.9, 0.999), 1e-12


class Descent:
    """From theta_s to the minima of some points.

    Args:
        proximal: the objective.
        sketch: its preconditioner.
        eps: weight of the loss.
        points: positions of the examples.
        tolerance: of the relative gradient norm.
        steps: evaluations of the gradient of a point, at most.
    """

    def __init__(
        self, proximal: Proximal, sketch: Sketch, eps: float, points: Tensor, tolerance: float, steps: int
    ) -> None:
        self._proximal, self._sketch, self._eps, self._points = proximal, sketch, eps, points
        self._tolerance, self._most = tolerance, steps
        self._found = proximal.like(len(points))
        _, self._start = proximal.evaluate(self._found, eps, points)
        self._size_m = self._start.norm(dim=1)
        if not bool(torch.isfinite(self._size_m).all()):
            bad = proximal.problem.corpus["train"].to_numpy()[points[~torch.isfinite(self._size_m)].cpu().numpy()]
            raise NumericsError(f"the gradient of the loss of train {bad.tolist()[0]!r} is NaN or infinite")
        # An example without a gradient has no response; what stands in its start is rounding of the divergence.
        self._size_m = torch.where(proximal.own(points).norm(dim=1) == 0, 0.0, self._size_m)
        self.norm_m = (self._size_m > 0).double()
        self.steps_m = torch.ones_like(points)

    def lbfgs(self) -> Tensor:
        """L-BFGS with gradients alone, each point with steps of its own (Nocedal & Wright, algorithm 7.4).

        A step is good where the objective has fallen, but for rounding (with a small eps its values cancel), and the
        slope along it has not turned to more than it was; otherwise it was too long.

        Returns:
            `(m, p)`: where each point arrived, as `(theta - theta_s) / eps`.
        """
        left = (self._size_m > 0).nonzero()[:, 0]
        u, r = self._found[left], self._start[left]
        value, rounding = r.new_zeros(len(left)), self._proximal.rounding(self._eps)
        pairs: list[_Pairs] = [deque(maxlen=_PAIRS) for _ in left]
        d, length = -self._sketch.solve(r), r.new_ones(len(left))
        for _ in range(self._most - 1):
            if not len(left):
                break
            trial = u + length[:, None] * d
            after, now = self._proximal.evaluate(trial, self._eps, self._points[left])
            self.steps_m[left] += 1
            slope, end = (r * d).sum(1), (now * d).sum(1)
            is_good = torch.isfinite(now).all(1) & (end <= -_FLAT * slope)
            is_good &= after <= value + _FALLEN * length * slope + rounding
            shorter = torch.where(end > 0, slope / (slope - end), _HALF).nan_to_num(0.0).clamp(0.1, _HALF)
            length = torch.where(is_good, 1.0, length * shorter)
            for i in is_good.nonzero()[:, 0].tolist():
                step, bend = trial[i] - u[i], now[i] - r[i]
                curved = float(step @ bend)
                if curved > _TINY * float(step.norm() * bend.norm()):
                    pairs[i].append((step, bend, 1 / curved))
            u, r = torch.where(is_good[:, None], trial, u), torch.where(is_good[:, None], now, r)
            value = torch.where(is_good, after, value)
            norm = r.norm(dim=1) / self._size_m[left]
            self.norm_m[left], self._found[left] = norm.double(), u
            stay = (norm > self._tolerance).nonzero()[:, 0]
            if len(stay) < len(left):
                left, u, r, d, value, length, is_good = (t[stay] for t in (left, u, r, d, value, length, is_good))
                pairs = [pairs[i] for i in stay.tolist()]
            if len(left):
                d = torch.where(is_good[:, None], self._direction(r, pairs), d)
        return self._found

    def _direction(self, r: Tensor, pairs: list[_Pairs]) -> Tensor:
        q = r.clone()
        along: list[list[float]] = []
        for row, mine in zip(q, pairs, strict=True):
            along.append([])
            for step, bend, inverse in reversed(mine):
                along[-1].append(inverse * float(step @ row))
                row.sub_(bend, alpha=along[-1][-1])
        q = self._sketch.solve(q)
        for row, mine, had in zip(q, pairs, along, strict=True):
            for (step, bend, inverse), part in zip(mine, reversed(had), strict=True):
                row.add_(step, alpha=part - inverse * float(bend @ row))
        return -q

    def adam(self, learning_rate: float, batch_size: int | None, seed: int) -> Tensor:
        """Adam (Kingma & Ba 2015); looked at on all examples twenty times, and at the end."""
        n, draw = self._proximal.n, np.random.default_rng(seed)
        left = (self._size_m > 0).nonzero()[:, 0]
        scale = learning_rate * self._sketch.solve(self._start).square().mean(1, keepdim=True).sqrt()
        u, r = self._found[left], self._start[left]
        first, second, scale = torch.zeros_like(u), torch.zeros_like(u), scale[left]
        every = max(1, self._most // 20)
        is_whole = batch_size is None or batch_size >= n
        for number in range(1, self._most):
            if not len(left):
                break
            first.lerp_(r, 1 - _BETAS[0])
            second.lerp_(r.square(), 1 - _BETAS[1])
            root = (second / (1 - _BETAS[1] ** number)).sqrt() + _TINY * self._size_m[left, None]
            rate = scale * 0.5 * (1 + math.cos(math.pi * number / self._most))
            u = u - rate * first / (1 - _BETAS[0] ** number) / root
            is_look = number % every == 0 or number == self._most - 1
            rows = None
            if not is_whole and not is_look:
                drawn = np.sort(draw.choice(n, batch_size, replace=False))
                rows = torch.from_numpy(drawn).to(self._points)
            _, r = self._proximal.evaluate(u, self._eps, self._points[left], rows)
            self.steps_m[left] += 1
            if rows is None:
                norm = r.norm(dim=1) / self._size_m[left]
                self.norm_m[left], self._found[left] = norm.double(), u
                stay = ~(norm <= self._tolerance)
                left, u, r, first, second, scale = (t[stay] for t in (left, u, r, first, second, scale))
        return self._found
