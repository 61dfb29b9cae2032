"""TracIn: dot products of gradients along training (Pruthi et al. 2020, arXiv 2002.08484, section 3, "TracInCP")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from inflab.combined import Combined, Part
from inflab.errors import SettingError
from inflab.influence import Influence
from inflab.methods.identity import Identity
from inflab.problem import Problem
from inflab.schema import SIGN, influence_attrs, variable_attrs

__all__ = ["TracIn", "TracInInfluence"]


class TracInInfluence(Combined):
    """A sum over checkpoints, each at the cost of `Identity`; see `inflab.Influence` for the questions."""

    def _parts(self) -> Iterator[Part]:
        method: TracIn = self.method
        there = Identity(layers=[str(name) for name in self.factors.children], dtype=method.dtype)
        for number, checkpoint in enumerate(self.problem.checkpoints):
            member = there.fit(self.problem.at(checkpoint), seed=int(self.attrs["seed"]), progress=False)
            weight = float(checkpoint.learning_rate) * (int(checkpoint.steps) if method.steps else 1)
            yield Part(f"checkpoint-{number}", weight, member)

    def _described(self, attrs: dict[str, Any]) -> dict[str, Any]:
        n = len(self.problem.checkpoints)
        of = f"sum over {n} checkpoints of the dot product of gradients times the learning rate"
        if self.method.steps:
            return influence_attrs(f"{of} and the steps of the segment")
        return variable_attrs("influence", "nat", f"{of}: what one visit alone at each checkpoint adds", sign=SIGN)


@dataclass(frozen=True, kw_only=True)
class TracIn(Identity):
    """Dot products of gradients times the rate, summed over the checkpoints of a problem.

    `sum_k eta_k grad f(theta_k) . grad log p(theta_k)` over checkpoints k. Fitting runs no pass; damping has no effect.
    Scores are nats of the query that one visit to the sequence, alone and at the rate of each checkpoint, adds: not the
    scale of the other methods.

    Args:
        steps: also multiply by the steps of the segment that each checkpoint ends. In a segment of K steps, batches of
            B out of N visit a sequence K B / N times with weight 1 / B, which is eta K / N in all: scores are then
            influences in nats per unit weight, those of `SOURCE` without curvature. The paper's is False.

    Example:
        >>> tracin = inflab.TracIn().fit(followed)  # a problem with two checkpoints
        >>> tracin.score(asked)["influence"].attrs["units"]
        'nat'
    """

    steps: bool = False
    result: ClassVar[type[Influence]] = TracInInfluence

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.steps, bool):
            raise SettingError(f"steps={self.steps!r} is not True or False")

    def needs(self, problem: Problem) -> dict[str, str]:
        """The checkpoints' fingerprint, and units.

        Returns:
            Attributes of the fit.

        Raises:
            SettingError: when the problem has no checkpoints.
        """
        units = {} if self.steps else {"units": "nat"}
        return {"checkpoints_fingerprint": checkpoints_of(problem, type(self).__name__), **units}


def checkpoints_of(problem: Problem, method: str) -> str:
    """Fingerprint of a problem's checkpoints.

    Returns:
        16 hex digits.

    Raises:
        SettingError: when there are none.
    """
    if not problem.checkpoints:
        raise SettingError(
            f"{method} follows training, and the problem has no checkpoints; give inflab.Problem(..., "
            "checkpoints=[inflab.Checkpoint(state, learning_rate, steps), ...])"
        )
    return problem.checkpoints_fingerprint()
