"""Identity: no curvature; influence is the dot product of gradients."""

from __future__ import annotations

from dataclasses import dataclass

from inflab.factors import LayerFactors
from inflab.methods.base import LayerMethod
from inflab.run.fitting import Fitting

__all__ = ["Identity"]


@dataclass(frozen=True, kw_only=True)
class Identity(LayerMethod):
    """Gradient dot product, the baseline of GB23 section 5.1. Fitting runs no pass; damping has no effect.

    Example:
        >>> dot = inflab.Identity(layers="*.mlp.*").fit(problem)
        >>> dot.score(queries)["influence"].dims
        ('query', 'train')
    """

    def _factors(self, fitting: Fitting) -> dict[str, LayerFactors]:
        return {layer.name: LayerFactors() for layer in fitting.run.layers}
