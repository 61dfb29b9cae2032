"""ASTRA: EK-FAC as preconditioner of a stochastic Neumann series (arXiv 2507.14740)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inflab.errors import SettingError, check_count, is_finite_number
from inflab.methods.ekfac import EKFAC
from inflab.methods.joint import JointMethod, check_alpha
from inflab.run.solvers import Iteration

__all__ = ["ASTRA"]


@dataclass(frozen=True, kw_only=True)
class ASTRA(JointMethod, EKFAC):
    """`x <- x - alpha (P + lambda I)^-1 [(G~ + lambda I) x - grad f]`, with momentum, from EK-FAC's own answer.

    P is EK-FAC's curvature and G~ the joint Gauss-Newton matrix of a new minibatch in every step, the same for all
    queries. Fitting is an EK-FAC fit. From `start="zero"`, one step with `alpha=1` is EK-FAC.

    Args:
        steps: how many; the paper's are 200 to 300.
        batch_size: examples of a minibatch.
        alpha: length of a step; None takes `(1 - momentum) / largest eigenvalue` of `(P + lambda I)^-1 (G~ + lambda I)`
            among some minibatches, by the power method and with a margin of a quarter.
        momentum: what remains of a step in the next.
        start: "ekfac": `(P + lambda I)^-1 grad f`; or "zero".

    Example:
        >>> found = inflab.ASTRA(steps=5, damping=0.01, damping_kind="absolute").fit(followed).score(asked)
        >>> found["influence"].dims
        ('query', 'train')
    """

    steps: int = 300
    batch_size: int = 128
    alpha: float | None = None
    momentum: float = 0.9
    start: Literal["ekfac", "zero"] = "ekfac"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("steps", self.steps)
        check_count("batch_size", self.batch_size)
        check_alpha(self.alpha)
        if not (is_finite_number(self.momentum) and 0 <= self.momentum < 1):
            raise SettingError(f"momentum={self.momentum!r} must be a number from 0 to below 1; the paper's is 0.9")
        if self.start not in ("ekfac", "zero"):
            raise SettingError(f"start={self.start!r} is not one of 'ekfac', 'zero'")

    def solver(self) -> Iteration:
        """What solves for the queries."""
        return Iteration(
            "ASTRA", self.steps, self.batch_size, alpha=self.alpha, momentum=self.momentum,
            start=float(self.start == "ekfac"), is_preconditioned=True,
        )  # fmt: skip
