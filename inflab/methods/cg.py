"""CG: conjugate gradients on the joint damped Gauss-Newton matrix, with EK-FAC as preconditioner."""

from __future__ import annotations

from dataclasses import dataclass

from inflab.errors import SettingError, check_count, is_finite_number
from inflab.methods.ekfac import EKFAC
from inflab.methods.joint import JointMethod
from inflab.run.solvers import ConjugateGradient

__all__ = ["CG"]


@dataclass(frozen=True, kw_only=True)
class CG(JointMethod, EKFAC):
    """`x = (G + lambda I)^-1 grad f` by preconditioned conjugate gradients (Martens 2010), all layers jointly.

    Where EK-FAC takes layers, and the sides of each, as independent, this solves with the exact matrix of the fit's
    examples: each step passes over all of them once for all queries of a block (`max_examples` bounds them). Fitting is
    an EK-FAC fit, whose damped inverse is the preconditioner.

    Args:
        steps: at most so many. What they leave is in the scores' `solver_residual`.
        tolerance: a query is done when `|(G + lambda I) x - v| <= tolerance |v|`.

    Example:
        >>> found = inflab.CG(damping=0.01, damping_kind="absolute").fit(followed).score(asked)
        >>> bool((found["solver_residual"] <= 1e-4).all())
        True
    """

    steps: int = 100
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("steps", self.steps)
        if not (is_finite_number(self.tolerance) and 0 <= self.tolerance < 1):
            raise SettingError(f"tolerance={self.tolerance!r} must be a number from 0 to below 1, such as 1e-4")

    def solver(self) -> ConjugateGradient:
        """What solves for the queries."""
        return ConjugateGradient(self.steps, self.tolerance)
