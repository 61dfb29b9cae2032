"""Diagonal Fisher: second moments of each parameter's gradient, in the standard basis."""

from __future__ import annotations

from dataclasses import dataclass

from inflab.factors import LayerFactors
from inflab.methods.base import LayerMethod
from inflab.run.fitting import Fitting

__all__ = ["Diagonal"]


@dataclass(frozen=True, kw_only=True)
class Diagonal(LayerMethod):
    """`diag(E[G^2])`: parameters taken as independent.

    Example:
        >>> diagonal = inflab.Diagonal(layers="*.mlp.*").fit(problem)
        >>> diagonal.score(queries)["influence"].dims
        ('query', 'train')
    """

    def _factors(self, fitting: Fitting) -> dict[str, LayerFactors]:
        squares, n = fitting.squares(None), fitting.examples
        return {
            layer.name: LayerFactors(eigenvalues=squares[f"{layer.name}/squares"] / n, examples=n)
            for layer in fitting.run.layers
        }
