"""What methods share that solve with the joint Gauss-Newton matrix of all covered layers when they are asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from inflab.errors import SettingError, is_finite_number
from inflab.influence import Influence
from inflab.methods.base import LayerMethod
from inflab.run.solve import Solved
from inflab.run.solvers import Solver

if TYPE_CHECKING:
    from inflab.kronecker import Curvature
    from inflab.run.local import Pass

__all__ = ["JointInfluence", "JointMethod", "check_alpha"]


class JointInfluence(Influence):
    """A fitted method that solves `(G + lambda I) x = grad f` for each query when it is asked; see `inflab.Influence`.

    Scores carry `solver_residual (query)`, self-influence `solver_residual (train)`: `|(G + lambda I) x - v| / |v|`, as
    measured after the last step. Every question solves anew. An index, and `attribute(pairs=True)`, need a diagonal
    curvature and are refused.
    """

    offers = Influence.offers - {"pairs", "index"}

    def _prepare(
        self, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> tuple[Pass, Mapping[str, Curvature]]:
        run, curvatures = super()._prepare(memory, batch_size, progress)
        method: JointMethod = self.method
        positions = _positions(run.problem.corpus.sizes["train"], method.max_examples, run.seed)
        return run, Solved(dict(curvatures), method.solver(), positions)

    def _check_diagonal(self, what: str) -> None:
        raise SettingError(
            f"{what} needs a curvature that is diagonal in a basis of each layer; {self.attrs['method']} solves for "
            "all layers jointly: use EKFAC, KFAC or Diagonal"
        )


@dataclass(frozen=True, kw_only=True)
class JointMethod(LayerMethod):
    """Settings of all such methods; those of `EKFAC` and `Diagonal` mean what they mean there.

    The damping is the same system's as EK-FAC's: with "absolute", `G + lambda I`; with "relative", a lambda for each
    layer, times its mean eigenvalue. G is the mean over the examples of the fit.
    """

    result: ClassVar[type[Influence]] = JointInfluence

    @abstractmethod
    def solver(self) -> Solver:
        """What solves for the queries."""


def check_alpha(alpha: float | None) -> None:
    """Refuse a length of a step that is not positive.

    Raises:
        SettingError: naming it.
    """
    if alpha is not None and not (is_finite_number(alpha) and alpha > 0):
        raise SettingError(f"alpha={alpha!r} must be a positive number, or None for one from the largest eigenvalue")


def _positions(n: int, most: int | None, seed: int) -> np.ndarray:
    """The examples that `LayerMethod.fit` takes."""
    if most is None or most >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
