"""LiSSA: the inverse as a truncated stochastic Neumann series (Agarwal et al. 2017; Koh & Liang 2017; GB23 eq. 10)."""

from __future__ import annotations

from dataclasses import dataclass

from inflab.errors import check_count
from inflab.methods.diagonal import Diagonal
from inflab.methods.joint import JointMethod, check_alpha
from inflab.run.solvers import Iteration

__all__ = ["LiSSA"]


@dataclass(frozen=True, kw_only=True)
class LiSSA(JointMethod, Diagonal):
    """`r_j = grad f + (I - alpha (G~ + lambda I)) r_{j-1}` from `r_0 = grad f`; after `steps` of them x is `alpha r`.

    G~ is the joint Gauss-Newton matrix of a new minibatch in every step, the same for all queries. Fitting is one pass,
    for the mean eigenvalue of each layer that relative damping needs.

    Koh & Liang take 5,000 steps, the mean of 10 repeats, and one example a step, so that steps x repeats is about the
    number of training examples (section 3). The mean of a minibatch allows a longer step, so that one repeat is the
    default here. All queries of a block share each step; expect minutes nevertheless.

    Args:
        steps: how many.
        batch_size: examples of a minibatch.
        repeats: the result is the mean of so many runs with other minibatches.
        alpha: length of a step (one over the usual `scale`); None takes the inverse of the largest eigenvalue of
            `G~ + lambda I` among some minibatches, by the power method and with a margin of a quarter.

    Example:
        >>> found = inflab.LiSSA(steps=20).fit(followed).score(asked)
        >>> found["solver_residual"].dims
        ('query',)
    """

    steps: int = 5000
    batch_size: int = 32
    repeats: int = 1
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("steps", self.steps)
        check_count("batch_size", self.batch_size)
        check_count("repeats", self.repeats)
        check_alpha(self.alpha)

    def solver(self) -> Iteration:
        """What solves for the queries."""
        return Iteration("LiSSA", self.steps, self.batch_size, repeats=self.repeats, alpha=self.alpha)
