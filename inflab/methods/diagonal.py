"""Diagonal Fisher: second moments of each parameter's gradient, in the standard basis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inflab.capture import Quantity
from inflab.factors import LayerFactors
from inflab.methods.base import LayerMethod
from inflab.run.fit import mean_square_gradients
from inflab.run.local import Pass

__all__ = ["Diagonal"]


@dataclass(frozen=True, kw_only=True)
class Diagonal(LayerMethod):
    """`diag(E[G^2])`: parameters taken as independent."""

    def _factors(self, run: Pass, quantity: Quantity, positions: np.ndarray) -> dict[str, LayerFactors]:
        found = mean_square_gradients(run, quantity, positions, None)
        return {name: LayerFactors(eigenvalues=value, examples=len(positions)) for name, value in found.items()}
